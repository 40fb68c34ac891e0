// Curves and costs as SVG, as wide as the page allows. Methods differ in dash and marker as well as in colour.
const dashes = ["", "7 3", "2 3", "9 3 2 3", "5 2 1 2 1 2", "12 4", "4 4", "1 4"];
const markers = [
  "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
  "M-3.5 -3.5h7v7h-7z",
  "M0 -4.5L4.5 3.5H-4.5z",
  "M0 -5L5 0L0 5L-5 0z",
  "M0 4.5L4.5 -3.5H-4.5z",
  "M-4 -1.3h2.7v-2.7h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7z",
  "M0 -5L1.5 -1.5L5 0L1.5 1.5L0 5L-1.5 1.5L-5 0L-1.5 -1.5z",
  "M-4.5 -2h9v4h-9z",
];
const methods = data.methods.map((method, place) => ({
  ...method,
  colour: method.control ? "var(--control)" : `var(--m${place % 8})`,
  dash: dashes[(place + 3 * Math.floor(place / 8)) % dashes.length], // colours repeat after eight methods, but not with the same dash
  marker: markers[place % markers.length],
  shown: true,
}));
const methodOf = (name) => methods.find((method) => method.name === name);
const titleOf = (line) => methodOf(line.method).title;

// Choose round values that cover a range, about as many as asked for.
function ticks(low, high, amount = 6) {
  const rough = (high - low) / amount || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const found = [];
  for (let place = Math.ceil(low / step - 1e-9); place * step <= high + step * 1e-6; place++) found.push(place * step);
  return found;
}

// Draw axes, grid and ticks; return the drawing, the scales from values to positions, and the area inside.
function frame({ width, height, x, y, xTicks, yTicks, xLabel, label, xText = String }) {
  const [left, right, top, bottom] = [44, 22, 10, 40];
  const scale =
    ([low, high], from, to) =>
    (value) =>
      from + ((value - low) / (high - low || 1)) * (to - from);
  const [px, py] = [scale(x, left, width - right), scale(y, height - bottom, top)];
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const value of yTicks) {
    svg.append(make("line", { class: "grid", x1: left, x2: width - right, y1: py(value), y2: py(value) }));
    svg.append(make("text", { x: left - 8, y: py(value) + 4, "text-anchor": "end" }, format(Number(value.toPrecision(6)))));
  }
  for (const value of xTicks) {
    svg.append(make("line", { class: "grid", x1: px(value), x2: px(value), y1: top, y2: height - bottom }));
    svg.append(make("line", { class: "axis", x1: px(value), x2: px(value), y1: height - bottom, y2: height - bottom + 4 }));
    svg.append(make("text", { x: px(value), y: height - bottom + 17, "text-anchor": "middle" }, xText(value)));
  }
  svg.append(make("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
  svg.append(make("text", { x: (left + width - right) / 2, y: height - 5, "text-anchor": "middle" }, xLabel));
  return { svg, px, py, room: { left, right: width - right, top, bottom: height - bottom } };
}

const overlap = (a, b) =>
  Math.max(0, Math.min(a.right, b.right) - Math.max(a.left, b.left)) *
  Math.max(0, Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top));

// Write a name at the candidate place where it overlaps least with what is there already.
function writeName(svg, name, colour, places, taken, room) {
  const text = make("text", { class: "name" }, name);
  text.style.fill = colour;
  svg.append(text);
  const width = text.getComputedTextLength();
  let best = null;
  for (const { x, y, before = false, penalty = 0 } of places) {
    const wanted = before ? x - width : x;
    const left = Math.min(Math.max(wanted, room.left + 2), room.right - width - 2);
    const box = { left, right: left + width, top: y - 10, bottom: y + 4 };
    const outside = Math.max(0, room.top - box.top) + Math.max(0, box.bottom - room.bottom);
    const cost =
      taken.reduce((sum, other) => sum + (other.weight ?? 1) * overlap(box, other), 0) +
      1000 * outside +
      8 * Math.abs(left - wanted) +
      penalty;
    if (!best || cost < best.cost) best = { cost, box };
  }
  taken.push({ ...best.box, weight: 5 });
  text.setAttribute("x", best.box.left);
  text.setAttribute("y", best.box.top + 10);
  return text;
}

