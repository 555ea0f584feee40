// The library's modules: the same code, compiled for browsers that can do more or less.

/** A function that multiplies and adds with relaxed SIMD. */
const RELAXED = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 19, 1, 17, 0,
  65, 0, 253, 15, 65, 0, 253, 15, 65, 0, 253, 15, 253, 133, 2, 11,
);

const relaxed = () => WebAssembly.validate(RELAXED);
/** The fastest first, each with what it needs. */
const MODULES = [
  ["threads", () => relaxed() && self.crossOriginIsolated && navigator.hardwareConcurrency > 1],
  ["relaxed", relaxed],
  ["plain", () => true],
];

/** Loads the one that is asked for, or the fastest that runs here. On a GPU they are all as fast, and the plain one
 *  asks for the least. */
export async function loadLibrary(asked, onGpu) {
  const fitting = MODULES.filter(([name, fits]) => (asked ? name === asked : fits() && (!onGpu || name === "plain")));
  for (const [name] of fitting.slice(0, -1)) {
    try {
      return await load(name);
    } catch (error) {
      // such as a phone that has no room for the memory to be shared
      console.warn(`the module ${name} does not start: ${error}`);
    }
  }
  return load(fitting.at(-1)?.[0] ?? "plain");
}

async function load(name) {
  const base = new URL(`./wasm/${name}/`, import.meta.url);
  const library = await import(new URL("mdlm.js", base));
  const module = await compile(new URL("mdlm_bg.wasm", base));
  const { memory } = await library.default({ module_or_path: module });
  const used = () => memory.buffer.byteLength;
  const threads = library.shareWork ? navigator.hardwareConcurrency : 1;
  if (threads > 1) {
    await Promise.all(Array.from({ length: threads }, () => startThread(base, module, memory)));
    library.shareWork(threads);
  }
  return { name, threads, library, used };
}

async function compile(url) {
  const response = await fetch(url);
  if (!response.ok) {
    throw new Error(`${url}: ${response.status}`);
  }
  return response.headers.get("Content-Type") === "application/wasm"
    ? WebAssembly.compileStreaming(response)
    : WebAssembly.compile(await response.arrayBuffer());
}

function startThread(base, module, memory) {
  return new Promise((resolve, reject) => {
    const thread = new Worker(new URL("./thread.js", import.meta.url), { type: "module" });
    thread.onmessage = resolve;
    thread.onerror = ({ message }) => reject(new Error(message || "a thread does not start"));
    thread.postMessage({ url: new URL("mdlm.js", base).href, module, memory });
  });
}
