"""What a command has done at a station, each kind as a job for the station's line. Updates are in update_jobs."""

from __future__ import annotations

from collections.abc import Callable

from edge_gateway.errands import Details, Errand, give, identify, patiently, restart, version_text
from edge_gateway.errors import JobFailed, LinkError, StationRefused
from edge_gateway.line_jobs import Steps
from edge_gateway.station_files import read_station_file
from edge_gateway.station_link import StationLink
from edge_gateway.station_policy import read_clock
from edge_gateway.station_protocol import MAGIC
from edge_gateway.station_upkeep import CHANNELS_PER_READ, StationCommand, StationFacts, StationFile
from station_config.parameters import load_parameters

STEP_SAID_TWICE_AFTER_S = 65.0  # a board follows a leap beyond a day when it is said again a minute later
SECONDS_PER_DAY = 86_400.0
CLOCK_RESOLUTION_S = 2.0


def read_now(link: StationLink, address: int, errand: Errand) -> Steps[Details]:
    """Read what the station shows: who it is, how far its journal is, the latest sample of each channel."""
    yield from identify(link, address, errand.station)
    errand.check_time()
    status = yield from patiently(lambda: link.read_status(address))
    facts = yield from patiently(lambda: link.read_facts(address))
    channels = yield from patiently(lambda: link.read_live(address))
    while channels and len(channels) % CHANNELS_PER_READ == 0:
        first = len(channels)
        more = yield from patiently(lambda: link.read_live(address, first))  # noqa: B023  asked at once
        if not more:
            break
        channels += more
    names = load_parameters().by_code
    return {
        **_told(facts),
        "clock": status.clock_s if status.clock_is_set else None,
        "journal": status.journal,
        "first_seq": status.first_seq,
        "next_seq": status.next_seq,
        "channels": [
            {
                "sensor": one.sensor,
                "parameter": names[one.parameter].name if one.parameter in names else str(one.parameter),
                "value": one.value,
                "flag": one.flag,
            }
            for one in channels
        ],
    }


def set_clock(link: StationLink, address: int, errand: Errand) -> Steps[Details]:
    """Set the station's clock with the measured delay of the line; a leap beyond a day is said twice."""
    yield from identify(link, address, errand.station)
    before, delay_s = yield from _read_offset(link, address, errand.now)
    errand.check_time()
    yield from _set(link, address, errand.now, delay_s)
    after, delay_s = yield from _read_offset(link, address, errand.now)
    if abs(after) > SECONDS_PER_DAY:
        yield STEP_SAID_TWICE_AFTER_S
        yield from _set(link, address, errand.now, delay_s)
        after, delay_s = yield from _read_offset(link, address, errand.now)
    told = {"offset_before_s": round(before, 1), "offset_after_s": round(after, 1), "uncertainty_s": round(delay_s, 3)}
    if abs(after) > CLOCK_RESOLUTION_S + delay_s:
        raise JobFailed("the station did not take the time", told)
    return told


def calibration_mode(link: StationLink, address: int, errand: Errand, sensor: int, on: bool) -> Steps[Details]:
    """Have the station note in its journal that a sensor is being calibrated, or no longer."""
    yield from identify(link, address, errand.station)
    errand.check_time()
    yield from give(link, address, StationCommand.CALIBRATION, sensor << 8 | on)
    return {"sensor": sensor, "on": on}


def read_logs(link: StationLink, address: int, errand: Errand) -> Steps[Details]:
    """Fetch the station's log, the older half first."""
    yield from identify(link, address, errand.station)
    errand.check_time()
    older = yield from read_station_file(link, address, StationFile.OLDER_LOG)
    newer = yield from read_station_file(link, address, StationFile.LOG)
    return {"log": (older + newer).decode("utf-8", "replace")}


def reboot(link: StationLink, address: int, errand: Errand) -> Steps[Details]:
    """Restart the station once."""
    yield from identify(link, address, errand.station)
    facts = yield from patiently(lambda: link.read_facts(address))
    boot = int(errand.progress.get("boot", facts.boot))
    if facts.boot == boot:
        errand.check_time()
        errand.note(boot=boot)
    after = yield from restart(link, address, boot)
    return {"boot_before": boot, "boot_after": after.boot, "version": version_text(after)}


def scan(link: StationLink, first: int, last: int, errand: Errand) -> Steps[Details]:
    """Ask every address of a line who is there, once each."""
    found = []
    for address in range(first, last + 1):
        errand.check_time()
        told = yield from _look_at(link, address)
        if told is not None:
            found.append({"address": address, **told})
    return {"first": first, "last": last, "found": found}


def _look_at(link: StationLink, address: int) -> Steps[Details | None]:
    try:
        registers = link.read_beginning(address)
    except StationRefused as refusal:
        yield 0.0
        return {"device": "answers, but has no such registers", "exception": refusal.exception_code}
    except LinkError:
        yield 0.0
        return None
    yield 0.0
    if registers[0] != MAGIC:
        return {"device": "answers, but is no station", "registers": list(registers)}
    station = yield from patiently(lambda: link.read_station_id(address))
    facts = yield from patiently(lambda: link.read_facts(address))
    return {"device": "station", "station": station, "version": version_text(facts)}


def _read_offset(link: StationLink, address: int, now: Callable[[], float]) -> Steps[tuple[float, float]]:
    """Return how far the station's clock is off, and half of the question's round trip, both in seconds."""

    def ask() -> tuple[float, float]:
        asked_at = now()
        status = link.read_status(address)
        answered_at = now()
        return read_clock(status.clock_s, asked_at, answered_at).offset_s, (answered_at - asked_at) / 2

    return (yield from patiently(ask))


def _set(link: StationLink, address: int, now: Callable[[], float], delay_s: float) -> Steps[None]:
    yield from patiently(lambda: link.set_clock(address, now() + delay_s, delay_s))


def _told(facts: StationFacts) -> Details:
    return {
        "version": version_text(facts),
        "configuration_hash": facts.configuration_hash,
        "boot": facts.boot,
        "uptime_s": facts.uptime_s,
        "free_heap_kib": facts.free_heap_kib,
    }