function sample(method) {
  const swatch = make("svg", { viewBox: "0 0 34 12", "aria-hidden": "true" });
  swatch.append(make("path", { class: "line", d: "M0 6H34", stroke: method.colour, "stroke-dasharray": method.dash }));
  swatch.append(make("path", { d: method.marker, transform: "translate(17 6)", fill: method.colour }));
  return swatch;
}

// Redraw when the width of the host changes.
function drawn(host, draw) {
  let last = 0;
  const redraw = () => host.replaceChildren(draw(Math.max(280, host.clientWidth), host));
  new ResizeObserver(() => {
    if (host.clientWidth && host.clientWidth !== last) {
      last = host.clientWidth;
      redraw();
    }
  }).observe(host);
  return redraw;
}

if (byId("curves")) {
  const section = byId("curves");
  const redraws = data.curves.map((curve) => {
    const metric = data.metrics.find((each) => each.name === curve.metric);
    const host = make("div");
    const direction = metric.higher ? "↑ higher is better" : "↓ lower is better";
    const caption = make("figcaption", {}, `${metric.title} `, make("small", {}, direction));
    const drawing = () => [host.firstElementChild, `${metric.title}, ${direction}`];
    const ways = {
      SVG: () => saveSvg(...drawing()),
      PNG: () => rasterize(...drawing()),
      CSV: () => csv(curvePoints(curve)),
    };
    const saving = saveButtons(`the curves of ${metric.title}`, fileName(metric.name, "curves"), ways);
    section.querySelector(".plots").append(make("figure", {}, caption, host, saving));
    return drawn(host, (width) => drawCurves(curve, metric, width, host));
  });
  const choose = (name) => {
    for (const plot of section.querySelectorAll(".plots svg")) {
      plot.classList.toggle("dimmed", name != null);
      for (const series of plot.querySelectorAll(".series"))
        series.classList.toggle("chosen", series.dataset.method === name);
      for (const text of plot.querySelectorAll(".name")) text.classList.toggle("chosen", text.methods.includes(name));
    }
  };
  const drawnMethods = new Set(data.curves.flatMap((curve) => curve.lines.map((line) => line.method)));
  for (const method of methods.filter(({ name }) => drawnMethods.has(name))) {
    const toggle = (event) => {
      method.shown = !method.shown;
      event.currentTarget.setAttribute("aria-pressed", method.shown);
      for (const redraw of redraws) redraw();
    };
    const [on, off] = [() => choose(method.shown ? method.name : null), () => choose(null)];
    const listeners = { click: toggle, pointerenter: on, pointerleave: off, focus: on, blur: off };
    const button = make("button", { type: "button", "aria-pressed": "true", ...listeners }, sample(method), method.title);
    section.querySelector(".legend").append(button);
  }
}

function curvePoints({ metric, fractions, lines }) {
  const rows = lines.flatMap(({ method, mean, low, high }) =>
    fractions.map((fraction, place) => [metric, method, fraction, mean[place], low[place], high[place]]),
  );
  return [["metric", "method", "fraction", "mean", "low", "high"], ...rows];
}

function drawCurves(curve, metric, width, host) {
  const lines = curve.lines.filter((line) => methodOf(line.method).shown);
  const ends = curve.lines.flatMap((line) => [...line.low, ...line.high]);
  const y = [Math.min(0, ...ends), Math.max(...ends) * 1.04 || 1];
  const height = Math.min(380, Math.max(260, width * 0.66));
  const { svg, px, py, room } = frame({
    width,
    height,
    x: [0, Math.max(...curve.fractions)],
    y,
    yTicks: ticks(...y),
    xTicks: ticks(0, Math.max(...curve.fractions), 5),
    xText: (value) => `${Math.round(100 * value)} %`,
    xLabel: `fraction of patches ${metric.higher ? "restored" : "replaced"}`,
    label: `${metric.title}: mean curves of ${lines.map(titleOf).join(", ")}; the table has their areas.`,
  });
  const path = (values) => values.map((value, place) => `${px(curve.fractions[place])} ${py(value)}`).join("L");
  const faint = Math.min(0.15, 0.5 / lines.length); // because bands overlap
  for (const line of lines) {
    const { colour, dash, marker } = methodOf(line.method);
    const back = line.low
      .map((value, place) => `${px(curve.fractions[place])} ${py(value)}`)
      .reverse()
      .join("L");
    const series = make("g", { class: "series", "data-method": line.method });
    series.append(make("path", { class: "band", fill: colour, "fill-opacity": faint, d: `M${path(line.high)}L${back}z` }));
    series.append(make("path", { class: "line", stroke: colour, "stroke-dasharray": dash, d: `M${path(line.mean)}` }));
    line.mean.forEach((value, place) => {
      const at = `translate(${px(curve.fractions[place])} ${py(value)}) scale(0.8)`;
      if (place % Math.ceil(line.mean.length / 6) === 0)
        series.append(make("path", { d: marker, transform: at, fill: colour }));
    });
    svg.append(series);
  }
  host.replaceChildren(svg);
  nameCurves(svg, curve, lines, px, py, room);
  followPointer(svg, curve, lines, px, room);
  return svg;
}

