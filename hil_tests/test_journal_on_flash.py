"""What the journal costs a real flash: bytes read at the start, erases per append. firmware/README has the figures."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from hil_tests.cuts.journal import board_files, install
from hil_tests.cuts.orders import OrderedBoard
from simulators.board import BoardSettings, VirtualBoard
from simulators.virtual_board.build import build
from simulators.virtual_board.errors import VirtualBoardMissing

FLASH_BYTES = 1 << 20
RECORD_BYTES = 18
KIB = 1024


@pytest.fixture(scope="module", autouse=True)
def interpreter() -> None:
    try:
        build()
    except VirtualBoardMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the virtual board cannot be built here: {error}")


class Chip(NamedTuple):
    """What was done to the flash since power-on."""

    bytes_read: int
    erases: int
    most_of_one_block: int
    blocks: int


class Bench:
    """A board whose journal is a ring of `segments` segments of `segment_records` records."""

    def __init__(self, flash: Path, segment_records: int, segments: int) -> None:
        self._settings = BoardSettings(flash=flash, size_bytes=FLASH_BYTES)
        self._opening = ("open", segment_records, segments * segment_records * RECORD_BYTES, 1)
        self.capacity = segments * segment_records

    @contextmanager
    def started(self) -> Iterator[OrderedBoard]:
        with VirtualBoard(self._settings) as board:
            ordered = OrderedBoard(board)
            ordered.ask(*self._opening)
            yield ordered

    def fill(self) -> None:
        with self.started() as board:
            board.ask("fill", self.capacity // 64 + 4, 64)

    def bytes_read_to_open(self) -> int:
        with VirtualBoard(self._settings) as board:
            ordered = OrderedBoard(board)
            before = chip(ordered)
            ordered.ask(*self._opening)
            return chip(ordered).bytes_read - before.bytes_read


def chip(board: OrderedBoard) -> Chip:
    return Chip(*map(int, board.ask("chip")[0][1:]))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    flash = tmp_path_factory.mktemp("installed") / "board.flash"
    flash.write_bytes(b"\xff" * FLASH_BYTES)
    install(flash, board_files(), FLASH_BYTES)
    return flash.read_bytes()


def bench(installed: bytes, folder: Path, segment_records: int, segments: int) -> Bench:
    flash = folder / f"{segment_records}-{segments}.flash"
    flash.write_bytes(installed)
    return Bench(flash, segment_records, segments)


def test_a_start_reads_the_folder_and_the_last_segment_however_many_records_there_are(
    installed: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for segment_records, segments in ((128, 40), (512, 40), (128, 160)):
        full = bench(installed, tmp_path, segment_records, segments)
        full.fill()
        found[segment_records, segments] = full.bytes_read_to_open() // KIB
    with capsys.disabled():
        for (segment_records, segments), read in found.items():
            sys.stdout.write(f"\nopening {segments} segments of {segment_records} records: {read} KiB read")
    assert found[512, 40] < found[128, 40] + 180  # four times the records: littlefs walks eighty blocks more
    assert all(read < 160 + 10 * segments for (_, segments), read in found.items())


def test_an_append_wears_one_block_and_seldom_the_same(
    installed: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    appends = 600
    with bench(installed, tmp_path, 672, 40).started() as board:
        before = chip(board)
        board.ask("fill", appends, 13)
        after = chip(board)
    per_append = (after.erases - before.erases) / appends
    with capsys.disabled():
        sys.stdout.write(
            f"\n{appends} appends of 13 records: {per_append:.2f} erases each, over {after.blocks} blocks,"
            f" {after.most_of_one_block} at most of one block\n"
        )
    assert per_append < 1.3
    assert after.most_of_one_block < 0.05 * appends  # the folder's own blocks, which littlefs moves after 100 erases
