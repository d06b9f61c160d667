"""The line a station's firmware prints when it starts.

tram station=xuan-hoa journal=fd8fec8a next_seq=3 version=0.1.0
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from station_config.console import Board
from station_config.errors import BoardSilent

START_TIMEOUT_S = 10.0

_START_LINE = re.compile(
    r"tram station=(?P<station>\S+) journal=(?P<journal>[0-9a-f]{8})"
    r" next_seq=(?P<next_seq>\d+) version=(?P<version>\S+)"
)
_BANNER = "MicroPython v"  # comes before the prompt
_SHOWN_LINES = 8


@dataclass(frozen=True)
class Started:
    """What a board says of itself when its firmware starts."""

    station: str
    journal: str  # 8 hex digits
    next_seq: int
    version: str


def wait_for_start(board: Board) -> Started:
    """Return what the board says when its firmware starts. Raises BoardSilent with what it said instead."""
    started, said = find_start(board.console_lines(START_TIMEOUT_S))
    if started is None:
        told = "\n".join(said) or "(nothing)"
        raise BoardSilent(f"{board.port}: the firmware is on the board but did not start. The board said:\n{told}")
    return started


def find_start(lines: Iterable[str]) -> tuple[Started | None, list[str]]:
    """Return the start line's content, or None and the last lines before the prompt came or the lines ended."""
    said: list[str] = []
    for line in lines:
        if match := _START_LINE.search(line):
            return Started(match["station"], match["journal"], int(match["next_seq"]), match["version"]), said
        if line.startswith(_BANNER):
            break  # whatever main.py started has ended
        said = [*said, line][-_SHOWN_LINES:]
    return None, said
