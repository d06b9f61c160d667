// The chart's arithmetic, without drawing: pieces of line, the range of the axis, where its ticks go. Pure functions.

import { hourAndMinute } from "./language.js";
import { FAIL, MISSING, SUSPECT } from "./readings.js";

const GAP_INTERVALS = 3;
const HALF_HOUR_S = 1800;

/** A series answer as points [{time, value, flag}], oldest first, without those that have no value. */
export function points(series) {
  return series.times
    .map((time, index) => ({ time, value: series.values[index], flag: series.flags[index] }))
    .filter((point) => point.value != null && point.flag !== MISSING);
}

/**
 * The usual spacing of the times in seconds: the upper quartile, since a thinned series (least and greatest of each
 * bucket) alternates between short and long steps and the long one is its spacing.
 */
export function spacing(times) {
  const steps = times.slice(1).map((time, index) => time - times[index]).sort((a, b) => a - b);
  return steps.length === 0 ? 0 : steps[Math.floor(0.75 * (steps.length - 1))];
}

/** Lines of points without failed ones, broken where more than three intervals are missing. */
export function lines(all) {
  const longest = GAP_INTERVALS * spacing(all.map((point) => point.time));
  const found = [];
  let previous = null;
  for (const point of all.filter((each) => each.flag !== FAIL)) {
    if (previous === null || point.time - previous.time > longest) found.push([]);
    found[found.length - 1].push(point);
    previous = point;
  }
  return found;
}

export const marked = (all) => all.filter((point) => point.flag === SUSPECT || point.flag === FAIL);

/** Top of the value axis in g/L: room for the data, the lowest threshold, and others not far above the data. */
export function topValue(all, thresholds) {
  const highest = Math.max(0, ...all.filter((point) => point.flag !== FAIL).map((point) => point.value));
  const levels = thresholds.map((threshold) => threshold.set);
  const near = levels.filter((level) => level <= 2 * highest || level === Math.min(...levels));
  const least = Math.max(highest, ...near, 0.4) * 1.12;
  const tick = tickStep(least);
  return Math.ceil(least / tick) * tick;
}

/** A round step (1, 2 or 5 times a power of ten) that gives four to eight ticks. */
export function tickStep(top) {
  const power = 10 ** Math.floor(Math.log10(top / 4));
  return [1, 2, 5, 10].map((factor) => factor * power).find((size) => top / size <= 6);
}

export function valueTicks(top) {
  const size = tickStep(top);
  return Array.from({ length: Math.round(top / size) + 1 }, (_, index) => index * size);
}

/** Local full hours divisible by `everyHours` within from..to: [{time, isMidnight}]. */
export function timeTicks(from, to, everyHours) {
  const ticks = [];
  for (let time = Math.ceil(from / HALF_HOUR_S) * HALF_HOUR_S; time <= to; time += HALF_HOUR_S) {
    const [hour, minute] = hourAndMinute(time);
    if (minute === 0 && hour % everyHours === 0) ticks.push({ time, isMidnight: hour === 0 });
  }
  return ticks;
}

/** Index of the point nearest to a time; -1 when there is none. */
export function nearest(all, time) {
  let best = -1;
  all.forEach((point, index) => {
    if (best < 0 || Math.abs(point.time - time) < Math.abs(all[best].time - time)) best = index;
  });
  return best;
}
