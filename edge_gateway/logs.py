"""How the log is written: to systemd's journal, for people on a terminal, or as JSON for whoever collects it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from enum import StrEnum
from typing import Any, TextIO

import structlog

from edge_gateway.log_ring import LogRing

# sd-daemon(3): a line that begins with <n> has that priority in the journal; the numbers are syslog's.
PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}


class LogFormat(StrEnum):
    """How the log is written."""

    auto = "auto"
    journal = "journal"
    json = "json"
    console = "console"


def set_up_log(log_format: LogFormat, environment: Mapping[str, str], recent: LogRing | None = None) -> None:
    """Write the log to stderr from now on, and its newest lines to `recent`."""
    # pymodbus writes a line for every timeout; the link counts them, and tells when a station's state changes.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    chosen = _detected(environment, sys.stderr) if log_format is LogFormat.auto else log_format
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            *([recent] if recent else []),
            *_processors(chosen),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )


def is_journal(environment: Mapping[str, str], stream: TextIO) -> bool:
    """Whether the stream is connected to systemd's journal: JOURNAL_STREAM names its device and inode."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # a stream without a file
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def journal_line(_logger: object, _name: str, event: MutableMapping[str, Any]) -> str:
    """Return an entry for the journal, which knows the time itself: <priority>, what happened, key=value."""
    priority = f"<{PRIORITIES[event.pop('level')]}>"
    traceback = event.pop("exception", "")
    text = event.pop("event")
    pairs = structlog.processors.LogfmtRenderer()(None, "", {key: _plain(value) for key, value in event.items()})
    lines = [f"{text} {pairs}".rstrip(), *traceback.splitlines()]
    return "\n".join(priority + line for line in lines)


def _detected(environment: Mapping[str, str], stream: TextIO) -> LogFormat:
    if is_journal(environment, stream):
        return LogFormat.journal
    return LogFormat.console if stream.isatty() else LogFormat.json


def _processors(chosen: LogFormat) -> list[Any]:
    if chosen is LogFormat.journal:
        return [structlog.processors.format_exc_info, journal_line]
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    if chosen is LogFormat.console:
        return [stamp, structlog.dev.ConsoleRenderer()]
    return [stamp, structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
