// Training in the tab: text in, a curve and samples while it runs, a model out.

import { Chart, Curve } from "./chart.js";
import { archive } from "./tar.js";

const $ = (id) => document.getElementById(id);
const MAX_TEXT = 8e6;
const MOST_SAMPLES = 8;

/** Wires the panel; `lock(busy)` tells the page that the worker is taken. */
export function setUpTraining({ engine, fail, idle, lock }) {
  const state = { run: null, curve: null, valid: [], steps: 0, made: false, started: false };
  let chart = null;

  function enable(on) {
    const free = on && state.started;
    $("train-start").disabled = !free || state.run !== null;
    $("train-stop").disabled = state.run === null;
    $("train-continue").disabled = !free || !state.made || state.run !== null || state.done >= state.steps;
    $("train-save").disabled = !free || !state.made || state.run !== null;
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
    Object.assign(state, { made: false, done: 0, curve: new Curve(), trend: new Curve(), smooth: null, valid: [], steps: options().steps });
    $("train-samples").replaceChildren();
    $("loss-chart").replaceChildren();
    $("loss-key").hidden = true;
    lock(true);
    $("train-info").textContent = "Preparing…";
    try {
      const { info } = await engine.call("trainStart", { text, options: options() });
      state.made = true;
      state.info = info;
      const ceiling = Math.log(info.vocab_size) * 1.1;
      chart = new Chart($("loss-chart"), { label: "loss over steps", x: [0, state.steps], y: [0, ceiling], xName: "step", yName: "loss, nats a token" });
      chart.base(Math.log(info.unigram_perplexity), "token frequencies alone");
      chart.draw();
      $("loss-key").hidden = false;
      $("train-info").textContent = `${info.parameters.toLocaleString("en")} parameters, ${info.vocab_size} tokens in the vocabulary, ${info.train_blocks} blocks to learn from, ${info.valid_blocks} held out`;
    } catch (error) {
      $("train-info").textContent = "\u00A0";
      await fail(error, "Training cannot start");
    } finally {
      lock(false);
    }
    if (state.made) {
      await go();
    }
  }

  async function go() {
    const sampleEvery = Math.max(10, Math.min(200, Math.round(state.steps / 10)));
    const promise = engine.call("train", { steps: state.steps, sampleEvery, seed: 1 });
    state.run = promise;
    lock(true);
    try {
      const { stopped } = await promise;
      $("train-info").textContent += stopped ? " (stopped)" : " (done)";
    } catch (error) {
      if (error.code === "device_lost" || error.code === "worker") {
        $("train-info").textContent = "The run was lost with the device; its text is still here: train again.";
        state.made = false;
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
    if (event === "train") {
      const { stats, ms } = detail;
      state.done = stats.step;
      state.curve.add(stats.step, stats.loss);
      state.smooth = state.smooth === null ? stats.loss : 0.95 * state.smooth + 0.05 * stats.loss;
      state.trend.add(stats.step, state.smooth);
      chart.line("loss", state.curve.points, "raw");
      chart.line("trend", state.trend.points);
      chart.draw();
      const { batch, length } = state.info;
      const skipped = stats.skipped > 0 ? `, ${stats.skipped} skipped` : "";
      $("train-info").textContent = `step ${stats.step} of ${state.steps}, loss ${stats.loss.toFixed(3)}, ${Math.round((1000 * batch * length) / ms)} tokens/s${skipped}`;
    } else if (event === "validated") {
      state.valid.push([detail.step, Math.log(detail.perplexity)]);
      state.last = detail;
      chart.line("valid", state.valid, "line2");
      chart.draw();
    } else {
      const item = document.createElement("li");
      const note = document.createElement("small");
      note.textContent = `step ${detail.step}, held-out perplexity at most ${state.last.perplexity.toFixed(2)} ± ${state.last.std_err.toFixed(2)}`;
      item.value = detail.step;
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
      const files = await engine.call("trainSave");
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
    $("train-text").value = await file.text();
  }

  $("train-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (idle() && !$("train-start").disabled) {
      start();
    }
  });
  $("train-stop").addEventListener("click", () => state.run && engine.stop(state.run));
  $("train-continue").addEventListener("click", () => idle() && go());
  $("train-save").addEventListener("click", save);
  $("train-file").addEventListener("change", ({ target }) => take(target.files[0]));
  const panel = $("training");
  panel.addEventListener("dragover", (event) => {
    event.preventDefault();
    panel.classList.add("dropping");
  });
  panel.addEventListener("dragleave", () => panel.classList.remove("dropping"));
  panel.addEventListener("drop", (event) => {
    event.preventDefault();
    panel.classList.remove("dropping");
    const { files } = event.dataTransfer;
    if (files.length > 0) {
      take(files[0]);
    } else {
      $("train-text").value = event.dataTransfer.getData("text/plain");
    }
  });

  return {
    enable,
    hear,
    ready() {
      state.started = true;
    },
    /** The worker is new: its run is gone. */
    reset() {
      Object.assign(state, { run: null, made: false, started: false });
    },
  };
}
