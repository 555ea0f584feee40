// What a user of the package writes: loads a model and fills a canvas, in Node. Prints what happened as JSON.
// The types are checked by the compiler, also where they must refuse.

import { readFile } from "node:fs/promises";
import { setFlagsFromString } from "node:v8";
import initPlain, * as plain from "mdlm";
import type { Canvas, MdlmError, SampleOptions, StepReport } from "mdlm";
import initRelaxed, * as relaxed from "mdlm/relaxed";

const [build, folder, template, length, seed] = process.argv.slice(2) as [string, string, string, string, string];

if (build === "relaxed") {
  // what engines without a flag have by now
  setFlagsFromString("--experimental-wasm-relaxed-simd");
}
const { Device, Model, Sampler, version }: typeof plain = build === "relaxed" ? relaxed : plain;
await (build === "relaxed" ? initRelaxed : initPlain)();

async function codeOf(work: () => unknown): Promise<string> {
  try {
    await work();
    return "none";
  } catch (error) {
    return (error as MdlmError).code;
  }
}

const read = async (file: string): Promise<Uint8Array> => new Uint8Array(await readFile(`${folder}/${file}`));
const files = ["config.json", "model.safetensors", "tokenizer.json"];
const [config, weights, tokenizer] = await Promise.all(files.map(read));
if (!config || !weights || !tokenizer) {
  throw new Error("a file is missing");
}

const device = await Device.open("auto");
const model = await Model.load(device, config, weights, tokenizer);
const canvas: Canvas = model.canvas(template, Number(length));
const logits: Float32Array = await model.logits(canvas.tokens, 0);
const options: SampleOptions = { steps: 24, seed: Number(seed), sampler: "ancestral" };
const sampler = new Sampler(model, canvas, options);
let steps = 0;
for (let report: StepReport | undefined; (report = await sampler.step()); ) {
  steps += report.revealed.length > 0 ? 1 : 0;
}
const filled: Canvas = sampler.canvas();

const errors = {
  webgpu: await codeOf(() => Device.open("webgpu")),
  weights: await codeOf(() => Model.load(device, config, weights.slice(0, 1000), tokenizer)),
  template: await codeOf(() => model.canvas("a [MASK:x]", 8)),
  // @ts-expect-error: a number
  steps: await codeOf(() => new Sampler(model, canvas, { steps: "many" })),
  // @ts-expect-error: no sampler is called that
  sampler: await codeOf(() => new Sampler(model, canvas, { sampler: "best" })),
  // @ts-expect-error: no such key
  unknown: await codeOf(() => new Sampler(model, canvas, { step: 3 })),
  // @ts-expect-error: no such kind
  device: await codeOf(() => Device.open("tpu")),
};
// @ts-expect-error: tokens are numbers
const wrong: string[] = filled.tokens;

console.log(
  JSON.stringify({
    version: version(),
    device: device.info().kind,
    tokens: Array.from(filled.tokens),
    masked: wrong.filter((token) => Number(token) === model.info().mask_index).length,
    text: sampler.text(),
    steps,
    logits: Array.from(logits),
    errors,
  }),
);
sampler.free();
