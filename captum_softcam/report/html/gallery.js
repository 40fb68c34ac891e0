// The gallery: one sample at a time, with the maps of two methods.
const chosen = { sample: 0, cell: null };
const [left, right, kind, filter, opacity] = ["left", "right", "kind", "filter", "opacity"].map(byId);
const shownSelects = () => [left, right].filter((select) => select.value !== "");
const stored = (sample, method, kind) => sample[kind][method] ?? null;
const fits = (sample) =>
  filter.value === "" || (filter.value === "wrong" ? isWrong(sample) : sample.label === Number(filter.value));

// Return how pictures look now.
const look = () => ({
  opacity: opacity.value / 100,
  ...Object.fromEntries(["grey", "contours", "mask", "positive"].map((name) => [name, byId(name).checked])),
});

// Show an image, or over it the map of a method, with a caption.
async function panel(sample, method, kind) {
  const map = method && stored(sample, method, kind);
  const view = await picture(sample, map, look());
  return make("figure", {}, view, caption(sample, method, map));
}

function caption(sample, method, map) {
  if (!method) return make("figcaption", {}, "image", make("span", {}, sample.note));
  const flat = map?.values.every((value) => value === map.values[0]);
  const words = !map ? "no map" : flat ? "flat: no information" : `largest magnitude ${format(map.peak)}`;
  return make("figcaption", {}, make("b", {}, methods[method].title), make("span", {}, words));
}

