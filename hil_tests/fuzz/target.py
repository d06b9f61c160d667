"""One target, one input: what came of it."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import FrameType
from typing import NamedTuple

Refusals = tuple[type[BaseException], ...]
SLOW_MS = 1000


@dataclass(frozen=True)
class Target:
    """`try_one` takes bytes; `refuses` are the errors its caller expects; `seeds` are where a first run begins.

    `slow_ms` of processor time are too long; `longest` bytes are as many as are made up.
    """

    name: str
    try_one: Callable[[bytes], object]
    refuses: Refusals = ()
    seeds: Callable[[], Iterable[bytes]] = tuple
    longest: int = 2048
    slow_ms: int = SLOW_MS


class Finding(NamedTuple):
    """Something that must not happen; findings of one `place` are one fault."""

    kind: str
    place: str
    text: str


class Outcome(NamedTuple):
    """What came of one input, and how much of the processor's time it took."""

    finding: Finding | None
    cpu_ms: float


class _Endless(BaseException):
    """Not an Exception: what is tried must not catch it."""


def try_input(target: Target, data: bytes) -> Outcome:
    """Try one input, for at most `slow_ms` of the processor's time. Main thread only: it uses a timer's signal."""
    before = signal.signal(signal.SIGPROF, _end)
    signal.setitimer(signal.ITIMER_PROF, target.slow_ms / 1000)
    began = time.process_time_ns()
    try:
        finding = _tried(target, data)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return Outcome(finding, (time.process_time_ns() - began) / 1e6)


def _tried(target: Target, data: bytes) -> Finding | None:
    try:
        target.try_one(data)
    except target.refuses:
        return None
    except _Endless as error:
        return Finding("slow", "time", f"more than {target.slow_ms} ms\n{_told(error)}")
    except Exception as error:  # noqa: BLE001  every other exception is what is looked for
        return Finding("crash", _place(error), _told(error))
    return None


def _place(error: BaseException) -> str:
    """Return a name for where it happened, which stays when lines move: the error, the innermost function."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "site-packages" not in frame.filename and "hil_tests" not in frame.filename]
    return f"{type(error).__name__}-{(ours or frames)[-1].name.strip('<>')}"


def _told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error, limit=-12))[-4000:]


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise _Endless
