// Flows of attention: how far what a cell shows has moved, as colours and as arrows, over frames, layers and steps.

// The wheel of optical flow (Baker et al., 2011): the hue is the direction, the saturation the length.
const WHEEL = (() => {
  const found = [], colour = [1, 0, 0];
  for (const [count, channel, rises] of [[15, 1, true], [6, 0, false], [4, 2, true], [11, 1, false], [13, 0, true], [6, 2, false]]) {
    for (let i = 0; i < count; i++) { const c = [...colour]; c[channel] = rises ? i / count : 1 - i / count; found.push(c); }
    colour[channel] = rises ? 1 : 0;
  }
  return found;
})();

function flowColour(dx, dy, rim) {
  const turn = 2 * Math.PI, angle = ((Math.atan2(dy, dx) % turn) + turn) % turn;
  const place = angle / turn * (WHEEL.length - 1), below = Math.floor(place), part = place - below;
  const length = Math.hypot(dx, dy) / rim;
  return [0, 1, 2].map((c) => {
    const hue = (1 - part) * WHEEL[below][c] + part * WHEEL[(below + 1) % WHEEL.length][c];
    return Math.floor(255 * (length <= 1 ? 1 - length * (1 - hue) : 0.75 * hue));
  });
}

function wheelPicture(rim) {
  const side = 120, canvas = cellsPicture(side, side, (i) => {
    const [x, y] = [(i % side + 0.5) / side * 2 - 1, (Math.floor(i / side) + 0.5) / side * 2 - 1];
    return Math.hypot(x, y) > 1 ? [255, 255, 255, 0] : [...flowColour(x * rim, y * rim, rim), 255];
  });
  canvas.className = "wheel";
  return h("figure", { class: "wheel" }, canvas, h("figcaption", {}, `rim: ${Number(rim.toPrecision(3))} cells; darker: farther`));
}

// A panel: a picture, colours of a flow or both, arrows, and a cell under the pointer in all panels.
function panel(title, width, height, paint, hover) {
  const canvas = h("canvas", { role: "img", "aria-label": title });
  canvas.style.aspectRatio = `${width} / ${height}`;
  const caption = h("figcaption", {}, title);
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    hover([clamp((event.clientX - box.left) / box.width, 0, 0.9999), clamp((event.clientY - box.top) / box.height, 0, 0.9999)]);
  });
  canvas.addEventListener("pointerleave", () => hover(null));
  return { element: h("figure", {}, caption, canvas), caption,
    draw() { const w = canvas.clientWidth; if (w) { const t = w * height / width; paint(sharp(canvas, w, t), w, t); } } };
}

function drawColours(c, w, t, vectors, rows, columns, rim, alpha = 255) {
  const picture = cellsPicture(rows, columns, (i) => [...flowColour(vectors[2 * i], vectors[2 * i + 1], rim), alpha]);
  c.imageSmoothingEnabled = false;
  c.drawImage(picture, 0, 0, w, t);
}

function drawArrows(c, w, t, vectors, rows, columns) {
  const [cw, ct] = [w / columns, t / rows], every = Math.max(1, Math.ceil(Math.max(rows, columns) / 24));
  for (const [colour, thick] of [["#10131a", 3.4], ["#ffd23f", 1.6]]) {
    c.strokeStyle = c.fillStyle = colour;
    c.lineWidth = thick;
    c.lineCap = "round";
    c.beginPath();
    for (let y = 0; y < rows; y += every) for (let x = 0; x < columns; x += every) {
      const i = 2 * (y * columns + x), [dx, dy] = [vectors[i] * cw, vectors[i + 1] * ct], [a, b] = [(x + 0.5) * cw, (y + 0.5) * ct];
      const length = Math.hypot(dx, dy);
      if (length < 1) { c.moveTo(a + 0.01, b); c.lineTo(a, b); continue; }
      const head = Math.min(6, 0.5 * length), turn = Math.atan2(dy, dx);
      c.moveTo(a, b);
      c.lineTo(a + dx, b + dy);
      for (const side of [2.6, -2.6]) { c.moveTo(a + dx, b + dy); c.lineTo(a + dx + head * Math.cos(turn + side), b + dy + head * Math.sin(turn + side)); }
    }
    c.stroke();
  }
}

function markCell(c, w, t, rows, columns, x, y) {
  const [cw, ct] = [w / columns, t / rows];
  for (const [colour, thick] of [["#10131a", 4], ["#fff", 2]]) { c.strokeStyle = colour; c.lineWidth = thick; c.strokeRect(x * cw, y * ct, cw, ct); }
}

const steady = (value) => (Math.abs(value) < 0.005 ? "0" : value.toFixed(2));

