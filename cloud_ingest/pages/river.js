// The river sketch: the sea, the water coloured by what the stations measure, a label per station. Lying on a wide
// screen with the sea on the right, as on the map; standing on a phone with the sea below.

import { html, svg } from "./elements.js";
import { number, pick, t } from "./language.js";
import { colouredPieces, riverLines, spread } from "./river_lines.js";
import { reading, salinityNow, step, STEPS } from "./readings.js";

const STANDING_BELOW_PX = 700;
const LABEL = { width: 166, height: 74 };
const SEA_PX = 76; // from the edge of the picture to river km 0
const INLAND_PX = 46;
const BAND_STEP_KM = 0.5;

/** The sketch's nodes for a container `width` pixels wide: one picture per line of water, then the legend. */
export function riverSketch(overview, width, selected) {
  return [
    ...riverLines(overview.stations).map((line, index) => picture(line, index, width, selected)),
    scaleLegend(),
    html("p", { class: "note" }, t("river_note")),
  ];
}

function picture(line, index, width, selected) {
  const frame = width < STANDING_BELOW_PX ? standing(line.stations, width) : lying(line.stations, width);
  const stations = line.stations.map((s) => `${pick(s.name)} ${valueText(s)}`).join("; ");
  return html("figure", { class: "river" },
    html("figcaption", {}, line.rivers.join(" – ")),
    svg("svg", { viewBox: `0 0 ${frame.width} ${frame.height}`, width: frame.width, height: frame.height, role: "group",
      "aria-label": t("river_picture", { river: line.rivers.join(" – "), stations }) },
      definitions(frame, index), ...water(line.stations, frame, index), ...ends(frame),
      ...line.stations.map((station, place) => marker(station, frame, place, selected))));
}

// A frame turns (km from the mouth, pixels across the river) into picture pixels, and says where the labels go.
function lying(stations, width) {
  const height = 286, middle = height / 2, maxKm = span(stations);
  const along = (km) => width - SEA_PX - (km / maxKm) * (width - SEA_PX - INLAND_PX);
  const point = (km, across) => [along(km), middle + across + 9 * Math.sin(km / 6)];
  const ordered = [...stations].reverse(); // left to right
  const rows = [0, 1].map((row) => ordered.filter((_, place) => place % 2 === row));
  const labels = new Map(rows.flatMap((row, down) => {
    const centres = spread(row.map((s) => along(s.river_km)), LABEL.width + 8, width);
    return row.map((s, place) => [s.id, { x: centres[place] - LABEL.width / 2, y: down ? height - LABEL.height : 0 }]);
  }));
  return { width, height, maxKm, point, labels, sea: [[width + 2, -2], [width + 2, height + 2]],
    anchor: ({ x, y }) => [x + LABEL.width / 2, y === 0 ? LABEL.height : y],
    seaText: [width - 34, middle + 5], upstreamText: [4, middle - 24, "start"] };
}

function standing(stations, width) {
  const maxKm = span(stations), gap = LABEL.height + 10;
  const height = Math.max(360, SEA_PX + INLAND_PX + stations.length * gap);
  const along = (km) => height - SEA_PX - (km / maxKm) * (height - SEA_PX - INLAND_PX);
  const point = (km, across) => [58 + across + 7 * Math.sin(km / 6), along(km)];
  const ordered = [...stations].reverse(); // top to bottom
  const centres = spread(ordered.map((s) => along(s.river_km)), gap, height - 40);
  const x = width - Math.min(LABEL.width + 20, width - 126);
  const labels = new Map(ordered.map((s, place) => [s.id, { x, y: centres[place] - LABEL.height / 2 }]));
  return { width, height, maxKm, point, labels, sea: [[-2, height + 2], [118, height + 2]], seaWidth: 118,
    anchor: ({ x: left, y }) => [left, y + LABEL.height / 2],
    seaText: [58, height - 22], upstreamText: [58, 14, "middle"] };
}

const span = (stations) => Math.max(10, Math.ceil((Math.max(...stations.map((s) => s.river_km)) * 1.06) / 5) * 5);

/** Half the drawn width of the river: broad at the mouth, narrow inland (a sketch, not a survey). */
const halfWidth = (km, maxKm) => 10 + 22 * (1 - km / maxKm) ** 1.6;

function bank(frame, side) {
  const points = [];
  for (let km = 0; km <= frame.maxKm; km += BAND_STEP_KM) {
    points.push(frame.point(km, side * halfWidth(km, frame.maxKm)));
  }
  return points;
}

const path = (points) => `M${points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L")}`;

