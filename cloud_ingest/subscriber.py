"""The link to the broker: messages into a bounded inbox, acknowledgements and messages out.

MQTT 3.1.1 with a fixed client id and a session the broker keeps, so that it queues while we are away. A message is
acknowledged only when somebody calls `acknowledge`, which the ingest thread does after its transaction. When the inbox
is full the network thread waits; the broker then keeps what follows, and what it drops the gateways send again, because
only a commit message lets them forget.
"""

from __future__ import annotations

import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from cloud_ingest import topics
from cloud_ingest.broker_client import BrokerClient
from cloud_ingest.configuration import BrokerSettings
from station_config.certificates import handshake_refusal

KEEPALIVE_S = 30
RECONNECT_MAX_S = 20
OUTGOING_MESSAGES = 20_000  # commits waiting for the broker; beyond that they are dropped and the gateways ask again
INBOX_BYTES = 16_000_000
INBOX_MESSAGES = 20_000

log = structlog.get_logger()


class Interest(NamedTuple):
    """Whose session at the broker it is, and which topics are in it."""

    client_id: str
    topics: tuple[str, ...]


ALL_TOPICS = (topics.RECORDS, topics.STATUS, topics.RESULTS, topics.LOSSES, topics.WARNINGS)
EVERYTHING = Interest("tram-cloud", ALL_TOPICS)


class Message(NamedTuple):
    """What a broker delivered; `connection` numbers the connection it came by, `link` the broker."""

    topic: str
    payload: bytes
    mid: int
    qos: int
    connection: int
    received_s: float  # time.monotonic()
    link: int = 0


class Inbox:
    """A queue between two threads, bounded by messages and bytes; the writer waits while it is full."""

    def __init__(self, max_messages: int = INBOX_MESSAGES, max_bytes: int = INBOX_BYTES) -> None:
        self._max_messages, self._max_bytes = max_messages, max_bytes
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, message: Message) -> bool:
        """Add a message, waiting for room; return False when the inbox was closed instead."""
        with self._changed:
            if not self._has_room(message):
                self._changed.wait_for(lambda: self._closed or not self._messages or self._has_room(message))
            if self._closed:
                return False
            self._messages.append(message)
            self._bytes += len(message.payload)
            self._changed.notify_all()
            return True

    def take(self, max_bytes: int, timeout_s: float) -> list[Message]:
        """Return what has arrived, oldest first, at least one message when there is one; empty after the timeout."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._messages, timeout_s)
            taken: list[Message] = []
            size = 0
            while self._messages and (not taken or size + len(self._messages[0].payload) <= max_bytes):
                taken.append(self._messages.popleft())
                size += len(taken[-1].payload)
            self._bytes -= size
            self._changed.notify_all()
            return taken

    def oldest_age_s(self) -> float:
        """Return how long the oldest message has been waiting, 0.0 when none is."""
        with self._changed:
            return time.monotonic() - self._messages[0].received_s if self._messages else 0.0

    def size(self) -> tuple[int, int]:
        """Return how many messages wait, and how many bytes."""
        with self._changed:
            return len(self._messages), self._bytes

    def close(self) -> None:
        """Let everybody who waits go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _has_room(self, message: Message) -> bool:
        return len(self._messages) < self._max_messages and self._bytes + len(message.payload) <= self._max_bytes


