"""Make firmware source smaller in a board's memory, before it is compiled; what it does stays the same.

MicroPython keeps every name of loaded bytecode in the heap, once each: a fifth of what the firmware takes.

- Private names (`_like_this`) get short ones, and those that only one module uses share them from module to module.
  Arguments of functions do too, where no call names them.
- Whole numbers with a NAME_LIKE_THIS stand where they are used, and their names go (but in KEPT, for other programs).
- Functions that nothing uses on the board go. All other names stay.
"""

from __future__ import annotations

import ast
import itertools
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

START = "start"  # of main: what the loader calls
KEPT = frozenset({"record"})  # modules whose numbers other programs on a board may import

Function = ast.FunctionDef | ast.AsyncFunctionDef


def shorten(sources: Mapping[str, str]) -> dict[str, str]:
    """Return the same modules, by name, with short private names. All modules that import each other go together."""
    trees = {name: ast.parse(text) for name, text in sources.items()}
    numbers: dict[str, dict[str, int]] = {}
    for name in sources:
        _put_numbers_in(name, trees, numbers)
    _drop_unused(trees)
    attributes = set(itertools.chain.from_iterable(map(_attributes, trees.values())))
    modules = Counter(itertools.chain.from_iterable(attributes & _private_names(tree) for tree in trees.values()))
    of_package = dict(zip(sorted(name for name in modules if modules[name] > 1), _short("_{}"), strict=False))
    named_in_calls = {node.arg for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    return {name: _shorten(tree, of_package, named_in_calls) for name, tree in trees.items()}


def _drop_unused(trees: Mapping[str, ast.Module]) -> None:
    """Take out functions of modules that nothing on the board uses: they are there for tests and host programs."""
    used = {START}
    for tree in trees.values():
        for node in ast.walk(tree):
            used.update(getattr(node, place) for place in ("id", "attr", "name") if _refers(node, place))
    for tree in trees.values():
        tree.body = [node for node in tree.body if not isinstance(node, Function) or node.name in used]


def _refers(node: ast.AST, place: str) -> bool:
    return isinstance(getattr(node, place, None), str) and not isinstance(node, Function | ast.ClassDef)


def _put_numbers_in(name: str, trees: Mapping[str, ast.Module], numbers: dict[str, dict[str, int]]) -> dict[str, int]:
    """Replace the named numbers in one module, those it imports first; return its own."""
    if name in numbers:
        return numbers[name]
    numbers[name] = own = {}
    tree, known = trees[name], _Numbers()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or (node.module or "").partition(".")[0] != "firmware":
            continue
        module = (node.module or "").partition(".")[2]
        for alias in node.names:
            if not module and alias.name in trees:
                known.of_modules[alias.asname or alias.name] = _put_numbers_in(alias.name, trees, numbers)
            elif alias.name in (theirs := _put_numbers_in(module, trees, numbers) if module in trees else {}):
                known.own[alias.asname or alias.name] = theirs[alias.name]
        node.names = [alias for alias in node.names if (alias.asname or alias.name) not in known.own]
    kept = []
    for statement in tree.body:
        known.visit(statement)
        constant = _named_number(statement)
        if constant is not None:
            own[constant[0]] = known.own[constant[0]] = constant[1]
        if (constant is None or name in KEPT) and not (isinstance(statement, ast.ImportFrom) and not statement.names):
            kept.append(statement)
    tree.body = kept
    return own


def _named_number(statement: ast.stmt) -> tuple[str, int] | None:
    if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
        return None
    name = statement.targets[0].id
    try:
        value = eval(compile(ast.Expression(statement.value), name, "eval"), {"__builtins__": {}})  # noqa: S307 - numbers
    except (NameError, TypeError):
        return None
    return (name, value) if name.isupper() and type(value) is int else None


class _Numbers(ast.NodeTransformer):
    """Put numbers where their names stand."""

    def __init__(self) -> None:
        self.own: dict[str, int] = {}
        self.of_modules: dict[str, dict[str, int]] = {}

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if isinstance(node.ctx, ast.Load) and node.id in self.own:
            return ast.copy_location(ast.Constant(self.own[node.id]), node)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if isinstance(node.value, ast.Name) and node.attr in self.of_modules.get(node.value.id, {}):
            return ast.copy_location(ast.Constant(self.of_modules[node.value.id][node.attr]), node)
        self.generic_visit(node)
        return node


def _shorten(tree: ast.Module, of_package: Mapping[str, str], named_in_calls: set[str | None]) -> str:
    own = _private_names(tree)
    free = itertools.islice(_short("_{}"), len(of_package), None)
    of_module = dict(zip(sorted(own - set(of_package)), free, strict=False))
    _Renamer({**of_package, **of_module}).visit(tree)
    for node in ast.walk(tree):
        if isinstance(node, Function):
            _shorten_arguments(node, named_in_calls)
    return ast.unparse(tree)


def _private_names(tree: ast.Module) -> set[str]:
    found = {getattr(node, place, None) for node in ast.walk(tree) for place in ("id", "attr", "name", "asname")}
    return {name for name in found if isinstance(name, str) and _is_private(name)}


def _attributes(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            yield node.attr
        elif isinstance(node, ast.alias) and _is_private(node.name):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            yield from filter(_is_private, _defined_in(node.body))


def _defined_in(body: Iterable[ast.stmt]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, Function | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Assign):
            yield from (
                node.id for target in statement.targets for node in ast.walk(target) if isinstance(node, ast.Name)
            )


def _shorten_arguments(function: Function, named_in_calls: set[str | None]) -> None:
    """Rename the arguments that have no default and that no call names; such a call could not be seen otherwise."""
    inside = [node for node in ast.walk(function) if isinstance(node, Function | ast.Lambda)]
    if len(inside) > 1 or function.args.kwonlyargs or function.args.kwarg or function.args.vararg:
        return
    arguments = function.args.args[: len(function.args.args) - len(function.args.defaults)]
    names = [argument.arg for argument in arguments if argument.arg != "self" and argument.arg not in named_in_calls]
    short = dict(zip(names, _short("{}_"), strict=False))
    for node in ast.walk(function):
        if isinstance(node, ast.Name):
            node.id = short.get(node.id, node.id)
        elif isinstance(node, ast.arg):
            node.arg = short.get(node.arg, node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            node.name = short.get(node.name, node.name)


class _Renamer(ast.NodeTransformer):
    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def visit(self, node: ast.AST) -> ast.AST:
        for place in ("id", "attr", "name", "asname"):
            name = getattr(node, place, None)
            if isinstance(name, str):
                setattr(node, place, self._names.get(name, name))
        return self.generic_visit(node)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def _short(form: str) -> Iterator[str]:
    letters = string.ascii_lowercase
    for length in itertools.count(1):
        for letter in itertools.product(letters, repeat=length):
            yield form.format("".join(letter))
