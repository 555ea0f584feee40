// Training in the tab: text in, a curve and samples while it runs, a model out.

import { Chart, Curve } from "./chart.js";
import { onDrop } from "./drop.js";
import { clearNotice } from "./notices.js";
import { FATAL, problem } from "./problem.js";
import { archive } from "./tar.js";
import { readText } from "./text.js";

const $ = (id) => document.getElementById(id);
const MAX_TEXT = 8e6;
const MOST_SAMPLES = 8;

/** Wires the panel; `lock(busy)` tells the page that the worker is taken. */
export function setUpTraining({ engine, fail, idle, lock }) {
  // kept: files of the last sample's model and its step; offset: steps done before the run in the worker began
  const state = { run: null, curve: null, valid: [], steps: 0, made: false, started: false, kept: null, offset: 0 };
  let chart = null;

  function enable(on) {
    const free = on && state.started;
    $("train-start").disabled = !free || state.run !== null;
    $("train-stop").disabled = state.run === null;
    const none = !free || !(state.made || state.kept) || state.run !== null;
    $("train-continue").disabled = none || state.done >= state.steps;
    $("train-save").disabled = none;
  }

  function options() {
    const number = (id) => Number($(id).value);
    return {
      tokenizer: $("train-tokenizer").value,
      steps: number("train-steps"),
      batch: number("train-batch"),
      length: number("train-length"),
      lr: number("train-lr"),
    };
  }

  async function start() {
    const text = $("train-text").value;
    const chosen = options();
    const before = $("train-info").textContent;
    let made = false;
    lock(true);
    $("train-info").textContent = "Preparing…";
    try {
      const { info } = await engine.call("trainStart", { text, options: chosen });
      made = true;
      Object.assign(state, { made, info, kept: null, offset: 0, done: 0, smooth: null, valid: [], steps: chosen.steps, text, options: chosen });
      Object.assign(state, { curve: new Curve(), trend: new Curve() });
      $("train-samples").replaceChildren();
      const ceiling = Math.log(info.vocab_size) * 1.1;
      chart = new Chart($("loss-chart"), { label: "loss over steps", x: [0, state.steps], y: [0, ceiling], xName: "step", yName: "loss, nats a token" });
      chart.base(Math.log(info.unigram_perplexity), "token frequencies alone");
      chart.draw();
      $("loss-key").hidden = false;
      $("train-info").textContent = `${info.parameters.toLocaleString("en")} parameters, ${info.vocab_size} tokens in the vocabulary, ${info.train_blocks} blocks to learn from, ${info.valid_blocks} held out`;
    } catch (error) {
      // an earlier run stays as it was
      $("train-info").textContent = before;
      await fail(error, "Training cannot start");
    } finally {
      lock(false);
    }
    if (made) {
      await go();
    }
  }

  /** A new run for the steps that a lost one had left, from the weights that were kept. */
  async function again() {
    const { files, step } = state.kept;
    lock(true);
    try {
      const rest = { ...state.options, steps: state.steps - step, seed: 1 + step };
      await engine.call("trainStart", { text: state.text, options: rest, files });
      Object.assign(state, { made: true, offset: step });
      const upTo = ([x]) => x <= step;
      for (const curve of [state.curve, state.trend]) {
        curve.points = curve.points.filter(upTo);
      }
      state.valid = state.valid.filter(upTo);
    } catch (error) {
      await fail(error, "Training cannot continue");
    } finally {
      lock(false);
    }
    if (state.made) {
      await go();
    }
  }

  async function go() {
    const sampleEvery = Math.max(10, Math.min(200, Math.round(state.steps / 10)));
    const promise = engine.call("train", { steps: state.steps - state.offset, sampleEvery, seed: 1 });
    state.run = promise;
    lock(true);
    try {
      const { stopped } = await promise;
      $("train-info").textContent += stopped ? " (stopped)" : " (done)";
      $("announce").textContent = `Training: ${$("train-info").textContent}`;
    } catch (error) {
      if (FATAL.includes(error.code)) {
        const kept = state.kept
          ? `the weights of step ${state.kept.step} are kept, so it can be continued from there, or downloaded`
          : "its text is still here: train again";
        $("train-info").textContent = `The run was lost; ${kept}.`;
        state.made = false;
        $("announce").textContent = $("train-info").textContent;
      }
      await fail(error, "Training ended");
    } finally {
      if (state.run === promise) {
        state.run = null;
      }
      lock(false);
    }
  }

  function hear(event, detail) {
    if (!state.run || detail.id !== state.run.id) {
      return;
    }
    const step = state.offset + (detail.step ?? detail.stats.step);
    if (event === "train") {
      const { stats, ms } = detail;
      state.done = step;
      // a step that overflowed has no loss and changed nothing
      const finite = Number.isFinite(stats.loss);
      if (finite) {
        state.curve.add(step, stats.loss);
        state.smooth = state.smooth === null ? stats.loss : 0.95 * state.smooth + 0.05 * stats.loss;
        state.trend.add(step, state.smooth);
      }
      chart.line("loss", state.curve.points, "raw");
      chart.line("trend", state.trend.points);
      chart.draw();
      const { batch, length } = state.info;
      const skipped = stats.skipped > 0 ? `, ${stats.skipped} skipped` : "";
      $("train-info").textContent = `step ${step} of ${state.steps}, loss ${finite ? stats.loss.toFixed(3) : "not finite"}, ${Math.round((1000 * batch * length) / ms)} tokens/s${skipped}`;
    } else if (event === "validated") {
      state.last = detail;
      if (Number.isFinite(detail.perplexity)) {
        state.valid.push([step, Math.log(detail.perplexity)]);
      }
      chart.line("valid", state.valid, "line2");
      chart.draw();
    } else {
      state.kept = { step, files: detail.files };
      const item = document.createElement("li");
      const note = document.createElement("small");
      const { perplexity, std_err: error } = state.last;
      const deviation = Number.isFinite(error) ? ` ± ${error.toFixed(2)}` : "";
      const bound = Number.isFinite(perplexity) ? `at most ${perplexity.toFixed(2)}${deviation}` : "not finite";
      note.textContent = `step ${step}, held-out perplexity ${bound}`;
      item.value = step;
      item.append(note, detail.text);
      $("train-samples").prepend(item);
      while ($("train-samples").children.length > MOST_SAMPLES) {
        $("train-samples").lastChild.remove();
      }
    }
  }

  async function save() {
    lock(true);
    try {
      const files = state.made ? await engine.call("trainSave") : state.kept.files;
      const bytes = archive("mdlm-nano", {
        "config.json": files.config,
        "model.safetensors": files.weights,
        "tokenizer.json": files.tokenizer,
      });
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([bytes], { type: "application/x-tar" }));
      link.download = "mdlm-nano.tar";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    } catch (error) {
      await fail(error, "The model cannot be saved");
    } finally {
      lock(false);
    }
  }

  async function take(file) {
    if (!file) {
      return;
    }
    if (file.size > MAX_TEXT) {
      await fail({ code: "config", message: `${file.name} has ${file.size} bytes; at most ${MAX_TEXT} are read here` }, "The file is too large");
      return;
    }
    try {
      $("train-text").value = await readText(file);
      clearNotice("error");
    } catch (error) {
      // the text that is there stays
      const { code = "io", message, hint } = error;
      await fail({ code, message, hint }, `${file.name} cannot be read`);
    }
  }

  $("train-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (idle() && !$("train-start").disabled) {
      start();
    }
  });
  $("train-stop").addEventListener("click", () => state.run && engine.stop(state.run));
  $("train-continue").addEventListener("click", () => idle() && (state.made ? go() : again()));
  $("train-save").addEventListener("click", save);
  $("train-sample").addEventListener("click", async () => {
    try {
      const response = await fetch(new URL("./sample.txt", import.meta.url));
      if (!response.ok) {
        throw problem("io", `the host answers ${response.status}`);
      }
      $("train-text").value = await response.text();
    } catch (error) {
      await fail(error, "The sample text cannot be fetched");
    }
  });
  $("train-file").addEventListener("change", async ({ target }) => {
    await take(target.files[0]);
    // so that the same file can be chosen again
    target.value = "";
  });
  onDrop($("training"), (data) => {
    const { files } = data;
    const text = data.getData("text/plain");
    if (files.length > 1) {
      fail({ code: "corpus", message: `${files.length} files were dropped`, hint: "drop one of them" }, "One text is read at a time");
    } else if (files.length > 0) {
      take(files[0]);
    } else if (text.trim() !== "") {
      $("train-text").value = text;
    }
  });

  return {
    enable,
    hear,
    ready() {
      state.started = true;
    },
    /** The worker is new: its run is gone, but for what was kept. */
    reset() {
      Object.assign(state, { run: null, made: false, started: false, done: state.kept?.step ?? 0 });
    },
  };
}
