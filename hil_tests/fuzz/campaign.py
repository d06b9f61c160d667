"""All targets in turn, two at a time, each in a process forked from one that has everything imported, instrumented."""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path

from hil_tests.fuzz import corpus, scratch
from hil_tests.fuzz.fuzzing import Order, Result, fuzz
from hil_tests.fuzz.growth import grows
from hil_tests.fuzz.target import Target

AT_ONCE = 2
LATE_S = 120.0  # beyond its time: then a process is ended, and that is a finding
SETTLE_S = 0.5  # of a target's time: its process's start
INSTRUMENTED = ("firmware", "station_config", "edge_gateway", "cloud_ingest", "alerts", "simulators", "pymodbus",
                "tomllib")  # fmt: skip
_COVERED = re.compile(rb"cov: (\d+) ft: (\d+) corp: (\d+)")


@dataclass(frozen=True)
class Row:
    """One target's line of the table."""

    result: Result
    new_branches: int
    corpus: int
    finding_files: dict[str, str] = field(default_factory=dict)


@dataclass
class _Running:
    target: Target
    order: Order
    ends_at: float


def load_targets(*, instrumented: bool) -> dict[str, Target]:
    """Return all targets by name; instrumented ones report to atheris which branches they take."""
    if instrumented:
        import atheris

        # It names every module it instruments on stderr.
        with (
            redirect_stderr(io.StringIO()),
            atheris.instrument_imports(list(INSTRUMENTED), enable_loader_override=False),
        ):
            module = importlib.import_module("hil_tests.fuzz.targets")
    else:
        module = importlib.import_module("hil_tests.fuzz.targets")
    module.be_quiet()
    return {target.name: target for target in module.all_targets()}


def run(targets: Sequence[Target], seconds: float, seed: int, folder: Path, told: Callable[[Row], None]) -> list[Row]:
    """Fuzz each target so that all take `seconds` together; `told` is called with each row as it comes."""
    each_s = max(1.0, AT_ONCE * seconds / len(targets) - SETTLE_S)
    waiting = list(targets)
    running: dict[int, _Running] = {}
    rows: list[Row] = []
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            target = waiting.pop(0)
            order = Order(each_s, seed, folder / target.name)
            running[_start(target, order)] = _Running(target, order, time.monotonic() + each_s + LATE_S)
        for pid, process in _ended(running):
            del running[pid]
            scratch.remove_after(pid)
            rows.append(_row(process))
            told(rows[-1])
    return rows


def _start(target: Target, order: Order) -> int:
    order.folder.mkdir(parents=True, exist_ok=True)
    (order.folder / "result.json").unlink(missing_ok=True)
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    log = os.open(order.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        fuzz(target, order)
    finally:
        os._exit(70)


def _ended(running: dict[int, _Running]) -> Iterator[tuple[int, _Running]]:
    """Yield the processes that have ended, waiting a little for the first; end those that are late."""
    for pid, process in list(running.items()):
        if time.monotonic() > process.ends_at:
            os.kill(pid, 9)
        if os.waitpid(pid, os.WNOHANG)[0]:
            yield pid, process
    time.sleep(0.05)


def _row(process: _Running) -> Row:
    folder, name = process.order.folder, process.target.name
    log = (folder / "log").read_bytes()
    path = folder / "result.json"
    result = Result(**json.loads(path.read_text())) if path.exists() else _died(name, folder, log)
    if "growth" in result.findings and not grows(process.target, folder / "corpus"):
        del result.findings["growth"]  # atheris's own, see growth.py
    covered = [int(branches) for branches, _, _ in _COVERED.findall(log)]
    new = covered[-1] - covered[0] if covered else 0
    return Row(result, new, len(list((folder / "corpus").glob("*"))))


def _died(name: str, folder: Path, log: bytes) -> Result:
    """Return what is known of a process that ended without a word of its own: libFuzzer wrote the input."""
    saved = next((str(file) for file in sorted(folder.glob("libfuzzer-*"))), "")
    text = log[-4000:].decode(errors="replace")
    return Result(name, findings={"died": {"kind": "crash", "text": text, "file": saved}})


def keep(targets: Iterable[Target], folder: Path) -> None:
    """Make what these runs found worth keeping the corpus of the repository."""
    for target in targets:
        found = [file.read_bytes() for file in (folder / target.name / "corpus").glob("*")]
        corpus.keep(target, [*found, *corpus.known(target)])
