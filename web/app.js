// The page: what its controls do. The worker computes.

import { showCard } from "./cards.js";
import { Engine } from "./engine.js";
import { clearNotice, notice } from "./notices.js";
import { FATAL, problem } from "./problem.js";
import { setUpPublished } from "./published.js";
import { setUpReplay } from "./replay.js";
import { offerSamplers, options, readAddress, settings, showSteps, suit, writeAddress } from "./settings.js";
import { showDevice, showProgress } from "./status.js";
import { setUpTraining } from "./train.js";
import { TokenView } from "./view.js";
import { Vocabulary } from "./vocabulary.js";

const $ = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

/** A gap in a prompt. */
const GAP = /(?<!\\)\[MASK(:\d+)?\]/;

/** Longest canvas of the page. */
const LONGEST = 4096;

/** What is loaded and what runs; `published` is what the visitor chose in place of the page's diffusion model, `shown` that
 *  to which the text belongs. */
const app = { models: {}, run: null, published: null, shown: undefined, opening: null, recovered: false, round: 0, busy: false, boots: 0, booting: false };

const engine = new Engine(hear);
const view = new TokenView($("tokens"), { onPick: pick, onFocus: (text) => ($("token-info").textContent = text || "\u00A0") });
const arView = new TokenView($("ar-tokens"));
const { counters } = setUpReplay({ view, idle: () => !app.busy, still });
const training = setUpTraining({ engine, fail, idle: () => !app.busy, lock });
const published = setUpPublished({
  engine,
  idle: () => !app.busy,
  length: () => Number($("length").value) || 128,
  onCpu: () => $("device").dataset.kind === "cpu",
  use: openPublished,
  leave: leavePublished,
  cancel: () => app.opening && engine.stop(app.opening),
});

// Errors

/** Tells of an error; a lost device or a dead worker is started again once, then a button offers it. */
async function fail(error, what, actions = []) {
  if (error.code === "cancelled") {
    return;
  }
  if (!FATAL.includes(error.code)) {
    if (error.code === "config") {
      $("settings").open = true;
    }
    notice(`${what}: ${error.message}`, { id: "error", hint: error.hint, actions });
    return;
  }
  if (app.restarting) {
    app.failed ??= error;
  } else if (!app.recovered) {
    notice(`${lost(error)}. Starting again once, where it stood…`, { id: "lost" });
    await restart($("device-choice").value);
  } else {
    giveUp(error);
  }
}

const lost = ({ code }) => (code === "device_lost" ? "The GPU was lost" : "The computation broke down");

/** Says what happened and leaves it to the visitor to start again. */
function giveUp(error) {
  engine.end("cancelled", "ended");
  app.models = {};
  app.run = null;
  forget();
  training.reset();
  $("loading").hidden = true;
  lock(false);
  notice(`${lost(error)}: ${error.message}`, {
    id: "lost",
    hint: error.hint,
    actions: [
      ["Start again", () => restart($("device-choice").value)],
      ["Compute on the CPU", () => restart("cpu")],
    ],
  });
}

/** A fresh worker, the models again, and the text from where it stood. */
async function restart(device) {
  Object.assign(app, { recovered: true, restarting: true, failed: null });
  const canvas = app.run && view.frames.length > 0 ? view.canvas() : null;
  app.run = null;
  training.reset();
  $("device-choice").value = device;
  let started;
  try {
    started = await boot(device);
  } finally {
    app.restarting = false;
  }
  if (app.failed) {
    giveUp(app.failed);
    return;
  }
  if (!started) {
    return;
  }
  clearNotice("lost");
  if (!(canvas && app.models.mdlm)) {
    notice("Started again.", { id: "lost" });
  } else if (await sample(canvas, { keep: true })) {
    notice("Started again; the text went on from where it stood.", { id: "lost" });
  }
}

// Loading

async function loadModel(name) {
  const chosen = name === "mdlm" ? app.published : null;
  try {
    const loaded = await (chosen ? open(chosen) : engine.call("load", { name }));
    app.models[name] = loaded;
    (name === "ar" ? arView : view).setVocabulary(new Vocabulary(loaded));
    showCard(name, name === "ar" ? "Left to right" : (chosen?.name ?? "Diffusion"), loaded);
    if (name === "mdlm" && app.shown !== chosen) {
      app.shown = chosen;
      settle();
    }
    return true;
  } catch (error) {
    delete app.models[name];
    if (chosen && !FATAL.includes(error.code)) {
      if (error.code !== "cancelled") {
        chosen.refuse(error, `${chosen.name} cannot be opened`);
      }
    } else if (error.code === "missing") {
      if (name === "ar") {
        $("ar-note").textContent = "The left-to-right model is not on this host.";
      } else {
        notice("The demo model is not on this host, so there is nothing to generate with. Training below works without it.", { id: "missing" });
      }
    } else {
      await fail(error, "The model cannot be loaded", [["Try again", () => restart($("device-choice").value)]]);
    }
    return false;
  } finally {
    $("loading").hidden = true;
  }
}

