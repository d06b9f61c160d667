"""The stations: do they answer, are they who they should be, how are their clocks and their journals."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from edge_gateway.configuration import GatewayConfiguration, LineConfiguration, StationConfiguration
from edge_gateway.contacts import Contact
from edge_gateway.doctor.findings import Finding, found
from edge_gateway.errors import LineUnavailable, LinkError, NotOurStation, StationRefused, WrongAnswer
from edge_gateway.outbox_reader import OutboxReader
from edge_gateway.slices import Series
from edge_gateway.station_link import StationLink
from edge_gateway.station_policy import read_clock
from edge_gateway.station_protocol import StationStatus
from station_config.clock import Clock

ATTEMPTS = 3


def examine_stations(configuration: GatewayConfiguration, line: LineConfiguration, clock: Clock) -> Iterator[Finding]:
    """Ask each station of a line that nobody else is using."""
    link = StationLink(line)
    try:
        link.open()
        for station in line.stations:
            yield from _ask(configuration, link, station, clock)
    except LineUnavailable as error:
        yield found("station-not-asked", line.name, why=str(error))
    finally:
        link.close()


def told_by_status(
    configuration: GatewayConfiguration, line: LineConfiguration, status: dict[str, Any]
) -> Iterator[Finding]:
    """Yield what the running gateway last knew of a line's stations, those without a board too."""
    addresses = {station.id: station.address for station in line.stations}
    for name in configuration.stations_of(line.name):
        known = status["stations"][name]
        if known["last_contact"] is None and known["reason"] == Contact.reason:
            yield found("station-not-yet", name, line=line.name)
            continue
        if not known["reachable"]:
            address = addresses.get(name, "-")
            yield found("station-silent", name, line=line.name, address=address, why=known["reason"])
            continue
        backlog = (known["next_seq"] or 1) - 1 - (known["stored_through"] or 0)
        yield found("station-polled", name, line=line.name, backlog=max(0, backlog))


def _ask(
    configuration: GatewayConfiguration, link: StationLink, station: StationConfiguration, clock: Clock
) -> Iterator[Finding]:
    where = {"address": station.address}
    try:
        name = _patiently(link.read_station_id, station.address)
        if name != station.id:
            yield found("station-other", station.id, answers=name, **where)
            return
        asked_at = clock.now()
        status: StationStatus = _patiently(link.read_status, station.address)
        answered_at = clock.now()
    except LineUnavailable:
        raise
    except NotOurStation as error:
        yield found("station-no-station", station.id, why=str(error), **where)
        return
    except (StationRefused, WrongAnswer) as error:
        yield found("station-no-station", station.id, why=str(error), **where)
        return
    except LinkError as error:
        yield found("station-silent", station.id, line="", why=str(error), **where)
        return
    version = _version(link, station.address)
    backlog = status.next_seq - 1 - stored_through(configuration, Series(station.id, status.journal), status)
    yield found("station-answers", station.id, version=version, backlog=max(0, backlog), **where)
    if not status.clock_is_set:
        yield found("station-clock-not-set", station.id)
        return
    reading = read_clock(status.clock_s, asked_at, answered_at)
    if abs(reading.offset_s) > configuration.clock_tolerance_s + reading.uncertainty_s:
        yield found("station-clock-off", station.id, offset_s=round(reading.offset_s))


def _version(link: StationLink, address: int) -> str:
    try:
        return ".".join(map(str, _patiently(link.read_facts, address).version))
    except LinkError:  # it answers and is the right one: what it did not say is no reason to doubt it
        return "?"


def stored_through(configuration: GatewayConfiguration, series: Series, status: StationStatus) -> int:
    """Return up to where this gateway has a station's records: by its outbox, else by what the station says."""
    try:
        reader = OutboxReader(configuration.outbox_path)
    except sqlite3.Error:
        return status.stored_through
    try:
        known = {state.series: state.stored_through for state in reader.series()}
    except sqlite3.Error:
        return status.stored_through
    finally:
        reader.close()
    return known.get(series, status.stored_through)


def _patiently(question: Any, address: int) -> Any:
    """Ask up to three times: one lost answer is no silence. Raises LinkError."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return question(address)
        except (LineUnavailable, NotOurStation, StationRefused):
            raise
        except LinkError:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")
