// The panels beside the pictures: navigator, record, heads, text.

function drawHeads(app) {
  const { heads: panel } = app.ui;
  const name = String(app.state.compare ? app.state.headsOf : 0);
  const recording = app.recording(name === "1" ? 1 : 0);
  const arrays = app.answered(name)?.arrays;
  const frame = app.frameOf(app.state.focus, recording);
  app.ui.headsFrame.textContent = frame < 0 ? "" : `in frame ${recording.frames[frame]}`;
  if (frame >= 0 && app.transport.live && (arrays ? !arrays.heads : app.slots.get(name)?.waiting)) return; // on their way
  if (!arrays?.heads || frame < 0) {
    panel.replaceChildren(h("p", { class: "dpx-note" }, arrays && frame >= 0
      ? "This file holds the mean over heads for this point; its heads were exported for the point it opens with." : "Nothing to show here."));
    panel.dataset.key = "";
    return;
  }
  const [count, , rows, columns] = arrays.heads.shape;
  const cells = rows * columns, each = cells * arrays.heads.shape[1];
  const path = app.slots.get(name)?.path;
  const errors = path && !path.error ? path.head_errors : null;
  const shares = Array.from({ length: count }, (_, i) => {
    let total = 0;
    for (let k = i * each + frame * cells; k < i * each + (frame + 1) * cells; k++) total += arrays.heads.values[k];
    return app.isTowards() ? total / cells : total;
  });
  const order = [...Array(count).keys()];
  if (app.state.order === "share") order.sort((a, b) => shares[b] - shares[a]);
  if (app.state.order === "error" && errors) order.sort((a, b) => errors[a] - errors[b]);
  const key = name + order.join();
  if (panel.dataset.key !== key) {
    panel.dataset.key = key;
    panel.replaceChildren(...order.map((place) => h("button", {
      type: "button", class: "dpx-head", "data-place": place,
      onclick: () => app.chooseHead(app.state.head === recording.heads[place] ? null : recording.heads[place]),
    }, h("canvas", {}), h("span", {}))));
  }
  const picture = app.pictures[name === "1" ? 1 : 0].get(app.state.focus);
  const width = panel.querySelector("canvas")?.clientWidth || 64; // all have the same
  for (const button of panel.children) {
    const place = Number(button.dataset.place), head = recording.heads[place];
    const canvas = button.firstChild;
    const density = Math.min(window.devicePixelRatio || 1, 2);
    const height = Math.round(width * recording.pixels[0] / recording.pixels[1]);
    if (canvas.width !== Math.round(width * density) || canvas.height !== Math.round(height * density)) {
      canvas.width = Math.round(width * density);
      canvas.height = Math.round(height * density);
    }
    const context = canvas.getContext("2d");
    context.drawImage(keptBase(canvas, canvas.width, canvas.height, picture, Math.max(app.state.dim, 0.5), recording.cells), 0, 0);
    let most = 0;
    const start = place * each + frame * cells;
    const [from, to] = app.state.scale === "frame" ? [start, start + cells] : [place * each, (place + 1) * each];
    for (let k = from; k < to; k++) most = Math.max(most, arrays.heads.values[k]);
    context.imageSmoothingEnabled = false;
    context.drawImage(overlayOf(arrays.heads.values, start, rows, columns, most, { root: app.state.root }), 0, 0, canvas.width, canvas.height);
    if (path && !path.error && app.state.token === null && app.state.paths && frame !== app.frameOf(app.state.image, recording)) {
      const frames = path.arrays.heads.shape[1], values = path.arrays.heads.values;
      const x = values[2 * (place * frames + frame)] * canvas.width / recording.pixels[1];
      const y = values[2 * (place * frames + frame) + 1] * canvas.height / recording.pixels[0];
      paintShapes(context, [{ kind: "disc", x, y, radius: 1.8 * density, colour: MARKS.match, width: 0.8 * density }]);
    }
    const error = errors && app.state.token === null ? errors[place] : null;
    button.lastChild.replaceChildren(h("b", {}, String(head)),
      app.state.order === "error" && error !== null ? `${error.toFixed(1)} cells` : percent(shares[place]));
    button.classList.toggle("dpx-on", app.state.head === head);
    button.classList.toggle("dpx-good", error !== null && error < 1);
    button.setAttribute("aria-pressed", app.state.head === head);
    button.title = (app.isTowards() ? `Head ${head}: cells of this frame give the word ${percent(shares[place])} on average`
      : `Head ${head}: ${percent(shares[place])} of its attention is in this frame`) +
      (error === null ? "" : `; its match is ${error.toFixed(2)} cells from ${path.truth} on average`);
  }
}

