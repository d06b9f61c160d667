"""Inputs worth keeping: one zip for each target, as few and as short as reach the same branches; and regressions."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from hil_tests.fuzz.target import Target, try_input

HERE = Path(__file__).parent
CORPUS, REGRESSIONS = HERE / "corpus", HERE / "regressions"
BYTES_AT_MOST = 1 << 20  # all zips together
INPUTS_PER_TARGET = 150
_OURS = tuple(str(HERE.parents[1] / name) for name in ("firmware", "station_config", "edge_gateway", "cloud_ingest",
                                                       "alerts", "simulators"))  # fmt: skip
_NO_DATE = (1980, 1, 1, 0, 0, 0)

Arc = tuple[str, int, int]
"""file, line before, line"""


def kept(target: str) -> list[bytes]:
    """Return the corpus of a target."""
    path = CORPUS / f"{target}.zip"
    if not path.exists():
        return []
    with zipfile.ZipFile(path) as packed:
        return [packed.read(name) for name in packed.namelist()]


def regressions(target: str) -> Mapping[str, bytes]:
    """Return the inputs that were findings once, by name."""
    return {path.name: path.read_bytes() for path in sorted((REGRESSIONS / target).glob("*"))}


def known(target: Target) -> list[bytes]:
    """Return all that is known for a target: seeds, corpus, regressions."""
    return list(dict.fromkeys([*target.seeds(), *kept(target.name), *regressions(target.name).values()]))


def keep(target: Target, inputs: Iterable[bytes]) -> int:
    """Make these the target's corpus, as few as reach the same branches; return how many they are."""
    fewest = minimised(target, inputs)
    CORPUS.mkdir(exist_ok=True)
    with zipfile.ZipFile(CORPUS / f"{target.name}.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for data in sorted(fewest, key=lambda data: (len(data), data)):
            packed.writestr(zipfile.ZipInfo(hashlib.sha256(data).hexdigest()[:16], _NO_DATE), data,
                            zipfile.ZIP_DEFLATED, 9)  # fmt: skip
    return len(fewest)


def minimised(target: Target, inputs: Iterable[bytes]) -> list[bytes]:
    """Return the shortest inputs that together take every branch of ours that all of them take."""
    taken: set[Arc] = set()
    fewest = []
    for data in sorted(set(inputs), key=lambda data: (len(data), data)):
        arcs, is_good = _arcs(target, data)
        if is_good and not arcs <= taken:
            taken |= arcs
            fewest.append(data)
    return fewest[-INPUTS_PER_TARGET:]


def _arcs(target: Target, data: bytes) -> tuple[set[Arc], bool]:
    """Return the steps from line to line that an input takes in our code, and whether it is no finding."""
    arcs: set[Arc] = set()
    last: dict[FrameType, int] = {}

    def look(frame: FrameType, event: str, _: Any) -> Any:
        if event == "call" and not frame.f_code.co_filename.startswith(_OURS):
            return None
        if event == "line":
            arcs.add((frame.f_code.co_filename, last.get(frame, 0), frame.f_lineno))
            last[frame] = frame.f_lineno
        elif event == "return":
            last.pop(frame, None)
        return look

    sys.settrace(look)
    try:
        outcome = try_input(target, data)
    finally:
        sys.settrace(None)
    return arcs, outcome.finding is None
