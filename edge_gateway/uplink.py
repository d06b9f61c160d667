"""The uplink's thread: batches up, commit messages down, status beside. Only a commit frees the outbox."""

from __future__ import annotations

import json
import random
import socket
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass

import structlog

from edge_gateway import broker_choice
from edge_gateway.batches_up import BatchesUp
from edge_gateway.broker_choice import BrokerChoice
from edge_gateway.broker_connector import BrokerConnector
from edge_gateway.configuration import GatewayConfiguration
from edge_gateway.contacts import ContactBook
from edge_gateway.data_budget import Allowed
from edge_gateway.errors import BrokerUseless, OutboxError, OutboxUnavailable, UplinkError
from edge_gateway.messages import (
    CommitFault,
    CommittedMessages,
    CommittedRecords,
    UpMessage,
    commands_topic,
    decode_commit,
    encode_batch,
    encode_message,
    message_topic,
    records_topic,
    status_topic,
)
from edge_gateway.mqtt_session import MqttSession
from edge_gateway.outbox import Outbox
from edge_gateway.outbox_file import translated
from edge_gateway.outbox_reader import OutboxReader
from edge_gateway.outbox_store import OutboxStore
from edge_gateway.status import read_status
from edge_gateway.traffic import Traffic
from edge_gateway.uplink_messages import MessagesUp
from station_config.clock import Clock

log = structlog.get_logger()

LONGEST_WAIT_S = 5.0
MESSAGES_WAIT_S = 10.0
BUDGET_LOOK_S = 60.0
FREED_WITHIN_GATHERINGS = 30
STATUS_RARER_ON_BUDGET = 10
TRAFFIC_KEPT_EVERY_S = 600.0


@dataclass
class UplinkCounters:
    """What the uplink did since the gateway started."""

    connections: int = 0
    batches_sent: int = 0
    records_sent: int = 0
    batches_overdue: int = 0
    commits: int = 0
    commit_faults: int = 0
    records_freed: int = 0
    messages_sent: int = 0
    messages_committed: int = 0
    commands: int = 0