// One clip: the flow from a frame to any other, the frame that it leads to, and sliders over frames, layers and steps.
function flowView(root, data) {
  const { width, height, layers, steps, frames } = data;
  const [rows, columns] = data.cells, count = frames.length, cells = rows * columns;
  const flows = data.flows.map((packed) => unpack(packed).values);
  const state = { layer: data.layer, step: data.step, from: 0, to: Math.min(count - 1, Math.ceil(count / 2)), over: null, arrows: true };
  const vectors = () => flows[state.step * layers.length + state.layer].subarray(2 * cells * (state.from * count + state.to), 2 * cells * (state.from * count + state.to + 1));
  const loaded = pictures(data.images, () => draw());
  const status = h("p", { class: "note", "aria-live": "polite" });
  const aim = () => {
    if (!state.over) return null;
    const i = 2 * (state.over[1] * columns + state.over[0]), v = vectors();
    return [state.over[0] + v[i], state.over[1] + v[i + 1], v[i], v[i + 1]];
  };
  const hover = (place) => { state.over = place && [Math.floor(place[0] * columns), Math.floor(place[1] * rows)]; draw(); };
  const mark = (c, w, t, x, y) => markCell(c, w, t, rows, columns, x, y);
  const panels = [
    panel("", width, height, (c, w, t) => {
      drawPicture(c, loaded[state.from], w, t);
      if (state.arrows) drawArrows(c, w, t, vectors(), rows, columns);
      if (state.over) mark(c, w, t, ...state.over);
    }, hover),
    panel("", width, height, (c, w, t) => {
      drawColours(c, w, t, vectors(), rows, columns, data.rim);
      if (state.over) mark(c, w, t, ...state.over);
    }, hover),
    panel("", width, height, (c, w, t) => {
      drawPicture(c, loaded[state.to], w, t);
      const there = aim();
      if (there) mark(c, w, t, there[0], there[1]);
    }, (place) => { if (!place) hover(null); }),
  ];
  function draw() {
    panels[0].caption.textContent = `frame ${frames[state.from]}, image ${data.imageNumbers[state.from]}, with the flow as arrows`;
    panels[1].caption.textContent = `the flow from frame ${frames[state.from]} to ${frames[state.to]} as colours`;
    panels[2].caption.textContent = `frame ${frames[state.to]}, image ${data.imageNumbers[state.to]}: where it leads`;
    panels.forEach((each) => each.draw());
    const v = vectors(), there = aim();
    if (there) {
      status.textContent = `cell (y ${state.over[1]}, x ${state.over[0]}) of frame ${frames[state.from]} goes (dx ${steady(there[2])}, dy ${steady(there[3])}) cells to frame ${frames[state.to]}`;
    } else {
      let sum = 0, moving = 0;
      for (let i = 0; i < cells; i++) { const length = Math.hypot(v[2 * i], v[2 * i + 1]); sum += length; moving += length >= 0.5; }
      status.textContent = `mean length ${(sum / cells).toFixed(2)} cells; ${Math.round(100 * moving / cells)} % of the cells move by half a cell or more. Point at a cell to follow it.`;
    }
  }
  const to = player(frames.map(String), data.perSecond, (place) => { state.to = place; draw(); }, { start: state.to, name: "to frame" });
  const from = chooser("from frame", frames.map(String), 0, (place) => { state.from = place; draw(); });
  const layer = chooser("layer", layers.map(String), state.layer, (place) => { state.layer = place; draw(); });
  const step = chooser("step", steps, state.step, (place) => { state.step = place; draw(); });
  const arrows = h("label", {}, h("input", { type: "checkbox", checked: true, onchange: (event) => { state.arrows = event.target.checked; draw(); } }), "arrows");
  root.append(h("div", { class: "controls" }, to.element, from, layer, step, h("div", { class: "tools" }, arrows)),
    h("div", { class: "panels three" }, panels.map((each) => each.element), wheelPicture(data.rim)), status);
  whenResized(root, draw);
  to.go(state.to);
}

// A reference and a result, each beside the displacement of its parts since image 0.
function transferView(root, data) {
  const { width, height, layers, steps } = data;
  const [rows, columns] = data.cells, cells = rows * columns;
  const sides = data.sides.map((side) => ({ ...side, flows: side.flows.map((packed) => unpack(packed).values), loaded: pictures(side.images, () => draw()) }));
  const state = { layer: data.layer, step: data.step, image: data.labels.length - 1, over: null };
  const vectors = (side) => { const frame = side.frameOf[state.image]; return side.flows[state.step * layers.length + state.layer].subarray(2 * cells * frame, 2 * cells * (frame + 1)); };
  const status = h("p", { class: "note", "aria-live": "polite" });
  const hover = (place) => { state.over = place && [Math.floor(place[0] * columns), Math.floor(place[1] * rows)]; draw(); };
  const marked = (c, w, t) => { if (state.over) markCell(c, w, t, rows, columns, ...state.over); };
  const panels = sides.flatMap((side) => [
    panel(side.name, width, height, (c, w, t) => { drawPicture(c, side.loaded[state.image], w, t); marked(c, w, t); }, hover),
    panel("displacement of its parts", width, height, (c, w, t) => { drawColours(c, w, t, vectors(side), rows, columns, data.rim); marked(c, w, t); }, hover),
  ]);
  function draw() {
    panels.forEach((each) => each.draw());
    if (!state.over) { status.textContent = "Point at a cell to read its motion in both clips."; return; }
    const i = 2 * (state.over[1] * columns + state.over[0]);
    status.textContent = `cell (y ${state.over[1]}, x ${state.over[0]}): ` + sides.map((side) => {
      const v = vectors(side);
      return `${side.name} (dx ${steady(v[i])}, dy ${steady(v[i + 1])}) cells`;
    }).join("; ");
  }
  const bar = player(data.labels.map(String), data.perSecond, (place) => { state.image = place; draw(); }, { start: state.image });
  const layer = chooser("layer", layers.map(String), state.layer, (place) => { state.layer = place; draw(); });
  const step = chooser("step", steps, state.step, (place) => { state.step = place; draw(); });
  root.append(h("div", { class: "controls" }, bar.element, layer, step), h("div", { class: "panels four" }, panels.map((each) => each.element), wheelPicture(data.rim)), status);
  whenResized(root, draw);
  bar.go(state.image);
}
