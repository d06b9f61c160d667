"""What a TCP connection has cost on the air so far, both ways, as the kernel counts it (Linux, tcp(7), TCP_INFO).

Bytes and segments, so that TLS, repeats, keep-alives and acknowledgements are in it; 52 bytes of headers per segment.
"""

from __future__ import annotations

import socket
import struct

HEADERS = 52  # IPv4 20, TCP 20, time stamps 12
_LENGTH = 208
_RECEIVED = struct.Struct("=128xQII")  # tcpi_bytes_received, tcpi_segs_out, tcpi_segs_in
_SENT = struct.Struct("=200xQ")  # tcpi_bytes_sent, since Linux 4.19


def wire_bytes(connection: socket.socket) -> int | None:
    """Return the bytes of this connection so far, None where the kernel does not tell."""
    option = getattr(socket, "TCP_INFO", None)
    if option is None:
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, option, _LENGTH)
    except OSError:
        return None
    if len(info) < _LENGTH:
        return None
    received, segments_out, segments_in = _RECEIVED.unpack_from(info)
    (sent,) = _SENT.unpack_from(info)
    return int(received + sent + HEADERS * (segments_out + segments_in))
