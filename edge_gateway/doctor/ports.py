"""The serial ports and TCP devices of the lines: there, ours to use, and free."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import serial

from edge_gateway.configuration import GatewayConfiguration, LineConfiguration
from edge_gateway.doctor.findings import Finding, found
from edge_gateway.transport import CONNECT_TIMEOUT_S

BY_ID = Path("/dev/serial/by-id")
LOOP_BYTES = bytes(range(256))
LOOP_TIMEOUT_S = 2.0


def examine_port(line: LineConfiguration, is_running: bool) -> Iterator[Finding]:
    """Yield whether a line's port can be used; a port that the running gateway holds is left to it."""
    if line.endpoint.host:
        yield from _examine_tcp(line, is_running)
        return
    device = Path(line.port)
    if not device.exists():
        yield found("port-missing", line.name, port=line.port, others=", ".join(_other_ports()) or "-")
        return
    if not stat.S_ISCHR(device.stat().st_mode):
        yield found("port-no-port", line.name, port=line.port)
        return
    if (console := _console_on(device)) is not None:
        yield found("port-console", line.name, port=line.port, console=console)
    yield _try(line, device, is_running)
    if (stays := _name_that_stays(device)) is not None:
        yield found("port-name", line.name, port=line.port, stays=stays)


def loop_back(line: LineConfiguration) -> Finding:
    """Send through a port whose sending and receiving wires are joined; what comes back must be what went out."""
    try:
        with serial.Serial(line.port, line.baud, parity=line.parity, stopbits=line.stop, exclusive=True) as port:
            port.timeout = LOOP_TIMEOUT_S + len(LOOP_BYTES) * 11 / line.baud
            port.reset_input_buffer()
            port.write(LOOP_BYTES)
            came = port.read(len(LOOP_BYTES))
    except OSError as error:
        return found("port-not-opened", line.name, port=line.port, why=str(error))
    same = sum(sent == got for sent, got in zip(LOOP_BYTES, came, strict=False))
    code = "port-loop" if came == LOOP_BYTES else "port-loop-silent" if not came else "port-loop-garbled"
    return found(code, line.name, port=line.port, same=same, sent=len(LOOP_BYTES))


def gateway_runs(configuration: GatewayConfiguration) -> bool:
    """Whether a gateway runs on this state directory: it holds the lock there."""
    import fcntl

    try:
        with (configuration.state_dir / "gateway.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _try(line: LineConfiguration, device: Path, is_running: bool) -> Finding:
    holders = _holders(device)
    if is_running and any("tram-gateway" in name or "edge_gateway" in name for name in holders):
        return found("port-ours", line.name, port=line.port)
    if holders:
        return found("port-held", line.name, port=line.port, holders="; ".join(holders))
    if not os.access(device, os.R_OK | os.W_OK):
        return found("port-no-right", line.name, port=line.port)
    try:
        serial.Serial(line.port, line.baud, parity=line.parity, stopbits=line.stop, exclusive=True).close()
    except (OSError, ValueError) as error:
        return found("port-not-opened", line.name, port=line.port, why=str(error))
    return found("port-ok", line.name, port=line.port, baud=line.baud)


def _examine_tcp(line: LineConfiguration, is_running: bool) -> Iterator[Finding]:
    if is_running:  # many such devices take one connection only
        yield found("port-ours", line.name, port=line.port)
        return
    begun = time.monotonic()
    try:
        socket.create_connection((line.endpoint.host, line.endpoint.tcp_port), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        yield found("port-no-device", line.name, port=line.port, why=str(error))
        return
    yield found("port-device", line.name, port=line.port, took_ms=round(1000 * (time.monotonic() - begun)))


def _holders(device: Path) -> list[str]:
    """Return the other processes that have the device open, as far as this user may see them."""
    real, holders = os.path.realpath(device), []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            if any(os.path.realpath(handle) == real for handle in (process / "fd").iterdir()):
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                holders.append(f"{words[:80]} (process {process.name})")
        except OSError:  # it has ended, or belongs to somebody else
            continue
    return holders


def _console_on(device: Path) -> str | None:
    """Return the kernel's console when it is on this port: its messages would go to the stations."""
    for word in Path("/proc/cmdline").read_text(encoding="ascii", errors="replace").split():
        name = word.removeprefix("console=").partition(",")[0]
        if word.startswith("console=") and os.path.realpath(f"/dev/{name}") == os.path.realpath(device):
            return name
    return None


def _name_that_stays(device: Path) -> str | None:
    """Return the name under /dev/serial/by-id of a port that is configured by a name that changes."""
    if device.is_relative_to("/dev/serial"):
        return None
    return next((str(name) for name in BY_ID.glob("*") if name.resolve() == device.resolve()), None)


def _other_ports() -> list[str]:
    named = sorted(str(name) for name in BY_ID.glob("*"))
    return named or sorted(
        str(port) for kind in ("ttyUSB", "ttyACM", "ttyAMA") for port in Path("/dev").glob(f"{kind}*")
    )
