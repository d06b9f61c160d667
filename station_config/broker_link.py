"""How to reach the broker: what the `[broker]` tables of gateway.toml and cloud.toml have in common.

[broker]
host = "mqtt.example.org"            # port = 8883 with TLS, 1883 without
hosts = ["a.example.org:8883", "b"]  # instead of host and port: tried in order, the first is the first choice
user, password_file                  # the file's first line
tls = true                           # default: true unless every broker is on this machine
ca_file, cert_file, key_file         # see station_config.certificates
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import Field

from station_config.certificates import TlsFiles, broker_file_faults
from station_config.toml_config import Fault, FilePath, Several, StrictModel, Table

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
PORT, TLS_PORT = 1883, 8883
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+)(:([0-9]{1,5}))?")


class BrokerAddress(NamedTuple):
    """One broker to try."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class BrokerLink(StrictModel):
    """Where the broker is, and who we are there."""

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int | None = Field(default=None, ge=1, le=65535)
    hosts: Several[Annotated[str, Field(pattern=rf"^{_ADDRESS.pattern}$")]] = Field(default=(), max_length=8)
    user: str | None = None
    password_file: FilePath | None = None
    tls: bool | None = None
    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None

    @property
    def uses_tls(self) -> bool:
        """TLS as configured; where nothing is said, everywhere but on this machine."""
        hosts = [host for host, _ in self._named()]
        return any(host not in LOCAL_HOSTS for host in hosts) if self.tls is None else self.tls

    @property
    def addresses(self) -> tuple[BrokerAddress, ...]:
        """The brokers to try, in order; at least one."""
        usual = TLS_PORT if self.uses_tls else PORT
        return tuple(BrokerAddress(host, port or usual) for host, port in self._named())

    @property
    def tls_files(self) -> TlsFiles:
        """The files of the TLS connection."""
        ca_file, cert_file, key_file = (
            None if path is None else str(path) for path in (self.ca_file, self.cert_file, self.key_file)
        )
        return TlsFiles(ca_file, cert_file, key_file)

    def anchored(self, folder: Path) -> Self:
        """Return it with absolute paths; relative ones are meant from `folder`."""
        files = {name: getattr(self, name) for name in ("password_file", "ca_file", "cert_file", "key_file")}
        return self.model_copy(update={name: folder / path for name, path in files.items() if path is not None})

    def _named(self) -> list[tuple[str, int | None]]:
        if not self.hosts:
            return [(self.host, self.port)]
        return [_split(one) for one in self.hosts]


def broker_faults(data: Table, folder: Path) -> Iterator[Fault]:
    """Yield what contradicts itself in `data["broker"]`, and what is wrong with its files; for `toml_config.load`."""
    broker = data.get("broker")
    if isinstance(broker, dict) and "hosts" in broker:
        for key in sorted({"host", "port"} & broker.keys()):
            yield Fault(("broker", key), "hosts names the brokers with their ports; remove this, or hosts")
        named = broker["hosts"] if isinstance(broker["hosts"], list) else []
        for at, one in enumerate(named):
            port = _split(one)[1] if isinstance(one, str) and _ADDRESS.fullmatch(one) else None
            if port is not None and not 1 <= port <= 65535:
                yield Fault(("broker", "hosts", at), "the port is 1 to 65535")
            if one in named[:at]:
                yield Fault(("broker", "hosts", at), "this broker is listed twice")
    yield from broker_file_faults(data, folder)


def _split(text: str) -> tuple[str, int | None]:
    found = _ADDRESS.fullmatch(text)
    assert found is not None, "the model has checked it"
    return found[1].strip("[]"), int(found[3]) if found[3] else None
