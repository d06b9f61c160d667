"""Names made short for a board: the same program, and people still read its tracebacks."""

from __future__ import annotations

import ast
import re

import pytest

from station_config.flash import firmware_sources
from station_config.short_names import ShortNamesRefused, readable, short_names, shorten

LINE = """\
# a line
PAUSE = 4
_LOOK_MS = const(2)
_TABLE = {1: "one"}


def _aside(number):
    return _TABLE[number]


class Line:
    _latest = None

    def wait(self, duration, times=1):
        self._waited = duration * PAUSE + _LOOK_MS * times
        return [duration for duration in (self._waited,)], lambda more: more + duration


def _shared(line):
    return line.wait(3)
"""
MAIN = """\
from line import _shared, Line


class Other:
    def __init__(self):
        self._first = self._second = 1


def start():
    return _shared(Line()), Line().wait(3, times=2)[0]
"""
PACKAGE = {"line": LINE, "main": MAIN}


@pytest.mark.parametrize("gone", ["_TABLE", "_aside", "_latest", "_waited", "_shared", "duration", "number"])
def test_what_nobody_outside_sees_is_short(gone: str) -> None:
    assert gone in LINE
    assert not re.search(rf"\b{gone}\b", shorten(PACKAGE)["line"])


@pytest.mark.parametrize("stays", ["PAUSE", "_LOOK_MS", "Line", "wait", "times", "# a line"])
def test_what_others_call_by_its_name_keeps_it(stays: str) -> None:
    assert re.search(rf"(\b|^){stays}\b", shorten(PACKAGE)["line"])


def test_every_line_stays_where_it_is() -> None:
    assert shorten(PACKAGE)["line"].count("\n") == LINE.count("\n")


def test_a_shared_name_is_the_same_everywhere_and_others_are_used_again() -> None:
    names = short_names(PACKAGE)
    assert names["line"]["_shared"] == names["main"]["_shared"]
    assert set(names["line"].values()) & set(names["main"].values()) > {names["line"]["_shared"]}


def test_it_still_does_the_same() -> None:
    assert _run(shorten(PACKAGE)) == _run(PACKAGE) == ([14], [16])


def _run(sources: dict[str, str]) -> object:
    line: dict[str, object] = {"const": int}
    exec(sources["line"], line)
    main = dict(line)
    exec(sources["main"].partition("\n")[2], main)
    (waited, _), more = main["start"]()  # type: ignore[operator]
    return waited, more


@pytest.mark.parametrize(
    ("addition", "why"),
    [
        ("getattr(Line(), '_waited')", "a string holds the private name _waited"),
        ("log = 'line %s of _shared'", "a string holds"),
        ("globals()", "globals looks into a namespace"),
        ("Line().__dict__", "__dict__ looks into a namespace"),
        ("Line()._hidden = 1", "_hidden is set on an object that may be another module's"),
        ("class Better(Line):\n    pass", "Better inherits private names from line"),
    ],
)
def test_what_could_tell_the_difference_is_refused(addition: str, why: str) -> None:
    with pytest.raises(ShortNamesRefused, match=re.escape(why)):
        shorten({"line": LINE, "main": MAIN + addition + "\n"})


def test_the_firmware_on_a_board_is_the_firmware_that_was_tested() -> None:
    """Put every name back by hand: what remains is the source."""
    sources = firmware_sources()
    names, short = short_names(sources), shorten(sources)
    for module, text in sources.items():
        assert _words(text) - _words(short[module]) >= set(names[module]) & _words(text)
        ours, theirs = (list(ast.walk(ast.parse(one))) for one in (text, short[module]))
        assert [type(node) for node in ours] == [type(node) for node in theirs]
        constants = [[node.value for node in nodes if isinstance(node, ast.Constant)] for nodes in (ours, theirs)]
        assert constants[0] == constants[1]


def test_the_firmware_loses_a_fifth_of_its_names() -> None:
    sources = firmware_sources()
    before, after = (set.union(*map(_words, one.values())) for one in (sources, shorten(sources)))
    assert len(after) < 0.8 * len(before)


def test_a_traceback_is_read_with_the_names_of_the_source() -> None:
    names = short_names(firmware_sources())["bus"]
    said = f'  File "bus", line 1, in {names["_ask_once"]}\n  File "loader", line 1, in _a\nOSError: 5\n'
    assert readable(said, short_names(firmware_sources())) == said.replace(f"in {names['_ask_once']}", "in _ask_once")


def _words(text: str) -> set[str]:
    nodes = ast.walk(ast.parse(text))
    found = {getattr(node, place, None) for node in nodes for place in ("id", "attr", "arg", "name", "asname")}
    return {name for name in found if isinstance(name, str)}
