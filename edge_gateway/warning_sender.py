"""The thread that tells people by SMS. A message is noted as being sent before the modem hears of it.

A cut, or an answer that never came, between handing over and noting the end leaves it open whether it was sent: it is
told again once, because told twice is better than never. After a second doubt it is kept as `unsure`.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import zlib
from dataclasses import replace
from pathlib import Path

import structlog

from alerts.rules import EXPIRE_AFTER_S
from alerts.subscriptions import mask_phone
from edge_gateway import warning_policy as policy
from edge_gateway.errors import ModemError, ModemSilent, SendRefused, SendUnsure, TextTooLong
from edge_gateway.gsm_modem import GsmModem, ModemSettings
from edge_gateway.outbox import Outbox
from edge_gateway.outbox_file import translated
from edge_gateway.sim_pin import PinFile
from edge_gateway.warning_configuration import ModemConfiguration, WarningSetup
from edge_gateway.warning_store import Delivery, Told, WarningEvent, WarningStore
from edge_gateway.warning_watch import SMS, finish
from station_config.clock import Clock

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
CHECK_EVERY_S = 60.0
NOTE_EVERY_S = 600.0
READY = "ready"
SIGNAL_STEP_DBM = 10  # a change worth a write to the card


def make_modem(configuration: ModemConfiguration, state_dir: Path) -> GsmModem:
    """Return the modem's client; nothing is opened yet."""
    pin = configuration.pin_file and PinFile(configuration.pin_file, state_dir / "sim-pin-tries")
    return GsmModem(
        ModemSettings(
            configuration.port, configuration.baud, configuration.service_centre, configuration.answer_timeout_s
        ),
        pin or None,
    )