// Write names on the curves, each where its curve is farthest from the others; curves that coincide share a label.
function nameCurves(svg, curve, lines, px, py, room) {
  const gap = (a, b, place) => Math.abs(py(a.mean[place]) - py(b.mean[place]));
  const same = (a, b) => a.mean.every((_, place) => gap(a, b, place) < 2.5);
  const groups = [];
  for (const line of lines) {
    const group = groups.find((each) => same(each[0], line));
    if (group) group.push(line);
    else groups.push([line]);
  }
  const taken = groups.flatMap(([line]) => along(line.mean.map((value, place) => [px(curve.fractions[place]), py(value)])));
  for (const group of groups) {
    const others = groups.filter((each) => each !== group).map(([line]) => line);
    const places = group[0].mean.slice(0, -1).flatMap((value, place) => {
      if (place === 0) return [];
      const free = Math.min(30, ...others.map((other) => gap(group[0], other, place)));
      const [x, y] = [px(curve.fractions[place]), py(value)];
      const penalty = 20 * (30 - free);
      return [-7, 15].flatMap((shift) => [
        { x: x + 3, y: y + shift, penalty },
        { x: x - 3, y: y + shift, before: true, penalty },
      ]);
    });
    const colour = group.length === 1 ? methodOf(group[0].method).colour : "var(--ink)";
    const text = writeName(svg, group.map(titleOf).join(", "), colour, places, taken, room);
    text.methods = group.map((line) => line.method);
  }
}

// Return small boxes along a line, which names avoid.
function along(points) {
  return points.slice(1).flatMap(([x, y], place) => {
    const [fromX, fromY] = points[place];
    const parts = Math.ceil(Math.hypot(x - fromX, y - fromY) / 5);
    return Array.from({ length: parts }, (_, part) => {
      const [left, top] = [fromX + ((x - fromX) * part) / parts, fromY + ((y - fromY) * part) / parts];
      return { left: left - 3, right: left + 3, top: top - 2, bottom: top + 2 };
    });
  });
}

// Show a rule at the pointer, and a tooltip with the values of all visible curves, the highest first.
function followPointer(svg, curve, lines, px, room) {
  const rule = make("line", { class: "rule", y1: room.top, y2: room.bottom, visibility: "hidden" });
  svg.append(rule);
  svg.addEventListener("pointermove", (event) => {
    const at = ((event.clientX - svg.getBoundingClientRect().left) * svg.viewBox.baseVal.width) / svg.clientWidth;
    const distances = curve.fractions.map((fraction) => Math.abs(px(fraction) - at));
    const place = distances.indexOf(Math.min(...distances));
    for (const name of ["x1", "x2"]) rule.setAttribute(name, px(curve.fractions[place]));
    rule.setAttribute("visibility", "visible");
    const value = (line) =>
      `${titleOf(line)} ${format(line.mean[place], 3)} [${format(line.low[place], 3)}, ${format(line.high[place], 3)}]`;
    const sorted = [...lines].sort((a, b) => b.mean[place] - a.mean[place]);
    showTip([`At ${percent(curve.fractions[place])}`, ...sorted.map(value)], rule);
  });
  svg.addEventListener("pointerleave", () => {
    rule.setAttribute("visibility", "hidden");
    hideTip();
  });
}

