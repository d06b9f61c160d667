"""Documents with something wrong in them, made from bytes: bytes alone hardly make a TOML or JSON file that parses.

    graft(document, b"...")     each few bytes: a place in the document, and what is put there, taken away or doubled

The same bytes give the same document, so a fuzzer can learn which are worth something.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

GRAFTED = b"\xff"  # begins no UTF-8 text: what follows is for graft(), anything else is the text itself
CHANGES_AT_MOST = 4
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 10, 60, 247, 255, 256, 65535, 65536, 2**31, 2**32, 2**63, 2**64, -(2**31), 10**400,
    0.0, -0.0, 0.5, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"), "", "a", "x" * 40, "x" * 300, "\0",
    "\ud800", "à", "../../etc/passwd", "/dev/null", ".", "1", "1e9", "2026-01-01", "xuan-hoa", "hoa-binh", "salinity",
    "conductivity_25", "yosemitech-y520", "tcp://h:1", "rtu+tcp://[::1", "{0}", "{station.__class__}", "{value:9999}",
    "a.b", "[", "%s", [], [[]], [0], [1, 2], [2, 1], [""], ["a", "a"], {}, {"": 0}, {"a": {}}, [{}], [{}, {}],
)  # fmt: skip


def graft(document: Any, data: bytes) -> Any:
    """Return the document with up to CHANGES_AT_MOST changes, each by four bytes: which, where (two), what."""
    changed = {"": copy.deepcopy(document)}
    for at in range(0, min(len(data) - 3, 4 * CHANGES_AT_MOST), 4):
        way, high, low, what = data[at : at + 4]
        holders = list(_places(changed))
        holder, key = holders[(high << 8 | low) % len(holders)]
        _change(holder, key, way, what, changed)
    return changed[""]


def _change(holder: Any, key: Any, way: int, what: int, whole: Any) -> None:
    way %= 8
    if way == 0:
        del holder[key]
    elif way == 1 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif way == 2 and isinstance(holder, dict):
        holder[f"{key}x" if what % 2 else str(ODD[what % len(ODD)])] = copy.deepcopy(holder[key])
    elif way == 3:  # something else of the same document
        others = list(_places(whole))
        other, there = others[what % len(others)]
        holder[key] = copy.deepcopy(other[there])
    elif way == 4 and type(holder[key]) in (int, float):
        holder[key] = holder[key] + what - 128
    elif way == 5 and type(holder[key]) in (int, float):
        holder[key] = holder[key] * (what - 128)
    else:
        holder[key] = copy.deepcopy(ODD[what % len(ODD)])
    whole.setdefault("", {})


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (holder, key) of every value inside."""
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(inside):
        yield node, key
        yield from _places(value)


def as_toml(document: Any) -> str:
    """Return a table as TOML, everything below the first level inline. What TOML has no word for is left out."""
    if not isinstance(document, dict):
        return ""
    return "".join(
        f"{_quoted(key)} = {text}\n" for key, value in document.items() if (text := _toml(value)) is not None
    )


def _toml(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, dict):
        rows = [f"{_quoted(key)} = {text}" for key, one in value.items() if (text := _toml(one)) is not None]
        return "{" + ", ".join(rows) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(text for one in value if (text := _toml(one)) is not None) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    return _quoted(value) if isinstance(value, str) else str(value) if isinstance(value, int) else value.isoformat()


def _quoted(text: object) -> str:
    return json.dumps(str(text), ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_of(document: Any, data: bytes) -> bytes:
    """Return the text that data is, or that it makes of the document."""
    if not data.startswith(GRAFTED):
        return data
    return as_toml(graft(document, data[1:])).encode("utf-8", "surrogatepass")


def json_of(document: Any, data: bytes) -> bytes:
    """Return the text that data is, or that it makes of the document."""
    if not data.startswith(GRAFTED):
        return data
    return json.dumps(graft(document, data[1:])).encode()


def seeds_of(document: Any, text: bytes) -> Iterator[bytes]:
    """Yield where a run begins: the text, and each kind of change somewhere."""
    yield text
    yield GRAFTED
    for way in range(8):
        for place in range(0, 256, 16):
            yield GRAFTED + bytes((way, 0, place, place + way))