if (byId("gallery")) {
  const { samples, left_out: leftOut, signals } = data.gallery;
  const section = byId("gallery");

  async function show() {
    const sample = samples[chosen.sample];
    const selects = shownSelects();
    const kindNow = kind.value;
    const panels = await Promise.all([null, ...selects].map((select) => panel(sample, select?.value, kindNow)));
    if (sample !== samples[chosen.sample]) return;
    for (const [place, select] of [null, ...selects].entries()) finish(panels[place], sample, select, kindNow);
    section.querySelector(".panels").replaceChildren(...panels);
    showCell();
  }

  // Add to a panel what the pointer and the keyboard use.
  function finish(figure, sample, select, kindNow) {
    const map = select && stored(sample, select.value, kindNow);
    const method = select ? methods[select.value].title : "image";
    if (map) makeExplorable(figure.querySelector(".view"), map, method);
    const of = className(kindNow === "maps" ? sample.target : sample.runner_up);
    const name = fileName(sample.name, method, ...(select ? [of] : []));
    const png = async () => savePng(await compose(sample, map, look()));
    figure.append(saveButtons(select ? `the map of ${method}` : "the image", name, { PNG: png }));
  }

  // Let the pointer and the arrow keys choose a position; all maps show their values there.
  function makeExplorable(view, map, name) {
    const [rows, columns] = map.size;
    const squares = ["cursor under", "cursor"].map((style) =>
      make("rect", { class: style, width: 1, height: 1, visibility: "hidden" }),
    );
    view.append(
      make("svg", { class: "cursors", viewBox: `0 0 ${columns} ${rows}`, preserveAspectRatio: "none" }, ...squares),
    );
    view.setAttribute("tabindex", "0");
    view.setAttribute("role", "application");
    view.setAttribute("aria-label", `Map of ${name}; the arrow keys read its values`);
    view.addEventListener("pointermove", (event) => {
      const box = view.getBoundingClientRect();
      choose((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    });
    view.addEventListener("pointerleave", () => choose(null));
    view.addEventListener("focus", () => chosen.cell || choose(0.5, 0.5));
    view.addEventListener("keydown", (event) => {
      const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
      if (!step) return;
      event.preventDefault();
      const far = event.shiftKey ? 8 : 1;
      const [x, y] = chosen.cell ?? [0.5, 0.5];
      choose(x + (far * step[0]) / columns, y + (far * step[1]) / rows);
    });
  }

  const clamp = (value) => Math.min(0.999999, Math.max(0, value));
  function choose(x, y) {
    chosen.cell = x === null ? null : [clamp(x), clamp(y)];
    showCell();
  }

  function showCell() {
    const sample = samples[chosen.sample];
    const words = [];
    const views = section.querySelectorAll(".panels .view.mapped");
    const maps = shownSelects().map((select) => [select, stored(sample, select.value, kind.value)]);
    for (const [place, [select, map]] of maps.filter(([, map]) => map).entries()) {
      const squares = views[place].querySelectorAll(".cursor");
      for (const square of squares) square.setAttribute("visibility", chosen.cell ? "visible" : "hidden");
      if (!chosen.cell) continue;
      const [column, row] = [Math.floor(chosen.cell[0] * map.size[1]), Math.floor(chosen.cell[1] * map.size[0])];
      for (const square of squares) {
        square.setAttribute("x", column);
        square.setAttribute("y", row);
      }
      words.push(`${methods[select.value].title} ${reading(map, row * map.size[1] + column)}`);
    }
    const here =
      chosen.cell && `At ${Math.floor(chosen.cell[0] * sample.width)}, ${Math.floor(chosen.cell[1] * sample.height)}: `;
    byId("readout").textContent = here
      ? `${here}${words.join("; ")}.`
      : "Point at a map, or select it with the tab key and use the arrow keys, to read its values.";
  }

  function reading(map, place) {
    const value = map.values[place];
    if (isUndefined(value)) return "undefined";
    const sign = value > 0 ? "+" : "";
    return `${sign}${format((value / 127) * map.peak)} (${sign}${format(Math.round((100 * value) / 127))} % of its largest magnitude)`;
  }

  function describe() {
    const sample = samples[chosen.sample];
    const visible = samples.filter(fits);
    const place = `${visible.indexOf(sample) + 1} of ${visible.length}`;
    byId("place").replaceChildren(
      make("b", {}, sample.name),
      make("small", {}, `${place}${sample.mask ? "" : ", no mask"}`),
    );
    const options = [make("option", { value: "maps" }, `${className(sample.target)} (explained)`)];
    if (sample.runner_up_maps.length)
      options.push(make("option", { value: "runner_up_maps" }, `${className(sample.runner_up)} (${roleOfOther(sample)})`));
    const before = kind.value;
    kind.replaceChildren(...options);
    kind.value = sample.runner_up_maps.length && before === "runner_up_maps" ? "runner_up_maps" : "maps";
    byId("prediction").replaceChildren(judged(sample), ...prediction(sample));
    showScores(sample);
  }

  function showScores(sample) {
    const places = [...new Set(shownSelects().map((select) => Number(select.value)))];
    const cells = (place, metric) =>
      places.map((index) => make("td", { class: "number" }, format(sample.scores[index][place], metric.decimals)));
    const head = make(
      "tr",
      {},
      make("th", {}, "metric"),
      ...places.map((index) => make("th", { class: "number", scope: "col" }, methods[index].title)),
    );
    const rows = data.metrics.map((metric, place) =>
      make("tr", {}, make("th", { scope: "row" }, `${metric.title} ${metric.higher ? "↑" : "↓"}`), ...cells(place, metric)),
    );
    byId("own").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
  }

  function go(sample) {
    chosen.sample = sample;
    chosen.cell = null;
    const radio = byId("strip").querySelector(`input[value="${sample}"]`);
    if (radio) {
      radio.checked = true;
      const strip = byId("strip"); // scrolled by itself, because scrollIntoView also scrolls the page
      strip.scrollLeft = radio.parentElement.offsetLeft - strip.offsetLeft - strip.clientWidth / 2;
    }
    describe();
    show();
  }

  function step(by) {
    const visible = samples
      .map((sample, place) => [sample, place])
      .filter(([sample]) => fits(sample))
      .map(([, place]) => place);
    go(visible[(visible.indexOf(chosen.sample) + by + visible.length) % visible.length]);
  }

  function fillStrip() {
    const thumbnails = samples.flatMap((sample, place) => {
      if (!fits(sample)) return [];
      const radio = make("input", {
        type: "radio",
        name: "sample",
        value: place,
        "aria-label": sample.label == null ? sample.name : `${sample.name}, ${className(sample.label)}`,
        change: () => go(place),
      });
      const wrong = isWrong(sample) ? make("span", { class: "wrong", title: "misclassified" }, "✗") : null;
      return [
        make("label", { title: sample.name }, radio, make("img", { src: sample.image, alt: "", loading: "lazy" }), wrong),
      ];
    });
    byId("strip").replaceChildren(...thumbnails);
    const masked = samples.findIndex((sample) => fits(sample) && sample.mask);
    go(masked < 0 ? samples.findIndex(fits) : masked);
  }

  function fillFilter() {
    const known = samples.map((sample) => sample.label).filter((label) => label != null);
    const labels = [...new Set(known)].sort((a, b) => a - b);
    const number = (wanted) => samples.filter(wanted).length;
    const options = labels.map((label) => [label, `${className(label)} (${number((sample) => sample.label === label)})`]);
    const wrong = number(isWrong);
    if (wrong) options.push(["wrong", `misclassified (${wrong})`]);
    filter.append(...[["", `all (${samples.length})`], ...options].map(([value, text]) => make("option", { value }, text)));
  }

  // Draw the scale of the colours, of the whole range or of positive values alone.
  function showScale() {
    const { positive } = look();
    const values = Int8Array.from({ length: 255 }, (_, place) => (positive ? place / 2 : place - 127));
    paint(byId("scale"), values, [1, 255], 127, positive);
    section.classList.toggle("positive", positive);
  }

  const names = methods.map((method, place) => make("option", { value: place }, method.title));
  left.append(...names);
  right.append(make("option", { value: "" }, "none"), ...names.map((name) => name.cloneNode(true)));
  left.value = Math.max(
    0,
    methods.findIndex((method) => !method.control && !method.baseline),
  );
  const others = methods.map((_, place) => place).filter((place) => place !== Number(left.value));
  const differs = (place) => methods[place].map !== methods[left.value].map;
  const wanted = [({ baseline }) => baseline, ({ control }) => !control, () => true]; // but not the same map twice
  const found = wanted.map((test) => others.find((place) => differs(place) && test(methods[place])));
  right.value = found.find((place) => place != null) ?? others[0] ?? "";
  fillFilter();
  fillStrip();
  showScale();
  const side = samples[0].maps.find((map) => map)?.size;
  const coarse = `The colours end at the ${data.gallery.percentile}th percentile of a map's magnitudes; lines at ${data.gallery.levels.map((level) => `${100 * level} %`).join(" and ")} of that. Maps are stored at ${side?.[1]} × ${side?.[0]} positions, each the mean of its pixels.`;
  const unseen = signals ? ` ${signals} more samples are signals, which the gallery does not show.` : "";
  byId("gallery-note").textContent = coarse + (leftOut ? ` ${leftOut} more samples do not fit into the file.` : "") + unseen;

  for (const select of [left, right, kind]) {
    select.addEventListener("change", describe);
    select.addEventListener("change", show);
  }
  filter.addEventListener("change", fillStrip);
  for (const name of ["opacity", "mask", "grey", "contours"])
    byId(name).addEventListener("input", () => {
      byId("opacity-value").textContent = `${opacity.value} %`;
      for (const view of section.querySelectorAll(".view")) dress(view, look());
    });
  byId("positive").addEventListener("input", show);
  byId("positive").addEventListener("input", showScale);
  byId("size").addEventListener("change", () => (section.dataset.size = byId("size").value));
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  const own = () => csv(tableRows(byId("own")));
  const ownName = () => fileName(samples[chosen.sample].name, "scores");
  byId("own").parentElement.after(saveButtons("the scores of this sample", ownName, { CSV: own }));
}
