"""Relays for a siren, each as its maker documents it. A relay that cannot be switched says so with RelayError.

gpio    a line of a Linux GPIO chip, by libgpiod (the line falls back when the program ends, as the board is wired)
modbus  a Modbus RTU relay board: function 5, coil n, FF00 on, 0000 off. With `flash`, coil 0x0200 + n and a value in
        tenths of a second: the board switches off by itself (Waveshare "Modbus RTU Relay", development protocol V2)
lcus    a USB relay board LCUS-1…8: A0, channel, 1 or 0, and the sum of the three, at 9600 baud
"""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Protocol

import serial
from pymodbus import FramerType
from pymodbus.client import ModbusSerialClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu.bit_message import WriteSingleCoilRequest

from edge_gateway.errors import RelayError
from edge_gateway.warning_configuration import (
    GpioRelayConfiguration,
    LcusRelayConfiguration,
    ModbusRelayConfiguration,
    RelayConfiguration,
)

LCUS_BAUD, LCUS_START = 9600, 0xA0
FLASH_COILS, FLASH_TENTHS_AT_MOST = 0x0200, 0x7FFF
ANSWER_S = 1.0


class Relay(Protocol):
    """One contact. Every method raises RelayError, and may be tried again after it."""

    def on(self, for_s: float) -> None:
        """Close the contact; a relay that can, opens it by itself after `for_s`."""

    def off(self) -> None:
        """Open the contact."""

    def close(self) -> None:
        """Let go of it; open the contact before."""


def make_relay(configuration: RelayConfiguration) -> Relay:
    """Return the relay; nothing is opened yet."""
    if isinstance(configuration, GpioRelayConfiguration):
        return GpioRelay(configuration)
    if isinstance(configuration, ModbusRelayConfiguration):
        return ModbusRelay(configuration)
    return LcusRelay(configuration)


class GpioRelay:
    """A line of a GPIO chip, held while it is used so that nobody else takes it."""

    def __init__(self, configuration: GpioRelayConfiguration) -> None:
        import gpiod  # only where a relay hangs on a GPIO: elsewhere the library need not be there

        self._configuration = configuration
        self._gpiod = gpiod
        self._request: gpiod.LineRequest | None = None

    def on(self, for_s: float) -> None:
        """Switch the line active."""
        self._set(active=True)

    def off(self) -> None:
        """Switch the line inactive."""
        self._set(active=False)

    def close(self) -> None:
        """Give the line back."""
        if self._request is not None:
            self._request.release()
            self._request = None

    def _set(self, *, active: bool) -> None:
        line, configuration = self._gpiod.line, self._configuration
        value = line.Value.ACTIVE if active else line.Value.INACTIVE
        try:
            if self._request is None:
                settings = self._gpiod.LineSettings(
                    direction=line.Direction.OUTPUT, active_low=configuration.active_low, output_value=value
                )
                self._request = self._gpiod.request_lines(
                    configuration.chip, consumer="tram-gateway", config={configuration.line: settings}
                )
            else:
                self._request.set_value(configuration.line, value)
        except (OSError, ValueError) as error:
            with suppress(OSError):
                self.close()
            raise RelayError(
                f"{configuration.chip} line {configuration.line}: {error}; look with `gpioinfo`, and at the rights"
            ) from None


class ModbusRelay:
    """One coil of a relay board at a port of its own."""

    def __init__(self, configuration: ModbusRelayConfiguration) -> None:
        self._configuration = configuration
        self._client = ModbusSerialClient(
            configuration.port, framer=FramerType.RTU, baudrate=configuration.baud, timeout=ANSWER_S, retries=1
        )

    def on(self, for_s: float) -> None:
        """Close the contact; with `flash` the board opens it itself."""
        coil, board = self._configuration.coil, self._configuration.address
        if self._configuration.flash:
            tenths = min(max(1, round(for_s * 10)), FLASH_TENTHS_AT_MOST)
            self._write(_Flash(address=FLASH_COILS + coil, bits=[True], dev_id=board, tenths=tenths))
        else:
            self._write(WriteSingleCoilRequest(address=coil, bits=[True], dev_id=board))

    def off(self) -> None:
        """Open the contact, and leave the port to others."""
        configuration = self._configuration
        self._write(WriteSingleCoilRequest(address=configuration.coil, bits=[False], dev_id=configuration.address))
        self.close()

    def close(self) -> None:
        """Let go of the port."""
        self._client.close()  # type: ignore[no-untyped-call]  # pymodbus has no types here

    def _write(self, request: WriteSingleCoilRequest) -> None:
        try:
            answer = self._client.execute(False, request)
        except (ModbusException, OSError) as error:
            self._client.close()  # type: ignore[no-untyped-call]  # nor here
            raise self._failed(str(error)) from None
        if answer.isError():
            raise self._failed(f"it refuses: {answer}")

    def _failed(self, why: str) -> RelayError:
        configuration = self._configuration
        return RelayError(
            f"relay board {configuration.address} at {configuration.port}: {why}; check wiring, address and baud"
        )


class LcusRelay:
    """One channel of an LCUS board. It gives no answer: that the port takes the bytes is all that can be known."""

    def __init__(self, configuration: LcusRelayConfiguration) -> None:
        self._configuration = configuration
        self._port: serial.Serial | None = None

    def on(self, for_s: float) -> None:
        """Close the contact."""
        self._write(1)

    def off(self) -> None:
        """Open the contact, and leave the port to others."""
        self._write(0)
        self.close()

    def close(self) -> None:
        """Let go of the port."""
        port, self._port = self._port, None
        if port is not None:
            with suppress(OSError):
                port.close()

    def _write(self, state: int) -> None:
        head = bytes((LCUS_START, self._configuration.channel, state))
        try:
            if self._port is None:
                self._port = serial.Serial(
                    self._configuration.port, LCUS_BAUD, timeout=ANSWER_S, write_timeout=ANSWER_S, exclusive=True
                )
            self._port.write(head + bytes((sum(head) & 0xFF,)))
            self._port.flush()
        except (OSError, ValueError) as error:
            self.close()
            raise RelayError(
                f"relay board at {self._configuration.port}: {error}; check that it is plugged in"
            ) from None


class _Flash(WriteSingleCoilRequest):
    """Write single coil with a time where the standard has FF00."""

    def __init__(self, *, address: int, bits: list[bool], dev_id: int, tenths: int) -> None:
        super().__init__(address=address, bits=bits, dev_id=dev_id)
        self._tenths = tenths

    def encode(self) -> bytes:
        """Return coil and time."""
        return struct.pack(">HH", self.address, self._tenths)
