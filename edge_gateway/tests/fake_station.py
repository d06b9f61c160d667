"""Test doubles of the station side: stations as a pymodbus server, on a line made of two ptys that can misbehave."""

from __future__ import annotations

import asyncio
import os
import queue
import select
import struct
import threading
import time
import tty
from collections.abc import Callable

from pymodbus import ModbusDeviceIdentification
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

from firmware import record

RECORDS_PER_READ_REGISTERS = 9


def make_record(seq: int, when: int | None = None, count: int | None = None) -> bytes:
    """Return a plausible record: one a minute, its count its number."""
    return record.encode(record.Record(seq, 1_780_000_000 + 60 * seq if when is None else when, count or seq, 1, 32, 2))


class FakeStation:
    """The register map of a station over a list of records."""

    def __init__(self, station: str, address: int, journal: int = 0x1234ABCD, number: int = 0) -> None:
        self.station = station
        self.address = address
        self.now: Callable[[], float] = time.time
        self.clock_offset_s = 0.0
        self.clock_is_set = True
        self.clocks_received: list[float] = []
        self.acknowledged: list[tuple[int, int]] = []
        self.on_acknowledge: Callable[[int, int], None] = lambda _journal, _through: None
        self.requests = 0
        self.new_journal(journal, number)

    def new_journal(self, journal: int, number: int, first_seq: int = 1) -> None:
        """Put another board in: another journal with `number` records."""
        self.journal = journal
        self.first_seq = first_seq
        self.stored_through = first_seq - 1
        self.records = {seq: make_record(seq) for seq in range(first_seq, first_seq + number)}
        self.next_seq = first_seq + number

    def add(self, number: int) -> None:
        """Make new records."""
        for seq in range(self.next_seq, self.next_seq + number):
            self.records[seq] = make_record(seq)
        self.next_seq += number

    def overwrite_before(self, first_seq: int) -> None:
        """Lose the oldest records, as a full ring does."""
        self.first_seq = first_seq
        self.records = {seq: raw for seq, raw in self.records.items() if seq >= first_seq}

    def device(self) -> SimDevice:
        """Return the station for a pymodbus server."""
        registers = DataType.REGISTERS
        holding = [
            SimData(0, count=4, values=0, datatype=registers),
            SimData(0x0100, count=6, values=0, datatype=registers),
            SimData(0x0200, count=117, values=0, datatype=registers),
        ]
        inputs = [
            SimData(0, count=31, values=0, datatype=registers),
            SimData(40, count=16, values=0, datatype=registers),
        ]
        bits = [SimData(0, values=False, datatype=DataType.BITS)]
        return SimDevice(self.address, (bits, bits, holding, inputs), action=self._action)

    async def _action(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        self.requests += 1
        if function == 4:
            source = self._status() if address < 40 else self._identity()
            base = 0 if address < 40 else 40
            registers[address - start : address - start + count] = source[address - base : address - base + count]
        elif values is None and address == 0x0200:
            registers[address - start : address - start + count] = self._read_records(count)
        elif values is not None and address == 0x0100:
            return self._acknowledge(values)
        elif values is not None and address == 0:
            self.clock_offset_s = (values[0] << 16 | values[1]) + values[2] / 1000 - self.now()
            self.clocks_received.append(self.clock_offset_s)
            self.clock_is_set = True
        return None

    def _acknowledge(self, values: list[int] | list[bool]) -> ExcCodes | None:
        journal, self._from_seq, stored_through = struct.unpack(">III", struct.pack(">6H", *values))
        if journal != self.journal:
            return ExcCodes.ILLEGAL_VALUE
        self.on_acknowledge(journal, stored_through)
        self.acknowledged.append((journal, stored_through))
        self.stored_through = max(self.stored_through, min(stored_through, self.next_seq - 1))
        return None

    def _read_records(self, count: int) -> list[int]:
        size = count * 2
        wanted = count // RECORDS_PER_READ_REGISTERS
        records = self.records.copy()  # in one step: a test adds to them from its own thread
        there = sorted(seq for seq in records if seq >= self._from_seq)[:wanted]
        data = b"".join(records[seq] for seq in there).ljust(size, b"\xff")
        return list(struct.unpack(f">{count}H", data))

    def _status(self) -> list[int]:
        now = int(self.now() + self.clock_offset_s) if self.clock_is_set else 77
        values = (0x5452, 1, self.journal, self.first_seq, self.next_seq, self.stored_through, now, self.clock_is_set)
        packed = struct.pack(">HHIIIIIH", *values) + struct.pack(">IHH", 77, 3, 1)
        return list(struct.unpack(">31H", packed.ljust(62, b"\0")))

    def _identity(self) -> list[int]:
        return list(struct.unpack(">16H", self.station.encode().ljust(32, b"\0")))


class FakeLine:
    """A line with stations on one end; `port` is the other end, for the gateway. Start with `with`."""

    def __init__(self, *stations: FakeStation) -> None:
        self.stations = stations
        self.cut = False
        self.echo = False
        self.twice = False
        self.noise = b""
        self.delays_s: queue.SimpleQueue[float] = queue.SimpleQueue()
        self._ends = [os.openpty(), os.openpty()]
        for master, slave in self._ends:
            tty.setraw(master)
            tty.setraw(slave)
        self.port = os.ttyname(self._ends[0][1])
        self._station_port = os.ttyname(self._ends[1][1])
        self._stop = threading.Event()
        self._serving = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = [threading.Thread(target=self._pump), threading.Thread(target=self._serve)]

    def __enter__(self) -> FakeLine:
        for thread in self._threads:
            thread.start()
        assert self._serving.wait(60)
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._ended.set_result, None)
        for thread in self._threads:
            thread.join(60)
        for end in self._ends:
            for descriptor in end:
                os.close(descriptor)

    def delay_next_answer(self, delay_s: float) -> None:
        """Hold back the next bytes from the stations."""
        self.delays_s.put(delay_s)

    def talk(self, data: bytes) -> None:
        """Put bytes on the line that nobody asked for."""
        os.write(self._ends[0][0], data)

    def _pump(self) -> None:
        gateway, stations = self._ends[0][0], self._ends[1][0]
        addresses = {station.address for station in self.stations}
        held: list[tuple[float, bytes]] = []
        while not self._stop.is_set():
            ready, _, _ = select.select([gateway, stations], [], [], 0.01)
            if gateway in ready:
                data = os.read(gateway, 4096)
                if self.echo:
                    os.write(gateway, data)
                # pymodbus's server answers with an exception for addresses it does not have; a line is silent there.
                if not self.cut and data[0] in addresses:
                    os.write(stations, data)
            if stations in ready:
                delay_s = 0.0 if self.delays_s.empty() else self.delays_s.get()
                held.append((time.monotonic() + delay_s, os.read(stations, 4096)))
            for item in [item for item in held if item[0] <= time.monotonic()]:
                held.remove(item)
                if not self.cut:
                    os.write(gateway, self.noise + item[1] * (2 if self.twice else 1))

    def _serve(self) -> None:
        asyncio.run(self._serve_until_stopped())

    async def _serve_until_stopped(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        server = ModbusSerialServer(
            [station.device() for station in self.stations],
            identity=ModbusDeviceIdentification(info={0: "Tram", 1: "station", 2: "0.1.0"}),  # type: ignore[no-untyped-call]
            port=self._station_port,
            baudrate=9600,
            ignore_missing_devices=True,
        )
        await server.serve_forever(background=True)
        self._serving.set()
        await self._ended
        await server.shutdown()  # type: ignore[no-untyped-call]
