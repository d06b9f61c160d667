// The page of Trạm, for the farmer who asks "may I open the sluice?" and the department that asks "how far is the salt?".
//
// It keeps one `state`: what the service said last (overview every 3 s, the salinity series of the station looked at every
// 15 s, alerts every 5 s), which station and span the reader chose, and whether the service answers. Every answer and
// every choice ends in render(): the modules river, cards, chart and alerts make nodes from the state, and patch() puts
// onto the page what has changed. Nothing is computed that was not measured, but for the colour between two stations,
// which says so. When the service is silent the last figures stay, grey, with their age. Words come from texts.js in the
// reader's language; numbers and times through language.js, in the stations' time zone.
//
// No framework, no build, nothing loaded from elsewhere: it must open on a cheap phone over a weak line.

import { alertList, presentAlerts } from "./alerts.js";
import { stationCards } from "./cards.js";
import { chartFrame, chartLegend, chartPicture, readout, thresholdTable } from "./chart.js";
import { nearest } from "./chart_data.js";
import { html, patch } from "./elements.js";
import { age, initialLanguage, language, moment, pick, setLanguage, setTimezone, t, time, timezone } from "./language.js";
import { nearestToThreshold, salinityNow } from "./readings.js";
import { riverSketch } from "./river.js";
import { poll, ServiceClock } from "./service.js";

const OVERVIEW_MS = 3_000, SERIES_MS = 15_000, ALERTS_MS = 5_000, TICK_MS = 1_000;
const SERIES_POINTS = 960; // about two per pixel of the widest chart, a tenth of the bytes of two days of minutes
const ALERTS_SHOWN = 20;

const state = {
  overview: null, away: false, clock: new ServiceClock(),
  series: null, seriesAway: false, seriesNow: 0,
  alerts: null, alertsAway: false,
  chosen: null, hours: 48, cursor: -1,
};

const at = (id) => document.getElementById(id);
const chosenStation = () => state.overview?.stations.find((station) => station.id === state.chosen);

// --- what the service says -------------------------------------------------------------------------------------------

function onOverview(overview) {
  state.clock.observe(overview.now);
  setTimezone(overview.timezone);
  const first = state.overview === null;
  Object.assign(state, { overview, away: false });
  if (!chosenStation()) state.chosen = nearestToThreshold(overview.stations)?.id ?? null;
  render();
  if (first) seriesPoll.now();
}

function seriesPath() {
  if (!state.chosen) return null;
  const now = Math.floor(state.clock.now());
  state.seriesNow = now;
  const span = `from=${now - state.hours * 3600}&to=${now}&limit=${SERIES_POINTS}`;
  return `api/v1/stations/${encodeURIComponent(state.chosen)}/series/salinity?${span}`;
}

function onSeries(series) {
  if (series.station !== state.chosen) return;
  const cursorTime = shownFrame?.all[state.cursor]?.time;
  Object.assign(state, { series: { ...series, to: state.seriesNow, hours: state.hours }, seriesAway: false, cursor: -1 });
  renderChart();
  if (cursorTime !== undefined) moveCursor(nearest(shownFrame.all, cursorTime));
}

function onSeriesFailure(error) {
  // A station that has never measured salinity has no such series; that is an answer.
  if (error.status === 404) return onSeries({ station: state.chosen, times: [], values: [], flags: [] });
  state.seriesAway = true;
  renderChart();
}

poll(() => "api/v1/overview", OVERVIEW_MS, onOverview, () => {
  state.away = true;
  render();
});
const seriesPoll = poll(seriesPath, SERIES_MS, onSeries, onSeriesFailure);
poll(() => `api/v1/alerts?limit=${ALERTS_SHOWN}`, ALERTS_MS,
  (answer) => {
    Object.assign(state, { alerts: answer.alerts, alertsAway: false });
    renderAlerts();
    if (state.overview) renderStations(); // the strips at the top carry an alert's text
  },
  () => {
    state.alertsAway = true;
    renderAlerts();
  });

// --- drawing -----------------------------------------------------------------------------------------------------------

function render() {
  for (const node of document.querySelectorAll("[data-text]")) patch(node, [t(node.dataset.text)]);
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", t(node.dataset.label));
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === language()));
  }
  renderStatus();
  if (state.overview) {
    patch(at("network-name"), [pick(state.overview.name)]);
    patch(at("river"), riverSketch(state.overview, at("river").clientWidth, state.chosen));
    patch(at("chart-title"), [t("chart_title", { hours: state.hours })]);
    renderStations();
    renderPickers();
    renderChart();
  }
  renderAlerts();
  patch(at("footer-text"), [t("footer", { zone: timezone() })]);
}

function renderStatus() {
  document.body.classList.toggle("away", state.away);
  const key = state.away ? "away_short" : state.overview ? "connected" : "connecting";
  at("status").className = `status ${key}`;
  patch(at("status"), [t(key)]);
  const banner = at("away");
  banner.hidden = !state.away;
  if (state.away) patch(banner, [state.overview ? t("away", { age: age(state.clock.silence()) }) : t("away_empty")]);
  if (!state.clock.isSet) return;
  const now = state.clock.now();
  patch(at("clock-time"), [time(now, "minute")]);
  patch(at("clock-day"), [time(now, "full")]);
}

