"""The way to the cloud: the gateway's certificate, then each broker by name, connection, TLS, login and topics."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from edge_gateway.configuration import GatewayConfiguration
from edge_gateway.doctor.findings import Finding, found
from edge_gateway.errors import BrokerRefused, BrokerUnreachable
from edge_gateway.messages import commands_topic, commits_topic, status_topic
from edge_gateway.mqtt_session import MqttSession, Will
from station_config.broker_link import BrokerAddress
from station_config.certificates import ENDS_SOON_DAYS, read_validity
from station_config.errors import ConfigurationError

CONNECT_TIMEOUT_S = 10.0
SECONDS_PER_DAY = 86_400
# OpenSSL's reasons (x509_vfy.h) that have an advice of their own
REASONS = {
    2: "tls-unknown",
    7: "tls-unknown",
    9: "tls-not-begun",
    10: "tls-ended",
    18: "tls-unknown",
    19: "tls-unknown",
    20: "tls-unknown",
    21: "tls-unknown",
    62: "tls-name",
    64: "tls-name",
}


def examine_certificate(configuration: GatewayConfiguration, now: float) -> Iterator[Finding]:
    """Yield whether the gateway's own certificate, and the authority it trusts, hold now and name this gateway."""
    broker = configuration.broker
    for path in (broker.ca_file, broker.cert_file):
        if path is None:
            continue
        try:
            validity = read_validity(path)
        except ConfigurationError as error:
            yield found("certificate-unreadable", path, why=str(error))
            continue
        days_left = int((validity.ends_at - now) // SECONDS_PER_DAY)
        values = {"name": validity.name, "days_left": days_left, "begins": _day(validity.begins_at)}
        code = "soon" if days_left < ENDS_SOON_DAYS else "ok"
        code = "ended" if now > validity.ends_at else "not-begun" if now < validity.begins_at else code
        yield found(f"certificate-{code}", path, ends=_day(validity.ends_at), **values)
        if path == broker.cert_file and validity.name != configuration.id:
            yield found("certificate-name", path, gateway=configuration.id, **values)


def examine_broker(configuration: GatewayConfiguration, address: BrokerAddress, now: float) -> Iterator[Finding]:
    """Yield how far one can come with a broker; the first thing that fails ends it."""
    begun = time.monotonic()
    try:
        socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        yield found("broker-no-name", address, host=address.host, why=error.strerror or str(error))
        return
    try:
        connection = socket.create_connection((address.host, address.port), CONNECT_TIMEOUT_S)
    except ConnectionRefusedError:
        yield found("broker-closed", address)
        return
    except OSError as error:
        yield found("broker-no-way", address, why=error.strerror or str(error))
        return
    with connection:
        yield found("broker-reached", address, took_ms=round(1000 * (time.monotonic() - begun)))
        if configuration.broker.uses_tls and (fault := _handshake(configuration, address, connection, now)) is not None:
            yield fault
            if fault.code != "tls-soon":
                return
    yield _log_in(configuration, address)


def _handshake(
    configuration: GatewayConfiguration, address: BrokerAddress, connection: socket.socket, now: float
) -> Finding | None:
    """Return what is wrong with TLS here, None when nothing is."""
    broker = configuration.broker
    try:
        context = ssl.create_default_context(cafile=broker.ca_file)
        if broker.cert_file is not None:
            context.load_cert_chain(broker.cert_file, broker.key_file)
        with context.wrap_socket(connection, server_hostname=address.host) as secure:
            certificate = secure.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        code = REASONS.get(error.verify_code, "tls-refused")
        return found(code, address, why=error.verify_message, host=address.host)
    except ssl.SSLError as error:
        return found("tls-refused", address, why=error.reason or str(error), host=address.host)
    except OSError as error:
        return found("tls-none", address, why=error.strerror or str(error))
    days_left = int((parsedate_to_datetime(str(certificate["notAfter"])).timestamp() - now) // SECONDS_PER_DAY)
    return found("tls-soon", address, days_left=days_left) if days_left < ENDS_SOON_DAYS else None


def _log_in(configuration: GatewayConfiguration, address: BrokerAddress) -> Finding:
    """Log in beside the running gateway (with a client id of our own) and subscribe to what it subscribes to."""
    gateway = configuration.id
    session = MqttSession(
        configuration.broker,
        address,
        configuration.broker.protocol,
        f"tram-{gateway}-doctor",
        (commits_topic(gateway), commands_topic(gateway)),
        Will(status_topic(gateway), b'{"online":false}'),
    )
    try:
        session.connect()
    except BrokerRefused as error:
        return found("broker-topics" if "subscription" in str(error) else "broker-refused", address, why=str(error))
    except BrokerUnreachable as error:
        return found("broker-silent", address, why=str(error))
    finally:
        session.close()
    return found("broker-ok", address, user=configuration.broker.user or "-")


def _day(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d")
