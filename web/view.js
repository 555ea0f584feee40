// A canvas of tokens: what stands where, how sure the model was, and what happened in which step.

/** Upper ends of the tints' ranges of probability; what is surer has none. */
const TINTS = [0.1, 0.3, 0.6];
const tint = (probability) => `p${TINTS.filter((end) => probability >= end).length}`;

export class TokenView {
  /** Without `onPick` the text can only be read. */
  constructor(parent, { onPick, onFocus } = {}) {
    Object.assign(this, { parent, onPick, onFocus, spans: [], frames: [], shown: 0, vocabulary: null, drag: null });
    if (onPick) {
      this.listen();
    }
  }

  setVocabulary(vocabulary) {
    this.vocabulary = vocabulary;
  }

  /** Begins a run on a canvas; `known` keeps what was known of tokens that stay. */
  begin({ tokens, frozen }, known = null) {
    const probability = new Float32Array(tokens.length).fill(NaN);
    const entropy = new Float32Array(tokens.length).fill(NaN);
    const when = new Int32Array(tokens.length).fill(-1);
    known?.tokens.forEach((token, i) => {
      if (token === tokens[i]) {
        probability[i] = known.probability[i];
        entropy[i] = known.entropy[i];
      }
    });
    this.frozen = Uint8Array.from(frozen);
    this.frames = [{ tokens: Uint32Array.from(tokens), probability, entropy, when, report: null }];
    if (this.spans.length !== tokens.length) {
      this.spans = Array.from(tokens, (_, i) => {
        const span = document.createElement("span");
        span.dataset.at = i;
        if (this.onPick) {
          span.setAttribute("role", "option");
          span.tabIndex = -1;
        }
        return span;
      });
      this.parent.replaceChildren(...this.spans);
    }
    this.show(0);
  }

  /** Adds what a step did, and shows it if the last frame was shown. */
  add(report) {
    const last = this.frames.at(-1);
    const frame = {
      tokens: last.tokens.slice(),
      probability: last.probability.slice(),
      entropy: last.entropy.slice(),
      when: last.when.slice(),
      report,
    };
    for (const position of report.remasked) {
      frame.tokens[position] = this.vocabulary.mask;
    }
    for (const { position, token, probability, entropy } of report.revealed) {
      frame.tokens[position] = token;
      frame.probability[position] = probability;
      frame.entropy[position] = entropy;
      frame.when[position] = report.step;
    }
    const follow = this.shown === this.frames.length - 1;
    this.frames.push(frame);
    if (follow) {
      this.show(this.frames.length - 1);
    }
  }

  last() {
    return this.frames.at(-1);
  }

  canvas() {
    return { tokens: this.last().tokens.slice(), frozen: this.frozen.slice() };
  }

  show(index) {
    const before = this.frames[this.shown];
    const frame = this.frames[index];
    const forward = index === this.shown + 1;
    this.shown = index;
    frame.pieces ??= this.vocabulary.pieces(frame.tokens);
    frame.tokens.forEach((token, i) => this.paint(i, frame, forward && before?.tokens[i] !== token));
    const { first } = this.vocabulary;
    if (this.onPick && !this.spans.some((span) => span.tabIndex === 0) && this.spans.length > first) {
      this.spans[first].tabIndex = 0;
    }
  }

  paint(i, frame, fresh) {
    const span = this.spans[i];
    const token = frame.tokens[i];
    // most of them stay as they are from step to step, and setting a text lays out the page anew
    const state = [token, frame.pieces[i], frame.probability[i], frame.when[i], this.frozen[i], fresh].join();
    if (span.state === state) {
      return;
    }
    span.state = state;
    span.dataset.token = token;
    if (token === this.vocabulary.mask) {
      span.className = "token mask";
      span.textContent = "·";
      span.title = "";
      this.label(span, "masked");
      return;
    }
    const text = frame.pieces[i];
    const end = this.vocabulary.ends.includes(token);
    const sure = frame.probability[i];
    const kinds = ["token"];
    if (this.frozen[i]) {
      kinds.push("frozen");
    } else if (sure < TINTS.at(-1)) {
      kinds.push(tint(sure));
    }
    if (end) {
      kinds.push("end");
    }
    if (fresh) {
      kinds.push("fresh");
    }
    // The first token may only say that a block begins; a pad says nothing.
    span.hidden = i < this.vocabulary.first || token === this.vocabulary.pad;
    span.className = kinds.join(" ");
    // what follows is another text
    span.textContent = end ? " ∎\n\n" : text;
    span.title = this.describe(i);
    this.label(span, `${end ? "end of story" : text.trim() || "space"}, ${this.frozen[i] ? "frozen" : percent(sure)}`);
  }

