"""The judge of a run: what the boards' own journals hold against what the database holds, and what the farmer was told.

The journals are read over the boards' consoles, a way the chain itself does not use, so nothing that the chain got
wrong can hide. Every record of every journal must be in the database once, with the same content.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware.record import SIZE, Record, decode, split_batch
from simulators.plan import Plan

Journal = dict[int, Record]
RECORD_FIELDS = ("seq", "time", "count", "sensor", "parameter", "flag")
Floats = NDArray[np.float64]
SECONDS_TO_CLEAR_ROW_EDGE = 60
# The files round conductivity to 0.005 mS/cm, temperature to 0.05 °C and salinity to 0.05: 0.06 together, to 2 places.
SALINITY_ROUNDING = 0.06


@dataclass(frozen=True)
class Counts:
    """Records along the chain. `lost` were made and are not stored; `different` are stored with another content."""

    made: int
    stored: int
    lost: int
    duplicated: int
    different: int
    lost_examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Alerting:
    """What happened to the planned alert, in bench seconds except where the name says real."""

    raised: bool
    cleared: bool
    decided: int
    messages: tuple[str, ...]
    crossing_to_sms_s: float | None
    dwell_s: float
    after_dwell_to_sms_real_s: float | None


@dataclass(frozen=True)
class Verdict:
    """The outcome of `tram-sim demo --check`. It passed when `faults` is empty."""

    counts: Counts
    alerting: Alerting
    plugs_pulled: Mapping[str, int]
    broker: str
    bench_hours: float
    salinity_error: float | None = None
    salinity_compared: int = 0
    faults: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as plain JSON values."""
        return {"passed": not self.faults, **asdict(self)}


def read_batches(folder: Path) -> dict[int, Journal]:
    """Return {journal: {seq: Record}} of the batch files in a folder. Raises RecordError for a damaged file."""
    journals: dict[int, Journal] = {}
    for file in sorted(folder.iterdir()):
        journal, raw = split_batch(file.read_bytes())
        records = (decode(raw, at) for at in range(0, len(raw), SIZE))
        journals.setdefault(journal, {}).update((record.seq, record) for record in records)
    return journals


def compare(made: Mapping[tuple[str, int], Journal], stored: Mapping[str, Iterable[Mapping[str, Any]]]) -> Counts:
    """Compare what the boards made, {(station, journal): records}, with the API's records per station."""
    times_stored: Counter[tuple[str, int, int]] = Counter()
    content: dict[tuple[str, int, int], Record] = {}
    for station, rows in stored.items():
        for row in rows:
            identity = (station, int(row["journal"]), int(row["seq"]))
            times_stored[identity] += 1
            content[identity] = Record(*(row[name] for name in RECORD_FIELDS))
    wanted = {(s, j, seq): record for (s, j), journal in made.items() for seq, record in journal.items()}
    lost = sorted(identity for identity in wanted if identity not in times_stored)
    return Counts(
        made=len(wanted),
        stored=len(wanted) - len(lost),
        lost=len(lost),
        duplicated=sum(number - 1 for number in times_stored.values()),
        different=sum(1 for identity, record in wanted.items() if identity in content and content[identity] != record),
        lost_examples=tuple(f"{s}/{j:08x}/{seq}" for s, j, seq in lost[:5]),
    )


def judge_alert(
    plan: Plan, alerts: Sequence[Mapping[str, Any]], inbox: Sequence[Mapping[str, Any]], speed: float
) -> Alerting:
    """Find the planned alert among the decisions and its texts on the phone."""
    ours = [a for a in alerts if a["station"] == plan.station]
    raised = [a for a in ours if a["kind"] == "raised"]
    cleared = [a for a in ours if a["kind"] == "cleared"]
    first = min(raised, key=lambda a: float(a["time"]), default=None)
    received = sorted(float(message["received_at"]) for message in inbox)
    crossing_to_sms = after_dwell = None
    if first and received:
        after_dwell = (received[0] - float(first["time"])) / speed
        crossing_to_sms = received[0] - (float(first["time"]) - plan.dwell_s)
    messages = tuple(str(message["text"]) for message in inbox)
    return Alerting(bool(raised), bool(cleared), len(ours), messages, crossing_to_sms, plan.dwell_s, after_dwell)


def salinity_errors(
    times: Sequence[int],
    values: Sequence[float | None],
    row_times: NDArray[np.float64],
    row_salinity: NDArray[np.float64],
) -> list[float]:
    """Return |stored - file's own salinity| for every stored minute that lies well inside one row of the file.

    A minute that straddles two rows averages both; it cannot agree with either and is left out.
    """
    errors = []
    for time, value in zip(times, values, strict=True):
        row = int(np.searchsorted(row_times, time - 60 - SECONDS_TO_CLEAR_ROW_EDGE, side="right")) - 1
        ends = row_times[row + 1] if 0 <= row < len(row_times) - 1 else 0
        if row < 0 or value is None or time + SECONDS_TO_CLEAR_ROW_EDGE >= ends:
            continue
        if not np.isnan(row_salinity[row]):  # the file's own value was good
            errors.append(abs(value - float(row_salinity[row])))
    return errors


def faults(counts: Counts, alerting: Alerting, plugs: Sequence[str], pulled: Mapping[str, int]) -> list[str]:
    """Return in words everything that speaks against passing the run."""
    told = len(alerting.messages)
    return [
        text
        for wrong, text in (
            (counts.made == 0, "the boards made no records"),
            (counts.lost > 0, f"{counts.lost} records lost, first {', '.join(counts.lost_examples)}"),
            (counts.duplicated > 0, f"{counts.duplicated} records stored twice"),
            (counts.different > 0, f"{counts.different} records stored with another content"),
            (not alerting.raised, "the alert was not raised"),
            (not alerting.cleared, "the alert was not cleared"),
            (told != alerting.decided, f"{alerting.decided} alerts decided, {told} messages on the phone"),
            (any(not pulled.get(plug) for plug in plugs), "not every plug was pulled"),
        )
        if wrong
    ]
