// What a station's latest values mean to the page: which one to show, whether it may be relied on, which colour it has.

import { number, t } from "./language.js";

/** Steps of the salinity colours in g/L; style.css has one colour per step, step-0 (fresh) to step-6. */
export const STEPS = [0.5, 1, 2, 4, 8, 15];

export const GOOD = 1, NOT_EVALUATED = 2, SUSPECT = 3, FAIL = 4, MISSING = 9;

/** Index of the colour step of a salinity in g/L: how many steps it has reached. */
export const step = (salinity) => STEPS.filter((level) => salinity >= level).length;

/** The station's newest value of a parameter, null when it has none. */
export function reading(station, parameter) {
  const found = station.latest.filter((entry) => entry.parameter === parameter);
  return found.sort((a, b) => b.time - a.time || a.sensor - b.sensor)[0] ?? null;
}

/** A value a person may act on: there, not failed, and from a station we are in contact with. */
export function isUsable(station, entry) {
  return station.online && entry != null && entry.value != null && entry.flag !== FAIL && entry.flag !== MISSING;
}

/** The salinity a station stands for on the river sketch in g/L, null when it has none to stand for. */
export function salinityNow(station) {
  const entry = reading(station, "salinity");
  return isUsable(station, entry) ? entry.value : null;
}

/** The station to open the chart with: nearest (in ratio) to one of its thresholds, where the next hours decide. */
export function nearestToThreshold(stations) {
  const distance = (station) => {
    const salinity = salinityNow(station);
    return salinity == null ? Infinity : Math.min(...station.thresholds.map(({ set }) => Math.abs(Math.log(salinity / set))));
  };
  return [...stations].sort((a, b) => (distance(a) < distance(b) ? -1 : distance(a) > distance(b) ? 1 : 0))[0];
}

const UNITS = { Cel: "°C", deg: "°", 1: "", "[pH]": "", "{FNU}": "FNU", KiBy: "KiB", Pa: "Pa" };

/** A UCUM unit as people write it. */
export const unitText = (unit) => (unit == null ? "" : (UNITS[unit] ?? unit));

/** Value and unit: "27,4 °C". */
export function quantity(value, decimals, unit) {
  return `${number(value, decimals)} ${unitText(unit)}`.trim();
}

export const salinityText = (value) => quantity(value, 2, "g/L");

export const flagText = (flag) => t(`flag_${flag}`);

/** The wind's origin in words, from degrees. */
export const windText = (degrees) => t(`wind_${Math.round(degrees / 45) % 8}`);
