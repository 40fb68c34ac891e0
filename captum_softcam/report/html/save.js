// Saving: figures become SVG or PNG, tables and points CSV. Files are made here, because the page uses no network.
const fileName = (...parts) =>
  parts
    .join("-")
    .replace(/[^\p{L}\p{N}.]+/gu, "-")
    .replace(/^[.-]+|-+$/g, "")
    .slice(0, 100);

function save(name, blob) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // by then the browser has read it
}

// Make a group of buttons; `ways` maps the kind of a file, as in its name, to a function that returns the file or its promise.
function saveButtons(what, name, ways) {
  const buttons = Object.entries(ways).map(([kind, blob]) => {
    const click = async () => save(`${typeof name === "function" ? name() : name}.${kind.toLowerCase()}`, await blob());
    return make("button", { type: "button", "aria-label": `Save ${what} as ${kind}`, click }, kind);
  });
  return make("div", { class: "save", role: "group", "aria-label": `Save ${what}` }, "Save ", ...buttons);
}

function csv(rows) {
  const cell = (value) => {
    const text = String(typeof value === "number" ? Number(value.toPrecision(12)) : (value ?? ""));
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const text = rows.map((row) => row.map(cell).join(",")).join("\n");
  return new Blob([text, "\n"], { type: "text/csv" });
}

const tableRows = (table) => [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim()));

const drawnStyles =
  "fill fill-opacity stroke stroke-width stroke-dasharray stroke-linejoin opacity visibility paint-order text-anchor font-family font-size font-weight".split(
    " ",
  );

// Copy a drawing with its styles and its title, in the colours of the light theme, so that it is complete without this page.
function standalone(svg, title) {
  const { width, height } = svg.viewBox.baseVal;
  const copy = svg.cloneNode(true);
  const [originals, copies] = [svg, copy].map((root) => [root, ...root.querySelectorAll("*")]);
  const before = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
  originals.forEach((element, place) => {
    const style = getComputedStyle(element);
    copies[place].removeAttribute("style");
    for (const name of drawnStyles) copies[place].setAttribute(name, style.getPropertyValue(name));
  });
  if (before) document.documentElement.dataset.theme = before;
  else delete document.documentElement.dataset.theme;
  const size = { viewBox: `0 -24 ${width} ${height + 24}`, width, height: height + 24, role: "img" };
  for (const [name, value] of Object.entries(size)) copy.setAttribute(name, value);
  copy.prepend(
    make("rect", { y: -24, width, height: height + 24, fill: "#fff" }),
    make("text", { x: 4, y: -8, fill: "#1d1f23", "font-size": 13, "font-weight": 600 }, title),
  );
  return { text: new XMLSerializer().serializeToString(copy), width, height: height + 24 };
}

const saveSvg = (svg, title) => new Blob([standalone(svg, title).text], { type: "image/svg+xml" });

const savePng = (canvas) => new Promise((resolve) => canvas.toBlob(resolve, "image/png"));

async function loadImage(address) {
  const image = make("img", { src: address });
  await image.decode();
  return image;
}

async function rasterize(svg, title) {
  const { text, width, height } = standalone(svg, title);
  const canvas = make("canvas", { width: 2 * width, height: 2 * height });
  const image = await loadImage(`data:image/svg+xml,${encodeURIComponent(text)}`);
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return savePng(canvas);
}

for (const table of document.querySelectorAll("table.plain:has(caption)")) {
  const title = table.caption.textContent;
  table.closest(".scroll").after(saveButtons(`the table ${title}`, fileName(title), { CSV: () => csv(tableRows(table)) }));
}
