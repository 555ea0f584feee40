// One more thread of the library, in the memory of the worker that started it.

self.onmessage = async ({ data: { url, module, memory } }) => {
  const library = await import(url);
  await library.default({ module_or_path: module, memory });
  self.postMessage("ready");
  library.work();
};
