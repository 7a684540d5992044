"use strict";
// What every view of a page uses: elements, colours, arrays out of their bytes, players, and figures drawn when they are near.

function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

function svg(name, attributes = {}, text = null) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  return element;
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);
const INK = "#1f2430", SOFT = "#5b6270", ACCENT = "#0072b2", MARK = "#d55e00";
const still = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

function rampOf(stops) {
  const table = new Uint8Array(256 * 3);
  for (let i = 0; i < 256; i++) {
    const place = i / 255 * (stops.length - 1), k = Math.min(stops.length - 2, Math.floor(place)), part = place - k;
    for (let c = 0; c < 3; c++) {
      const [low, high] = [stops[k], stops[k + 1]].map((colour) => parseInt(colour.slice(1 + 2 * c, 3 + 2 * c), 16));
      table[3 * i + c] = Math.round(low + part * (high - low));
    }
  }
  return table;
}
const VIRIDIS = rampOf(["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"]);
// Opacity by weight over the picture: the scene stays what it is where nothing is looked at.
const HEAT = rampOf(["#58188c", "#8e2080", "#c4286e", "#dd4f47", "#f67620", "#faa53a", "#ffd654", "#fff0a9", "#fffacd"]);

function colourAt(ramp, part) {
  const i = 3 * Math.round(255 * clamp(part, 0, 1));
  return [ramp[i], ramp[i + 1], ramp[i + 2]];
}

// Black or white, whichever has the higher contrast by WCAG's relative luminance.
function inkOn(rgb) {
  const [r, g, b] = rgb.map((part) => { const v = part / 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
  const luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
  return (luminance + 0.05) ** 2 >= 1.05 * 0.05 ? "#000" : "#fff";
}

// Whole numbers of two bytes, or of one, times a scale.
function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed.bytes), (letter) => letter.charCodeAt(0));
  const whole = packed.kind === "i2" ? new Int16Array(bytes.buffer) : bytes;
  return { shape: packed.shape, values: Float32Array.from(whole, (value) => value * packed.scale) };
}

// A canvas as sharp as the screen; returns its context in CSS pixels.
function sharp(canvas, width, height) {
  const density = window.devicePixelRatio || 1;
  const [w, t] = [Math.max(1, Math.round(width * density)), Math.max(1, Math.round(height * density))];
  if (canvas.width !== w || canvas.height !== t) { canvas.width = w; canvas.height = t; }
  const context = canvas.getContext("2d");
  context.setTransform(density, 0, 0, density, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

function cellsPicture(rows, columns, colourOf) {
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) image.data.set(colourOf(i), 4 * i);
  context.putImageData(image, 0, 0);
  return canvas;
}

function pictures(sources, done) {
  return sources.map((source) => {
    const picture = new Image();
    picture.onload = done;
    picture.src = source;
    return picture;
  });
}

function drawPicture(context, picture, width, height) {
  if (!picture.complete || !picture.naturalWidth) return;
  context.imageSmoothingEnabled = width / picture.naturalWidth < 3;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, width, height);
}

// A button that plays, a slider that the keyboard reaches, and the number of what is shown.
function player(labels, perSecond, show, { start = 0, name = "image" } = {}) {
  let now = start, timer = null, rounds = 0;
  const button = h("button", { type: "button", class: "play", "aria-label": "Play", onclick: () => (timer ? stop() : play(Infinity)) }, "▶");
  const slider = h("input", { type: "range", min: 0, max: labels.length - 1, value: start, "aria-label": name,
    oninput: () => { stop(); go(Number(slider.value)); } });
  const told = h("output");
  function go(place) {
    now = place;
    slider.value = place;
    told.textContent = `${name} ${labels[place]}`;
    slider.setAttribute("aria-valuetext", told.textContent);
    show(place);
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    button.textContent = "▶";
    button.setAttribute("aria-label", "Play");
  }
  function play(times) {
    if (labels.length < 2 || timer) return;
    rounds = times * labels.length;
    button.textContent = "❚❚";
    button.setAttribute("aria-label", "Pause");
    timer = setInterval(() => { if (rounds-- <= 0) stop(); else go((now + 1) % labels.length); }, 1000 / perSecond);
  }
  const element = h("div", { class: "player" }, button, slider, told);
  if (labels.length < 2) element.hidden = true;
  return { element, go, stop, play, redraw: () => show(now), get now() { return now; } };
}

