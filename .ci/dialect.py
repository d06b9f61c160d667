"""Check that firmware/ keeps to the MicroPython it will meet on a board. Usage: dialect.py FOLDER...

mpy-cross finds what does not parse. This finds what parses on the host and fails, or means something else, on the
board: modules that are not there, modules that only the unix port has, methods and arguments that are missing.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ON_BOARDS = frozenset(
    "array asyncio binascii collections errno gc hashlib io json machine math micropython os random re select struct"
    " sys time uctypes vfs firmware".split()
)
WHY_NOT = {
    "socket": "the unix port has it, a board on a Modbus line does not",
    "typing": "not on the board",
    "dataclasses": "not on the board",
    "enum": "not on the board",
    "pathlib": "not on the board",
    "logging": "not on the board",
    "contextlib": "not on the board",
}
ABSENT_METHODS = frozenset(
    "removeprefix removesuffix _replace _asdict casefold hex fromhex isidentifier title expandtabs translate".split()
)
ONLY_UNIX = {("os", "system"), ("os", "getenv"), ("os", "environ"), ("os", "popen"), ("os", "path"), ("os", "fsync")}
ABSENT_ATTRIBUTES = {("asyncio", "TaskGroup"), ("asyncio", "timeout"), ("time", "monotonic"), ("time", "perf_counter")}
ABSENT_NODES = (ast.Match, ast.TryStar)
ABSENT_KEYWORDS = {"namedtuple": {"defaults"}, "dumps": {"sort_keys", "indent"}, "from_bytes": {"signed"}}


def faults(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, what is wrong) of one parsed file."""
    for node in _on_the_board(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imports(node)
        elif isinstance(node, ast.Attribute):
            yield from _attribute(node)
        elif isinstance(node, ast.Call):
            yield from _call(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.args.posonlyargs:
            yield node.lineno, "positional-only arguments are not in MicroPython"
        elif isinstance(node, ABSENT_NODES):
            yield node.lineno, f"{type(node).__name__.lower()} is not in MicroPython"
        elif isinstance(node, ast.Raise) and node.cause is not None:
            yield node.lineno, "raise ... from drops the cause on the board with a warning"


def _on_the_board(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk all that a board runs: not what stands under `except ImportError`, which is for the host."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        host_only = isinstance(child, ast.ExceptHandler) and getattr(child.type, "id", "") == "ImportError"
        if not host_only:
            yield from _on_the_board(child)


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[int, str]]:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    for name in names:
        top = name.split(".")[0]
        if top not in ON_BOARDS:
            yield node.lineno, f"import {name}: {WHY_NOT.get(top, 'not among the modules every board has')}"


def _attribute(node: ast.Attribute) -> Iterator[tuple[int, str]]:
    own = isinstance(node.value, ast.Name) and node.value.id == "self"
    if node.attr in ABSENT_METHODS and not own:
        yield node.lineno, f".{node.attr} is not in MicroPython"
    if isinstance(node.value, ast.Name) and (node.value.id, node.attr) in ONLY_UNIX | ABSENT_ATTRIBUTES:
        yield node.lineno, f"{node.value.id}.{node.attr} is not on a board"


def _call(node: ast.Call) -> Iterator[tuple[int, str]]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    for keyword in node.keywords:
        if keyword.arg in ABSENT_KEYWORDS.get(name, ()):
            yield node.lineno, f"{name}({keyword.arg}=) is not in MicroPython"
    if name in ("startswith", "endswith") and node.args and isinstance(node.args[0], ast.Tuple):
        yield node.lineno, f"{name} takes no tuple in MicroPython"
    if name == "zip" and node.keywords:
        yield node.lineno, "zip(strict=) is not in MicroPython"


def main(folders: list[str]) -> int:
    """Print every fault as file:line: text; return how many."""
    number = 0
    for folder in folders:
        for path in sorted(Path(folder).glob("*.py")):
            for line, text in sorted(faults(ast.parse(path.read_text(encoding="utf-8"), str(path)))):
                sys.stdout.write(f"{path}:{line}: {text}\n")
                number += 1
    return number


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
