// The explorer: state, requests, and what follows from a click.

function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined && child !== false) element.append(child);
  return element;
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const plural = (count, one, many = one + "s") => `${count} ${count === 1 ? one : many}`;

class Explorer {
  constructor(root, transport) {
    this.root = root;
    this.transport = transport;
    this.slots = new Map(); // what was answered: "a" and "b" by recording, with attention, path and values
    this.pictures = [new Map(), new Map()];
    this.widths = new WeakMap(); // of canvases, until the page is resized
    this.ticket = 0;
    this.busy = false;
    this.wanted = false;
    this.state = {
      step: 0, layer: 0, branch: "cond", image: 0, x: 0, y: 0, token: null, head: null, focus: 0,
      scale: "all", root: true, dim: 0.4, compare: false, shown: "attention", order: "number", measure: 0, headsOf: 0,
      paths: true, padding: false, towards: false,
    };
    this.times = { asked: 0, drawn: 0 };
  }

  async begin() {
    this.overview = await this.transport.ask({ kind: "overview" });
    if (this.overview.error) {
      this.root.replaceChildren(h("p", { class: "dpx-error", role: "alert" }, this.overview.error.message));
      return;
    }
    const { start, recordings } = this.overview;
    Object.assign(this.state, start, { focus: start.image, compare: recordings.length > 1 });
    if (start.head !== undefined) this.state.head = start.head;
    buildPage(this);
    await Promise.all(recordings.map((_, index) => this.loadPictures(index)));
    await this.load();
    if (this.overview.recordings.some((r) => r.state === "open") && this.transport.live) this.watch();
  }

  close() { this.closed = true; this.stop(); clearInterval(this.watching); this.transport.close?.(); }

  recording(index = 0) { return this.overview.recordings[index]; }

  shownRecordings() { return this.state.compare ? [0, 1] : [0]; }

  slotNames() { return this.state.compare ? (this.overview.difference ? ["0", "1"] : ["0", "1", "d"]) : ["0"]; }

  async loadPictures(index) {
    const recording = this.recording(index);
    if (!recording.has_images) return;
    const want = [...new Set([this.state.focus, ...recording.centres, ...Array(recording.images).keys()])];
    const fetchOne = async (image) => {
      try {
        const picture = new Image();
        picture.src = await this.transport.image(index, image);
        await picture.decode();
        this.pictures[index].set(image, picture);
      } catch (error) { /* a missing image is drawn as cells */ }
    };
    const first = want.slice(0, 1 + recording.centres.length);
    await Promise.all(first.map(fetchOne));
    Promise.all(want.slice(first.length).map(fetchOne)).then(() => !this.closed && this.draw());
  }

  // Requests: the newest wins, so that dragging never queues up.
  request(kind, recording) {
    const { step, layer, branch, image, x, y, token, head, towards } = this.state;
    return { kind, recording, step, layer, branch, image, x, y, token, head, towards };
  }

  async load() {
    if (this.busy) { this.wanted = true; return; }
    this.busy = true;
    do {
      this.wanted = false;
      this.times.asked = performance.now();
      const ticket = ++this.ticket;
      const shown = this.shownRecordings();
      // The picture needs the mean alone; the heads are nearly all of the bytes and come right after it.
      const brief = this.transport.live && shown.length === 1 && this.state.head === null;
      const requests = shown.map((index) => ({ ...this.request("attention", index), brief }));
      const answers = await Promise.all(requests.map((request) => this.ask(request)));
      if (this.closed) return;
      shown.forEach((index, i) => this.slots.set(String(index), { attention: answers[i] }));
      this.difference();
      const first = answers.find((answer) => !answer.error);
      if (first?.point) Object.assign(this.state, { x: first.point[0], y: first.point[1], image: first.image });
      this.draw();
      this.times.drawn = performance.now();
      this.tell();
      this.coming = brief && !answers[0].error ? this.loadHeads(requests[0], this.slots.get(String(shown[0]))) : null;
      this.after(ticket, shown);
    } while (this.wanted);
    this.busy = false;
  }