function isPadding(word) { return /^(<pad>|<nothing>|<\/s>|\[PAD\]|<\|endoftext\|>|)$/.test(word); }

function drawText(app) {
  const { text: panel } = app.ui;
  const name = String(app.state.compare ? app.state.headsOf : 0);
  const recording = app.recording(name === "1" ? 1 : 0);
  const arrays = app.answered(name)?.arrays;
  app.ui.textPanel.hidden = recording.text_tokens === 0;
  app.ui.direction.hidden = app.state.token === null;
  if (!arrays?.text && app.slots.get(name)?.waiting) return;
  if (!arrays?.text || recording.text_tokens === 0) { panel.replaceChildren(); return; }
  const [heads, tokens] = arrays.text.shape;
  const place = app.state.head === null ? -1 : app.headPlace(name);
  const weights = new Float32Array(tokens);
  for (let t = 0; t < tokens; t++) {
    if (place >= 0 && place < heads) weights[t] = arrays.text.values[place * tokens + t];
    else for (let k = 0; k < heads; k++) weights[t] += arrays.text.values[k * tokens + t] / heads;
  }
  const total = weights.reduce((a, b) => a + b, 0);
  const names = recording.token_names[app.state.branch];
  const from = app.state.token !== null;
  const label = (t) => (names?.[t] !== undefined && names[t] !== "" ? names[t].replace(/^▁/, "") || "▁" : `#${t}`);
  app.ui.textTitle.replaceChildren(app.isTowards()
    ? h("span", {}, "Attention of all cells on the text token ", h("b", {}, `“${label(app.state.token)}”`), `: ${percent(weights[app.state.token])} of a row on average`)
    : from ? h("span", {}, "Attention of the text token ", h("b", {}, `“${label(app.state.token)}”`), `: ${percent(total)} of it stays in the text`)
    : h("span", {}, "Attention of the point on the text: ", h("b", {}, percent(total)), " of its row"));
  const most = Math.max(...weights, 1e-12);
  const chip = (t) => {
    const part = weights[t] / most;
    const button = h("button", {
      type: "button", class: "dpx-chip" + (app.state.token === t ? " dpx-on" : ""), title: `Text token ${t}: ${percent(weights[t])}. Click: what it looks at, and what looks at it`,
      "aria-pressed": app.state.token === t,
      onclick: () => app.set({ token: app.state.token === t ? null : t }),
    }, label(t), part >= 0.03 ? h("small", {}, percent(weights[t])) : null);
    button.style.setProperty("--part", part.toFixed(3));
    return button;
  };
  const all = [...Array(tokens).keys()];
  const pads = names ? all.filter((t) => isPadding(names[t])) : [];
  let shown = names ? all.filter((t) => !isPadding(names[t])) : all.slice().sort((a, b) => weights[b] - weights[a]).slice(0, 16);
  if (app.state.padding) shown = all;
  const rest = all.filter((t) => !shown.includes(t));
  const chips = shown.map(chip);
  if (rest.length) {
    const sum = rest.reduce((a, t) => a + weights[t], 0);
    chips.push(h("button", { type: "button", class: "dpx-chip dpx-rest", onclick: () => app.set({ padding: true }, { load: false }) },
      pads.length ? plural(rest.length, "padding token") : plural(rest.length, "more token"), h("small", {}, percent(sum))));
  } else if (app.state.padding && tokens > 24) {
    chips.push(h("button", { type: "button", class: "dpx-chip dpx-rest", onclick: () => app.set({ padding: false }, { load: false }) }, "show fewer"));
  }
  if (from) chips.unshift(h("button", { type: "button", class: "dpx-chip dpx-back", onclick: () => app.set({ token: null }) }, "← back to the point"));
  panel.replaceChildren(...chips);
}