if (byId("costs")) {
  const select = byId("quality");
  select.append(...data.metrics.map((metric) => make("option", { value: metric.name }, metric.title)));
  const host = make("div");
  const metricNow = () => data.metrics.find(({ name }) => name === select.value);
  const drawing = () => [host.firstElementChild, `${metricNow().title} against cost`];
  const ways = {
    SVG: () => saveSvg(...drawing()),
    PNG: () => rasterize(...drawing()),
    CSV: () => csv(costPoints(metricNow())),
  };
  const saving = saveButtons("the costs", () => fileName(select.value, "against-cost"), ways);
  document.querySelector("#costs .plots").append(make("figure", {}, host, saving));
  const redraw = drawn(host, (width) => drawCosts(metricNow(), width, host));
  select.addEventListener("change", redraw);
}

function costPoints(metric) {
  const rows = methods.map(({ name }, place) => [
    metric.name,
    name,
    data.costs.relative[place],
    ...(data.costs.quality[metric.name][place] ?? ["", "", ""]),
  ]);
  return [["metric", "method", "cost", "mean", "low", "high"], ...rows];
}

function drawCosts(metric, width, host) {
  const least = 0.1; // cheaper methods are drawn here, because 0 has no place on a logarithmic axis
  const points = methods
    .map((method, place) => ({ method, cost: data.costs.relative[place], quality: data.costs.quality[metric.name][place] }))
    .filter((point) => point.cost != null && point.quality)
    .map((point) => ({ ...point, x: Math.log10(Math.max(least, point.cost)) }));
  if (!points.length) return make("p", { class: "note" }, "No method has both a cost and a score here.");
  const ends = points.flatMap(({ quality }) => quality.filter((value) => value != null));
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const margin = (high - low || Math.abs(high) || 1) * 0.08;
  const y = [low - margin, high + margin];
  const x = [Math.min(...points.map((point) => point.x)) - 0.35, Math.max(...points.map((point) => point.x)) + 0.35];
  const xTicks = Array.from({ length: 12 }, (_, place) => place - 1).filter((power) => x[0] <= power && power <= x[1]);
  const { svg, px, py, room } = frame({
    width,
    height: Math.min(440, Math.max(300, width * 0.5)),
    x,
    y,
    yTicks: ticks(...y),
    xTicks,
    xText: (power) => (power < 0 ? `≤ ${least}` : format(10 ** power)),
    xLabel: "cost in plain forward passes",
    label: `${metric.title} against cost: ${points
      .map(({ method, cost, quality }) => `${method.title} ${format(quality[0], metric.decimals)} at ${format(cost)}`)
      .join("; ")}.`,
  });
  svg.append(
    make(
      "text",
      { x: room.left + 8, y: metric.higher ? room.top + 12 : room.bottom - 8 },
      `${metric.higher ? "↖" : "↙"} better and cheaper`,
    ),
  );
  for (const {
    method,
    x: at,
    quality: [mean, from, to],
  } of points) {
    const series = make("g", { class: "series", "data-method": method.name });
    if (from != null)
      series.append(
        make("line", { x1: px(at), x2: px(at), y1: py(from), y2: py(to), stroke: method.colour, "stroke-width": 2 }),
      );
    series.append(
      make("path", { d: method.marker, transform: `translate(${px(at)} ${py(mean)}) scale(1.3)`, fill: method.colour }),
    );
    svg.append(series);
  }
  host.replaceChildren(svg);
  const taken = points.flatMap(({ x: at, quality: [mean, from, to] }) => [
    { left: px(at) - 7, right: px(at) + 7, top: py(mean) - 7, bottom: py(mean) + 7, weight: 4 },
    { left: px(at) - 2, right: px(at) + 2, top: py(to ?? mean), bottom: py(from ?? mean) },
  ]);
  for (const {
    method,
    x: at,
    quality: [mean],
  } of points) {
    const [left, middle] = [px(at), py(mean) + 4];
    const shifts = [0, -14, 14, -28, 28];
    const places = shifts.flatMap((shift) => [
      { x: left + 11, y: middle + shift, penalty: Math.abs(shift) },
      { x: left - 11, before: true, y: middle + shift, penalty: 5 + Math.abs(shift) },
    ]);
    writeName(svg, method.title, method.colour, places, taken, room);
  }
  return svg;
}
