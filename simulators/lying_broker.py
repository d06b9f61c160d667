"""A broker that lies: it acknowledges messages and loses some, delivers others twice, late and out of order.

It stands between a client and a real broker and reads the MQTT packets (3.1.1 or 5) that pass. Only PUBLISH with QoS 1
is lied about, both ways: a message that is lost has been acknowledged to its sender.

    with LyingBroker(1883, Lies(lose=0.3, double=0.2, hold=0.2)) as liar:
        …                                    # connect to liar.port
        liar.told                            # how often it lied, by kind
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Self

PUBLISH, PUBACK, QOS_1 = 3, 4, 0x02
HELD_AT_MOST_S = 0.5


@dataclass(frozen=True)
class Lies:
    """How often, 0..1 each: lose an acknowledged message, deliver it twice, hold it back behind later ones."""

    lose: float = 0.0
    double: float = 0.0
    hold: float = 0.0
    seed: int = 1


class Packet(NamedTuple):
    """One MQTT control packet: its first byte, what follows the length, and all of it as it came."""

    first: int
    body: bytes
    raw: bytes

    @property
    def packet_id(self) -> bytes | None:
        """The two bytes of a QoS 1 PUBLISH's packet id; None for every other packet."""
        if self.first >> 4 != PUBLISH or self.first & 0x06 != QOS_1:
            return None
        topic_end = 2 + int.from_bytes(self.body[:2], "big")
        return self.body[topic_end : topic_end + 2]


async def read_packet(reader: asyncio.StreamReader) -> Packet:
    """Return the next packet. Raises asyncio.IncompleteReadError at the end."""
    head = await reader.readexactly(1)
    length, shift = 0, 0
    while True:
        byte = await reader.readexactly(1)
        head += byte
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            break
    body = await reader.readexactly(length)
    return Packet(head[0], body, head + body)


class LyingBroker:
    """Listens on 127.0.0.1 in a thread of its own while used as a context; `told` counts the lies."""

    def __init__(self, to_port: int, lies: Lies) -> None:
        self.port = 0
        self.told: Counter[str] = Counter()
        self._to_port = to_port
        self._lies = lies
        self._chance = random.Random(lies.seed)  # noqa: S311  a bench wants the same run again
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="lying broker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            with suppress(OSError, asyncio.CancelledError):
                await self._carry(reader, writer)
            tasks.discard(task)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        async with server:
            await self._stop.wait()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:
            writer.transport.abort()
            return
        ways = [
            asyncio.create_task(self._lie(reader, writer, far_writer, "up")),
            asyncio.create_task(self._lie(far_reader, far_writer, writer, "down")),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for one in (writer, far_writer):
                one.transport.abort()

    async def _lie(
        self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, forward: asyncio.StreamWriter, way: str
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                packet = await read_packet(reader)
            except (asyncio.IncompleteReadError, OSError):
                return
            kind = self._choose(packet)
            if kind != "truth":
                self.told[f"{kind} {way}"] += 1
            if kind == "lose" and packet.packet_id is not None:
                back.write(bytes((PUBACK << 4, 2)) + packet.packet_id)
            elif kind == "hold":
                loop.call_later(self._chance.uniform(0, HELD_AT_MOST_S), _write, forward, packet.raw)
            else:
                forward.write(packet.raw * (2 if kind == "double" else 1))
                await forward.drain()

    def _choose(self, packet: Packet) -> str:
        if packet.packet_id is None:
            return "truth"
        chance = self._chance.random()
        for kind, share in (("lose", self._lies.lose), ("double", self._lies.double), ("hold", self._lies.hold)):
            if chance < share:
                return kind
            chance -= share
        return "truth"


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not writer.is_closing():
        writer.write(data)
