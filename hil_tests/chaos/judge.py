"""The verdict on a run: numbers held against the journals, values against the instruments, alerts against the river."""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any

from firmware.record import (
    CLOCK_UNSET_BELOW,
    EVENT_BOOT,
    EVENT_CLOCK_SET,
    MISSING,
    NOT_EVALUATED,
    Record,
)
from hil_tests.chaos import truth
from hil_tests.chaos.alert_truth import AlertAccount, Levels, Seen, judge_events, judge_messages
from hil_tests.chaos.evidence import Evidence, Injected, records
from hil_tests.chaos.layout import DWELL_S, RECORD_S, STALE_AFTER_S, Layout
from hil_tests.chaos.truth import Account, Clocks, Key, Series, Shown, Window
from simulators.answer_log import Answer
from simulators.in_flight import in_flight, made_at
from station_config.salinity import conductivity_from_25, practical_salinity

TEMPERATURE, CONDUCTIVITY_25, PRESSURE = 32, 34, 35
ALPHA_PER_K = 0.0191  # of the Y520, see its file
#: As the instruments' makers document them: (sensor, first register): form, (parameter, place, scale) of what it holds.
ANSWERS = {
    (1, 0x2600): ("<ff", ((TEMPERATURE, 0, 100), (CONDUCTIVITY_25, 1, 1000))),
    (2, 0x0100): (">ff", ((PRESSURE, 0, 100_000), (TEMPERATURE, 1, 100))),
}
SCALES = {TEMPERATURE: 100.0, CONDUCTIVITY_25: 1000.0}
LATE_REAL_S, EARLY_REAL_S = 5.0, 3.0  # how long an answer is on its way at most; how far clocks are apart
LOOK_MARGIN_REAL_S = 4.0
EXAMPLES = 5
STOOD_STILL_S = 5.0  # more, and the machine was too slow for this speed
BUSY_LOAD = 4.0  # for each core; with nothing else to do a machine of two cores has one to two


@dataclass
class Row:
    """One line of the table: a kind of fault."""

    kind: str
    injected: int = 0
    in_flight: int = 0
    lost: int = 0
    duplicated: int = 0


@dataclass
class Verdict:
    """The outcome. The run passed when `faults` is empty."""

    about: dict[str, Any]
    rows: list[Row]
    made: int
    stored: int
    declared: int
    lost: int
    duplicated: int
    different: int
    vanished: int
    values: dict[str, int]
    alerts: AlertAccount
    restarts: dict[str, int]
    refused: list[str]
    stood_still_s: float = 0.0
    slowest_sync_s: float = 0.0
    highest_load: float = 0.0
    faults: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as plain JSON values."""
        return {"passed": not self.faults, **asdict(self)}


def judge(layout: Layout, evidence: Evidence, answers: Iterable[Answer]) -> Verdict:
    """Judge a run by what it left behind."""
    series = {key: _series(evidence, key) for key in sorted({*evidence.journals, *evidence.stored})}
    accounts = {key: truth.account_for(one) for key, one in series.items()}
    stored_at = truth.stored_at(evidence.snapshots)
    values, wrong = _values(layout, evidence, series, _shown(answers))
    alerts = _alerts(layout, evidence, series, stored_at)

    def number(name: str) -> int:
        return sum(len(getattr(account, name)) for account in accounts.values())

    verdict = Verdict(
        about=evidence.about,
        rows=_rows(evidence.injected, series, accounts, stored_at, layout),
        made=sum(account.made for account in accounts.values()),
        stored=sum(account.stored for account in accounts.values()),
        declared=number("declared"),
        lost=number("lost"),
        duplicated=number("duplicated"),
        different=number("different"),
        vanished=number("vanished"),
        values=dict(values),
        alerts=alerts,
        restarts=evidence.restarts,
        refused=evidence.refused,
        stood_still_s=round(evidence.stood_still_s, 1),
        highest_load=round(evidence.highest_load, 1),
        slowest_sync_s=round(evidence.slowest_sync_s, 2),
    )
    verdict.faults = [*evidence.trouble, *_numbers_in_words(accounts), *wrong, *alerts.faults, *_odd(layout, evidence)]
    early = values[truth.DATED_EARLY]
    if early and not too_slow(verdict):
        verdict.faults.append(f"{early} values dated early, though the machine had time")
    return verdict


def too_slow(verdict: Verdict) -> bool:
    """Whether the machine had no time for this speed, or its disk kept a record no faster than stations make them."""
    interval_s = RECORD_S / float(verdict.about["speed"])
    stood_still = verdict.stood_still_s > STOOD_STILL_S
    return stood_still or verdict.slowest_sync_s > interval_s / 2 or verdict.highest_load > BUSY_LOAD


def _series(evidence: Evidence, key: Key) -> Series:
    stored: dict[int, list[Record]] = defaultdict(list)
    for record in records(evidence.stored.get(key, [])):
        stored[record.seq].append(record)
    journal = {record.seq: record for record in records(evidence.journals.get(key, []))}
    return Series(journal, stored, [(first, last) for first, last in evidence.declared.get(key, [])])


def _numbers_in_words(accounts: Mapping[Key, Account]) -> list[str]:
    found = []
    for (station, journal), account in accounts.items():
        for name in ("lost", "duplicated", "different", "vanished"):
            if seqs := getattr(account, name):
                shown = ", ".join(map(str, seqs[:EXAMPLES]))
                found.append(f"{station}/{journal:08x}: {len(seqs)} of {account.made} records {name}: {shown}")
    return found


def _odd(layout: Layout, evidence: Evidence) -> list[str]:
    """What else must be so: a journal for each station and no more, the product's own audit of the same opinion."""
    found = []
    journals = Counter(station for station, _ in {*evidence.journals, *evidence.stored})
    for station in layout.stations:
        if journals[station.id] != 1:
            found.append(f"{station.id} has {journals[station.id]} journals; its flash or file was begun anew")
    if evidence.audit.get("code") != 0:
        found.append(f"tram-cloud audit ended with {evidence.audit.get('code')}")
    return found


