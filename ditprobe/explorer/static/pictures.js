// Pictures: the stage and the frames, what is marked on them, and what the pointer reads.

const SLOT_TITLES = { 0: "A", 1: "B", d: "B − A" };

function marksOf(app, name, image, width, height, fine = 1) {
  const recording = app.recording(name === "1" ? 1 : 0);
  const [high, wide] = recording.pixels;
  const at = ([x, y]) => [x * width / wide, y * height / high];
  const shapes = [];
  const slot = app.slots.get(name === "d" ? "0" : name);
  const path = slot?.path && !slot.path.error ? slot.path : null;
  const frame = app.frameOf(image, recording);
  if (app.state.token === null && path && app.state.paths && name !== "d") {
    const place = app.state.head === null ? -1 : app.headPlace(name);
    const mean = path.arrays.mean.values;
    const points = [];
    if (place < 0) {
      for (let i = 0; i < recording.images; i++) points.push([mean[2 * i], mean[2 * i + 1]]);
    } else { // a head is matched in whole frames
      const heads = path.arrays.heads.values;
      const frames = recording.spans.length;
      for (let i = 0; i < recording.images; i++) {
        const f = Math.max(0, app.frameOf(i, recording));
        points.push([heads[2 * (place * frames + f)], heads[2 * (place * frames + f) + 1]]);
      }
    }
    const from = Math.max(0, image - 24);
    const trail = (all) => all.slice(from, image + 1).map(at);
    if (path.arrays.truth) {
      const truth = path.arrays.truth.values, visible = path.arrays.visible.values;
      const all = Array.from({ length: recording.images }, (_, i) => [truth[2 * i], truth[2 * i + 1]]);
      if (image > from) shapes.push({ kind: "line", points: trail(all), colour: MARKS.truth, width: 1.6 * fine, alpha: 0.75 });
      const [x, y] = at(all[image]);
      if (frame !== app.frameOf(app.state.image, recording)) shapes.push({ kind: "cross", x, y, radius: 5 * fine, colour: MARKS.truth, width: 2.2 * fine, alpha: visible[image] ? 1 : 0.45 });
    }
    if (image > from) shapes.push({ kind: "line", points: trail(points), colour: MARKS.match, width: 2 * fine, alpha: 0.85 });
    const [x, y] = at(points[image]);
    if (frame !== app.frameOf(app.state.image, recording)) {
      shapes.push({ kind: "disc", x, y, radius: 3.6 * fine, colour: MARKS.match, width: 1.4 * fine });
    }
  }
  if (app.state.token === null && frame === app.frameOf(app.state.image, recording) && name !== "d") {
    const [rows, columns] = recording.cells;
    const cell = slot?.attention?.cell;
    if (cell) {
      shapes.push({ kind: "box", x: cell[1] * width / columns, y: cell[0] * height / rows, w: width / columns, h: height / rows,
        colour: MARKS.source, width: 1.6 * fine });
    }
    const [x, y] = at([app.state.x, app.state.y]);
    shapes.push({ kind: "ring", x, y, radius: 6.5 * fine, colour: MARKS.source, width: 2 * fine });
  }
  return shapes;
}

function overlayFor(app, name, frame) {
  const slot = app.slots.get(name);
  if (frame < 0 || !slot) return null;
  if (app.state.shown === "values") {
    const colours = slot.values?.arrays?.colours;
    return colours ? coloursOf(colours.values, frame * colours.shape[1] * colours.shape[2], colours.shape[1], colours.shape[2]) : null;
  }
  const w = app.weights(name);
  if (!w || frame >= w.frames) return null;
  return overlayOf(w.values, frame * w.cells, w.rows, w.columns, app.largest(name, frame), { signed: name === "d", root: app.state.root });
}

// The width of a canvas on the page; asking the page for it after every change would lay it out again each time.
function widthOf(app, canvas, otherwise) {
  if (!app.widths.has(canvas) && canvas.clientWidth) app.widths.set(canvas, canvas.clientWidth);
  return app.widths.get(canvas) ?? otherwise;
}

