"""One serial line: questions to its stations, one at a time, proof against answers that come late.

Modbus RTU has no transaction number: a late answer can be taken for the answer to the next question, with a good CRC.
Three defences stand against it. After anything but a clean answer the line is listened to, and what comes is thrown
away, until it has been silent for longer than the station's worst known latency. An answer must have the function and
the length that was asked for, and neighbouring questions differ in them. And the records of a fetch name themselves:
records before the ones asked for are an answer to an older question.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import serial
from pymodbus.client import ModbusSerialClient
from pymodbus.exceptions import ConnectionException, ModbusException, ModbusIOException
from pymodbus.pdu import ModbusPDU

from edge_gateway import station_protocol as protocol
from edge_gateway.configuration import LineConfiguration
from edge_gateway.errors import LineUnavailable, NoAnswer, StationRefused, WrongAnswer

READ_INPUT = 4
WRITE_REGISTERS = 16
READ_WRITE_REGISTERS = 23
LONGEST_FRAME_BYTES = 256
LATENCIES_REMEMBERED = 64
NOISE_LIMIT_QUIET_TIMES = 10
LATENESS_BELIEVED_TIMEOUTS = 10


@dataclass
class LinkCounters:
    """What happened on the way to one station since the gateway started."""

    questions: int = 0
    timeouts: int = 0
    late_bytes: int = 0
    wrong_answers: int = 0
    refusals: int = 0
    unanswered_since: float | None = None
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_REMEMBERED))

    def worst_latency_s(self, unknown_s: float) -> float:
        """Return the longest time from question to answer remembered; `unknown_s` before the first answer."""
        return max(self.latencies_s, default=unknown_s)


class StationLink:
    """The gateway's side of one line. One thread."""

    def __init__(self, line: LineConfiguration) -> None:
        self._line = line
        self._counters: dict[int, LinkCounters] = {}
        self._client: ModbusSerialClient | None = None
        self._character_s = 11 / line.baud

    def counters(self, address: int) -> LinkCounters:
        """Return the counters of the station at `address`."""
        return self._counters.setdefault(address, LinkCounters())

    def open(self) -> None:
        """Open the port if it is not open, and let what is under way on the line die away. Raises LineUnavailable."""
        if self._client is not None and self._client.connected:
            return
        self._client = ModbusSerialClient(
            self._line.port,
            baudrate=self._line.baud,
            parity=self._line.parity,
            stopbits=self._line.stop,
            timeout=self._line.timeout_s + LONGEST_FRAME_BYTES * self._character_s,
            retries=0,
        )
        if not self._client.connect():
            raise LineUnavailable(
                f"{self._line.port}: cannot be opened; check the cable, the name and the rights (group dialout)"
            )
        # Whoever used the line before us, perhaps this gateway before it was killed, may have left a question open.
        self._discard_until_quiet(self._line.timeout_s)

    def close(self) -> None:
        """Close the port."""
        if self._client is not None:
            self._client.close()  # type: ignore[no-untyped-call]  # pymodbus gives it no types
            self._client = None

    def read_status(self, address: int) -> protocol.StationStatus:
        """Return the station's status block. Raises LinkError."""
        # One register more or less each time: a late status block never fits the next question for one.
        count = protocol.STATUS_COUNT - self.counters(address).questions % 2
        return protocol.decode_status(self._read_input(address, protocol.STATUS_REGISTER, count))

    def read_station_id(self, address: int) -> str:
        """Return the station's id. Raises LinkError."""
        registers = self._read_input(address, protocol.STATION_ID_REGISTER, protocol.STATION_ID_COUNT)
        return protocol.decode_station_id(registers)

    def set_clock(self, address: int, unix_s: float, uncertainty_s: float) -> None:
        """Set the station's clock. Raises LinkError."""
        registers = protocol.encode_clock(unix_s, uncertainty_s)
        self._ask(
            address,
            WRITE_REGISTERS,
            None,
            lambda client: client.write_registers(protocol.CLOCK_REGISTER, registers, device_id=address),
        )

    def fetch(self, address: int, journal: int, from_seq: int, stored_through: int, number: int) -> protocol.Fetched:
        """Acknowledge up to `stored_through`; return up to `number` records (1..13) from `from_seq`; or LinkError."""
        count = number * protocol.REGISTERS_PER_RECORD
        asked_at = time.monotonic()
        values = protocol.encode_fetch(journal, from_seq, stored_through)
        answer = self._ask(
            address,
            READ_WRITE_REGISTERS,
            count,
            lambda client: client.readwrite_registers(
                read_address=protocol.FETCH_READ_REGISTER,
                read_count=count,
                write_address=protocol.FETCH_WRITE_REGISTER,
                values=values,
                device_id=address,
            ),
        )
        fetched = protocol.decode_records(answer)
        if fetched.first_seq is not None and fetched.first_seq < from_seq:
            self._reject(address, asked_at, f"records from {fetched.first_seq}, asked for from {from_seq}")
        return fetched

    def _read_input(self, address: int, register: int, count: int) -> Sequence[int]:
        return self._ask(
            address,
            READ_INPUT,
            count,
            lambda client: client.read_input_registers(register, count=count, device_id=address),
        )

    def _ask(
        self, address: int, function: int, count: int | None, call: Callable[[ModbusSerialClient], ModbusPDU]
    ) -> Sequence[int]:
        """Ask one question and return the answer's registers; anything else ends with a quiet line and a LinkError."""
        if self._client is None:
            raise LineUnavailable(f"{self._line.port}: is not open")
        counters = self.counters(address)
        counters.questions += 1
        asked_at = time.monotonic()
        try:
            answer = call(self._client)
        except ConnectionException as error:
            self.close()
            raise LineUnavailable(f"{self._line.port}: the port has gone ({error})") from error
        except ModbusIOException as error:
            counters.timeouts += 1
            counters.unanswered_since = asked_at
            self._settle(address, asked_at)
            raise NoAnswer(f"address {address}: no answer within {time.monotonic() - asked_at:.1f} s") from error
        except ModbusException as error:
            self._reject(address, asked_at, f"cannot be decoded: {error}")
        return self._judged(address, function, count, answer, asked_at)

    def _judged(
        self, address: int, function: int, count: int | None, answer: ModbusPDU, asked_at: float
    ) -> Sequence[int]:
        counters = self.counters(address)
        if answer.function_code & 0x7F != function:
            self._reject(address, asked_at, f"function {answer.function_code}, asked for {function}")
        counters.latencies_s.append(time.monotonic() - asked_at)
        if answer.isError():
            counters.refusals += 1
            raise StationRefused(f"address {address}: exception {answer.exception_code}", answer.exception_code)
        if count is not None and len(answer.registers) != count:
            self._reject(address, asked_at, f"{len(answer.registers)} registers, asked for {count}")
        counters.unanswered_since = None
        return answer.registers

    def _reject(self, address: int, asked_at: float, why: str) -> NoReturn:
        """Use nothing of an answer; most likely it is a late one, so it teaches how late this station can be."""
        counters = self.counters(address)
        counters.wrong_answers += 1
        if counters.unanswered_since is not None:
            late_s = time.monotonic() - counters.unanswered_since
            counters.latencies_s.append(min(late_s, LATENESS_BELIEVED_TIMEOUTS * self._line.timeout_s))
        self._settle(address, asked_at)
        raise WrongAnswer(f"address {address}: an answer that was not asked for: {why}")

    def _settle(self, address: int, asked_at: float) -> None:
        """Listen until nothing can come any more; an answer that comes now teaches how late this station can be."""
        counters = self.counters(address)
        quiet_s = counters.worst_latency_s(self._line.timeout_s)
        late_bytes, last_byte_at = self._discard_until_quiet(quiet_s)
        if late_bytes:
            counters.late_bytes += late_bytes
            counters.latencies_s.append(last_byte_at - asked_at)

    def _discard_until_quiet(self, quiet_s: float) -> tuple[int, float]:
        """Return (bytes thrown away, when the last came). Raises WrongAnswer on a line that never falls silent."""
        port = self._client.socket if self._client else None
        if port is None:
            raise LineUnavailable(f"{self._line.port}: the port has gone")
        discarded, begun = 0, time.monotonic()
        last_byte_at = begun
        try:
            while (silent_s := time.monotonic() - last_byte_at) < quiet_s:
                if time.monotonic() - begun > NOISE_LIMIT_QUIET_TIMES * max(quiet_s, self._line.timeout_s):
                    raise WrongAnswer(
                        f"{self._line.port}: the line is never silent; something on it talks without being asked"
                    )
                port.timeout = quiet_s - silent_s
                if received := port.read(max(1, port.in_waiting)):
                    discarded += len(received)
                    last_byte_at = time.monotonic()
        except (OSError, serial.SerialException) as error:
            self.close()
            raise LineUnavailable(f"{self._line.port}: the port has gone ({error})") from error
        return discarded, last_byte_at