# -- values -----------------------------------------------------------------------------------------------------------


def _shown(answers: Iterable[Answer]) -> dict[tuple[str, int, int], list[Shown]]:
    """Return what instruments gave by (station, sensor, parameter), in order of time."""
    found: dict[tuple[str, int, int], list[Shown]] = defaultdict(list)
    for answer in answers:
        form, fields = ANSWERS.get((answer.sensor, answer.address), ("", ()))
        if not form or len(answer.data) < struct.calcsize(form):
            continue
        values = struct.unpack_from(form, answer.data)
        for parameter, place, scale in fields:
            found[answer.station, answer.sensor, parameter].append(Shown(answer.time, values[place] * scale))
    return found


def _values(
    layout: Layout,
    evidence: Evidence,
    series: Mapping[Key, Series],
    shown: Mapping[tuple[str, int, int], Sequence[Shown]],
) -> tuple[Counter[str], list[str]]:
    """Hold every stored measured value against the instrument's own log."""
    window = Window(RECORD_S + LATE_REAL_S * layout.speed, EARLY_REAL_S * layout.speed)
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for (station, journal), one in series.items():
        stored = {seq: copies[0] for seq, copies in one.stored.items()}
        clocks = Clocks(stored, _steps(layout, evidence.injected, station))
        for record in stored.values():
            given = shown.get((station, record.sensor, record.parameter))
            if record.flag != NOT_EVALUATED or record.count == MISSING or record.sensor == 0:
                counts["no value" if record.sensor else "of the board"] += 1
                continue
            found = truth.judge_value(record.count, clocks.moments_of(record), given or (), window)
            counts[found] += 1
            if found in (truth.OUTSIDE, truth.NOTHING_GIVEN):
                wrong.append(f"{station}/{journal:08x}: {record} is not what the instrument gave: {found}")
    shown_wrong = wrong[:EXAMPLES] + (
        [f"and {len(wrong) - EXAMPLES} more wrong values"] if len(wrong) > EXAMPLES else []
    )
    return counts, shown_wrong


