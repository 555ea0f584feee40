// Line charts in SVG, drawn by hand: they are small.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 480;
const HEIGHT = 200;
const LEFT = 42;
const RIGHT = 10;
const TOP = 12;
const BOTTOM = 26;

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }
  if (text !== undefined) {
    made.textContent = text;
  }
  return made;
}

/** A chart with axes; `x` and `y` are the ends of its ranges and may be changed before `draw`. */
export class Chart {
  constructor(parent, { label, x, y, xName, yName }) {
    Object.assign(this, { x, y, xName, yName, lines: {}, marks: [], bases: [] });
    this.svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
    parent.replaceChildren(this.svg);
  }

  px(value) {
    const [from, to] = this.x;
    return LEFT + ((value - from) / (to - from || 1)) * (WIDTH - LEFT - RIGHT);
  }

  py(value) {
    const [from, to] = this.y;
    const inside = Math.min(Math.max(value, from), to);
    return HEIGHT - BOTTOM - ((inside - from) / (to - from || 1)) * (HEIGHT - TOP - BOTTOM);
  }

  /** Sets a line: points `[x, y]`, drawn with the class `line` or `line2`. */
  line(name, points, kind = "line") {
    this.lines[name] = { points, kind };
  }

  /** A dot with lines to the axes. */
  mark(x, y) {
    this.marks = [[x, y]];
  }

  /** A level to compare with. */
  base(y, text) {
    this.bases = [[y, text]];
  }

  draw() {
    const parts = [];
    const [x0, x1] = this.x;
    const [y0, y1] = this.y;
    const format = (value) => Number(value.toPrecision(3)).toString();
    for (const share of [0, 0.5, 1]) {
      const y = y0 + share * (y1 - y0);
      parts.push(element("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: this.py(y), y2: this.py(y) }));
      parts.push(element("text", { x: LEFT - 6, y: this.py(y) + 4, "text-anchor": "end" }, format(y)));
      const x = x0 + share * (x1 - x0);
      const anchor = ["start", "middle", "end"][share * 2];
      parts.push(element("text", { x: this.px(x), y: HEIGHT - 8, "text-anchor": anchor }, format(x)));
    }
    parts.push(element("text", { x: LEFT + 6, y: TOP + 10 }, this.yName));
    parts.push(element("text", { x: WIDTH - RIGHT, y: HEIGHT - BOTTOM - 6, "text-anchor": "end" }, this.xName));
    for (const [y, text] of this.bases) {
      const at = this.py(y);
      parts.push(element("line", { class: "base", x1: LEFT, x2: WIDTH - RIGHT, y1: at, y2: at }));
      parts.push(element("text", { x: WIDTH - RIGHT, y: at - 4, "text-anchor": "end" }, text));
    }
    for (const { points, kind } of Object.values(this.lines)) {
      const path = points.map(([x, y]) => `${this.px(x).toFixed(1)},${this.py(y).toFixed(1)}`).join(" ");
      parts.push(element("polyline", { class: kind, points: path }));
    }
    for (const [x, y] of this.marks) {
      const [px, py] = [this.px(x), this.py(y)];
      parts.push(element("line", { class: "guide", x1: px, x2: px, y1: py, y2: HEIGHT - BOTTOM }));
      parts.push(element("circle", { class: "now", cx: px, cy: py, r: 5 }));
    }
    this.svg.replaceChildren(...parts);
  }
}

/** Keeps a curve of any length within `most` points: every other one goes, what comes next is averaged. */
export class Curve {
  constructor(most = 400) {
    Object.assign(this, { most, every: 1, points: [], sum: 0, count: 0 });
  }

  add(x, y) {
    this.sum += y;
    this.count += 1;
    if (this.count < this.every) {
      return;
    }
    this.points.push([x, this.sum / this.count]);
    this.sum = this.count = 0;
    if (this.points.length >= this.most) {
      this.points = this.points.filter((_, i) => i % 2 === 1);
      this.every *= 2;
    }
  }
}
