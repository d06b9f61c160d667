// The salinity chart as SVG: the line, the colour steps below it, threshold lines named by their crop, marks for
// doubtful values, and a cursor for mouse, finger and arrow keys.

import { lines, marked, points, tickStep, timeTicks, topValue, valueTicks } from "./chart_data.js";
import { html, svg } from "./elements.js";
import { number, pick, t, time } from "./language.js";
import { FAIL, flagText, salinityText, STEPS } from "./readings.js";

const HEIGHT = 330;
const MARGIN = { top: 16, right: 12, bottom: 44, left: 46 };
const LABEL_PX = 17;

/** Everything the chart needs, in pixels: a plain object that drawing and cursor share. */
export function chartFrame(series, thresholds, from, to, width) {
  const all = points(series).filter((point) => point.time >= from && point.time <= to);
  const top = topValue(all, thresholds);
  const right = width - MARGIN.right;
  const bottom = HEIGHT - MARGIN.bottom;
  const x = (seconds) => MARGIN.left + ((seconds - from) / (to - from)) * (right - MARGIN.left);
  const y = (value) => bottom - (Math.min(Math.max(value, 0), top) / top) * (bottom - MARGIN.top);
  const timeAt = (px) => from + ((px - MARGIN.left) / (right - MARGIN.left)) * (to - from);
  return { all, top, from, to, width, right, bottom, x, y, timeAt, thresholds: thresholds.filter((each) => each.set <= top) };
}

/** The picture; `cursor` is an index into frame.all, or -1. */
export function chartPicture(frame, name, cursor) {
  const values = frame.all.filter((point) => point.flag !== FAIL).map((point) => point.value);
  const latest = frame.all[frame.all.length - 1];
  const description = values.length === 0 ? name : t("chart_description", { station: name, latest: readout(latest),
    lowest: salinityText(Math.min(...values)), highest: salinityText(Math.max(...values)) });
  return svg("svg", { viewBox: `0 0 ${frame.width} ${HEIGHT}`, width: frame.width, height: HEIGHT, role: "img", "aria-label": description, class: "chart" },
    stepGradient(frame), ...axes(frame), ...areaAndLine(frame), ...thresholdLines(frame), ...marks(frame), ...cursorMarks(frame, cursor));
}

/** "14:05 Thứ 7 28/02 · 3,42 g/L · Đạt kiểm tra" */
export function readout(point) {
  const when = ["minute", "weekday", "day"].map((style) => time(point.time, style)).join(" ");
  return [when, salinityText(point.value), flagText(point.flag)].join(" · ");
}

// Hard colour steps up the value axis, shared by the strip at the axis and the area below the line.
function stepGradient(frame) {
  const bounds = [0, ...STEPS.filter((level) => level < frame.top), frame.top];
  const stops = bounds.slice(1).flatMap((upper, index) => [bounds[index], upper].map((level) =>
    svg("stop", { class: `step-${index}`, offset: (level / frame.top).toFixed(4) })));
  return svg("defs", {}, svg("linearGradient", { id: "chart-steps", gradientUnits: "userSpaceOnUse", x1: 0, x2: 0, y1: frame.bottom, y2: MARGIN.top }, stops));
}

function axes(frame) {
  const decimals = tickStep(frame.top) < 1 ? 1 : 0;
  const hours = (frame.to - frame.from) / 3600;
  const everyHours = [1, 2, 3, 6, 12, 24].find((each) => (hours / each) * 52 <= frame.right - MARGIN.left) ?? 24;
  return [
    ...valueTicks(frame.top).map((value) => svg("g", {},
      svg("line", { class: "grid", x1: MARGIN.left, x2: frame.right, y1: frame.y(value), y2: frame.y(value) }),
      svg("text", { class: "tick", x: MARGIN.left - 14, y: frame.y(value) + 4, "text-anchor": "end" }, number(value, decimals)))),
    svg("rect", { class: "step-strip", x: MARGIN.left - 9, y: MARGIN.top, width: 7, height: frame.bottom - MARGIN.top, fill: "url(#chart-steps)" }),
    ...timeTicks(frame.from, frame.to, everyHours).map((tick) => timeTick(frame, tick)),
    svg("line", { class: "axis", x1: MARGIN.left, x2: frame.right, y1: frame.bottom, y2: frame.bottom }),
  ];
}

function timeTick(frame, { time: seconds, isMidnight }) {
  const at = frame.x(seconds);
  const anchor = at > frame.right - 20 ? "end" : at < MARGIN.left + 12 ? "start" : "middle";
  return svg("g", {},
    svg("line", { class: isMidnight ? "grid midnight" : "grid", x1: at, x2: at, y1: MARGIN.top, y2: frame.bottom }),
    svg("text", { class: "tick", x: at, y: frame.bottom + 18, "text-anchor": anchor }, time(seconds, "minute")),
    isMidnight && svg("text", { class: "tick day", x: at, y: frame.bottom + 36, "text-anchor": anchor }, time(seconds, "day")));
}

