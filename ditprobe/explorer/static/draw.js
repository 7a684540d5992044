// Colours, overlays and marks.

function ramp(stops) {
  const table = new Uint8ClampedArray(256 * 3);
  for (let i = 0; i < 256; i++) {
    const place = i / 255;
    let k = 1;
    while (stops[k][0] < place) k++;
    const [low, high] = [stops[k - 1], stops[k]];
    const part = (place - low[0]) / (high[0] - low[0]);
    for (let c = 0; c < 3; c++) table[3 * i + c] = low[1][c] + part * (high[1][c] - low[1][c]);
  }
  return table;
}

// Dark to light, so that more is lighter on any picture; and two hues that stay apart for people who confuse red and green.
const HEAT = ramp([[0, [88, 24, 140]], [0.3, [196, 40, 110]], [0.6, [246, 118, 32]], [0.85, [255, 214, 84]], [1, [255, 250, 205]]]);
const LESS = [64, 156, 255], MORE = [255, 138, 40];
const VIRIDIS = ramp([[0, [68, 1, 84]], [0.25, [59, 82, 139]], [0.5, [33, 145, 140]], [0.75, [94, 201, 98]], [1, [253, 231, 37]]]);
const MARKS = { source: "#ffffff", match: "#4cc9f0", truth: "#b6f09c", dark: "#10131a" };

function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width));
  canvas.height = Math.max(1, Math.round(height));
  return canvas;
}

// One small canvas for each size: what is drawn in it is copied on at once, and making a canvas takes longer than filling it.
const SMALL = new Map();

function smallCanvas(rows, columns) {
  const key = rows + "x" + columns;
  if (!SMALL.has(key)) {
    const canvas = canvasOf(columns, rows);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    SMALL.set(key, { canvas, context, image: context.createImageData(columns, rows) });
  }
  return SMALL.get(key);
}

// Weights of one frame as a small picture, a pixel for each cell, its alpha by weight; the next call overwrites it.
function overlayOf(values, start, rows, columns, most, { signed = false, root = false } = {}) {
  const { canvas, context, image } = smallCanvas(rows, columns);
  for (let i = 0; i < rows * columns; i++) {
    const value = values[start + i] / (most || 1);
    let part = Math.min(1, Math.abs(value));
    if (root) part = Math.sqrt(part);
    const level = Math.round(255 * part);
    if (signed) {
      const hue = value < 0 ? LESS : MORE;
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = hue[c];
    } else {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = HEAT[3 * level + c];
    }
    image.data[4 * i + 3] = Math.round(235 * part);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function coloursOf(values, start, rows, columns) {
  const { canvas, context, image } = smallCanvas(rows, columns);
  for (let i = 0; i < rows * columns; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = Math.round(255 * values[3 * (start + i) + c]);
    image.data[4 * i + 3] = 225;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// The picture under an overlay, kept at the size at which it was last drawn on a canvas: scaling takes longer than all else.
function keptBase(owner, width, height, picture, dim, cells) {
  const key = [width, height, dim, picture?.src].join();
  if (owner.baseKey !== key) {
    owner.base ??= canvasOf(1, 1);
    owner.base.width = width;
    owner.base.height = height;
    drawBase(owner.base.getContext("2d"), width, height, picture, dim, cells);
    owner.baseKey = key;
  }
  return owner.base;
}

// The picture under an overlay; without images, the cells.
function drawBase(context, width, height, picture, dim, cells) {
  if (picture) {
    const scale = width / picture.naturalWidth;
    context.imageSmoothingEnabled = scale < 3;
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, width, height);
    context.fillStyle = `rgba(12, 14, 22, ${dim})`;
    context.fillRect(0, 0, width, height);
    return;
  }
  context.fillStyle = "#20242e";
  context.fillRect(0, 0, width, height);
  if (width / cells[1] < 5) return;
  context.strokeStyle = "rgba(255, 255, 255, .07)";
  context.lineWidth = 1;
  context.beginPath();
  for (let x = 1; x < cells[1]; x++) { context.moveTo(x * width / cells[1], 0); context.lineTo(x * width / cells[1], height); }
  for (let y = 1; y < cells[0]; y++) { context.moveTo(0, y * height / cells[0]); context.lineTo(width, y * height / cells[0]); }
  context.stroke();
}

// Marks are lists of shapes, so that a canvas and an SVG draw the same ones.
function paintShapes(context, shapes) {
  for (const shape of shapes) {
    context.save();
    context.lineJoin = context.lineCap = "round";
    context.globalAlpha = shape.alpha ?? 1;
    for (const [colour, width] of [[MARKS.dark, shape.width + 2.4], [shape.colour, shape.width]]) {
      context.strokeStyle = context.fillStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      if (shape.kind === "line") shape.points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
      if (shape.kind === "ring" || shape.kind === "disc") context.arc(shape.x, shape.y, shape.radius, 0, 2 * Math.PI);
      if (shape.kind === "box") context.rect(shape.x, shape.y, shape.w, shape.h);
      if (shape.kind === "cross") {
        const r = shape.radius;
        context.moveTo(shape.x - r, shape.y - r); context.lineTo(shape.x + r, shape.y + r);
        context.moveTo(shape.x + r, shape.y - r); context.lineTo(shape.x - r, shape.y + r);
      }
      context.stroke();
      if (shape.kind === "disc" && colour !== MARKS.dark) context.fill();
    }
    context.restore();
  }
}

function svgShapes(shapes) {
  const round = (value) => Math.round(value * 100) / 100;
  return shapes.map((shape) => [[MARKS.dark, shape.width + 2.4], [shape.colour, shape.width]].map(([colour, width]) => {
    const style = `stroke="${colour}" stroke-width="${round(width)}" stroke-linejoin="round" stroke-linecap="round" ` +
      `fill="${shape.kind === "disc" && colour !== MARKS.dark ? colour : "none"}" opacity="${shape.alpha ?? 1}"`;
    if (shape.kind === "line") return `<polyline ${style} points="${shape.points.map((p) => p.map(round).join(",")).join(" ")}"/>`;
    if (shape.kind === "box") return `<rect ${style} x="${round(shape.x)}" y="${round(shape.y)}" width="${round(shape.w)}" height="${round(shape.h)}"/>`;
    if (shape.kind === "cross") {
      const [x, y, r] = [shape.x, shape.y, shape.radius];
      return `<path ${style} d="M${round(x - r)} ${round(y - r)}L${round(x + r)} ${round(y + r)}M${round(x + r)} ${round(y - r)}L${round(x - r)} ${round(y + r)}"/>`;
    }
    return `<circle ${style} cx="${round(shape.x)}" cy="${round(shape.y)}" r="${round(shape.radius)}"/>`;
  }).join("")).join("\n");
}

function percent(share) {
  const value = 100 * share;
  if (value > 0 && value < 0.001) return "< 0.001 %";
  return (Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3))) + " %";
}

// A difference of shares, in percentage points.
function points(difference) {
  const value = Number((100 * Math.abs(difference)).toPrecision(3));
  return `${difference < 0 ? "−" : "+"}${value} pp`;
}