  // The heads of a picture that is shown already; where it is gone when they are there, nothing is drawn.
  async loadHeads(request, slot) {
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)));
    if (this.closed || this.wanted || this.slots.get(String(request.recording)) !== slot) return;
    const found = await this.ask({ ...request, kind: "heads" });
    if (found.error || this.slots.get(String(request.recording)) !== slot) return;
    slot.attention.arrays.heads = found.arrays.heads;
    if (this.state.head === null) this.drawBeside(); else this.draw(); // the mean is in the pictures already
  }

  async ask(request) {
    try { return await this.transport.ask(request); } catch (error) {
      return { arrays: {}, error: { kind: "Connection", message:
        `${error.message}. Is the program that shows this page still running?` } };
    }
  }

  // What may take longer than a frame of the screen comes after the picture.
  async after(ticket, shown) {
    clearTimeout(this.pausing);
    this.pausing = setTimeout(async () => {
      await this.coming;
      for (const index of shown) {
        const slot = this.slots.get(String(index));
        if (ticket !== this.ticket || !slot || slot.attention.error) continue;
        if (this.state.shown === "values") {
          slot.values = await this.ask(this.request("values", index));
          if (ticket === this.ticket) this.draw();
        }
        const towards = this.isTowards();
        if (!towards && (this.state.token !== null || !this.state.paths)) continue;
        slot.waiting = true;
        const late = setTimeout(() => ticket === this.ticket && this.tell(), 250);
        const found = await this.ask(this.request(towards ? "to_text" : "path", index));
        clearTimeout(late);
        slot.waiting = false;
        if (ticket !== this.ticket || this.closed) return;
        if (!found.superseded) slot[towards ? "towards" : "path"] = found;
        if (towards) this.difference();
        this.draw();
        this.tell();
      }
      this.root.dataset.settled = String(ticket);
    }, 60);
  }

  // Whether the pictures show what every cell gives a text token, rather than what the token or a point gives the cells.
  isTowards() { return this.state.token !== null && this.state.towards; }

  answered(name) { return this.slots.get(name)?.[this.isTowards() ? "towards" : "attention"]; }

  difference() {
    this.slots.delete("d");
    if (!this.state.compare || this.overview.difference) return;
    const difference = {};
    for (const kind of ["attention", "towards"]) {
      const [a, b] = ["0", "1"].map((name) => this.slots.get(name)?.[kind]);
      if (!a || !b || a.error || b.error) continue;
      const arrays = {};
      for (const name of ["mean", "heads", "text"]) {
        const [one, two] = [a.arrays[name], b.arrays[name]];
        if (!one || !two || one.values.length !== two.values.length) continue;
        arrays[name] = { shape: one.shape, values: two.values.map((value, i) => value - one.values[i]) };
      }
      if (arrays.mean) difference[kind] = { arrays };
    }
    if (difference.attention) this.slots.set("d", difference);
  }

  // The weights that a slot shows: of the mean over heads, or of one head.
  weights(name) {
    const arrays = this.answered(name)?.arrays;
    if (!arrays?.mean) return null;
    const [, frames, rows, columns] = arrays.mean.shape;
    const each = frames * rows * columns;
    let values = arrays.mean.values;
    const place = this.state.head === null ? -1 : this.headPlace(name);
    if (this.state.head !== null) {
      if (!arrays.heads || place < 0) return null;
      values = arrays.heads.values.subarray(place * each, (place + 1) * each);
    }
    return { values, frames, rows, columns, cells: rows * columns };
  }

  headPlace(name) { return this.recording(name === "1" ? 1 : 0).heads.indexOf(this.state.head); }

  // The largest weight of the scale; kept, since every picture of the same answer asks for it.
  largest(name, frame) {
    const answers = ["0", "1", "d"].map((one) => this.answered(one));
    const { head, scale, compare } = this.state;
    const key = [name === "d", scale === "frame" ? frame : "", head, scale, compare].join();
    if (!this.kept || this.kept.answers.some((answer, i) => answer !== answers[i])) this.kept = { answers, largest: new Map() };
    if (!this.kept.largest.has(key)) this.kept.largest.set(key, this.findLargest(name, frame));
    return this.kept.largest.get(key);
  }

  findLargest(name, frame) {
    const names = name === "d" ? ["d"] : this.slotNames().filter((one) => one !== "d");
    let most = 0;
    for (const one of names) {
      const w = this.weights(one);
      if (!w) continue;
      const [from, to] = this.state.scale === "frame" && frame < w.frames
        ? [frame * w.cells, (frame + 1) * w.cells] : [0, w.values.length];
      for (let i = from; i < to; i++) most = Math.max(most, Math.abs(w.values[i]));
    }
    return most;
  }

  frameOf(image, recording = this.recording(0)) {
    return recording.spans.findIndex(([from, to]) => image >= from && image < to);
  }

  // The share of a row that a frame gets; of a map towards a text token, what its cells give on average.
  share(name, frame) {
    const w = this.weights(name);
    if (!w || frame < 0) return NaN;
    let total = 0;
    for (let i = frame * w.cells; i < (frame + 1) * w.cells; i++) total += w.values[i];
    return this.isTowards() ? total / w.cells : total;
  }

  // What a pointer or a key changes.
  set(changes, { load = true } = {}) {
    if (this.ui) this.ui.tip.hidden = true;
    Object.assign(this.state, changes);
    if (load) this.load(); else { this.draw(); this.tell(); }
    syncControls(this);
  }

  choosePoint(image, x, y, options) {
    const [high, wide] = this.recording(0).pixels;
    this.stop();
    this.set({ image, focus: image, x: clamp(x, 0, wide), y: clamp(y, 0, high), token: null }, options);
  }

  move(dx, dy) {
    const { cells, pixels } = this.recording(0);
    this.choosePoint(this.state.image, this.state.x + dx * pixels[1] / cells[1], this.state.y + dy * pixels[0] / cells[0]);
  }

  turn(name, by) { // the next or the previous recorded layer, step or branch
    const values = this.recording(0)[{ layer: "layers", step: "steps", branch: "branches" }[name]];
    const next = values[clamp(values.indexOf(this.state[name]) + by, 0, values.length - 1)];
    if (name === "branch") this.set({ branch: values[(values.indexOf(this.state.branch) + 1) % values.length] });
    else if (next !== this.state[name]) this.set({ [name]: next });
  }

  turnHead(by) {
    const heads = [null, ...this.recording(0).heads];
    this.chooseHead(heads[(heads.indexOf(this.state.head) + by + heads.length) % heads.length]);
  }

  chooseHead(head) {
    this.set({ head }, { load: false });
    if (this.state.shown === "values") this.load();
  }

  goTo(image) {
    const last = this.recording(0).images - 1;
    this.set({ focus: clamp(image, 0, last) }, { load: false });
  }

  play() {
    if (this.playing) { this.stop(); return; }
    const { images, fps } = this.recording(0);
    const pause = 1000 / clamp(fps || 8, 1, 30);
    this.playing = setInterval(() => this.goTo((this.state.focus + 1) % images), pause);
    syncControls(this);
  }

  stop() {
    if (this.playing) clearInterval(this.playing);
    this.playing = null;
    if (this.ui) syncControls(this);
  }

  // A recording that is being written: look for new records now and then.
  watch() {
    this.watching = setInterval(async () => {
      const found = await this.ask({ kind: "overview" });
      if (this.closed || found.error) return;
      this.overview = found;
      drawNavigator(this);
      syncControls(this);
      if (found.recordings.every((recording) => recording.state !== "open")) clearInterval(this.watching);
    }, 4000);
  }

  draw() {
    if (this.closed || !this.ui) return;
    drawStage(this);
    drawFrames(this);
    this.drawBeside();
  }

  // The panels beside the pictures come with the frame of the screen after theirs, unless something newer comes first.
  drawBeside() {
    cancelAnimationFrame(this.beside);
    this.beside = requestAnimationFrame(() => {
      this.beside = requestAnimationFrame(() => {
        if (this.closed) return;
        drawHeads(this);
        drawText(this);
        drawNavigator(this);
      });
    });
  }

  tell() { tellStatus(this); }
}
