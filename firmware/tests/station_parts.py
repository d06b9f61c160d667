"""A whole station without hardware: flash in memory, time by hand, a scripted bus."""

import asyncio
import calendar
import io
import time

from firmware.bus import Client
from firmware.clock import Clock
from firmware.configuration import DEFAULT, parse
from firmware.instruments import Instrument
from firmware.journal import Journal
from firmware.line import Line
from firmware.log import Log
from firmware.sampler import Channels
from firmware.station import Station
from firmware.tests.flash import Flash
from firmware.tests.wire import Ticks, Uart
from firmware.upkeep import Upkeep


class Wall:
    """time and machine.RTC of a board: a counter from the port's epoch that can be set."""

    def __init__(self, seconds=0, epoch=1970):
        self.seconds = seconds
        self._offset = 0 if epoch == 1970 else 946_684_800

    def time(self):
        return self.seconds

    def gmtime(self, seconds):
        # MicroPython's tuple has eight fields, with the weekday in the seventh
        return tuple(time.gmtime(seconds + self._offset))[:8]

    def datetime(self, parts):
        year, month, day, _, hour, minute, second, _ = parts
        self.seconds = calendar.timegm((year, month, day, hour, minute, second)) - self._offset


class Parts:
    """A station and all it stands on. `answer` plays the instruments."""

    def __init__(
        self, configuration=DEFAULT, answer=lambda question: [], log_path=None, flash=None, seconds=0, root="/nowhere"
    ):
        self.ticks = Ticks()
        self.wall = Wall(seconds)
        self.clock = Clock(self.wall, self.wall)
        self.flash = flash or Flash()
        self.journal = Journal("/journal", 64, 64 * 18 * 8, lambda n: b"\x78\x56\x34\x12", self.flash, self.flash.open)
        self.journal.open()
        self.shown = []
        self.log = Log(str(log_path or "/nowhere/log"), self.clock, show=self.shown.append)
        self.uart = Uart(self.ticks, answer)
        self.client = Client(Line(self.uart, 9600, ticks=self.ticks), self.ticks)
        self.configuration = configuration
        self.channels = Channels()
        self.instruments = [Instrument(sensor, self.clock, self.channels) for sensor in configuration.sensors]
        self.station = self.make_station()
        self.restarts = 0
        self.root = str(root)
        self.upkeep = Upkeep(self.station, "", self.log, self.restart, self.ticks, self.root)

    def make_station(self, supplies=None):
        return Station(
            self.configuration,
            self.clock,
            self.journal,
            self.log,
            self.client,
            self.channels,
            self.instruments,
            self.ticks,
            supplies,
        )

    def restart(self):
        self.restarts += 1

    def run_for(self, seconds):
        """Let the sample and record loops come round while `seconds` of the wall clock pass."""
        asyncio.run(self._run_for(seconds))

    async def _run_for(self, seconds):
        for _ in range(seconds):
            self.wall.seconds += 1
            for _ in range(6):
                await self.station._sample_once()
                await self.station._record_once()


def configuration_of(content):
    import json

    return parse(io.BytesIO(json.dumps(content).encode()))


def content(**changes):
    """A valid station.json: one conductivity probe of five registers, one weather station with wind."""
    port = {"uart": 1, "baud": 9600, "bits": 8, "parity": None, "stop": 1, "tx": 17, "rx": 16, "de": 4}

    def field(parameter, at, kind, order, statistic="mean", decimals=3, **more):
        return {
            "parameter": parameter,
            "at": at,
            "type": kind,
            "order": order,
            "scale": 1.0,
            "offset": 0.0,
            "decimals": decimals,
            "statistic": statistic,
            "invalid": [],
        } | more

    probe = {
        "number": 1,
        "address": 1,
        "timeout_ms": 100,
        "retries": 1,
        "warmup_ms": 0,
        "start": None,
        "reads": [
            {
                "fc": 3,
                "register": 0x2600,
                "count": 5,
                "fields": [field(32, 0, "f32", "DCBA", decimals=2), field(34, 4, "f32", "DCBA")],
                "status": {"at": 8, "type": "u8", "ok": [0]},
            }
        ],
    }
    wind = {
        "number": 3,
        "address": 144,
        "timeout_ms": 100,
        "retries": 0,
        "warmup_ms": 0,
        "start": None,
        "reads": [
            {
                "fc": 3,
                "register": 0x165,
                "count": 2,
                "fields": [
                    field(67, 0, "u16", "AB", decimals=2, scale=0.1, invalid=[65535]),
                    field(68, 2, "u16", "AB", "direction", decimals=1, speed=67, invalid=[65535]),
                ],
                "status": None,
            }
        ],
    }
    return {
        "version": 1,
        "station": "vam-kenh",
        "address": 11,
        "sample_s": 10,
        "record_s": 60,
        "health_every": 0,
        "bus": port,
        "uplink": dict(port, uart=2),
        "journal": {"segment_records": 64, "max_bytes": 65536},
        "sensors": [probe, wind],
    } | changes
