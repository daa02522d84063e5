// What is on the paper goes through the network, and everything it does is shown.

const DIFFERENCE_ALLOWED = 1e-4;
const NAMES = {
  conv2d: "Convolution", dense: "Dense", max_pool2d: "Max-pool", avg_pool2d: "Average pool", zero_pad2d: "Zeros around",
  global_avg_pool: "Global average", relu: "ReLU", leaky_relu: "leaky ReLU", gelu: "GELU",
};
const byId = (id) => document.getElementById(id);

const network = openNetwork();
const size = [network.input.height, network.input.width];
const surface = new Surface(byId("paper"), size, (settled) => schedule(settled));
const bars = network.classes.map(newBar);
const rows = newRows();
let scheduled = false;
let lightUp = false;
let lookTime = 0;
let complaint = "";
let speaking = 0;
let nextExample = Math.floor(Math.random() * network.examples.length);
let lastTensors = null;

/** The model with its weights in place: each parameter a view into one array. */
function openNetwork() {
  const model = JSON.parse(byId("model").textContent);
  const values = new Float32Array(bytesOf(byId("weights").textContent).buffer);
  let next = 0;
  for (const layer of model.layers) {
    for (const [name, count] of Object.entries(layer.parameters)) {
      layer.parameters[name] = values.subarray(next, (next += count));
    }
  }
  for (const example of model.examples) example.pixels = bytesOf(example.pixels);
  return model;
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}

/** Look at the paper soon, however often it changes until then; on a slow phone half of the time is the pen's. */
function schedule(settled) {
  lightUp ||= settled;
  if (scheduled) return;
  scheduled = true;
  setTimeout(() => {
    const started = performance.now();
    scheduled = false;
    look();
    lightUp = false;
    lookTime = performance.now() - started;
  }, lookTime);
}

function look() {
  byId("hint").hidden = !surface.empty;
  byId("undo").disabled = byId("clear").disabled = surface.empty;
  const grey = surface.grey();
  if (!grey) {
    showNothing(complaint);
    complaint = "";
    return;
  }
  try {
    const {pixels, notes} = readPicture(grey, size);
    showReading(pixels, notes);
  } catch (error) {
    if (!(error instanceof BlankPicture)) throw error;
    showNothing("Nothing stands out on this picture.");
  }
}

function showReading(pixels, notes) {
  const tensors = forward(network, pixels);
  const probabilities = tensors.at(-1).data;
  const best = probabilities.indexOf(Math.max(...probabilities));
  const name = network.classes[best];
  showSeen(pixels);
  showAnswer(name, `${percent(probabilities[best])} certain`);
  probabilities.forEach((share, i) => showBar(bars[i], share, i === best));
  byId("notes").textContent = surface.picture ? notes.join("; ") : "";
  showMaps(tensors);
  say(`Reads ${name}, ${Math.round(100 * probabilities[best])} percent certain.`);
}

function showNothing(reason) {
  showSeen(new Uint8Array(size[0] * size[1]));
  showAnswer("?", reason);
  byId("answer").classList.add("unknown");
  for (const bar of bars) showBar(bar, 0, false);
  byId("notes").textContent = "";
  showMaps(null);
  say(reason);
}

function showAnswer(name, certainty) {
  byId("answer").textContent = name;
  byId("answer").className = name.length > 2 ? "answer name" : "answer";
  byId("certainty").textContent = certainty;
}

