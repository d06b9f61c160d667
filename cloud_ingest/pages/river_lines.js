// Which stations lie on one line of water, and what its colour is between them. Pure functions.

import { salinityNow, step, STEPS } from "./readings.js";

const EARTH_KM = 6371;
const ROUNDING_KM = 3; // river kilometres are quoted in whole numbers, from maps that disagree a little

/**
 * The stations as lines from the mouth inland: [{rivers, stations}]. Every river is a line; a river that begins where
 * another ends goes on that one's line (Cửa Tiểu, then Tiền) if the straight way between the two ends is no longer
 * than the river's own, which is false for two branches side by side.
 */
export function riverLines(stations) {
  const rivers = new Map();
  for (const station of [...stations].sort((a, b) => a.river_km - b.river_km)) {
    rivers.set(station.river, [...(rivers.get(station.river) ?? []), station]);
  }
  const lines = [];
  for (const [river, members] of rivers) {
    const line = lines.find(({ stations }) => goesOn(stations[stations.length - 1], members[0]));
    if (line) {
      line.rivers.push(river);
      line.stations.push(...members);
    } else lines.push({ rivers: [river], stations: members });
  }
  return lines;
}

function goesOn(lower, upper) {
  const way = upper.river_km - lower.river_km;
  return way > 0 && straightKm(lower, upper) <= way + ROUNDING_KM;
}

function straightKm(a, b) {
  const radians = Math.PI / 180;
  const north = (b.latitude - a.latitude) * radians;
  const east = (b.longitude - a.longitude) * radians * Math.cos(((a.latitude + b.latitude) / 2) * radians);
  return EARTH_KM * Math.hypot(north, east);
}

/**
 * Pieces of one colour step along a line: [{from, to, step}] in river km. Between two neighbours that both have a
 * salinity it is interpolated; elsewhere there is no piece, and the sketch stays hatched.
 */
export function colouredPieces(stations) {
  const known = stations.map((station) => ({ km: station.river_km, salinity: salinityNow(station) }));
  return known.slice(1).flatMap((upper, index) => {
    const lower = known[index];
    return lower.salinity == null || upper.salinity == null ? [] : pieces(lower, upper);
  });
}

function pieces(lower, upper) {
  const at = (level) => lower.km + ((level - lower.salinity) / (upper.salinity - lower.salinity)) * (upper.km - lower.km);
  const [least, most] = [lower.salinity, upper.salinity].sort((a, b) => a - b);
  const crossings = STEPS.filter((level) => level > least && level < most).map(at);
  const bounds = [lower.km, ...crossings.sort((a, b) => a - b), upper.km];
  return bounds.slice(1).map((to, index) => {
    const from = bounds[index];
    const share = ((from + to) / 2 - lower.km) / (upper.km - lower.km);
    return { from, to, step: step(lower.salinity + share * (upper.salinity - lower.salinity)) };
  });
}

/** Centres for labels of one `size` wanted at `wanted` (ascending), pushed apart and kept within 0..room. */
export function spread(wanted, size, room) {
  const centres = [];
  for (const at of wanted) {
    const before = centres.length ? centres[centres.length - 1] + size : size / 2;
    centres.push(Math.max(at, before));
  }
  let limit = room - size / 2;
  for (let index = centres.length - 1; index >= 0; index--, limit -= size) {
    centres[index] = Math.min(centres[index], limit);
  }
  return centres;
}
