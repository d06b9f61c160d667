"""Which series of a station follow from which others, and their values for the times that have just arrived.

The formulas are station_config.derive's; here is only who feeds whom, and that parts of one moment may arrive in
different batches: whatever arrives later makes the moment be computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cloud_ingest.columns import Ints, SeriesKey
from cloud_ingest.quality import Flags, Test, Values, worst
from firmware.record import FAIL, GOOD, NO_VALUE, SUSPECT

Lookup = Callable[[SeriesKey, Ints], "Column"]
Check = Callable[[SeriesKey, Values, Ints], tuple[Flags, Ints]]
Compute = Callable[[Mapping[str, Values], Ints], Mapping[str, Values]]


@dataclass(frozen=True)
class Recipe:
    """Derived series of one sensor: what they need (by the names `compute` wants) and which of it may be absent.

    compute(values by name, NaN where there is none; their times) returns one array per output name it could compute.
    """

    outputs: Mapping[str, SeriesKey]
    inputs: Mapping[str, SeriesKey]
    optional: frozenset[str]
    compute: Compute


@dataclass(frozen=True)
class Column:
    """Values, flags and failed tests of one series at sorted, distinct times; flag 0 where the series has no row."""

    time: Ints
    value: Values
    flag: Flags
    failed: Ints

    def at(self, times: Ints) -> Column:
        """Return the same series at other (sorted) times."""
        if times is self.time or np.array_equal(times, self.time):
            return replace(self, value=self.value.copy(), flag=self.flag.copy(), failed=self.failed.copy())
        found = np.searchsorted(self.time, times)
        inside = found < len(self.time)
        inside[inside] = self.time[found[inside]] == times[inside]
        column = nothing(times)
        column.value[inside], column.flag[inside] = self.value[found[inside]], self.flag[found[inside]]
        column.failed[inside] = self.failed[found[inside]]
        return column


def nothing(times: Ints) -> Column:
    """Return a column that has no row at any of these times, to be filled."""
    number = len(times)
    return Column(times, np.full(number, np.nan), np.zeros(number, np.uint8), np.zeros(number, np.int64))


def derive(
    recipes: Iterable[Recipe],
    fresh: Mapping[SeriesKey, Column],
    stored: Lookup,
    check: Check,
) -> dict[SeriesKey, Column]:
    """Return the derived columns that `fresh` makes new or different.

    stored(series, times) returns what the store has; check(series, values, times) is an output's flags and failed
    tests. A recipe may use the outputs of an earlier one. Whatever is sorted and tells moments apart serves as times.
    """
    known = dict(fresh)
    derived: dict[SeriesKey, Column] = {}
    for recipe in recipes:
        arrived = [known[series].time for series in recipe.inputs.values() if series in known]
        if arrived:
            times = _union(arrived)
            inputs = {name: _complete(series, times, known, stored) for name, series in recipe.inputs.items()}
            columns = _compute(recipe, times, inputs, check)
            known.update(columns)
            derived.update(columns)
    return derived


def _union(times: list[Ints]) -> Ints:
    if all(one is times[0] or np.array_equal(one, times[0]) for one in times[1:]):
        return times[0]
    return np.unique(np.concatenate(times))


def _complete(series: SeriesKey, times: Ints, known: Mapping[SeriesKey, Column], stored: Lookup) -> Column:
    here = known[series].at(times) if series in known else nothing(times)
    absent = here.flag == 0
    if not absent.any():
        return here
    from_store = stored(series, times[absent])
    here.value[absent], here.flag[absent] = from_store.value, from_store.flag
    here.failed[absent] = from_store.failed
    return here


def _compute(recipe: Recipe, times: Ints, inputs: Mapping[str, Column], check: Check) -> dict[SeriesKey, Column]:
    """Compute where every required input has a row; an input without a value makes a row without a value."""
    present: npt.NDArray[np.bool_] = np.ones(len(times), np.bool_)
    for name, column in inputs.items():
        present &= (column.flag != 0) | (name in recipe.optional)
    if not present.any():
        return {}
    times = times[present]
    values = recipe.compute({name: column.value[present] for name, column in inputs.items()}, times)
    flags = worst(*(_flag_of_use(column.flag[present], name in recipe.optional) for name, column in inputs.items()))
    return {
        recipe.outputs[name]: _judged(recipe.outputs[name], times, output, flags, check)
        for name, output in values.items()
    }


def _judged(key: SeriesKey, times: Ints, output: Values, of_inputs: Flags, check: Check) -> Column:
    flags, failed = check(key, output, times)
    failed[(of_inputs == SUSPECT) | (of_inputs == FAIL)] |= Test.NEEDED_INPUT
    return Column(times, output, worst(flags, of_inputs), failed)


def _flag_of_use(flag: Flags, optional: bool) -> Flags:
    """An optional input without a value was not used, so it says nothing about the result."""
    unused = (flag == 0) | (flag == NO_VALUE)
    return np.where(unused, GOOD, flag).astype(np.uint8) if optional else flag
