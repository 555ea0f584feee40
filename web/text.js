// Text from files: UTF-8, with a byte order mark or without, and UTF-16 with one, as the native program reads it.

const MARKS = [
  [[0xef, 0xbb, 0xbf], "utf-8", "UTF-8"],
  [[0xff, 0xfe], "utf-16le", "UTF-16"],
  [[0xfe, 0xff], "utf-16be", "UTF-16"],
];

function refused(name, problem) {
  return Object.assign(new Error(`${name}: ${problem}`), { code: "corpus", hint: "choose a file of plain text, saved as UTF-8" });
}

/** Whether the first `count` bytes are whole characters. */
function whole(bytes, count, encoding) {
  try {
    new TextDecoder(encoding, { fatal: true }).decode(bytes.subarray(0, count));
    return true;
  } catch {
    return false;
  }
}

/** How many bytes stand before the first one that belongs to no character. */
function valid(bytes, encoding) {
  // prefixes are good up to a point, but for those that end inside a character
  const good = (count) => [0, 1, 2, 3].some((less) => whole(bytes, Math.max(0, count - less), encoding));
  let [low, high] = [0, bytes.length];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (good(middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  while (!whole(bytes, low, encoding)) {
    low -= 1;
  }
  return low;
}

/** Names of files that hold text, but no prose. */
const UNLIKE = /\.(csv|tsv|jsonl?|ndjson|html?|xml|svg|ipynb)$/i;

/** The text of a file; what is none is an error that says where. */
export async function readText(file) {
  if (UNLIKE.test(file.name)) {
    throw Object.assign(new Error(`${file.name} is not read as prose`), { code: "corpus", hint: "save its texts as plain text, or name it .txt to train on it as it is" });
  }
  const bytes = new Uint8Array(await file.arrayBuffer());
  const [, encoding, name] = MARKS.find(([mark]) => mark.every((byte, i) => bytes[i] === byte)) ?? MARKS[0];
  let text;
  try {
    text = new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch {
    throw refused(file.name, `not ${name} at byte ${valid(bytes, encoding)}`);
  }
  const nul = text.indexOf("\0");
  if (nul >= 0) {
    throw refused(file.name, `not text: it has a NUL at byte ${new TextEncoder().encode(text.slice(0, nul)).length}`);
  }
  if (/^(%PDF-|\{\\rtf|PK\u0003\u0004)/.test(text)) {
    throw refused(file.name, "is a document, not plain text");
  }
  if (text.trim() === "") {
    throw refused(file.name, "holds no text");
  }
  return text;
}
