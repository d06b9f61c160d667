"""All targets. Each module returns its own."""

from __future__ import annotations

from typing import Any, NoReturn

import structlog

from hil_tests.fuzz.target import Target
from hil_tests.fuzz.targets import configuration, files, instruments, messages, modbus, people, records


def all_targets() -> list[Target]:
    """Return every target, in the order of the way of the data."""
    modules = (records, modbus, instruments, messages, people, configuration, files)
    return [target for module in modules for target in module.targets()]


def be_quiet() -> None:
    """Have the parsers' own log lines dropped: at thousands of damaged inputs a second they are the slow part."""
    structlog.configure(processors=[_dropped])


def _dropped(*_: Any) -> NoReturn:
    raise structlog.DropEvent