/** Opens a published model. */
async function open({ files, how }) {
  app.opening = engine.call("open", { name: "mdlm", files, how });
  try {
    return { ...(await app.opening), weights: how.weights };
  } finally {
    app.opening = null;
  }
}

/** Loads what the visitor chose, or else, and if that fails, the page's own models. */
async function loadModels() {
  const { boots } = app;
  // a worker that was started meanwhile has loaded its own
  const current = () => app.boots === boots;
  let there = await loadModel("mdlm");
  if (!there && app.published && current()) {
    forget();
    there = await loadModel("mdlm");
  }
  if (there && current() && $("compare").checked && !app.published) {
    await loadModel("ar");
  }
}

/** Opens what the visitor chose in place of the page's own models; false if these had to come back. */
async function openPublished(chosen) {
  Object.assign(app, { recovered: false, published: chosen, models: {} });
  lock(true);
  await loadModels();
  lock(false);
  return Boolean(app.published);
}

/** Brings the page's own models back. */
async function leavePublished() {
  forget();
  lock(true);
  await loadModels();
  lock(false);
}

/** There is no published model any more. */
function forget() {
  app.published = null;
  published.closed();
}

/** Fits the page to the diffusion model that is there, with nothing written. */
function settle() {
  suit(app.published?.sampling ?? null);
  const most = Math.min(app.models.mdlm.info.length, LONGEST);
  $("length").max = most;
  $("length").value = Math.min(Number($("length").value) || most, most);
  view.begin(view.vocabulary.blank(Number($("length").value)));
  counters(null);
  showPanes();
}

/** Shows the left-to-right model where it is asked for; a published model has other tokens than it. */
function showPanes() {
  $("ar-pane").hidden = !$("compare").checked || Boolean(app.published);
  $("compare").disabled = Boolean(app.published);
  $("cards-intro").hidden = Boolean(app.published);
  document.querySelector('[data-card="ar"]')?.toggleAttribute("hidden", Boolean(app.published));
}

/** Starts the worker and loads what there is; false if that failed, or a later start took over. */
async function boot(device) {
  app.boots += 1;
  const mine = app.boots;
  try {
    return await load(device, () => mine === app.boots);
  } finally {
    if (mine === app.boots) {
      app.booting = false;
      lock(false);
    }
  }
}

async function load(device, current) {
  app.booting = true;
  lock(true);
  app.models = {};
  clearNotice("error");
  let started;
  try {
    $("loading").hidden = false;
    started = await engine.start(device, app.module);
  } catch (error) {
    if (!current()) {
      return false;
    }
    $("loading").hidden = true;
    $("device-text").textContent = "Nothing to compute on";
    if (error.code === "no_adapter") {
      notice(`${error.message}.`, { id: "lost", hint: error.hint, actions: [["Compute on the CPU", () => restart("cpu")]] });
    } else {
      await fail(error, "The program cannot start");
    }
    return false;
  }
  showDevice(started.info);
  offerSamplers(started.samplers);
  $("version").textContent = `Version ${started.version}.`;
  training.ready();
  published.ready();
  await loadModels();
  return current();
}

// Sampling

/** What a click may start while something runs or loads: nothing. */
function lock(asked) {
  const busy = asked || app.booting;
  app.busy = busy;
  $("generate").disabled = busy || !app.models.mdlm;
  $("stop").disabled = !app.run;
  training.enable(!busy);
  published.enable(!busy);
}

async function generate() {
  writeAddress();
  const { prompt, length, compare } = settings();
  lock(true);
  try {
    const most = Math.min(app.models.mdlm.info.length, LONGEST);
    const wanted = Number.isNaN(length) ? most : length;
    if (!(Number.isInteger(wanted) && wanted >= 2 && wanted <= most)) {
      throw problem("config", `the length must be a whole number from 2 to ${most}`);
    }
    const canvas = await engine.call("canvas", { name: "mdlm", template: prompt, length: wanted });
    app.round = 0;
    clearNotice("error");
    await sample(canvas, { compare: compare && !app.published, prompt });
  } catch (error) {
    await fail(error, "These settings do not work");
  } finally {
    lock(false);
  }
}

/** The canvas with everything that is written fixed, so that a sampler that masks again leaves it alone. */
const held = ({ tokens, frozen }) => ({ tokens, frozen: frozen.map((fixed, i) => (fixed || tokens[i] !== view.vocabulary.mask ? 1 : 0)) });

