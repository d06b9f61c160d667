"""A box that puts a serial line on the network, as sold for rails: bytes as they are, or Modbus TCP turned into RTU.

transparent   what a connection says goes onto the line, what the line says to every connection
modbus        a question's frame becomes an RTU frame; the answer gets the question's number. One question at a time;
              who gets no answer in time gets none (some boxes answer with exception 11 instead: --says-so)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import struct
import tty
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from firmware.record import crc16
from simulators.errors import SimulatorError

HOST = "127.0.0.1"
HEADER = struct.Struct(">HHHB")
CHUNK_BYTES = 4096
NOBODY_ANSWERS = 11  # exception: gateway target device failed to respond
ANSWER_S = 1.0


class SerialServer:
    """Serves one line on one TCP port. Raises OSError from `start` when either cannot be had."""

    def __init__(self, line: Path, listen_port: int, modbus: bool = False, says_so: bool = False) -> None:
        self.port = listen_port
        self.counters: Counter[str] = Counter()
        self._line = line
        self._modbus, self._says_so = modbus, says_so
        self._fd = -1
        self._heard = bytearray()
        self._arrived = asyncio.Event()
        self._asking = asyncio.Lock()
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Open the line and listen."""
        self._fd = os.open(self._line, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._fd)
        asyncio.get_running_loop().add_reader(self._fd, self._on_line)
        self._server = await asyncio.start_server(self._serve, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End all connections and let go of the line."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.transport.abort()
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def _on_line(self) -> None:
        data = os.read(self._fd, CHUNK_BYTES)
        self.counters["line_bytes"] += len(data)
        if self._modbus:
            self._heard += data
            self._arrived.set()
            return
        for connection in self._connections:
            connection.write(data)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counters["connections"] += 1
        self._connections.add(writer)
        try:
            await (self._convert(reader, writer) if self._modbus else self._pass_on(reader))
        except (OSError, asyncio.IncompleteReadError):
            self.counters["ended_in_mid_frame"] += 1
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(CHUNK_BYTES):
            os.write(self._fd, data)

    async def _convert(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            transaction, protocol, length, unit = HEADER.unpack(await reader.readexactly(HEADER.size))
            body = await reader.readexactly(length - 1)
            if protocol != 0:
                return
            async with self._asking:
                answer = await self._ask(unit, body)
            if answer is None and self._says_so:
                answer = bytes((body[0] | 0x80, NOBODY_ANSWERS))
            if answer is not None:
                writer.write(HEADER.pack(transaction, 0, len(answer) + 1, unit) + answer)
                await writer.drain()

    async def _ask(self, unit: int, body: bytes) -> bytes | None:
        """Return function and data of the answer on the line, None when none comes in time."""
        frame = bytes((unit,)) + body
        self._heard.clear()
        os.write(self._fd, frame + struct.pack("<H", crc16(frame)))
        self.counters["questions"] += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                while True:
                    self._arrived.clear()
                    await self._arrived.wait()
                    if len(self._heard) >= 4 and self._heard[0] == unit and crc16(self._heard) == 0:
                        return bytes(self._heard[1:-2])
        self.counters["unanswered"] += 1
        return None


async def run(server: SerialServer) -> None:
    """Serve until SIGTERM or SIGINT. Raises OSError when the line or the port cannot be had."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.start()
    typer.echo(json.dumps({"ready": True, "port": server.port}))
    await stop.wait()
    await server.stop()


def command(
    line: Annotated[Path, typer.Option(help="Serial line, such as a port of `tram-sim lines`.")],
    listen: Annotated[int, typer.Option(min=0, max=65535, help="TCP port, localhost only; 0: any free one.")] = 0,
    modbus: Annotated[
        bool, typer.Option("--modbus", help="Turn Modbus TCP into RTU; else bytes pass as they are.")
    ] = False,
    says_so: Annotated[
        bool, typer.Option("--says-so", help="Exception 11 where nobody answers; else silence.")
    ] = False,
) -> None:
    """Put a serial line on a TCP port, transparently or as a Modbus gateway.

    Example: tram-sim serial-server --line run/lines/uplink/gateway --listen 4001
    """
    try:
        asyncio.run(run(SerialServer(line, listen, modbus, says_so)))
    except (SimulatorError, OSError) as error:
        typer.echo(f"tram-sim serial-server: {error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(command)
