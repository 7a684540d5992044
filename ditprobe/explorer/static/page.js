// The page: its parts, its controls and its keys.

const KEYS = [
  ["← → ↑ ↓", "move the point by a cell (in a picture)"], ["[ ]", "layer before, after"], [", .", "step before, after"],
  ["b", "other branch"], ["h H", "head after, before"], ["m", "mean over heads"], ["t", "attention from or to the word"], ["j k", "image before, after"],
  ["space", "play"], ["f", "scale of all frames or of each"], ["c", "Python code"], ["?", "these keys"],
];

function group(label, ...children) { return h("div", { class: "dpx-row" }, h("span", { class: "dpx-label" }, label), ...children); }

function segmented(label, options, chosen, pick) {
  const buttons = options.map(([value, text, title]) => h("button", { type: "button", title, "data-value": String(value), onclick: () => pick(value) }, text));
  const element = h("div", { class: "dpx-segments", role: "group", "aria-label": label }, buttons);
  element.sync = () => buttons.forEach((button) => {
    const on = button.dataset.value === String(chosen());
    button.classList.toggle("dpx-on", on);
    button.setAttribute("aria-pressed", on);
  });
  return element;
}

function slider(app, label, name, values, text) {
  const input = h("input", { type: "range", min: 0, max: values.length - 1, step: 1, "aria-label": label, disabled: values.length < 2,
    oninput: () => app.set({ [name]: values[Number(input.value)] }, { load: name !== "focus" }) });
  const told = h("output", {});
  const element = h("label", { class: "dpx-slider" }, h("span", { class: "dpx-label" }, label), input, told);
  element.sync = () => {
    input.value = values.indexOf(app.state[name]);
    told.replaceChildren(...text(app.state[name]));
    input.setAttribute("aria-valuetext", told.textContent);
  };
  return element;
}

