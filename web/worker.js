// Runs the library: everything that computes happens here, so that the page never waits.
// Messages in: {id, type, ...}; out: {id, ok | error} once, and events {event, ...} in between.

import { fetchChecked, fetchJson } from "./files.js";
import { loadLibrary } from "./modules.js";
import { problem } from "./problem.js";

const FILES = ["config.json", "model.safetensors", "tokenizer.json"];

/** The library's classes and functions, once it is loaded. */
let Model, Sampler, Trainer, inspect;

/** Owned by the worker: wasm objects by the names that the page gives them. */
const state = { device: null, models: {}, used: null, trainer: null, stop: new Set() };

const post = (event, detail = {}) => self.postMessage({ event, ...detail });
/** Lets messages in that have arrived in the meantime. */
const breathe = () =>
  new Promise((resolve) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      channel.port1.close();
      resolve();
    };
    channel.port2.postMessage(0);
  });

/** Reports how far compilation is while `work` waits for the GPU. */
async function watched(work) {
  const device = state.device;
  const before = device.compilation();
  const timer = setInterval(() => {
    const { done, total } = device.compilation();
    if (total > before.done) {
      post("progress", { what: "compile", done: done - before.done, total: total - before.done });
    }
  }, 40);
  try {
    return await work();
  } finally {
    clearInterval(timer);
    post("progress", { what: "compile", done: 1, total: 1 });
  }
}

const handlers = {
  async start({ device, module }) {
    post("progress", { what: "module", done: 0, total: 1 });
    const adapter = device === "cpu" ? null : await navigator.gpu?.requestAdapter();
    const onGpu = adapter && (device === "webgpu" || !adapter.info?.isFallbackAdapter);
    const { library, name, threads, used } = await loadLibrary(module, onGpu);
    ({ Model, Sampler, Trainer, inspect } = library);
    state.used = used;
    library.reportPanics();
    state.device = await library.Device.open(device);
    const info = { ...state.device.info(), module: name, threads, memory: used() };
    if (info.kind === "webgpu") {
      info.adapter = adapterName(adapter);
    }
    return { version: library.version(), samplers: library.samplers(), info };
  },

  async load({ name }) {
    const base = new URL(`./model/${name}/`, import.meta.url);
    const card = await fetchJson(new URL("card.json", base));
    const files = await fetchChecked(base, FILES, card, (done, total) =>
      post("progress", { what: "download", name, done, total }),
    );
    state.models[name]?.free();
    delete state.models[name];
    const model = await Model.load(state.device, ...FILES.map((file) => files[file]));
    state.models[name] = model;
    return { card, info: model.info(), vocabulary: model.vocabulary(), fragments: model.fragments() };
  },

  /** What the files of a published model say. */
  inspect({ files, how, length }) {
    return inspect(state.device, files, how, length);
  },

  /** Opens a published model in place of all others, which would take its room. */
  async open({ id, name, files, how }) {
    Object.values(state.models).forEach((model) => model.free());
    state.models = {};
    const total = sizeOf(files);
    let told = 0;
    const progress = (read) => {
      if (performance.now() - told > 50) {
        told = performance.now();
        post("progress", { what: "open", done: Math.min(read, total), total });
      }
      return !state.stop.has(id);
    };
    try {
      const model = await Model.open(state.device, files, how, progress);
      state.models[name] = model;
      return { card: {}, info: model.info(), vocabulary: model.vocabulary(), fragments: model.fragments(), memory: state.used() };
    } finally {
      state.stop.delete(id);
    }
  },

  canvas({ name, template, length }) {
    return model(name).canvas(template, length);
  },

  text({ name, tokens }) {
    return model(name).text(tokens);
  },

  /** Fills canvases, one of each model in `runs`, step by step and side by side. */
  async sample({ id, runs }) {
    const active = [];
    try {
      for (const { name, canvas, options } of runs) {
        active.push({ name, sampler: new Sampler(model(name), canvas, options), busy: 0, done: false });
      }
      const diffusion = active.find(({ name }) => name !== "ar");
      let share = 1;
      while (active.some((run) => !run.done)) {
        for (const run of active.filter((run) => !run.done)) {
          // The left-to-right model takes a step for each token: several, so that both end together.
          const turns = run.name === "ar" && diffusion && !diffusion.done ? share : 1;
          for (let turn = 0; turn < turns && !run.done; turn += 1) {
            if (state.stop.has(id)) {
              return { stopped: true };
            }
            const begin = performance.now();
            const report = await watchedOnce(run, () => run.sampler.step());
            run.busy += performance.now() - begin;
            run.done = report === undefined;
            if (report) {
              post("step", { id, name: run.name, report, busy: run.busy });
              if (run === diffusion && report.steps > 0) {
                share = Math.max(1, Math.round(run.total / report.steps));
              }
            } else {
              post("finished", { id, name: run.name, busy: run.busy });
            }
            await breathe();
          }
        }
      }
      return { stopped: false };
    } finally {
      state.stop.delete(id);
      active.forEach(({ sampler }) => sampler.free());
    }
  },

  stop({ target }) {
    state.stop.add(target);
  },

  async logits({ name, tokens, t }) {
    return watched(() => model(name).logits(tokens, t));
  },

  /** A run on a text, from random weights or from those in `files`. */
  async trainStart({ text, options, files }) {
    const trainer = await watched(() => Trainer.create(state.device, text, options));
    let model = null;
    try {
      if (files) {
        model = await Model.load(state.device, files.config, files.weights, files.tokenizer);
        await trainer.startFrom(model);
      }
    } catch (error) {
      trainer.free();
      throw error;
    } finally {
      model?.free();
    }
    state.trainer?.free();
    state.trainer = trainer;
    return { info: trainer.info() };
  },

  /** Trains until the last step or until it is stopped; samples and validates now and then. */
  async train({ id, steps, sampleEvery, seed }) {
    const trainer = required(state.trainer, "there is no run to continue");
    let done = 0;
    try {
      while (!state.stop.has(id)) {
        const begin = performance.now();
        const until = Math.min(steps, (Math.floor(done / sampleEvery) + 1) * sampleEvery);
        const stats = await trainer.step(until);
        done = stats.step;
        post("train", { id, stats, ms: performance.now() - begin });
        await breathe();
        const last = stats.step >= steps;
        if (stats.step % sampleEvery === 0 || last) {
          post("validated", { id, step: stats.step, ...(await trainer.validate()) });
          await breathe();
          post("sampled", { id, step: stats.step, ...(await sampleOf(trainer, seed + stats.step)) });
          await breathe();
        }
        if (last) {
          return { stopped: false };
        }
      }
      const begin = performance.now();
      const stats = await trainer.settle();
      if (stats) {
        post("train", { id, stats, ms: performance.now() - begin });
      }
      return { stopped: true };
    } finally {
      state.stop.delete(id);
    }
  },

  async trainSave() {
    const model = await required(state.trainer, "nothing was trained yet").model();
    try {
      return await model.save();
    } finally {
      model.free();
    }
  },
};

