// The gallery: one sample at a time, with the maps of two methods.
if (byId("gallery")) {
  const { samples, colours, left_out: leftOut, signals } = data.gallery;
  const state = { sample: 0, cell: null };
  const [left, right, kind, filter, opacity] = ["left", "right", "kind", "filter", "opacity"].map(byId);
  const shows = (sample, index) => (sample.labels ? sample.labels.includes(index) : index === sample.label);
  const isJudged = (sample) =>
    sample.prediction != null && sample.label != null && !sample.undecided.includes(sample.prediction);
  const isWrong = (sample) => isJudged(sample) && !shows(sample, sample.prediction);
  const fits = (sample) =>
    filter.value === "" || (filter.value === "wrong" ? isWrong(sample) : sample.label === Number(filter.value));

  // Decode base64 and decompress zlib.
  function inflate(text) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
  }

  // Restore the signed bytes of a map, from differences down and across if those were stored.
  async function unpack(stored) {
    if (stored.values) return stored.values;
    const values = new Int8Array(await inflate(stored.text));
    if (stored.differences) addUp(values, ...stored.size);
    stored.values = values;
    return values;
  }

  function addUp(values, rows, columns) {
    for (let row = 0; row < rows; row++)
      for (let column = 1; column < columns; column++) values[row * columns + column] += values[row * columns + column - 1];
    for (let place = columns; place < values.length; place++) values[place] += values[place - columns];
  }

  // Opacity grows with the magnitude, so that the image shows where the map is near zero.
  const cover = (value) => Math.abs(value / 127) ** 0.75;

  function paint(canvas, values, rows, columns) {
    canvas.width = columns;
    canvas.height = rows;
    const pixels = new ImageData(columns, rows);
    values.forEach((value, place) => {
      if (value !== -128) pixels.data.set([...colours[value + 127], 255 * cover(value)], 4 * place);
    });
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  // Trace the border of the mask as one path along the edges of pixels.
  async function outline(sample) {
    if (!sample.mask || sample.border != null) return sample.border;
    const [rows, columns] = sample.mask_size;
    const bits = new Uint8Array(await inflate(sample.mask));
    const inside = (row, column) => {
      if (row < 0 || column < 0 || row >= rows || column >= columns) return 0;
      const place = row * columns + column;
      return (bits[place >> 3] >> (7 - (place & 7))) & 1;
    };
    let path = "";
    for (let row = 0; row <= rows; row++)
      for (let column = 0; column <= columns; column++) {
        if (inside(row, column) !== inside(row - 1, column)) path += `M${column} ${row}h1`;
        if (inside(row, column) !== inside(row, column - 1)) path += `M${column} ${row}v1`;
      }
    sample.border = path;
    return path;
  }

  const stored = (sample, select) => sample[kind.value || "maps"][select.value] ?? null;
  const shownSelects = () => [left, right].filter((select) => select.value !== "");

  async function show() {
    const sample = samples[state.sample];
    const panels = await Promise.all([panel(sample, null), ...shownSelects().map((select) => panel(sample, select))]);
    if (sample !== samples[state.sample]) return;
    byId("gallery")
      .querySelector(".panels")
      .replaceChildren(...panels);
    showCell();
    dress();
  }

  // Show an image and over it the map of the method chosen in a select, if there is one.
  async function panel(sample, select) {
    const map = select && stored(sample, select);
    const view = make(
      "div",
      { class: select ? "view mapped" : "view" },
      make("img", { src: sample.image, alt: select ? "" : `Image ${sample.name}` }),
    );
    view.style.aspectRatio = `${sample.width} / ${sample.height}`;
    if (map) {
      const canvas = make("canvas");
      paint(canvas, await unpack(map), ...map.size);
      view.append(canvas);
    }
    const border = await outline(sample);
    if (border) {
      const box = `0 0 ${sample.mask_size[1]} ${sample.mask_size[0]}`;
      const lines = ["halo", "edge"].map((name) => make("path", { class: name, d: border }));
      view.append(
        make("svg", { class: "mask", viewBox: box, preserveAspectRatio: "none", "aria-hidden": "true" }, ...lines),
      );
    }
    if (map) makeExplorable(view, map, methods[select.value].name);
    return make("figure", {}, view, caption(select, map));
  }

  function caption(select, map) {
    if (!select) return make("figcaption", {}, "image", make("span", {}, samples[state.sample].note));
    const name = make("b", {}, methods[select.value].name);
    const flat = map?.values.every((value) => value === map.values[0]);
    const words = !map ? "no map" : flat ? "flat: no information" : `largest magnitude ${format(map.peak)}`;
    return make("figcaption", {}, name, make("span", {}, words));
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
    view.addEventListener("focus", () => state.cell || choose(0.5, 0.5));
    view.addEventListener("keydown", (event) => {
      const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
      if (!step) return;
      event.preventDefault();
      const far = event.shiftKey ? 8 : 1;
      const [x, y] = state.cell ?? [0.5, 0.5];
      choose(x + (far * step[0]) / columns, y + (far * step[1]) / rows);
    });
  }

  const clamp = (value) => Math.min(0.999999, Math.max(0, value));
  function choose(x, y) {
    state.cell = x === null ? null : [clamp(x), clamp(y)];
    showCell();
  }

  function showCell() {
    const sample = samples[state.sample];
    const words = [];
    const views = byId("gallery").querySelectorAll(".view.mapped");
    shownSelects().forEach((select, place) => {
      const map = stored(sample, select);
      if (!map) return;
      const squares = views[place].querySelectorAll(".cursor");
      for (const square of squares) square.setAttribute("visibility", state.cell ? "visible" : "hidden");
      if (!state.cell) return;
      const [column, row] = [Math.floor(state.cell[0] * map.size[1]), Math.floor(state.cell[1] * map.size[0])];
      for (const square of squares) {
        square.setAttribute("x", column);
        square.setAttribute("y", row);
      }
      words.push(`${methods[select.value].name} ${reading(map, row * map.size[1] + column)}`);
    });
    const here =
      state.cell && `At ${Math.floor(state.cell[0] * sample.width)}, ${Math.floor(state.cell[1] * sample.height)}: `;
    byId("readout").textContent = here
      ? `${here}${words.join("; ")}.`
      : "Point at a map, or select it with the tab key and use the arrow keys, to read its values.";
  }

  function reading(map, place) {
    const value = map.values[place];
    if (value === -128) return "undefined";
    const sign = value > 0 ? "+" : "";
    return `${sign}${format((value / 127) * map.peak)} (${sign}${format(Math.round((100 * value) / 127))} % of its largest magnitude)`;
  }

  // Apply opacity, outline and grey to the sample shown.
  function dress() {
    const section = byId("gallery");
    section.classList.toggle("grey", byId("grey").checked);
    byId("opacity-value").textContent = `${opacity.value} %`;
    for (const canvas of section.querySelectorAll(".view canvas")) canvas.style.opacity = opacity.value / 100;
    for (const mask of section.querySelectorAll(".view .mask")) mask.style.display = byId("outline").checked ? "" : "none";
  }

  function describe() {
    const sample = samples[state.sample];
    const visible = samples.filter(fits);
    const place = `${visible.indexOf(sample) + 1} of ${visible.length}`;
    byId("place").replaceChildren(
      make("b", {}, sample.name),
      make("small", {}, `${place}${sample.mask ? "" : ", no mask"}`),
    );
    const options = [make("option", { value: "maps" }, `${className(sample.target)} (explained)`)];
    if (sample.runner_up_maps.length)
      options.push(make("option", { value: "runner_up_maps" }, `${className(sample.runner_up)} (runner-up)`));
    const chosen = kind.value;
    kind.replaceChildren(...options);
    kind.value = sample.runner_up_maps.length && chosen === "runner_up_maps" ? "runner_up_maps" : "maps";
    predict(sample);
    showScores(sample);
  }

  // Say what the model predicts, and what the image shows.
  function judgement(sample) {
    const verdict = !isJudged(sample) ? "" : isWrong(sample) ? "✗ wrong: " : "✓ correct: ";
    if (sample.labels) {
      const truth = `the image shows ${sample.labels.map(className).join(", ")}`;
      const highest = `the highest score is that of ${className(sample.prediction)}`;
      return sample.prediction == null ? truth : `${verdict}${highest}, ${truth}.`;
    }
    const truth = sample.label == null ? "the label is not known" : `the label is ${className(sample.label)}`;
    return sample.prediction == null ? truth : `${verdict}the model predicts ${className(sample.prediction)}, ${truth}.`;
  }

  // Say in which roles a class is listed.
  function roles(sample, index) {
    const found = { explained: index === sample.target, "runner-up": index === sample.runner_up };
    if (sample.labels) found.shown = shows(sample, index);
    found.undecided = sample.undecided.includes(index);
    return Object.keys(found).filter((role) => found[role]);
  }

  // List the five classes with the highest scores, and all labels, the explained class and the runner-up.
  function predict(sample) {
    const host = byId("prediction");
    const said = judgement(sample);
    host.replaceChildren(make("p", { class: !isJudged(sample) ? "" : isWrong(sample) ? "worse" : "better" }, said));
    const classes = (sample.probabilities ?? [])
      .map((probability, index) => ({ probability, index }))
      .sort((a, b) => b.probability - a.probability);
    const needed = [sample.label, sample.target, sample.runner_up, ...(sample.labels ?? [])];
    for (const { probability, index } of classes.filter((each, place) => place < 5 || needed.includes(each.index))) {
      const role = index === sample.target ? "target" : index === sample.runner_up ? "runner-up" : "";
      const fill = make("i");
      if (sample.probable) fill.style.width = `${100 * probability}%`;
      const words = roles(sample, index).join(", ");
      const name = make("span", {}, className(index), words && make("small", {}, words));
      host.append(
        make(
          "div",
          { class: `class ${role}` },
          name,
          make("div", { class: "probability" }, fill),
          make("output", {}, sample.probable ? percent(probability) : format(probability)),
        ),
      );
    }
  }

  function showScores(sample) {
    const chosen = [...new Set(shownSelects().map((select) => Number(select.value)))];
    const cells = (place, metric) =>
      chosen.map((index) => make("td", { class: "number" }, format(sample.scores[index][place], metric.decimals)));
    const head = make(
      "tr",
      {},
      make("th", {}, "metric"),
      ...chosen.map((index) => make("th", { class: "number", scope: "col" }, methods[index].name)),
    );
    const rows = data.metrics.map((metric, place) =>
      make("tr", {}, make("th", { scope: "row" }, `${metric.title} ${metric.higher ? "↑" : "↓"}`), ...cells(place, metric)),
    );
    byId("own").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
  }

  function go(sample) {
    state.sample = sample;
    state.cell = null;
    const radio = byId("strip").querySelector(`input[value="${sample}"]`);
    if (radio) {
      radio.checked = true;
      radio.parentElement.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    describe();
    show();
  }

  function step(by) {
    const visible = samples
      .map((sample, place) => [sample, place])
      .filter(([sample]) => fits(sample))
      .map(([, place]) => place);
    go(visible[(visible.indexOf(state.sample) + by + visible.length) % visible.length]);
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
    const number = (chosen) => samples.filter(chosen).length;
    const options = labels.map((label) => [label, `${className(label)} (${number((sample) => sample.label === label)})`]);
    const wrong = number(isWrong);
    if (wrong) options.push(["wrong", `misclassified (${wrong})`]);
    filter.append(...[["", `all (${samples.length})`], ...options].map(([value, text]) => make("option", { value }, text)));
  }

  const names = methods.map((method, place) => make("option", { value: place }, method.name));
  left.append(...names);
  right.append(make("option", { value: "" }, "none"), ...names.map((name) => name.cloneNode(true)));
  left.value = Math.max(
    0,
    methods.findIndex((method) => !method.control && !method.baseline),
  );
  const others = methods.map((_, place) => place).filter((place) => place !== Number(left.value));
  right.value = others.find((place) => methods[place].baseline) ?? others[0] ?? "";
  fillFilter();
  fillStrip();
  const side = samples[0].maps.find((map) => map)?.size;
  const coarse = `Each map is divided by its largest magnitude and stored at ${side?.[1]} × ${side?.[0]} positions, each the mean of its pixels.`;
  const unseen = signals ? ` ${signals} more samples are signals, which the gallery does not show.` : "";
  byId("gallery-note").textContent = coarse + (leftOut ? ` ${leftOut} more samples do not fit into the file.` : "") + unseen;
  paint(
    byId("scale"),
    Int8Array.from({ length: 255 }, (_, place) => place - 127),
    1,
    255,
  );

  for (const select of [left, right, kind]) {
    select.addEventListener("change", describe);
    select.addEventListener("change", show);
  }
  filter.addEventListener("change", fillStrip);
  for (const name of ["opacity", "outline", "grey"]) byId(name).addEventListener("input", dress);
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
}
