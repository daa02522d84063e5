// A picture brought to the form that the network was trained on: the pipeline of mnistnet/data/pictures/,
// function by function under the same names, so that this page and `mnistnet run` see the same thing.
//
// A plane is {height, width, data}: float32 grey values by rows, 0 = background, 255 = ink.

const WORKING_SIDE = 512;
const GRID_SIDE = 64;
const POLARITY_SIDE = 32;
const AROUND = 0.5;
const WIDEST = 0.4;
const REACH = 0.06;
const LEAST_CONTRAST = 15;
const TWO_KINDS = 0.8;
const SMOOTH = 1;
const ENOUGH = 16;
const MARGIN = 0.25;
const STROKE_SHARE = 0.4;
const MIN_CONTRAST = 20;
const MIN_SIGNAL = 2.5;
const BLUR = 0.004;
const MIN_BLUR = 0.7;
const FLOOR = 0.1;
const CEILING = 0.95;
const EDGE = 0.25;
const SPECK = 0.04;
const THIN = 1.5;
const BRIGHT = 0.75;
const MAD_TO_SIGMA = 1.4826;

/** Nothing on the picture stands out from its ground. */
class BlankPicture extends Error {}

/** What the network gets to see: grey bytes of a picture of any size as {pixels: Uint8Array, notes}. */
function readPicture(grey, [height, width]) {
  if (grey.height === height && grey.width === width) return asItIs(grey);
  const {ink, inverted} = inkOnDark(addMargin(workingSize(grey)));
  const digit = cropToInk(removeNoise(ink));
  const box = boxFor([height, width]);
  const boxed = scaleToBox(thickenStrokes(digit, box), box);
  const notes = inverted ? ["inverted: dark ink on a light ground"] : [];
  notes.push(`digit found, scaled to ${boxed.width}x${boxed.height} pixels and centred by its mass`);
  const centred = centreByMass(boxed, [height, width]);
  return {pixels: Uint8Array.from(centred.data, roundHalfEven), notes};
}

/** A picture of the network's own size: only brought to bright on dark. */
function asItIs(grey) {
  const values = Float64Array.from(grey.data);
  const {low, high} = extremes(values);
  if (high - low < MIN_CONTRAST) throw new BlankPicture();
  const ground = median(border(grey));
  if (ground >= 128 && ground > sum(values) / values.length) {
    return {
      pixels: Uint8Array.from(grey.data, (v) => 255 - v),
      notes: ["inverted: dark ink on a light ground"],
    };
  }
  return {pixels: Uint8Array.from(grey.data), notes: []};
}

// --- the steps ---------------------------------------------------------------------------------------------

/** Averaged down by a whole factor when larger than the pipeline needs, rounded as Pillow's reduce does. */
function workingSize(grey) {
  const factor = Math.ceil(Math.max(grey.height, grey.width) / WORKING_SIDE);
  if (factor <= 1) return plane(grey.height, grey.width, grey.data);
  const out = plane(Math.ceil(grey.height / factor), Math.ceil(grey.width / factor));
  for (let y = 0; y < out.height; y++) {
    const bottom = Math.min((y + 1) * factor, grey.height);
    for (let x = 0; x < out.width; x++) {
      const right = Math.min((x + 1) * factor, grey.width);
      let total = 0;
      for (let i = y * factor; i < bottom; i++) {
        for (let j = x * factor; j < right; j++) total += grey.data[i * grey.width + j];
      }
      const count = (bottom - y * factor) * (right - x * factor);
      const multiplier = Math.floor(2 ** 24 / count);
      out.data[y * out.width + x] = Math.floor(((total + Math.floor(count / 2)) * multiplier) / 2 ** 24);
    }
  }
  return out;
}

