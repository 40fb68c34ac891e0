// Prints: every chosen sample on paper, or one case on a page of its own.
if (byId("gallery")) {
  const { samples } = data.gallery;
  const root = document.documentElement;
  const printed = () =>
    ({ all: samples, wrong: samples.filter(isWrong), shown: [samples[chosen.sample]] })[byId("printed").value];

  const methodsShown = () => shownSelects().map((select) => select.value);

  async function block(sample) {
    const kindNow = sample[kind.value].length ? kind.value : "maps";
    const panels = await Promise.all([null, ...methodsShown()].map((method) => panel(sample, method, kindNow)));
    const of = className(kindNow === "maps" ? sample.target : sample.runner_up);
    const title = make("h3", {}, sample.name, make("small", {}, ` maps for ${of}${sample.mask ? "" : ", no mask"}`));
    return make("article", {}, title, judged(sample), make("div", { class: "panels" }, ...panels));
  }

  // Keep the prints ready, because a page cannot wait when the browser prints it. The latest call wins.
  let latest = 0;
  async function prepare() {
    const call = ++latest;
    root.classList.remove("prints-ready");
    const blocks = [];
    for (const sample of printed()) {
      blocks.push(await block(sample));
      if (call !== latest) return;
    }
    byId("prints").replaceChildren(...blocks);
    root.classList.add("prints-ready");
  }

  // A case on one page: image and map, prediction, runner-up with its own map, and what the map says.
  async function sheet(sample) {
    const method = left.value;
    const scored = (index) => `${className(index)}${sample.probabilities ? ` (${score(sample, index)})` : ""}`;
    const titled = async (title, ...place) => {
      const figure = await panel(sample, ...place);
      figure.prepend(make("h3", {}, title));
      return figure;
    };
    const figures = [
      titled(sample.note ? `Picture, ${sample.note}` : "Picture"),
      titled(`${methods[method].title} for ${scored(sample.target)}`, method, "maps"),
    ];
    const second = sample.runner_up_maps.length > 0;
    const [first, ...rest] = roleOfOther(sample);
    const other = `${first.toUpperCase()}${rest.join("")}: ${scored(sample.runner_up)}`;
    if (second) figures.push(titled(other, method, "runner_up_maps"));
    const answer = make("div", {}, make("h3", {}, "Prediction"), judged(sample), ...prediction(sample));
    const parts = await Promise.all(figures);
    parts.splice(2, 0, answer);
    return [
      make("h2", {}, sample.name),
      make("p", { class: "note" }, data.model && `Model: ${data.model}`),
      make("div", { class: "panels" }, ...parts),
      make("p", { class: "note" }, legend(sample)),
      make("p", {}, sample.findings[method] || `There is no map by ${methods[method].title}.`),
      make("p", {}, make("b", {}, "Research software, not a medical device.")),
    ];
  }

  // Explain colours and lines, as far as they are drawn.
  function legend(sample) {
    const { positive, contours, mask } = look();
    const words = [positive ? "Bright colours are for the class" : "Orange is for the class, purple against it"];
    const levels = data.gallery.levels.map((level) => `${100 * level} %`).join(" and ");
    if (contours) words.push(`white lines: ${levels} of the scale${positive ? "" : ", dashed against the class"}`);
    if (mask && sample.mask) words.push("blue line: the marked region");
    return `${words.join("; ")}. Each map has a scale of its own.`;
  }

  async function printCase() {
    byId("case").replaceChildren(...(await sheet(samples[chosen.sample])));
    await Promise.all([...byId("case").querySelectorAll("img")].map((image) => image.decode()));
    root.classList.add("one-case");
    print();
  }

  if (!samples.some(isWrong)) byId("printed").querySelector("[value=wrong]").remove();
  byId("gallery").addEventListener("input", () => setTimeout(prepare, 300)); // after the gallery itself has followed
  for (const name of ["previous", "next"]) byId(name).addEventListener("click", () => setTimeout(prepare));
  byId("print-case").addEventListener("click", printCase);
  addEventListener("afterprint", () => root.classList.remove("one-case"));
  prepare();
}
