"""A TCP link that can fail: what connects to --listen reaches --to, until the link is cut, slow, or swallows all.

cut        live connections are reset and new ones refused, as when a modem loses its network
blackhole  connections stay up and nothing gets through, as behind a lost route; connections that missed bytes are
           reset when it ends, because TCP has no holes
delay_ms   every byte comes this much later, each way
bit_errors share of bits flipped on the way. TCP throws a damaged segment away and sends it again, later each time, so
           what gets here is never damaged and comes late; at 1 % hardly anything comes
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import struct
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from simulators import control
from simulators.errors import SimulatorError

LISTEN_HOST = "127.0.0.1"
CHUNK_BYTES = 64 * 1024
QUEUE_CHUNKS = 64  # in flight per direction; when full the sender waits, as at a full pipe
CONNECT_TIMEOUT_S = 10.0
SEGMENT_BYTES, HEADER_BYTES = 1460, 40
FIRST_RETRY_S, LONGEST_RETRY_S = 0.2, 60.0  # TCP's own: RFC 6298 as Linux does it
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Queue = asyncio.Queue[tuple[float, bytes]]


class LinkFaults(BaseModel):
    """The link's condition, and what a request may change of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cut: StrictBool = False
    blackhole: StrictBool = False
    delay_ms: Annotated[float, Field(ge=0, le=600_000, allow_inf_nan=False)] = 0.0
    bit_errors: Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)] = 0.0