/** With paper around it, where the ink runs into all four sides; else the picture as it is. */
function addMargin(grey) {
  const small = blur(grid(grey), SMOOTH);
  const threshold = otsu(small.data);
  const bright = map(small, (v) => Number(v > threshold));
  const share = sum(bright.data) / bright.data.length;
  if (share === 0 || share === 1) return grey;
  const average = (values) => sum(values) / values.length;
  const contrast =
    average(small.data.filter((v) => v > threshold)) - average(small.data.filter((v) => v <= threshold));
  const middle = average(small.data);
  const variance = average(Float64Array.from(small.data, (v) => (v - middle) ** 2));
  const explained = (share * (1 - share) * contrast ** 2) / variance;
  if (contrast < LEAST_CONTRAST || explained < TWO_KINDS) return grey;
  const paper = paperOf(bright);
  if (!paper || !reachesEverySide(opposite(paper))) return grey;
  return surrounded(grey, small, paper);
}

function opposite(mask) {
  return map(mask, (v) => 1 - v);
}

function reachesEverySide({height, width, data}) {
  const [h, w] = [height, width].map((side) => Math.max(roundHalfEven(REACH * side), 1));
  const touched = [false, false, false, false];
  data.forEach((v, i) => {
    const [y, x] = [Math.floor(i / width), i % width];
    [y < h, y >= height - h, x < w, x >= width - w].forEach((near, side) => (touched[side] ||= v && near));
  });
  return touched.every(Boolean);
}

/** The part of the coarse picture that is paper; null where both parts are too wide to be ink. */
function paperOf(bright) {
  const dark = opposite(bright);
  const possible = [[bright, dark], [dark, bright]].filter(([, ink]) => !isWide(ink)).map(([paper]) => paper);
  if (possible.length < 2) return possible[0] ?? null;
  const {height, width, data} = bright;
  const [h, w] = [height, width].map((side) => Math.max(Math.floor(side / 8), 1));
  const inCorners = data.filter((_, i) => {
    const [y, x] = [Math.floor(i / width), i % width];
    return (y < h || y >= height - h) && (x < w || x >= width - w);
  });
  return sum(inCorners) >= inCorners.length / 2 ? bright : dark;
}

/** Whether a square larger than any stroke fits into the mask. */
function isWide(mask) {
  const radius = roundHalfEven((WIDEST / 2) * Math.max(mask.height, mask.width));
  const padded = paste(mask, [mask.height + 2 * radius, mask.width + 2 * radius], [radius, radius]);
  return extremes(slidingMinimum(padded, 2 * radius + 1).data).high > 0;
}

/** The picture on a larger one that goes on with the light on the paper: a plane through it. */
function surrounded(grey, small, paper) {
  const inner = slidingMinimum(paper, 3);
  const chosen = sum(inner.data) >= ENOUGH ? inner : paper;
  const places = [...chosen.data.keys()].filter((i) => chosen.data[i] > 0);
  const [down, across] = [grey.height / small.height, grey.width / small.width];
  const terms = places.map((i) => [
    1, (Math.floor(i / small.width) + 0.5) * down, ((i % small.width) + 0.5) * across,
  ]);
  const light = leastSquares(terms, places.map((i) => small.data[i]));
  const margin = Math.max(roundHalfEven(MARGIN * Math.max(grey.height, grey.width)), 1);
  const out = plane(grey.height + 2 * margin, grey.width + 2 * margin);
  for (let i = 0; i < out.data.length; i++) {
    const [y, x] = [Math.floor(i / out.width) - margin, (i % out.width) - margin];
    const inside = y >= 0 && x >= 0 && y < grey.height && x < grey.width;
    out.data[i] = inside ? grey.data[y * grey.width + x] : clip(dot([1, y, x], light));
  }
  return out;
}

/** Whether ink is darker than its ground: by how pixels depart from the median around them. */
function isDarkOnLight(grey) {
  const image = resize(grey, fitted(grey, POLARITY_SIDE));
  const {height, width, data} = image;
  const radius = roundHalfEven((AROUND / 2) * Math.max(height, width));
  const reflects = Math.min(height, width) > radius;
  const inside = (i, length) => {
    if (!reflects) return Math.min(Math.max(i, 0), length - 1);
    return i < 0 ? -i : i >= length ? 2 * (length - 1) - i : i;
  };
  const around = new Float64Array((2 * radius + 1) ** 2);
  let third = 0;
  data.forEach((v, i) => {
    const [y, x] = [Math.floor(i / width), i % width];
    let next = 0;
    for (let j = y - radius; j <= y + radius; j++) {
      const row = inside(j, height) * width;
      for (let k = x - radius; k <= x + radius; k++) around[next++] = data[row + inside(k, width)];
    }
    third += (v - median(around)) ** 3;
  });
  return third < 0;
}

