"""One target in a process of its own: atheris makes up inputs, what came of them is counted, findings are saved.

fuzz(target, Order(seconds=60, seed=1, folder=Path("…")))      does not return; result.json says how it was
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hil_tests.fuzz import corpus
from hil_tests.fuzz.target import Finding, Target, try_input

WARM_PART = 0.3  # of the time: until then caches and tables fill, and what grows is not counted
LOOK_EVERY = 256  # inputs
GROWTH_MB = 64  # libFuzzer keeps its own corpus and tables in the same process
GROWTH_OBJECTS = 100_000
SAVED_AT_MOST = 20  # places
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Order:
    """How long, from which seed, and where corpus, findings and result go."""

    seconds: float
    seed: int
    folder: Path


@dataclass
class Result:
    """What a run came to."""

    target: str
    inputs: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    rss_growth_mb: float = 0.0
    objects_growth: int = 0
    findings: dict[str, dict[str, str]] = field(default_factory=dict)


class Watch:
    """Tries inputs, counts, and ends the process when the time is over."""

    def __init__(self, target: Target, order: Order) -> None:
        self._target, self._order = target, order
        self._began = time.monotonic()
        self._result = Result(target.name)
        self._warm: tuple[float, int] | None = None

    def one(self, data: bytes) -> None:
        """Try one input."""
        finding, cpu_ms = try_input(self._target, data)
        self._result.inputs += 1
        if cpu_ms > self._result.slowest_ms:
            self._result.slowest_ms = cpu_ms
            (self._order.folder / "slowest").write_bytes(data)
        if finding is not None:
            self._save(finding, data)
        if self._result.inputs % LOOK_EVERY == 0 or cpu_ms > 1:
            self._look()

    def _look(self) -> None:
        elapsed = time.monotonic() - self._began
        if self._warm is None and elapsed > WARM_PART * self._order.seconds:
            self._warm = _size()
        if elapsed > self._order.seconds:
            self._end(elapsed)

    def _end(self, elapsed: float) -> None:
        result = self._result
        result.seconds = elapsed
        if self._warm is not None:
            rss_mb, objects = _size()
            result.rss_growth_mb = rss_mb - self._warm[0]
            result.objects_growth = objects - self._warm[1]
        if result.rss_growth_mb > GROWTH_MB or result.objects_growth > GROWTH_OBJECTS:
            result.findings["growth"] = {"kind": "growth", "text": "memory grew while inputs came and went", "file": ""}
        (self._order.folder / "result.json").write_text(json.dumps(asdict(result)))
        sys.stderr.flush()
        os._exit(0)

    def _save(self, finding: Finding, data: bytes) -> None:
        """Keep the shortest input of each place."""
        findings = self._result.findings
        known = findings.get(finding.place)
        if known is None and len(findings) >= SAVED_AT_MOST:
            return
        if known is not None and Path(known["file"]).stat().st_size <= len(data):
            return
        file = self._order.folder / f"{finding.kind}-{finding.place}-{hashlib.sha256(data).hexdigest()[:8]}"
        file.write_bytes(data)
        findings[finding.place] = {"kind": finding.kind, "text": finding.text, "file": str(file)}


def fuzz(target: Target, order: Order) -> None:
    """Fuzz until the time is over; the process ends then."""
    import atheris

    inputs = order.folder / "corpus"
    inputs.mkdir(parents=True, exist_ok=True)
    for data in corpus.known(target):
        (inputs / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    options = [
        f"-seed={order.seed + 1}",  # 0 would be another one each time
        f"-max_len={target.longest}",
        f"-artifact_prefix={order.folder}/libfuzzer-",
        "-timeout=60",  # of the wall's clock, for what holds the interpreter; slow_ms sees to the rest
        "-rss_limit_mb=3000",
        "-verbosity=1",
    ]
    watch = Watch(target, order)
    atheris.Setup([target.name, *options, str(inputs)], watch.one)
    atheris.Fuzz()


def _size() -> tuple[float, int]:
    """Return the process's memory in MB and how many objects live in it."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * PAGE_BYTES / 1e6, sys.getallocatedblocks()
