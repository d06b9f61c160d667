"""paho-mqtt's client for many small messages: fewer system calls for each, nothing else.

paho asks the socket for a byte, a byte and the rest of each packet, asks the system before each packet whether there is
one, and wakes its thread for each acknowledgement. Here the socket is read as far as it has something, all packets of
one reading are handled in one go, and the acknowledgements of a transaction are one writing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode

READ_BYTES = 1 << 16
PACKETS_AT_ONCE = 1000  # then what is to be sent has its turn
_PUBACK = 0x40


class GreedySocket:
    """A socket that reads ahead; like TLS's, it says how much is `pending` that the system knows nothing of."""

    def __init__(self, under: Any) -> None:
        self._under = under
        self._ahead = b""
        self._at = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._under, name)

    def recv(self, most: int) -> bytes:
        """Return up to `most` bytes; empty at the end. Raises what the socket does where there is nothing now."""
        if self._at == len(self._ahead):
            self._ahead, self._at = b"", 0
            self._ahead = self._under.recv(READ_BYTES)
        part = self._ahead[self._at : self._at + most]
        self._at += len(part)
        return part

    def pending(self) -> int:
        """Return how many bytes can be had without asking the system."""
        own = len(self._ahead) - self._at
        return own or (int(self._under.pending()) if hasattr(self._under, "pending") else 0)


class BrokerClient(mqtt.Client):
    """paho's client, reading greedily; `acknowledge` in place of `ack`."""

    def acknowledge(self, mids: Iterable[int]) -> None:
        """Acknowledge messages of QoS 1 in one writing."""
        packets = b"".join(struct.pack("!BBH", _PUBACK, 2, mid) for mid in mids)
        if packets:
            self._packet_queue(_PUBACK, packets, 0, 1)

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Handle all packets of one reading."""
        for _ in range(PACKETS_AT_ONCE):
            said = super().loop_read(max_packets)
            if said != MQTTErrorCode.MQTT_ERR_SUCCESS or self._sock is None or not self._sock.pending():  # type: ignore[attr-defined]
                break
        return said

    def _create_socket(self) -> Any:
        return GreedySocket(super()._create_socket())
