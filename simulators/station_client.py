"""What a gateway asks of a station, by pymodbus: records, files and commands, for tests and power-cut tables.

client = StationClient(port, 11)
client.send_file(FIRMWARE, image)
client.command(APPLY_UPDATE, image)     # Result.DONE
client.restart()

The register map is firmware/REGISTERS.md.
"""

from __future__ import annotations

import hashlib
import struct
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

from pymodbus.client import ModbusSerialClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.file_message import FileRecord

from firmware.record import SIZE, Record, decode
from simulators.errors import SimulatorError

LOG, FIRMWARE, OLDER_LOG, CONFIGURATION = 2, 3, 4, 5
APPLY_CONFIGURATION, APPLY_UPDATE, RESTART, FORGET = 1, 2, 3, 4
CHUNK_BYTES = 244  # the most that fits a frame
READ_BYTES = 242
DEADLINE_S = 60.0


class Result(IntEnum):
    """What a station says of the last command."""

    NONE = 0
    WORKING = 1
    DONE = 2
    UNKNOWN_COMMAND = 10
    NOTHING_STAGED = 11
    NO_KEY = 12
    BAD_SIGNATURE = 13
    BAD_IMAGE = 14
    NOT_NEWER = 15
    OTHER_BYTECODE = 16
    FLASH_FULL = 17
    ON_TRIAL = 18
    BAD_CONFIGURATION = 19
    FLASH_FAILED = 20
    BAD_ARGUMENT = 21
    FAULT = 22


_DESCRIPTION = 100
_PAUSE = threading.Event()


class StationSilent(SimulatorError):
    """Nobody answers."""


class StationRefuses(SimulatorError):
    """The station answers with a Modbus exception."""

    def __init__(self, code: int) -> None:
        super().__init__(f"Modbus exception {code}")
        self.code = code


class StationClient:
    """One station on a line of its own."""

    def __init__(self, port: Path, address: int, timeout_s: float = 1.0, retries: int = 2) -> None:
        self._client = ModbusSerialClient(str(port), baudrate=115_200, timeout=timeout_s, retries=retries)
        self._address = address
        if not self._client.connect():
            raise StationSilent(f"{port} cannot be opened")

    def close(self) -> None:
        """Let go of the port."""
        self._client.close()  # type: ignore[no-untyped-call]

    # Registers and records

    def registers(self, first: int, count: int) -> list[int]:
        """Read input registers."""
        return list(
            self._ask(lambda: self._client.read_input_registers(first, count=count, device_id=self._address)).registers
        )

    def number(self, first: int) -> int:
        """Read one u32."""
        high, low = self.registers(first, 2)
        return high << 16 | low

    def holding(self, first: int, count: int) -> list[int]:
        """Read holding registers."""
        return list(
            self._ask(
                lambda: self._client.read_holding_registers(first, count=count, device_id=self._address)
            ).registers
        )

    def version(self) -> str:
        """Return the version of the firmware that runs."""
        return ".".join(map(str, self.registers(28, 3)))

    def fetch(self, from_seq: int = 1, acknowledge: bool = True) -> list[Record]:
        """Return all records from from_seq on, acknowledging what was read."""
        journal = self.number(2)
        records: list[Record] = []
        while True:
            stored_through = from_seq - 1 if acknowledge else 0
            words = struct.unpack(">6H", struct.pack(">III", journal, from_seq, stored_through))
            answer = self._ask(
                lambda: self._client.readwrite_registers(
                    read_address=0x0200,
                    read_count=117,
                    write_address=0x0100,
                    values=list(words),  # noqa: B023 - called at once
                    device_id=self._address,
                )
            )
            raw = struct.pack(">117H", *answer.registers)
            chunks = [raw[at : at + SIZE] for at in range(0, len(raw), SIZE)]
            fetched = [decode(chunk) for chunk in chunks if chunk != b"\xff" * SIZE]
            if not fetched:
                return records
            records += fetched
            from_seq = fetched[-1].seq + 1

    # Files

    def describe(self, file: int) -> tuple[int, bytes, int]:
        """Return (length, SHA-256, bytes held) of a file."""
        raw = self._read(_DESCRIPTION + file, 0, 40)
        return int.from_bytes(raw[:4], "big"), raw[4:36], int.from_bytes(raw[36:40], "big")

    def read_file(self, file: int) -> bytes:
        """Return a file of the station."""
        length, digest, held = self.describe(file)
        data = b"".join(self._read(file, start, min(READ_BYTES, held - start)) for start in range(0, held, READ_BYTES))
        if held == length and hashlib.sha256(data).digest() != digest:
            raise SimulatorError(f"file {file} changed while it was read")
        return data

    def send_file(self, file: int, data: bytes) -> None:
        """Stage a file, going on where an earlier transfer broke off."""
        self.declare(file, data)
        _, _, held = self.describe(file)
        for start in range(held - held % 2, len(data), CHUNK_BYTES):
            self.write(file, start, data[start : start + CHUNK_BYTES])

    def declare(self, file: int, data: bytes) -> None:
        """Say what file is to come."""
        self.write(_DESCRIPTION + file, 0, struct.pack(">I", len(data)) + hashlib.sha256(data).digest())

    def write(self, file: int, start: int, data: bytes) -> None:
        """Write one chunk at an even start."""
        record = FileRecord(file_number=file, record_number=start // 2, record_data=data + bytes(len(data) % 2))
        self._ask(lambda: self._client.write_file_record([record], device_id=self._address))

    def _read(self, file: int, start: int, size: int) -> bytes:
        record = FileRecord(file_number=file, record_number=start // 2, record_length=size + size % 2)
        answer = self._ask(lambda: self._client.read_file_record([record], device_id=self._address))
        return bytes(answer.records[0].record_data)[:size]  # type: ignore[attr-defined]

    # Commands

    def command(self, number: int, argument: bytes | int) -> Result:
        """Give a command and return its result once there is one. A file stands for the beginning of its SHA-256."""
        value = argument if isinstance(argument, int) else int.from_bytes(hashlib.sha256(argument).digest()[:4], "big")
        values = [number, value >> 16, value & 0xFFFF]
        self._ask(lambda: self._client.write_registers(10, values, device_id=self._address))
        deadline = time.monotonic() + DEADLINE_S
        while (result := Result(self.holding(13, 1)[0])) is Result.WORKING:
            if time.monotonic() > deadline:
                raise StationSilent("the command is worked on without end")
            _PAUSE.wait(0.02)
        return result

    def restart(self) -> None:
        """Restart the station; returns once it answers again."""
        boots = self.registers(15, 1)[0]
        self.command(RESTART, boots)
        self.wait_until(lambda: self.registers(15, 1)[0] != boots)

    def wait_until(self, holds: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
        """Ask until something holds; silence is waited through."""
        deadline = time.monotonic() + deadline_s
        while True:
            try:
                if holds():
                    return
            except StationSilent:
                pass
            if time.monotonic() > deadline:
                raise StationSilent(f"not so within {deadline_s} s")
            _PAUSE.wait(0.02)

    def _ask(self, question: Callable[[], ModbusPDU]) -> ModbusPDU:
        try:
            answer = question()
        except ModbusException as error:
            raise StationSilent(str(error)) from None
        if answer.isError():
            raise StationRefuses(answer.exception_code)
        return answer
