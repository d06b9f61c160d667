"""The witness between a program and its files (shim.c): built here, put in by environment variables, read here.

Marks of other processes stand between the calls: whoever appends one after hearing something from the program knows
that all calls before it had returned by then.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulators.errors import SimulatorError

SOURCE = Path(__file__).with_name("shim.c")
CREATE, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MARK = "OWTSRUM"
_ENTRY = struct.Struct("<IIIIqq")
_FAULTS = struct.Struct("<iIII")


class ShimMissing(SimulatorError):
    """The shim cannot be had here; the text says why."""


@dataclass(frozen=True)
class Event:
    """One call that changed the disk, or a mark. `at` is the offset of a write, the size of a truncation."""

    op: str
    path: str = ""
    other: str = ""
    inode: int = 0
    at: int = 0
    data: bytes = b""

    @property
    def mark(self) -> dict[str, Any]:
        """What a mark says."""
        said: dict[str, Any] = json.loads(self.data)
        return said


def build() -> Path:
    """Return the compiled shim, made when it is not there yet. Raises ShimMissing."""
    compiler = shutil.which("gcc")
    if compiler is None:
        raise ShimMissing("no gcc here: apt-get install gcc libc6-dev")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tram"
    library = cache / f"disk-shim-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}.so"
    if not library.exists():
        cache.mkdir(parents=True, exist_ok=True)
        made = library.with_suffix(f".{os.getpid()}")
        command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-o", str(made), str(SOURCE), "-ldl", "-pthread"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ShimMissing(f"gcc does not compile {SOURCE.name}: {done.stderr}")
        made.replace(library)
    return library


def environment(folder: Path, trace: Path | None = None, faults: Faults | None = None) -> dict[str, str]:
    """Return what a program's environment needs so that its files in `folder` are witnessed."""
    found = {"LD_PRELOAD": str(build()), "TRAM_DISK_UNDER": str(folder.resolve())}
    if trace is not None:
        found["TRAM_DISK_TRACE"] = str(trace)
    if faults is not None:
        found["TRAM_DISK_FAULTS"] = str(faults.path)
    return found


def put_mark(trace: Path, said: Mapping[str, object]) -> None:
    """Append a mark, in one write."""
    data = json.dumps(said).encode()
    descriptor = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, _ENTRY.pack(ord(MARK), 0, 0, len(data), 0, 0) + data)
    finally:
        os.close(descriptor)


def read_trace(trace: Path) -> list[Event]:
    """Return all that was written down, in order."""
    return list(_events(trace.read_bytes()))


def _events(raw: bytes) -> Iterator[Event]:
    at = 0
    while at < len(raw):
        op, *sizes, inode, where = _ENTRY.unpack_from(raw, at)
        at += _ENTRY.size
        parts = []
        for size in sizes:
            parts.append(raw[at : at + size])
            at += size
        yield Event(chr(op), parts[0].decode(), parts[1].decode(), inode, where, parts[2])


class Faults:
    """Makes a program's writes fail, while it runs."""

    def __init__(self, path: Path, seed: int = 1) -> None:
        self.path = path
        path.write_bytes(_FAULTS.pack(0, 0, seed, 0))

    def begin(self, error: int, of_thousand: int = 1000) -> None:
        """From now on so many of a thousand changes fail with this errno."""
        with self.path.open("r+b") as file:
            file.write(struct.pack("<iI", error, of_thousand))

    def end(self) -> None:
        """All is well again."""
        self.begin(0, 0)

    @property
    def failed(self) -> int:
        """How many calls have failed so far."""
        return int(_FAULTS.unpack(self.path.read_bytes())[3])