function definitions(frame, index) {
  const outline = path([...bank(frame, -1), ...bank(frame, 1).reverse()]) + "Z";
  return svg("defs", {},
    svg("clipPath", { id: `water-${index}` }, svg("path", { d: outline })),
    svg("pattern", { id: `unmeasured-${index}`, width: 8, height: 8, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      svg("rect", { class: "unmeasured-ground", width: 8, height: 8 }),
      svg("rect", { class: "unmeasured-stroke", width: 2.5, height: 8 })));
}

function water(stations, frame, index) {
  const slice = ({ from, to }) => path([frame.point(from, -60), frame.point(to, -60), frame.point(to, 60), frame.point(from, 60)]) + "Z";
  const fine = colouredPieces(stations).flatMap((piece) => cut(piece));
  return [
    svg("path", { class: "sea", d: seaShape(frame) }),
    svg("g", { "clip-path": `url(#water-${index})` },
      svg("rect", { width: frame.width, height: frame.height, fill: `url(#unmeasured-${index})` }),
      ...fine.map((piece) => svg("path", { class: `water step-${piece.step}`, d: slice(piece) }))),
    svg("path", { class: "bank", d: path(bank(frame, -1)) }),
    svg("path", { class: "bank", d: path(bank(frame, 1)) }),
  ];
}

// Short slices follow the river's bends; each overlaps the next by a hair so that no seam shows.
function cut({ from, to, step: colour }) {
  const count = Math.max(1, Math.ceil((to - from) / 2));
  const length = (to - from) / count;
  return Array.from({ length: count }, (_, part) => ({ from: from + part * length, to: from + (part + 1) * length + (part + 1 < count ? 0.15 : 0), step: colour }));
}

function seaShape(frame) {
  const [first, last] = [frame.point(0, -halfWidth(0, frame.maxKm)), frame.point(0, halfWidth(0, frame.maxKm))];
  const [corner, other] = frame.sea;
  if (frame.seaWidth) {
    return `M${corner}C-2,${first[1] + 30} ${first[0] - 8},${first[1] + 26} ${first}L${last}C${last[0] + 8},${last[1] + 26} ${other[0]},${last[1] + 30} ${other}Z`;
  }
  return `M${corner}C${first[0] + 26},${first[1] - 60} ${first[0] + 30},${first[1] - 12} ${first}L${last}C${last[0] + 30},${last[1] + 12} ${last[0] + 26},${last[1] + 60} ${other}Z`;
}

function ends(frame) {
  const [x, y, anchor] = frame.upstreamText;
  return [
    svg("text", { class: "sea-text", x: frame.seaText[0], y: frame.seaText[1], "text-anchor": "middle" }, t("sea")),
    svg("text", { class: "upstream-text", x, y, "text-anchor": anchor }, t("upstream")),
  ];
}

function marker(station, frame, place, selected) {
  const [x, y] = frame.point(station.river_km, 0);
  const box = frame.labels.get(station.id);
  const [ax, ay] = frame.anchor(box);
  const salinity = salinityNow(station);
  return svg("g", { "data-key": station.id },
    svg("line", { class: "leader", x1: x, y1: y, x2: ax, y2: ay }),
    svg("circle", { class: "marker-ring", cx: x, cy: y, r: 10.5 }),
    svg("circle", { class: `marker ${stepClass(salinity)}`, cx: x, cy: y, r: 7.5 }),
    svg("foreignObject", { x: box.x, y: box.y, width: LABEL.width, height: LABEL.height },
      html("button", { type: "button", class: `river-label ${stepClass(salinity)}`, "data-select": station.id,
        "aria-pressed": String(station.id === selected) },
        html("span", { class: "river-name" }, pick(station.name)),
        html("span", { class: salinity == null ? "river-value in-words" : "river-value" }, valueText(station)),
        html("span", { class: "river-km" }, t("km", { km: number(station.river_km, Number.isInteger(station.river_km) ? 0 : 1) })))));
}

const stepClass = (salinity) => (salinity == null ? "step-none" : `step-${step(salinity)}`);

function valueText(station) {
  if (!station.online) return t("offline");
  const entry = reading(station, "salinity");
  const salinity = salinityNow(station);
  if (salinity != null) return `${number(salinity, 2)} g/L`;
  return entry && entry.flag === 4 ? t("flag_4") : t("no_value");
}

function scaleLegend() {
  const names = ["<", ...STEPS.slice(1), "≥"].map((_, index) => {
    if (index === 0) return `< ${number(STEPS[0], 1)}`;
    if (index === STEPS.length) return `≥ ${STEPS[index - 1]}`;
    return `${number(STEPS[index - 1], STEPS[index - 1] < 1 ? 1 : 0)}–${STEPS[index]}`;
  });
  return html("div", { class: "scale" },
    html("span", { class: "scale-title" }, t("salinity_scale")),
    html("ol", { class: "scale-steps" }, names.map((name, index) => html("li", { class: `step-${index}` }, name))));
}
