"""Publishes batches with QoS 1 over plain sockets, as fast as the broker acknowledges them, or --per-second of them; a
process of its own.

It prints "ready", waits for a line, publishes, and prints when it began (monotonic clock).

python -m benchmarks.load.publisher --port 1883 --size 600 --records 600000 --stations 50
"""

from __future__ import annotations

import argparse
import socket
import struct
import sys
import threading
import time

from benchmarks.load.records import messages

CONNECTIONS = 4
WINDOW = 100  # messages that a connection has not had acknowledged
_PUBACK_SIZE = 4


def _length(number: int) -> bytes:
    encoded = bytearray()
    while True:
        number, digit = divmod(number, 128)
        encoded.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(encoded)


def _text(words: str) -> bytes:
    return struct.pack(">H", len(words.encode())) + words.encode()


def _connect(port: int, client_id: str) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = _text("MQTT") + bytes((4, 2, 0, 0)) + _text(client_id)  # 3.1.1, clean session, no keepalive
    link.sendall(b"\x10" + _length(len(body)) + body)
    if link.recv(4) != b"\x20\x02\x00\x00":
        raise SystemExit("the broker refuses")
    return link


def _packets(size: int, records: int, stations: int) -> list[bytes]:
    packets = []
    for number, (topic, payload) in enumerate(messages(size, records, stations)):
        body = _text(topic) + struct.pack(">H", number % 65_000 + 1) + payload
        packets.append(b"\x32" + _length(len(body)) + body)
    return packets


def _publish(link: socket.socket, packets: list[bytes]) -> None:
    """Send all, never more than WINDOW ahead of the acknowledgements."""
    acknowledged, sent, owed = 0, 0, 0
    while acknowledged < len(packets):
        room = acknowledged + WINDOW - sent
        if room >= WINDOW // 2 or sent == len(packets):
            link.sendall(b"".join(packets[sent : sent + room]))
            sent = min(sent + room, len(packets))
        owed += len(link.recv(65536))
        acknowledged += owed // _PUBACK_SIZE
        owed %= _PUBACK_SIZE


def _publish_slowly(link: socket.socket, packets: list[bytes], per_second: float) -> None:
    """Send them evenly, as many as are due ten times a second, and wait until those are acknowledged."""
    pause, sent, began_s = threading.Event(), 0, time.monotonic()
    while sent < len(packets):
        due = min(int((time.monotonic() - began_s) * per_second) + 1, len(packets), sent + WINDOW)
        if due > sent:
            _publish(link, packets[sent:due])
            sent = due
        pause.wait(0.1)


def main() -> None:
    """Publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("port", 1883), ("size", 600), ("records", 600_000), ("stations", 50)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--per-second", type=float, help="batches a second")
    options = parser.parse_args()
    packets = _packets(options.size, options.records, options.stations)
    links = [_connect(options.port, f"load-{at}") for at in range(CONNECTIONS)]
    print("ready", flush=True)
    sys.stdin.readline()
    print(time.monotonic(), flush=True)
    shares = [packets[at::CONNECTIONS] for at in range(CONNECTIONS)]
    slow = () if options.per_second is None else (options.per_second / CONNECTIONS,)
    publish = _publish_slowly if slow else _publish
    threads = [
        threading.Thread(target=publish, args=(link, share, *slow)) for link, share in zip(links, shares, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