/** Bright ink on a ground of 0, whichever way round it was drawn and however the light falls. */
function inkOnDark(grey) {
  const inverted = isDarkOnLight(grey);
  const light = estimateLight(grey);
  const departure = map(grey, (v, i) => v - light.data[i]);
  const bright = inverted ? map(departure, (v) => -v) : departure;
  const wide = wideParts(bright);
  const ink = map(bright, (v, i) => v - wide.data[i]);
  const middle = median(ink.data);
  return {ink: map(ink, (v) => clip(Math.fround(v - middle))), inverted};
}

/** What is bright over a square wider than any stroke: a morphological opening, on a coarse grid. */
function wideParts(bright) {
  const coarse = grid(bright);
  const width = 2 * roundHalfEven((STROKE_SHARE / 2) * Math.max(coarse.height, coarse.width)) + 1;
  return resize(slidingMaximum(slidingMinimum(coarse, width), width), [bright.height, bright.width]);
}

/** The light on the paper, without the ink: a quadratic surface, fitted by trimmed least squares. */
function estimateLight(grey) {
  const coarse = grid(grey);
  const values = coarse.data;
  const terms = Array.from(values.keys(), quadratic(coarse.height, coarse.width));
  let coefficients = [median(border(coarse)), 0, 0, 0, 0, 0];
  for (let round = 0; round < 10; round++) {
    const distance = Float64Array.from(values, (v, i) => Math.abs(v - dot(terms[i], coefficients)));
    const limit = Math.max(2.5 * MAD_TO_SIGMA * median(distance), 4);
    const near = [...values.keys()].filter((i) => distance[i] <= limit);
    const before = coefficients;
    coefficients = leastSquares(near.map((i) => terms[i]), near.map((i) => values[i]));
    if (before.every((c, i) => c === coefficients[i])) break;  // the same pixels again, for ever
  }
  const surface = quadratic(grey.height, grey.width);
  return map(grey, (_, i) => clip(dot(surface(i), coefficients)));
}

/** Ink stretched to 255 on a ground of exactly 0, without grain and specks. */
function removeNoise(ink) {
  let {level, grain} = inkAndGrain(ink);
  if (grain > 1) {
    ink = blur(ink, Math.max(BLUR * Math.max(ink.height, ink.width), MIN_BLUR));
    ({level, grain} = inkAndGrain(ink));
  }
  if (level < Math.max(MIN_CONTRAST, MIN_SIGNAL * grain)) throw new BlankPicture();
  const floor = Math.min(Math.max(FLOOR * level, 3 * grain), 0.5 * level);
  const factor = 255 / Math.max(CEILING * level - floor, 1);
  return dropSpecks(map(ink, (v) => clip((v - floor) * factor)));
}

/** Without parts that are tiny beside the largest, and without what comes in from the border. */
function dropSpecks(ink) {
  const {numbers, count} = connectedParts(ink);
  let mass = new Float64Array(count + 1);
  numbers.forEach((part, i) => (mass[part] += part && ink.data[i]));
  const inner = mass.slice();
  for (const part of border({...ink, data: numbers})) inner[part] = 0;
  if (extremes(inner).high >= 0.1 * extremes(mass).high) mass = inner;
  const least = SPECK * extremes(mass).high;
  return map(ink, (v, i) => (numbers[i] && mass[numbers[i]] >= least ? v : 0));
}

