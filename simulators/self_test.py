"""What a freshly flashed board must show before a scenario is worth running on it."""

from __future__ import annotations

from dataclasses import dataclass

from firmware.record import EVENT_CLOCK_SET, NO_VALUE
from firmware.version import VERSION
from simulators import demo
from simulators.bench import Bench
from simulators.errors import SimulatorError
from simulators.processes import wait_for

INTERVALS = 3  # so many of the station's record intervals may pass before every sensor has given a value
SLACK_S = 60.0


class SelfTestFailed(SimulatorError):
    """The board is not fit for scenarios; the text names what failed."""


@dataclass(frozen=True)
class Checked:
    """One thing that was looked at."""

    what: str
    passed: bool
    found: str


def self_test(bench: Bench) -> list[Checked]:
    """Look at every board of a started bench and return what was found. Raises SelfTestFailed, BenchError."""
    found = [checked for station in bench.site.stations for checked in _of(bench, station.id)]
    if failed := [f"{one.what}: {one.found}" for one in found if not one.passed]:
        raise SelfTestFailed("self-test: " + "; ".join(failed))
    return found


def _of(bench: Bench, station: str) -> list[Checked]:
    wanted = ".".join(map(str, VERSION))
    version = str(bench.boards.flashed[station]["started"]["version"])
    sensors = {sensor.number: sensor.instrument for sensor in bench.site.network.station(station).sensors}
    interval_s = bench.site.network.station(station).record_interval_s or 60
    deadline_s = INTERVALS * interval_s / bench.clock.rate + SLACK_S
    wait_for(lambda: set(sensors) <= _heard(bench, station), deadline_s, "every sensor to answer", raises=False)
    heard = _heard(bench, station)
    records = list(demo.stored_records(bench, station))
    return [
        Checked(f"{station}: firmware", version == wanted, version),
        Checked(f"{station}: clock set by the gateway", any(r["parameter"] == EVENT_CLOCK_SET for r in records), "set"),
        *(
            Checked(f"{station}: sensor {number}, {model}", number in heard, "answers" if number in heard else "silent")
            for number, model in sensors.items()
        ),
    ]


def _heard(bench: Bench, station: str) -> set[int]:
    """Return the sensors that have a value in the store."""
    rows = demo.stored_records(bench, station)
    return {row["sensor"] for row in rows if row["parameter"] > 15 and row["flag"] != NO_VALUE}
