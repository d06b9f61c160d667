"""Source made smaller for a board does what it did."""

from __future__ import annotations

import ast

import pytest

from station_config.flash import NOT_ON_BOARDS, firmware_folder
from station_config.short_names import shorten

LINE = """\
PAUSE = 4
_LOOK_MS = 2
def _aside(): pass
class Line:
    def wait(self, duration):
        self._waited = duration * PAUSE + _LOOK_MS
        return self._waited
def _private(line, times=1):
    return line.wait(times)
def for_hosts():
    pass
"""
MAIN = """\
from firmware import line
from firmware.line import PAUSE, Line
_BOTH = line.PAUSE + 1
def start():
    return line._private(Line(), times=PAUSE) + _BOTH
"""
PACKAGE = {"line": LINE, "main": MAIN}


@pytest.mark.parametrize(
    ("module", "gone"),
    [
        ("line", "_waited"),
        ("line", "_LOOK_MS"),
        ("line", "_private"),
        ("main", "_private"),
        ("line", "duration"),
        ("line", "for_hosts"),
        ("main", "PAUSE"),
        ("main", "_BOTH"),
    ],
)
def test_what_nobody_outside_sees_is_short_or_gone(module: str, gone: str) -> None:
    assert gone in PACKAGE[module]
    assert gone not in shorten(PACKAGE)[module]


@pytest.mark.parametrize(
    ("module", "stays"), [("line", "Line"), ("line", "wait"), ("line", "times"), ("main", "start")]
)
def test_what_others_call_by_its_name_keeps_it(module: str, stays: str) -> None:
    assert stays in shorten(PACKAGE)[module]


def test_numbers_that_other_programs_import_stay() -> None:
    assert "SIZE = 18" in shorten({"record": "SIZE = 18\n"})["record"]


def test_it_still_does_the_same() -> None:
    def run(sources: dict[str, str]) -> object:
        line: dict[str, object] = {}
        exec(sources["line"], line)
        module = type(
            "line", (), {name: staticmethod(value) if callable(value) else value for name, value in line.items()}
        )
        main: dict[str, object] = {"line": module, "Line": line["Line"], "PAUSE": line.get("PAUSE")}
        exec("\n".join(row for row in sources["main"].splitlines() if not row.startswith("from ")), main)
        return main["start"]()  # type: ignore[operator]

    assert run(shorten(PACKAGE)) == run(PACKAGE) == 4 * 4 + 2 + 5


def test_the_firmware_loses_a_third_of_its_names() -> None:
    sources = {
        m.stem: m.read_text(encoding="utf-8") for m in firmware_folder().glob("*.py") if m.stem not in NOT_ON_BOARDS
    }
    assert len(_names(shorten(sources))) < 0.67 * len(_names(sources))


def _names(sources: dict[str, str]) -> set[str]:
    nodes = [node for text in sources.values() for node in ast.walk(ast.parse(text))]
    places = ("name", "attr", "arg")
    globals_ = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return globals_ | {getattr(node, place) for node in nodes for place in places if hasattr(node, place)} - {None}
