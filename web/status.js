// What the page computes on, and how far loading is.

const $ = (id) => document.getElementById(id);

/** Where a device computes, and why there. */
export function showDevice({ kind, hardware, name, adapter, reason, threads }) {
  const line = $("device");
  line.dataset.kind = kind === "cpu" ? "cpu" : hardware ? "hardware" : "software";
  const shared = threads > 1 ? `, with ${threads} threads` : "";
  const gpu = adapter || name || "adapter without a name";
  $("device-text").textContent =
    kind === "cpu"
      ? `Computing on the CPU, in the browser's WebAssembly${shared} (${reason})`
      : hardware
        ? `Computing on your GPU through WebGPU: ${gpu}`
        : `Computing through WebGPU on a software driver, not on hardware: ${gpu}`;
}

/** Of the program, of a model, or of compiling. */
export function showProgress({ what, name, done, total }) {
  const texts = {
    module: "Loading the program",
    download: `Loading the ${name === "ar" ? "left-to-right" : "diffusion"} model: ${(done / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`,
    compile: `Compiling kernels: ${done} of ${total}`,
  };
  $("loading").hidden = what === "compile" && done >= total;
  $("loading-text").textContent = texts[what];
  if (what === "module") {
    $("loading-bar").removeAttribute("value");
  } else {
    $("loading-bar").value = total > 0 ? done / total : 1;
  }
}
