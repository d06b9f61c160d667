"""RS-485 lines between programs: every port is a pseudo-terminal, what one writes all the others of its line hear.

    config.json: {"dir": "run/lines", "socket": "run/lines.sock", "baud": null, "seed": 1,
                  "lines": {"uplink": ["gateway", "xuan-hoa"], "bus-xuan-hoa": ["board", "instruments"]}}

makes run/lines/uplink/gateway and so on. Participants come and go as they like: both ends of every pseudo-terminal
stay open here. Faults (simulators.faults.line) are set while it runs: Lines(socket).set_fault("uplink", "cut", True),
or by JSON lines on the socket: {"line":"uplink","fault":"noise","on":0.1}, {"status":true}.
"""

from __future__ import annotations

import asyncio
import json
import os
import pty
import random
import signal
import tty
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import serial
import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simulators import control
from simulators.errors import SimulatorError
from simulators.faults.line import LineFaults, pass_chunk

BITS_PER_BYTE = 10  # start, eight data, stop
IN_FLIGHT_BYTES = 64 * 1024  # on one line, paced or delayed; what comes on top is lost and counted
CHUNK_BYTES = 4096

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class LinesConfiguration(BaseModel):
    """What lines there are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dir: Path
    socket: Path
    lines: dict[Name, Annotated[list[Name], Field(min_length=1)]]
    baud: Annotated[int, Field(ge=300, le=1_000_000)] | None = None
    """Bytes take 10/baud seconds; None: no time at all."""
    devices: dict[Name, dict[Name, Path]] = {}
    """Per line, participants behind a real serial port: an RS-485 adapter, with all that hangs on it."""
    device_baud: Annotated[int, Field(ge=300, le=1_000_000)] = 9600
    seed: int = 0


class Line:
    """One RS-485 pair and the ports on it."""

    def __init__(self, name: str, ports: dict[str, int], baud: int | None, seed: int) -> None:
        self.name = name
        self.faults = LineFaults()
        self.counters: Counter[str] = Counter()
        self._ports = ports
        self._byte_s = BITS_PER_BYTE / baud if baud else 0.0
        self._chance = random.Random(f"{seed}/{name}")  # noqa: S311 - the same seed must give the same faults
        self._free_at = 0.0
        self._arrives_at = 0.0
        self._in_flight = 0
        self._loop = asyncio.get_running_loop()

    def listen(self) -> None:
        """Begin to carry what the ports say."""
        for port, fd in self._ports.items():
            self._loop.add_reader(fd, self._on_bytes, port, fd)

    def silence(self) -> None:
        """Carry nothing more."""
        for fd in self._ports.values():
            self._loop.remove_reader(fd)

    def _on_bytes(self, sender: str, fd: int) -> None:
        try:
            chunk = os.read(fd, CHUNK_BYTES)
        except OSError:  # only a real port can go: an adapter was unplugged
            chunk = b""
        if not chunk:
            self._loop.remove_reader(fd)
            self.counters[f"gone {sender}"] += 1
            return
        self.counters["sent_chunks"] += 1
        self.counters["sent_bytes"] += len(chunk)
        passage = pass_chunk(self.faults, chunk, self._chance)
        self.counters.update(passage.reasons)
        if not passage.data:
            return
        if self._in_flight + len(passage.data) > IN_FLIGHT_BYTES:
            self.counters["overflow_bytes"] += len(passage.data)
            return
        self._send(sender, passage.data, passage.delay_s)

    def _send(self, sender: str, data: bytes, delay_s: float) -> None:
        now = self._loop.time()
        self._free_at = max(now, self._free_at) + len(data) * self._byte_s
        self._arrives_at = max(self._arrives_at, self._free_at + delay_s)  # nothing overtakes on a wire
        if self._arrives_at <= now and not self._in_flight:
            self._deliver(sender, data)
            return
        self._in_flight += len(data)
        self._loop.call_at(self._arrives_at, self._arrive, sender, data)

    def _arrive(self, sender: str, data: bytes) -> None:
        self._in_flight -= len(data)
        if self.faults.cut:
            self.counters["cut"] += 1
            return
        self._deliver(sender, data)

    def _deliver(self, sender: str, data: bytes) -> None:
        for port, fd in self._ports.items():
            if port == sender and not self.faults.echo:
                continue
            try:
                written = os.write(fd, data)
            except OSError:  # nobody has read there for 4 KiB: a receiver's buffer runs over; or an adapter is gone
                written = 0
            self.counters["delivered_bytes"] += written
            self.counters["unread_bytes"] += len(data) - written

    def status(self) -> dict[str, Any]:
        """Return the faults that are on, and the counters."""
        return {"faults": self.faults.as_dict(), "counters": dict(self.counters)}


@contextmanager
def terminals(directory: Path, ports: list[str]) -> Iterator[dict[str, int]]:
    """Make a pseudo-terminal per port, linked at directory/port; yield {port: our end}, and clean up."""
    directory.mkdir(parents=True, exist_ok=True)
    fds: dict[str, int] = {}
    with ExitStack() as undo:
        for port in ports:
            ours, theirs = pty.openpty()
            undo.callback(os.close, ours)
            undo.callback(os.close, theirs)  # kept open: a participant that leaves must not hang the terminal up
            tty.setraw(theirs)
            os.set_blocking(ours, False)
            link, new = directory / port, directory / f".{port}.{os.getpid()}"
            new.unlink(missing_ok=True)
            new.symlink_to(os.ttyname(theirs))
            new.replace(link)
            undo.callback(link.unlink, missing_ok=True)
            fds[port] = ours
        yield fds


@contextmanager
def adapters(devices: Mapping[str, Path], baud: int) -> Iterator[dict[str, int]]:
    """Open real serial ports; yield {participant: descriptor}. Raises SimulatorError that names the port."""
    with ExitStack() as undo:
        fds = {}
        for name, path in devices.items():
            try:
                port = undo.enter_context(serial.Serial(str(path), baud, timeout=0))
            except (serial.SerialException, OSError) as error:
                raise SimulatorError(f"{path}: {error}; is the adapter plugged in, and may you use it?") from None
            os.set_blocking(port.fileno(), False)
            fds[name] = port.fileno()
        yield fds


async def _change(lines: dict[str, Line], request: dict[str, Any]) -> dict[str, Any]:
    """Carry out one request of the control socket. Raises SimulatorError when it cannot be done."""
    if request.get("status"):
        return {"lines": {name: line.status() for name, line in lines.items()}}
    if set(request) != {"line", "fault", "on"}:
        raise SimulatorError('expected {"line":…,"fault":…,"on":…} or {"status":true}')
    line = lines.get(request["line"])
    if line is None:
        raise SimulatorError(f"no line {request['line']!r}; there are {', '.join(lines)}")
    line.faults = line.faults.with_fault(request["fault"], request["on"])
    return {"line": line.name, **line.status()}


async def run(configuration: LinesConfiguration) -> None:
    """Carry bytes until SIGTERM or SIGINT. Raises ControlError when the socket cannot be used."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with ExitStack() as stack:
        lines = {}
        for name, ports in configuration.lines.items():
            devices = configuration.devices.get(name, {})
            fds = stack.enter_context(terminals(configuration.dir / name, ports))
            fds |= stack.enter_context(adapters(devices, configuration.device_baud))
            line = lines[name] = Line(name, fds, configuration.baud, configuration.seed)
            line.listen()
            stack.callback(line.silence)
        async with control.serve(configuration.socket, lambda request: _change(lines, request)):
            typer.echo(json.dumps({"ready": True, "dir": str(configuration.dir)}))
            await stop.wait()


