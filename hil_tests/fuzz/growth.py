"""What stays when inputs are tried again and again, in a process without atheris.

Of a comparison whose result is an object (a SQL expression, a numpy array) instrumentation by atheris 3.0 keeps that
object for ever. So growth in a fuzzing process is only a suspicion, and is looked at here with the inputs it found.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hil_tests.fuzz.target import Target, try_input

STAYING = 0.2  # objects for each input tried
AT_LEAST = 200  # objects: tables of the interpreter that fill by and by
WARM_ROUNDS, ROUNDS = 2, 3


def objects_staying(target: Target, inputs: Sequence[bytes], rounds: int = ROUNDS) -> int:
    """Return how many objects more there are after `rounds` of the same inputs, caches being warm."""
    _try_all(target, inputs, WARM_ROUNDS)
    before = _objects()
    _try_all(target, inputs, rounds)
    return _objects() - before


def most_staying(inputs: int, rounds: int = ROUNDS) -> int:
    """Return how many may stay without being growth."""
    return max(AT_LEAST, int(STAYING * rounds * inputs))


def grows(target: Target, inputs: Path) -> bool:
    """Try all files of a folder in a process of its own, without instrumentation."""
    command = (sys.executable, "-m", "hil_tests.fuzz", target.name, "--replay", str(inputs))
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


def _try_all(target: Target, inputs: Sequence[bytes], rounds: int) -> None:
    for _ in range(rounds):
        for data in inputs:
            try_input(target, data)


def _objects() -> int:
    gc.collect()
    return sys.getallocatedblocks()
