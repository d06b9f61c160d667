"""Load a TOML file into a frozen, typed model; every fault at once, each with its file and line.

    network = load(Path("network.toml"), Network, check=find_conflicts)

`check` looks at the file's plain tables, so that a conflict between two rows is found in the same pass as a wrong key
in a third. Values are never repeated in a message: a password in the wrong place stays unprinted.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from station_config.errors import ConfigurationError

Model = TypeVar("Model", bound=BaseModel)
Item = TypeVar("Item")
Several = Annotated[tuple[Item, ...], Field(strict=False)]  # a TOML array as a tuple: strict models want to be told


def _can_be_named(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("not the name of a file: there is a NUL in it")
    return path


FilePath = Annotated[Path, Field(strict=False), AfterValidator(_can_be_named)]
KeyPath = tuple[str | int, ...]
Table = dict[str, Any]

_PLAIN_TEXTS = {
    "extra_forbidden": "unknown key; remove it or correct its spelling",
    "missing": "this key is missing",
}


class StrictModel(BaseModel):
    """Base of configuration models: frozen; unknown keys, text for numbers, NaN and infinity refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Fault(NamedTuple):
    """One thing wrong in a file: where (the keys that lead there) and what."""

    path: KeyPath
    text: str


Check = Callable[[Table], Iterable[Fault]]


def load(path: Path, model: type[Model], check: Check | None = None) -> Model:
    """Return the file as a `model`. Raises ConfigurationError that lists every fault."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except ValueError:  # a NUL in it
        raise ConfigurationError(f"{str(path)!r}: not the name of a file") from None
    return parse(text, model, str(path), check)


def parse(text: str, model: type[Model], file: str, check: Check | None = None) -> Model:
    """Return TOML text as a `model`; `file` is the name shown in faults. Raises ConfigurationError."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file}: not TOML: {error}") from None
    faults = list(check(data)) if check else []
    parsed = None
    try:
        parsed = model.model_validate(data)
    except ValidationError as error:
        faults = [*_faults_of(error), *faults]
    if faults or parsed is None:
        raise ConfigurationError(_describe(faults, text, file))
    return parsed


def rows(data: object, key: str, at: KeyPath = ()) -> Iterator[tuple[KeyPath, Table]]:
    """Yield (path, table) for each well-formed table of the array `key`; for checks, which meet unchecked data."""
    array = data.get(key) if isinstance(data, dict) else None
    for index, row in enumerate(array if isinstance(array, list) else []):
        if isinstance(row, dict):
            yield (*at, key, index), row


def plain(row: Table, key: str) -> str | int | None:
    """Return a row's text or whole number; None for all else, which the model refuses. For checks: it can be a key."""
    value = row.get(key)
    return value if isinstance(value, str | int) else None


def repeated(values: Iterable[tuple[KeyPath, object]], what: str) -> Iterator[Fault]:
    """Yield a fault for each value (a string, a whole number, some of them) met before; others are the model's."""
    first: dict[object, KeyPath] = {}
    for path, value in values:
        parts = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(part, str | int) for part in parts):
            continue
        if value in first:
            yield Fault(path, f"{what} is used twice, first at {dotted(first[value][:-1])}")
        first.setdefault(value, path)


def dotted(path: KeyPath) -> str:
    """Return the path as people write it: stations[0].sensors[1].address."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _faults_of(error: ValidationError) -> Iterator[Fault]:
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        text = _PLAIN_TEXTS.get(fault["type"], fault["msg"].removeprefix("Value error, "))
        yield Fault(fault["loc"], text)


def _describe(faults: list[Fault], text: str, file: str) -> str:
    lines = locate(text)
    located = sorted({(_line_of(lines, fault.path), dotted(fault.path), fault.text) for fault in faults})
    return "\n".join(
        f"{file}:{line}: {where}: {what}" if where else f"{file}:{line}: {what}" for line, where, what in located
    )


def _line_of(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """Return the line of the longest known part of the path, passing over parts that are no keys (names of types)."""
    known: KeyPath = ()
    for part in path:
        if (*known, part) in lines:
            known = (*known, part)
    return lines.get(known, 1)


def locate(text: str) -> dict[KeyPath, int]:
    """Return the line of every table, key and array element of a valid TOML text.

    tomllib tells no lines, but it can be asked about pieces: a statement ends on the first line with which it parses.
    """
    lines = text.splitlines()
    found: dict[KeyPath, int] = {}
    array_at: dict[KeyPath, int] = {}
    table: KeyPath = ()
    index = 0
    while index < len(lines):
        last, statement = _statement(lines, index)
        if lines[index].lstrip().startswith("["):
            table = _enter(statement, array_at, lines[index].lstrip().startswith("[["))
            for length in range(1, len(table) + 1):
                found.setdefault(table[:length], index + 1)
        elif statement:
            _record(statement, table, index, lines[index : last + 1], found)
        index = last + 1
    return found


def _statement(lines: list[str], start: int) -> tuple[int, Table]:
    """Return (last line, parsed) of the statement that begins on line `start`."""
    for last in range(start, len(lines)):
        try:
            return last, tomllib.loads("\n".join(lines[start : last + 1]))
        except tomllib.TOMLDecodeError:
            continue
    return len(lines) - 1, {}


def _enter(header: Table, array_at: dict[KeyPath, int], is_array: bool) -> KeyPath:
    """Return the path of the table a [header] or [[header]] opens; counts the elements of arrays of tables."""
    keys, node = [], header
    while isinstance(node, dict) and node:
        key = next(iter(node))
        keys.append(key)
        node = node[key]
    path: KeyPath = ()
    for position, key in enumerate(keys):
        path = (*path, key)
        if is_array and position == len(keys) - 1:
            array_at[path] = array_at.get(path, -1) + 1
        if path in array_at:
            path = (*path, array_at[path])
    return path


def _record(value: object, path: KeyPath, line: int, source: list[str], found: dict[KeyPath, int]) -> None:
    """Note the line of everything inside a statement; elements of an array over several lines get their own."""
    if isinstance(value, dict):
        for key, inner in value.items():
            found.setdefault((*path, key), line + 1)
            _record(inner, (*path, key), line, source, found)
    elif isinstance(value, list):
        ends = _element_lines(source) if len(source) > 1 else []
        for index, inner in enumerate(value):
            at = line + (ends[index] if index < len(ends) else max(len(source) - 1, 0))
            found[(*path, index)] = at + 1
            _record(inner, (*path, index), at, [], found)


def _element_lines(source: list[str]) -> list[int]:
    """Return for each element of `key = [ ... ]` the line, counted from the key's, on which it is complete."""
    ends: list[int] = []
    for last in range(len(source) - 1):
        try:
            node: Any = tomllib.loads("\n".join(source[: last + 1]) + "\n]")
        except tomllib.TOMLDecodeError:
            continue
        while isinstance(node, dict):
            node = next(iter(node.values()))
        ends += [last] * (len(node) - len(ends))
    return ends