function buildPage(app) {
  const { state } = app;
  const first = app.recording(0), ui = {};
  const synced = [];
  const keep = (element) => { synced.push(element); return element; };
  app.ui = ui;
  app.synced = synced;

  ui.stage = h("div", { class: "dpx-stage" });
  ui.frames = h("div", { class: "dpx-frames" });
  ui.status = h("p", { class: "dpx-status", role: "status" });
  ui.time = h("p", { class: "dpx-time" });
  ui.play = h("button", { type: "button", class: "dpx-play", onclick: () => app.play() });
  ui.legendTop = h("span", {});
  ui.legendBar = h("i", { class: "dpx-bar" });
  ui.legend = h("div", { class: "dpx-legend" }, h("span", {}, "0"), ui.legendBar, ui.legendTop);
  ui.legendDLow = h("span", {});
  ui.legendDTop = h("span", {});
  ui.legendD = h("div", { class: "dpx-legend", hidden: true }, ui.legendDLow, h("i", { class: "dpx-bar dpx-diverging" }), ui.legendDTop);
  const marks = h("div", { class: "dpx-legend dpx-marks" }, h("span", { class: "dpx-m-source" }, "the point"),
    h("span", { class: "dpx-m-match" }, "its match"), first.truth ? h("span", { class: "dpx-m-truth" }, first.truth) : null);

  const player = h("div", { class: "dpx-player" }, ui.play,
    keep(slider(app, "Image", "focus", [...Array(first.images).keys()], (image) => [`${image}`, h("small", {}, ` of ${first.images}`)])));
  ui.map = h("canvas", { class: "dpx-map", role: "img", "aria-label": "Layers by steps; the sliders below choose the same" });
  ui.mapNote = h("p", { class: "dpx-note" });
  ui.mapTip = h("p", { class: "dpx-note" });
  ui.map.addEventListener("click", (event) => {
    const cell = cellOfMap(app, event);
    if (!cell) return;
    if (recordedAt(app, ...cell)) app.set({ layer: cell[0], step: cell[1] });
    else ui.mapTip.textContent = `Layer ${cell[0]}, step ${cell[1]} was not recorded. Recorded layers: ${first.layers.join(", ")}; steps: ${first.steps.join(", ")}.`;
  });
  ui.map.addEventListener("pointermove", (event) => {
    const cell = cellOfMap(app, event);
    const map = app.overview.map, measure = map?.measures[state.measure];
    const value = cell && measure ? measure.values[map.layers.indexOf(cell[0])]?.[map.steps.indexOf(cell[1])] : null;
    ui.map.style.cursor = cell && recordedAt(app, ...cell) ? "pointer" : "default";
    ui.map.title = cell ? `layer ${cell[0]}, step ${cell[1]}` + (value === null || value === undefined ? "" : `: ${value.toPrecision(3)} ${measure.units}`) +
      (recordedAt(app, ...cell) ? "" : " (not recorded)") : "";
  });
  const measures = app.overview.map?.measures || [];
  const measure = measures.length ? h("select", { "aria-label": "Measure of the map", onchange: (event) => app.set({ measure: Number(event.target.value) }, { load: false }) },
    measures.map((one, index) => h("option", { value: index }, one.title + (one.baseline === null ? "" : ` (nothing moves: ${one.baseline.toFixed(0)} %)`)))) : null;

  const branch = first.branches.length > 1
    ? group("Branch", keep(segmented("Branch", first.branches.map((name) => [name, name]), () => state.branch, (value) => app.set({ branch: value })))) : null;
  ui.headsFrame = h("span", {});
  ui.heads = h("div", { class: "dpx-heads" });
  const mean = h("button", { type: "button", class: "dpx-mean", onclick: () => app.chooseHead(null) }, "mean over heads");
  mean.sync = () => { mean.classList.toggle("dpx-on", state.head === null); mean.setAttribute("aria-pressed", state.head === null); };
  const orders = [["number", "number"], ["share", "share here"], ...(first.truth ? [["error", "distance to " + first.truth]] : [])];
  const order = h("select", { "aria-label": "Order of heads", onchange: (event) => app.set({ order: event.target.value }, { load: false }) },
    orders.map(([value, text]) => h("option", { value }, "by " + text)));
  const which = state.compare ? keep(segmented("Heads of", [[0, "A"], [1, "B"]], () => state.headsOf, (value) => app.set({ headsOf: value }, { load: false }))) : null;
  ui.textTitle = h("h2", {});
  ui.text = h("div", { class: "dpx-chips" });
  ui.direction = h("div", { class: "dpx-row dpx-direction" }, keep(segmented("Direction", [[false, "from the word", "What the text token looks at"], [true, "to the word", "How much every cell looks at the text token"]],
    () => state.towards, (value) => app.set({ towards: value }))));
  ui.textPanel = h("section", { class: "dpx-panel dpx-text" }, ui.textTitle, ui.direction, ui.text);
  ui.dialog = h("dialog", { class: "dpx-dialog" });
  ui.tip = h("div", { class: "dpx-tip", hidden: true });

  const shown = first.values ? keep(segmented("What is shown", [["attention", "attention"], ["values", "values", "What the head carries: principal components of its values as red, green, blue"]],
    () => state.shown, (value) => app.set({ shown: value }))) : null;
  const view = h("div", { class: "dpx-row dpx-view" }, shown,
    keep(segmented("Scale", [["all", "one scale", "The same scale in all frames"], ["frame", "each frame", "Each frame by its own largest value"]], () => state.scale, (value) => app.set({ scale: value }, { load: false }))),
    keep(segmented("Curve", [[false, "linear"], [true, "root", "Opacity by the square root of the share, so that small ones show"]], () => state.root, (value) => app.set({ root: value }, { load: false }))),
    h("label", { class: "dpx-slider dpx-dim" }, h("span", { class: "dpx-label" }, "Dim"), h("input", { type: "range", min: 0, max: 0.9, step: 0.05, value: state.dim, "aria-label": "Dim the images",
      oninput: (event) => app.set({ dim: Number(event.target.value) }, { load: false }) })));

  const names = app.overview.recordings.map((recording, index) => h("div", { class: "dpx-name" },
    app.overview.recordings.length > 1 ? h("b", {}, SLOT_TITLES[index] + " ") : null, h("strong", {}, recording.model), " ",
    recording.prompt ? h("span", { class: "dpx-prompt" }, `“${recording.prompt}”`) : h("span", {}, recording.name),
    recording.seed === null ? null : h("small", {}, ` seed ${recording.seed}`),
    h("small", { class: "dpx-writing" }, recording.state === "open" ? ` being written: ${recording.done} of ${recording.records} records` : "")));
  const actions = h("div", { class: "dpx-actions" },
    h("button", { type: "button", onclick: () => showCode(app) }, "Python"),
    h("button", { type: "button", onclick: () => savePng(app) }, "PNG"),
    h("button", { type: "button", onclick: () => saveSvg(app) }, "SVG"),
    app.transport.live ? h("button", { type: "button", onclick: (event) => saveHtml(app, event.target) }, "HTML") : null,
    h("button", { type: "button", "aria-label": "Keys", onclick: () => showKeys(app) }, "?"));
  const difference = app.overview.recordings.length > 1 && app.overview.difference
    ? h("p", { class: "dpx-note" }, `No difference: ${app.overview.difference}.`) : null;
  const noClip = first.has_images ? null : h("p", { class: "dpx-note" },
    "The recording was opened without its clip, so the pictures show cells only. Pass clip= in Python or --clip in the shell.");

  const doubts = app.overview.recordings.filter((recording) => recording.doubt).map((recording) => h("p", { class: "dpx-note" }, recording.doubt));

  ui.page = h("div", { class: "dpx", "data-lm-suppress-shortcuts": "true" }, // JupyterLab would take b for a new cell
    h("header", {}, h("div", { class: "dpx-names" }, names), actions), difference, noClip, doubts,
    h("div", { class: "dpx-columns" },
      h("main", { class: state.compare ? "dpx-compared" : null }, h("section", { class: "dpx-panel dpx-top" }, ui.stage, player, ui.status),
        ui.textPanel,
        h("section", { class: "dpx-panel dpx-framesbox" }, h("div", { class: "dpx-tools" }, view, ui.legend, ui.legendD, marks), ui.frames)),
      h("aside", {},
        h("section", { class: "dpx-panel" }, h("h2", {}, "Layers and steps", measure), ui.map, ui.mapNote, ui.mapTip,
          keep(slider(app, "Layer", "layer", first.layers, (layer) => [`${layer}`, h("small", {}, ` of ${first.layer_count}`)])),
          keep(slider(app, "Step", "step", first.steps, (step) => {
            const time = first.timesteps[first.steps.indexOf(step)];
            return [`${step}`, h("small", {}, ` of ${first.run_steps}` + (time === null || time === undefined ? "" : `, t = ${Number(time.toPrecision(4))}`))];
          })), branch),
        h("section", { class: "dpx-panel dpx-headsbox" }, h("h2", {}, h("span", {}, "Heads ", ui.headsFrame), which, order), keep(mean), ui.heads))),
    ui.time, ui.tip, ui.dialog);
  app.root.replaceChildren(ui.page);
  ui.page.addEventListener("keydown", (event) => onKey(app, event));
  app.resized = new ResizeObserver(() => { app.widths = new WeakMap(); requestAnimationFrame(() => app.draw()); });
  for (const element of [ui.page, ui.stage, ui.frames]) app.resized.observe(element);
  syncControls(app);
}

