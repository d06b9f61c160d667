"""Where everything is: read from the outbox's file, with what the running gateway knows fresher."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from edge_gateway.command_table import FINISHED, STARTED, WAITING
from edge_gateway.configuration import GatewayConfiguration
from edge_gateway.contacts import Contact
from edge_gateway.outbox_file import damaged_files
from edge_gateway.outbox_reader import OutboxReader, SeriesState
from edge_gateway.sizing import SECONDS_PER_DAY, bytes_for_all_days, days_left, expected_per_day
from edge_gateway.warning_status import warning_status
from edge_gateway.warning_store import WarningStore
from firmware.patience import Latencies

HOURS_PER_DAY = 24
LOSSES_SHOWN = 100


def read_status(
    configuration: GatewayConfiguration, reader: OutboxReader, now: float, fresh: Mapping[str, Contact]
) -> dict[str, Any]:
    """Return the gateway's status as JSON-ready data; `fresh` contacts go before those kept in the outbox."""
    with reader.one_moment():
        series = reader.series()
        kept = {station: Contact.from_json(text) for station, text in reader.contacts().items()}
        ahead = {one: sum(last - first + 1 for first, last in known.ahead) for one, known in reader.progress().items()}
        lost, losses, used = reader.lost_records(), reader.losses(LOSSES_SHOWN), reader.used_bytes()
        commands = reader.command_states()
    contacts = {
        station: fresh.get(station) or kept.get(station) or Contact(station) for station in configuration.station_ids
    }
    expected = expected_per_day(configuration)
    buffered = sum(state.buffered for state in series)
    per_day = sum(records_per_day(state, now) for state in series) or sum(expected.values())

    def days(oldest_days: float) -> float | None:
        return days_left(configuration, buffered, used, per_day, oldest_days)

    stations = {
        station: _station(
            contact,
            [state for state in series if state.series.station == station],
            lost.get(station, 0),
            now,
            expected[station],
            days,
        )
        | {"stored_ahead": sum(number for one, number in ahead.items() if one == (station, contact.journal))}
        for station, contact in contacts.items()
    }
    return {
        "gateway": configuration.id,
        "online": True,
        "time": int(now),
        "version": version("tram"),
        "lines": {
            line.name: _line([contacts[station] for station in configuration.stations_of(line.name)])
            for line in configuration.lines
        },
        "stations": stations,
        "outbox": _outbox(configuration, series, used, now, sum(expected.values())),
        "dropped": {
            "records": sum(lost.values()),
            "ranges": [[*loss.series, loss.first_seq, loss.last_seq, loss.reason] for loss in losses],
        },
        "commands": {state: commands.get(state, 0) for state in (WAITING, STARTED, FINISHED)},
        "warning": warning_status(configuration, WarningStore(reader.sql)),
    }


def records_per_day(state: SeriesState, now: float) -> float:
    """Return the present rate of a series: its last whole hour, or the present one where that is all there is."""
    hours_since = int(now) // 3600 - state.hour
    if hours_since == 0 and state.last_hour_records is not None:
        return max(state.last_hour_records, state.hour_records) * HOURS_PER_DAY
    if hours_since <= 1:
        return state.hour_records * HOURS_PER_DAY
    return 0.0


def _station(
    contact: Contact,
    series: list[SeriesState],
    lost: int,
    now: float,
    expected: float,
    days: Callable[[float], float | None],
) -> dict[str, Any]:
    current = next((state for state in series if state.series.journal == contact.journal), None)
    oldest = min((state.oldest_received_at for state in series if state.oldest_received_at is not None), default=None)
    return {
        "journal": contact.journal,
        "first_seq": contact.first_seq,
        "next_seq": contact.next_seq,
        "stored_through": current and current.stored_through,
        "acknowledged": contact.acknowledged,
        "buffered": sum(state.buffered for state in series),
        "committed_through": current and committed_through(current),
        "committed": sum(state.committed for state in series),
        "dropped": lost,
        "oldest": oldest,
        "records_per_day": sum(records_per_day(state, now) for state in series),
        "expected_per_day": expected,
        "days_left": days(0.0 if oldest is None else max(0.0, now - oldest) / SECONDS_PER_DAY),
        "last_contact": contact.last_contact,
        "reachable": contact.reachable,
        "reason": contact.reason,
        "timeouts": contact.timeouts,
        "crc_errors": contact.crc_errors,
        "late_answers": contact.late_answers,
        "wrong_answers": contact.wrong_answers,
        "older_journals": [state.series.journal for state in series if state.buffered and state is not current],
    }


def _line(contacts: list[Contact]) -> dict[str, Any]:
    """Return the health of a line: what its stations' questions came to since the gateway started."""
    latencies = Latencies()
    latencies.longest_ms = max((contact.latency_max_ms for contact in contacts), default=0)
    told = [contact.latency_counts for contact in contacts if len(contact.latency_counts) == len(latencies.counts)]
    latencies.counts = [sum(column) for column in zip(latencies.counts, *told, strict=True)]
    counters = ("questions", "timeouts", "crc_errors", "late_answers", "wrong_answers", "refusals")
    return {
        **{name: sum(getattr(contact, name) for contact in contacts) for name in counters},
        "latency_ms": {
            "median": latencies.percentile(50),
            "p99": latencies.percentile(99),
            "longest": latencies.longest_ms,
        },
    }


def committed_through(state: SeriesState) -> int:
    """Return the sequence number up to which nothing waits for a commit (committed, or declared lost)."""
    return state.stored_through if state.first_buffered is None else state.first_buffered - 1


def _outbox(
    configuration: GatewayConfiguration, series: list[SeriesState], used: int, now: float, expected: float
) -> dict[str, Any]:
    buffered = sum(state.buffered for state in series)
    per_day = sum(records_per_day(state, now) for state in series)
    folder = configuration.outbox_path.parent
    return {
        "buffered": buffered,
        "used_bytes": used,
        "max_bytes": configuration.outbox.max_bytes,
        "records_per_day": per_day,
        "expected_per_day": expected,
        "days_left": days_left(configuration, buffered, used, per_day or expected),
        "max_age_days": configuration.outbox.max_age_days,
        "bytes_for_max_age": bytes_for_all_days(configuration, max(per_day, expected)),
        "disk_free_bytes": shutil.disk_usage(folder).free if folder.exists() else None,
        "damaged_files": [path.name for path in damaged_files(configuration.outbox_path)],
    }