class Lines:
    """The lines of a running `tram-sim lines`, from outside. Raises ControlError when they cannot be reached."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path

    def set_fault(self, line: str, fault: str, on: bool | float = True) -> None:
        """Set one fault: a switch, a chance from 0 to 1, or a delay in ms (see simulators.faults.line)."""
        control.ask(self._socket_path, {"line": line, "fault": fault, "on": on})

    def clear(self, line: str) -> None:
        """Make a line good again."""
        for fault in self.status()[line]["faults"]:
            self.set_fault(line, fault, False)

    def status(self) -> dict[str, dict[str, Any]]:
        """Return {line: {"faults": {name: value}, "counters": {name: count}}}."""
        lines: dict[str, dict[str, Any]] = control.ask(self._socket_path, {"status": True})["lines"]
        return lines


def load(path: Path) -> LinesConfiguration:
    """Read a configuration file. Raises SimulatorError that names every fault of it."""
    try:
        return LinesConfiguration.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SimulatorError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        faults = [f"{path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise SimulatorError("\n".join(faults)) from None


def command(
    config: Annotated[Path, typer.Option(help="JSON file that names the lines and their ports.")],
) -> None:
    """Run RS-485 lines between pseudo-terminals, with faults to set while they run.

    Example: tram-sim lines --config lines.json
    """
    try:
        configuration = load(config)
    except SimulatorError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    try:
        asyncio.run(run(configuration))
    except SimulatorError as error:
        typer.echo(f"tram-sim lines: {error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(command)
