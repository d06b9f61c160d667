"""Several instruments on one RS-485 line, served by pymodbus so that a frame or a CRC we got wrong does fail.

    bytes on the pty -> pymodbus framer -> the instrument with that address -> its answer, some milliseconds later

Where instruments differ from pymodbus' well-behaved server: a request for nobody is met with silence, a write of no
registers is an order, one reply has a byte count that is not true, and a pause on the line ends a broken frame.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pymodbus.constants import ExcCodes
from pymodbus.datastore import ModbusServerContext
from pymodbus.exceptions import NoSuchIdException
from pymodbus.framer import FramerType
from pymodbus.pdu import ExceptionResponse, ModbusPDU
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadHoldingRegistersResponse,
    WriteMultipleRegistersRequest,
    WriteMultipleRegistersResponse,
    WriteSingleRegisterRequest,
    WriteSingleRegisterResponse,
)
from pymodbus.server import ModbusSerialServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import DataType, SimData, SimDevice
from pymodbus.simulator.simcore import SimCore

from simulators.errors import SimulatorError
from simulators.instruments import Instrument, NoAnswer, Refused, YosemitechY520
from simulators.noise import uniform

_FUNCTIONS = (3, 4, 6, 16)
_FRAME_PAUSE_S = 0.1
_LATENCY_S = (0.010, 0.040)
_REOPEN_S = 0.25


Heard = Callable[[Instrument, int, Sequence[int]], None]
"""Told of every answer: who gave it, first register, registers."""


class PortMissing(SimulatorError):
    """The line's port is not there; start `tram-sim lines` first, or correct the path."""


class _Instruments(SimCore):
    """What pymodbus asks for registers: hands the question to the instrument it is meant for."""

    def __init__(self, instruments: Sequence[Instrument], heard: Heard) -> None:
        self._instruments = instruments
        self._heard = heard

    def find(self, device_id: int) -> Instrument:
        """Return the instrument with this address. Raises NoSuchIdException, which pymodbus answers with silence."""
        for instrument in self._instruments:
            if instrument.answers_to(device_id):
                return instrument
        raise NoSuchIdException(f"nobody has address {device_id}")

    async def async_getValues(  # noqa: N802 - pymodbus names it
        self, device_id: int, func_code: int, address: int, count: int = 1
    ) -> list[int] | list[bool] | ExcCodes:
        try:
            instrument = self.find(device_id)
            registers = instrument.read(func_code, address, count)
        except Refused as refused:
            return ExcCodes(refused.code)
        except NoAnswer:
            raise NoSuchIdException("the instrument keeps silent") from None
        self._heard(instrument, address, registers)
        return registers

    async def async_setValues(  # noqa: N802 - pymodbus names it
        self, device_id: int, func_code: int, address: int, values: Sequence[int] | Sequence[bool]
    ) -> ExcCodes | None:
        try:
            self.find(device_id).write(func_code, address, [int(value) for value in values])
        except Refused as refused:
            return ExcCodes(refused.code)
        except NoAnswer:
            raise NoSuchIdException("the instrument keeps silent") from None
        return None


class _StopResponse(ReadHoldingRegistersResponse):
    """Yosemitech's reply to "stop": it says 0 bytes and sends 2."""

    def encode(self) -> bytes:
        return b"\0" + b"".join(register.to_bytes(2, "big") for register in self.registers)


class _ReadRequest(ReadHoldingRegistersRequest):
    async def datastore_update(self, context: ModbusServerContext, device_id: int) -> ModbusPDU:
        response = await super().datastore_update(context, device_id)
        if self.address != YosemitechY520.STOP or not isinstance(response, ReadHoldingRegistersResponse):
            return response
        return _StopResponse(registers=response.registers, dev_id=device_id)


class _WriteRequest(WriteMultipleRegistersRequest):
    async def datastore_update(self, context: ModbusServerContext, device_id: int) -> ModbusPDU:
        if self.count or self.byte_count:
            return await super().datastore_update(context, device_id)
        refused = await context.async_setValues(device_id, self.function_code, self.address, [])
        if refused:
            return ExceptionResponse(self.function_code, refused)
        return WriteMultipleRegistersResponse(address=self.address, count=0, dev_id=device_id)


