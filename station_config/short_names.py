"""Give the firmware's private names short ones, before it is compiled: MicroPython keeps every name in the heap.

- A private name is one `_like_this` that the firmware itself defines, except for numbers (`_X = const(1)`), whose names
  the compiler drops. One that stands in a single module gets a short name of that module, and the next module uses the
  same short names again; one that stands in several modules gets the same short name in all of them.
- Arguments of functions get short names too, but for those that a call may name.

Nothing else changes, not even a line's number.

Why it does the same: within a module no two private names become one, nor do two names in a function, so each module
is the same program with other names. Between modules only shared names meet, and those are the same everywhere. What
could still tell the difference is refused (`ShortNamesRefused`): names in strings, looking into namespaces, setting a
private attribute of another module's object, and classes that inherit private names from another module. `shorten`
proves the first part each time: it reads its own result, puts the long names back, and compares the syntax trees.

    python -m station_config.short_names < traceback.txt      # puts the long names back into a board's traceback
"""

from __future__ import annotations

import ast
import io
import itertools
import re
import string
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from station_config.errors import StationConfigError

Names = dict[str, str]  # long: short
Function = ast.FunctionDef | ast.AsyncFunctionDef

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_FRAME = re.compile(r'File "(\w+)", line \d+, in (\w+)')
_NAMESPACES = frozenset({"__dict__", "dir", "eval", "exec", "globals", "locals", "vars"})


class ShortNamesRefused(StationConfigError):
    """The firmware does something that private names could not be shortened under."""


def shorten(sources: Mapping[str, str]) -> dict[str, str]:
    """Return the same modules, by name, with short private names. Raises ShortNamesRefused, SyntaxError."""
    names, named_in_calls = short_names(sources), set(_named_in_calls(sources))
    return {module: _renamed(module, text, names[module], named_in_calls) for module, text in sources.items()}


def short_names(sources: Mapping[str, str]) -> dict[str, Names]:
    """Return for each module the short name of each private name in it. Raises ShortNamesRefused, SyntaxError."""
    trees = {module: ast.parse(text) for module, text in sources.items()}
    dropped = set(itertools.chain.from_iterable(map(_constants, trees.values())))
    defined = set(itertools.chain.from_iterable(map(_defined, trees.values()))) - dropped
    private = {module: {name for name in _identifiers(text) if name in defined} for module, text in sources.items()}
    modules = Counter(itertools.chain.from_iterable(private.values()))
    shared = {name for name, number in modules.items() if number > 1}
    for module, tree in trees.items():
        _refuse_what_would_differ(module, tree, defined, shared, private)
    taken = set(itertools.chain.from_iterable(map(_identifiers, sources.values())))
    of_all = dict(zip(sorted(shared), _short("_{}", taken), strict=False))
    return {module: of_all | _of_module(private[module] - shared, taken | set(of_all.values())) for module in sources}


def readable(traceback: str, names: Mapping[str, Names]) -> str:
    """Return a board's traceback with the long names of its functions."""

    def long(frame: re.Match[str]) -> str:
        of_module = {short: name for name, short in names.get(frame[1], {}).items()}
        return frame[0][: frame.start(2) - frame.start()] + of_module.get(frame[2], frame[2])

    return _FRAME.sub(long, traceback)


def _of_module(names: set[str], taken: set[str]) -> Names:
    return dict(zip(sorted(names), _short("_{}", taken), strict=False))


def _short(form: str, taken: set[str]) -> Iterator[str]:
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            name = form.format("".join(letters))
            if name not in taken:
                yield name


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def _defined(tree: ast.AST) -> Iterator[str]:
    """Yield the private names that this module makes: of functions, classes, arguments, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            name = node.attr
        elif isinstance(node, ast.arg):
            name = node.arg
        else:
            continue
        if _is_private(name):
            yield name


def _constants(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and ast.unparse(node.value.func) == "const"
        ):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _refuse_what_would_differ(
    module: str, tree: ast.AST, defined: set[str], shared: set[str], private: Mapping[str, set[str]]
) -> None:
    imported = {alias.asname or alias.name: node.module for node, alias in _from_imports(tree)}
    for node in ast.walk(tree):
        why = None
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            inside = defined.intersection(_IDENTIFIER.findall(node.value))
            why = f"a string holds the private name {min(inside)}" if inside else None
        elif isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            if name in _NAMESPACES:
                why = f"{name} looks into a namespace"
            elif isinstance(node, ast.Attribute) and _is_foreign(node) and name in defined - shared:
                why = f"{name} is set on an object that may be another module's"
        elif isinstance(node, ast.ClassDef):
            bases = [imported.get(base.id) for base in node.bases if isinstance(base, ast.Name)]
            inherited = [base for base in bases if base and private.get(base.rpartition(".")[2])]
            why = f"{node.name} inherits private names from {inherited[0]}" if inherited else None
        if why:
            raise ShortNamesRefused(f"firmware/{module}.py line {getattr(node, 'lineno', 0)}: {why}")


def _from_imports(tree: ast.AST) -> Iterator[tuple[ast.ImportFrom, ast.alias]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from ((node, alias) for alias in node.names)


def _is_foreign(node: ast.Attribute) -> bool:
    is_own = isinstance(node.value, ast.Name) and node.value.id == "self"
    return not isinstance(node.ctx, ast.Load) and not is_own


def _identifiers(text: str) -> set[str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


def _named_in_calls(sources: Mapping[str, str]) -> Iterator[str]:
    """Yield what a call may name an argument by: a keyword, or a string, since a dict can be handed over."""
    for text in sources.values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.keyword) and node.arg is not None:
                yield node.arg
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def _of_arguments(function: Function, named_in_calls: set[str]) -> Names:
    """Return short names for a function's arguments: none of them is used for anything else inside."""
    arguments = function.args.posonlyargs + function.args.args
    names = [one.arg for one in arguments if one.arg != "self" and one.arg not in named_in_calls]
    return dict(zip(names, _short("{}_", _names_in(function)), strict=False))