/** Fills a canvas; `keep`: what is written, and what is known of it, stays. False if it could not. */
async function sample(canvas, { compare = false, keep = false, prompt = "" } = {}) {
  const chosen = settings();
  chosen.seed += app.round;
  const { mdlm, ar } = options(chosen);
  const runs = [{ name: "mdlm", canvas: keep ? held(canvas) : canvas, options: mdlm }];
  view.begin(canvas, keep ? view.last() : null);
  counters(null);
  $("c-speed").textContent = $("ar-step").textContent = $("ar-calls").textContent = $("ar-speed").textContent = "–";
  $("play").disabled = $("scrub").disabled = true;
  if (compare && !app.models.ar) {
    await loadModel("ar");
  }
  if (compare && app.models.ar) {
    const gap = prompt.search(GAP);
    $("ar-note").textContent = gap >= 0 ? "This model cannot fill gaps; it continues what stands before the first one." : "\u00A0";
    const begin = gap >= 0 ? prompt.slice(0, gap) : prompt;
    const length = Math.min(canvas.tokens.length, app.models.ar.info.length);
    const arCanvas = await engine.call("canvas", { name: "ar", template: begin, length });
    arView.begin(arCanvas);
    runs.push({ name: "ar", canvas: arCanvas, options: ar });
  }
  const promise = engine.call("sample", { runs });
  app.run = promise;
  app.counts = { mdlm: 0, ar: 0 };
  lock(true);
  try {
    const { stopped } = await promise;
    const text = await engine.call("text", { name: "mdlm", tokens: view.last().tokens });
    $("announce").textContent = `${stopped ? "Stopped" : "Finished"}: ${text}`;
    return true;
  } catch (error) {
    // whatever comes of it, a lost run is continued by the recovery
    if (error.code !== "device_lost" && error.code !== "worker") {
      app.run = null;
    }
    await fail(error, error.code === "config" ? "These settings do not work" : "The run ended");
    return false;
  } finally {
    if (app.run === promise) {
      app.run = null;
    }
    const last = view.frames.length - 1;
    $("scrub").max = $("scrub").value = String(Math.max(0, last));
    $("play").disabled = $("scrub").disabled = last < 1;
    lock(false);
  }
}

function hear({ event, ...detail }) {
  if (event === "progress") {
    (detail.what === "open" ? published.progress : showProgress)(detail);
  } else if (event === "step" && app.run && detail.id === app.run.id) {
    step(detail);
  } else if (["train", "validated", "sampled"].includes(event)) {
    training.hear(event, detail);
  }
}

function step({ name, report, busy }) {
  app.counts[name] += report.revealed.length;
  const speed = `${Math.round((1000 * app.counts[name]) / busy)}`;
  if (name === "ar") {
    arView.add(report);
    $("ar-step").textContent = String(report.step);
    $("ar-calls").textContent = String(report.network_calls);
    $("ar-speed").textContent = speed;
    return;
  }
  view.add(report);
  counters(report);
  $("c-speed").textContent = speed;
  $("scrub").max = $("scrub").value = String(view.frames.length - 1);
}

/** Masks words and fills them anew, or freezes or frees them. */
async function pick(positions, asked) {
  if (app.busy || positions.length === 0 || !app.models.mdlm || view.frames.length === 0) {
    return;
  }
  const action = asked ?? document.querySelector("input[name=tool]:checked").value;
  view.show(view.frames.length - 1);
  const canvas = view.canvas();
  const filled = positions.filter((i) => canvas.tokens[i] !== view.vocabulary.mask);
  if (action === "freeze") {
    const free = filled.every((i) => canvas.frozen[i]);
    filled.forEach((i) => (view.frozen[i] = free ? 0 : 1));
    view.show(view.shown);
    $("token-info").textContent = `${filled.length} tokens ${free ? "freed" : "frozen"}`;
    return;
  }
  const open = positions.filter((i) => !canvas.frozen[i]);
  if (open.length === 0) {
    $("token-info").textContent = "These words are frozen: free them first.";
    return;
  }
  open.forEach((i) => (canvas.tokens[i] = view.vocabulary.mask));
  app.round += 1;
  await sample(canvas, { keep: true });
}

// Wiring

$("prompt-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!$("generate").disabled) {
    generate();
  }
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("prompt-form").requestSubmit();
  }
});
$("stop").addEventListener("click", () => app.run && engine.stop(app.run));
$("dice").addEventListener("click", () => {
  $("seed").value = String(Math.floor(Math.random() * 1e9));
  writeAddress();
});
$("share").addEventListener("click", async () => {
  const address = writeAddress();
  try {
    await navigator.clipboard.writeText(address);
    $("token-info").textContent = "The address is in the clipboard.";
  } catch {
    $("token-info").textContent = "The address bar holds the link.";
  }
});
$("device-choice").addEventListener("change", () => {
  writeAddress();
  clearNotice("lost");
  app.recovered = false;
  app.run = null;
  training.reset();
  boot($("device-choice").value);
});
document.querySelectorAll("[data-example]").forEach((button) =>
  button.addEventListener("click", () => {
    $("prompt").value = button.dataset.example;
    if (!$("generate").disabled) {
      generate();
    }
  }),
);
$("settings").addEventListener("change", ({ target }) => {
  if (target.id !== "device-choice") {
    writeAddress();
  }
  showSteps();
  showPanes();
});

async function main() {
  const { auto, module } = readAddress();
  app.module = module;
  showSteps();
  showPanes();
  if (!isSecureContext || !globalThis.WebAssembly || !globalThis.crypto?.subtle) {
    $("device-text").textContent = "Nothing to compute on";
    notice("Browsers give WebGPU and the checks of downloaded files only to pages that come through https or from localhost, and this one did not.", {
      id: "insecure",
      hint: "open it with https:// or as http://localhost",
    });
    return;
  }
  if ((await boot($("device-choice").value)) && app.models.mdlm && auto && !still) {
    await generate();
  }
}

main();
