"use strict";
// The page: data, helpers, theme and tooltip.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const svgNames = new Set(["svg", "g", "path", "line", "rect", "circle", "text"]);

// Create an element with attributes, event listeners (functions) and children; strings become text, never markup.
function make(tag, attributes = {}, ...children) {
  const element = svgNames.has(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

// Format a number with the given decimals, or with three digits by default; a dash for null.
function format(value, decimals) {
  if (value == null) return "–";
  const rounded = decimals == null ? Number(value.toPrecision(3)).toString() : value.toFixed(decimals);
  return rounded.replace("-", "\u2212");
}

const className = (index) => data.classes[index] ?? `class ${index}`;
const percent = (fraction) => `${format(100 * fraction, 1)} %`;

document.documentElement.classList.remove("no-script");

const theme = byId("theme");
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (prefersDark.matches ? "dark" : "light")) === "dark";
const showTheme = () => theme.setAttribute("aria-pressed", isDark());
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  showTheme();
});
prefersDark.addEventListener("change", showTheme);
showTheme();

// A tooltip next to an element, kept inside the window and next to the element when the page scrolls.
const tip = byId("tip");
let anchor = null;
function showTip(lines, element) {
  anchor = element;
  tip.replaceChildren(...lines.map((line) => make("div", {}, line)));
  tip.hidden = false;
  placeTip();
}
function placeTip() {
  if (tip.hidden) return;
  const box = anchor.getBoundingClientRect();
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, box.left + box.width / 2 - width / 2), innerWidth - width - 8);
  const below = box.bottom + 8;
  tip.style.left = `${left}px`;
  tip.style.top = `${below + height < innerHeight ? below : Math.max(8, box.top - height - 8)}px`;
}
const hideTip = () => (tip.hidden = true);
addEventListener("scroll", placeTip, { passive: true, capture: true });
addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
