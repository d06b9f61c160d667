"""The thread that watches: judges what has been stored by the rules, and takes events over when the cloud is away.

It follows the outbox and never holds it up. The rules' memory is written when something turned, else every few minutes:
after a cut, the records the cloud does not have yet are read again, and those it has it judges itself.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from alerts.rules import FLAGS_THAT_COUNT, Kind, Rule, State, event_identity, step
from alerts.texts import AlertEvent
from edge_gateway.observations import Seen, readers
from edge_gateway.outbox import Outbox
from edge_gateway.outbox_file import translated
from edge_gateway.outbox_store import OutboxStore
from edge_gateway.slices import EARLIEST_BELIEVABLE_S, Series, Slice
from edge_gateway.warning_configuration import WarningSetup
from edge_gateway.warning_message import tell_the_cloud
from edge_gateway.warning_policy import Silence, audience, judge, leave_to_the_cloud
from edge_gateway.warning_store import Delivery, Fate, RuleKey, Told, WarningEvent, WarningStore
from station_config.clock import Clock
from station_config.instruments import load_instruments
from station_config.parameters import load_parameters

log = structlog.get_logger()

SLICES_WAITING_AT_MOST = 2000
SLICES_AT_ONCE = 200
SLICES_READ_AGAIN_AT_MOST = 5000  # of 13 records: some days of a station
LOOK_EVERY_S = 1.0
KEEP_EVERY_S = 300.0
SMS, SIREN = "sms", "siren"
SIREN_NAME = "siren"


class WarningWatch:
    """Judges and decides; `decided` is called when there is something to send."""

    def __init__(
        self,
        setup: WarningSetup,
        outbox: Outbox,
        clock: Clock,
        decided: Callable[[], None],
        doubt: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`doubt` says why this machine's clock cannot be relied on, None when it can."""
        self._setup = setup
        self._doubt = doubt
        self._outbox = outbox
        self._clock = clock
        self._decided = decided
        self._waiting: deque[Slice] = deque()
        self._missed = True  # what was stored before this thread began
        self._news = threading.Event()
        stations = frozenset(station for rule in setup.alerts.rules for station in rule.stations)
        wanted = frozenset(rule.parameter for rule in setup.alerts.rules)
        self._readers = readers(setup.network, stations, load_instruments(), load_parameters(), wanted)
        self._rules: dict[str, list[Rule]] = defaultdict(list)
        for rule in setup.alerts.rules:
            self._rules[rule.parameter].append(rule)
        self._states: dict[RuleKey, State] = {}
        self._cursors: dict[Series, int] = {}
        self._silence = Silence(setup.configuration.after_minutes * 60)
        self._newest_times: dict[str, int] = {}
        self._kept_at = float("-inf")
        self._away: bool | None = None

    def follow(self, stored: Sequence[Slice]) -> None:
        """Take note of what was stored; quick, called by the outbox's writer."""
        if len(self._waiting) + len(stored) > SLICES_WAITING_AT_MOST:
            self._missed = True  # they are read from the file, as far as the cloud does not have them
        else:
            self._waiting.extend(stored)
        self._news.set()

    def cursor(self, series: Series) -> int:
        """Return the highest sequence number judged so far, 0 before the first."""
        return self._cursors.get(series, 0)

    def run(self, stop: threading.Event) -> None:
        """Watch until `stop` is set. Raises OutboxError."""
        reader = WarningStore.open_reader(self._outbox.path)
        try:
            self._states, self._cursors, self._missed = reader.states(), reader.cursors(), True
            self._silence = Silence(self._setup.configuration.after_minutes * 60)
            while not stop.is_set():
                self._look(reader, stop)
                self._news.wait(LOOK_EVERY_S)
                self._news.clear()
            self._keep([])
        except sqlite3.Error as error:
            raise translated(error, self._outbox.path) from error
        finally:
            reader.close()

    def _look(self, reader: WarningStore, stop: threading.Event) -> None:
        events = self._judge_stored(reader, stop)
        now = self._clock.now()
        if events or now - self._kept_at >= KEEP_EVERY_S or now < self._kept_at:
            self._keep(events)
        self._silence.look(now, reader.committed_records(), reader.oldest_waiting())
        self._tell_when_it_turns()
        for event in reader.open_events():
            self._decide(reader, event, now)
        if self._silence.cloud_is_there:
            self._leave_to_the_cloud(reader, now)

    # -- judging -------------------------------------------------------------------------------------------------------

    def _judge_stored(self, reader: WarningStore, stop: threading.Event) -> list[WarningEvent]:
        events: list[WarningEvent] = []
        if self._missed:
            self._missed = False
            self._waiting.clear()
            for series in [series for series in reader.buffered_series() if series.station in self._readers]:
                # Of a long backlog the newest is enough: what is older is history to every rule.
                begin = reader.newest_begin_at(series, SLICES_READ_AGAIN_AT_MOST) - 1
                self._cursors[series] = max(self._cursors.get(series, 0), begin)
                while not stop.is_set() and (
                    pieces := reader.slices_after(series, self._cursors[series], SLICES_AT_ONCE)
                ):
                    events += [event for piece in pieces for event in self._judge_slice(piece)]
        while self._waiting:
            events += self._judge_slice(self._waiting.popleft())
        return events

    def _judge_slice(self, piece: Slice) -> list[WarningEvent]:
        self._cursors[piece.series] = max(self._cursors.get(piece.series, 0), piece.last_seq)
        station = self._readers.get(piece.series.station)
        if station is None:
            return []
        seen = sorted(station.read(piece), key=lambda one: (one.observation.time, one.observation.sensor))
        newest = self._newest_times.get(piece.series.station, 0)
        self._newest_times[piece.series.station] = max([newest, *(one.observation.time for one in seen)])
        pairs = [(rule, one) for one in seen for rule in self._rules.get(one.observation.parameter, ())]
        return [event for rule, one in pairs if (event := self._step(rule, one, piece.series.journal))]

    def _step(self, rule: Rule, seen: Seen, journal: int) -> WarningEvent | None:
        observation = seen.observation
        if not rule.applies_to(observation) or observation.flag not in FLAGS_THAT_COUNT:
            return None
        key = (rule.id, observation.station)
        before, now = self._states.get(key, State()), self._now(observation.station)
        decision = step(rule, before, observation, now)
        self._states[key] = decision.state
        if decision.state.pending_since != before.pending_since:
            self._kept_at = float("-inf")  # a dwell has begun or ended: to be kept at once
        if decision.kind is None or observation.value is None:
            return None
        level = rule.set_level if decision.kind is Kind.RAISED else rule.clear_level
        return WarningEvent(
            id=event_identity(rule.id, observation.station, decision.kind, observation.time),
            rule=rule.id,
            station=observation.station,
            kind=str(decision.kind),
            time=observation.time,
            decided=int(now),
            value=observation.value,
            level=level,
            severity=rule.severity,
            reason=str(decision.reason),
            journal=journal,
            seq=seen.seq,
        )

    def _now(self, station: str) -> float:
        """Return the time; where this machine's clock may be behind, not before the station's own newest record.

        A Raspberry Pi that starts without a network shows an old time, and would take every warning for tomorrow's.
        """
        now = self._clock.now()
        if now >= EARLIEST_BELIEVABLE_S and self._doubt() is None:
            return now
        return max(now, float(self._newest_times.get(station, 0)))

    def _keep(self, events: list[WarningEvent]) -> None:
        states, cursors = dict(self._states), dict(self._cursors)

        def change(store: OutboxStore) -> None:
            warnings = WarningStore(store.sql)
            warnings.keep(states, cursors)
            for event in events:
                warnings.add_event(event)

        self._outbox.write(change)
        self._kept_at = self._clock.now()
        for event in events:
            log.info("a rule turned", rule=event.rule, station=event.station, kind=event.kind, value=event.value)

    # -- deciding ------------------------------------------------------------------------------------------------------

    def _tell_when_it_turns(self) -> None:
        away = self._silence.cloud_is_away
        if away == self._away:
            return
        if away:
            silent_min = round(self._silence.seconds / 60, 1)
            log.warning("the cloud commits nothing; the gateway warns by itself", silent_min=silent_min)
        elif self._away is not None:
            log.info("the cloud is there again; it warns")
        self._outbox.write(lambda store: WarningStore(store.sql).put_note("watch", {"armed": away}))
        self._away = away

    def _decide(self, reader: WarningStore, event: WarningEvent, now: float) -> None:
        verdict = judge(event, now, committed=reader.is_committed(event), cloud_is_away=self._silence.cloud_is_away)
        if verdict.fate is None:
            return
        deliveries = self._deliveries(reader, event, verdict.fate)

        def change(store: OutboxStore) -> None:
            warnings = WarningStore(store.sql)
            warnings.set_fate(event.id, verdict.fate or Fate.OPEN)
            for delivery in deliveries:
                warnings.put_delivery(delivery)
            if deliveries:
                tell_the_cloud(store, event, self._setup, now)

        self._outbox.write(change)
        log.info("fate of an event", rule=event.rule, station=event.station, kind=event.kind, reason=verdict.reason)
        if deliveries:
            self._decided()

    def _deliveries(self, reader: WarningStore, event: WarningEvent, fate: Fate) -> list[Delivery]:
        if event.rule not in {rule.id for rule in self._setup.alerts.rules}:
            return []  # rules.toml has changed since
        raised = reader.last_event(event.rule, event.station, str(Kind.RAISED))
        told_before = reader.deliveries(raised.id) if raised is not None else []
        people = audience(self._setup, event, fate, told_before)
        made = [
            Delivery(event.id, SMS, person.phone, person.name, self._text(event, person.language)) for person in people
        ]
        relay = self._setup.configuration.relay
        sounds = relay is not None and event.severity in relay.severities and (fate is Fate.TAKEN or relay.always)
        if relay is not None and sounds and event.kind == Kind.RAISED and fate is not Fate.EXPIRED:
            made.append(Delivery(event.id, SIREN, "", SIREN_NAME, self._text(event, "vi")))
        return made

    def _text(self, event: WarningEvent, language: str) -> str:
        rule = next(rule for rule in self._setup.alerts.rules if rule.id == event.rule)
        words = AlertEvent(rule, event.station, Kind(event.kind), event.time, event.decided, event.value, event.reason)
        if self._setup.configuration.diacritics:
            return self._setup.alerts.wording.page(words)[language]
        return self._setup.alerts.wording.sms(words, language)

    def _leave_to_the_cloud(self, reader: WarningStore, now: float) -> None:
        """What nobody was told yet is told by the cloud, now that it is there; it hears so at once."""
        for event, delivery in reader.under_way(SMS):
            if leave_to_the_cloud(self._setup, event, delivery):
                left = replace(delivery, status=Told.LEFT, at=now, detail="left to the cloud, which is there again")
                finish(self._outbox, event, delivery, left, self._setup, now)


def finish(
    outbox: Outbox, event: WarningEvent, before: Delivery, after: Delivery, setup: WarningSetup, now: float
) -> bool:
    """Keep how a delivery ended and tell the cloud, in one transaction; False when another thread changed it first."""

    def change(store: OutboxStore) -> bool:
        warnings = WarningStore(store.sql)
        if before not in warnings.deliveries(event.id):
            return False
        warnings.put_delivery(after)
        if after.status not in (Told.WAITING, Told.SENDING):
            tell_the_cloud(store, event, setup, now)
        return True

    return outbox.write(change)
