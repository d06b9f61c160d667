"""SCADA reads the gateway by Modbus TCP: each station is a unit with the registers it has itself. Nothing is written.

Modbus knows no password, so it listens on this machine unless told otherwise; then a firewall says who may ask.
"""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Mapping
from importlib.metadata import version

import structlog
from pymodbus.pdu import ExceptionResponse, ModbusPDU
from pymodbus.pdu.mei_message import ReadDeviceInformationResponse
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse, ReadInputRegistersResponse

from edge_gateway.configuration import ModbusServerConfiguration
from edge_gateway.modbus_image import StationImage
from edge_gateway.tcp_client import HEADER, LONGEST_LENGTH, SHORTEST_LENGTH

log = structlog.get_logger()

READ_HOLDING, READ_INPUT, IDENTIFY, IDENTIFY_MEI = 3, 4, 43, 14
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, NO_SUCH_UNIT = 1, 2, 3, 10
MOST_REGISTERS = 125
STATION_OBJECT = 0x80
SEND_TIMEOUT_S = 10.0
LOOK_S = 0.2
BACKLOG = 4
RETRY_S = 30.0


class ModbusServer:
    """The server's thread."""

    def __init__(self, configuration: ModbusServerConfiguration, units: Mapping[int, StationImage]) -> None:
        self._configuration = configuration
        self._units = units
        self._connections: set[asyncio.Task[None]] = set()
        self._refused = 0

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set; a port that cannot be had is said and tried again."""
        while not stop.is_set():
            try:
                asyncio.run(self._run(stop))
            except OSError as error:
                log.warning(
                    "SCADA cannot read: [modbus_server] cannot listen",
                    host=self._configuration.host,
                    port=self._configuration.port,
                    reason=error.strerror,
                    advice="choose another port; those below 1024 need a right of their own",
                )
                stop.wait(RETRY_S)

    async def _run(self, stop: threading.Event) -> None:
        host, port = self._configuration.host, self._configuration.port
        server = await asyncio.start_server(self._accept, host, port, backlog=BACKLOG)
        log.info("SCADA can read the stations", host=host, port=port, units=sorted(self._units))
        async with server:
            while not stop.is_set():
                await asyncio.sleep(LOOK_S)
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= self._configuration.connections:
            self._refused += 1
            log.warning("a SCADA connection too many was closed", most=self._configuration.connections)
            writer.transport.abort()
            return
        self._connections.add(task)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # gone, silent for too long, or in the middle of a question
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one question; say whether the connection makes sense."""
        async with asyncio.timeout(self._configuration.idle_s):
            transaction, protocol, length, unit = HEADER.unpack(await reader.readexactly(HEADER.size))
            if protocol != 0 or not SHORTEST_LENGTH - 1 <= length <= LONGEST_LENGTH:
                return False
            question = await reader.readexactly(length - 1)
        answer = self._answer(unit, question)
        body = bytes((answer.function_code,)) + answer.encode()
        writer.write(HEADER.pack(transaction, 0, len(body) + 1, unit) + body)
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await writer.drain()
        return True

    def _answer(self, unit: int, question: bytes) -> ModbusPDU:
        function = question[0] & 0x7F
        image = self._units.get(unit)
        if image is None:
            return ExceptionResponse(function, NO_SUCH_UNIT)
        if function in (READ_HOLDING, READ_INPUT):
            return _registers(image, function, question)
        if function == IDENTIFY and question[1:2] == bytes((IDENTIFY_MEI,)):
            return _identity(image, question)
        return ExceptionResponse(function, ILLEGAL_FUNCTION)


def _registers(image: StationImage, function: int, question: bytes) -> ModbusPDU:
    if len(question) != 5:
        return ExceptionResponse(function, ILLEGAL_VALUE)
    first, count = struct.unpack(">HH", question[1:])
    if not 1 <= count <= MOST_REGISTERS:
        return ExceptionResponse(function, ILLEGAL_VALUE)
    values = (image.read_input if function == READ_INPUT else image.read_holding)(first, count)
    if values is None:
        return ExceptionResponse(function, ILLEGAL_ADDRESS)
    answer = ReadInputRegistersResponse if function == READ_INPUT else ReadHoldingRegistersResponse
    return answer(registers=values)


def _identity(image: StationImage, question: bytes) -> ModbusPDU:
    """Return the objects a station gives of itself; the revision is the gateway's."""
    if len(question) != 4 or question[2] not in (1, 2, 3, 4):
        return ExceptionResponse(IDENTIFY, ILLEGAL_VALUE)
    code, first = question[2], question[3]
    objects = {0: b"Tram", 1: b"station", 2: version("tram").encode(), STATION_OBJECT: image.station.encode()}
    if code == 4:
        chosen = {number: text for number, text in objects.items() if number == first}
    else:
        chosen = {n: text for n, text in objects.items() if n >= first and (code == 3 or n < STATION_OBJECT)}
    if not chosen:
        return ExceptionResponse(IDENTIFY, ILLEGAL_ADDRESS)
    return ReadDeviceInformationResponse(code, dict(chosen))
