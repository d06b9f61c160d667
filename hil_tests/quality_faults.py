"""Made-up probes in the model estuary with labelled faults of the usual kinds, and how quality control judges them.

    python -m hil_tests.quality_faults            recall by kind of fault, false alarms, over tides, intervals, seeds

The series are none that thresholds were chosen on. A fault is what a technician would reject; its size is a plain one
of its kind, not the smallest that might be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import typer

from cloud_ingest.quality_control import check
from firmware.record import FAIL, SUSPECT
from simulators import estuary
from station_config.quality import configured_tests
from station_config.salinity import practical_salinity

Values = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Columns = dict[str, Values]

BEGIN_S = 1771000020 + 7 * 86400  # late February 2026, the dry season
DAYS = 45
DAY_S = 86400
FAULTY_FROM = 0.5  # of the series: what comes before is its past
RIVER_KM = (5.0, 20.0, 42.0)
INTERVALS_S = (60, 300, 900, 3600)
VISIT_S = 2700
PROBE_M = 1.5  # below the lowest water
_NOISE = {"water_temperature": 0.01, "conductivity_25": 0.02, "water_depth": 0.004, "ph": 0.01,
          "dissolved_oxygen": 0.04, "turbidity": 0.03}  # fmt: skip
_DECIMALS = {
    "water_temperature": 2,
    "conductivity_25": 3,
    "water_depth": 3,
    "ph": 2,
    "dissolved_oxygen": 2,
    "turbidity": 1,
}
SPIKES = {"water_temperature": 8.0, "conductivity_25": 40.0, "water_depth": 2.5, "ph": 3.0, "dissolved_oxygen": 12.0,
          "turbidity": 600.0}  # fmt: skip


@dataclass(frozen=True)
class Sonde:
    """A multi-parameter probe at a place of the estuary."""

    river_km: float
    interval_s: int
    seed: int

    def good(self) -> tuple[npt.NDArray[np.int64], Columns]:
        """Return times and what a probe without faults shows."""
        times = np.arange(BEGIN_S, BEGIN_S + DAYS * DAY_S, self.interval_s)
        chance = np.random.default_rng([self.seed, int(self.river_km), self.interval_s])
        salt = estuary.salinity(times, self.river_km, self.seed)
        temperature = estuary.water_temperature_c(times, self.river_km, self.seed)
        level = estuary.level_m(times, self.river_km, self.seed)
        hour = (times + 7 * 3600) % DAY_S / 3600
        light = np.cos(2 * np.pi * (hour - 15.5) / 24)
        current = np.abs(np.gradient(level, times)) * 3600  # m/h
        clean = {
            "water_temperature": temperature,
            "conductivity_25": _conductivity_25(salt),
            "water_depth": level + estuary.tide_m(times, self.river_km).max() + PROBE_M,
            "ph": 7.4 + 0.02 * salt + 0.12 * light,
            "dissolved_oxygen": 5.8 + 1.3 * light + 0.03 * salt,
            "turbidity": 25.0 + 60.0 * current,
        }
        return times, {name: self._measured(name, one, chance) for name, one in clean.items()}

    def _measured(self, name: str, values: Values, chance: np.random.Generator) -> Values:
        noise = chance.normal(size=len(values)) * _NOISE[name]
        noisy = values * (1 + noise) if name == "turbidity" else values + noise
        rounded: Values = np.round(np.maximum(noisy, 0.0), _DECIMALS[name]).astype(np.float64)
        return rounded


@dataclass(frozen=True)
class Faulty:
    """A fault put into some columns: what they show then, and which rows a technician would reject."""

    columns: Columns
    bad: dict[str, Mask]


Fault = Callable[[npt.NDArray[np.int64], Columns, np.random.Generator], Faulty]


def spikes(times: npt.NDArray[np.int64], good: Columns, chance: np.random.Generator) -> Faulty:
    """Put 30 single wrong values into each column, up or down."""
    columns, bad = dict(good), {}
    for name, values in good.items():
        at = _later(times) + np.sort(chance.choice(len(times) - _later(times) - 2, size=30, replace=False))
        at = at[np.diff(at, prepend=-9) > 3]
        size = SPIKES[name] * chance.uniform(0.8, 1.5, len(at))
        spiked = values.copy()
        spiked[at] = np.where(values[at] > size, values[at] - size, values[at] + size)
        columns[name], bad[name] = spiked, _mask(values, at)
    return Faulty(columns, bad)


def stuck(times: npt.NDArray[np.int64], good: Columns, chance: np.random.Generator) -> Faulty:
    """Hold each column for four days."""
    columns, bad = dict(good), {}
    for name, values in good.items():
        rows = _span(times, chance, 4 * DAY_S)
        columns[name] = np.where(rows, values[np.argmax(rows)], values)
        bad[name] = rows
    return Faulty(columns, bad)


def noise(times: npt.NDArray[np.int64], good: Columns, chance: np.random.Generator) -> Faulty:
    """Let each column jump about for a day, as with water in a plug."""
    columns, bad = dict(good), {}
    for name, values in good.items():
        rows = _span(times, chance, DAY_S)
        jumps = chance.normal(size=len(values)) * SPIKES[name] / 2
        columns[name] = np.where(rows, np.maximum(values + jumps, 0.0), values)
        bad[name] = rows
    return Faulty(columns, bad)


def in_air(times: npt.NDArray[np.int64], good: Columns, chance: np.random.Generator) -> Faulty:
    """Take the probe out of the water for six hours, at a time when there is salt in it."""
    rows = _span(times, chance, 6 * 3600)
    air = {"water_temperature": 31.0, "conductivity_25": 0.02, "water_depth": 0.0}
    columns = dict(good)
    for name, value in air.items():
        shown = np.maximum(value + _NOISE[name] * chance.normal(size=len(times)), 0.0)
        columns[name] = np.where(rows, shown, good[name])
    return Faulty(columns, dict.fromkeys(good, rows))


def fouling(times: npt.NDArray[np.int64], good: Columns, chance: np.random.Generator) -> Faulty:
    """Let growth take up to half of conductivity and oxygen, and add turbidity, in ten days between two cleanings."""
    columns, bad = dict(good), {}
    rows = _span(times, chance, 10 * DAY_S)
    grown = np.where(rows, np.cumsum(rows) / rows.sum(), 0.0)
    for name in ("conductivity_25", "dissolved_oxygen"):
        columns[name] = good[name] * (1 - 0.5 * grown)
        bad[name] = grown > 0.2  # a tenth off
    columns["turbidity"] = good["turbidity"] + 60.0 * grown**3  # it begins late and grows faster
    bad["turbidity"] = 60.0 * grown**3 > 15.0
    return Faulty(_visited(times, columns, (int(np.argmax(rows)), int(len(rows) - np.argmax(rows[::-1])))), bad)


def moved(times: npt.NDArray[np.int64], good: Columns, chance: np.random.Generator) -> Faulty:
    """Hang the probe higher for eight days: it measures other water then, in every parameter."""
    rows = _span(times, chance, 8 * DAY_S)
    depth = np.where(rows, good["water_depth"] - 0.7, good["water_depth"])
    return Faulty(good | {"water_depth": depth}, dict.fromkeys(good, rows))


def gaps(times: npt.NDArray[np.int64], good: Columns, chance: np.random.Generator) -> Faulty:
    """Lose a tenth of the rows in pieces of some hours: nothing of what is left is wrong."""
    lost = np.zeros(len(times), np.bool_)
    while lost.mean() < 0.1:
        lost |= _span(times, chance, int(chance.integers(1, 8)) * 3600, 0.0)
    return Faulty({name: np.where(lost, np.nan, values) for name, values in good.items()}, {})


FAULTS: Mapping[str, Fault] = {one.__name__: one for one in (spikes, stuck, noise, in_air, fouling, moved, gaps)}


@dataclass(frozen=True)
class Score:
    """What became of the rows: wrong ones flagged (suspect or fail), right ones flagged."""

    bad: int = 0
    found: int = 0
    fine: int = 0
    false: int = 0

    def __add__(self, other: Score) -> Score:
        """Return the score of both together."""
        return Score(self.bad + other.bad, self.found + other.found, self.fine + other.fine, self.false + other.false)

    @property
    def recall(self) -> float:
        """Return the share of wrong rows that are flagged, suspect or fail."""
        return self.found / self.bad if self.bad else float("nan")

    @property
    def false_alarms(self) -> float:
        """Return the share of right rows that are flagged."""
        return self.false / self.fine if self.fine else float("nan")


def scores(sonde: Sonde, fault: str | None) -> dict[str, Score]:
    """Return the score of each column of a sonde with one kind of fault, or with none."""
    times, good = sonde.good()
    chance = np.random.default_rng([7, sonde.seed, sonde.interval_s])
    faulty = Faulty(good, {}) if fault is None else FAULTS[fault](times, good, chance)
    months = times.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64) % 12 + 1
    checked = check(times, faulty.columns, lambda name: configured_tests(name, {}), months)
    found = {}
    # A wrong temperature makes the whole probe doubtful on purpose: its rows are no false alarms of the others.
    somewhere = np.logical_or.reduce(list(faulty.bad.values()) or [np.zeros(len(times), np.bool_)])
    for name in good:
        flag, bad = checked[name].flag, faulty.bad.get(name, np.zeros(len(times), np.bool_))
        present = ~np.isnan(faulty.columns[name])
        flagged = (flag == FAIL) | (flag == SUSPECT)
        fine = present & ~somewhere
        found[name] = Score(
            int((bad & present).sum()),
            int((flagged & bad & present).sum()),
            int(fine.sum()),
            int((flagged & fine).sum()),
        )
    return found


def _conductivity_25(salt: Values) -> Values:
    grid = np.concatenate(([0.0], np.geomspace(0.02, 70.0, 2000)))
    return np.interp(salt, practical_salinity(grid, np.full(len(grid), 25.0)), grid)


def _visited(times: npt.NDArray[np.int64], columns: Columns, visits: Iterable[int]) -> Columns:
    """Take the probe out for three quarters of an hour, or for one record, before these rows."""
    away = np.zeros(len(times), np.bool_)
    for row in visits:
        away |= (times < times[row]) & (times >= times[row] - max(VISIT_S, int(times[1] - times[0])))
    return {name: np.where(away, np.nan, values) for name, values in columns.items()}


def _later(times: npt.NDArray[np.int64]) -> int:
    return int(FAULTY_FROM * len(times))


def _mask(values: Values, at: npt.NDArray[np.int64]) -> Mask:
    mask = np.zeros(len(values), np.bool_)
    mask[at] = True
    return mask


def _span(times: npt.NDArray[np.int64], chance: np.random.Generator, length_s: int, first: float = FAULTY_FROM) -> Mask:
    begin = int(times[0] + first * (times[-1] - times[0]))
    start = int(chance.integers(begin, max(begin + 1, int(times[-1]) - length_s)))
    mask: Mask = (times >= start) & (times < start + length_s)
    return mask


def sweep(
    faults: Iterable[str | None], intervals_s: Iterable[int], places_km: Sequence[float], seeds: Sequence[int]
) -> Iterator[tuple[str | None, int, str, Score]]:
    """Yield (fault, interval, column, score over places and seeds)."""
    for fault, interval_s in product(faults, intervals_s):
        total: dict[str, Score] = {}
        for river_km, seed in product(places_km, seeds):
            for name, one in scores(Sonde(river_km, interval_s, seed), fault).items():
                total[name] = total.get(name, Score()) + one
        for name, score in total.items():
            yield fault, interval_s, name, score


def main() -> None:
    """Print the table."""
    typer.echo(f"{'fault':10} {'interval':>8}  {'column':20} {'recall':>8} {'false alarms':>14}")
    for fault, interval_s, name, score in sweep((None, *FAULTS), INTERVALS_S, RIVER_KM, range(1, 3)):
        recall = f"{100 * score.recall:.1f} %" if score.bad else "-"
        typer.echo(f"{fault or 'none':10} {interval_s:6} s  {name:20} {recall:>8} {100 * score.false_alarms:12.2f} %")


if __name__ == "__main__":
    main()