/** Numbers from 1 for the parts of the ink that hang together, diagonals included; 0 on the ground. */
function connectedParts({height, width, data}) {
  const numbers = new Int32Array(height * width);
  const waiting = [];
  let count = 0;
  for (let start = 0; start < data.length; start++) {
    if (!(data[start] > 0) || numbers[start]) continue;
    numbers[start] = ++count;
    waiting.push(start);
    while (waiting.length) {
      const place = waiting.pop();
      const [y, x] = [Math.floor(place / width), place % width];
      for (let i = Math.max(y - 1, 0); i <= Math.min(y + 1, height - 1); i++) {
        for (let j = Math.max(x - 1, 0); j <= Math.min(x + 1, width - 1); j++) {
          const next = i * width + j;
          if (data[next] > 0 && !numbers[next]) {
            numbers[next] = count;
            waiting.push(next);
          }
        }
      }
    }
  }
  return {numbers, count};
}

/** The bounding box of what is clearly ink. */
function cropToInk(ink) {
  let [top, bottom, left, right] = [ink.height, -1, ink.width, -1];
  ink.data.forEach((v, i) => {
    if (v <= EDGE * 255) return;
    const [y, x] = [Math.floor(i / ink.width), i % ink.width];
    [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
    [left, right] = [Math.min(left, x), Math.max(right, x)];
  });
  if (bottom < 0) throw new BlankPicture();
  const out = plane(bottom - top + 1, right - left + 1);
  for (let y = 0; y < out.height; y++) {
    const from = (top + y) * ink.width + left;
    out.data.set(ink.data.subarray(from, from + out.width), y * out.width);
  }
  return out;
}

/** Widen strokes that would be thinner than MNIST's thinnest once the digit is scaled to the box. */
function thickenStrokes(ink, [boxHeight, boxWidth]) {
  const scale = Math.min(boxHeight / ink.height, boxWidth / ink.width);
  const grow = roundHalfEven((THIN / scale - strokeWidth(ink)) / 2);
  if (grow <= 0) return ink;
  const size = [ink.height + 2 * grow, ink.width + 2 * grow];
  return slidingMaximum(paste(ink, size, [grow, grow]), 2 * grow + 1);
}

/** The mean width of the strokes in pixels: twice their area by the length of their outline. */
function strokeWidth({height, width, data}) {
  const at = (y, x) => (y < 0 || x < 0 || y >= height || x >= width ? 0 : data[y * width + x]);
  let outline = 0;
  for (let y = -1; y < height; y++) {
    for (let x = -1; x < width; x++) {
      const here = at(y, x);
      outline += Math.sqrt((at(y + 1, x) - here) ** 2 + (at(y, x + 1) - here) ** 2);
    }
  }
  return (2 * sum(data)) / Math.max(outline, 1e-9);
}

/** The box that digits fill on a picture: 20x20 on 28x28. */
function boxFor(size) {
  return size.map((side) => Math.max(roundHalfEven((side * 20) / 28), 1));
}

/** Scale so that the digit just fits into the box, smoothed, aspect kept, the ink bright again. */
function scaleToBox(ink, [boxHeight, boxWidth]) {
  const scale = Math.min(boxHeight / ink.height, boxWidth / ink.width);
  const size = [ink.height, ink.width].map((side) => Math.max(roundHalfEven(side * scale), 1));
  const scaled = map(resize(ink, size), (v) => Math.max(v, 0));
  const drawn = scaled.data.filter((v) => v > 16);
  const bright = drawn.length ? percentile(drawn, BRIGHT) : 255;
  return map(scaled, (v) => clip(v * (255 / bright)));
}

/** Paste on a ground of 0, shifted by whole pixels so that the centre of mass sits in the middle. */
function centreByMass(ink, [height, width]) {
  let [total, down, across] = [0, 0, 0];
  ink.data.forEach((v, i) => {
    total += v;
    down += v * Math.floor(i / ink.width);
    across += v * (i % ink.width);
  });
  total = Math.max(total, 1e-9);
  const corner = (full, side, centre) =>
    Math.min(Math.max(roundHalfEven(full / 2 - centre), 0), full - side);
  return paste(
    ink, [height, width], [corner(height, ink.height, down / total), corner(width, ink.width, across / total)],
  );
}

// --- helpers of the steps ----------------------------------------------------------------------------------

function plane(height, width, data = height * width) {
  return {height, width, data: new Float32Array(data)};
}

function map({height, width, data}, change) {
  return {height, width, data: data.map(change)};
}

function clip(value) {
  return Math.min(Math.max(value, 0), 255);
}

function sum(values) {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

function dot(a, b) {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += a[i] * b[i];
  return total;
}

function extremes(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return {low, high};
}

/** To the nearest whole number, halves to the even one, as Python and NumPy round. */
function roundHalfEven(value) {
  const down = Math.floor(value);
  if (value - down !== 0.5) return Math.round(value);
  return down % 2 ? down + 1 : down;
}

/** The value below which a share (0 to 1) of the values lie, interpolated linearly. */
function percentile(values, share) {
  const ordered = Float64Array.from(values).sort();
  const place = share * (ordered.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, ordered.length - 1);
  return ordered[below] + (ordered[above] - ordered[below]) * (place - below);
}

function median(values) {
  return percentile(values, 0.5);
}

/** The values along the border, each once. */
function border({height, width, data}) {
  return data.filter((_, i) => {
    const [y, x] = [Math.floor(i / width), i % width];
    return y === 0 || x === 0 || y === height - 1 || x === width - 1;
  });
}

function paste(ink, [height, width], [top, left]) {
  const out = plane(height, width);
  for (let y = 0; y < ink.height; y++) {
    out.data.set(ink.data.subarray(y * ink.width, (y + 1) * ink.width), (top + y) * width + left);
  }
  return out;
}

function grid(image) {
  return Math.max(image.height, image.width) > GRID_SIDE ? resize(image, fitted(image, GRID_SIDE)) : image;
}

/** [height, width] of a picture once its longer side is `side`. */
function fitted({height, width}, side) {
  const scale = side / Math.max(height, width);
  return [height, width].map((each) => Math.max(roundHalfEven(each * scale), 1));
}

/** The maximum over the square of a width (odd) around every pixel. */
function slidingMaximum(image, width) {
  const radius = (width - 1) / 2;
  return eachWay(image, (data, place, position, stride, length) => {
    let largest = data[place];
    const end = Math.min(radius, length - 1 - position);
    for (let j = -Math.min(radius, position); j <= end; j++) {
      largest = Math.max(largest, data[place + j * stride]);
    }
    return largest;
  });
}

function slidingMinimum(image, width) {
  return map(slidingMaximum(map(image, (v) => -v), width), (v) => -v);
}

/** One pass along the columns and one along the rows, each with what a function finds at every pixel. */
function eachWay({height, width, data}, find) {
  const down = data.map((_, i) => find(data, i, Math.floor(i / width), width, height));
  return {height, width, data: down.map((_, i) => find(down, i, i % width, 1, width))};
}

/** Bicubic interpolation (a = -1/2) whose kernel grows with the factor, so that scaling down averages. */
function resize(image, [height, width]) {
  const {data: source} = image;
  const across = weights(image.width, width);
  const middle = plane(image.height, width);
  for (let y = 0; y < image.height; y++) {
    across.forEach(({first, taps}, x) => {
      let total = 0;
      for (let j = 0; j < taps.length; j++) total += taps[j] * source[y * image.width + first + j];
      middle.data[y * width + x] = total;
    });
  }
  const out = plane(height, width);
  weights(image.height, height).forEach(({first, taps}, y) => {
    for (let x = 0; x < width; x++) {
      let total = 0;
      for (let i = 0; i < taps.length; i++) total += taps[i] * middle.data[(first + i) * width + x];
      out.data[y * width + x] = total;
    }
  });
  return out;
}

/** For each of `size` new pixels the first old one that counts, and how much it and the following do. */
function weights(oldSize, size) {
  if (oldSize === size) return Array.from({length: size}, (_, i) => ({first: i, taps: [1]}));
  const cubic = (x) => {
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((x - 5) * x + 8) * x * -0.5 + 2 : 0;
  };
  const step = oldSize / size;
  const scale = Math.max(step, 1);
  return Array.from({length: size}, (_, i) => {
    const centre = (i + 0.5) * step;
    const first = Math.max(Math.trunc(centre - 2 * scale + 0.5), 0);
    const end = Math.min(Math.trunc(centre + 2 * scale + 0.5), oldSize);
    const taps = Array.from({length: end - first}, (_, j) => cubic(Math.abs((first + j - centre + 0.5) / scale)));
    const total = sum(taps);
    return {first, taps: taps.map((tap) => tap / total)};
  });
}

/** Gaussian blur, as far as three sigma, the border repeated. */
function blur(image, sigma) {
  const radius = Math.max(roundHalfEven(3 * sigma), 1);
  const kernel = Array.from({length: 2 * radius + 1}, (_, i) => Math.exp(-0.5 * ((i - radius) / sigma) ** 2));
  const total = sum(kernel);
  return eachWay(image, (data, place, position, stride, length) => {
    let value = 0;
    for (let j = -radius; j <= radius; j++) {
      const other = Math.min(Math.max(position + j, 0), length - 1);
      value += (kernel[j + radius] / total) * data[place + (other - position) * stride];
    }
    return value;
  });
}

/** A function that gives the terms 1, x, y, xx, xy, yy of a pixel, x and y from -1 to 1. */
function quadratic(height, width) {
  const at = (i, length) => (length > 1 ? (2 * i) / (length - 1) - 1 : -1);
  return (i) => {
    const [y, x] = [at(Math.floor(i / width), height), at(i % width, width)];
    return [1, x, y, x * x, x * y, y * y];
  };
}

/** The coefficients c that make |rows c - values| least, by the normal equations and elimination. */
function leastSquares(rows, values) {
  const n = rows[0].length;
  const matrix = Array.from({length: n}, () => new Float64Array(n + 1));
  rows.forEach((row, i) => {
    for (let a = 0; a < n; a++) {
      for (let b = a; b < n; b++) matrix[a][b] += row[a] * row[b];
      matrix[a][n] += row[a] * values[i];
    }
  });
  matrix.forEach((row, a) => matrix.slice(0, a).forEach((above, b) => (row[b] = above[a])));
  const solved = new Float64Array(n);
  const scale = matrix[0][0];
  const used = [];
  for (let column = 0; column < n; column++) {
    // positive semidefinite, so the diagonal is a pivot; a term that depends on the earlier ones stays 0
    if (!(matrix[column][column] > 1e-12 * scale)) continue;
    used.push(column);
    for (let row = 0; row < n; row++) {
      if (row === column) continue;
      const factor = matrix[row][column] / matrix[column][column];
      for (let k = column; k <= n; k++) matrix[row][k] -= factor * matrix[column][k];
    }
  }
  for (const i of used) solved[i] = matrix[i][n] / matrix[i][i];
  return solved;
}

/** How bright ink typically is, and the standard deviation of the grain on the ground. */
function inkAndGrain(ink) {
  const threshold = otsu(ink.data);
  const above = ink.data.filter((v) => v > threshold);
  const below = ink.data.filter((v) => v <= threshold);
  return {level: above.length ? median(above) : 0, grain: percentile(below, 0.75) / 0.6745};
}

/** The threshold that parts values 0 to 255 best into two classes (Otsu 1979). */
function otsu(values) {
  const counts = new Float64Array(256);
  for (const value of values) counts[Math.floor(value)] += 1;
  const count = sum(counts);
  const total = sum(counts.map((here, i) => here * (i + 0.5)));
  let [below, mass, best, threshold] = [0, 0, -1, 0];
  counts.forEach((here, i) => {
    below += here;
    mass += here * (i + 0.5);
    const above = count - below;
    const gap = (total - mass) / Math.max(above, 1) - mass / Math.max(below, 1);
    const between = below * above * gap ** 2;
    if (between > best) [best, threshold] = [between, i];
  });
  return threshold + 1;
}
