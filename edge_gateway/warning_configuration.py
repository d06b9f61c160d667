"""[warning] of gateway.toml, and what it leads to: rules, words, people, modem and relay, checked before anything runs.

The rules are the cloud's own rules.toml, so that one file serves both; the people are a short list of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from alerts.configuration import AlertConfiguration, load_alerts
from alerts.subscriptions import normalise_phone
from station_config.errors import ConfigurationError
from station_config.network import Network, load_network
from station_config.toml_config import Fault, FilePath, Several, StrictModel, Table, repeated, rows

RECIPIENTS_AT_MOST = 20  # one modem tells them one after the other, a few seconds each


class RecipientConfiguration(StrictModel):
    """A person the gateway itself tells; without `rules` of everything."""

    name: str = Field(min_length=1, max_length=64)
    phone: Annotated[str, AfterValidator(normalise_phone)]
    language: Literal["vi", "en"] = "vi"
    rules: Several[str] | None = None

    def follows(self, rule: str) -> bool:
        """Return whether the person is told of this rule."""
        return self.rules is None or rule in self.rules


class ModemConfiguration(StrictModel):
    """A GSM modem; `service_centre` only where the SIM card does not know it."""

    port: str = Field(min_length=1)
    baud: int = Field(default=115_200, ge=1200, le=4_000_000)
    pin_file: FilePath | None = None
    service_centre: Annotated[str, AfterValidator(normalise_phone)] | None = None
    answer_timeout_s: float = Field(default=120.0, gt=0, le=600)


class _Siren(StrictModel):
    """How a siren sounds: so long on, so long off, never longer than `longest_s` for one event."""

    on_s: float = Field(default=3.0, ge=0.1, le=600)
    off_s: float = Field(default=2.0, ge=0, le=600)
    longest_s: float = Field(default=120.0, gt=0, le=3600)
    severities: Several[Literal["notice", "warning", "severe"]] = ("severe",)
    always: bool = False  # also while the cloud is there


class GpioRelayConfiguration(_Siren):
    """A relay at a line of a Linux GPIO chip."""

    kind: Literal["gpio"]
    chip: str = Field(default="/dev/gpiochip0", min_length=1)
    line: int = Field(ge=0, le=1023)
    active_low: bool = False


class ModbusRelayConfiguration(_Siren):
    """A Modbus RTU relay board at a port of its own: write single coil, function 5."""

    kind: Literal["modbus"]
    port: str = Field(min_length=1)
    baud: int = Field(default=9600, ge=300, le=4_000_000)
    address: int = Field(default=1, ge=1, le=247)
    coil: int = Field(default=0, ge=0, le=255)
    flash: bool = False  # boards that switch off by themselves: coil 0x0200 + n, value in tenths of a second


class LcusRelayConfiguration(_Siren):
    """A USB relay board LCUS: four bytes, A0 channel on/off sum, at 9600 baud."""

    kind: Literal["lcus"]
    port: str = Field(min_length=1)
    channel: int = Field(default=1, ge=1, le=16)


RelayConfiguration = Annotated[
    GpioRelayConfiguration | ModbusRelayConfiguration | LcusRelayConfiguration, Field(discriminator="kind")
]


class WarningConfiguration(StrictModel):
    """Whom the gateway warns itself, by what, and after how long without a commit of the cloud."""

    rules: FilePath
    after_minutes: float = Field(default=10.0, ge=1, le=24 * 60)
    diacritics: bool = False  # Vietnamese as it is written, in more messages
    recipients: Annotated[Several[RecipientConfiguration], Field(max_length=RECIPIENTS_AT_MOST)] = Field(
        default=(), alias="recipient"
    )
    modem: ModemConfiguration | None = None
    relay: RelayConfiguration | None = None

    def anchored(self, folder: Path) -> WarningConfiguration:
        """Return it with files meant from a folder."""
        modem = self.modem
        if modem is not None and modem.pin_file is not None:
            modem = modem.model_copy(update={"pin_file": folder / modem.pin_file})
        return self.model_copy(update={"rules": folder / self.rules, "modem": modem})

    @property
    def recipients_version(self) -> str:
        """Twelve digits that change with the list of people."""
        text = "\n".join(person.model_dump_json() for person in self.recipients)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class WarningSetup:
    """All that warning needs to know. The rules are those of stations this gateway reads."""

    configuration: WarningConfiguration
    alerts: AlertConfiguration
    network: Network

    def cloud_tells(self, phone: str, rule: str) -> bool:
        """Return whether the cloud has this number on its own list for the rule."""
        return any(one.phone == phone and rule in one.rules for one in self.alerts.subscriptions)


def warning_faults(data: Table) -> Iterator[Fault]:
    """Yield what is wrong between [warning] and the rest of gateway.toml."""
    warning = data.get("warning")
    if not isinstance(warning, dict):
        return
    people = list(rows(warning, "recipient", ("warning",)))
    if "network" not in data:
        yield Fault(("warning",), 'the names of stations and their sensors are needed: add network = "network.toml"')
    if "modem" not in warning and "relay" not in warning:
        yield Fault(("warning",), "nothing to warn with: add [warning.modem] or [warning.relay]")
    if people and "modem" not in warning:
        yield Fault(("warning", "recipient"), "people are told by SMS: add [warning.modem]")
    if "modem" in warning and not people:
        yield Fault(("warning", "modem"), "nobody to tell: add [[warning.recipient]]")
    yield from repeated((((*path, "name"), row.get("name")) for path, row in people), "this name")
    yield from repeated((((*path, "phone"), _digits(row.get("phone"))) for path, row in people), "this number")


def load_warning(
    configuration: WarningConfiguration, network: Path, stations: frozenset[str], now: float
) -> WarningSetup:
    """Return the rules and words for the gateway's `stations`. Raises ConfigurationError with every fault."""
    known = load_network(network)
    # Thresholds are dated. A clock that is not set yet is behind the day on which the file was written.
    alerts = load_alerts(configuration.rules, known, max(now, _written_at(configuration.rules)))
    ids = {rule.id for rule in alerts.rules}
    unknown = [
        f"{person.name}: no rule {rule!r} in {configuration.rules}"
        for person in configuration.recipients
        for rule in person.rules or ()
        if rule not in ids
    ]
    if unknown:
        raise ConfigurationError("\n".join(f"[[warning.recipient]] {fault}" for fault in unknown))
    ours = tuple(
        replace(rule, stations=tuple(station for station in rule.stations if station in stations))
        for rule in alerts.rules
    )
    return WarningSetup(configuration, replace(alerts, rules=tuple(r for r in ours if r.stations)), known)


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0  # loading it says why


def _digits(phone: object) -> object:
    try:
        return normalise_phone(phone) if isinstance(phone, str) else None
    except ValueError:
        return None
