// A clip that plays with tracks on it, and with the attention of the point that is clicked.

function clipView(root, data, whole) {
  const { height, width, images, frames } = data;
  const predicted = unpack(data.predicted).values, count = data.colours.length;
  const truth = data.truth && unpack(data.truth).values;
  const hidden = data.hidden && unpack(data.hidden).values;
  const rows = data.attention && { ...data.attention, ...unpack(data.attention.levels) };
  const state = { point: rows ? 0 : -1, tracks: true, attention: Boolean(rows), errors: truth ? "worst" : "none" };
  const at = (array, image, point) => [array[2 * (image * count + point)], array[2 * (image * count + point) + 1]];
  const isHidden = (image, point) => Boolean(hidden && hidden[image * count + point]);

  const loaded = pictures(images, () => bar.redraw());
  const canvas = h("canvas", { class: "stage", role: "img", tabindex: rows ? 0 : null });
  canvas.style.aspectRatio = `${width} / ${height}`;
  const status = h("p", { class: "note", "aria-live": "polite" });
  const strip = h("div", { class: "strip" });
  const bar = player(data.labels, data.perSecond, show, { start: Math.floor((images.length - 1) / 2) });
  const check = (name, label) => h("label", {}, h("input", { type: "checkbox", checked: state[name], onchange: (event) => { state[name] = event.target.checked; bar.redraw(); } }), label);
  const tools = h("div", { class: "tools" }, check("tracks", "tracks"), rows && check("attention", "attention"),
    truth && h("label", {}, "errors ", h("select", { onchange: (event) => { state.errors = event.target.value; bar.redraw(); } },
      [["worst", "worst 10 %"], ["all", "all"], ["none", "none"]].map(([value, text]) => h("option", { value }, text)))));
  root.append(canvas, bar.element, tools, status, ...(whole && rows ? [strip] : []));

  const frameOf = (image) => rows.frameOf[image];
  const share = (point, frame) => rows.shares[point * rows.shape[1] + frame];
  function weights(frame) {
    const cells = rows.shape[2] * rows.shape[3], start = (state.point * rows.shape[1] + frame) * cells;
    return rows.values.subarray(start, start + cells);
  }
  // A level is the square root of a weight over the largest one of its frame.
  const overlay = (frame) => { const w = weights(frame); return cellsPicture(rows.shape[2], rows.shape[3], (i) => [...colourAt(HEAT, w[i] * w[i]), 225 * w[i] * w[i]]); };

  function paint(c, w, t, image, marks) {
    drawPicture(c, loaded[image], w, t);
    const frame = rows ? frameOf(image) : -1;
    if (state.attention && frame >= 0) {
      c.imageSmoothingEnabled = false;
      c.drawImage(overlay(frame), 0, 0, w, t);
    }
    const [kx, ky] = [w / width, t / height];
    if (marks && state.tracks) tracks(c, kx, ky, image);
    if (state.attention && frame === rows.source) {
      const [y, x] = rows.cells[state.point], [cw, ct] = [w / rows.shape[3], t / rows.shape[2]];
      for (const [colour, thick] of [["#10131a", 4], ["#fff", 2]]) { c.strokeStyle = colour; c.lineWidth = thick; c.strokeRect(x * cw, y * ct, cw, ct); }
    }
  }

  function tracks(c, kx, ky, image) {
    const off = truth && Array.from({ length: count }, (_, p) => (isHidden(image, p) ? -1 : Math.hypot(at(truth, image, p)[0] - at(predicted, image, p)[0], at(truth, image, p)[1] - at(predicted, image, p)[1])));
    const seen = off ? off.filter((value) => value >= 0).sort((a, b) => b - a) : [];
    const least = state.errors === "all" ? 0 : state.errors === "worst" ? seen[Math.max(0, Math.ceil(seen.length / 10) - 1)] : Infinity;
    const radius = clamp(Math.sqrt(width * kx * height * ky / count) / 9, 2.4, 6);
    const from = Math.max(0, image - 3), longest = Math.hypot(width, height) / 8;
    c.lineCap = c.lineJoin = "round";
    for (let p = 0; p < count; p++) {
      if (image === from) break;
      for (const [colour, thick, alpha] of [["#10131a", 2.6, 0.35], [data.colours[p], 1.3, 0.9]]) {
        c.globalAlpha = alpha; c.strokeStyle = colour; c.lineWidth = thick;
        c.beginPath();
        for (let i = from; i < image; i++) { // a jump is not a way that anybody saw the point go
          const [a, b] = [at(predicted, i, p), at(predicted, i + 1, p)];
          if (Math.hypot(b[0] - a[0], b[1] - a[1]) > longest || isHidden(i, p) || isHidden(i + 1, p)) continue;
          c.moveTo(a[0] * kx, a[1] * ky);
          c.lineTo(b[0] * kx, b[1] * ky);
        }
        c.stroke();
      }
    }
    c.globalAlpha = 1;
    for (let p = 0; p < count; p++) {
      if (!off || off[p] < 0 || !(off[p] >= least) || off[p] === 0) continue;
      const [a, b] = [at(truth, image, p), at(predicted, image, p)].map(([x, y]) => [x * kx, y * ky]);
      for (const [colour, thick] of [["#10131a", 3.6], ["#fff", 1.6]]) {
        c.strokeStyle = colour; c.lineWidth = thick;
        c.beginPath(); c.moveTo(...a); c.lineTo(...b);
        const r = radius;
        c.moveTo(a[0] - r, a[1] - r); c.lineTo(a[0] + r, a[1] + r); c.moveTo(a[0] + r, a[1] - r); c.lineTo(a[0] - r, a[1] + r);
        c.stroke();
      }
    }
    for (let p = 0; p < count; p++) {
      const [x, y] = at(predicted, image, p), chosen = rows && rows.points[state.point] === p;
      c.beginPath();
      c.arc(x * kx, y * ky, chosen ? radius + 2.5 : radius, 0, 2 * Math.PI);
      if (isHidden(image, p)) {
        c.strokeStyle = "#10131a"; c.lineWidth = 3.4; c.stroke();
        c.strokeStyle = data.colours[p]; c.lineWidth = 1.8; c.stroke();
      } else {
        c.fillStyle = data.colours[p]; c.fill();
        c.strokeStyle = "#10131a"; c.lineWidth = 1; c.stroke();
      }
      if (chosen) { c.strokeStyle = "#10131a"; c.lineWidth = 4; c.stroke(); c.strokeStyle = "#fff"; c.lineWidth = 2; c.stroke(); }
    }
  }

  const percent = (value) => `${Number((100 * value).toPrecision(3))} %`;
  function show(image) {
    const w = canvas.clientWidth;
    if (!w) return;
    const t = w * height / width;
    paint(sharp(canvas, w, t), w, t, image, true);
    const words = [];
    if (truth) {
      const off = [];
      for (let p = 0; p < count; p++) if (!isHidden(image, p)) off.push(Math.hypot(at(truth, image, p)[0] - at(predicted, image, p)[0], at(truth, image, p)[1] - at(predicted, image, p)[1]));
      off.sort((a, b) => a - b);
      if (off.length) words.push(`median error here ${off[Math.floor(off.length / 2)].toFixed(1)} px`);
    }
    if (state.attention) words.push(frameOf(image) < 0 ? "no frame of the layer shows this image"
      : `this frame holds ${percent(share(state.point, frameOf(image)))} of the attention of the ringed point${rows.points.length > 1 ? "; click another" : ""}`);
    status.textContent = words.join(" · ");
    canvas.setAttribute("aria-label", `Image ${data.labels[image]} with ${count} points. ${status.textContent}`);
    if (whole && rows) showStrip();
  }

  function showStrip() {
    if (!strip.children.length) {
      strip.append(...rows.frameImages.map((image, frame) => {
        const small = h("canvas");
        small.style.aspectRatio = `${width} / ${height}`;
        small.addEventListener("pointermove", (event) => {
          const box = small.getBoundingClientRect(), [, , high, wide] = rows.shape;
          const x = clamp(Math.floor((event.clientX - box.left) / box.width * wide), 0, wide - 1), y = clamp(Math.floor((event.clientY - box.top) / box.height * high), 0, high - 1);
          const level = weights(frame)[y * wide + x];
          status.textContent = `frame ${frames[frame]}, cell (y ${y}, x ${x}): ${percent(level * level * rows.largest[state.point * rows.shape[1] + frame])} of the attention of the point`;
        });
        return h("figure", {}, small, h("figcaption"));
      }));
    }
    if (strip.dataset.point === String(state.point) && strip.dataset.width === String(strip.clientWidth) && strip.dataset.ready) return;
    strip.dataset.point = state.point;
    strip.dataset.width = strip.clientWidth;
    if (loaded.every((picture) => picture.complete && picture.naturalWidth)) strip.dataset.ready = "1";
    [...strip.children].forEach((figure, frame) => {
      const small = figure.firstChild, w = small.clientWidth, t = w * height / width, c = sharp(small, w, t);
      drawPicture(c, loaded[rows.frameImages[frame]], w, t);
      c.imageSmoothingEnabled = false;
      c.drawImage(overlay(frame), 0, 0, w, t);
      if (frame === rows.source) {
        const [y, x] = rows.cells[state.point], [cw, ct] = [w / rows.shape[3], t / rows.shape[2]];
        for (const [colour, thick] of [["#10131a", 4], ["#fff", 2]]) { c.strokeStyle = colour; c.lineWidth = thick; c.strokeRect(x * cw, y * ct, cw, ct); }
      }
      figure.lastChild.replaceChildren(`frame ${frames[frame]} `, h("b", {}, percent(share(state.point, frame))));
    });
  }

  if (rows) {
    canvas.addEventListener("click", (event) => {
      const box = canvas.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * width, y = (event.clientY - box.top) / box.height * height;
      let best = 0, least = Infinity;
      rows.points.forEach((p, i) => { const [a, b] = at(predicted, bar.now, p), away = Math.hypot(a - x, b - y); if (away < least) [best, least] = [i, away]; });
      state.point = best;
      bar.redraw();
    });
    canvas.addEventListener("keydown", (event) => {
      const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!move) return;
      event.preventDefault();
      state.point = (state.point + move + rows.points.length) % rows.points.length;
      bar.redraw();
    });
  }
  whenResized(root, () => bar.redraw());
  bar.go(bar.now);
  return bar;
}