/** A text of the model in training, and its files, with which the page can go on if the device is lost. */
async function sampleOf(trainer, seed) {
  const model = await trainer.model();
  let sampler = null;
  try {
    const { length } = model.info();
    sampler = new Sampler(model, model.canvas("", length), { steps: 32, seed });
    while (await sampler.step());
    return { text: sampler.text(), files: await model.save() };
  } finally {
    sampler?.free();
    model.free();
  }
}

/** The first step of a sampler compiles. */
function watchedOnce(run, work) {
  if (run.warm) {
    return work();
  }
  run.warm = true;
  run.total = run.sampler.canvas().tokens.length;
  return watched(work);
}

/** Bytes of a model's weights: of the file that holds all of them, else of its parts. */
function sizeOf(files) {
  const weights = files.filter(({ name }) => name.endsWith(".safetensors"));
  const whole = weights.find(({ name }) => name === "model.safetensors");
  return whole?.size ?? weights.reduce((sum, { size }) => sum + size, 0);
}

function required(value, message) {
  if (!value) {
    throw problem("config", message);
  }
  return value;
}

function model(name) {
  return required(state.models[name], `the model ${name} is not loaded`);
}

/** What the browser tells of the adapter; the library sees no name. */
function adapterName(adapter) {
  const { vendor, architecture, description } = adapter?.info ?? {};
  return [vendor, architecture, description].filter(Boolean).join(" ");
}

self.onmessage = async ({ data }) => {
  const { id, type } = data;
  try {
    const ok = await handlers[type](data);
    self.postMessage({ id, ok: ok ?? null });
  } catch (error) {
    const { code = "internal", message = String(error), hint } = error ?? {};
    self.postMessage({ id, error: { code, message, hint } });
  }
};

post("alive");
