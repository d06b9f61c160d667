"""The siren's thread: sounds for severe events, never longer than its bound, and is off whenever nobody asks for it.

Off at the start, whatever was before; off when the rule clears, when the time is over, and at the end. After a restart
it sounds on for what is left of its time. A relay that cannot be switched is said, and tried again.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import suppress
from dataclasses import replace

import structlog

from alerts.rules import EXPIRE_AFTER_S, Kind
from edge_gateway.errors import RelayError
from edge_gateway.outbox import Outbox
from edge_gateway.outbox_file import translated
from edge_gateway.relays import Relay
from edge_gateway.warning_configuration import RelayConfiguration, WarningSetup
from edge_gateway.warning_store import Delivery, Told, WarningEvent, WarningStore
from edge_gateway.warning_watch import SIREN, finish
from station_config.clock import Clock

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
TICK_S = 0.1
RETRY_S = 5.0
OFF = (-1, False)


def phase(seconds: float, on_s: float, off_s: float) -> tuple[int, bool]:
    """Return which turn of the pattern it is, and whether it sounds, so many seconds after it began."""
    turn, within_s = divmod(seconds, on_s + off_s)
    return int(turn), within_s < on_s


class Siren:
    """Sounds while a delivery asks for it."""

    def __init__(
        self, configuration: RelayConfiguration, setup: WarningSetup, outbox: Outbox, clock: Clock, relay: Relay
    ) -> None:
        self._pattern = configuration
        self._setup = setup
        self._outbox = outbox
        self._clock = clock
        self._relay = relay
        self._started: dict[str, float] = {}
        self._sounded: set[str] = set()
        self._contact: tuple[int, bool] | None = None  # None: not known
        self._not_before = 0.0
        self._state = ""

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set. Raises OutboxError."""
        reader = WarningStore.open_reader(self._outbox.path)
        asked: list[str] = []
        look_at = 0.0
        try:
            while not stop.is_set():
                if time.monotonic() >= look_at:
                    asked = [event.id for event, one in reader.under_way(SIREN) if self._follow(reader, event, one)]
                    look_at = time.monotonic() + LOOK_EVERY_S
                self._switch(asked)
                stop.wait(TICK_S if asked else LOOK_EVERY_S)
        except sqlite3.Error as error:
            raise translated(error, self._outbox.path) from error
        finally:
            self._end()
            reader.close()

    def _follow(self, reader: WarningStore, event: WarningEvent, delivery: Delivery) -> bool:
        """Begin or end one sounding; return whether it goes on."""
        now = self._clock.now()
        if delivery.status is Told.WAITING:
            if now - event.time > EXPIRE_AFTER_S:
                self._finish(event, delivery, Told.EXPIRED, "it is no news any more")
                return False
            self._started[event.id] = time.monotonic()
            sounding = replace(delivery, status=Told.SENDING, attempts=1, at=now)
            return finish(self._outbox, event, delivery, sounding, self._setup, now)
        if event.id not in self._started:  # it sounded when we were stopped
            self._started[event.id] = time.monotonic() - max(0.0, now - (delivery.at or now))
            self._sounded.add(event.id)
        why = self._why_over(reader, event)
        if why is not None:
            sounded = event.id in self._sounded
            self._finish(event, delivery, Told.SENT if sounded else Told.FAILED, why if sounded else self._state)
        return why is None

    def _why_over(self, reader: WarningStore, event: WarningEvent) -> str | None:
        cleared = reader.last_event(event.rule, event.station, str(Kind.CLEARED))
        if cleared is not None and cleared.time > event.time:
            return "off: the rule has cleared"
        if time.monotonic() - self._started[event.id] >= self._pattern.longest_s:
            return f"off: it sounded for {self._pattern.longest_s:.0f} s"
        return None

    def _finish(self, event: WarningEvent, delivery: Delivery, status: Told, detail: str) -> None:
        self._started.pop(event.id, None)
        self._sounded.discard(event.id)
        after = replace(delivery, status=status, detail=detail)
        finish(self._outbox, event, delivery, after, self._setup, self._clock.now())
        log.info("the siren", rule=event.rule, station=event.station, status=str(status), detail=detail)

    def _switch(self, asked: list[str]) -> None:
        wanted = OFF
        if asked:
            begun = min(self._started[one] for one in asked)
            turn, on = phase(time.monotonic() - begun, self._pattern.on_s, self._pattern.off_s)
            wanted = (turn, True) if on else OFF
        if wanted == self._contact or time.monotonic() < self._not_before:
            return
        try:
            if wanted == OFF:
                self._relay.off()
            else:
                self._relay.on(self._pattern.on_s)
                self._sounded.update(asked)
            self._contact = wanted
            self._note("ready")
        except RelayError as error:
            self._contact = None
            self._not_before = time.monotonic() + RETRY_S
            self._note(str(error))

    def _note(self, state: str) -> None:
        if state == self._state:
            return
        (log.info if state == "ready" else log.error)("the siren's relay", state=state)
        self._state = state
        note = {"state": state, "checked_at": int(self._clock.now())}
        self._outbox.write(lambda store: WarningStore(store.sql).put_note("relay", note))

    def _end(self) -> None:
        try:
            self._relay.off()
        except RelayError as error:
            log.error("the siren could not be switched off", reason=str(error))  # noqa: TRY400
        with suppress(RelayError):
            self._relay.close()
