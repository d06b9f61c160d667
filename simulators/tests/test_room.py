"""Updates fit a small file system whose journal is full: that of a Pico W, the smallest we name."""

from __future__ import annotations

import sys
from pathlib import Path

from simulators.board import BoardSettings, VirtualBoard
from simulators.station_client import Result, StationClient
from simulators.tests.test_update import (
    RATE,
    Bench,
    Workshop,
    _configuration,
    _encoded,
    _update,
    workshop,
)
from simulators.wire import Wire
from station_config.console import Board
from station_config.flash import board_files, flash
from station_config.keys import board_keys, load_public

__all__ = ["workshop"]  # a fixture

PICO_W_BYTES = 848 * 1024
OPEN = """
import json, os, sys
sys.path.insert(0, "/a")
from firmware.journal import Journal
j = Journal("/journal", {segment_records}, {max_bytes}, os.urandom)
j.open()
"""
FILL = "for _ in range(20): j.append([(60, 1, 1, 34, 2)] * 96)"
STATE = "[j.first_seq, j.next_seq, os.statvfs('/')[0] * os.statvfs('/')[3]]"


def fill_journal(port: str) -> tuple[int, int]:
    """Let the station's journal be as large as it may; return its records and the bytes left on the flash."""
    size = _configuration()["journal"]
    with Board(port) as technician, technician.maintenance():
        technician.run(OPEN.format(**size))
        while True:
            technician.run(FILL)
            first_seq, next_seq, free = technician.ask(f"print(json.dumps({STATE}))")
            if first_seq > 2 * size["segment_records"]:
                return next_seq - first_seq, free


def test_a_full_journal_leaves_room_for_one_update_after_the_other(workshop: Workshop, tmp_path: Path) -> None:
    with Wire(tmp_path / "wire") as wire:
        settings = BoardSettings(
            flash=tmp_path / "board.flash", size_bytes=PICO_W_BYTES, uarts={2: wire.ends["board"]}, rate=RATE
        )
        with VirtualBoard(settings) as board:
            board.console.wait_for(">>> ")
            keys = board_keys([load_public(workshop.folder / "key.pub.pem")])
            flash(str(board.console_path), board_files(_encoded(), keys))
            kept, free = fill_journal(str(board.console_path))
            bench = Bench(board, StationClient(wire.ends["gateway"], _configuration()["address"]))
            for version in ("0.2.0", "0.3.0", "0.4.0"):
                assert _update(bench, workshop.image(version)) == Result.DONE
                bench.client.restart()
                assert bench.client.version() == version
                bench.prove()
            first_seq, next_seq = bench.client.number(4), bench.client.number(6)
            bench.client.close()
    sys.stdout.write(f"\n{kept} records in the ring, {free} bytes free; after three updates {next_seq - first_seq}\n")
    assert kept > 15_000
    assert next_seq - first_seq > kept - 1500  # at most two segments went for the updates