/** To screen readers, once the hand rests. */
function say(text) {
  clearTimeout(speaking);
  speaking = setTimeout(() => (byId("spoken").textContent = text), 600);
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

// --- probabilities -----------------------------------------------------------------------------------------

function newBar(name) {
  const item = newElement("li");
  const label = newElement("span", "name", name);
  const track = newElement("span", "track");
  const fill = newElement("span", "fill");
  const share = newElement("span", "share");
  track.append(fill);
  item.append(label, track, share);
  byId("bars").append(item);
  return {item, fill, share};
}

function showBar({item, fill, share}, probability, best) {
  item.classList.toggle("best", best);
  fill.style.width = `${100 * probability}%`;
  share.textContent = percent(probability);
}

function newElement(tag, className = "", text = "") {
  return Object.assign(document.createElement(tag), {className, textContent: text});
}

// --- pictures of what the network sees and does ------------------------------------------------------------

function showSeen(pixels) {
  const canvas = byId("seen");
  [canvas.height, canvas.width] = size;
  canvas.getContext("2d").drawImage(pictureOf(pixels, size).image, 0, 0);
}

/** One row for each layer that changes the shape; what follows it without doing so is named with it. */
function newRows() {
  const found = [];
  network.layers.forEach((layer, index) => {
    const before = index ? network.layers[index - 1].output : null;
    const same = before && String(before) === String(layer.output);
    if (found.length && (same || layer.kind === "flatten")) {
      if (layer.kind !== "flatten") found.at(-1).names.push(nameOf(layer));
      if (same) found.at(-1).tensor = index + 1;
    } else if (layer.kind !== "flatten") {
      found.push({names: [nameOf(layer)], tensor: index + 1, shape: layer.output});
    }
  });
  return found.map((row) => ({...row, ...newRow(row)}));
}

function nameOf(layer) {
  const kernel = layer.kernel_size ? ` ${layer.kernel_size.join("\u00d7")}` : "";
  return (NAMES[layer.kind] ?? layer.kind.replaceAll("_", " ")) + kernel;
}

function newRow({names, shape}) {
  const item = newElement("li");
  const isImage = shape.length === 3;
  const what = isImage
    ? `${shape[0]} ${shape[0] === 1 ? "map" : "maps"} of ${shape[1]}\u00d7${shape[2]}`
    : `${shape[0]} numbers`;
  const maps = newElement("div", isImage ? "maps" : "maps strip");
  const canvases = Array.from({length: isImage ? shape[0] : 1}, () => newMap(shape));
  maps.setAttribute("role", "img");
  maps.setAttribute("aria-label", `${names.join(" and ")}: ${what}`);
  maps.append(...canvases);
  item.append(newElement("h3", "", names.join(" + ")), newElement("span", "quiet", what), maps);
  byId("layers").append(item);
  return {item, canvases};
}

function newMap(shape) {
  const canvas = newElement("canvas");
  if (shape.length === 3) {
    [canvas.height, canvas.width] = shape.slice(1);
  } else {
    canvas.width = Math.min(shape[0], 32);
    canvas.height = Math.ceil(shape[0] / canvas.width);
  }
  canvas.style.setProperty("--cells", canvas.width);
  return canvas;
}

function showMaps(tensors) {
  lastTensors = tensors;
  const colours = mapColours();
  rows.forEach(({canvases, tensor, item}, order) => {
    const values = tensors ? tensors[tensor].data : null;
    const largest = values ? values.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-9) : 1;
    let first = 0;
    for (const canvas of canvases) {
      const context = canvas.getContext("2d");
      const pixels = context.createImageData(canvas.width, canvas.height);
      const count = Math.min(canvas.width * canvas.height, (values?.length ?? 0) - first);
      for (let i = 0; i < count; i++) {
        const strength = Math.abs(values[first + i]) / largest;
        pixels.data.set(colours[Math.round(strength * (colours.length - 1))], 4 * i);
      }
      context.putImageData(pixels, 0, 0);
      first += count;
    }
    if (tensors && lightUp) animateRow(item, order);
  });
}

/** 256 colours from the style's three, as red, green, blue, opacity. */
function mapColours() {
  const style = getComputedStyle(document.documentElement);
  const [low, middle, high] = ["low", "middle", "high"].map((name) => {
    const hex = style.getPropertyValue(`--map-${name}`).trim();
    return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  });
  return Array.from({length: 256}, (_, i) => {
    const [from, to, share] = i < 128 ? [low, middle, i / 128] : [middle, high, (i - 128) / 127];
    return [...from.map((v, k) => Math.round(v + (to[k] - v) * share)), 255];
  });
}

function animateRow(item, order) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  item.lastChild.animate([{opacity: 0.1}, {opacity: 1}], {duration: 260, delay: 90 * order, fill: "backwards"});
}

// --- what a person can do ----------------------------------------------------------------------------------

async function openFile(file) {
  try {
    const {image, grey} = await openPicture(file, size);
    surface.show(image, grey);
  } catch {
    complaint = "This file cannot be read as a picture.";
    surface.clear();
  }
}

function showNextExample() {
  const {image, grey} = pictureOf(network.examples[nextExample].pixels, size);
  nextExample = (nextExample + 1) % network.examples.length;
  surface.show(image, grey);
}

function listen() {
  byId("clear").addEventListener("click", () => surface.clear());
  byId("undo").addEventListener("click", () => surface.undo());
  byId("example").addEventListener("click", showNextExample);
  byId("open").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", ({target}) => {
    if (target.files.length) openFile(target.files[0]);
    target.value = "";
  });
  addEventListener("paste", ({clipboardData}) => {
    if (clipboardData.files.length) openFile(clipboardData.files[0]);
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    byId("frame").classList.add("dropping");
  });
  for (const end of ["dragleave", "drop"]) {
    addEventListener(end, () => byId("frame").classList.remove("dropping"));
  }
  addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) openFile(event.dataTransfer.files[0]);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    surface.paint();
    showMaps(lastTensors);
  });
}

/** Compare this page's arithmetic with the engine's answers that came along. */
function prove() {
  let largest = 0;
  for (const {pixels, probabilities} of network.examples) {
    const ours = forward(network, pixels).at(-1).data;
    probabilities.forEach((p, i) => (largest = Math.max(largest, Math.abs(p - ours[i]))));
  }
  const agrees = largest <= DIFFERENCE_ALLOWED;
  byId("proof").className = agrees ? "" : "warning";
  byId("proof").textContent = agrees
    ? `Checked just now on ${network.examples.length} pictures: this page and the engine that trained the ` +
      `network agree within ${largest.toExponential(0)}.`
    : `This page differs from the engine that trained the network by ${largest.toPrecision(2)}: do not trust it.`;
}

byId("example").hidden = !network.showExamples;
byId("facts").textContent =
  `${network.name}: ${network.size.toLocaleString("en")} weights, trained with mnistnet.`;
listen();
look();
prove();
