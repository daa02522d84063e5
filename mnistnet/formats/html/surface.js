// The paper: strokes of a mouse, a finger, a pen or the keyboard, or a picture that was dropped on it.
// Points are shares of the paper's width and height, so a stroke is as sharp on any screen.

const PEN = 0.085;
const BITMAP_SIDE = 168;
const KEY_STEP = 1 / 28;
const MOST_PIXELS = 2 ** 24;
const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

class Surface {
  /** Calls changed(settled) whenever there is something else on the paper; settled is false within a stroke. */
  constructor(canvas, [height, width], changed) {
    this.canvas = canvas;
    this.aspect = height / width;
    this.changed = changed;
    this.strokes = [];
    this.picture = null;
    this.stroke = null;
    this.cursor = {x: 0.5, y: 0.5, shown: false};
    this.held = new Set();
    canvas.style.aspectRatio = `${width} / ${height}`;
    canvas.addEventListener("pointerdown", (event) => this.pointerDown(event));
    canvas.addEventListener("pointermove", (event) => this.pointerMove(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => this.lift());
    canvas.addEventListener("keydown", (event) => this.keyDown(event));
    canvas.addEventListener("keyup", (event) => this.held.delete(event.key));
    canvas.addEventListener("blur", () => this.leave());
    new ResizeObserver(() => this.paint()).observe(canvas);
  }

  get empty() {
    return !this.strokes.length && !this.picture;
  }

  clear() {
    [this.strokes, this.picture, this.stroke] = [[], null, null];
    this.tell(true);
  }

  undo() {
    if (!this.strokes.length) return this.clear();
    this.strokes.pop();
    this.stroke = null;
    this.tell(true);
  }

  /** Put a picture on the paper: what to show, and its grey bytes {height, width, data}. */
  show(image, grey) {
    [this.strokes, this.stroke, this.picture] = [[], null, {image, grey}];
    this.tell(true);
  }

  /** What is on the paper as grey bytes; null when it is empty. */
  grey() {
    if (this.picture) return this.picture.grey;
    if (this.empty) return null;
    const scale = BITMAP_SIDE / Math.max(this.aspect, 1);
    const context = newContext(Math.round(scale), Math.round(scale * this.aspect), "black");
    this.drawStrokes(context, "white");
    return greyOf(context);
  }

  tell(settled) {
    this.paint();
    this.changed(settled);
  }

  begin(point) {
    this.picture = null;
    this.stroke = [point];
    this.strokes.push(this.stroke);
    this.tell(false);
  }

  lift() {
    if (!this.stroke) return;
    this.stroke = null;
    this.tell(true);
  }

  pointerDown(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.cursor.shown = false;
    this.begin(this.pointOf(event));
  }

  pointerMove(event) {
    if (!this.stroke || !event.isPrimary || this.cursor.shown) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) this.stroke.push(this.pointOf(each));
    this.tell(false);
  }

  pointOf(event) {
    const box = this.canvas.getBoundingClientRect();
    return {x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height};
  }

  keyDown(event) {
    const withControl = event.ctrlKey || event.metaKey;
    if (event.altKey || (withControl && event.key !== "z")) return;
    if (event.key in ARROWS) {
      this.held.add(event.key);
      this.moveCursor();
    } else if (event.key === " " || event.key === "Enter") {
      this.cursor.shown = true;
      if (event.repeat) event.preventDefault();
      else if (this.stroke) this.lift();
      else this.begin({x: this.cursor.x, y: this.cursor.y});
    } else if (event.key === "Escape") {
      this.lift();
    } else if (event.key === "Delete") {
      this.clear();
    } else if (event.key === "Backspace" || withControl) {
      this.undo();
    } else {
      return;
    }
    event.preventDefault();
  }

  moveCursor() {
    const inside = (value) => Math.min(Math.max(value, 0), 1);
    for (const key of this.held) {
      this.cursor.x = inside(this.cursor.x + ARROWS[key][0] * KEY_STEP);
      this.cursor.y = inside(this.cursor.y + ARROWS[key][1] * KEY_STEP);
    }
    this.cursor.shown = true;
    if (!this.stroke) return this.paint();
    this.stroke.push({x: this.cursor.x, y: this.cursor.y});
    this.tell(false);
  }

