"""What must not stand in the logs of the product's programs, whatever is broken around them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

PROGRAMS = ("gw-*.log", "cloud.log", "ingest-*.log")
_FLASH_FAULT = b"vboard: flash fault"


def exceptions_in(folder: Path) -> list[str]:
    """Return in words the exceptions that programs did not expect, with how often; and boards whose flash was lost."""
    found: Counter[str] = Counter()
    for pattern in PROGRAMS:
        for log in sorted(folder.glob(pattern)):
            found.update(f"{log.stem}: {one}" for one in exceptions_of(log.read_text(errors="replace").splitlines()))
    for console in sorted(folder.glob("boards/*.console*")):
        if _FLASH_FAULT in console.read_bytes():
            found[f"{console.stem}: the board's flash could not be mounted and was formatted"] += 1
    return [f"{what}" + (f" ({number} times)" if number > 1 else "") for what, number in found.most_common()]


def exceptions_of(lines: Iterable[str]) -> Iterable[str]:
    """Yield the last exception of each traceback: one in a JSON line, or one over several lines of its own."""
    inside = False
    for line in lines:
        if line.startswith("{"):
            said = _exception_of(line)
            if said is not None:
                yield said
        elif line.startswith("Traceback (most recent call last)"):
            inside = True
        elif inside and line and not line.startswith(" "):
            inside = False
            yield line[:160]


def _exception_of(line: str) -> str | None:
    """Return the last line of the traceback in a JSON line of a log, None without one."""
    try:
        told = json.loads(line).get("exception")
    except ValueError:  # torn by a kill
        return None
    return str(told).strip().splitlines()[-1][:160] if told else None