// A slider over some labels, hidden if there is one alone.
function chooser(name, labels, start, chosen) {
  const told = h("output", {}, labels[start]);
  const slider = h("input", { type: "range", min: 0, max: labels.length - 1, value: start, "aria-label": name, "aria-valuetext": labels[start],
    oninput: () => { told.textContent = labels[slider.value]; slider.setAttribute("aria-valuetext", told.textContent); chosen(Number(slider.value)); } });
  return h("label", { class: "chooser", hidden: labels.length < 2 }, h("span", {}, name), slider, told);
}

function whenNear(element, act, margin = "500px") {
  const observer = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) { observer.disconnect(); act(); }
  }, { rootMargin: margin });
  observer.observe(element);
}

const whenResized = (element, act) => new ResizeObserver(() => act()).observe(element);

// Figures of plotly: those near the screen first, the others when the browser has nothing else to do; all before printing.
const whenIdle = (act) => setTimeout(act, 100);

// plotly.js takes a second to read, so it waits until the first figure is drawn.
function needPlotly() {
  if (window.Plotly) return;
  document.head.append(h("script", {}, document.getElementById("plotly").textContent));
}

function drawFigure(place) {
  if (place.dataset.drawn) return;
  place.dataset.drawn = "1";
  needPlotly();
  const source = place.querySelector("script"), figure = JSON.parse(source.textContent);
  source.remove();
  Plotly.newPlot(place, figure.data, figure.layout, figure.config).then(() => { if (figure.frames) return Plotly.addFrames(place, figure.frames); });
}

function drawFigures() {
  const places = [...document.querySelectorAll(".lazy-figure")];
  const folded = (place) => place.closest("details:not([open])");
  for (const place of places) whenNear(place, () => { if (!folded(place)) drawFigure(place); });
  document.querySelectorAll("details").forEach((fold) => fold.addEventListener("toggle", () => {
    if (fold.open) fold.querySelectorAll(".lazy-figure").forEach(drawFigure);
  }));
  const next = () => {
    const place = places.find((each) => !each.dataset.drawn && !folded(each));
    if (place) { drawFigure(place); whenIdle(next); }
  };
  window.addEventListener("load", () => whenIdle(next));
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((fold) => { fold.open = true; });
    places.forEach(drawFigure);
  });
}

// Tables are copied as they are read.
function copyTables() {
  const cells = (table) => Array.from(table.rows, (row) => Array.from(row.cells, (cell) => cell.textContent.trim().replace(/\s+/g, " ")));
  const texts = {
    tsv: (rows) => rows.map((row) => row.join("\t")).join("\n") + "\n",
    markdown: (rows) => {
      const lines = rows.map((row) => "| " + row.map((cell) => cell.replace(/\|/g, "\\|")).join(" | ") + " |");
      lines.splice(1, 0, "|" + rows[0].map(() => " --- |").join(""));
      return lines.join("\n") + "\n";
    },
    latex: (rows) => {
      const plain = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" };
      const written = (cell) => cell.replace(/[\\~^&%$#_{}]/g, (sign) => plain[sign] || "\\" + sign);
      const lines = rows.map((row) => "  " + row.map(written).join(" & ") + " \\\\");
      return ["\\begin{tabular}{l" + "r".repeat(rows[0].length - 1) + "}", "  \\toprule", lines[0], "  \\midrule", ...lines.slice(1),
        "  \\bottomrule", "\\end{tabular}", ""].join("\n");
    },
  };
  const fallback = (text) => {
    const area = h("textarea", { style: "position:fixed;opacity:0" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done ? Promise.resolve() : Promise.reject(new Error("copying is not allowed here"));
  };
  const copy = (text) => (navigator.clipboard ? navigator.clipboard.writeText(text).catch(() => fallback(text)) : fallback(text));
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const before = button.textContent;
    const say = (text) => { button.textContent = text; setTimeout(() => { button.textContent = before; }, 1400); };
    copy(texts[button.dataset.copy](cells(document.getElementById(button.dataset.table)))).then(() => say("Copied"), () => say("Could not copy"));
  });
}
