// The module for Node, which reads from the disk what browsers fetch.

import { readFile } from "node:fs/promises";
import load from "./mdlm.js";

export * from "./mdlm.js";

/** Loads `mdlm_bg.wasm` of this folder unless something else is given. */
export default async function init(options) {
  return load(options ?? { module_or_path: await readFile(new URL("mdlm_bg.wasm", import.meta.url)) });
}
