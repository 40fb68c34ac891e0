// The table: headings sort, cells have tooltips, arrow keys move from cell to cell.
{
  const table = byId("table");
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[1].cells];

  // Compare numbers by value and names by alphabet; empty values come last in both directions.
  function compare(first, second, direction) {
    if (first === "" || second === "") return (first === "") - (second === "");
    const [a, b] = [Number(first), Number(second)];
    return direction * (Number.isNaN(a) || Number.isNaN(b) ? first.localeCompare(second) : a - b);
  }

  function sort(column) {
    const heading = headings[column];
    const first = heading.firstElementChild.dataset.first;
    const other = first === "ascending" ? "descending" : "ascending";
    const order = heading.getAttribute("aria-sort") === first ? other : first;
    for (const each of headings) each.setAttribute("aria-sort", each === heading ? order : "none");
    const value = (row) => row.cells[column].dataset.value;
    const direction = order === "ascending" ? 1 : -1;
    body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b), direction)));
    visit(body.rows[0].cells[0], false);
  }
  for (const [column, heading] of headings.entries())
    heading.firstElementChild.addEventListener("click", () => sort(column));

  // Make one cell the only one that the tab key reaches, so that the keyboard can pass the table.
  function visit(cell, focus = true) {
    body.querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
    cell.setAttribute("tabindex", "0");
    if (focus) cell.focus();
  }

  const steps = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
  body.addEventListener("keydown", (event) => {
    const cell = event.target.closest("th, td");
    const step = steps[event.key];
    if (!cell || !step) return;
    event.preventDefault();
    const rows = [...body.rows];
    const row = rows[rows.indexOf(cell.parentElement) + step[0]];
    const next = row?.cells[cell.cellIndex + step[1]];
    if (next) visit(next);
  });

  function tell(event) {
    const cell = event.target.closest("th, td");
    const lines = [...(cell?.querySelectorAll(".detail > span") ?? [])].map((line) => line.textContent);
    if (lines.length) showTip(lines, cell);
    else hideTip();
  }
  body.addEventListener("pointerover", tell);
  body.addEventListener("focusin", tell);
  body.addEventListener("click", (event) => event.target.closest("th, td") && visit(event.target.closest("th, td")));
  for (const name of ["pointerleave", "focusout"]) body.addEventListener(name, hideTip);
  for (const cell of body.querySelectorAll("th, td")) cell.setAttribute("tabindex", "-1");
  visit(body.rows[0].cells[0], false);
}

// Show where a table goes on beside what is seen: its edge fades, and a note says so.
for (const scroll of document.querySelectorAll(".scroll")) {
  scroll.after(make("p", { class: "note hint" }, "Scroll sideways for more →"));
  const look = () => scroll.classList.toggle("more", scroll.scrollLeft + scroll.clientWidth < scroll.scrollWidth - 4);
  scroll.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(scroll);
}
