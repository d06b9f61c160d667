"""Read a board's journal over its console, without gateway and uplink: for a technician, and to check what arrived.

The journal on the flash: /journal/id holds its id in 8 hex digits; each segment is named by the seq of its first record
in 8 hex digits and holds records end to end (firmware/journal.py). What is written here are batches as they travel:
`TRB1`, journal id, number of records, records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from firmware.record import SIZE, RecordError, batch_header, decode
from station_config.console import Board
from station_config.errors import BoardError, BoardSilent, StationConfigError
from station_config.startup import wait_for_start

BATCH_RECORDS = 0xFFFF  # a batch counts its records in 16 bits

Report = Callable[[str, int, int], None]  # what is being read, bytes done, bytes in all

_LIST = """\
import json, os
def _text(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ''
try:
    _found = [(entry[0], entry[3]) for entry in os.ilistdir('/journal')]
except OSError:
    _found = []
_about = {'files': _found, 'id': _text('/journal/id')}
try:
    _about['station'] = json.loads(_text('/station.json'))['station']
except (ValueError, KeyError):
    _about['station'] = None
print(json.dumps(_about))
"""


@dataclass(frozen=True)
class Journal:
    """A journal as read from a board: its good records in order of seq, end to end."""

    station: str | None  # None when the board has no readable station.json
    journal: int
    records: bytes
    first_seq: int | None
    last_seq: int | None
    damaged: int  # records whose bytes are wrong: left out
    restarted: bool | None = None  # whether the station was seen running again; None: not asked

    @property
    def number(self) -> int:
        """How many good records."""
        return len(self.records) // SIZE


@dataclass(frozen=True)
class Written:
    """A read-out, as it lies in files."""

    station: str | None
    journal: str  # 8 hex digits
    first_seq: int | None
    last_seq: int | None
    records: int
    damaged: int
    restarted: bool | None
    files: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain data for a script."""
        return asdict(self)


def read_journal(port: str, restart: bool = True, report: Report = lambda *_: None) -> Journal:
    """Stop the application on a board, read its journal and, if `restart`, start it again. Raises BoardError."""
    with Board(port) as board:
        with board.maintenance(restart):
            journal = _read(board, report)
        return replace(journal, restarted=_runs_again(board) if restart else None)


def _read(board: Board, report: Report) -> Journal:
    about = board.ask(_LIST)
    segments = segment_files(dict(about["files"]))
    if len(about["id"]) != 8:
        raise BoardError(f"{board.port}: the board has no journal; flash it and let it run first")
    total, done = sum(size for _, size in segments), 0

    def moved(size: int) -> None:
        nonlocal done
        done += size
        report("reading the journal", done, total)

    contents = [(first, board.read_file(f"/journal/{first:08x}", moved)) for first, _ in segments]
    return assemble(about["station"], int(about["id"], 16), contents)


def _runs_again(board: Board) -> bool:
    try:
        wait_for_start(board)
    except BoardSilent:
        return False
    return True


def segment_files(sizes: dict[str, int]) -> list[tuple[int, int]]:
    """Return (first seq, bytes) of the segments among a folder's files, oldest first."""
    hexadecimal = set("0123456789abcdef")
    return sorted((int(name, 16), size) for name, size in sizes.items() if len(name) == 8 and set(name) <= hexadecimal)


def assemble(station: str | None, journal: int, segments: Iterable[tuple[int, bytes]]) -> Journal:
    """Return the journal made of (first seq, bytes) segments; what is no record with its proper seq is counted."""
    good, damaged = bytearray(), 0
    first_seq = last_seq = None
    parts = sorted(segments)
    for index, (first, data) in enumerate(parts):
        # A torn end was cut off and its numbers given up when the next segment was begun.
        end = parts[index + 1][0] if index + 1 < len(parts) else 1 << 32
        for seq in range(first, min(first + len(data) // SIZE, end)):
            raw = data[(seq - first) * SIZE : (seq - first + 1) * SIZE]
            if not _is_record(raw, seq):
                damaged += 1
                continue
            good += raw
            first_seq, last_seq = first_seq if first_seq is not None else seq, seq
    return Journal(station, journal, bytes(good), first_seq, last_seq, damaged)


def write_batches(journal: Journal, path: Path) -> Written:
    """Write the journal as batch files: `path`, and path-2, path-3 ... where one batch is not enough."""
    size = BATCH_RECORDS * SIZE
    chunks = [journal.records[start : start + size] for start in range(0, len(journal.records), size)]
    files = []
    for index, chunk in enumerate(chunks):
        file = path if index == 0 else path.with_name(f"{path.stem}-{index + 1}{path.suffix}")
        try:
            file.write_bytes(batch_header(journal.journal, len(chunk) // SIZE) + chunk)
        except OSError as error:
            raise StationConfigError(f"{file}: cannot be written: {error.strerror}") from None
        files.append(str(file))
    return Written(
        station=journal.station,
        journal=f"{journal.journal:08x}",
        first_seq=journal.first_seq,
        last_seq=journal.last_seq,
        records=journal.number,
        damaged=journal.damaged,
        restarted=journal.restarted,
        files=tuple(files),
    )


def _is_record(raw: bytes, seq: int) -> bool:
    try:
        return bool(decode(raw).seq == seq)
    except RecordError:
        return False