class Subscriber:
    """The connection; `start()` returns at once and keeps trying, with growing pauses, until `stop()`."""

    def __init__(self, settings: BrokerSettings, inbox: Inbox, link: int = 0, interest: Interest = EVERYTHING) -> None:
        """`link` says which of the settings' addresses this connection is to."""
        self._settings = settings
        self._interest = interest
        self._address = settings.addresses[link]
        self._link = link
        self._inbox = inbox
        self._connection = 0
        self._connected = threading.Event()
        self.problem: str | None = None  # why there is no connection
        self._client = BrokerClient(
            CallbackAPIVersion.VERSION2,
            interest.client_id,
            clean_session=False,
            protocol=mqtt.MQTTv311,
            manual_ack=True,
        )

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and the subscriptions."""
        return self._connected.is_set()

    def start(self) -> None:
        """Begin to connect. Raises ConfigurationError or OSError when a secret or certificate file cannot be read."""
        client, settings = self._client, self._settings
        if settings.user is not None:
            client.username_pw_set(settings.user, settings.password())
        if settings.uses_tls:
            client.tls_set(*settings.tls_files, tls_version=ssl.PROTOCOL_TLS_CLIENT)
        client.max_inflight_messages_set(1000)
        client.max_queued_messages_set(OUTGOING_MESSAGES)
        client.reconnect_delay_set(1, RECONNECT_MAX_S)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.connect_async(self._address.host, self._address.port, KEEPALIVE_S)
        client.loop_start()

    def stop(self) -> None:
        """Say goodbye to the broker; messages not acknowledged stay with it."""
        self._inbox.close()
        self._client.disconnect()
        self._client.loop_stop()

    def acknowledge(self, messages: Iterable[Message]) -> None:
        """Tell the broker it may forget these. Those of an earlier connection are its to deliver again."""
        ours = (self._link, self._connection)
        self._client.acknowledge(one.mid for one in messages if one.qos and (one.link, one.connection) == ours)

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        """Send a message as soon as the broker is there."""
        self._client.publish(topic, payload, qos, retain)

    def _on_connect(
        self, client: mqtt.Client, _userdata: Any, _flags: mqtt.ConnectFlags, reason: ReasonCode, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._tell(f"refused: {reason}; check user and password, or cert_file")
            return
        self._connection += 1
        client.subscribe([(f"{topic}/#", 1) for topic in self._interest.topics])

    def _on_subscribe(
        self, _client: mqtt.Client, _userdata: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self._tell(f"subscription refused; check the rights of user {self._settings.user}")
            return
        log.info("broker connected", broker=str(self._address))
        self.problem = None
        self._connected.set()

    def _on_connect_fail(self, _client: mqtt.Client, _userdata: Any) -> None:
        self._tell(f"{sys.exception() or 'out of reach'}")  # paho calls this while it handles the exception

    def _on_disconnect(
        self, _client: mqtt.Client, _userdata: Any, _flags: mqtt.DisconnectFlags, reason: ReasonCode, _properties: Any
    ) -> None:
        was_connected = self._connected.is_set()
        self._connected.clear()
        if was_connected or self.problem is None:
            self._tell(self._refusal() or f"connection lost: {reason}")

    def _refusal(self) -> str | None:
        """Return what to do about our certificate, when that is why there has never been a connection."""
        if not self._settings.uses_tls or self._connection:
            return None
        return handshake_refusal(*self._address, self._settings.tls_files)

    def _tell(self, problem: str) -> None:
        """Say a problem once, not at every attempt."""
        if problem != self.problem:
            log.warning("no connection to the broker, trying again", broker=str(self._address), reason=problem)
        self.problem = problem

    def _on_message(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = message._topic.decode("utf-8", "backslashreplace")
        self._inbox.put(
            Message(
                topic, bytes(message.payload), message.mid, message.qos, self._connection, time.monotonic(), self._link
            )
        )


class Subscribers:
    """Connections to every broker of the settings, used like one: gateways choose which they reach."""

    def __init__(self, settings: BrokerSettings, inbox: Inbox, interest: Interest = EVERYTHING) -> None:
        self._links = [Subscriber(settings, inbox, link, interest) for link in range(len(settings.addresses))]
        self._addresses = settings.addresses

    @property
    def connected(self) -> bool:
        """Whether every broker has accepted us: gateways may be on the one that has not."""
        return all(link.connected for link in self._links)

    @property
    def problem(self) -> str | None:
        """What is wrong with the connections, None when nothing is known to be."""
        problems = [
            f"{address}: {link.problem}" if len(self._links) > 1 else link.problem
            for address, link in zip(self._addresses, self._links, strict=True)
            if link.problem is not None
        ]
        return "; ".join(problems) or None

    def start(self) -> None:
        """Begin to connect to each. Raises ConfigurationError or OSError when a file cannot be read."""
        for link in self._links:
            link.start()

    def stop(self) -> None:
        """Say goodbye to each."""
        for link in self._links:
            link.stop()

    def acknowledge(self, messages: Iterable[Message]) -> None:
        """Tell the broker each message came from that it may forget it."""
        messages = list(messages)
        for link in self._links:
            link.acknowledge(messages)

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        """Send a message to every broker that is there, or to the only one as soon as it is."""
        for link in self._links:
            if link.connected or len(self._links) == 1:
                link.publish(topic, payload, qos=qos, retain=retain)