function paintPicture(app, canvas, name, image, { fine = 1, marks = true } = {}) {
  const recording = app.recording(name === "1" ? 1 : 0);
  const density = Math.min(window.devicePixelRatio || 1, 2);
  const width = widthOf(app, canvas, 200);
  const height = Math.round(width * recording.pixels[0] / recording.pixels[1]);
  if (canvas.width !== Math.round(width * density) || canvas.height !== Math.round(height * density)) {
    canvas.width = Math.round(width * density);
    canvas.height = Math.round(height * density);
  }
  const context = canvas.getContext("2d");
  const dim = name === "d" ? Math.max(app.state.dim, 0.6) : app.state.dim;
  const picture = app.pictures[name === "1" ? 1 : 0].get(image);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.drawImage(keptBase(canvas, canvas.width, canvas.height, picture, dim, recording.cells), 0, 0);
  context.setTransform(density, 0, 0, density, 0, 0);
  paintOver(app, context, width, height, name, image, { fine, marks });
}

function paintInto(app, context, width, height, name, image, { fine = 1, marks = true } = {}) {
  const recording = app.recording(name === "1" ? 1 : 0);
  const picture = app.pictures[name === "1" ? 1 : 0].get(image);
  context.clearRect(0, 0, width, height);
  drawBase(context, width, height, picture, name === "d" ? Math.max(app.state.dim, 0.6) : app.state.dim, recording.cells);
  paintOver(app, context, width, height, name, image, { fine, marks });
}

function paintOver(app, context, width, height, name, image, { fine, marks }) {
  const recording = app.recording(name === "1" ? 1 : 0);
  const overlay = overlayFor(app, name, app.frameOf(image, recording));
  if (overlay) {
    context.imageSmoothingEnabled = false;
    context.drawImage(overlay, 0, 0, width, height);
  }
  if (marks) paintShapes(context, marksOf(app, name, image, width, height, fine));
}

function slotError(app, name) {
  const slot = app.slots.get(name);
  const error = slot?.attention?.error || app.answered(name)?.error || (app.state.shown === "values" && slot?.values?.error);
  return error ? error.message : null;
}

function drawStage(app) {
  const names = app.slotNames();
  const stage = app.ui.stage;
  if (stage.dataset.names !== names.join()) {
    stage.dataset.names = names.join();
    stage.replaceChildren(...names.map((name) => {
      const recording = app.recording(name === "1" ? 1 : 0);
      const canvas = h("canvas", { class: "dpx-big", tabindex: "0", "data-slot": name, role: "img" });
      canvas.style.aspectRatio = `${recording.pixels[1]} / ${recording.pixels[0]}`;
      listen(app, canvas, name, () => app.state.focus);
      const title = names.length > 1
        ? h("figcaption", {}, h("b", {}, SLOT_TITLES[name]), name === "d" ? " difference" : ` ${recording.name}`) : null;
      return h("figure", {}, title, h("div", { class: "dpx-frame" }, canvas, h("p", { class: "dpx-error", hidden: true, role: "alert" })));
    }));
    stage.style.setProperty("--count", names.length);
    stage.style.setProperty("--aspect", app.recording(0).pixels[1] / app.recording(0).pixels[0]);
  }
  const canvases = [...stage.querySelectorAll("canvas")];
  for (const canvas of canvases) paintPicture(app, canvas, canvas.dataset.slot, app.state.focus, { fine: widthOf(app, canvas, 200) > 300 ? 1.25 : 1 });
  for (const canvas of canvases) {
    const name = canvas.dataset.slot;
    const message = slotError(app, name);
    const place = canvas.nextElementSibling;
    place.hidden = !message;
    place.textContent = message || "";
    const frame = app.frameOf(app.state.focus, app.recording(name === "1" ? 1 : 0));
    canvas.setAttribute("aria-label", `Image ${app.state.focus}, frame ${frame}: ${percent(app.share(name, frame) || 0)} of ${app.isTowards() ? "a cell's row on average" : "the attention"}. ` +
      "Arrow keys move the point by one cell.");
  }
}