  /** Names a token that can be picked; plain text must not carry a name. */
  label(span, name) {
    if (this.onPick) {
      span.ariaLabel = name;
    }
  }

  describe(i) {
    const frame = this.frames[this.shown];
    if (frame.tokens[i] === this.vocabulary.mask) {
      return "masked";
    }
    if (this.frozen[i]) {
      return "frozen: given, or kept by you";
    }
    const sure = frame.probability[i];
    if (Number.isNaN(sure)) {
      return "";
    }
    const when = frame.when[i] > 0 ? `, written in step ${frame.when[i]}` : "";
    return `${percent(sure)} sure, entropy ${frame.entropy[i].toFixed(2)} nats${when}`;
  }

  /** Positions of the word around one: letters and tokens that nothing separates. */
  word(at) {
    const { tokens } = this.last();
    const { units, of } = this.vocabulary.units(tokens);
    const text = (u) => units[u].text;
    const open = (u) => tokens[units[u].from] !== this.vocabulary.mask && !this.vocabulary.ends.includes(tokens[units[u].from]);
    let [from, to] = [of[at], of[at]];
    const begins = (u) => /^\s/.test(text(u)) || /^[^\p{L}\p{N}'’]/u.test(text(u));
    if (open(from)) {
      while (from > 0 && !begins(from) && open(from - 1) && !/\s$/.test(text(from - 1))) {
        from -= 1;
      }
      while (to + 1 < units.length && open(to + 1) && !begins(to + 1) && !/\s$/.test(text(to))) {
        to += 1;
      }
    }
    const first = units[from].from;
    return Array.from({ length: units[to].to + 1 - first }, (_, k) => first + k);
  }

  /** Whole words from one position to another; never a token that begins the block. */
  range(a, b) {
    const [from, to] = a < b ? [a, b] : [b, a];
    const all = new Set();
    for (let i = from; i <= to; i += 1) {
      this.word(i).forEach((position) => all.add(position));
    }
    return [...all].filter((position) => position >= this.vocabulary.first).sort((x, y) => x - y);
  }

  mark(positions) {
    const picked = new Set(positions);
    this.spans.forEach((span, i) => {
      span.classList.toggle("picked", picked.has(i));
      span.ariaSelected = String(picked.has(i));
    });
  }

  listen() {
    const at = (event) => {
      const span = document.elementFromPoint(event.clientX, event.clientY)?.closest?.("[data-at]");
      return span && this.parent.contains(span) ? Number(span.dataset.at) : null;
    };
    this.parent.addEventListener("pointerdown", (event) => {
      const place = at(event);
      if (place !== null && event.button === 0) {
        this.drag = { from: place, to: place };
        this.mark(this.range(place, place));
      }
    });
    this.parent.addEventListener("pointermove", (event) => {
      const place = at(event);
      if (this.drag && place !== null && place !== this.drag.to) {
        this.drag.to = place;
        this.mark(this.range(this.drag.from, place));
      }
    });
    const finish = (pick) => () => {
      const { drag } = this;
      this.drag = null;
      if (drag) {
        this.mark([]);
        if (pick) {
          this.focus(drag.to, false);
          this.onPick(this.range(drag.from, drag.to), null);
        }
      }
    };
    window.addEventListener("pointerup", finish(true));
    window.addEventListener("pointercancel", finish(false));
    this.parent.addEventListener("keydown", (event) => this.key(event));
    this.parent.addEventListener("focusin", ({ target }) => {
      if (target.dataset.at) {
        this.onFocus?.(this.describe(Number(target.dataset.at)), target.textContent);
      }
    });
  }

  focus(at, move = true) {
    this.spans.forEach((span, i) => {
      span.tabIndex = i === at ? 0 : -1;
    });
    if (move) {
      this.spans[at].focus();
    }
  }

  key(event) {
    const at = Number(event.target.dataset.at);
    if (Number.isNaN(at)) {
      return;
    }
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, Home: -Infinity, End: Infinity };
    if (event.key in steps) {
      event.preventDefault();
      const to = Math.min(this.spans.length - 1, Math.max(this.vocabulary.first, at + steps[event.key]));
      this.anchor = event.shiftKey ? (this.anchor ?? at) : null;
      this.focus(to);
      this.mark(this.anchor === null ? [] : this.range(this.anchor, to));
    } else if (["Enter", " ", "Delete", "Backspace", "f", "F"].includes(event.key)) {
      event.preventDefault();
      const positions = this.range(this.anchor ?? at, at);
      this.anchor = null;
      this.mark([]);
      this.onPick(positions, event.key.toLowerCase() === "f" ? "freeze" : "reopen");
    }
  }
}

const percent = (share) => (Number.isNaN(share) ? "" : `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`);