def _steps(layout: Layout, injected: Sequence[Injected], station: str) -> list[float]:
    """Return by how much this station's clock was moved on purpose: its own, or its gateway's."""
    gateway = next(one.gateway for one in layout.stations if one.id == station)
    clocks = {("board.clock-jump", station), ("gateway.clock-wrong", gateway)}
    return [one.parameters["step"] for one in injected if (one.kind, one.target) in clocks]


# -- alerts -----------------------------------------------------------------------------------------------------------


def _alerts(
    layout: Layout, evidence: Evidence, series: Mapping[Key, Series], stored_at: Mapping[Key, Mapping[int, float]]
) -> AlertAccount:
    account = AlertAccount()
    margin_s = 3 * RECORD_S + LOOK_MARGIN_REAL_S * layout.speed
    looked_until = evidence.snapshots[-1].at if evidence.snapshots else inf
    for rule in layout.rules:
        levels = Levels(rule.id, rule.set_level, rule.clear_level, DWELL_S, STALE_AFTER_S, margin_s)
        seen = [
            one
            for key, found in series.items()
            if key[0] == rule.station
            for one in salinity_seen(found, stored_at.get(key, {}), evidence.failed.get(rule.station, ()))
        ]
        events = [alert for alert in evidence.alerts if alert["rule"] == rule.id]
        judge_events(account, levels, seen, events, looked_until)
    followers = Counter(rule for person in layout.persons for rule in person.rules)
    judge_messages(account, evidence.alerts, followers, STALE_AFTER_S, evidence.inbox, evidence.refused_messages)
    return account


def salinity_seen(series: Series, stored_at: Mapping[int, float], failed: Iterable[int]) -> list[Seen]:
    """Return the salinity of a journal's moments, dated as the station's clock-set events have it.

    `failed`: the times whose salinity quality control has failed in the end.
    """
    bad = set(failed)
    values: dict[int, dict[int, tuple[float, float]]] = defaultdict(dict)
    offset: int | None = None
    for seq in sorted(series.stored, reverse=True):
        record = series.stored[seq][0]
        if record.parameter == EVENT_CLOCK_SET:
            offset = record.count
        if record.parameter == EVENT_BOOT:
            offset = None
        time = record.time if record.time >= CLOCK_UNSET_BELOW else record.time + offset if offset else None
        measured = record.sensor == 1 and record.flag == NOT_EVALUATED and record.count != MISSING
        if time is not None and measured and seq in stored_at:
            values[time][record.parameter] = (record.count / SCALES.get(record.parameter, 1), stored_at[seq])
    found = []
    for time, both in sorted(values.items()):
        if TEMPERATURE in both and CONDUCTIVITY_25 in both:
            (temperature, one), (conductivity, other) = both[TEMPERATURE], both[CONDUCTIVITY_25]
            salinity = practical_salinity(conductivity_from_25(conductivity, temperature, ALPHA_PER_K), temperature)
            found.append(Seen(time, salinity, max(one, other), time in bad))
    return found


# -- the table --------------------------------------------------------------------------------------------------------


def _rows(
    injected: Sequence[Injected],
    series: Mapping[Key, Series],
    accounts: Mapping[Key, Account],
    stored_at: Mapping[Key, Mapping[int, float]],
    layout: Layout,
) -> list[Row]:
    """Count for each kind: records made and not yet stored when it began, and those that went wrong in its time."""
    rows: dict[str, Row] = {}
    ordered = {
        key: made_at(one.journal, stored_at.get(key, {}), layout.begin_s, layout.begin_s + 10 * layout.span_s)
        for key, one in series.items()
    }
    for one in injected:
        row = rows.setdefault(one.kind, Row(one.kind))
        row.injected += 1
        for key, (seqs, times) in ordered.items():
            stored = stored_at.get(key, {})
            account = accounts[key]
            touched = set(in_flight(seqs, times, stored, one.began))
            row.in_flight += len(touched)
            if account.faults:
                touched |= {seq for seq, at in zip(seqs, times, strict=True) if one.began <= at <= one.ended}
                row.lost += len(touched & {*account.lost, *account.vanished})
                row.duplicated += len(touched & set(account.duplicated))
    return [rows[kind] for kind in sorted(rows)]
