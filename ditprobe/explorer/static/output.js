// Pictures of the present view as files.

function captionOf(app) {
  const { state } = app, recording = app.recording(0);
  const where = state.token === null ? `point (${state.x.toFixed(1)}, ${state.y.toFixed(1)}) px of image ${state.image}`
    : `${app.isTowards() ? "attention to" : "attention of"} the text token ${recording.token_names[state.branch]?.[state.token] ?? state.token}`;
  return `${recording.model}, layer ${state.layer}, step ${state.step}, ${state.branch}, ` +
    `${state.head === null ? "mean over heads" : "head " + state.head}: ${where}`;
}

function fileName(app, suffix) {
  const { state } = app;
  return `${app.recording(0).name.replace(/\.zarr$/, "")}-layer${state.layer}-step${state.step}.${suffix}`;
}

function download(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Panels of all frames in rows of slots: where each stands, and what it is called.
function sheetOf(app) {
  const names = app.slotNames(), recording = app.recording(0);
  const frames = recording.centres.length, columns = Math.min(frames, frames <= 7 ? frames : Math.ceil(frames / Math.ceil(frames / 7)));
  const width = 220, height = Math.round(width * recording.pixels[0] / recording.pixels[1]), gap = 10, label = 20, head = 34;
  const lines = Math.ceil(frames / columns);
  const panels = [];
  names.forEach((name, k) => recording.centres.forEach((centre, frame) => panels.push({
    name, image: centre, x: gap + (frame % columns) * (width + gap),
    y: head + (k * lines + Math.floor(frame / columns)) * (height + label + gap),
    text: `${names.length > 1 ? SLOT_TITLES[name] + " · " : ""}frame ${recording.frames[frame]} · ${percent(app.share(name, frame) || 0)}`,
  })));
  return { panels, width, height, label, total: [gap + columns * (width + gap), head + names.length * lines * (height + label + gap) + 24] };
}

const NOTE = "opacity by share of the row, 0 to ", NOTE_TOWARDS = "opacity by share of each cell's own row, 0 to ";

function legendText(app) {
  return (app.isTowards() ? NOTE_TOWARDS : NOTE) + percent(app.largest("0", app.frameOf(app.state.focus))) + (app.state.scale === "frame" ? " in this frame, others by their own largest" : "") +
    (app.state.root ? ", square root" : "");
}

async function savePng(app) {
  const sheet = sheetOf(app), density = 2;
  const canvas = canvasOf(sheet.total[0] * density, sheet.total[1] * density);
  const context = canvas.getContext("2d");
  context.scale(density, density);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, ...sheet.total);
  context.fillStyle = "#1f2430";
  context.font = "600 13px system-ui, sans-serif";
  context.fillText(captionOf(app), 10, 21, sheet.total[0] - 20);
  context.font = "11.5px system-ui, sans-serif";
  for (const panel of sheet.panels) {
    const part = canvasOf(sheet.width * density, sheet.height * density);
    const inner = part.getContext("2d");
    inner.scale(density, density);
    paintInto(app, inner, sheet.width, sheet.height, panel.name, panel.image, { fine: 0.9 });
    context.drawImage(part, panel.x, panel.y, sheet.width, sheet.height);
    context.fillStyle = "#5b6270";
    context.fillText(panel.text, panel.x, panel.y + sheet.height + 14);
  }
  context.fillText(legendText(app), 10, sheet.total[1] - 9);
  canvas.toBlob((blob) => download(blob, fileName(app, "png")), "image/png");
}

function saveSvg(app) {
  const sheet = sheetOf(app);
  const escape = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const parts = sheet.panels.map((panel) => {
    const recording = app.recording(panel.name === "1" ? 1 : 0);
    const picture = app.pictures[panel.name === "1" ? 1 : 0].get(panel.image);
    const base = picture ? canvasOf(picture.naturalWidth, picture.naturalHeight) : canvasOf(sheet.width, sheet.height);
    drawBase(base.getContext("2d"), base.width, base.height, picture, panel.name === "d" ? Math.max(app.state.dim, 0.6) : app.state.dim, recording.cells);
    const overlay = overlayFor(app, panel.name, app.frameOf(panel.image, recording));
    const sized = `width="${sheet.width}" height="${sheet.height}" preserveAspectRatio="none"`;
    const sharp = base.width < sheet.width / 2 ? ' style="image-rendering: pixelated"' : "";
    return `<g transform="translate(${panel.x} ${panel.y})"><svg ${sized} overflow="hidden">` +
      `<image ${sized} href="${base.toDataURL()}"${sharp}/>` +
      (overlay ? `<image ${sized} href="${overlay.toDataURL()}" style="image-rendering: pixelated"/>` : "") +
      svgShapes(marksOf(app, panel.name, panel.image, sheet.width, sheet.height, 0.9)) +
      `</svg><text y="${sheet.height + 14}" font-size="11.5" fill="#5b6270">${escape(panel.text)}</text></g>`;
  });
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${sheet.total[0]}" height="${sheet.total[1]}" viewBox="0 0 ${sheet.total.join(" ")}" ` +
    `font-family="system-ui, Helvetica, Arial, sans-serif"><rect width="100%" height="100%" fill="#fff"/>` +
    `<text x="10" y="21" font-size="13" font-weight="600" fill="#1f2430">${escape(captionOf(app))}</text>${parts.join("")}` +
    `<text x="10" y="${sheet.total[1] - 9}" font-size="11.5" fill="#5b6270">${escape(legendText(app))}</text></svg>`;
  download(new Blob([svg], { type: "image/svg+xml" }), fileName(app, "svg"));
}

async function saveHtml(app, button) {
  button.disabled = true;
  button.textContent = "HTML…";
  const answer = await app.ask(app.request("export", 0));
  button.disabled = false;
  button.textContent = "HTML";
  if (answer.error) { showDialog(app, h("h2", {}, "Nothing was exported"), h("p", {}, answer.error.message)); return; }
  download(new Blob([answer.html], { type: "text/html" }), fileName(app, "html"));
}