// Rows are layers, columns steps: of the sweep if there is one, else what was recorded.
function mapOf(app) {
  const recording = app.recording(0), map = app.overview.map;
  const union = (a, b) => [...new Set([...a, ...b])].sort((x, y) => x - y);
  return { layers: union(recording.layers, map ? map.layers : []), steps: union(recording.steps, map ? map.steps : []),
    measure: map ? map.measures[app.state.measure] : null, map };
}

function recordedAt(app, layer, step) {
  const recording = app.recording(0);
  const [l, s, b] = [recording.layers.indexOf(layer), recording.steps.indexOf(step), recording.branches.indexOf(app.state.branch)];
  return l >= 0 && s >= 0 && b >= 0 && recording.status[s][b][l] === 1;
}

function drawNavigator(app) {
  const canvas = app.ui.map, { layers, steps, measure, map } = mapOf(app);
  const density = Math.min(window.devicePixelRatio || 1, 2), width = canvas.clientWidth || 300;
  const left = 26, bottom = 18, height = clamp(layers.length * 22, 60, 260) + bottom;
  const { layer, step, branch } = app.state, drawn = [width, density, layer, step, branch, app.state.measure];
  if (app.ui.mapDrawn?.overview === app.overview && app.ui.mapDrawn.key === drawn.join()) return;
  app.ui.mapDrawn = { overview: app.overview, key: drawn.join() };
  canvas.style.height = height + "px";
  canvas.width = width * density;
  canvas.height = height * density;
  const context = canvas.getContext("2d");
  context.setTransform(density, 0, 0, density, 0, 0);
  context.clearRect(0, 0, width, height);
  const w = (width - left) / steps.length, high = (height - bottom) / layers.length;
  app.ui.mapBox = { left, w, high, layers, steps };
  app.ui.mapNote.textContent = "rows: layers, columns: steps" + (measure ? "; pale: not recorded here" : "; grey: not recorded");
  const found = measure ? measure.values.flat().filter((value) => value !== null) : [];
  const top = measure?.units === "%" ? 100 : Math.max(...found, 0), low = Math.min(...found, 0);
  layers.forEach((layer, row) => steps.forEach((step, column) => {
    const [x, y] = [left + column * w, row * high], gap = Math.min(1, w / 8);
    const value = measure ? measure.values[map.layers.indexOf(layer)]?.[map.steps.indexOf(step)] ?? null : null;
    const recorded = recordedAt(app, layer, step);
    if (value !== null) {
      const level = Math.round(255 * clamp((value - low) / (top - low || 1), 0, 1));
      context.fillStyle = `rgb(${VIRIDIS[3 * level]}, ${VIRIDIS[3 * level + 1]}, ${VIRIDIS[3 * level + 2]})`;
      context.globalAlpha = recorded ? 1 : 0.28;
    } else context.fillStyle = recorded ? "#a9cde6" : "#edf0f3";
    context.fillRect(x + gap, y + gap, w - 2 * gap, high - 2 * gap);
    context.globalAlpha = 1;
    if (value !== null && w > 26 && high > 13) {
      const level = clamp((value - low) / (top - low || 1), 0, 1);
      context.fillStyle = recorded ? (level > 0.55 ? "#10131a" : "#fff") : "#5b6270";
      context.font = "10.5px system-ui, sans-serif";
      context.textAlign = "center";
      context.textBaseline = "middle";
      context.fillText(measure.units === "%" ? String(Math.round(value)) : value.toPrecision(2), x + w / 2, y + high / 2 + 0.5);
    }
  }));
  context.fillStyle = "#5b6270";
  context.font = "10.5px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.textAlign = "right";
  const every = Math.ceil(14 / high);
  layers.forEach((layer, row) => row % every === 0 && context.fillText(layer, left - 6, (row + 0.5) * high));
  context.textAlign = "center";
  context.textBaseline = "alphabetic";
  const skip = Math.ceil(22 / w);
  steps.forEach((step, column) => column % skip === 0 && context.fillText(step, left + (column + 0.5) * w, height - 4));
  const [row, column] = [layers.indexOf(app.state.layer), steps.indexOf(app.state.step)];
  context.strokeStyle = "#fff";
  context.lineWidth = 5;
  context.strokeRect(left + column * w + 1, row * high + 1, w - 2, high - 2);
  context.strokeStyle = "#d55e00";
  context.lineWidth = 2.5;
  context.strokeRect(left + column * w + 1, row * high + 1, w - 2, high - 2);
}

