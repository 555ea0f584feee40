// The page's side of the worker: calls that are promises, events, and starting again after a loss.

export class Engine {
  /** `onEvent({event, ...})` hears what the worker reports in between. */
  constructor(onEvent) {
    this.onEvent = onEvent;
    this.worker = null;
    this.next = 1;
    this.waiting = new Map();
  }

  /** Starts a fresh worker, with the library's module of that name or the fastest; whatever the old one was doing fails as cancelled. */
  start(device, module) {
    this.end("cancelled", "the computation was started again");
    const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.worker = worker;
    worker.onmessage = ({ data }) => this.receive(data);
    worker.onerror = (event) => {
      event.preventDefault();
      this.end("worker", `the worker failed: ${event.message || "it could not be loaded"}`);
    };
    return this.call("start", { device, module });
  }

  /** Calls the worker; the promise has `id`, with which it can be stopped. */
  call(type, detail = {}) {
    const id = this.next++;
    const promise = new Promise((resolve, reject) => {
      if (!this.worker) {
        reject(Object.assign(new Error("nothing is running"), { code: "worker" }));
        return;
      }
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, type, ...detail });
    });
    promise.id = id;
    return promise;
  }

  /** Asks a call to end after its current step. */
  stop(promise) {
    return this.call("stop", { target: promise.id }).catch(() => {});
  }

  receive({ id, ok, error, ...event }) {
    if (id === undefined || event.event) {
      this.onEvent({ id, ...event });
      return;
    }
    const { resolve, reject } = this.waiting.get(id) ?? {};
    this.waiting.delete(id);
    if (error) {
      reject?.(Object.assign(new Error(error.message), { code: error.code, hint: error.hint }));
    } else {
      resolve?.(ok);
    }
  }

  end(code, message) {
    this.worker?.terminate();
    this.worker = null;
    const waiting = [...this.waiting.values()];
    this.waiting.clear();
    waiting.forEach(({ reject }) => reject(Object.assign(new Error(message), { code })));
  }
}