class _WriteOneRequest(WriteSingleRegisterRequest):
    """Confirmed by its own words: an order need not be a register that can be read back, as pymodbus does."""

    async def datastore_update(self, context: ModbusServerContext, device_id: int) -> ModbusPDU:
        refused = await context.async_setValues(device_id, self.function_code, self.address, self.registers)
        if refused:
            return ExceptionResponse(self.function_code, refused)
        return WriteSingleRegisterResponse(address=self.address, registers=self.registers, dev_id=device_id)


class _Line(ServerRequestHandler):
    """One opened port: ends broken frames after a pause, answers after the instrument's own latency."""

    server: _Server
    _last_bytes_at = 0.0

    def data_received(self, data: bytes) -> None:
        now = self.loop.time()
        if now - self._last_bytes_at > _FRAME_PAUSE_S:
            self.recv_buffer = b""
        self._last_bytes_at = now
        super().data_received(data)

    async def handle_request(self) -> None:
        # a frame of another kind, such as the tail of somebody's exception, is not a question
        if self.last_pdu and self.last_pdu.function_code in _FUNCTIONS:
            await super().handle_request()  # type: ignore[no-untyped-call]  # pymodbus has no types here

    def server_send(self, pdu: ModbusPDU, addr: tuple[str, int] | None) -> None:
        if self.server.would_send(pdu):
            self.loop.call_later(self.server.next_latency_s(pdu.dev_id), self._send, pdu, addr)

    def _send(self, pdu: ModbusPDU, addr: tuple[str, int] | None) -> None:
        if self.transport:
            self.pdu_send(pdu, addr=addr)

    def callback_disconnected(self, exc: Exception | None) -> None:
        super().callback_disconnected(exc)
        self.server.lost.set()


class _Server(ModbusSerialServer):
    """A pymodbus serial server whose registers are instruments."""

    def __init__(self, port: Path, instruments: Sequence[Instrument], seed: int, heard: Heard) -> None:
        nothing = SimDevice(id=0, simdata=SimData(0, datatype=DataType.REGISTERS))
        super().__init__(
            nothing,
            framer=FramerType.RTU,
            port=str(port),
            baudrate=9600,
            ignore_missing_devices=True,
            custom_pdu=[_ReadRequest, _WriteRequest, _WriteOneRequest],
        )
        self._instruments = self.context = _Instruments(instruments, heard)
        self.decoder.pdu_table = {code: self.decoder.pdu_table[code] for code in _FUNCTIONS}
        self.lost = asyncio.Event()
        self._seed = seed
        self._answers: Counter[int] = Counter()

    def callback_new_connection(self) -> _Line:
        """Return the handler of the newly opened port."""
        return _Line(self, None, None, None)  # type: ignore[no-untyped-call]  # nor here

    def would_send(self, pdu: ModbusPDU) -> bool:
        """Say whether an instrument exists that would say this: pymodbus itself refuses what it cannot decode."""
        try:
            instrument = self._instruments.find(pdu.dev_id)
        except NoSuchIdException:
            return False
        return instrument.sends_exceptions or not pdu.isError()

    def next_latency_s(self, device_id: int) -> float:
        """Return how long this instrument thinks about its next answer."""
        self._answers[device_id] += 1
        low, high = _LATENCY_S
        return low + (high - low) * float(uniform(self._seed, f"latency {device_id}", self._answers[device_id]))


class InstrumentBus:
    """Serves instruments on one port for as long as `run` runs; opens the port again when the line comes back."""

    def __init__(
        self, port: Path, instruments: Iterable[Instrument], seed: int, heard: Heard = lambda *_: None
    ) -> None:
        self.port = port
        self._heard = heard
        self._instruments = list(instruments)
        self._seed = seed
        self.serving = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            server = _Server(self.port, self._instruments, self._seed, self._heard)
            try:
                # pymodbus reports any failure to open the port by this one exception
                with contextlib.suppress(RuntimeError):
                    await server.serve_forever(background=True)
                    self.serving.set()
                    await server.lost.wait()
            finally:
                self.serving.clear()
                await server.shutdown()  # type: ignore[no-untyped-call]  # nor here
            await asyncio.sleep(_REOPEN_S)

    async def wait_until_serving(self, timeout_s: float) -> None:
        """Return once the port is open. Raises PortMissing."""
        try:
            await asyncio.wait_for(self.serving.wait(), timeout_s)
        except TimeoutError:
            raise PortMissing(
                f"{self.port}: cannot be opened as a serial port; start `tram-sim lines` first, or correct the path"
            ) from None
