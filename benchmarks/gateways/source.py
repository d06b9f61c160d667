"""What the gateways poll: one process that answers Modbus TCP and remembers what it has given out.

- Holding registers (function 3), as any gateway reads them: a value is 32 bits in two registers, and reading it gives
  the next number of that value, so that every reading is known by name: (unit, value, number).
- Stations with a journal (functions 4, 16, 23), as ours reads them: records are made at a rate, one after another.

Each port is a line: Modbus TCP, or with --serial a terminal that talks Modbus RTU. Commands come on stdin, a line
each; the answer is a line of JSON:

    count            what was given out: {"readings": [[unit, value, number], …], "made": records of each station}
    stop             the same, and no further records are made

python -m benchmarks.gateways.source --ports 5021,5022 --stations 10 --rate 10
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import struct
import sys
import time
import tty
from collections import Counter
from dataclasses import dataclass
from functools import partial

import numpy as np

from cloud_ingest.decode import RECORD_DTYPE, crc16_of
from firmware.record import SIZE, crc16

T0 = 1_771_000_020
STATUS, STATION_ID = 0, 40
REGISTERS_PER_RECORD = SIZE // 2
PADDING = b"\xff" * SIZE
ILLEGAL_FUNCTION = 1


def made_records(number: int, begin_s: int = T0, step_s: int = 1) -> bytes:
    """Return records 1..number of a journal."""
    records = np.zeros(number, RECORD_DTYPE)
    records["version"], records["seq"], records["flag"] = 1, np.arange(1, number + 1), 2
    records["time"] = begin_s + step_s * np.arange(number)
    records["count"], records["sensor"], records["parameter"] = np.arange(number) % 30_000, 1, 32
    records["crc"] = crc16_of(records)
    return records.tobytes()


@dataclass
class Journal:
    """The journal of every station: all make the same records, each on its own line and address."""

    rate: float
    records: bytes
    began: float
    stopped: float | None = None

    def made(self) -> int:
        """Return how many records there are by now."""
        now = time.monotonic() if self.stopped is None else self.stopped
        return min(len(self.records) // SIZE, int(self.rate * (now - self.began)))


class Source:
    """Answers questions; knows what it answered."""

    def __init__(self, journal: Journal) -> None:
        self.readings: Counter[tuple[int, int]] = Counter()
        self.journal = journal
        self._stored_through: dict[tuple[int, int], int] = {}
        self._from_seq = 1

    async def serve(self, line: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends."""
        try:
            while True:
                head = await reader.readexactly(7)
                transaction, _, length, unit = struct.unpack(">HHHB", head)
                answer = self._answer((line, unit), await reader.readexactly(length - 1))
                writer.write(struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def serve_serial(self, line: int, terminal: int) -> None:
        """Answer the frame that came on a terminal. A client there sends one question and waits."""
        frame = os.read(terminal, 512)
        if len(frame) > 4 and crc16(frame[:-2]) == int.from_bytes(frame[-2:], "little"):
            answer = frame[:1] + self._answer((line, frame[0]), frame[1:-2])
            os.write(terminal, answer + crc16(answer).to_bytes(2, "little"))

    def _answer(self, station: tuple[int, int], question: bytes) -> bytes:
        function = question[0]
        if function == 3:
            return self._reading(station[1], *struct.unpack(">HH", question[1:5]))
        if function == 4:
            first, count = struct.unpack(">HH", question[1:5])
            block = self._status(station) if first < STATION_ID else f"station-{station[0]}-{station[1]}".encode()
            at = 2 * (first - (STATUS if first < STATION_ID else STATION_ID))
            data = block.ljust(256, b"\0")[at : at + 2 * count]
            return bytes([4, len(data)]) + data
        if function == 16:
            return question[:5]
        if function == 23:
            return self._records(station, question)
        return bytes([function | 0x80, ILLEGAL_FUNCTION])

    def _reading(self, unit: int, first: int, count: int) -> bytes:
        numbers = []
        for value in range(first // 2, (first + count) // 2):
            self.readings[unit, value] += 1
            numbers.append(self.readings[unit, value])
        data = struct.pack(f">{len(numbers)}I", *numbers)
        return bytes([3, len(data)]) + data

    def _status(self, station: tuple[int, int]) -> bytes:
        made = self.journal.made()
        through = self._stored_through.get(station, 0)
        clock = int(time.time())
        head = struct.pack(">HHIIIIIH", 0x5452, 1, _journal(station), 1, made + 1, through, clock, 1)
        return head + struct.pack(">IHH", 77, 3, 1)

    def _records(self, station: tuple[int, int], question: bytes) -> bytes:
        count = struct.unpack(">H", question[3:5])[0]
        journal, from_seq, through = struct.unpack(">III", question[10:22])
        if journal != _journal(station):
            return bytes([23 | 0x80, 3])
        self._stored_through[station] = max(through, self._stored_through.get(station, 0))
        end = min(from_seq - 1 + count // REGISTERS_PER_RECORD, self.journal.made())
        data = self.journal.records[(from_seq - 1) * SIZE : max(0, end) * SIZE]
        data = data.ljust(2 * count, b"\xff")
        return bytes([23, len(data)]) + data


def _journal(station: tuple[int, int]) -> int:
    return 0x1000 * (station[0] + 1) + station[1]


async def serve(ports: list[int], serial_lines: int, journal: Journal) -> None:
    """Serve until stdin ends. The first line printed names the serial ports."""
    source = Source(journal)
    for line, port in enumerate(ports):
        await asyncio.start_server(partial(source.serve, line), "127.0.0.1", port)
    loop = asyncio.get_running_loop()
    ends = [os.openpty() for _ in range(serial_lines)]
    for line, (far, near) in enumerate(ends):
        tty.setraw(near)
        loop.add_reader(far, source.serve_serial, line, far)
    print(json.dumps([os.ttyname(near) for _, near in ends]), flush=True)
    while command := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        if command == "stop":
            journal.stopped = time.monotonic()
        readings = [[unit, value, number] for (unit, value), number in source.readings.items()]
        print(json.dumps({"readings": readings, "made": journal.made()}), flush=True)


def main() -> None:
    """Serve as told."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--ports", default="", help="of Modbus TCP lines")
    options.add_argument("--serial", type=int, default=0, metavar="LINES", help="how many serial lines")
    options.add_argument("--rate", type=float, required=True, help="records a second of each station")
    options.add_argument("--most", type=int, default=200_000, help="records of each station")
    options.add_argument("--begin", type=int, default=T0, help="time of the first record")
    options.add_argument("--step", type=int, default=1, help="seconds of their time from one to the next")
    given = options.parse_args()
    ports = [int(port) for port in given.ports.split(",") if port]
    asyncio.run(
        serve(
            ports,
            given.serial,
            Journal(given.rate, made_records(given.most, given.begin, given.step), time.monotonic()),
        )
    )


if __name__ == "__main__":
    main()
