"""What one transaction writes into scans: put together in memory, each scan written once.

add_first   rows of records: the first that has a series and time stays
put         layers over rows that are there (LAYER), or rows that replace what is there (OTHER, derived)
flush       writes
"""

from __future__ import annotations

import sqlite3
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_ingest.columns import Ints
from cloud_ingest.scans import (
    GROUPS,
    KEY_BITS,
    NOTHING,
    Rows,
    Scans,
    empty_rows,
    joined,
    keys_of,
    load_scans,
    order_of,
    pack_keys,
    put_scans,
    starts_of,
)

NO_KEYS: Ints = np.zeros(0, np.int64)
THERE, LAYER, OTHER = 0, 1, 2  # what a row is: in the log; new layers for a row that is there; a row, there or not


class NewestScans:
    """How new a group's newest scan is at most, as far as the one writer knows: what is newer cannot be there yet.

    After a transaction that failed it may say too much, which costs a look.
    """

    def __init__(self) -> None:
        self._of: dict[int, int] = {}
        self._others: int | None = None  # no group we know nothing of has a newer one

    def perhaps_there(self, connection: sqlite3.Connection, keys: Ints) -> Ints:
        """Return those of the keys that the file may have."""
        if self._others is None:
            newest = connection.execute("SELECT max(time) FROM scans").fetchone()[0]
            self._others = -(1 << 62) if newest is None else int(newest)
        groups, which = np.unique(keys & (GROUPS - 1), return_inverse=True)
        newest_of = np.array([self._of.get(group, self._others) for group in groups.tolist()], np.int64)
        return keys[keys >> KEY_BITS <= newest_of[which]]

    def wrote(self, keys: Ints) -> None:
        """Note what the file has now; keys ascending."""
        assert self._others is not None, "perhaps_there comes first"
        groups, which = np.unique(keys & (GROUPS - 1), return_inverse=True)
        newest: Ints = np.zeros(len(groups), np.int64)
        newest[which] = keys >> KEY_BITS  # of several times of a group the last is kept
        for group, time in zip(groups.tolist(), newest.tolist(), strict=True):
            self._of[group] = max(time, self._of.get(group, self._others))


class ScanWriter:
    """The scans that one transaction touches, whole."""

    def __init__(self, connection: sqlite3.Connection, newest: NewestScans | None) -> None:
        self._db = connection
        self._newest = newest
        self._scans = NOTHING  # every row of the scans in _keys
        self._keys = NO_KEYS  # ascending
        self._waiting: list[tuple[Scans, int]] = []
        self._changed = False

    def add_first(self, new: Scans) -> npt.NDArray[np.bool_]:
        """Add sorted rows; return which are in: not those whose series and time another record has."""
        self._merge()
        keys, _ = keys_of(new)
        self._load(keys)
        starts = starts_of(new.time, new.rows["series"])
        first = np.zeros(len(new.time), np.bool_)
        first[starts] = True
        if len(self._scans.time):
            first &= self._scans.find(new.time, new.rows["series"].astype(np.int64)) < 0
        fresh = new if first.all() else new.take(first)
        self._scans = _sorted(self._scans, fresh) if len(self._scans.time) else fresh
        self._changed = True
        return first if first.all() else self._is_in(new, first)

    def at(self, time: Ints, series: Ints) -> Scans:
        """Return those of the rows with this time (ascending) and series that are there."""
        self._merge()
        self._load(_distinct(time, series))
        found = self._scans.find(time, series)
        return self._scans.take(found[found >= 0])

    def at_each(self, time: Ints, series: Ints) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Return a row for each of these, and whether it is there; else it is empty."""
        self._merge()
        self._load(_distinct(time, series))
        found = self._scans.find(time, series)
        rows = empty_rows(len(time))
        rows[found >= 0] = self._scans.rows[found[found >= 0]]
        return rows, found >= 0

    def put(self, rows: Scans, kind: int) -> None:
        """Change layers, or put rows in."""
        if len(rows.time):
            self._waiting.append((rows, kind))

    def flush(self) -> None:
        """Write all that was touched."""
        self._merge()
        if self._changed:
            put_scans(self._db, self._scans)
            if self._newest is not None and len(self._keys):
                self._newest.wrote(self._keys)
        self._scans, self._keys, self._changed = NOTHING, NO_KEYS, False

    def _is_in(self, new: Scans, first: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return which rows the log has with their own identity."""
        there = self._scans.rows[self._scans.find(new.time, new.rows["series"].astype(np.int64))]
        same = (there["journal"] == new.rows["journal"]) & (there["seq"] == new.rows["seq"])
        inside: npt.NDArray[np.bool_] = first | same
        return inside

    def _load(self, keys: Ints) -> None:
        """Take in the scans with these keys (ascending, each once), as far as they are there."""
        unknown = keys[~_is_among(keys, self._keys)]
        if not len(unknown):
            return
        self._keys = np.sort(np.concatenate((self._keys, unknown)), kind="stable")
        perhaps = unknown if self._newest is None else self._newest.perhaps_there(self._db, unknown)
        if len(perhaps):
            found = load_scans(self._db, perhaps)
            if len(found.time):
                self._scans = _sorted(self._scans, found)

    def _merge(self) -> None:
        """Put what waits into the scans it belongs to."""
        if not self._waiting:
            return
        new = joined(*(rows for rows, _ in self._waiting))
        kinds = np.repeat([kind for _, kind in self._waiting], [len(rows.time) for rows, _ in self._waiting])
        self._waiting, self._changed = [], True
        self._load(_distinct(new.time, new.rows["series"]))
        there = np.full(len(self._scans.time), THERE, np.int64)
        self._scans = _with_layers(joined(self._scans, new), np.concatenate((there, kinds)))


def _distinct(time: Ints, series: npt.NDArray[Any]) -> Ints:
    """Return the keys of these rows, ascending, each once."""
    keys = np.sort(pack_keys(time, series), kind="stable")
    return keys[starts_of(keys)]


def _is_among(keys: Ints, known: Ints) -> npt.NDArray[np.bool_]:
    if not len(known):
        return np.zeros(len(keys), np.bool_)
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    found: npt.NDArray[np.bool_] = known[at] == keys
    return found


def _sorted(one: Scans, other: Scans) -> Scans:
    together = joined(one, other)
    return together.take(order_of(together.time, together.rows["series"].astype(np.int64)))


def _with_layers(rows: Scans, kinds: npt.NDArray[np.int64]) -> Scans:
    """Return one row for each time and series: who it is by the first, what is thought of it by the last."""
    order = order_of(rows.time, rows.rows["series"].astype(np.int64))
    rows, kinds = rows.take(order), kinds.take(order)
    starts = starts_of(rows.time, rows.rows["series"])
    lasts = np.append(starts[1:], len(rows.time)) - 1
    layers_only = kinds[starts] == LAYER
    if len(starts) == len(rows.time) and not layers_only.any():
        return rows
    result = rows.take(starts)
    more = np.flatnonzero(starts != lasts)
    newest = rows.rows[lasts[more]]
    for name in ("value", "flag", "failed"):
        result.rows[name][more] = newest[name]
    layered = more[kinds[lasts[more]] == LAYER]
    result.rows["calibration"][layered] = rows.rows["calibration"][lasts[layered]]
    return result.take(~layers_only)
