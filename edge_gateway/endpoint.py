"""What the `port` of a line means: a serial port, a Modbus TCP server, or RTU frames through a TCP connection."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

MODBUS_TCP_PORT = 502


class Framing(Enum):
    """How questions and answers lie in the bytes."""

    RTU = "Modbus RTU"
    TCP = "Modbus TCP"


@dataclass(frozen=True)
class Endpoint:
    """What a line's `port` says. `host` is empty for a serial port."""

    framing: Framing
    device: str
    host: str = ""
    tcp_port: int = 0


def parse_port(text: str) -> Endpoint:
    """Return what a port means: /dev/ttyUSB0, tcp://10.0.0.5:502 or rtu+tcp://10.0.0.6:4001. Raises ValueError."""
    if "://" not in text:
        return Endpoint(Framing.RTU, text)
    parts = urlsplit(text)
    framing = {"tcp": Framing.TCP, "rtu+tcp": Framing.RTU}.get(parts.scheme)
    if framing is None:
        raise ValueError("a port is a device, tcp://HOST:PORT (Modbus TCP) or rtu+tcp://HOST:PORT (RTU through TCP)")
    port = (
        parts.port if framing is Framing.RTU else parts.port or MODBUS_TCP_PORT
    )  # raises ValueError for what is no port
    if not parts.hostname or not port or parts.path or parts.query or parts.username:
        raise ValueError(f"expected {parts.scheme}://HOST:PORT, nothing before and behind it")
    return Endpoint(framing, text, parts.hostname, port)
