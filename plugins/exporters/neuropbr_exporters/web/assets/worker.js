// Prepares photos and runs the model beside the page, so that the page stays alive meanwhile. The texts of ONNX Runtime
// and of prepare.js come before this one.

"use strict";

let session = null;

// content: the runtime's module (text), its WebAssembly and the model (bytes).
async function start({ module, wasm, model }) {
  // One thread: more of them need memory that pages share only when a server says so, and a file has no server.
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([module], { type: "text/javascript" })) };
  session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  return null;
}

function fit({ pixels, size }) {
  return fitPhoto(pixels, size);
}

// Returns the maps and the model's inputs, each {values, shape}, how the views agree (where `compared`), and the seconds
// that the model took.
async function predict({ photos, cameras, facts, compared }) {
  const inputs = prepareInputs(photos, cameras, facts);
  const feeds = {};
  for (const [name, { values, shape }] of Object.entries(inputs)) {
    feeds[name] = new ort.Tensor("float32", values, shape);
  }
  const begin = performance.now();
  const results = await session.run(feeds, facts.outputs);
  const seconds = (performance.now() - begin) / 1000;
  const maps = {};
  for (const name of facts.outputs) maps[name] = { values: results[name].data, shape: results[name].dims };
  const agreeing = compared ? agreements(inputs.views.values, photos.length, facts.size) : [];
  return { maps, inputs, agreements: agreeing, seconds };
}

const ANSWERS = { start, fit, predict };

// Messages are answered one after the other: [number, name of the answer, what it takes].
let turn = Promise.resolve();
self.onmessage = ({ data: [number, name, content] }) => {
  turn = turn.then(async () => {
    try {
      postMessage([number, null, await ANSWERS[name](content)]);
    } catch (error) {
      postMessage([number, String(error?.message ?? error), null]);
    }
  });
};