function cellOfMap(app, event) {
  const { left, w, high, layers, steps } = app.ui.mapBox;
  const box = app.ui.map.getBoundingClientRect();
  const column = Math.floor((event.clientX - box.left - left) / w), row = Math.floor((event.clientY - box.top) / high);
  return column >= 0 && column < steps.length && row >= 0 && row < layers.length ? [layers[row], steps[column]] : null;
}

function tellStatus(app) {
  const { ui, state } = app;
  const names = app.slotNames().filter((name) => name !== "d");
  const lines = names.map((name) => {
    const slot = app.slots.get(name), path = slot?.path;
    const head = names.length > 1 ? `${SLOT_TITLES[name]}: ` : "";
    if (!slot || slot.attention.error) return null;
    if (app.isTowards() && slot.waiting) return `${head}reading how every cell attends to the text; the first time in a record takes longer…`;
    if (state.token !== null) return null;
    if (slot.waiting) return `${head}finding the point in the other frames; the first time from a frame of this record takes longer…`;
    if (path?.error) return head + path.error.message;
    if (!path) return null;
    const found = state.head === null || !path.head_errors ? path.error_cells : path.head_errors[app.headPlace(name)];
    if (path.error_cells === undefined) {
      return head + (path.truth === null ? "found where the blue disc is; there are no tracks to compare with"
        : path.track === null ? "found where the blue disc is; no track passes here to compare with" : "found where the blue disc is");
    }
    const who = state.head === null ? "The match" : `The match of head ${state.head}`;
    return `${head}${who} is ${found.toFixed(2)} cells from ${path.truth} on average; “nothing moves” ${path.still_error_cells.toFixed(2)} cells`;
  }).filter(Boolean);
  ui.status.textContent = lines.join(" · ");
  const slot = app.slots.get("0");
  const took = slot?.attention?.milliseconds;
  ui.time.textContent = took === undefined || !app.transport.live ? app.transport.note || ""
    : `row read in ${Math.round(took)} ms, shown after ${Math.round(app.times.drawn - app.times.asked)} ms`;
  const most = app.largest("0", app.frameOf(state.focus));
  ui.legendTop.textContent = state.shown === "values" ? "" : percent(most) + (state.scale === "frame" ? " (largest in its frame)" : app.isTowards() ? " of a cell's row" : " of the row");
  ui.legend.hidden = state.shown === "values";
  ui.legendD.hidden = !app.slots.has("d");
  if (app.slots.has("d")) {
    const most = app.largest("d", app.frameOf(state.focus));
    ui.legendDLow.textContent = `more in A ${points(-most)}`;
    ui.legendDTop.textContent = `${points(most)} more in B`;
  }
}
