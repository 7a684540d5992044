"use strict";
// What both ends of a request agree on: answers as bytes, and three ways to ask for them.

const LEVELS = { u1: 255, u2: 65535 };

function decodeArray(told, buffer, start) {
  const count = told.shape.reduce((a, b) => a * b, 1);
  if (told.kind === "f4") return new Float32Array(buffer, start, count);
  const levels = told.kind === "u2" ? new Uint16Array(buffer, start, count) : new Uint8Array(buffer, start, count);
  const values = new Float32Array(count);
  const each = count / told.largest.length;
  told.largest.forEach((largest, entry) => {
    const most = LEVELS[told.kind];
    for (let i = entry * each; i < (entry + 1) * each; i++) {
      const part = levels[i] / most;
      values[i] = largest * part * part;
    }
  });
  return values;
}

// Arrays by name; each is decoded when its values are first asked for, since the picture needs only one of them at once.
function arraysOf(head, place) {
  const arrays = {};
  for (const told of head.arrays || []) {
    const [buffer, start] = place(told);
    let values = null;
    arrays[told.name] = { shape: told.shape, get values() { return (values ??= decodeArray(told, buffer, start)); } };
  }
  return { ...head, arrays };
}

function sizeOf(told) {
  return told.shape.reduce((a, b) => a * b, 1) * (told.kind === "f4" ? 4 : told.kind === "u2" ? 2 : 1);
}

function decodeAnswer(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let start = 4 + length;
  return arraysOf(head, (told) => {
    const here = start;
    start += Math.ceil(sizeOf(told) / 8) * 8;
    return [buffer, here];
  });
}

// A page of the local server.
function serverTransport(base) {
  return {
    live: true,
    async ask(request) {
      const reply = await fetch(base + "answer?q=" + encodeURIComponent(JSON.stringify(request)));
      if (!reply.ok) throw new Error("the explorer's server answered " + reply.status);
      return decodeAnswer(await reply.arrayBuffer());
    },
    async image(recording, image) { return base + "image/" + recording + "/" + image; },
  };
}

// A widget in a notebook: messages to the kernel.
function widgetTransport(model) {
  const waiting = new Map();
  let number = 0;
  model.on("msg:custom", (message, buffers) => {
    const done = waiting.get(message.id);
    if (!done) return;
    waiting.delete(message.id);
    done(message, buffers);
  });
  const send = (request) => new Promise((resolve) => {
    waiting.set(++number, (message, buffers) => resolve([message, buffers]));
    model.send({ id: number, request });
  });
  const aligned = (view) => { // a message's buffers need not begin at a multiple of four bytes
    const bytes = view instanceof ArrayBuffer ? new Uint8Array(view)
      : new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    return bytes.slice().buffer;
  };
  const urls = new Map();
  return {
    live: true,
    async ask(request) {
      const [message, buffers] = await send(request);
      let next = 0;
      return arraysOf(message, () => [aligned(buffers[next++]), 0]);
    },
    async image(recording, image) {
      const key = recording + "/" + image;
      if (!urls.has(key)) {
        const [message, buffers] = await send({ kind: "image", recording, image });
        if (message.head.error) throw new Error(message.head.error.message);
        urls.set(key, URL.createObjectURL(new Blob([aligned(buffers[0])], { type: message.head.type })));
      }
      return urls.get(key);
    },
    close() { urls.forEach((url) => URL.revokeObjectURL(url)); },
  };
}

// A file without a network: the answers that were exported.
async function replayTransport(stored) {
  const packed = Uint8Array.from(atob(stored.bytes), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const keyOf = (q) => [q.kind, q.recording, q.step, q.layer, q.branch].join("|");
  const places = new Map();
  for (const answer of stored.answers) {
    const key = keyOf(answer.request);
    if (!places.has(key)) places.set(key, []);
    places.get(key).push(answer);
  }
  const nearest = (request) => {
    const found = places.get(keyOf(request)) || [];
    let best = null, least = Infinity;
    for (const answer of found) {
      const asked = answer.request;
      if ((request.token ?? null) !== (asked.token ?? null)) continue;
      const away = request.token != null ? 0
        : Math.hypot(asked.x - request.x, asked.y - request.y) + (asked.image === request.image ? 0 : 1e6)
          + Math.abs(asked.image - request.image);
      if (away < least) [best, least] = [answer, away];
    }
    return best;
  };
  return {
    live: false,
    note: stored.note,
    has: (request) => (places.get(keyOf(request)) || []).some((answer) => answer.head),
    async ask(request) {
      if (request.kind === "overview") return stored.overview;
      if (request.kind === "code") return { kind: "code", code: stored.code };
      const found = nearest(request);
      if (!found) {
        return { arrays: {}, error: { kind: "NotExported", message:
          "This file holds no answer for that. " + stored.note } };
      }
      return arraysOf(found.head, (told) => [buffer, told.start]);
    },
    async image(recording, image) {
      const url = (stored.images[recording] || {})[image];
      if (!url) throw new Error("this file does not hold image " + image);
      return url;
    },
  };
}
