"""What the gateway last heard from each station: written by the lines' threads, read by uplink and status."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True)
class Contact:
    """The last state of one station. Sequence numbers are None before the first answer; times in unix seconds."""

    station: str
    reachable: bool = False
    reason: str = "not asked yet"
    journal: int | None = None
    first_seq: int | None = None
    next_seq: int | None = None
    acknowledged: int | None = None
    last_contact: int | None = None
    questions: int = 0
    timeouts: int = 0
    crc_errors: int = 0
    late_answers: int = 0
    wrong_answers: int = 0
    refusals: int = 0
    latency_counts: Sequence[int] = ()
    """Answers by how long they took, in firmware.patience.LATENCY_CLASSES_MS; all since the gateway started."""
    latency_max_ms: int = 0

    def to_json(self) -> str:
        """Return the contact as JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Contact:
        """Return the contact that `to_json` wrote; fields this version does not know are left out."""
        fields = json.loads(text)
        return cls(**{name: value for name, value in fields.items() if name in cls.__dataclass_fields__})


class ContactBook:
    """The contacts of all stations, safe to use from any thread."""

    def __init__(self, stations: tuple[str, ...]) -> None:
        self._contacts = {station: Contact(station) for station in stations}
        self._lock = threading.Lock()
        self.turned = threading.Event()
        """Set when a station became reachable or unreachable, or got another journal."""

    def update(self, station: str, **changes: object) -> Contact:
        """Change fields of a station's contact and return it."""
        with self._lock:
            before = self._contacts[station]
            after = replace(before, **changes)  # type: ignore[arg-type]  # names and types are Contact's own
            self._contacts[station] = after
        if (before.reachable, before.journal) != (after.reachable, after.journal):
            self.turned.set()
        return after

    def all(self) -> dict[str, Contact]:
        """Return all contacts as they are now."""
        with self._lock:
            return dict(self._contacts)
