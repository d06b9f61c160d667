"""Ports without a board behind them: every one ends in a clear error, none in a wait without end."""

from __future__ import annotations

import os
import pty
import tty
from collections.abc import Iterator

import pytest
import serial

from station_config.console import Board
from station_config.errors import BoardSilent, PortUnavailable


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    """A terminal with nobody at the other end but us: (our end, its path)."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    yield ours, os.ttyname(theirs)
    os.close(ours)
    os.close(theirs)


def test_a_port_that_is_not_there() -> None:
    with pytest.raises(PortUnavailable, match="no such port; `tram-station ports` lists"), Board("/dev/ttyNONE"):
        pass


def test_a_port_that_another_program_holds(line: tuple[int, str]) -> None:
    with (
        serial.Serial(line[1], exclusive=True),
        pytest.raises(PortUnavailable, match="another program may hold it"),
        Board(line[1]),
    ):
        pass


@pytest.mark.parametrize("answer", [b"", b"login: "])
def test_something_that_is_no_micropython(line: tuple[int, str], answer: bytes) -> None:
    os.write(line[0], answer)
    with (
        Board(line[1], repl_timeout_s=0.0) as board,
        pytest.raises(BoardSilent, match="nothing answers as MicroPython"),
    ):
        board.enter_repl()
