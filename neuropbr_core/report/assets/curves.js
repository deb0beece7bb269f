// Draws the curves of runs as SVG: small charts for the metrics that matter, and one for any other.

"use strict";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 360;
const HEIGHT = 200;
const MARGIN = { left: 46, right: 10, top: 10, bottom: 24 };
const COLOURS = 6;

function svg(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function shown(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

// About four round numbers between two values, which must differ by more than rounding: see `scale`.
function ticks(low, high) {
  const rough = (high - low) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const values = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) values.push(value);
  return values;
}

class Chart {
  // lines: [{label, key, colour, faint, x, y}], y with null where a value is not finite.
  constructor(title, lines) {
    this.lines = lines;
    this.root = document.createElement("figure");
    this.root.className = "chart";
    const caption = document.createElement("figcaption");
    caption.textContent = title;
    this.readout = document.createElement("span");
    this.readout.className = "readout";
    caption.append(this.keys(), this.readout);
    this.picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", tabindex: "0" });
    this.picture.setAttribute("aria-label", this.summary(title));
    this.root.append(caption, this.picture);
    this.scale();
    this.draw();
    this.listen();
  }

  // Which colour is which, where the lines are of one run; the legend above the charts tells runs apart.
  keys() {
    const keys = document.createElement("span");
    keys.className = "keys";
    for (const { key, colour } of this.lines) {
      if (!key) continue;
      const mark = document.createElement("i");
      mark.className = `colour-${colour % COLOURS}`;
      const label = document.createElement("span");
      label.append(mark, key);
      keys.append(label);
    }
    return keys;
  }

  summary(title) {
    const parts = this.lines.map(({ label, y }) => {
      const values = y.filter((value) => value !== null);
      if (!values.length) return `${label}: no values`;
      const ends = `from ${shown(values[0])} to ${shown(values[values.length - 1])}`;
      return `${label}: ${ends}, lowest ${shown(Math.min(...values))}, highest ${shown(Math.max(...values))}`;
    });
    return `${title}. ${parts.join(". ")}`;
  }

  scale() {
    const all = this.lines.flatMap((line) => line.y.filter((value) => value !== null)).sort((a, b) => a - b);
    const steps = this.lines.flatMap((line) => line.x);
    // The first steps of a run are far off; the axis ends where 98 % of the values do.
    const clip = (share) => all[Math.round(share * (all.length - 1))];
    let low = all.length > 50 ? clip(0.01) : all[0];
    let high = all.length > 50 ? clip(0.99) : all[all.length - 1];
    // Means of equal values differ by rounding, and steps between ticks would then change nothing.
    if (high - low <= 1e-9 * Math.max(Math.abs(low), Math.abs(high))) {
      low -= Math.abs(low) / 10 || 0.5;
      high += Math.abs(high) / 10 || 0.5;
    }
    const room = (high - low) * 0.06;
    const last = Math.max(...steps);
    const first = Math.min(...steps);
    this.range = { low: low - room, high: high + room, first: first === last ? first - 1 : first, last };
  }

  across(step) {
    const { first, last } = this.range;
    return MARGIN.left + ((step - first) / (last - first)) * (WIDTH - MARGIN.left - MARGIN.right);
  }

  up(value) {
    const { low, high } = this.range;
    const bottom = HEIGHT - MARGIN.bottom;
    const height = bottom - ((value - low) / (high - low)) * (bottom - MARGIN.top);
    return Math.min(Math.max(height, MARGIN.top - 4), bottom + 4);
  }

  draw() {
    for (const value of ticks(this.range.low, this.range.high)) {
      const y = this.up(value);
      this.picture.append(svg("line", { class: "grid", x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: y, y2: y }));
      this.picture.append(svg("text", { x: MARGIN.left - 6, y: y + 4, "text-anchor": "end" }, shown(value)));
    }
    for (const value of ticks(this.range.first, this.range.last)) {
      const anchor = value > this.range.last * 0.95 ? "end" : "middle";
      this.picture.append(svg("text", { x: this.across(value), y: HEIGHT - 6, "text-anchor": anchor }, shown(value)));
    }
    for (const line of this.lines) {
      let path = "";
      let joined = false;
      line.x.forEach((step, index) => {
        const value = line.y[index];
        if (value !== null) path += `${joined ? "L" : "M"}${this.across(step).toFixed(1)} ${this.up(value).toFixed(1)}`;
        joined = value !== null;
      });
      const kind = `line colour-${line.colour % COLOURS}${line.faint ? " faint" : ""}`;
      this.picture.append(svg("path", { class: kind, d: path }));
      // A single value would be a path without length.
      if (line.x.length === 1 && line.y[0] !== null) {
        this.picture.append(svg("circle", { class: kind, cx: this.across(line.x[0]), cy: this.up(line.y[0]), r: 2.5 }));
      }
    }
    this.cursor = svg("line", { class: "cursor", y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom });
    this.cursor.style.display = "none";
    this.picture.append(this.cursor);
  }

  listen() {
    this.steps = [...new Set(this.lines.flatMap((line) => line.x))].sort((a, b) => a - b);
    this.picture.addEventListener("pointermove", (event) => {
      const box = this.picture.getBoundingClientRect();
      const inside = ((event.clientX - box.left) / box.width) * WIDTH;
      const distances = this.steps.map((step) => Math.abs(this.across(step) - inside));
      this.point(distances.indexOf(Math.min(...distances)));
    });
    this.picture.addEventListener("pointerleave", () => this.point(-1));
    this.picture.addEventListener("blur", () => this.point(-1));
    this.picture.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!move) return;
      event.preventDefault();
      const start = this.index === undefined || this.index < 0 ? this.steps.length - 1 : this.index + move;
      this.point(Math.min(Math.max(start, 0), this.steps.length - 1));
    });
  }

  point(index) {
    this.index = index;
    this.cursor.style.display = index < 0 ? "none" : "";
    if (index < 0) {
      this.readout.textContent = "";
      return;
    }
    const step = this.steps[index];
    this.cursor.setAttribute("x1", this.across(step));
    this.cursor.setAttribute("x2", this.across(step));
    const parts = this.lines.map((line) => {
      // Validation has fewer points than training; the last one before the step is what holds there.
      const at = line.x.findLastIndex((candidate) => candidate <= step);
      const value = at < 0 ? null : line.y[at];
      return `${line.label} ${value === null ? "–" : shown(value)}`;
    });
    this.readout.textContent = `step ${step}: ${parts.join(", ")}`;
  }
}

