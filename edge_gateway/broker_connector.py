"""Making connections to the brokers of the configuration, and saying why there is none."""

from __future__ import annotations

import json

import structlog

from edge_gateway.configuration import BrokerConfiguration
from edge_gateway.errors import UplinkError
from edge_gateway.messages import commands_topic, commits_topic, status_topic
from edge_gateway.mqtt_session import MqttSession, Will
from station_config.certificates import date_advice
from station_config.clock import Clock
from station_config.errors import ConfigurationError

log = structlog.get_logger()


class BrokerConnector:
    """Connects a gateway to one of its brokers. One thread."""

    def __init__(self, gateway: str, broker: BrokerConfiguration, clock: Clock) -> None:
        self.protocol: str = broker.protocol
        self.offline = Will(
            status_topic(gateway), json.dumps({"gateway": gateway, "online": False}, separators=(",", ":")).encode()
        )
        self._gateway = gateway
        self._broker = broker
        self._clock = clock
        self._told: dict[str, str] = {}

    def connect(self, at: int) -> MqttSession:
        """Return a connection to the broker at this place of the list. Raises UplinkError."""
        session = MqttSession(
            self._broker,
            self._broker.addresses[at],
            self.protocol,
            f"tram-{self._gateway}",
            (commits_topic(self._gateway), commands_topic(self._gateway)),
            self.offline,
        )
        self._tell_dates()
        try:
            session.connect()
        except UplinkError:
            if self.protocol == "5" and session.protocol_not_understood:
                log.warning("the broker does not speak MQTT 5; going on with 3.1.1", broker=str(session.address))
                self.protocol = "3.1.1"
            session.close()
            raise
        self._told.clear()
        log.info("connected to the broker", broker=str(session.address), protocol=self.protocol)
        return session

    def tell(self, at: int, error: UplinkError) -> None:
        """Say why there is no connection to a broker: once, not at every attempt."""
        where = str(self._broker.addresses[at])
        if self._told.get(where) != str(error):
            log.warning("no connection to the broker; records stay in the outbox", broker=where, reason=str(error))
        self._told[where] = str(error)

    def _tell_dates(self) -> None:
        if self._broker.cert_file is None:
            return
        try:
            advice = date_advice(self._broker.cert_file, self._clock.now())
        except ConfigurationError as error:
            advice = str(error)
        if advice is not None and self._told.get("certificate") != advice:
            log.warning("the broker's certificate for this gateway needs a person", reason=advice)
            self._told["certificate"] = advice
