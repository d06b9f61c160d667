# Runs as firmware.soak on the board under test: the station's own sample and record loops, journal, bus and log, as
# fast as they go. Ten seconds pass in a cycle; the instruments answer at once, and now and then not, wrongly, or with a
# refusal; the clock is set and records are acknowledged, as a gateway does.
#
#   cycles NUMBER      sample cycles; answers: bytes of heap in use afterwards, next seq, bytes of log, polls
import asyncio
import gc
import os
import sys
import time

import machine

from firmware import lazy, rtu
from firmware.bus import Client
from firmware.clock import Clock
from firmware.instruments import Instrument
from firmware.journal import Journal
from firmware.line import Line
from firmware.log import Log
from firmware.sampler import Channels
from firmware.station import Station

NOW = 1_780_000_020
SILENT, DAMAGED, REFUSED, CLOCK_SET = 53, 71, 97, 500


class Wall:
    seconds = NOW

    def time(self):
        return self.seconds

    def gmtime(self, seconds):
        return time.gmtime(seconds)

    def datetime(self, parts):
        self.seconds = time.mktime((parts[0], parts[1], parts[2], parts[4], parts[5], parts[6], 0, 0))


class Ticks:
    now_ms = 0

    def ticks_ms(self):
        return self.now_ms

    def ticks_diff(self, end, start):
        return end - start

    async def sleep_ms(self, duration_ms):
        self.now_ms = (self.now_ms + max(1, duration_ms)) & 0x3FFFFFFF


class Instruments:
    # The UART of the bus and all who are on it.
    def __init__(self):
        self._asked = 0
        self._coming = b""

    def write(self, frame):
        self._asked += 1
        if self._asked % SILENT:
            self._coming = self._answer(bytes(frame))
        return len(frame)

    def _answer(self, question):
        if self._asked % REFUSED == 0:
            return rtu.seal(bytes([question[0], question[1] | 0x80, 6]))
        if question[1] in (3, 4):
            size = 2 * (question[4] << 8 | question[5])
            answer = rtu.seal(bytes([question[0], question[1], size]) + bytes(size))
        else:
            answer = rtu.seal(question[:6])
        return answer if self._asked % DAMAGED else answer[:-1] + b"\x00"

    def any(self):
        return len(self._coming)

    def readinto(self, buffer):
        part = self._coming[: len(buffer)]
        self._coming = self._coming[len(part) :]
        buffer[: len(part)] = part
        return len(part)

    def txdone(self):
        return True

    def flush(self):
        pass


wall, ticks = Wall(), Ticks()
clock = Clock(wall, wall)
with open("/station.json", "rb") as file:
    configuration = lazy.borrow("configuration").parse(file)
journal = Journal("/journal", 128, 12 * 128 * 18, os.urandom)
journal.open()
log = Log("/log.txt", clock, show=lambda line: None)
client = Client(Line(Instruments(), 9600, ticks=ticks), ticks)
channels = Channels()
instruments = [Instrument(sensor, clock, channels, ticks) for sensor in configuration.sensors]
station = Station(configuration, clock, journal, log, client, channels, instruments, ticks)
station.note_start(machine.reset_cause())


async def run(number):
    for cycle in range(number):
        wall.seconds += 10
        await station._sample_once()
        await station._record_once()
        if cycle % CLOCK_SET == 0:
            journal.acknowledge(journal.next_seq - 1)
            station.set_clock(clock.now() + 3, 0, 20)
            log.fault("soak", ValueError(cycle))


def cycles(number):
    asyncio.run(run(int(number)))
    gc.collect()
    print(
        "after",
        gc.mem_alloc(),
        journal.next_seq,
        os.stat("/log.txt")[6],
        client.polls,
        client.timeouts,
        client.crc_errors,
    )


gc.threshold(2048)
print("== ready")
while True:
    order = sys.stdin.readline().split()
    try:
        cycles(order[1])
        print("== ok")
    except Exception as error:
        sys.print_exception(error)
        print("== failed", type(error).__name__, error)
