// Published models from the visitor's disk: choosing a folder, saying what is in it, and opening it.

import { facts, parameters } from "./cards.js";
import { onDrop } from "./drop.js";
import { clearNotice, notice } from "./notices.js";
import { problem } from "./problem.js";

const $ = (id) => document.getElementById(id);

/** What the precisions are called, from the smallest up; the rest of the library's are left out. */
const PRECISIONS = { q4: "4 bits", q8: "8 bits", f16: "16 bits", f32: "32 bits" };
/** Files of a model's folder that the library looks at, or looks for to say what is missing. */
const KNOWN = /^(config\.json|tokenizer\.json|tokenizer_config\.json|.*\.safetensors|.*\.safetensors\.index\.json|pytorch_model\.bin(\.index\.json)?)$/;
/** Most entries of a dropped folder that are looked at. */
const MOST = 10_000;

const bytes = (count) => (count < 1e9 ? `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} MB` : `${(count / 1e9).toFixed(2)} GB`);

/** The model among chosen files, each with its path: those beside the only `config.json`, or the uppermost one. */
function together(chosen) {
  const configs = chosen.filter(({ path }) => path.at(-1) === "config.json");
  if (configs.length === 0) {
    const found = `there is no config.json among the ${chosen.length} files`;
    throw problem("checkpoint", found, "choose the folder that holds config.json, the weights and tokenizer.json");
  }
  const depth = Math.min(...configs.map(({ path }) => path.length));
  const uppermost = configs.filter(({ path }) => path.length === depth);
  if (uppermost.length > 1) {
    const names = uppermost.map(({ path }) => path.at(-2)).join(", ");
    throw problem("checkpoint", `there are several models: ${names}`, "choose the folder of one of them");
  }
  const folder = uppermost[0].path.slice(0, -1);
  const here = ({ path }) => path.length === depth && folder.every((name, i) => path[i] === name) && KNOWN.test(path.at(-1));
  return { name: folder.at(-1) ?? "the files", files: chosen.filter(here).map(({ file }) => file) };
}

/** What an `<input>` gives. */
const ofInput = (files) => Array.from(files, (file) => ({ file, path: (file.webkitRelativePath || file.name).split("/") }));

