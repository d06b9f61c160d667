"""Slices of records out of a damaged outbox file, by looking at its pages one by one.

Of a damaged tree of pages most are still whole, and a slice proves itself: its columns, its length, and every record's
number and CRC must fit. Pages are read as the SQLite file format describes them (https://www.sqlite.org/fileformat2.html,
sections 1.6 "B-tree Pages", 2.1 "Record Format", 4.1 "WAL File Format"); a slice longer than a page is not looked for.
What was freed long ago may be found too: the cloud counts it as arrived twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from edge_gateway.slices import MAX_SEQ, Series, Slice
from firmware import record

INDEX_LEAF, INDEX_INTERIOR = 0x0A, 0x02
DATABASE_HEADER, WAL_HEADER, FRAME_HEADER = 100, 32, 24
USUAL_PAGE_SIZE = 4096
PAGE_SIZES = tuple(2**power for power in range(9, 17))
INTEGER_SIZES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
SLICE_COLUMNS = 6
_STATION = re.compile(rb"[a-z0-9-]{1,32}")


class Salvaged(NamedTuple):
    """A slice and when it was received (unix seconds)."""

    piece: Slice
    received_at: int


def salvage(path: Path) -> Iterator[Salvaged]:
    """Yield all slices that can still be read from the file and its WAL, in no order, some more than once."""
    for file_path in (path, path.with_name(path.name + "-wal")):
        if file_path.is_file():
            with file_path.open("rb") as file:
                for page in _pages(file, is_wal=file_path != path):
                    yield from slices_in_page(page)


def slices_in_page(page: bytes) -> Iterator[Salvaged]:
    """Yield the slices in one page of an index tree (tables WITHOUT ROWID are such); of any other page nothing."""
    if len(page) < 16 or page[0] not in (INDEX_LEAF, INDEX_INTERIOR):
        return
    pointers = 8 if page[0] == INDEX_LEAF else 12
    child = 0 if page[0] == INDEX_LEAF else 4
    number = int.from_bytes(page[3:5], "big")
    for at in range(pointers, min(pointers + 2 * number, len(page) - 1), 2):
        cell = int.from_bytes(page[at : at + 2], "big") + child
        # Whatever the bytes are, they are no slice when they lead out of the page.
        with suppress(IndexError):
            found = _slice_at(page, cell)
            if found is not None:
                yield found


def _pages(file: IO[bytes], *, is_wal: bool) -> Iterator[bytes]:
    head = file.read(DATABASE_HEADER)
    size = int.from_bytes(head[8:12] if is_wal else head[16:18], "big")
    size = 65536 if size == 1 else size
    size = size if size in PAGE_SIZES else USUAL_PAGE_SIZE
    file.seek(WAL_HEADER if is_wal else 0)
    while block := file.read(size + (FRAME_HEADER if is_wal else 0)):
        yield block[FRAME_HEADER:] if is_wal else block


def _slice_at(page: bytes, at: int) -> Salvaged | None:
    size, at = _varint(page, at)
    if at + size > len(page):
        return None
    columns = _columns(page[at : at + size])
    if columns is None:
        return None
    station, journal, first, last, received_at, records = columns
    if not isinstance(station, bytes) or not isinstance(records, bytes) or not _STATION.fullmatch(station):
        return None
    numbers = (journal, first, last)
    if not all(isinstance(one, int) and 0 <= one <= MAX_SEQ for one in numbers) or not isinstance(received_at, int):
        return None
    piece = Slice(Series(station.decode(), int(journal)), int(first), records)
    return Salvaged(piece, received_at) if piece.last_seq == last and _is_whole(piece) else None


def _is_whole(piece: Slice) -> bool:
    if not piece.records or len(piece.records) % record.SIZE:
        return False
    try:
        found = [record.decode(piece.records, at).seq for at in range(0, len(piece.records), record.SIZE)]
    except record.RecordError:
        return False
    return found == list(range(piece.first_seq, piece.last_seq + 1))


def _columns(payload: bytes) -> list[bytes | int] | None:
    """Return the columns of a row of SLICE_COLUMNS integers, texts and blobs; None for any other row."""
    header_size, at = _varint(payload, 0)
    types = []
    while at < header_size:
        kind, at = _varint(payload, at)
        types.append(kind)
    if len(types) != SLICE_COLUMNS:
        return None
    columns: list[bytes | int] = []
    at = header_size
    for kind in types:
        if kind in (8, 9):
            columns.append(kind - 8)
            continue
        size = (kind - 12) // 2 if kind >= 12 else INTEGER_SIZES.get(kind)
        if size is None or at + size > len(payload):
            return None
        raw = payload[at : at + size]
        columns.append(raw if kind >= 12 else int.from_bytes(raw, "big", signed=True))
        at += size
    return columns


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for number in range(9):
        byte = data[at + number]
        if number == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            return value, at + number + 1
    raise AssertionError("a varint has nine bytes at most")
