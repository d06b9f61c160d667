"""The newest lines of the gateway's own log, kept in memory for whoever asks from afar."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

LINES_KEPT = 200
LINE_CHARACTERS = 1000


class LogRing:
    """A structlog processor that passes every entry on and keeps the newest."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._lock = threading.Lock()

    def __call__(self, _logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Keep one entry."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        kept = {"time": now, **{key: value for key, value in event.items() if key != "exc_info"}}
        with self._lock:
            self._lines.append(json.dumps(kept, default=str, ensure_ascii=False)[:LINE_CHARACTERS])
        return event

    def lines(self) -> list[str]:
        """Return the lines kept, the oldest first."""
        with self._lock:
            return list(self._lines)
