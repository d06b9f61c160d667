"""A folder in memory for parsers that want files. One for each process; gone with it."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

_MEMORY = Path("/dev/shm")


def folder() -> Path:
    """Return this process's folder; a forked process gets one of its own."""
    return _folder_of(os.getpid())


def written(name: str, data: bytes | str) -> Path:
    """Return a file of the folder that holds these bytes."""
    path = folder() / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def emptied(name: str) -> Path:
    """Return an empty folder inside."""
    path = folder() / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path


def remove_after(pid: int) -> None:
    """Take away what a process that was ended left."""
    for base in (_MEMORY, Path(tempfile.gettempdir())):
        shutil.rmtree(base / f"tram-fuzz-{pid}", ignore_errors=True)


@cache
def _folder_of(pid: int) -> Path:
    path = (_MEMORY if _MEMORY.is_dir() else Path(tempfile.gettempdir())) / f"tram-fuzz-{pid}"
    path.mkdir(mode=0o700)
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path