class Connection:
    """One connection through the link: two directions, and what they have missed."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.missed_bytes = 0
        self.carrying: asyncio.Task[None] | None = None
        self._writers = (near, far)

    def reset(self) -> None:
        """End it at once, with a reset to both sides."""
        for writer in self._writers:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()
        if self.carrying is not None:
            self.carrying.cancel()

    def close(self) -> None:
        """End it after what was written has gone out."""
        for writer in self._writers:
            writer.close()


class Forwarder:
    """Listens, forwards, and fails as told."""

    def __init__(self, listen_port: int, to_host: str, to_port: int) -> None:
        self.port = listen_port
        self.faults = LinkFaults()
        self.counters: Counter[str] = Counter()
        self._to_host, self._to_port = to_host, to_port
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._tasks = control.Tasks()
        self._following = asyncio.Lock()
        self._chance = random.Random(listen_port)  # noqa: S311 - what is damaged need not be secret

    async def follow(self) -> None:
        """Make the link what its faults say. Raises OSError when the port cannot be had."""
        async with self._following:
            if self.faults.cut:
                self.close()
            elif self._server is None:
                self._server = await asyncio.start_server(
                    lambda *streams: self._tasks.start(self._accept(*streams)), LISTEN_HOST, self.port
                )
                self.port = self._server.sockets[0].getsockname()[1]
            if not self.faults.blackhole:
                for connection in [c for c in self._connections if c.missed_bytes]:
                    connection.reset()

    def close(self) -> None:
        """Refuse new connections and reset the live ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            connection.reset()

    async def stop(self) -> None:
        """Close, and wait until every connection has ended."""
        self.close()
        await self._tasks.cancel()

    async def change(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request of the control socket; return the status. Raises SimulatorError."""
        if request != {"status": True}:
            try:
                self.faults = LinkFaults.model_validate(self.faults.model_dump() | request)
                await self.follow()
            except ValidationError as error:
                faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
                raise SimulatorError("; ".join(faults)) from None
            except OSError as error:
                raise SimulatorError(f"cannot listen on port {self.port}: {error.strerror}") from error
        return {**self.faults.model_dump(), "connections": len(self._connections), "counters": dict(self.counters)}

    async def _accept(self, near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        self.counters["accepted"] += 1
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                far_reader, far = await asyncio.open_connection(self._to_host, self._to_port)
        except asyncio.CancelledError:
            near.transport.abort()
            raise
        except (OSError, TimeoutError):
            self.counters["far_end_refused"] += 1
            near.transport.abort()
            return
        connection = Connection(near, far)
        if self.faults.cut:  # it came while we were reaching the far end
            connection.reset()
            return
        self._connections.add(connection)
        connection.carrying = asyncio.create_task(self._carry_both(connection, near_reader, near, far_reader, far))
        try:
            await asyncio.wait([connection.carrying])
        finally:
            connection.carrying.cancel()
            connection.close()
            self._connections.discard(connection)

    async def _carry_both(
        self,
        connection: Connection,
        near_reader: asyncio.StreamReader,
        near: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far: asyncio.StreamWriter,
    ) -> None:
        up, down = Queue(QUEUE_CHUNKS), Queue(QUEUE_CHUNKS)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive(near_reader, up), name="up, in")
                group.create_task(self._deliver(connection, up, far), name="up, out")
                group.create_task(self._receive(far_reader, down), name="down, in")
                group.create_task(self._deliver(connection, down, near), name="down, out")
        except* OSError:  # one side is gone, so the other goes too
            connection.reset()

    async def _receive(self, reader: asyncio.StreamReader, queue: Queue) -> None:
        """Queue what arrives with the time it is due; empty bytes are the end."""
        data = b"begin"
        while data:
            data = await reader.read(CHUNK_BYTES)
            await self._lose_segments(len(data))
            await queue.put((asyncio.get_running_loop().time() + self.faults.delay_ms / 1000.0, data))

    async def _lose_segments(self, size_bytes: int) -> None:
        """Wait as TCP does while a segment of this size is damaged and sent again: 0.2 s, 0.4 s, … at most a minute."""
        retry_s = FIRST_RETRY_S
        while self._chance.random() < damaged_share(self.faults.bit_errors, size_bytes):
            self.counters["damaged_segments"] += 1
            await self._mended_or(retry_s)
            retry_s = min(LONGEST_RETRY_S, 2 * retry_s)

    async def _mended_or(self, wait_s: float) -> None:
        until = asyncio.get_running_loop().time() + wait_s
        while self.faults.bit_errors and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(min(FIRST_RETRY_S, wait_s))

    async def _deliver(self, connection: Connection, queue: Queue, writer: asyncio.StreamWriter) -> None:
        data = b"begin"
        while data:
            due, data = await queue.get()
            wait_s = due - asyncio.get_running_loop().time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            if self.faults.blackhole or connection.missed_bytes:
                connection.missed_bytes += len(data) or 1  # an end that is not told is missed too
                self.counters["swallowed_bytes"] += len(data)
            elif data:
                writer.write(data)
                await writer.drain()
                self.counters["forwarded_bytes"] += len(data)
            elif writer.can_write_eof():
                writer.write_eof()


def damaged_share(bit_errors: float, size_bytes: int) -> float:
    """Return the share of segments with so many bytes (of a chunk, or a full one of 1460) that have a wrong bit."""
    bits = 8 * (min(size_bytes, SEGMENT_BYTES) + HEADER_BYTES)
    return 1.0 - (1.0 - bit_errors) ** bits


async def run(forwarder: Forwarder, control_socket: Path) -> None:
    """Forward until SIGTERM or SIGINT. Raises ControlError, or OSError when the port cannot be had."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await forwarder.follow()
    try:
        async with control.serve(control_socket, forwarder.change):
            typer.echo(json.dumps({"ready": True, "port": forwarder.port}))
            await stop.wait()
    finally:
        await forwarder.stop()


class Link:
    """A running `tram-sim link`, from outside. Raises ControlError when it cannot be reached."""

    def __init__(self, control_socket: Path) -> None:
        self._control_socket = control_socket

    def cut(self, on: bool) -> None:
        """Reset live connections and refuse new ones; or let them in again."""
        control.ask(self._control_socket, {"cut": on})

    def blackhole(self, on: bool) -> None:
        """Swallow everything silently; or no longer."""
        control.ask(self._control_socket, {"blackhole": on})

    def delay(self, delay_ms: float) -> None:
        """Make every byte arrive this much later, each way."""
        control.ask(self._control_socket, {"delay_ms": delay_ms})

    def bit_errors(self, share: float) -> None:
        """Flip this share of the bits on the way."""
        control.ask(self._control_socket, {"bit_errors": share})

    def status(self) -> dict[str, Any]:
        """Return {"cut", "blackhole", "delay_ms", "connections", "counters": {name: count}}."""
        return control.ask(self._control_socket, {"status": True})


def parse_address(text: str) -> tuple[str, int]:
    """Return (host, port) from HOST:PORT. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"--to {text}: expected HOST:PORT")
    return host.strip("[]"), int(port)


def command(
    listen: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on, localhost only; 0: any free one.")],
    to: Annotated[str, typer.Option(help="HOST:PORT behind the link.")],
    control_socket: Annotated[Path, typer.Option("--control", help="Unix socket to control it by.")],
) -> None:
    """Run a TCP link that can be cut, slowed down, or turned into a black hole.

    Example: tram-sim link --listen 1884 --to 127.0.0.1:1883 --control link.sock
    """
    try:
        host, port = parse_address(to)
    except ValueError as error:
        typer.echo(f"tram-sim link: {error}", err=True)
        raise typer.Exit(2) from None
    try:
        asyncio.run(run(Forwarder(listen, host, port), control_socket))
    except (SimulatorError, OSError) as error:
        typer.echo(f"tram-sim link: {error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(command)
