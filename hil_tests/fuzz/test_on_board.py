"""The board's parsers say on MicroPython what they say on the host, where the fuzzer knows them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware import record, rtu
from hil_tests.cuts.journal import install
from hil_tests.cuts.orders import OrderedBoard
from hil_tests.fuzz import corpus, parsers_on_board
from hil_tests.fuzz.graft import json_of
from hil_tests.fuzz.targets import all_targets
from hil_tests.fuzz.targets.instruments import _content
from hil_tests.fuzz.targets.modbus import frame_of
from hil_tests.fuzz.targets.records import batch_of, sealed
from simulators.board import BoardSettings, VirtualBoard
from simulators.virtual_board.build import build
from simulators.virtual_board.errors import VirtualBoardMissing
from station_config.flash import compile_firmware

FLASH_BYTES = 1 << 20
SEED = 20261122
LONGEST = 1500  # bytes, what one line of the console takes as hex
#: Of which targets a parser on the board gets the corpora.
INPUTS = {
    "record": ("record",),
    "batch": ("batch",),
    "request": ("station-question", "station-line"),
    "answer": ("gateway-rtu-answer", "board-answer"),
    "line": ("sdi12-line", "sdi12-answers"),
    "update": ("update-image",),
    "station": ("station-json",),
}


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrderedBoard]:
    try:
        build()
    except VirtualBoardMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the virtual board cannot be built here: {error}")
    flash = tmp_path_factory.mktemp("board") / "board.flash"
    flash.write_bytes(b"\xff" * FLASH_BYTES)
    program = Path(parsers_on_board.__file__).read_bytes()
    modules = {f"/firmware/{name}": code for name, code in compile_firmware().items()}
    install(flash, modules | {"/main.py": program}, FLASH_BYTES)
    with VirtualBoard(BoardSettings(flash=flash, size_bytes=FLASH_BYTES)) as running:
        yield OrderedBoard(running)


@pytest.mark.parametrize("parser", INPUTS)
def test_the_board_says_what_the_host_says(board: OrderedBoard, parser: str) -> None:
    for data in _inputs(parser):
        (words,) = [line for line in board.ask(parser, data.hex()) if line[0] == "said"]
        expected = parsers_on_board.said(parser, data)
        assert words[1] == expected, data.hex()
        assert not words[1].startswith("crash"), data.hex()


def _inputs(parser: str) -> list[bytes]:
    """Return what the parser's targets keep, as it reaches the parser, and seeded damage to some of it."""
    chance = random.Random(f"{SEED}/{parser}")
    targets = {target.name: target for target in all_targets()}
    raw = [data for name in INPUTS[parser] for data in (corpus.kept(name) or targets[name].seeds())]
    whole = [one for data in raw if len(one := _as_it_comes(parser, data)) <= LONGEST]
    chosen = chance.sample(whole, min(len(whole), 60))
    damaged = []
    for data in chosen:
        changed = bytearray(data or b"\0")
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        damaged.append(bytes(changed[: chance.randrange(1, len(changed) + 1)]))
    return list(dict.fromkeys([*chosen, *damaged]))


def _as_it_comes(parser: str, data: bytes) -> bytes:
    if parser == "record":
        return sealed(data[:16]) if len(data) < record.SIZE else data
    if parser == "batch":
        return batch_of(data)
    if parser == "request":
        return frame_of(data)
    if parser == "answer":
        return rtu.seal(bytes((11, 3, 8)) + data[:8].ljust(8, b"\0")) + data[8:20]
    return json_of(_content(), data) if parser == "station" else data
