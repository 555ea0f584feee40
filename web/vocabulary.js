// What tokens are: texts, parts of characters, and those with a meaning of their own.

/** The characters that end in each of some fragments; what belongs to no character becomes U+FFFD. */
function joined(fragments) {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return fragments.map((bytes, i) => decoder.decode(Uint8Array.from(bytes), { stream: i + 1 < fragments.length }));
}

/** Whether some bytes end inside a character. */
function unfinished(bytes) {
  for (let back = 1; back <= Math.min(3, bytes.length); back += 1) {
    const byte = bytes[bytes.length - back];
    if ((byte & 0xc0) !== 0x80) {
      return back < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1);
    }
  }
  return false;
}

export class Vocabulary {
  /** As the worker gives them: texts of the tokens, bytes of those that are parts of characters, and the model's. */
  constructor({ vocabulary, fragments, info: { mask_index: mask, begin, bos, eos, pad } }) {
    // positions before `first` hold what begins a text and are never picked
    const first = begin === undefined ? 0 : 1;
    Object.assign(this, { texts: vocabulary, fragments: new Map(fragments), mask, pad, begin, first, ends: [bos, eos] });
  }

  /** A canvas with nothing on it. */
  blank(length) {
    const tokens = new Uint32Array(length).fill(this.mask);
    const frozen = new Uint8Array(length).fill(1, 0, this.first);
    return { tokens: this.first ? tokens.fill(this.begin, 0, 1) : tokens, frozen };
  }

  /** What each token adds to the text: a character of several tokens stands at its last one. */
  pieces(tokens) {
    const pieces = Array.from(tokens, (token) => this.texts[token] ?? "\uFFFD");
    for (let first = 0; first < tokens.length; first += 1) {
      let end = first;
      while (this.fragments.has(tokens[end])) {
        end += 1;
      }
      if (end > first) {
        const run = Array.from(tokens.slice(first, end), (token) => this.fragments.get(token));
        joined(run).forEach((text, k) => (pieces[first + k] = text));
        first = end;
      }
    }
    return pieces;
  }

  /** What can be picked: tokens, and characters of several tokens as one; `of` is the unit of each position. */
  units(tokens) {
    const units = [];
    const of = [];
    let bytes = [];
    let whole = true;
    this.pieces(tokens).forEach((text, i) => {
      if (whole) {
        units.push({ from: i, text: "" });
      }
      const unit = units.at(-1);
      Object.assign(unit, { to: i, text: unit.text + text });
      of.push(units.length - 1);
      const part = this.fragments.get(tokens[i]);
      bytes = part ? [...bytes, ...part] : [];
      whole = !(this.fragments.has(tokens[i + 1]) && unfinished(bytes));
    });
    return { units, of };
  }
}
