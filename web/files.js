// A model's files: fetched with progress, checked against the card's digests, kept in the browser's cache.

import { problem } from "./problem.js";

const CACHE = "mdlm-models-1";
/** Most bytes of a file; what is larger is refused before it is read. */
const MAX_BYTES = 1 << 28;
const MAX_JSON = 1 << 20;

async function get(url, init) {
  let response;
  try {
    response = await fetch(url, init);
  } catch (error) {
    throw problem("io", `${name(url)} cannot be fetched: ${error.message}`, "check the connection and try again");
  }
  if (response.status === 404) {
    throw problem("missing", `${name(url)} is not on this host`);
  }
  if (!response.ok) {
    throw problem("io", `${name(url)}: the host answers ${response.status}`, "try again later");
  }
  return response;
}

const name = (url) => new URL(url).pathname.split("/").slice(-2).join("/");

/** Reads a small JSON file, always from the host. */
export async function fetchJson(url) {
  const text = new TextDecoder().decode(await read(await get(url, { cache: "no-cache" }), () => {}, MAX_JSON));
  try {
    return JSON.parse(text);
  } catch (error) {
    throw problem("checkpoint", `${name(url)} is not JSON: ${error.message}`);
  }
}

async function sha256(bytes) {
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A cache that may be full or forbidden: then everything is fetched. */
async function openCache() {
  try {
    return await caches.open(CACHE);
  } catch {
    return null;
  }
}

async function read(response, onBytes, limit) {
  const parts = [];
  let size = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw problem("io", `${name(response.url)} broke off: ${error.message}`, "check the connection and try again");
    });
    if (done) {
      break;
    }
    size += value.length;
    if (size > limit) {
      await reader.cancel();
      throw problem("checkpoint", `${name(response.url)} is longer than its card says`);
    }
    parts.push(value);
    onBytes(value.length);
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Fetches `files` below `base` and checks each against `card.files[file] = {bytes, sha256}`. */
export async function fetchChecked(base, files, card, progress) {
  const known = (file) => {
    const { bytes, sha256 } = card?.files?.[file] ?? {};
    if (!Number.isInteger(bytes) || bytes < 0 || bytes > MAX_BYTES || !/^[0-9a-f]{64}$/.test(sha256 ?? "")) {
      throw problem("checkpoint", `card.json gives no size and digest of ${file}`);
    }
    return { file, bytes, sha256 };
  };
  const wanted = files.map(known);
  const total = wanted.reduce((sum, { bytes }) => sum + bytes, 0);
  const cache = await openCache();
  const found = {};
  let done = 0;
  progress(0, total);
  for (const { file, bytes, sha256: digest } of wanted) {
    const url = new URL(file, base);
    const key = new URL(`${url.pathname}?sha256=${digest}`, url);
    let content = await recall(cache, key);
    if (content && (await sha256(content)) === digest) {
      done += bytes;
    } else {
      const before = done;
      content = await read(
        // the page's cache keeps it; the browser's own might hold what another card described
        await get(url, { cache: "no-store" }),
        (count) => {
          done += count;
          progress(done, total);
        },
        bytes,
      );
      done = before + bytes;
      if (content.length !== bytes || (await sha256(content)) !== digest) {
        throw problem(
          "checkpoint",
          `${name(url)} is damaged: its SHA-256 is not the one that its card promises`,
          "reload the page; if it repeats, the file on the host is not the one that was published",
        );
      }
      try {
        await cache?.put(key, new Response(content, { headers: { "Content-Type": "application/octet-stream" } }));
      } catch {
        // full: the next visit fetches again
      }
    }
    progress(done, total);
    found[file] = content;
  }
  // what cannot be forgotten takes room, nothing else
  await evictOthers(cache, base, wanted).catch(() => {});
  return found;
}

/** What the cache holds of a file, if it can be read. */
async function recall(cache, key) {
  try {
    const kept = await cache?.match(key);
    return kept ? new Uint8Array(await kept.arrayBuffer()) : null;
  } catch {
    return null;
  }
}

/** Forgets other versions of the files below `base`. */
async function evictOthers(cache, base, wanted) {
  const current = new Set(wanted.map(({ sha256 }) => sha256));
  for (const request of (await cache?.keys()) ?? []) {
    const url = new URL(request.url);
    if (url.pathname.startsWith(base.pathname) && !current.has(url.searchParams.get("sha256"))) {
      await cache.delete(request);
    }
  }
}