function syncControls(app) {
  for (const element of app.synced) element.sync();
  app.ui.play.textContent = app.playing ? "❚❚" : "▶";
  app.ui.play.setAttribute("aria-label", app.playing ? "Pause" : "Play");
  app.ui.mapTip.textContent = "";
  app.ui.page.querySelectorAll(".dpx-writing").forEach((place, index) => {
    const recording = app.recording(index);
    place.textContent = recording.state === "open" ? ` being written: ${recording.done} of ${recording.records} records` : "";
  });
}

function onKey(app, event) {
  if (event.ctrlKey || event.metaKey || event.altKey || app.ui.dialog.open) return;
  const target = event.target;
  const typing = target.matches("input, select, textarea");
  const picture = target.matches("canvas.dpx-big");
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const keys = {
    "[": () => app.turn("layer", -1), "]": () => app.turn("layer", 1), ",": () => app.turn("step", -1), ".": () => app.turn("step", 1),
    b: () => app.turn("branch", 1), h: () => app.turnHead(1), H: () => app.turnHead(-1), m: () => app.chooseHead(null),
    j: () => { app.stop(); app.goTo(app.state.focus - 1); }, k: () => { app.stop(); app.goTo(app.state.focus + 1); },
    t: () => app.state.token !== null && app.set({ towards: !app.state.towards }),
    f: () => app.set({ scale: app.state.scale === "all" ? "frame" : "all" }, { load: false }),
    c: () => showCode(app), "?": () => showKeys(app),
  };
  if (event.key === " " && !target.matches("button, select, summary")) { event.preventDefault(); event.stopPropagation(); app.play(); return; }
  if (picture && arrows[event.key]) { event.preventDefault(); event.stopPropagation(); app.move(...arrows[event.key]); return; }
  if (!typing && keys[event.key]) { event.preventDefault(); event.stopPropagation(); keys[event.key](); }
}

function showDialog(app, ...content) {
  app.ui.dialog.replaceChildren(h("button", { type: "button", class: "dpx-close", "aria-label": "Close", onclick: () => app.ui.dialog.close() }, "×"), ...content);
  app.ui.dialog.showModal();
}

function showKeys(app) {
  showDialog(app, h("h2", {}, "Keys"), h("dl", { class: "dpx-keys" }, KEYS.map(([key, text]) => [h("dt", {}, key), h("dd", {}, text)])),
    h("p", { class: "dpx-note" }, "Click or drag in any picture to choose the point; click a word to see what it looks at and what looks at it; click a head to see it alone."));
}

async function showCode(app) {
  const answer = await app.ask(app.request("code", 0));
  const code = answer.error ? answer.error.message : answer.code;
  const copy = h("button", { type: "button", onclick: async () => {
    try { await navigator.clipboard.writeText(code); copy.textContent = "Copied"; } catch (error) {
      const range = document.createRange();
      range.selectNodeContents(pre);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      copy.textContent = "Selected: press Ctrl+C";
    }
  } }, "Copy");
  const pre = h("pre", {}, code);
  showDialog(app, h("h2", {}, "This view in Python"), pre, copy, app.transport.live ? null : h("p", { class: "dpx-note" }, "Of the view that was exported."));
}