function drawFrames(app) {
  const names = app.slotNames();
  const key = names.join() + app.recording(0).spans.length;
  if (app.ui.frames.dataset.key !== key) {
    app.ui.frames.dataset.key = key;
    app.ui.frames.replaceChildren(...names.map((name) => {
      const recording = app.recording(name === "1" ? 1 : 0);
      const panels = recording.centres.map((centre, frame) => {
        const canvas = h("canvas", { "data-slot": name, "data-image": centre });
        canvas.style.aspectRatio = `${recording.pixels[1]} / ${recording.pixels[0]}`;
        listen(app, canvas, name, () => centre);
        const button = h("button", { type: "button", class: "dpx-caption", onclick: () => { app.stop(); app.goTo(centre); } });
        return h("figure", { "data-frame": frame }, canvas, button);
      });
      const title = names.length > 1 ? h("h3", {}, SLOT_TITLES[name], name === "d" ? "" : ` ${recording.name}`) : null;
      return h("div", { class: "dpx-strip" }, title, h("div", { class: "dpx-grid" }, panels));
    }));
  }
  const canvases = [...app.ui.frames.querySelectorAll("canvas")];
  // All pictures before any text: otherwise the page would be laid out again for each.
  for (const canvas of canvases) paintPicture(app, canvas, canvas.dataset.slot, Number(canvas.dataset.image), { fine: 0.8 });
  for (const canvas of canvases) {
    const name = canvas.dataset.slot;
    const recording = app.recording(name === "1" ? 1 : 0);
    const figure = canvas.parentElement;
    const frame = Number(figure.dataset.frame);
    const [from, to] = recording.spans[frame];
    const covered = to - from > 1 ? `images ${from} to ${to - 1}` : `image ${from}`;
    const share = app.share(name, frame);
    const button = figure.querySelector("button");
    const told = Number.isNaN(share) ? "" : name === "d" ? points(share) : percent(share);
    if (!button.firstChild) {
      button.append(h("span", {}, `frame ${recording.frames[frame]}`, to - from > 1 ? h("small", {}, covered.replace("images", "img")) : ""), h("b", {}));
      button.setAttribute("aria-label", `Show frame ${recording.frames[frame]}, ${covered}`);
    }
    if (button.lastChild.textContent !== told) button.lastChild.textContent = told;
    figure.classList.toggle("dpx-focus", frame === app.frameOf(app.state.focus, recording));
    figure.classList.toggle("dpx-source", app.state.token === null && frame === app.frameOf(app.state.image, recording));
  }
}

// The pointer: a click or a drag reads a point there, hovering tells the share of a cell.
function listen(app, canvas, name, imageOf) {
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    const [high, wide] = app.recording(name === "1" ? 1 : 0).pixels;
    return [clamp((event.clientX - box.left) / box.width, 0, 1) * wide, clamp((event.clientY - box.top) / box.height, 0, 1) * high];
  };
  let dragging = false;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    dragging = true;
    canvas.setPointerCapture(event.pointerId);
    app.choosePoint(imageOf(), ...place(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (dragging) app.choosePoint(imageOf(), ...place(event));
    hover(app, name, imageOf(), place(event), event);
  });
  canvas.addEventListener("pointerup", () => { dragging = false; });
  canvas.addEventListener("pointercancel", () => { dragging = false; });
  canvas.addEventListener("pointerleave", () => { app.ui.tip.hidden = true; });
}

function hover(app, name, image, [x, y], event) {
  const recording = app.recording(name === "1" ? 1 : 0);
  const frame = app.frameOf(image, recording);
  const w = app.weights(name);
  const tip = app.ui.tip;
  if (!w || frame < 0) { tip.hidden = true; return; }
  const row = Math.min(w.rows - 1, Math.floor(y / recording.pixels[0] * w.rows));
  const column = Math.min(w.columns - 1, Math.floor(x / recording.pixels[1] * w.columns));
  const value = w.values[frame * w.cells + row * w.columns + column];
  const who = app.state.head === null ? "mean over heads" : `head ${app.state.head}`;
  tip.replaceChildren(h("b", {}, name === "d" ? points(value) : percent(value)),
    (app.isTowards() ? " of this cell's row goes to the word" : " of the row") + (name === "d" ? ", B − A" : ""),
    h("br"), `frame ${recording.frames[frame]}, cell (y ${row}, x ${column}), ${who}`);
  tip.hidden = false;
  const box = app.ui.page.getBoundingClientRect();
  tip.style.left = clamp(event.clientX - box.left + 14, 4, Math.max(4, box.width - tip.offsetWidth - 4)) + "px";
  tip.style.top = event.clientY - box.top + 18 + "px";
}