function renderStations() {
  const now = state.clock.now();
  patch(at("present-alerts"), presentAlerts(state.overview.stations, state.alerts ?? [], now));
  patch(at("cards"), stationCards(state.overview, now, state.chosen));
}

function renderPickers() {
  patch(at("chart-station"), state.overview.stations.map((station) => html("option", { value: station.id }, pick(station.name))));
  at("chart-station").value = state.chosen ?? "";
  for (const button of document.querySelectorAll("[data-hours]")) {
    const hours = Number(button.dataset.hours);
    patch(button, [t("hours", { hours })]);
    button.setAttribute("aria-pressed", String(hours === state.hours));
  }
}

let shownFrame = null;

function renderChart() {
  const station = chosenStation();
  if (!station) return;
  const { thresholds } = station;
  const series = state.series?.station === station.id && state.series.hours === state.hours ? state.series : null;
  at("chart").classList.toggle("stale", state.seriesAway);
  patch(at("chart-away"), series && state.seriesAway ? [t("chart_away", { time: moment(series.to, state.clock.now()) })] : []);
  patch(at("thresholds"), [thresholdTable(thresholds, state.away ? null : salinityNow(station))]);
  at("thresholds-part").hidden = thresholds.length === 0;
  if (!series) {
    shownFrame = null;
    patch(at("chart"), [html("p", { class: "empty" }, t(state.seriesAway ? "away_short" : "chart_waiting"))]);
    patch(at("readout"), []);
    return;
  }
  shownFrame = chartFrame(series, thresholds, series.to - state.hours * 3600, series.to, at("chart").clientWidth);
  renderCursor(pick(station.name));
}

function renderCursor(name) {
  const { all } = shownFrame;
  const shown = state.cursor < 0 ? all.length - 1 : Math.min(state.cursor, all.length - 1);
  const text = all.length === 0 ? t("chart_empty", { hours: state.hours }) : readout(all[shown]);
  patch(at("readout"), [text]);
  patch(at("chart"), [chartPicture(shownFrame, name, state.cursor), all.length > 0 && html("div", {
    class: "chart-cursor", tabindex: "0", role: "slider", "aria-label": t("chart_cursor"),
    "aria-valuemin": "0", "aria-valuemax": String(all.length - 1), "aria-valuenow": String(shown), "aria-valuetext": text,
  })]);
  patch(at("chart-legend"), [chartLegend()]);
}

function renderAlerts() {
  patch(at("alerts-away"), state.alertsAway && state.alerts ? [t("alerts_away")] : []);
  if (!state.alerts) return;
  const now = state.clock.isSet ? state.clock.now() : Date.now() / 1000;
  patch(at("alerts"), [alertList(state.alerts, state.overview?.stations ?? [], now)]);
}

// --- what the reader does ------------------------------------------------------------------------------------------------

function choose(changes) {
  Object.assign(state, changes, { cursor: -1 });
  render();
  seriesPoll.now();
}

function moveCursor(index) {
  if (!shownFrame || shownFrame.all.length === 0) return;
  state.cursor = Math.min(Math.max(index, 0), shownFrame.all.length - 1);
  renderCursor(pick(chosenStation().name));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.language) {
    setLanguage(button.dataset.language);
    render();
  } else if (button.dataset.hours) choose({ hours: Number(button.dataset.hours) });
  else if (button.dataset.select) {
    choose({ chosen: button.dataset.select });
    if ("showChart" in button.dataset) at("chart-part").scrollIntoView({ block: "start" });
  }
});
at("chart-station").addEventListener("change", (event) => choose({ chosen: event.target.value }));

for (const kind of ["pointermove", "pointerdown"]) {
  at("chart").addEventListener(kind, (event) => {
    if (!shownFrame) return;
    const px = event.clientX - at("chart").getBoundingClientRect().left;
    moveCursor(nearest(shownFrame.all, shownFrame.timeAt(px)));
  });
}
at("chart").addEventListener("pointerleave", (event) => {
  if (event.pointerType !== "mouse" || !shownFrame) return;
  state.cursor = -1;
  renderCursor(pick(chosenStation().name));
});
at("chart").addEventListener("keydown", (event) => {
  if (!shownFrame) return;
  const last = shownFrame.all.length - 1;
  const from = state.cursor < 0 ? last : state.cursor;
  const page = Math.ceil(shownFrame.all.length / 24);
  const target = { ArrowLeft: from - 1, ArrowRight: from + 1, PageDown: from - page, PageUp: from + page, Home: 0, End: last }[event.key];
  if (target === undefined) return;
  event.preventDefault();
  moveCursor(target);
});

setLanguage(initialLanguage());
render();
new ResizeObserver(() => state.overview && render()).observe(at("river"));
setInterval(() => {
  if (document.hidden || !state.overview) return;
  renderStatus();
  renderStations();
}, TICK_MS);
