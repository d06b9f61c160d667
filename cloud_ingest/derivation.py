"""Which series of a station follow from which others, and their values for the times that have just arrived.

The formulas are station_config.derive's; here is only who feeds whom, and that parts of one moment may arrive in
different batches: whatever arrives later makes the moment be computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud_ingest.columns import DerivedValues, Ints, SeriesKey
from cloud_ingest.quality import Flags, Values, worst
from firmware.record import GOOD, NO_VALUE

Lookup = Callable[[SeriesKey, Ints], "Column"]


@dataclass(frozen=True)
class Recipe:
    """Derived series of one sensor: what they need (by the names `compute` wants) and which of it may be absent.

    compute(values by name, NaN where there is none) returns one array per output name it could compute.
    """

    outputs: Mapping[str, SeriesKey]
    inputs: Mapping[str, SeriesKey]
    optional: frozenset[str]
    compute: Callable[[Mapping[str, Values]], Mapping[str, Values]]


@dataclass(frozen=True)
class Column:
    """Values and flags of one series at sorted, distinct times; flag 0 where the series has no row."""

    time: Ints
    value: Values
    flag: Flags

    def at(self, times: Ints) -> Column:
        """Return the same series at other (sorted) times."""
        found = np.searchsorted(self.time, times)
        inside = found < len(self.time)
        inside[inside] = self.time[found[inside]] == times[inside]
        value, flag = np.full(len(times), np.nan), np.zeros(len(times), np.uint8)
        value[inside], flag[inside] = self.value[found[inside]], self.flag[found[inside]]
        return Column(times, value, flag)


def derive(
    recipes: Iterable[Recipe],
    fresh: Mapping[SeriesKey, Column],
    stored: Lookup,
    check: Callable[[SeriesKey, Values], Flags],
) -> dict[SeriesKey, Column]:
    """Return the derived columns that `fresh` makes new or different.

    stored(series, times) returns what the store has; check(series, values) is the quality control of an output.
    A recipe may use the outputs of an earlier one.
    """
    known = dict(fresh)
    derived: dict[SeriesKey, Column] = {}
    for recipe in recipes:
        arrived = [known[series].time for series in recipe.inputs.values() if series in known]
        if arrived:
            times = np.unique(np.concatenate(arrived))
            inputs = {name: _complete(series, times, known, stored) for name, series in recipe.inputs.items()}
            columns = _compute(recipe, times, inputs, check)
            known.update(columns)
            derived.update(columns)
    return derived


def _complete(series: SeriesKey, times: Ints, known: Mapping[SeriesKey, Column], stored: Lookup) -> Column:
    here = known[series].at(times) if series in known else Column(times, *_nothing(len(times)))
    absent = here.flag == 0
    if not absent.any():
        return here
    from_store = stored(series, times[absent])
    here.value[absent], here.flag[absent] = from_store.value, from_store.flag
    return here


def _compute(
    recipe: Recipe, times: Ints, inputs: Mapping[str, Column], check: Callable[[SeriesKey, Values], Flags]
) -> dict[SeriesKey, Column]:
    """Compute where every required input has a row; an input without a value makes a row without a value."""
    present: npt.NDArray[np.bool_] = np.ones(len(times), np.bool_)
    for name, column in inputs.items():
        present &= (column.flag != 0) | (name in recipe.optional)
    if not present.any():
        return {}
    times = times[present]
    values = recipe.compute({name: column.value[present] for name, column in inputs.items()})
    flags = worst(*(_flag_of_use(column.flag[present], name in recipe.optional) for name, column in inputs.items()))
    return {
        recipe.outputs[name]: Column(times, output, worst(check(recipe.outputs[name], output), flags))
        for name, output in values.items()
    }


def _flag_of_use(flag: Flags, optional: bool) -> Flags:
    """An optional input without a value was not used, so it says nothing about the result."""
    unused = (flag == 0) | (flag == NO_VALUE)
    return np.where(unused, GOOD, flag).astype(np.uint8) if optional else flag


def _nothing(size: int) -> tuple[Values, Flags]:
    return np.full(size, np.nan), np.zeros(size, np.uint8)


def as_rows(series: int, column: Column) -> DerivedValues:
    """Return a column as the store takes it."""
    return DerivedValues(series, column.time, column.value, column.flag)
