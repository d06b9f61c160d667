// One card per station: the salinity large, then water, then weather, each with its quality and age as they are.

import { html } from "./elements.js";
import { age, moment, number, pick, t } from "./language.js";
import { FAIL, flagText, GOOD, isUsable, MISSING, quantity, reading, salinityNow, step, STEPS, SUSPECT, unitText, windText } from "./readings.js";

const OLDER_THAN_STATION_S = 600; // a value this much older than the station's newest says its own time

export function stationCards(overview, now, selected) {
  if (overview.stations.length === 0) return html("p", { class: "empty" }, t("no_stations"));
  return overview.stations.map((station) => card(station, now, station.id === selected));
}

function card(station, now, isSelected) {
  const salinity = salinityNow(station);
  const colour = salinity == null ? "step-none" : `step-${step(salinity)}`;
  return html("article", { class: `card ${colour}${station.online ? "" : " offline"}`, "data-key": station.id, "aria-labelledby": `name-${station.id}` },
    html("header", {},
      html("h3", { id: `name-${station.id}` }, pick(station.name)),
      html("p", { class: "place" }, `${station.river} · ${t("river_km", { km: number(station.river_km, Number.isInteger(station.river_km) ? 0 : 1) })}`)),
    salinityBlock(station),
    meter(salinity),
    contact(station, now),
    html("dl", { class: "values" }, water(station, now), weather(station, now)),
    html("div", { class: "card-foot" },
      html("button", { type: "button", class: "plain", "data-select": station.id, "data-show-chart": true, "aria-pressed": String(isSelected) },
        t(isSelected ? "chart_shown" : "show_chart")),
      allValues(station, now)));
}

function salinityBlock(station) {
  const entry = reading(station, "salinity");
  const has = entry?.value != null;
  return html("div", { class: "salinity" },
    html("p", { class: "salinity-label" }, t("salinity")),
    html("p", { class: "salinity-value" },
      html("strong", { class: isUsable(station, entry) ? "" : "doubtful" }, has ? number(entry.value, 2) : "–"),
      html("span", { class: "unit" }, t("salinity_unit"))),
    entry ? flag(entry.flag) : html("p", { class: "flag flag-9" }, t("no_value")));
}

const FLAG_SIGNS = { [GOOD]: "✓", [SUSPECT]: "?", [FAIL]: "✕", [MISSING]: "–" };

const flag = (value) => html("p", { class: `flag flag-${value}` },
  html("span", { "aria-hidden": "true" }, `${FLAG_SIGNS[value] ?? "·"} `), flagText(value));

function meter(salinity) {
  const present = salinity == null ? -1 : step(salinity);
  return html("div", { class: "meter", "aria-hidden": "true" },
    [...STEPS, null].map((_, index) => html("span", { class: `step-${index}${index === present ? " present" : ""}` })));
}

function contact(station, now) {
  if (station.last_time == null) return html("p", { class: "contact lost" }, t("never"));
  const values = { time: moment(station.last_time, now), age: age(now - station.last_time) };
  return station.online
    ? html("p", { class: "contact" }, t("measured", values))
    : html("p", { class: "contact lost" }, html("strong", {}, t("offline_since", values)));
}

function row(name, text, entry, station, now) {
  const notes = [];
  if (entry.flag === SUSPECT || entry.flag === FAIL || entry.flag === MISSING) notes.push(flagText(entry.flag));
  if (station.last_time - entry.time > OLDER_THAN_STATION_S) notes.push(t("older", { time: moment(entry.time, now) }));
  return html("div", {}, html("dt", {}, name), html("dd", {}, text, notes.length > 0 && html("small", {}, notes.join(", "))));
}

function simple(station, now, parameter, decimals) {
  const entry = reading(station, parameter);
  if (!entry) return null;
  const text = entry.value == null ? t("no_value") : quantity(entry.value, decimals, entry.unit);
  return row(t(parameter), text, entry, station, now);
}

const water = (station, now) => [simple(station, now, "water_temperature", 1), simple(station, now, "water_level", 2)];

const weather = (station, now) => [
  simple(station, now, "air_temperature", 1),
  simple(station, now, "relative_humidity", 0),
  wind(station, now),
  simple(station, now, "air_pressure", 0),
];

function wind(station, now) {
  const speed = reading(station, "wind_speed");
  if (!speed) return null;
  const from = reading(station, "wind_from_direction");
  const gust = reading(station, "wind_speed_of_gust");
  const parts = [speed.value == null ? t("no_value") : quantity(speed.value, 1, speed.unit)];
  if (from?.value != null && speed.value > 0) parts.unshift(windText(from.value));
  if (gust?.value != null) parts.push(t("wind_gust", { value: number(gust.value, 1) }));
  return row(t("wind"), parts.join(", "), speed, station, now);
}

function allValues(station, now) {
  const rows = station.latest.map((entry) => html("tr", {},
    html("th", { scope: "row" }, pick(entry.label), html("small", {}, entry.sensor ? t("sensor", { number: entry.sensor }) : t("board"))),
    html("td", { class: "figure" }, entry.value == null ? "–" : `${number(entry.value, entry.decimals ?? 0)} ${unitText(entry.unit)}`.trim()),
    html("td", {}, flagText(entry.flag)),
    html("td", { class: "figure" }, moment(entry.time, now))));
  return html("details", {}, html("summary", {}, t("all_values")),
    html("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${t("all_values")}: ${pick(station.name)}` },
      html("table", {},
        html("thead", {}, html("tr", {}, ["parameter", "value", "quality", "time"].map((name) => html("th", { scope: "col" }, t(`column_${name}`))))),
        html("tbody", {}, rows))));
}
