"""The questions to the stations of one line, and what their answers mean.

Which answer belongs to which question is the line client's work (edge_gateway.line_client). Here questions are put so
that no answer can be mistaken: each kind has a length of its own, a status block that may still come late is never
followed by a question for one of the same length, and the records of a fetch name themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.file_message import (
    FileRecord,
    ReadFileRecordRequest,
    ReadFileRecordResponse,
    WriteFileRecordRequest,
)
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    ReadWriteMultipleRegistersRequest,
    WriteMultipleRegistersRequest,
)

from edge_gateway import station_protocol as protocol
from edge_gateway import station_upkeep as upkeep
from edge_gateway.configuration import LineConfiguration
from edge_gateway.endpoint import Framing
from edge_gateway.errors import StationRefused, WrongAnswer
from edge_gateway.line_client import LineClient, LinkCounters, ModbusClient
from edge_gateway.tcp_client import TcpClient
from edge_gateway.transport import Transport, make_transport

FETCH = "records"


def make_client(line: LineConfiguration, transport: Transport) -> ModbusClient:
    """Return the client that speaks what this line speaks."""
    if line.endpoint.framing is Framing.TCP:
        return TcpClient(transport, line.timeout_s)
    return LineClient(transport, line.timeout_s, line.baud)


@dataclass(frozen=True)
class LineAccess:
    """A line for all who ask on it: the stations' poller, and stations without a board."""

    transport: Transport
    client: ModbusClient


def access_line(line: LineConfiguration) -> LineAccess:
    """Return how to ask on a line; nothing is opened yet."""
    transport = make_transport(line)
    return LineAccess(transport, make_client(line, transport))


