"""The relay that is a board's plug on a real bench, as its maker documents it. Contact closed: the board has power.

lcus    a USB relay board LCUS-1…8: A0, channel, 1 or 0, and the sum of the three, at 9600 baud; it never answers
modbus  a Modbus RTU relay board: function 5, coil n, FF00 on, 0000 off; it repeats what it was told

    --relay /dev/ttyUSB3          LCUS, channel 1          --relay lcus:/dev/ttyUSB3#2       channel 2
    --relay modbus:/dev/ttyUSB3   address 1, coil 0        --relay modbus:/dev/ttyUSB3#4     coil 4
"""

from __future__ import annotations

import re
from typing import Protocol

import serial
from pymodbus import FramerType
from pymodbus.client import ModbusSerialClient
from pymodbus.exceptions import ModbusException

from simulators.errors import SimulatorError

BAUD = 9600
LCUS_START = 0xA0
MODBUS_ADDRESS = 1
ANSWER_S, RETRIES = 0.5, 2
_SPELLING = re.compile(r"(?:(lcus|modbus):)?(?!lcus:|modbus:)([^#]+?)(?:#(\d{1,3}))?")


class RelayError(SimulatorError):
    """The relay was not switched, as far as can be known; the text says where and why."""


class Relay(Protocol):
    """One contact."""

    def switch(self, closed: bool) -> None:
        """Close or open it. Raises RelayError; may be tried again after it."""


def parse_relay(text: str) -> Relay:
    """Return the relay of a `--relay` option; nothing is opened yet. Raises ValueError."""
    match = _SPELLING.fullmatch(text)
    if match is None:
        raise ValueError(f"--relay {text}: expected PORT, lcus:PORT#CHANNEL or modbus:PORT#COIL")
    kind, port, number = match[1] or "lcus", match[2], match[3]
    if kind == "modbus":
        return ModbusRelay(port, int(number or 0))
    if number is not None and not 1 <= int(number) <= 8:
        raise ValueError(f"--relay {text}: an LCUS board has channels 1 to 8")
    return LcusRelay(port, int(number or 1))


def lcus_order(channel: int, closed: bool) -> bytes:
    """Return the four bytes that switch a channel."""
    order = bytes((LCUS_START, channel, int(closed)))
    return order + bytes((sum(order) & 0xFF,))


class LcusRelay:
    """One channel of an LCUS board. That the port takes the bytes is all that can be known."""

    def __init__(self, port: str, channel: int = 1) -> None:
        self._port, self._channel = port, channel

    def switch(self, closed: bool) -> None:
        """Close or open it; the port is let go of afterwards."""
        try:
            with serial.Serial(self._port, BAUD, timeout=ANSWER_S, write_timeout=ANSWER_S) as port:
                port.write(lcus_order(self._channel, closed))
                port.flush()
        except (serial.SerialException, OSError) as error:
            raise RelayError(f"relay at {self._port}: {error}; check the port and the rights to it") from None


class ModbusRelay:
    """One coil of a Modbus relay board. What it does not repeat is asked again."""

    def __init__(self, port: str, coil: int = 0, address: int = MODBUS_ADDRESS) -> None:
        self._port, self._coil, self._address = port, coil, address

    def switch(self, closed: bool) -> None:
        """Close or open it; the port is let go of afterwards."""
        client = ModbusSerialClient(self._port, framer=FramerType.RTU, baudrate=BAUD, timeout=ANSWER_S, retries=RETRIES)
        try:
            answer = client.write_coil(self._coil, closed, device_id=self._address)
        except (ModbusException, OSError) as error:
            raise RelayError(
                f"relay board {self._address} at {self._port}: {error}; check wiring and address"
            ) from None
        finally:
            client.close()  # type: ignore[no-untyped-call]  # pymodbus has no types here
        if answer.isError():
            raise RelayError(f"relay board {self._address} at {self._port} refuses coil {self._coil}: {answer}")
