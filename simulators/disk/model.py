"""What a power cut could leave on the disk, made from the calls a program made.

The model promises a program no more than POSIX and a disk with whole sectors do: what was written to a file is there
for certain after fsync of that file; names made, changed and taken away are there for certain after fsync of their
folder; until then any part of it may have reached the disk, in any order, a write in sectors of 512 bytes. A rename
happens or does not; a sector is old or new.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from simulators.disk.shim import CREATE, RENAME, SYNC, TRUNCATE, UNLINK, WRITE, Event

SECTOR = 512

ALL_KEPT, ALL_DROPPED, LAST_TORN = "all kept", "all dropped", "the last torn"
SOME_KEPT = "some kept"  # followed by a number, the seed

Change = tuple[str, int, bytes]  # WRITE with offset and data, or TRUNCATE with size
Keep = Callable[[], bool]


@dataclass
class _File:
    durable: bytes = b""
    pending: list[Change] = field(default_factory=list)


@dataclass
class Disk:
    """Files below one folder. `apply` the calls; `image` says what a cut would leave."""

    files: dict[int, _File] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)  # durable
    pending_names: list[Event] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path) -> Disk:
        """Return what is in a folder now, all of it durable."""
        disk = cls()
        for path in folder.iterdir():
            if path.is_file():
                inode = path.stat().st_ino
                disk.files[inode] = _File(path.read_bytes())
                disk.names[str(path)] = inode
        return disk

    def copy(self) -> Disk:
        """Return an independent copy."""
        files = {inode: _File(file.durable, list(file.pending)) for inode, file in self.files.items()}
        return Disk(files, dict(self.names), list(self.pending_names))

    def apply(self, event: Event) -> None:
        """Take in one call."""
        if event.op == CREATE:
            self.files[event.inode] = _File()
            self.pending_names.append(event)
        elif event.op in (RENAME, UNLINK):
            self.pending_names.append(event)
        elif event.op in (WRITE, TRUNCATE):
            self._file(event).pending.append((event.op, event.at, event.data))
        elif event.op == SYNC:
            self._sync(event)

    def image(self, kept: str, torn: Event | None = None) -> dict[str, bytes]:
        """Return the files (by path) that a cut leaves when so much of what was not synced is kept.

        LAST_TORN keeps all that went before, and of the write `torn`, which was under way, some of its sectors.
        """
        if kept == ALL_DROPPED:
            return self._image(lambda: False)
        if kept == ALL_KEPT:
            return self._image(lambda: True)
        if kept == LAST_TORN:
            assert torn is not None
            disk = self.copy()
            disk._file(torn).pending += _some_sectors(torn, random.Random(f"{torn.at} {len(torn.data)}"))  # noqa: S311 - the same cut again
            return disk._image(lambda: True)
        chance = random.Random(kept)  # noqa: S311 - the same cut again
        share = chance.random()
        return self._image(lambda: chance.random() < share)

    @property
    def is_certain(self) -> bool:
        """Whether nothing is open: every cut leaves the same."""
        return not self.pending_names and not any(file.pending for file in self.files.values())

    def _file(self, event: Event) -> _File:
        return self.files.setdefault(event.inode, _File())

    def _sync(self, event: Event) -> None:
        file = self.files.get(event.inode)
        if file is None:  # a folder
            self.names = self._names(lambda: True)
            self.pending_names = []
            # A file without a name is gone with its last descriptor; keeping its bytes would only cost memory.
            named = set(self.names.values())
            self.files = {inode: file for inode, file in self.files.items() if inode in named or file.pending}
            return
        file.durable = _content(file.durable, file.pending)
        file.pending = []

    def _names(self, keep: Keep) -> dict[str, int]:
        """Return the names there are when the kept changes happened; a name is made by the last kept change to it."""
        names, all_names = dict(self.names), dict(self.names)
        for event in self.pending_names:
            inode = event.inode if event.op == CREATE else all_names.pop(event.path, 0)
            if event.op == CREATE:
                all_names[event.path] = inode
            elif event.op == RENAME:
                all_names[event.other] = inode
            if keep():
                if event.op == CREATE:
                    names[event.path] = inode
                else:
                    names.pop(event.path, None)
                if event.op == RENAME:
                    names[event.other] = inode
        return names

    def _image(self, keep: Keep) -> dict[str, bytes]:
        whole = keep() and keep()  # asked twice: "all" and "none" stay what they are, "some" rarely is
        result = {}
        for path, inode in self._names(keep).items():
            file = self.files.get(inode, _File())
            changes = file.pending if whole else [part for change in file.pending for part in _kept(change, keep)]
            result[path] = _content(file.durable, changes)
        return result


def write_image(image: dict[str, bytes], of: Path, into: Path) -> None:
    """Write the files of an image, which stood below `of`, below the folder `into`."""
    for path, content in image.items():
        copy = into / Path(path).relative_to(of)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)


def _kept(change: Change, keep: Keep) -> Iterable[Change]:
    op, at, data = change
    if op == TRUNCATE:
        return [change] if keep() else []
    return [(WRITE, at + first, data[first : first + size]) for first, size in _sectors(at, len(data)) if keep()]


def _some_sectors(event: Event, chance: random.Random) -> list[Change]:
    """Return a part of a write: its beginning, its end, or any of its sectors."""
    sectors = _sectors(event.at, len(event.data))
    number = chance.randrange(len(sectors))
    chosen = chance.choice([sectors[:number], sectors[number + 1 :], [one for one in sectors if chance.random() < 0.5]])
    return [(WRITE, event.at + first, event.data[first : first + size]) for first, size in chosen]


def _sectors(at: int, size: int) -> list[tuple[int, int]]:
    """Return (offset within the write, size) of the sectors a write touches."""
    cuts = [0, *range(SECTOR - at % SECTOR, size, SECTOR), size]
    return [(first, last - first) for first, last in pairwise(cuts) if last > first]


def _content(content: bytes, changes: Iterable[Change]) -> bytes:
    result = bytearray(content)
    for op, at, data in changes:
        if op == TRUNCATE:
            result[at:] = b"" if at <= len(result) else bytes(at - len(result))
        else:
            if at > len(result):
                result += bytes(at - len(result))
            result[at : at + len(data)] = data
    return bytes(result)
