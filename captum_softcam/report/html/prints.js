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

  // A case on one page: image and map, prediction, runner-up with its own map, and two sentences.
  async function sheet(sample) {
    const method = left.value;
    const shownMap = stored(sample, method, "maps");
    const second = sample.runner_up_maps.length > 0 && stored(sample, method, "runner_up_maps");
    const titled = async (title, ...place) => {
      const figure = await panel(sample, ...place);
      figure.prepend(make("h3", {}, title));
      return figure;
    };
    const classTitle = (index) => `${className(index)}${sample.probabilities ? `, ${score(sample, index)}` : ""}`;
    const figures = [titled("Image"), titled(classTitle(sample.target), method, "maps")];
    if (second) figures.push(titled(`Runner-up: ${classTitle(sample.runner_up)}`, method, "runner_up_maps"));
    const model = document.querySelector(".title p").textContent;
    return [
      make("h2", {}, sample.name),
      make("p", { class: "note" }, model),
      make("div", { class: "panels" }, ...(await Promise.all(figures))),
      make("h3", {}, "Prediction"),
      judged(sample),
      ...prediction(sample),
      make("p", {}, explained(sample, shownMap)),
      make("p", { class: "note" }, "Research software, not a medical device."),
    ];
  }

  function explained(sample, map) {
    const title = methods[left.value].title;
    if (!map) return `There is no map by ${title}.`;
    const { positive, mask } = look();
    const against = positive ? "values against it are not drawn" : "purple counts against it";
    const lines = data.gallery.levels.map((level) => `${100 * level} %`).join(" and ");
    const border = mask && sample.mask ? " The blue outline is the mask." : "";
    return `By ${title}, the bright colour supports the class and ${against}; lines enclose what reaches ${lines} of the scale.${border}`;
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
