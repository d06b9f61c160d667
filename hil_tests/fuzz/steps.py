"""Coroutines that wait for nothing real, stepped by hand: an event loop for each input would be most of the work."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")
STEPS_AT_MOST = 200_000


def finished(coroutine: Coroutine[Any, Any, Answer]) -> Answer:
    """Return what a coroutine returns; its sleeps are steps. One that does not end is an AssertionError."""
    try:
        for _ in range(STEPS_AT_MOST):
            coroutine.send(None)
    except StopIteration as end:
        answer: Answer = end.value
        return answer
    finally:
        coroutine.close()
    raise AssertionError(f"not ended after {STEPS_AT_MOST} steps")