class WarningSender:
    """Sends what waits; `wake` when something new waits."""

    def __init__(self, setup: WarningSetup, outbox: Outbox, clock: Clock, modem: GsmModem) -> None:
        self._setup = setup
        self._outbox = outbox
        self._clock = clock
        self._modem = modem
        self._news = threading.Event()
        self._failures = 0
        self._silences = 0
        self._not_before = 0.0
        self._check_at = 0.0
        self._retry_at: dict[tuple[str, str], float] = {}
        self._reset_at = float("-inf")
        self._noted: tuple[str, int | None] = ("", None)
        self._noted_at = float("-inf")

    def wake(self) -> None:
        """Look for something to send now."""
        self._news.set()

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set. Raises OutboxError."""
        reader = WarningStore.open_reader(self._outbox.path)
        self._modem.stop_when(stop.is_set)
        try:
            self._settle_interrupted(reader)
            while not stop.is_set():
                if not self._look(reader) and self._news.wait(LOOK_EVERY_S):
                    self._news.clear()
                    self._not_before = 0.0  # something new to say is worth a try, whatever the modem did before
        except sqlite3.Error as error:
            raise translated(error, self._outbox.path) from error
        finally:
            self._modem.close()
            reader.close()

    def _settle_interrupted(self, reader: WarningStore) -> None:
        for event, delivery in reader.under_way(SMS):
            if delivery.status is Told.SENDING:
                after = policy.after_doubt(delivery, "stopped while it was being sent", self._clock.now())
                finish(self._outbox, event, delivery, after, self._setup, self._clock.now())

    def _look(self, reader: WarningStore) -> bool:
        """Send what is due first, or see how the modem is; return whether there may be more to send at once."""
        if time.monotonic() < self._not_before:
            return False
        under_way = self._without_expired(reader.under_way(SMS))
        due = [
            (event, one)
            for event, one in under_way
            if policy.may_go(one, event, under_way) and self._retry_at.get(_key(one), 0.0) <= time.monotonic()
        ]
        if not due and time.monotonic() < self._check_at:
            return False
        if not self._modem_is_ready():
            return False
        if not due:
            self._modem.close()  # a person may want to try it: `tram-gateway warning test`
            return False
        self._tell(*due[0])
        return True

    def _modem_is_ready(self) -> bool:
        try:
            state = self._modem.check()
        except ModemError as error:
            self._modem_failed(error)
            return False
        self._check_at = time.monotonic() + CHECK_EVERY_S
        self._silences = 0
        self._note(state.problem or READY, state.signal_dbm)
        if state.problem is not None:
            self._pause()
            return False
        self._failures = 0
        return True

    def _tell(self, event: WarningEvent, delivery: Delivery) -> None:
        now = self._clock.now()
        sending = replace(delivery, status=Told.SENDING, attempts=delivery.attempts + 1, at=now)
        if not finish(self._outbox, event, delivery, sending, self._setup, now):
            return
        after = replace(self._attempt(event, sending), at=self._clock.now())
        if after.status is not Told.WAITING:
            self._retry_at.pop(_key(delivery), None)
        finish(self._outbox, event, sending, after, self._setup, self._clock.now())
        _say(after)

    def _attempt(self, event: WarningEvent, sending: Delivery) -> Delivery:
        left_min = int(event.time + EXPIRE_AFTER_S - self._clock.now()) // 60
        try:
            references = self._modem.send(
                sending.address, sending.text, reference=_reference(sending), validity_min=max(5, left_min)
            )
        except SendUnsure as error:
            return policy.after_doubt(sending, str(error), self._clock.now())
        except (TextTooLong, ValueError) as error:
            return replace(sending, status=Told.FAILED, detail=str(error))
        except SendRefused as error:
            if error.for_good:
                return replace(sending, status=Told.FAILED, detail=str(error))
            self._retry_at[_key(sending)] = time.monotonic() + policy.retry_s(sending.attempts)
            return replace(sending, status=Told.WAITING, detail=str(error))
        except ModemError as error:
            self._modem_failed(error)
            return replace(sending, status=Told.WAITING, detail=str(error))
        reference = ",".join(map(str, references))
        return replace(sending, status=Told.SENT, reference=reference, detail=None)

    def _without_expired(self, under_way: list[tuple[WarningEvent, Delivery]]) -> list[tuple[WarningEvent, Delivery]]:
        now, still = self._clock.now(), []
        for event, delivery in under_way:
            if now - event.time <= EXPIRE_AFTER_S:
                still.append((event, delivery))
            else:
                expired = replace(delivery, status=Told.EXPIRED, at=now)
                finish(self._outbox, event, delivery, expired, self._setup, now)
                _say(expired)
        return still

    def _modem_failed(self, error: ModemError) -> None:
        self._silences = self._silences + 1 if isinstance(error, ModemSilent) else 0
        self._note(str(error), None)
        rested = time.monotonic() - self._reset_at >= policy.RESET_AT_MOST_EVERY_S
        if self._silences >= policy.SILENCES_BEFORE_RESET and rested:
            self._reset_at = time.monotonic()
            log.warning("the modem is restarted", reason=str(error))
            self._modem.reset()
        self._pause()

    def _pause(self) -> None:
        self._failures += 1
        self._not_before = time.monotonic() + policy.retry_s(self._failures)

    def _note(self, state: str, signal_dbm: int | None) -> None:
        """Keep how the modem is: when that changes, and now and then."""
        before, signal_before = self._noted
        moved = (signal_dbm is None) != (signal_before is None) or (
            abs((signal_dbm or 0) - (signal_before or 0)) >= SIGNAL_STEP_DBM
        )
        if state == before and not moved and time.monotonic() - self._noted_at < NOTE_EVERY_S:
            return
        if state != before:
            (log.info if state == READY else log.warning)("the modem", state=state, signal_dbm=signal_dbm)
        note = {"state": state, "signal_dbm": signal_dbm, "checked_at": int(self._clock.now())}
        self._outbox.write(lambda store: WarningStore(store.sql).put_note("modem", note))
        self._noted, self._noted_at = (state, signal_dbm), time.monotonic()


def _say(delivery: Delivery) -> None:
    if delivery.status is Told.SENT:
        log.info("a person was warned", to=mask_phone(delivery.address), reference=delivery.reference)
        return
    log.error(
        "a person was not warned",
        to=mask_phone(delivery.address),
        status=str(delivery.status),
        again=delivery.status is Told.WAITING,
        detail=delivery.detail,
    )


def _key(delivery: Delivery) -> tuple[str, str]:
    return delivery.event, delivery.address


def _reference(delivery: Delivery) -> int:
    """The same for a text sent again, so that a phone puts parts of both tries together."""
    return zlib.crc32("\n".join(_key(delivery)).encode()) % 256
