"""Build the virtual board's interpreter: real MicroPython, unpatched, with a board around it.

`python -m simulators.virtual_board.build` prints the interpreter's path. The first call takes about half a minute, the
next ones milliseconds: the result is cached under a name made from everything that went into it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from simulators.virtual_board import source
from simulators.virtual_board.errors import VirtualBoardError, VirtualBoardMissing

HERE = Path(__file__).parent
BUILD_COMMAND = "python -m simulators.virtual_board.build"
TOOLS = {"make": "make", "gcc": "gcc", "ar": "binutils"}  # program: Debian package
MAKE_TIMEOUT_S = 900
PROBE = """
#include <math.h>
#include <stdio.h>
int main(int count, char **words) { return printf("%f", sqrt(count)) < 0; }
"""


@dataclass(frozen=True)
class Interpreter:
    """A built interpreter. On 64 bits every word of the heap is twice as wide, so a board needs twice the heap."""

    path: Path
    word_bits: int

    @property
    def heap_factor(self) -> int:
        """What a board's heap size must be multiplied by to hold the same objects."""
        return self.word_bits // 32


def _report(text: str) -> None:
    print(f"virtual board: {text}", file=sys.stderr, flush=True)  # noqa: T201 - progress goes to stderr


def _cache() -> Path:
    return (Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tram").absolute()


def _own_source() -> Path | None:
    text = os.environ.get("MICROPYTHON_SRC")
    return Path(text).resolve() if text else None


def _home() -> Path:
    """Return the folder of the build that belongs to these sources."""
    digest = hashlib.sha256(f"{source.SHA256} {_own_source() or ''}".encode())
    for part in ("variant", "frozen", "usermod"):
        for path in sorted((HERE / part).rglob("*.*")):
            if path.suffix in (".py", ".c", ".h", ".mk"):
                digest.update(f"{path.relative_to(HERE)}\n".encode() + path.read_bytes())
    return _cache() / f"virtual-board-{digest.hexdigest()[:16]}"


def _built(home: Path) -> Interpreter | None:
    try:
        word_bits = json.loads((home / "build.json").read_text())["word_bits"]
    except FileNotFoundError:
        return None
    return Interpreter(home / "micropython", word_bits)


def built_interpreter() -> Interpreter:
    """Return the built interpreter and its word size. Raises VirtualBoardMissing when there is none."""
    found = _built(_home())
    if found is None:
        raise VirtualBoardMissing(f"the virtual board's interpreter is not built. Run: {BUILD_COMMAND}")
    return found


def interpreter() -> Path:
    """Return the built interpreter's path. Raises VirtualBoardMissing when there is none."""
    return built_interpreter().path


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Hold the build lock, so that two builds do not clash."""
    with (cache / "virtual-board.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _report("another build is running; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require_tools() -> None:
    missing = sorted({package for program, package in TOOLS.items() if shutil.which(program) is None})
    if missing:
        raise VirtualBoardMissing(
            f"the virtual board's build needs {' '.join(missing)}. Run: apt-get install gcc gcc-multilib libc6-dev make"
        )


def _compiles(flag: str, workspace: Path) -> bool:
    program = workspace / "probe.c"
    program.write_text(PROBE)
    command = ["gcc", flag, "-o", str(workspace / "probe"), str(program), "-lm"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _word_bits(workspace: Path) -> int:
    if _compiles("-m32", workspace):
        return 32
    if _compiles("-m64", workspace):
        _report(
            "this compiler makes no 32-bit programs (apt-get install gcc-multilib): building for 64 bits, heap doubled"
        )
        return 64
    raise VirtualBoardMissing("gcc cannot compile a C program. Run: apt-get install gcc gcc-multilib libc6-dev")


def _source_tree(cache: Path, workspace: Path) -> Path:
    own = _own_source()
    if own is None:
        return source.unpack(source.fetch(cache, workspace, _report), workspace)
    if not (own / "ports" / "unix" / "Makefile").is_file():
        raise VirtualBoardMissing(f"MICROPYTHON_SRC={own} holds no MicroPython source tree (ports/unix/Makefile)")
    return Path(
        shutil.copytree(own, workspace / "source", ignore=shutil.ignore_patterns(".git", "build*"), symlinks=True)
    )


def _make(tree: Path, directory: str, *variables: str) -> None:
    command = ["make", "-C", str(tree / directory), f"-j{os.cpu_count() or 1}", f"PYTHON={sys.executable}", *variables]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=MAKE_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise VirtualBoardError(f"make {directory} failed:\n{tail}")


def _compile(tree: Path, workspace: Path, word_bits: int) -> Path:
    library = tree / "lib" / "micropython-lib"  # not in the package; the build only asks whether the folder is there
    library.mkdir(parents=True, exist_ok=True)
    (library / "README.md").touch()
    _make(tree, "mpy-cross")
    _make(
        tree,
        "ports/unix",
        f"VARIANT_DIR={HERE / 'variant'}",
        f"USER_C_MODULES={HERE / 'usermod'}",
        f"BUILD={workspace / 'objects'}",
        f"MICROPY_FORCE_32BIT={1 if word_bits == 32 else 0}",
    )
    return workspace / "objects" / "micropython"


def build() -> Interpreter:
    """Return the interpreter, building it first when it is not in the cache.

    Raises VirtualBoardMissing when something must be installed, VirtualBoardError when the build itself fails.
    """
    home, cache = _home(), _cache()
    found = _built(home)
    if found is not None:
        return found
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache):
        found = _built(home)
        if found is not None:
            return found
        _require_tools()
        with tempfile.TemporaryDirectory(prefix="virtual-board-", dir=cache) as temporary:
            _build_into(home, cache, Path(temporary))
    _report(f"ready in {home}")
    return built_interpreter()


def _build_into(home: Path, cache: Path, workspace: Path) -> None:
    word_bits = _word_bits(workspace)
    tree = _source_tree(cache, workspace)
    _report(f"building MicroPython {source.VERSION}, {word_bits} bits (about half a minute)")
    binary = _compile(tree, workspace, word_bits)
    result = workspace / "result"
    result.mkdir()
    shutil.copy2(binary, result / "micropython")
    (result / "build.json").write_text(json.dumps({"word_bits": word_bits, "micropython": source.VERSION}))
    shutil.rmtree(home, ignore_errors=True)
    result.rename(home)


def command() -> None:
    """Build the virtual board's MicroPython if need be, and print the interpreter's path."""
    try:
        typer.echo(build().path)
    except VirtualBoardError as error:
        typer.echo(f"virtual board: {error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(command)