  leave() {
    this.held.clear();
    this.cursor.shown = false;
    this.lift();
    this.paint();
  }

  /** Draw everything anew, in the colours of the day and as fine as the screen is. */
  paint() {
    const {canvas} = this;
    const width = Math.round(canvas.clientWidth * devicePixelRatio);
    const height = Math.round(canvas.clientHeight * devicePixelRatio);
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    context.clearRect(0, 0, width, height);
    if (this.picture) drawContained(context, this.picture.image);
    this.drawStrokes(context, style.getPropertyValue("--ink"));
    if (this.cursor.shown) this.drawCursor(context, style.getPropertyValue("--accent"));
  }

  drawStrokes(context, colour) {
    const {width, height} = context.canvas;
    context.strokeStyle = colour;
    context.lineWidth = PEN * Math.min(width, height);
    context.lineCap = context.lineJoin = "round";
    for (const stroke of this.strokes) {
      const points = stroke.map(({x, y}) => [x * width, y * height]);
      context.beginPath();
      context.moveTo(...points[0]);
      for (let i = 1; i < points.length - 1; i++) {
        // through the middles: a corner for every event would show
        const [[x, y], [nextX, nextY]] = [points[i], points[i + 1]];
        context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
      }
      context.lineTo(...points.at(-1));
      context.stroke();
    }
  }

  drawCursor(context, colour) {
    const {width, height} = context.canvas;
    const [x, y, radius] = [this.cursor.x * width, this.cursor.y * height, (PEN / 2) * Math.min(width, height)];
    context.strokeStyle = context.fillStyle = colour;
    context.lineWidth = 2 * devicePixelRatio;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
    if (this.stroke) context.fill();
  }
}

/** A picture file as {image, grey}: upright, on white where it is transparent. Throws what the browser throws. */
async function openPicture(file, [height, width]) {
  if (file.name?.toLowerCase().endsWith(".bin")) {
    const data = new Uint8Array(await file.arrayBuffer());
    if (data.length !== height * width) throw new Error(`expected ${height * width} bytes`);
    return pictureOf(data, [height, width]);
  }
  const image = await createImageBitmap(file, {colorSpaceConversion: "none"});
  const shrink = Math.min(Math.sqrt(MOST_PIXELS / (image.width * image.height)), 1);
  const size = [image.width, image.height].map((side) => Math.max(Math.floor(side * shrink), 1));
  const context = newContext(...size, "white");
  context.drawImage(image, 0, 0, ...size);
  return {image, grey: greyOf(context)};
}

/** Grey bytes by rows as {image, grey}. */
function pictureOf(data, [height, width]) {
  const context = newContext(width, height, "black");
  const pixels = context.createImageData(width, height);
  data.forEach((v, i) => pixels.data.set([v, v, v, 255], 4 * i));
  context.putImageData(pixels, 0, 0);
  return {image: context.canvas, grey: {height, width, data}};
}

function newContext(width, height, ground) {
  const canvas = Object.assign(document.createElement("canvas"), {width, height});
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.fillStyle = ground;
  context.fillRect(0, 0, width, height);
  return context;
}

/** Luma as Pillow works it out (ITU-R 601-2). */
function greyOf(context) {
  const {width, height} = context.canvas;
  const {data} = context.getImageData(0, 0, width, height);
  const grey = new Uint8Array(width * height);
  for (let i = 0; i < grey.length; i++) {
    grey[i] = (data[4 * i] * 19595 + data[4 * i + 1] * 38470 + data[4 * i + 2] * 7471 + 0x8000) >> 16;
  }
  return {height, width, data: grey};
}

function drawContained(context, image) {
  const {width, height} = context.canvas;
  const scale = Math.min(width / image.width, height / image.height);
  const [w, h] = [image.width * scale, image.height * scale];
  context.imageSmoothingEnabled = scale < 2;
  context.drawImage(image, (width - w) / 2, (height - h) / 2, w, h);
}