/** What was dropped: folders with what is in them and in theirs, or files. */
async function ofDrop({ items, files }) {
  const entries = Array.from(items, (item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (entries.length === 0) {
    return ofInput(files);
  }
  const found = [];
  const take = async (entry, path, depth) => {
    if (found.length >= MOST) {
      throw problem("checkpoint", `more than ${MOST} files were dropped`, "drop the folder of one model");
    }
    if (entry.isFile) {
      found.push({ file: await new Promise((resolve, reject) => entry.file(resolve, reject)), path: [...path, entry.name] });
    } else if (depth > 0) {
      const reader = entry.createReader();
      for (;;) {
        // as many at a time as the browser likes
        const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (some.length === 0) {
          break;
        }
        for (const inner of some) {
          await take(inner, [...path, entry.name], depth - 1);
        }
      }
    }
  };
  for (const entry of entries) {
    await take(entry, [], 2);
  }
  return found;
}

/** What the visitor adds to the files; empty fields say nothing. */
function told() {
  const number = (id) => ($(id).value === "" ? undefined : Number($(id).value));
  const shift = { true: true, false: false }[$("published-shift").value];
  const how = { mask: number("published-mask"), shift, block: number("published-block"), model_type: $("published-type").value || undefined };
  return Object.fromEntries(Object.entries(how).filter(([, value]) => value !== undefined));
}

/** One precision to choose. */
function choice({ weights, bytes: alone, with_canvas: all, problem: misfit }, length) {
  const [label, radio, text] = [document.createElement("label"), document.createElement("input"), document.createElement("span")];
  Object.assign(radio, { type: "radio", name: "published-weights", value: weights, disabled: Boolean(misfit) });
  const needs = `${PRECISIONS[weights]} (${weights}): ${bytes(alone)} of weights, ${bytes(all)} with a text of ${length} tokens`;
  text.textContent = misfit ? `${needs}. Not here: ${misfit}` : needs;
  label.append(radio, text);
  return label;
}

/** Wires the panel. `use(chosen)` opens a model in place of the page's own and says whether it did; `leave()` brings that
 *  one back; `cancel()` ends what `use` has begun. */
export function setUpPublished({ engine, idle, length, onCpu, use, leave, cancel }) {
  const state = { model: null, found: null, ready: false, open: null, round: 0 };

  function say(text) {
    $("published-status").textContent = text;
  }

  function enable(on) {
    state.ready = on;
    const radio = document.querySelector("input[name=published-weights]:checked");
    $("published-folder").disabled = !on;
    $("published-load").disabled = !(on && state.found?.tokenizer && !state.found.damage && radio);
    $("published-leave").disabled = !(on && state.open);
    $("published-told").disabled = !on;
  }

  function refuse(error, what) {
    const helps = {
      io: "choose the folder with all of its files; what changes while it is open has to be chosen again",
      checkpoint: "what its files leave open can be told below; what is damaged has to be downloaded again",
    };
    const large = ["out_of_memory", "unsupported"].includes(error.code);
    const hint = large ? "keep it in fewer bits, close other tabs, or compute on another device" : (error.hint ?? helps[error.code]);
    notice(`${what}: ${error.message}`, { id: "published", hint, place: $("published-notices") });
  }

  /** Forgets what was said of the files chosen before, whatever is still looked at of them. */
  function clear(model) {
    Object.assign(state, { model, found: null, round: state.round + 1 });
    enable(state.ready);
    clearNotice("published", $("published-notices"));
    $("published-facts").replaceChildren();
    $("published-choices").hidden = true;
    const named = model ?? state.open;
    $("published-about").hidden = !named;
    $("published-name").textContent = named?.name ?? "";
  }

  /** Says what the chosen files are. */
  async function look() {
    const { model } = state;
    clear(model);
    const mine = state.round;
    say("Looking at its files…");
    const canvas = length();
    try {
      const found = await engine.call("inspect", { files: model.files, how: told(), length: canvas });
      if (mine === state.round) {
        state.found = found;
        show(found, Math.min(canvas, found.length));
        say("");
      }
    } catch (error) {
      if (mine === state.round && error.code !== "cancelled") {
        say("");
        $("published-more").open = error.code === "checkpoint";
        refuse(error, `${model.name} cannot be opened`);
      }
    }
    enable(state.ready);
  }

  function show(found, canvas) {
    const { sampling } = found;
    const parts = [`${sampling.sampler}, temperature ${sampling.temperature}`, sampling.block > 0 && `in blocks of ${sampling.block} by ${sampling.steps} steps`];
    $("published-facts").replaceChildren(
      ...facts([
        ["family", found.model_type],
        ["parameters", parameters(found.parameters)],
        ["vocabulary", `${found.ids.toLocaleString("en")} tokens`],
        ["mask", `token ${found.mask_index}`],
        ["a row predicts", found.shift ? "the token behind it (shifted)" : "its own token"],
        ...(found.block ? [["a row sees", `its block of ${found.block} and those before it`]] : []),
        ["longest text", `${found.length.toLocaleString("en")} tokens`],
        ["sampled by", parts.filter(Boolean).join(", ")],
      ]),
    );
    const offered = Object.keys(PRECISIONS).map((name) => found.memory.find(({ weights }) => weights === name));
    $("published-weights").replaceChildren(...offered.map((need) => choice(need, canvas)));
    $("published-choices").hidden = false;
    const fitting = offered.filter((need) => !need.problem).map(({ weights }) => weights);
    const best = fitting.includes("q8") ? "q8" : fitting.at(-1);
    document.querySelectorAll("input[name=published-weights]").forEach((radio) => (radio.checked = radio.value === best));
    $("published-room").textContent = onCpu()
      ? "On the CPU a page's program has 4 GiB of memory, and large models are slow."
      : "Browsers do not tell how much memory a GPU has; if it is too little, loading fails and the page's own model comes back.";
    if (found.damage) {
      refuse(problem("io", found.damage, "bring the missing or damaged files into the folder and choose it again"), "Its weights are not whole");
    } else if (!found.tokenizer) {
      refuse(problem("io", "there is no tokenizer.json, without which the page cannot write text"), "It cannot be used here");
    } else if (fitting.length === 0) {
      refuse(problem("unsupported", "this device can keep it in no precision"), "It is too large");
    }
  }

  async function choose(collected) {
    if (!state.ready || !idle()) {
      return;
    }
    try {
      state.model = together(await collected);
    } catch (error) {
      clear(null);
      say("");
      refuse(error, "There is no model to open");
      return;
    }
    for (const id of ["published-mask", "published-block", "published-type", "published-shift"]) {
      $(id).value = "";
    }
    $("published-more").open = false;
    await look();
  }

  async function load() {
    const weights = document.querySelector("input[name=published-weights]:checked").value;
    const { model, found } = state;
    clearNotice("published", $("published-notices"));
    $("published-progress").hidden = false;
    $("published-cancel").disabled = false;
    const opened = await use({ ...model, how: { ...told(), weights }, sampling: found.sampling, refuse });
    $("published-progress").hidden = true;
    $("published-cancel").disabled = true;
    state.open = opened ? model : null;
    say(opened ? `${model.name} is open in ${weights}: write with it above.` : "It was not opened; the page's own model is back.");
    enable(state.ready);
    if (opened) {
      $("prompt").focus();
    }
  }

  // so that the same folder can be chosen again
  $("published-folder").addEventListener("click", ({ target }) => (target.value = ""));
  $("published-folder").addEventListener("change", ({ target }) => choose(ofInput(target.files)));
  $("published-weights").addEventListener("change", () => enable(state.ready));
  $("published-told").addEventListener("change", () => state.model && look());
  $("published-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (idle() && !$("published-load").disabled) {
      load();
    }
  });
  $("published-cancel").addEventListener("click", cancel);
  $("published-leave").addEventListener("click", async () => {
    state.open = null;
    await leave();
    say("The page's own model is back.");
  });
  onDrop($("published"), (data) => choose(ofDrop(data)));

  return {
    enable,
    /** There is a device to open models on; what was chosen is looked at anew. */
    ready() {
      if (state.model) {
        look();
      }
    },
    /** How far opening is. */
    progress({ done, total }) {
      $("published-bar").value = total > 0 ? done / total : 1;
      $("published-done").textContent = `Loading: ${bytes(done)} of ${bytes(total)}`;
    },
    /** The page's own model is back, whatever was open. */
    closed() {
      state.open = null;
    },
  };
}
