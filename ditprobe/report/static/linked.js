// Small multiples over layer and step with one pointer; a cell opens its heads and its curve.

function linkedView(root, data) {
  const { steps, times, layers, measures, selected } = data;
  const state = { step: data.step, layer: data.layer, measure: 0, hover: null };
  const value = (measure, layer, step, what = "mean") => (measure[what] ? measure[what][layer * steps.length + step] : null);
  const written = (measure, number) => (known(number) ? `${number.toFixed(measure.digits)}${measure.unit ? ` ${measure.unit}` : ""}` : "not recorded");
  const stepName = (s) => `step ${steps[s]}${times ? ` (timestep ${times[s]})` : ""}`;
  const part = (measure, number) => (number - measure.low) / ((measure.high - measure.low) || 1);
  const GUTTER = 22, FOOT = 15;

  const where = h("p", { class: "readout", "aria-live": "polite" });
  const maps = measures.map((measure, m) => {
    const canvas = h("canvas", { tabindex: 0, role: "img" });
    const number = h("b");
    const bar = h("span", { class: "bar", title: `${measure.heading}: colour from ${measure.lowText} to ${measure.highText}` },
      measure.lowText, h("i"), measure.highText);
    const figure = h("figure", { class: "map" }, h("figcaption", {}, h("span", {}, measure.heading), number), canvas, bar);
    return { measure, m, canvas, number, figure };
  });
  const headsTitle = h("h3"), heads = h("canvas", { class: "heads", role: "img" }), headsNote = h("p", { class: "note" });
  const curveTitle = h("h3"), curve = svg("svg", { class: "curve", role: "img" }), curveNote = h("p", { class: "note" });
  root.querySelector("[data-part=maps]").append(where, h("div", { class: "maps" }, maps.map((map) => map.figure)));
  root.querySelector("[data-part=cell]").append(headsTitle, heads, headsNote, curveTitle, curve, curveNote);

  function paintMap(map) {
    const width = map.canvas.clientWidth, rows = layers.length, columns = steps.length;
    const tall = clamp(rows * 15, 66, 170), w = (width - GUTTER) / columns, t = tall / rows;
    map.canvas.style.height = tall + FOOT + "px";
    const c = sharp(map.canvas, width, tall + FOOT);
    map.cell = [w, t];
    for (let l = 0; l < rows; l++) for (let s = 0; s < columns; s++) {
      const number = value(map.measure, l, s), x = GUTTER + s * w, y = l * t;
      const gap = w > 4 && t > 4 ? 0.5 : 0;
      if (known(number)) {
        const rgb = colourAt(VIRIDIS, part(map.measure, number));
        c.fillStyle = `rgb(${rgb})`;
        c.fillRect(x, y, w - gap, t - gap);
        if (w >= 26 && t >= 13 && map.measure.unit) {
          c.fillStyle = inkOn(rgb);
          c.font = "10px system-ui, sans-serif";
          c.textAlign = "center";
          c.textBaseline = "middle";
          c.fillText(number.toFixed(0), x + w / 2, y + t / 2 + 0.5);
        }
      } else hatch(c, x, y, w - gap, t - gap);
    }
    c.textBaseline = "middle";
    c.textAlign = "right";
    const every = Math.ceil(rows * 12 / tall);
    for (let l = 0; l < rows; l++) {
      const chosen = selected.includes(layers[l]);
      if (l % every && !chosen) continue;
      c.fillStyle = chosen ? INK : SOFT;
      c.font = `${chosen ? 700 : 400} 10px system-ui, sans-serif`;
      c.fillText(layers[l], GUTTER - 4, (l + 0.5) * t);
    }
    c.fillStyle = SOFT;
    c.font = "10px system-ui, sans-serif";
    c.textBaseline = "alphabetic";
    c.textAlign = "left";
    c.fillText(`step ${steps[0]}`, GUTTER, tall + 12);
    if (columns > 1) { c.textAlign = "right"; c.fillText(steps[columns - 1], width, tall + 12); }
    const outline = (place, colour, thick) => {
      c.lineWidth = thick + 2;
      for (const [paint, extra] of [["#fff", 2], [colour, 0]]) {
        c.strokeStyle = paint;
        c.lineWidth = thick + extra;
        c.strokeRect(GUTTER + place.step * w - 0.5, place.layer * t - 0.5 + (place.layer ? 0 : 1.5), Math.max(w, 4), t);
      }
    };
    outline(state, MARK, 2);
    if (state.hover) outline(state.hover, "#000", 1);
    const at = state.hover || state;
    map.number.textContent = written(map.measure, value(map.measure, at.layer, at.step));
    map.canvas.setAttribute("aria-label", `${map.measure.heading} over layers and steps. Chosen: layer ${layers[state.layer]}, ` +
      `${stepName(state.step)}: ${written(map.measure, value(map.measure, state.layer, state.step))}. Arrow keys choose another cell.`);
    map.figure.classList.toggle("chosen", map.m === state.measure);
  }

  function hatch(c, x, y, w, t) {
    c.fillStyle = "#e4e6ea";
    c.fillRect(x, y, w, t);
    c.strokeStyle = "#9aa0ab";
    c.lineWidth = 1;
    c.beginPath();
    c.moveTo(x + w / 2 - 2, y + t / 2 + 3);
    c.lineTo(x + w / 2 + 2, y + t / 2 - 3);
    c.stroke();
  }

  const headsOf = () => (measures[state.measure].heads ? measures[state.measure] : measures.find((measure) => measure.heads));
  // Heads of many steps are thinned; the nearest step that is there stands in, and says so.
  const headStep = () => data.headSteps.reduce((best, step, i) =>
    (Math.abs(step - steps[state.step]) < Math.abs(data.headSteps[best] - steps[state.step]) ? i : best), 0);
  let headCells = null;

  function paintHeads(hover = null) {
    const measure = headsOf();
    if (!measure) {
      headsTitle.textContent = "Heads";
      heads.hidden = true;
      headsNote.textContent = "Single heads were not measured in this sweep (per_head=True, or --per-head).";
      return;
    }
    const rows = layers.length, columns = data.heads.length, s = headStep(), width = heads.clientWidth;
    const tall = clamp(rows * 20, 60, 200), w = (width - GUTTER) / columns, t = tall / rows;
    heads.style.height = tall + FOOT + "px";
    headCells = { w, t };
    const c = sharp(heads, width, tall + FOOT);
    const read = (l, head) => measure.heads[(s * rows + l) * columns + head];
    const decimals = measure.headHigh >= 10 ? 0 : 2;
    c.textAlign = "center";
    c.textBaseline = "middle";
    for (let l = 0; l < rows; l++) for (let head = 0; head < columns; head++) {
      const number = read(l, head), x = GUTTER + head * w, y = l * t;
      if (!known(number)) { hatch(c, x, y, w - 1, t - 1); continue; }
      const rgb = colourAt(VIRIDIS, number / (measure.headHigh || 1));
      c.fillStyle = `rgb(${rgb})`;
      c.fillRect(x, y, w - 1, t - 1);
      if (w < 25 || t < 13) continue;
      c.fillStyle = inkOn(rgb);
      c.font = "11px system-ui, sans-serif";
      c.fillText(number.toFixed(decimals), x + w / 2 - 0.5, y + t / 2);
    }
    c.font = "10px system-ui, sans-serif";
    const every = Math.ceil(rows * 12 / tall), across = Math.ceil(columns * 16 / (width - GUTTER));
    for (let l = 0; l < rows; l++) {
      if (l % every && l !== state.layer) continue;
      c.fillStyle = l === state.layer ? MARK : SOFT;
      c.textAlign = "right";
      c.fillText(layers[l], GUTTER - 4, (l + 0.5) * t);
    }
    c.fillStyle = SOFT;
    c.textAlign = "center";
    for (let head = 0; head < columns; head += across) c.fillText(data.heads[head], GUTTER + (head + 0.5) * w, tall + 8);
    c.strokeStyle = MARK;
    c.lineWidth = 2;
    c.strokeRect(GUTTER, state.layer * t + (state.layer ? 0 : 1), width - GUTTER - 1, t - 1);
    const shown = data.headSteps[s] === steps[state.step] ? "" : `, of step ${data.headSteps[s]}, the nearest that this page holds`;
    headsTitle.textContent = `${measure.heading} of each head, ${stepName(state.step)}`;
    const row = Array.from({ length: columns }, (_, head) => read(state.layer, head));
    const best = row.reduce((top, number, head) => (known(number) && (top < 0 || number > row[top]) ? head : top), -1);
    const text = hover ? `layer ${layers[hover.layer]}, head ${data.heads[hover.head]}: ${written(measure, read(hover.layer, hover.head))}`
      : best < 0 ? `layer ${layers[state.layer]}: not recorded` : `layer ${layers[state.layer]}: head ${data.heads[best]} has the most, ${written(measure, row[best])}`;
    headsNote.textContent = text + shown;
    heads.setAttribute("aria-label", `${headsTitle.textContent}: ${text}`);
  }

  function paintCurve() {
    const measure = measures[state.measure], width = curve.clientWidth || 300, tall = 170;
    const box = { left: 34, right: 8, top: 8, bottom: 32 };
    curve.setAttribute("viewBox", `0 0 ${width} ${tall}`);
    curve.style.height = tall + "px";
    const high = Math.max(...["mean", "upper"].flatMap((what) => (measure[what] || []).filter(known)), measure.baseline || 0) * 1.04 || 1;
    const low = Math.min(0, ...(measure.mean.filter(known)));
    const x = (s) => box.left + (steps.length < 2 ? 0.5 : (steps[s] - steps[0]) / (steps[steps.length - 1] - steps[0])) * (width - box.left - box.right);
    const y = (number) => tall - box.bottom - (number - low) / (high - low) * (tall - box.top - box.bottom);
    const path = (l, what = "mean") => steps.map((_, s) => [x(s), value(measure, l, s, what)]).filter(([, v]) => known(v)).map(([a, v]) => [a, y(v)]);
    const points = (all) => all.map((p) => p.map((v) => v.toFixed(1)).join(",")).join(" ");
    const parts = [];
    const size = 10 ** Math.floor(Math.log10(high)), nice = [0.2, 0.5, 1, 2, 5].find((k) => high / (k * size) <= 5) * size;
    for (let tick = 0; tick <= high + 1e-9; tick += nice) {
      parts.push(svg("line", { x1: box.left, x2: width - box.right, y1: y(tick), y2: y(tick), stroke: "#e4e6ea" }));
      parts.push(svg("text", { x: box.left - 5, y: y(tick) + 3.5, "text-anchor": "end", class: "tick" }, String(Number(tick.toPrecision(3)))));
    }
    const stride = Math.ceil(steps.length / Math.max(2, Math.floor((width - 40) / 44)));
    steps.forEach((step, s) => {
      if (s % stride && s !== steps.length - 1) return;
      if (s === steps.length - 1 && s % stride && s % stride < stride / 2) return;
      parts.push(svg("text", { x: x(s), y: tall - 19, "text-anchor": "middle", class: "tick" }, step));
    });
    parts.push(svg("text", { x: width - box.right, y: tall - 5, "text-anchor": "end", class: "tick" }, "step; noise falls to the right"));
    layers.forEach((_, l) => { if (l !== state.layer) parts.push(svg("polyline", { points: points(path(l)), fill: "none", stroke: "#c3c7cf" })); });
    const upper = path(state.layer, "upper"), lower = path(state.layer, "lower");
    if (measure.upper && upper.length > 1) parts.push(svg("polygon", { points: points([...upper, ...lower.reverse()]), fill: ACCENT, "fill-opacity": 0.18 }));
    if (known(measure.baseline)) parts.push(svg("line", { x1: box.left, x2: width - box.right, y1: y(measure.baseline), y2: y(measure.baseline),
      stroke: MARK, "stroke-width": 1.5, "stroke-dasharray": "5 4" }));
    parts.push(svg("line", { x1: x(state.step), x2: x(state.step), y1: box.top, y2: tall - box.bottom, stroke: SOFT, "stroke-dasharray": "2 3" }));
    const own = path(state.layer);
    parts.push(svg("polyline", { points: points(own), fill: "none", stroke: ACCENT, "stroke-width": 2.4 }));
    const now = value(measure, state.layer, state.step);
    if (known(now)) parts.push(svg("circle", { cx: x(state.step), cy: y(now), r: 4.5, fill: MARK, stroke: "#fff", "stroke-width": 1.5 }));
    curve.replaceChildren(...parts);
    curveTitle.textContent = `${measure.heading} of layer ${layers[state.layer]} over the steps`;
    const ends = [value(measure, state.layer, state.step, "lower"), value(measure, state.layer, state.step, "upper")];
    const interval = ends.every(known) ? `; 95 % interval over clips ${ends[0].toFixed(measure.digits)} to ${ends[1].toFixed(measure.digits)}` : "";
    const base = known(measure.baseline) ? ` Dashed: ${measure.baselineName}, ${written(measure, measure.baseline)}.` : "";
    curveNote.textContent = `${stepName(state.step)}: ${written(measure, now)}${interval}.${base} Grey: the other layers.`;
    curve.setAttribute("aria-label", `${curveTitle.textContent}. ${curveNote.textContent}`);
    curve.onclick = (event) => {
      const place = event.clientX - curve.getBoundingClientRect().left;
      choose({ step: steps.reduce((best, _, s) => (Math.abs(x(s) - place) < Math.abs(x(best) - place) ? s : best), 0) });
    };
  }

  function paintMaps() {
    const at = state.hover || state;
    where.replaceChildren(h("b", {}, `layer ${layers[at.layer]}, ${stepName(at.step)}`), state.hover ? "" : " · click a cell for its heads and its curve");
    maps.forEach(paintMap);
  }

  function paint() { paintMaps(); paintHeads(); paintCurve(); }
  function choose(changes) { Object.assign(state, changes); paint(); }

  for (const map of maps) {
    const cellAt = (event) => {
      const box = map.canvas.getBoundingClientRect(), [w, t] = map.cell;
      return { step: clamp(Math.floor((event.clientX - box.left - GUTTER) / w), 0, steps.length - 1),
        layer: clamp(Math.floor((event.clientY - box.top) / t), 0, layers.length - 1) };
    };
    map.canvas.addEventListener("pointermove", (event) => { state.hover = cellAt(event); paintMaps(); });
    map.canvas.addEventListener("pointerleave", () => { state.hover = null; paintMaps(); });
    map.canvas.addEventListener("click", (event) => choose({ ...cellAt(event), measure: map.m }));
    map.canvas.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!move) return;
      event.preventDefault();
      choose({ measure: map.m, step: clamp(state.step + move[0], 0, steps.length - 1), layer: clamp(state.layer + move[1], 0, layers.length - 1) });
    });
  }
  const headAt = (event) => {
    const box = heads.getBoundingClientRect();
    return { layer: clamp(Math.floor((event.clientY - box.top) / headCells.t), 0, layers.length - 1),
      head: clamp(Math.floor((event.clientX - box.left - GUTTER) / headCells.w), 0, data.heads.length - 1) };
  };
  heads.addEventListener("pointermove", (event) => paintHeads(headAt(event)));
  heads.addEventListener("pointerleave", () => paintHeads());
  heads.addEventListener("click", (event) => choose({ layer: headAt(event).layer }));
  whenResized(root, paint);
}
