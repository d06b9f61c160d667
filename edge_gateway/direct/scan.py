"""Who is on a line: every address is asked once, whoever answers is asked what it is.

The first question is for one holding register: whatever speaks Modbus answers it, with a value or with a refusal. Our
stations are known by the beginning of their register map; others are asked for their identification (FC 43/14).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from edge_gateway.direct.clients import RtuInstruments, TcpInstruments
from edge_gateway.station_protocol import MAGIC, STATION_ID_COUNT, STATION_ID_REGISTER
from firmware import rtu
from firmware.errors import BadAnswer, BusError, NoAnswer, Refused
from firmware.patience import Patience

STATION, DEVICE, GARBLED = "station", "device", "garbled"
VERSION_REGISTER, VERSION_COUNT = 28, 3
OBJECTS = ("vendor", "product", "revision")

ScanClient = RtuInstruments | TcpInstruments


@dataclass(frozen=True)
class Found:
    """Somebody at an address. `identification` as it says itself; `kind` is station, device or garbled."""

    address: int
    kind: str
    station: str | None = None
    version: str | None = None
    identification: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    def in_words(self) -> str:
        """Return what it is."""
        if self.kind == STATION:
            return f"station {self.station}, firmware {self.version}"
        if self.kind == GARBLED:
            return "answers that cannot be read: another baud rate or parity, or two devices with this address"
        told = ", ".join(f"{name} {text}" for name, text in self.identification.items())
        return f"Modbus device: {told}" if told else "Modbus device that does not say what it is"


def scan(client: ScanClient, addresses: range, timeout_ms: int, tell: Callable[[int], None]) -> Iterator[Found]:
    """Yield who answers, in order; `tell` hears each address before it is asked."""
    for address in addresses:
        tell(address)
        found = _look_at(_Asker(client, address, timeout_ms))
        if found is not None:
            yield found


class _Asker:
    """Questions to one address."""

    def __init__(self, client: ScanClient, address: int, timeout_ms: int) -> None:
        self.address = address
        self._client = client
        self._patience = Patience(timeout_ms)

    def read(self, function: int, register: int, count: int, retries: int = 0) -> list[int]:
        """Return registers. Raises BusError."""
        request = rtu.read_request(self.address, function, register, count)
        data = bytes(self._client.ask_now(request, self._patience, retries))
        if len(data) != 2 * count:
            raise BadAnswer(f"address {self.address}: {len(data)} bytes for {count} registers")
        return list(struct.unpack(f">{count}H", data))

    def identify(self) -> dict[str, str]:
        """Return the basic identification. Raises BusError."""
        return _objects(bytes(self._client.ask_now(rtu.identify_request(self.address), self._patience, 0)))


def _look_at(asker: _Asker) -> Found | None:
    try:
        asker.read(rtu.READ_HOLDING, 0, 1)
    except Refused:
        pass
    except BadAnswer:
        return Found(asker.address, GARBLED)
    except NoAnswer:
        return None
    return _station(asker) or Found(asker.address, DEVICE, identification=_identification(asker))


def _station(asker: _Asker) -> Found | None:
    try:
        if asker.read(rtu.READ_INPUT, 0, 2, retries=1)[0] != MAGIC:
            return None
        name = asker.read(rtu.READ_INPUT, STATION_ID_REGISTER, STATION_ID_COUNT, retries=1)
        version = asker.read(rtu.READ_INPUT, VERSION_REGISTER, VERSION_COUNT, retries=1)
    except BusError:
        return None
    station = struct.pack(f">{STATION_ID_COUNT}H", *name).rstrip(b"\0").decode("ascii", "backslashreplace")
    return Found(asker.address, STATION, station, ".".join(map(str, version)))


def _identification(asker: _Asker) -> dict[str, str]:
    try:
        return asker.identify()
    except BusError:
        return {}


def _objects(data: bytes) -> dict[str, str]:
    """Return the objects of an answer: MEI, code, conformity, more, next, number, then id, length, text each."""
    found, at = {}, 6
    for _ in range(data[5] if len(data) > 5 else 0):
        if len(data) < at + 2 or len(data) < at + 2 + data[at + 1]:
            break
        text = data[at + 2 : at + 2 + data[at + 1]].decode("utf-8", "backslashreplace").strip("\0 ")
        if data[at] < len(OBJECTS) and text:
            found[OBJECTS[data[at]]] = text
        at += 2 + data[at + 1]
    return found
