// Words, numbers and times as the reader expects them. Times are always those of the stations' zone, not of the phone.

import { TEXTS } from "./texts.js";

const STORAGE_KEY = "tram-language";
const LOCALES = { vi: "vi-VN", en: "en-GB" };

let current = "vi";
let zone = "Asia/Ho_Chi_Minh"; // until the service names the network's own
const formats = new Map();

export const language = () => current;
export const timezone = () => zone;

/** The language asked for by ?lang=, else the one chosen last time, else Vietnamese. */
export function initialLanguage() {
  const asked = new URLSearchParams(location.search).get("lang");
  if (asked in LOCALES) return asked;
  try {
    const kept = localStorage.getItem(STORAGE_KEY);
    if (kept in LOCALES) return kept;
  } catch {
    // A browser that forbids storage still gets the page, in Vietnamese.
  }
  return "vi";
}

/** Switch the page's language, remember it, and tell anything else on the page by a `tram-language` event. */
export function setLanguage(name) {
  current = name;
  document.documentElement.lang = name;
  document.title = t("page_title");
  try {
    localStorage.setItem(STORAGE_KEY, name);
  } catch {
    // Not remembered then; the choice holds until the page is closed.
  }
  document.dispatchEvent(new CustomEvent("tram-language", { detail: { language: name } }));
}

export function setTimezone(name) {
  zone = name;
}

/** The text for `key`, with {names} replaced from `values`. */
export function t(key, values = {}) {
  return TEXTS[current][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export const has = (key) => key in TEXTS[current];

/** One of {"vi": …, "en": …} as the API sends them; a plain text is passed through. */
export function pick(text) {
  return typeof text === "string" ? text : (text?.[current] ?? text?.vi ?? "");
}

function cached(key, make) {
  const name = `${current} ${zone} ${key}`;
  if (!formats.has(name)) formats.set(name, make(LOCALES[current]));
  return formats.get(name);
}

/** A number with `decimals` places: "4,51" in Vietnamese, "4.51" in English. */
export function number(value, decimals) {
  const options = { minimumFractionDigits: decimals, maximumFractionDigits: decimals, useGrouping: "min2" };
  return cached(`number ${decimals}`, (locale) => new Intl.NumberFormat(locale, options)).format(value);
}

const TIME_STYLES = {
  minute: { hour: "2-digit", minute: "2-digit" },
  weekday: { weekday: "short" },
  day: { day: "2-digit", month: "2-digit" },
  full: { weekday: "long", day: "numeric", month: "numeric", year: "numeric" },
};

/** Unix seconds as local text in one of the styles above. Days are written 28/02 in both languages. */
export function time(seconds, style) {
  const options = { ...TIME_STYLES[style], hourCycle: "h23", timeZone: zone };
  const text = cached(style, (locale) => new Intl.DateTimeFormat(locale, options)).format(seconds * 1000);
  return style === "day" ? text.replace("-", "/") : text;
}

/** The minute alone while it is the same local day as `now`, with the date otherwise: "21:51 27/02". */
export function moment(seconds, now) {
  const day = time(seconds, "day");
  return time(seconds, "minute") + (day === time(now, "day") ? "" : ` ${day}`);
}

/** Local [hour, minute] of unix seconds, for placing the ticks of an axis. */
export function hourAndMinute(seconds) {
  const options = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: zone };
  const format = cached("clock", () => new Intl.DateTimeFormat("en-GB", options));
  return format.format(seconds * 1000).split(":").map(Number);
}

const AGE_UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

/** A span in its largest whole unit: "4 phút", "4 minutes". */
export function age(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [unit, size] = AGE_UNITS.find(([, size]) => whole >= size) ?? AGE_UNITS[3];
  const options = { style: "unit", unit, unitDisplay: "long" };
  return cached(`age ${unit}`, (locale) => new Intl.NumberFormat(locale, options)).format(Math.floor(whole / size));
}