function areaAndLine(frame) {
  return lines(frame.all).flatMap((line) => {
    const along = line.map((point) => `${frame.x(point.time).toFixed(1)},${frame.y(point.value).toFixed(1)}`).join("L");
    if (line.length === 1) return [svg("circle", { class: "lone", cx: frame.x(line[0].time), cy: frame.y(line[0].value), r: 2.5 })];
    const first = frame.x(line[0].time), last = frame.x(line[line.length - 1].time);
    return [
      svg("path", { class: "area", fill: "url(#chart-steps)", d: `M${first},${frame.bottom}L${along}L${last},${frame.bottom}Z` }),
      svg("path", { class: "line", d: `M${along}` }),
    ];
  });
}

// Labels stand above their line at the left; one that would cover the next lower is lifted, with a short stem.
function thresholdLines(frame) {
  let free = Infinity;
  return [...frame.thresholds].sort((a, b) => a.set - b.set).map((threshold) => {
    const at = frame.y(threshold.set);
    const label = Math.min(at - 5, free - LABEL_PX);
    free = label;
    const text = t("threshold_line", { crop: cropName(threshold), set: levelText(threshold.set), clear: levelText(threshold.clear) });
    return svg("g", { class: "threshold" },
      svg("line", { class: "threshold-set", x1: MARGIN.left, x2: frame.right, y1: at, y2: at }),
      svg("line", { class: "threshold-clear", x1: MARGIN.left, x2: frame.right, y1: frame.y(threshold.clear), y2: frame.y(threshold.clear) }),
      label < at - 6 && svg("line", { class: "threshold-stem", x1: MARGIN.left + 3, x2: MARGIN.left + 3, y1: label - 4, y2: at }),
      svg("text", { class: "threshold-label", x: MARGIN.left + 7, y: Math.max(label, 12) }, text));
  });
}

function cropName(threshold) {
  const name = pick(threshold.crop);
  return name.charAt(0).toLocaleUpperCase() + name.slice(1);
}

/** A threshold level with as many places as it needs, one at least. */
export const levelText = (level) => number(level, Number.isInteger(Math.round(level * 1000) / 100) ? 1 : 2);

function marks(frame) {
  return marked(frame.all).map((point) => {
    const [px, py] = [frame.x(point.time), frame.y(point.value)];
    return point.flag === FAIL
      ? svg("path", { class: "mark-fail", d: `M${px - 4},${py - 4}l8,8m0,-8l-8,8` })
      : svg("path", { class: "mark-suspect", d: `M${px},${py - 5}l5,5l-5,5l-5,-5Z` });
  });
}

function cursorMarks(frame, cursor) {
  const point = frame.all[cursor];
  if (!point) return [];
  const px = frame.x(point.time);
  return [
    svg("line", { class: "cursor-line", x1: px, x2: px, y1: MARGIN.top, y2: frame.bottom }),
    svg("circle", { class: point.flag === FAIL ? "cursor-dot doubtful" : "cursor-dot", cx: px, cy: frame.y(point.value), r: 6 }),
  ];
}

/** The legend names every sign the chart may show. */
export function chartLegend() {
  const sign = (...shapes) => svg("svg", { viewBox: "0 0 28 14", width: 28, height: 14, "aria-hidden": "true" }, shapes);
  const entries = {
    line: sign(svg("path", { class: "line", d: "M1,10C8,2 16,12 27,4" })),
    set: sign(svg("line", { class: "threshold-set", x1: 1, x2: 27, y1: 7, y2: 7 })),
    clear: sign(svg("line", { class: "threshold-clear", x1: 1, x2: 27, y1: 7, y2: 7 })),
    suspect: sign(svg("path", { class: "mark-suspect", d: "M14,2l5,5l-5,5l-5,-5Z" })),
    fail: sign(svg("path", { class: "mark-fail", d: "M10,3l8,8m0,-8l-8,8" })),
    gap: sign(svg("path", { class: "line", d: "M1,8L9,6M19,8L27,6" })),
  };
  return html("ul", { class: "legend" }, Object.entries(entries).map(([name, shape]) => html("li", {}, shape, t(`legend_${name}`))));
}

/** What the station's present salinity is to each of its thresholds, in a table that any reader can take in. */
export function thresholdTable(thresholds, salinity) {
  const state = (threshold) => {
    if (salinity == null) return "unknown";
    if (salinity >= threshold.set) return "above";
    return salinity <= threshold.clear ? "below" : "between";
  };
  const rows = [...thresholds].sort((a, b) => a.set - b.set).map((threshold) => html("tr", { class: `now-${state(threshold)}` },
    html("th", { scope: "row" }, cropName(threshold)),
    html("td", { class: "figure" }, levelText(threshold.set)),
    html("td", { class: "figure" }, levelText(threshold.clear)),
    html("td", { class: "now" }, t(`now_${state(threshold)}`))));
  const head = [["crop", ""], ["set", " (g/L)"], ["clear", " (g/L)"], ["now", ""]];
  return html("table", { class: "thresholds" },
    html("thead", {}, html("tr", {}, head.map(([name, unit]) => html("th", { scope: "col" }, t(`column_${name}`) + unit)))),
    html("tbody", {}, rows));
}