class StationLink:
    """The gateway's side of one line. One thread."""

    def __init__(self, line: LineConfiguration, client: ModbusClient | None = None) -> None:
        self._client = client or access_line(line).client

    def counters(self, address: int) -> LinkCounters:
        """Return the counters of the station at `address`."""
        return self._client.counters(address)

    def open(self) -> None:
        """Open the port if it is not open, and let what is under way on the line die away. Raises LineUnavailable."""
        self._client.open()

    def close(self) -> None:
        """Close the port."""
        self._client.close()

    def read_status(self, address: int) -> protocol.StationStatus:
        """Return the station's status block. Raises LinkError."""
        # Of the same registers more or fewer each time: neither a late status block nor a copy of one passes for new.
        first = self.counters(address).questions
        counts = [protocol.STATUS_COUNT - (first + at) % protocol.STATUS_SPARE for at in range(protocol.STATUS_SPARE)]
        requests = [_read_input(address, protocol.STATUS_REGISTER, count) for count in counts]
        clear = [request for request in requests if not self._client.is_in_doubt(request)]
        return protocol.decode_status(self._registers((clear or requests)[0]))

    def read_station_id(self, address: int) -> str:
        """Return the station's id. Raises LinkError."""
        request = _read_input(address, protocol.STATION_ID_REGISTER, protocol.STATION_ID_COUNT)
        return protocol.decode_station_id(self._registers(request))

    def set_clock(self, address: int, unix_s: float, uncertainty_s: float) -> None:
        """Set the station's clock. Raises LinkError."""
        registers = protocol.encode_clock(unix_s, uncertainty_s)
        self._answer(
            WriteMultipleRegistersRequest(dev_id=address, address=protocol.CLOCK_REGISTER, registers=registers),
            meaning="clock",
        )

    def fetch(self, address: int, journal: int, from_seq: int, stored_through: int, number: int) -> protocol.Fetched:
        """Acknowledge up to `stored_through`; return up to `number` records (1..13) from `from_seq`; or LinkError."""
        request = ReadWriteMultipleRegistersRequest(
            read_address=protocol.FETCH_READ_REGISTER,
            read_count=number * protocol.REGISTERS_PER_RECORD,
            write_address=protocol.FETCH_WRITE_REGISTER,
            write_registers=protocol.encode_fetch(journal, from_seq, stored_through),
            dev_id=address,
        )
        fetched = protocol.decode_records(self._answer(request, FETCH).registers)
        if fetched.first_seq is not None and fetched.first_seq < from_seq:
            self._client.settle(address)
            raise WrongAnswer(
                f"address {address}: an answer that was not asked for: records from {fetched.first_seq}, "
                f"asked for from {from_seq}"
            )
        return fetched

    def read_facts(self, address: int) -> upkeep.StationFacts:
        """Return version, boot and configuration of the station. Raises LinkError."""
        return upkeep.decode_facts(self._registers(_read_input(address, upkeep.FACTS_REGISTER, upkeep.FACTS_COUNT)))

    def read_live(self, address: int, first_channel: int = 0) -> list[upkeep.LiveValue]:
        """Return the latest samples of up to CHANNELS_PER_READ channels. Raises LinkError."""
        first = upkeep.LIVE_REGISTER + upkeep.REGISTERS_PER_CHANNEL * first_channel
        return upkeep.decode_live(self._registers(_read_input(address, first, upkeep.LIVE_COUNT)))

    def read_beginning(self, address: int) -> Sequence[int]:
        """Return the first two input registers of whatever is at `address`. Raises LinkError."""
        return self._registers(_read_input(address, protocol.STATUS_REGISTER, 2))

    def read_care(self, address: int) -> upkeep.Care:
        """Return what became of the last command, and what is on trial. Raises LinkError."""
        request = ReadHoldingRegistersRequest(dev_id=address, address=upkeep.CARE_REGISTER, count=upkeep.CARE_COUNT)
        return upkeep.decode_care(self._registers(request))

    def command(self, address: int, command: upkeep.StationCommand, argument: int) -> None:
        """Tell the station to do something; `read_care` tells what becomes of it. Raises LinkError."""
        registers = upkeep.encode_command(command, argument)
        self._answer(WriteMultipleRegistersRequest(dev_id=address, address=upkeep.CARE_REGISTER, registers=registers))

    def describe_file(self, address: int, file: upkeep.StationFile) -> upkeep.FileDescription:
        """Return what a file is, or is to be. Raises LinkError."""
        data = self._file_part(address, upkeep.DESCRIPTION + file, 0, upkeep.DESCRIPTION_BYTES)
        return upkeep.decode_description(data)

    def read_file(self, address: int, file: upkeep.StationFile, start: int, size: int) -> bytes:
        """Return `size` bytes (at most PART_BYTES) of a file from an even `start`. Raises LinkError."""
        return self._file_part(address, file, start, size + size % 2)[:size]

    def declare_file(self, address: int, file: upkeep.StationFile, data: bytes) -> None:
        """Say what file is to come; the same again keeps what is held of it. Raises LinkError."""
        self._write_file_part(address, upkeep.DESCRIPTION + file, 0, upkeep.declaration(data))

    def write_file(self, address: int, file: upkeep.StationFile, start: int, data: bytes) -> None:
        """Write a chunk (at most CHUNK_BYTES) of a file at an even `start`. Raises LinkError."""
        self._write_file_part(address, file, start, data + bytes(len(data) % 2))

    def _file_part(self, address: int, number: int, start: int, size: int) -> bytes:
        part = FileRecord(file_number=number, record_number=start // 2, record_length=size)
        answer = self._answer(ReadFileRecordRequest([part], dev_id=address))
        assert isinstance(answer, ReadFileRecordResponse)
        if len(answer.records) != 1 or len(answer.records[0].record_data) != size:
            raise WrongAnswer(f"address {address}: not the part of file {number} that was asked for")
        return answer.records[0].record_data

    def _write_file_part(self, address: int, number: int, start: int, data: bytes) -> None:
        part = FileRecord(file_number=number, record_number=start // 2, record_data=data)
        self._answer(WriteFileRecordRequest([part], dev_id=address))

    def _registers(self, request: ModbusPDU) -> Sequence[int]:
        return self._answer(request).registers

    def _answer(self, request: ModbusPDU, meaning: str | None = None) -> ModbusPDU:
        answer = self._client.ask(request, meaning)
        if answer.isError():
            self.counters(request.dev_id).refusals += 1
            raise StationRefused(f"address {request.dev_id}: exception {answer.exception_code}", answer.exception_code)
        return answer


def _read_input(address: int, register: int, count: int) -> ModbusPDU:
    return ReadInputRegistersRequest(dev_id=address, address=register, count=count)