// data: {runs: [{name, curves: {name: {x, y}}}], charts: [{title, curves: [name]}]}, as curves.py writes it.
function drawCurves(root, data) {
  const linesOf = (names) => data.runs.flatMap((run, index) =>
    names.filter((name) => name in run.curves).map((name) => ({
      label: data.runs.length > 1 ? `${run.name} ${name}` : name,
      key: data.runs.length === 1 && names.length > 1 ? name.split(" ")[0] : "",
      colour: data.runs.length > 1 ? index : names.indexOf(name),
      // With several runs colours tell runs apart, so that training is faint beside validation.
      faint: data.runs.length > 1 && names.length > 1 && name.startsWith("train "),
      ...run.curves[name],
    })));
  const charts = find(".charts", root);
  for (const { title, curves } of data.charts) {
    const lines = linesOf(curves);
    if (lines.length) charts.append(new Chart(title, lines).root);
  }
  const select = find("select", root);
  const names = [...new Set(data.runs.flatMap((run) => Object.keys(run.curves)))].sort();
  for (const name of names) {
    const option = document.createElement("option");
    option.value = option.textContent = name;
    select.append(option);
  }
  const place = find(".any", root);
  const drawAny = () => place.replaceChildren(new Chart(select.value, linesOf([select.value])).root);
  select.addEventListener("change", drawAny);
  drawAny();
}
