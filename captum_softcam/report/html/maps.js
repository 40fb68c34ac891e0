// Maps: stored bytes become colours, contours and outlines over an image, with the look of report.overlay.

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

const isUndefined = (value) => value === -128;

// Return the byte at which the scale of the colours ends: a percentile of the magnitudes, in a sparse map of those that are
// not almost 0.
function scaleEnd(values, positive) {
  const magnitudes = Uint8Array.from(values, (value) =>
    isUndefined(value) ? 0 : positive ? Math.max(0, value) : Math.abs(value),
  );
  magnitudes.sort();
  const end = (sorted) => sorted[Math.round(((sorted.length - 1) * data.gallery.percentile) / 100)];
  return end(magnitudes) > 1 ? end(magnitudes) : (end(magnitudes.filter((value) => value > 1)) ?? 127);
}

// Paint values by a scale that ends at a byte. Opacity grows with the magnitude, so that 0 shows the image.
function paint(canvas, values, [rows, columns], end, positive) {
  const { colours, opacity } = data.gallery;
  const scale = colours[positive ? "positive" : "signed"];
  canvas.width = columns;
  canvas.height = rows;
  const pixels = new ImageData(columns, rows);
  values.forEach((value, place) => {
    const step = Math.max(positive ? 0 : -127, Math.min(127, Math.round((127 * value) / end)));
    const colour = isUndefined(value) ? colours.undefined : scale[step + 127];
    pixels.data.set([...colour, 255 * opacity * (isUndefined(value) ? 1 : Math.abs(step) / 127)], 4 * place);
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

// Trace where values, interpolated between the centres of their positions, reach a threshold: marching squares.
function contour(values, [rows, columns], threshold) {
  const above = values.map((value) => value >= threshold);
  let path = "";
  for (let row = 0; row < rows - 1; row++)
    for (let column = 0; column < columns - 1; column++) {
      const first = row * columns + column;
      const around = [first, first + 1, first + columns + 1, first + columns];
      if (around.every((place) => above[place] === above[first])) continue;
      const crossings = around.flatMap((from, side) => {
        const to = around[(side + 1) % 4];
        if (above[from] === above[to]) return [];
        const part = (threshold - values[from]) / (values[to] - values[from]);
        const [fromRow, toRow] = [from, to].map((place) => Math.floor(place / columns));
        const x = (from % columns) + part * ((to % columns) - (from % columns)) + 0.5;
        return [`${x.toFixed(2)} ${(fromRow + part * (toRow - fromRow) + 0.5).toFixed(2)}`];
      });
      for (let place = 0; place < crossings.length; place += 2) path += `M${crossings[place]}L${crossings[place + 1]}`;
    }
  return path;
}

// Whether a region is in so many or so thin parts that its border would hide the image; the bounds are those of report.overlay.
function isRough(values, [rows, columns], threshold) {
  const inside = values.map((value) => value >= threshold);
  const edges = inside.reduce(
    (sum, each, place) =>
      sum +
      (place % columns && each !== inside[place - 1] ? 1 : 0) +
      (place >= columns && each !== inside[place - columns] ? 1 : 0),
    0,
  );
  const length = edges / Math.sqrt(rows * columns);
  const area = inside.reduce((sum, each) => sum + each, 0) / inside.length;
  return length > 10 || (length > 3 && area < 0.006 * length);
}

// Return the contours of a map, for the class and against it; none of a map that is too rough for lines.
function contours({ values, size }, end, positive) {
  const { levels } = data.gallery;
  const sides = [Float32Array.from(values, (value) => (isUndefined(value) ? 0 : value))];
  if (!positive) sides.push(sides[0].map((value) => -value));
  if (sides.some((side) => isRough(side, size, levels[0] * end))) return [];
  return sides.map((side, place) => ({
    name: place ? "contours against" : "contours",
    path: levels.map((level) => contour(side, size, level * end)).join(""),
    size,
  }));
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

// Return the lines over an image: contours of the map and the border of the mask, each with the size of its coordinates.
async function linesOver(sample, map, positive) {
  const found = map ? contours(map, scaleEnd(map.values, positive), positive) : [];
  found.push({ name: "mask", path: await outline(sample), size: sample.mask_size });
  return found.filter(({ path }) => path);
}

// Show an image with a map, its contours and the mask over it, each in an element of its own.
async function picture(sample, map, look) {
  const view = make(
    "div",
    { class: map ? "view mapped" : "view" },
    make("img", { src: sample.image, alt: map ? "" : `Image ${sample.name}` }),
  );
  view.style.aspectRatio = sample.width / sample.height;
  view.style.setProperty("--ratio", sample.width / sample.height);
  if (map) {
    await unpack(map);
    const canvas = make("canvas");
    paint(canvas, map.values, map.size, scaleEnd(map.values, look.positive), look.positive);
    view.append(canvas);
  }
  for (const { name, path, size } of await linesOver(sample, map, look.positive)) {
    const box = { viewBox: `0 0 ${size[1]} ${size[0]}`, preserveAspectRatio: "none", "aria-hidden": "true" };
    view.append(
      make("svg", { class: name, ...box }, ...["halo", "edge"].map((kind) => make("path", { class: kind, d: path }))),
    );
  }
  dress(view, look);
  return view;
}

// Apply opacity, lines and grey to a picture.
function dress(view, look) {
  view.classList.toggle("grey", look.grey);
  for (const canvas of view.querySelectorAll("canvas")) canvas.style.opacity = look.opacity;
  for (const name of ["contours", "mask"])
    for (const lines of view.getElementsByClassName(name)) lines.style.display = look[name] ? "" : "none";
}

// Draw a picture as shown into one canvas, for a file.
async function compose(sample, map, look) {
  const scale = Math.max(1, 1024 / Math.max(sample.width, sample.height));
  const [width, height] = [sample.width, sample.height].map((length) => Math.round(length * scale));
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(await loadImage(sample.image), 0, 0, width, height);
  if (map) {
    if (look.grey) {
      context.globalCompositeOperation = "saturation";
      context.fillStyle = "#000";
      context.fillRect(0, 0, width, height);
      context.globalCompositeOperation = "source-over";
    }
    const layer = make("canvas");
    paint(layer, map.values, map.size, scaleEnd(map.values, look.positive), look.positive);
    context.globalAlpha = look.opacity;
    context.drawImage(layer, 0, 0, width, height);
    context.globalAlpha = 1;
  }
  for (const { name, path, size } of await linesOver(sample, map, look.positive)) {
    if (!look[name.split(" ")[0]]) continue;
    context.setLineDash(name === "contours against" ? [12, 8] : []);
    const lines = new Path2D();
    lines.addPath(new Path2D(path), new DOMMatrix([width / size[1], 0, 0, height / size[0], 0, 0]));
    for (const [colour, thickness] of [
      ["#000", 5],
      [name === "mask" ? "#00e5ff" : "#fff", 2.5],
    ]) {
      context.strokeStyle = colour;
      context.lineWidth = thickness;
      context.stroke(lines);
    }
  }
  return canvas;
}
