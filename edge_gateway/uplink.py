"""The uplink's thread: batches up, commit messages down, status beside. Only a commit frees the outbox."""

from __future__ import annotations

import json
import random
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from edge_gateway import uplink_policy as policy
from edge_gateway.configuration import GatewayConfiguration
from edge_gateway.contacts import ContactBook
from edge_gateway.errors import OutboxUnavailable, UplinkError
from edge_gateway.messages import (
    CommitFault,
    CommittedMessages,
    CommittedRecords,
    UpMessage,
    commands_topic,
    commits_topic,
    decode_commit,
    encode_batch,
    encode_message,
    message_topic,
    records_topic,
    status_topic,
)
from edge_gateway.mqtt_session import MqttSession, Will
from edge_gateway.outbox import Outbox
from edge_gateway.outbox_file import translated
from edge_gateway.outbox_reader import OutboxReader
from edge_gateway.outbox_store import OutboxStore
from edge_gateway.slices import Range, Series, Slice
from edge_gateway.status import read_status
from edge_gateway.uplink_messages import MessagesUp
from edge_gateway.uplink_policy import Side, UnderWay
from station_config.clock import Clock

log = structlog.get_logger()

LONGEST_WAIT_S = 5.0
CONNECTION_COUNTS_AS_GOOD_AFTER_S = 10.0


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
        self._protocol: str = configuration.broker.protocol
        self._outbox = outbox
        self._contacts = contacts
        self._clock = clock
        self._commands_in = commands_in
        self._more_status = more_status
        self._under_way: list[UnderWay] = []
        self._messages_up = MessagesUp(configuration.broker.commit_timeout_s)
        self._window = policy.LEAST_WINDOW
        self._quiet = False
        self._told = ""
        self._look = threading.Event()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)

    def wake(self) -> None:
        """Have the thread look at the outbox now. Any thread may call it."""
        self._look.set()
        # A full pipe means that a wake is waiting already.
        with suppress(BlockingIOError):
            self._wake_writer.send(b"!")

    def close(self) -> None:
        """Let go of what wakes the thread; call it when the thread has ended."""
        self._wake_reader.close()
        self._wake_writer.close()

    def run(self, stop: threading.Event) -> None:
        """Connect, serve, connect again until `stop` is set and `wake` called. Raises OutboxError."""
        reader = self._outbox.reader()
        try:
            self._keep_connected(reader, stop)
        except sqlite3.Error as error:
            raise translated(error, self._outbox.path) from error
        finally:
            reader.close()

    def _keep_connected(self, reader: OutboxReader, stop: threading.Event) -> None:
        attempt = 0
        while not stop.is_set():
            begun = time.monotonic()
            try:
                self._one_connection(reader, stop)
            except UplinkError as error:
                self._tell(error)
            lasted_s = time.monotonic() - begun
            attempt = 0 if lasted_s > CONNECTION_COUNTS_AS_GOOD_AFTER_S else attempt + 1
            chance = random.random()  # noqa: S311  it spreads a fleet's attempts, it guards nothing
            stop.wait(policy.backoff_s(attempt, self._broker.retry_min_s, self._broker.retry_max_s, chance))

    def _tell(self, error: UplinkError) -> None:
        if str(error) != self._told:
            log.warning("no connection to the broker; records stay in the outbox", reason=str(error))
        self._told = str(error)

    def _one_connection(self, reader: OutboxReader, stop: threading.Event) -> None:
        gateway = self._configuration.id
        session = MqttSession(
            self._broker,
            self._broker.addresses[0],
            self._protocol,
            f"tram-{gateway}",
            (commits_topic(gateway), commands_topic(gateway)),
            Will(status_topic(gateway), self._offline()),
        )
        try:
            self._connect(session)
            self._told = ""
            self.counters.connections += 1
            log.info("connected to the broker", broker=str(session.address), protocol=self._protocol)
            self._serve(session, reader, stop)
        finally:
            # What is under way on a lost connection is sent again on the next one, at once.
            self._under_way = []
            self._messages_up.sent.clear()
            session.close(Will(status_topic(gateway), self._offline()) if stop.is_set() else None)

    def _connect(self, session: MqttSession) -> None:
        try:
            session.connect()
        except UplinkError:
            if self._protocol == "5" and session.protocol_not_understood:
                log.warning("the broker does not speak MQTT 5; going on with 3.1.1")
                self._protocol = "3.1.1"
            raise

    def _serve(self, session: MqttSession, reader: OutboxReader, stop: threading.Event) -> None:
        self._look.set()
        status_due, messages_due = 0.0, 0.0
        while not stop.is_set():
            self._take_what_came(session)
            self._give_up_overdue()
            if self._look.is_set() or time.monotonic() >= messages_due:
                self._look.clear()
                self._send_messages(session, reader)
                self._send_what_may_go(session, reader)
                messages_due = self._messages_up.next_look(time.monotonic())
            if time.monotonic() >= status_due or self._contacts.turned.is_set():
                self._contacts.turned.clear()
                self._publish_status(session, reader)
                status_due = time.monotonic() + self._configuration.status_interval_s
            session.poll(self._wait_s(status_due, messages_due), self._wake_reader)

    def _wait_s(self, *dues_known: float) -> float:
        """Return how long nothing will be due if nothing comes."""
        if self._look.is_set():
            return 0.0
        dues = [*dues_known, *(batch.sent_at + self._broker.commit_timeout_s for batch in self._under_way)]
        return min(LONGEST_WAIT_S, max(0.0, min(dues) - time.monotonic()))

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
        try:
            freed, forgotten = self._outbox.write(
                lambda store: (_free_all(store, commits), store.forget_messages(messages))
            )
        except OutboxUnavailable as error:
            log.warning("commits could not be noted; what they name is sent again later", error=str(error))
            return
        for series, ranges in commits:
            self._under_way = policy.after_commit(self._under_way, series, ranges)
        self.counters.commits += len(commits)
        self.counters.records_freed += freed
        self.counters.messages_committed += forgotten
        self._window = policy.window_after_commits(self._window, len(commits), self._broker.window)
        self._quiet = False
        self._look.set()

    def _give_up_overdue(self) -> None:
        overdue = policy.overdue(self._under_way, time.monotonic(), self._broker.commit_timeout_s)
        if not overdue:
            return
        if not self._quiet:
            log.warning("batches were not committed in time and are sent again", batches=len(overdue))
        self._quiet = True
        self._window = policy.window_after_timeout(self._window)
        self.counters.batches_overdue += len(overdue)
        self._under_way = [batch for batch in self._under_way if batch not in overdue]
        self._look.set()

    def _send_messages(self, session: MqttSession, reader: OutboxReader) -> None:
        def publish(message: UpMessage) -> None:
            session.publish(message_topic(message.kind, self._configuration.id), encode_message(message))

        self.counters.messages_sent += self._messages_up.send_what_is_due(reader, time.monotonic(), publish)

    def _send_what_may_go(self, session: MqttSession, reader: OutboxReader) -> None:
        allowed = policy.places(self._window, self._broker.backlog_share)
        while (side := policy.free_side(self._under_way, allowed)) is not None:
            piece = self._next_batch(reader, side)
            if piece is None:
                return
            session.publish(records_topic(self._configuration.id, piece.series.station), encode_batch(piece))
            self._under_way.append(UnderWay(piece.series, [(piece.first_seq, piece.last_seq)], side, time.monotonic()))
            self.counters.batches_sent += 1
            self.counters.records_sent += piece.number

    def _next_batch(self, reader: OutboxReader, side: Side) -> Slice | None:
        with reader.one_moment():
            heads = []
            for series in reader.with_buffered():
                taken = self._taken(series)
                head = reader.newest(series, taken) if side is Side.NEWEST else reader.oldest(series, taken)
                if head is not None:
                    heads.append(head)
            chosen = policy.choose(side, heads)
            if chosen is None:
                return None
            collect = reader.up_to if side is Side.NEWEST else reader.following
            return collect(chosen, self._taken(chosen.series), policy.RECORDS_PER_BATCH)

    def _taken(self, series: Series) -> list[Range]:
        return [waiting for batch in self._under_way if batch.series == series for waiting in batch.waiting]

    def _publish_status(self, session: MqttSession, reader: OutboxReader) -> None:
        status = read_status(self._configuration, reader, self._clock.now(), self._contacts.all())
        session.publish(status_topic(self._configuration.id), _json(status | self._more_status()), retain=True)

    def _offline(self) -> bytes:
        return _json({"gateway": self._configuration.id, "online": False})


def _free_all(store: OutboxStore, commits: list[CommittedRecords]) -> int:
    return sum(store.free(series, ranges) for series, ranges in commits)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