class Uplink:
    """Carries the outbox to the broker until told to stop."""

    def __init__(
        self,
        configuration: GatewayConfiguration,
        outbox: Outbox,
        contacts: ContactBook,
        clock: Clock,
        commands_in: Callable[[bytes], None] | None = None,
        more_status: Callable[[], dict[str, object]] = dict,
    ) -> None:
        """`commands_in` is called in the uplink's thread with each payload of the commands topic; it must be quick.

        What `more_status` returns is published with the status.
        """
        self.counters = UplinkCounters()
        self._configuration = configuration
        self._broker = configuration.broker
        self._connector = BrokerConnector(configuration.id, configuration.broker, clock)
        self._choice = BrokerChoice(len(configuration.broker.addresses))
        self._ended_soon = 0  # connections in a row that were made, and lost before a commit came
        self._traffic = Traffic(configuration.broker, {})
        self._traffic_kept_at = 0.0
        self._outbox = outbox
        self._contacts = contacts
        self._clock = clock
        self._commands_in = commands_in
        self._more_status = more_status
        self._batches_up = BatchesUp(configuration.broker)
        self._freeing: deque[tuple[list[CommittedRecords], Future[tuple[int, int]]]] = deque()
        self._messages_up = MessagesUp(configuration.broker.commit_timeout_s)
        self._look = threading.Event()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)

    def wake(self) -> None:
        """Have the thread look at the outbox now. Any thread may call it."""
        self._look.set()
        # A full pipe means that a wake is waiting already; a closed one, that there is nobody to be woken.
        with suppress(OSError):
            self._wake_writer.send(b"!")

    @property
    def broker_in_use(self) -> int:
        """Which of the configured brokers is in use, or tried next; 0 is the first choice."""
        return self._choice.at

    def close(self) -> None:
        """Let go of what wakes the thread; call it when the thread has ended."""
        self._wake_reader.close()
        self._wake_writer.close()

    def run(self, stop: threading.Event) -> None:
        """Connect, serve, connect again until `stop` is set and `wake` called. Raises OutboxError."""
        reader = self._outbox.reader()
        try:
            self._traffic = Traffic(self._broker, reader.traffic())
            self._keep_connected(reader, stop)
        except sqlite3.Error as error:
            raise translated(error, self._outbox.path) from error
        finally:
            reader.close()

    def _keep_connected(self, reader: OutboxReader, stop: threading.Event) -> None:
        while not stop.is_set():
            begun, useless = float("inf"), False
            try:
                session: MqttSession | None = self._connector.connect(self._choice.at)
                while session is not None:
                    begun = time.monotonic()
                    session = self._one_connection(session, reader, stop)
            except UplinkError as error:
                useless = isinstance(error, BrokerUseless)
                self._connector.tell(self._choice.at, error)
            lasted_s = max(0.0, time.monotonic() - begun)
            if begun < float("inf"):
                self._ended_soon = self._ended_soon + 1 if lasted_s < broker_choice.GOOD_AFTER_S else 0
            self._choice = broker_choice.after_connection(self._choice, lasted_s, useless=useless)
            chance = random.random()  # noqa: S311  it spreads a fleet's attempts, it guards nothing
            stop.wait(broker_choice.pause_s(self._choice, self._broker.retry_min_s, self._broker.retry_max_s, chance))

    def _one_connection(self, session: MqttSession, reader: OutboxReader, stop: threading.Event) -> MqttSession | None:
        """Serve until the connection is lost (UplinkError), `stop` is set, or another one is better: return that."""
        self.counters.connections += 1
        self._traffic.begin_connection()
        try:
            return self._serve(session, reader, stop)
        finally:
            self._batches_up.forget()
            self._messages_up.sent.clear()
            self._keep_traffic(at_once=stop.is_set())
            session.close(self._connector.offline)

    def _serve(self, session: MqttSession, reader: OutboxReader, stop: threading.Event) -> MqttSession | None:
        self._look.set()
        connected_at = returned_at = time.monotonic()
        status_due = send_due = 0.0
        while not stop.is_set():
            self._settle_freed()
            self._take_what_came(session)
            self._give_up_overdue(session)
            if self._look.is_set() or time.monotonic() >= send_due:
                self._look.clear()
                send_due = self._send(session, reader, connected_at)
            if time.monotonic() >= status_due or self._contacts.turned.is_set():
                self._contacts.turned.clear()
                self._publish_status(session, reader)
                self._keep_traffic()
                status_due = time.monotonic() + self._status_interval_s()
            return_due = broker_choice.return_due_at(self._choice, returned_at, self._broker.first_choice_after_s)
            if time.monotonic() >= return_due:
                returned_at = time.monotonic()
                if (better := self._first_choice()) is not None:
                    return better
            session.poll(self._wait_s(status_due, send_due, return_due), self._wake_reader)
            self._traffic.note_connection(session.wire_bytes(), self._clock.now())
        return None

    def _first_choice(self) -> MqttSession | None:
        """Try the first broker of the list beside the connection in use."""
        try:
            session = self._connector.connect(0)
        except UplinkError as error:
            self._choice = broker_choice.after_return(self._choice, reached=False)
            self._connector.tell(0, error)
            return None
        self._choice = broker_choice.after_return(self._choice, reached=True)
        return session

    def _status_interval_s(self) -> float:
        rarer = 1 if self._traffic.allowed(self._clock.now()) is Allowed.ALL else STATUS_RARER_ON_BUDGET
        return self._configuration.status_interval_s * rarer

    def _wait_s(self, *dues_known: float) -> float:
        """Return how long nothing will be due if nothing comes."""
        if self._look.is_set():
            return 0.0
        return min(LONGEST_WAIT_S, max(0.0, min(*dues_known, self._batches_up.overdue_at()) - time.monotonic()))

    def _take_what_came(self, session: MqttSession) -> None:
        records: list[CommittedRecords] = []
        messages: list[str] = []
        while (received := session.take()) is not None:
            if received.topic == commands_topic(self._configuration.id):
                self._hand_over_command(received.payload)
                continue
            try:
                commit = decode_commit(received.payload)
            except CommitFault as fault:
                self.counters.commit_faults += 1
                log.warning("a commit message was not understood and not used", reason=str(fault))
                continue
            if isinstance(commit, CommittedMessages):
                messages += commit.ids
            else:
                records.append(commit)
        if records or messages:
            self._free(records, messages)

    def _hand_over_command(self, payload: bytes) -> None:
        self.counters.commands += 1
        if self._commands_in is None:
            log.warning("a command came and this gateway takes none", size=len(payload))
        else:
            self._commands_in(payload)

    def _free(self, commits: list[CommittedRecords], messages: list[str]) -> None:
        """Have the outbox free what is committed, at leisure: after a cut it is sent again, and arrives twice."""
        self._batches_up.note_commits(commits)
        at_leisure_s = FREED_WITHIN_GATHERINGS * self._configuration.outbox.gather_s
        patience_s = 0.0 if messages or self._batches_up.many_being_freed else at_leisure_s
        spent = self._traffic.spent(self._clock.now())
        freeing = self._outbox.submit(lambda store: _note(store, commits, messages, spent), patience_s)
        self._freeing.append((commits, freeing))
        self.counters.commits += len(commits)
        self._choice = broker_choice.after_commit(self._choice)
        self._ended_soon = 0
        self._look.set()

    def _settle_freed(self) -> None:
        """Take in what the outbox has freed meanwhile. Raises OutboxDamaged, OutboxClosed."""
        while self._freeing and self._freeing[0][1].done():
            commits, freeing = self._freeing.popleft()
            self._batches_up.note_freed(commits)
            try:
                freed, forgotten = freeing.result()
            except OutboxUnavailable:
                continue  # the outbox has said so; what they name is sent again
            self.counters.records_freed += freed
            self.counters.messages_committed += forgotten
            self._look.set()

    def _give_up_overdue(self, session: MqttSession) -> None:
        overdue = self._batches_up.give_up_overdue(time.monotonic())
        if not overdue:
            return
        self.counters.batches_overdue += overdue
        self._look.set()
        if broker_choice.is_useless(self._batches_up.timeouts, self._choice):
            raise BrokerUseless(f"{session.address} takes batches, and no commit has come: trying the next broker")

    def _send(self, session: MqttSession, reader: OutboxReader, connected_at: float) -> float:
        """Send what may go; return when to look again (monotonic) though nothing has come."""
        now = time.monotonic()
        if (wait_s := self._traffic.wait_s(now)) > 0:
            return now + wait_s
        due = float("inf")
        if now >= (messages_from := connected_at + self._messages_after_s()):
            self._send_messages(session, reader)
            due = self._messages_up.next_look(now)
        else:
            due = messages_from
        allowed = self._traffic.allowed(self._clock.now())
        if allowed is not Allowed.NOTHING:
            self._send_batches(session, reader, live_only=allowed is Allowed.LIVE)
        if allowed is not Allowed.ALL:
            due = min(due, now + BUDGET_LOOK_S)
        return min(due, now + wait_s) if (wait_s := self._traffic.wait_s(now)) > 0 else due

    def _messages_after_s(self) -> float:
        """Return how long messages wait on this connection: after one that failed soon, records get the first turn.

        A broker that ends the connection because of a message's topic must not stop the records. An attempt that never
        came to a connection says nothing of the kind: messages go first then, or the cloud repeats our warnings.
        """
        return MESSAGES_WAIT_S if self._ended_soon % 2 else 0.0

    def _publish(self, session: MqttSession, topic: str, payload: bytes, *, retain: bool = False) -> None:
        session.publish(topic, payload, retain=retain)
        self._traffic.note_message(topic, payload, time.monotonic())

    def _send_messages(self, session: MqttSession, reader: OutboxReader) -> None:
        def publish(message: UpMessage) -> None:
            self._publish(session, message_topic(message.kind, self._configuration.id), encode_message(message))

        self.counters.messages_sent += self._messages_up.send_what_is_due(reader, time.monotonic(), publish)

    def _send_batches(self, session: MqttSession, reader: OutboxReader, *, live_only: bool) -> None:
        live_at = self._clock.now() if live_only else None
        while self._traffic.wait_s(time.monotonic()) <= 0:
            found = self._batches_up.next_batch(reader, self._traffic.records_per_message, live_at)
            if found is None:
                return
            side, piece = found
            self._publish(session, records_topic(self._configuration.id, piece.series.station), encode_batch(piece))
            self._batches_up.note_sent(side, piece, time.monotonic())
            self.counters.batches_sent += 1
            self.counters.records_sent += piece.number

    def _publish_status(self, session: MqttSession, reader: OutboxReader) -> None:
        status = read_status(self._configuration, reader, self._clock.now(), self._contacts.all())
        status |= self._more_status() | {"uplink": self._own_status(session)}
        self._publish(session, status_topic(self._configuration.id), _json(status), retain=True)

    def _keep_traffic(self, *, at_once: bool = False) -> None:
        """Have the day's bytes written down now and then also when no commits come with which they could ride."""
        if not at_once and time.monotonic() < self._traffic_kept_at + TRAFFIC_KEPT_EVERY_S:
            return
        self._traffic_kept_at = time.monotonic()
        spent = self._traffic.spent(self._clock.now())
        with suppress(OutboxError):  # the outbox says itself when it cannot be written
            self._outbox.submit(lambda store: store.note_traffic(*spent))

    def _own_status(self, session: MqttSession) -> dict[str, object]:
        return {
            "broker": str(session.address),
            "first_choice": self._choice.at == 0,
            "protocol": self._connector.protocol,
            **self._traffic.as_status(self._clock.now()),
            "records_sent": self.counters.records_sent,
            "batches_overdue": self.counters.batches_overdue,
            "messages_sent": self.counters.messages_sent,
        }


def _note(
    store: OutboxStore, commits: list[CommittedRecords], messages: list[str], spent: tuple[int, int]
) -> tuple[int, int]:
    """Free what is committed; the day's bytes ride along, they are worth no sync of their own."""
    store.note_traffic(*spent)
    return sum(store.free(series, ranges) for series, ranges in commits), store.forget_messages(messages)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