def _functions(tree: ast.AST) -> list[Function]:
    """Return the functions that stand in no other function."""
    found = []
    for node in ast.iter_child_nodes(tree):
        found += [node] if isinstance(node, Function) else _functions(node)
    return found


def _places_in(function: Function) -> Iterator[tuple[ast.AST, str, str]]:
    """Yield every (node, attribute, name) in which a function holds the name of a variable."""
    for node, place, name in _places(function):
        if isinstance(node, ast.Name | ast.arg | ast.ExceptHandler):
            yield node, place, name


def _renamed(module: str, text: str, names: Names, named_in_calls: set[str]) -> str:
    lines = text.splitlines(keepends=True)
    arguments = {}
    tree = ast.parse(text)
    for function in _functions(tree):
        short = _of_arguments(function, named_in_calls)
        for node, _, name in _places_in(function):
            if name in short and isinstance(node, ast.Name | ast.arg):
                arguments[node.lineno, node.col_offset] = short[name]
    for token in reversed(list(tokenize.generate_tokens(io.StringIO(text).readline))):
        shorter = arguments.get(token.start) or names.get(token.string)
        if token.type == tokenize.NAME and shorter:
            (row, begin), (_, end) = token.start, token.end
            lines[row - 1] = lines[row - 1][:begin] + shorter + lines[row - 1][end:]
    short_text = "".join(lines)
    _prove(module, tree, ast.parse(short_text), names, named_in_calls)
    return short_text


def _prove(module: str, before: ast.Module, after: ast.Module, names: Names, named_in_calls: set[str]) -> None:
    """Raise ShortNamesRefused unless the result, with the long names put back, is the same program."""
    is_one_to_one = _put_back(after, names, before)
    for was, now in zip(_functions(before), _functions(after), strict=True):
        is_one_to_one = is_one_to_one and _put_back_in(now, _of_arguments(was, named_in_calls), was)
    if not is_one_to_one or ast.dump(after) != ast.dump(before):
        raise ShortNamesRefused(f"firmware/{module}.py is not the same with short names; this is a fault of ours")


def _put_back(after: ast.AST, names: Names, before: ast.AST) -> bool:
    """Put long names back; return whether that tells them all apart."""
    long = {short: name for name, short in names.items()}
    is_one_to_one = len(long) == len(names) and set(long).isdisjoint(_names_in(before))
    is_whole = set(names).isdisjoint(_names_in(after))
    for node, place, name in _places(after):
        setattr(node, place, long.get(name, name))
    return is_one_to_one and is_whole


def _put_back_in(after: Function, names: Names, before: Function) -> bool:
    long = {short: name for name, short in names.items()}
    is_one_to_one = len(long) == len(names) and set(long).isdisjoint(_names_in(before))
    is_whole = set(names).isdisjoint(name for _, _, name in _places_in(after))
    for node, place, name in _places_in(after):
        setattr(node, place, long.get(name, name))
    return is_one_to_one and is_whole


def _names_in(tree: ast.AST) -> set[str]:
    return {name for _, _, name in _places(tree)}


def _places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, str]]:
    """Yield every (node, attribute, name) in which a syntax tree holds a name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Global | ast.Nonlocal):
            raise ShortNamesRefused(f"line {node.lineno}: global and nonlocal are not known here")
        for place in ("id", "attr", "arg", "name", "asname"):
            name = getattr(node, place, None)
            if isinstance(name, str):
                yield node, place, name


def _main(lines: Iterable[str]) -> None:
    from station_config.flash import firmware_sources

    names = short_names(firmware_sources())
    for line in lines:
        sys.stdout.write(readable(line, names))


if __name__ == "__main__":
    _main(sys.stdin)
