"""One connection to the broker, from CONNECT to its loss. A new connection is a new session: nothing is carried over.

paho would send what was under way again after a reconnect by itself; here the outbox decides that, so each session has
a client of its own and runs its network loop in the caller's thread.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from edge_gateway.configuration import BrokerConfiguration
from edge_gateway.errors import BrokerRefused, BrokerUnreachable
from edge_gateway.wire_bytes import wire_bytes
from station_config.broker_link import BrokerAddress
from station_config.certificates import alert_advice, handshake_refusal

HANDSHAKE_DEADLINE_S = 10.0
MESSAGES_WAITING_AT_MOST = 10_000
BYTES_WAITING_AT_MOST = 16 << 20
QOS = 1


class Will(NamedTuple):
    """What the broker publishes, retained, when this session is lost."""

    topic: str
    payload: bytes


class Received(NamedTuple):
    """A message from the broker."""

    topic: str
    payload: bytes


class MqttSession:
    """A connection with its subscriptions. One thread.

    `take` returns what came. Of more than MESSAGES_WAITING_AT_MOST, or BYTES_WAITING_AT_MOST, the oldest go: what they
    said is said again.
    """

    def __init__(
        self,
        broker: BrokerConfiguration,
        address: BrokerAddress,
        protocol: str,
        client_id: str,
        topics: Sequence[str],
        will: Will,
    ) -> None:
        self._received: deque[Received] = deque()
        self._received_bytes = 0
        self._broker = broker
        self.address = address
        self._topics = tuple(topics)
        self._connected: ReasonCode | None = None
        self._subscribed: list[ReasonCode] | None = None
        self._lost: str | None = None
        self._reached = False
        self._client = self._make_client(protocol, client_id, will)

    def connect(self) -> None:
        """Connect and subscribe. Raises BrokerUnreachable, BrokerRefused."""
        where = str(self.address)
        try:
            self._authenticate()
            self._client.connect(self.address.host, self.address.port, keepalive=self._broker.keepalive_s)
        except ssl.SSLError as error:
            advice = alert_advice(str(error)) or "check ca_file, the name in the certificate and the clock"
            raise BrokerRefused(f"{where}: TLS failed: {error}; {advice}") from error
        except OSError as error:
            raise BrokerUnreachable(f"{where}: {error}") from error
        self._reached = True
        try:
            self._wait(lambda: self._connected is not None, f"{where} does not answer CONNECT")
        except BrokerUnreachable:
            refusal = self._broker.uses_tls and self._lost and handshake_refusal(*self.address, self._broker.tls_files)
            if not refusal:
                raise
            raise BrokerRefused(f"{where} refuses the connection: {refusal}") from None
        if self._connected is None or self._connected.is_failure:
            raise BrokerRefused(
                f"{where} refuses the connection: {self._connected}; check user, password_file and protocol"
            )
        self._client.subscribe([(topic, QOS) for topic in self._topics])
        self._wait(lambda: self._subscribed is not None, f"{where} does not answer SUBSCRIBE")
        if not self._subscribed or any(code.is_failure for code in self._subscribed):
            raise BrokerRefused(
                f"{where} refuses the subscription to {', '.join(self._topics)}; check the broker's ACL"
            )

    @property
    def protocol_not_understood(self) -> bool:
        """Whether the broker refused this version of MQTT, or was reached and said nothing to it, as some do."""
        if self._connected is None:
            return self._reached
        return bool(self._connected == "Unsupported protocol version")

    def take(self) -> Received | None:
        """Return the oldest message that came, None when there is none."""
        if not self._received:
            return None
        received = self._received.popleft()
        self._received_bytes -= len(received.payload)
        return received

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Hand a message to the connection. That it went, or was acknowledged by the broker, proves nothing."""
        self._client.publish(topic, payload, QOS, retain)

    def wire_bytes(self) -> int | None:
        """Return what this connection has cost on the air so far, both ways; None when that is not known."""
        connection = self._client.socket()
        return None if connection is None else wire_bytes(cast(socket.socket, connection))

    def poll(self, timeout_s: float, wake: socket.socket | None = None) -> None:
        """Move bytes both ways once something can move or `wake` is readable; wait `timeout_s` at most for that.

        Raises BrokerUnreachable when the connection is lost.
        """
        connection = self._client.socket()
        if connection is None or self._lost is not None:
            raise BrokerUnreachable(f"connection lost: {self._lost or 'closed'}")
        # TLS may hold decrypted bytes that select does not see.
        waiting = getattr(connection, "pending", lambda: 0)()
        readers: list[Any] = [connection] if wake is None else [connection, wake]
        writers = [connection] if self._client.want_write() else []
        readable, writable, _ = select.select(readers, writers, [], 0 if waiting else timeout_s)
        if wake is not None and wake in readable:
            wake.recv(4096)
        if connection in readable or waiting:
            self._client.loop_read()
        if connection in writable:
            self._client.loop_write()
        self._client.loop_misc()

    def close(self, farewell: Will | None = None) -> None:
        """Say goodbye if the connection is still there, publishing `farewell` in place of the last will."""
        if self._lost is None and self._connected is not None and not self._connected.is_failure:
            if farewell is not None:
                self._client.publish(farewell.topic, farewell.payload, QOS, True)
            self._client.disconnect()
            self._flush()
        connection = self._client.socket()
        if connection is not None:
            connection.close()

    def _make_client(self, protocol: str, client_id: str, will: Will) -> mqtt.Client:
        five = protocol == "5"
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if five else True,
            protocol=mqtt.MQTTv5 if five else mqtt.MQTTv311,
            reconnect_on_failure=False,
        )
        client.will_set(will.topic, will.payload, QOS, retain=True)
        client.max_inflight_messages_set(self._broker.window + 10)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        return client

    def _authenticate(self) -> None:
        if self._broker.uses_tls:
            self._client.tls_set(*self._broker.tls_files)
        if self._broker.user is not None:
            self._client.username_pw_set(self._broker.user, self._password())

    def _password(self) -> str | None:
        """Return the first line of the password file, read for each connection so that it can be changed."""
        if self._broker.password_file is None:
            return None
        return self._broker.password_file.read_text(encoding="utf-8").partition("\n")[0].strip()

    def _wait(self, done: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + HANDSHAKE_DEADLINE_S
        while not done():
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise BrokerUnreachable(f"{otherwise} within {HANDSHAKE_DEADLINE_S:.0f} s")
            self.poll(remaining_s)

    def _flush(self) -> None:
        deadline = time.monotonic() + 1.0
        while self._client.want_write() and self._client.socket() is not None and time.monotonic() < deadline:
            self._client.loop_write()

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        self._connected = code

    def _on_subscribe(self, _client: Any, _data: Any, _mid: int, codes: list[ReasonCode], _properties: Any) -> None:
        self._subscribed = codes

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        self._received.append(Received(message.topic, bytes(message.payload)))
        self._received_bytes += len(message.payload)
        while len(self._received) > MESSAGES_WAITING_AT_MOST or self._received_bytes > BYTES_WAITING_AT_MOST:
            self.take()

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        self._lost = str(code)
