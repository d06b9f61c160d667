"""cloud.toml as frozen, checked objects.

    network = "network.toml"
    state_dir = "/var/lib/tram-cloud"
    [broker]              # host, port or hosts, user, password_file, tls, ca_file, cert_file, key_file
    [http]                # host, port
    [alerts]              # rules = "rules.toml"
    [sms]                 # url, token_file
    [commands]            # key_file, repeat_s = 30; database, password_file, ca_file where not with the books
    [store]               # database = "postgresql://…", password_file, ca_file: see database_settings
    [observations]        # url, bucket, org, token_file, ca_file: see observation_settings
    [retention]           # archive_after_years = 3: what tram-cloud archive takes without --before

Relative paths are meant from the file's own folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from cloud_ingest.database_settings import DatabaseSettings, database_faults
from cloud_ingest.observation_settings import ObservationSettings, observation_faults
from station_config.broker_link import BrokerLink, broker_faults
from station_config.errors import ConfigurationError
from station_config.toml_config import Fault, FilePath, StrictModel, Table, load


class BrokerSettings(BrokerLink):
    """Where the records come from. Of several brokers each is listened to: gateways choose."""

    def password(self) -> str | None:
        """Return the password. Raises ConfigurationError when its file cannot be read."""
        return read_secret(self.password_file, "broker.password_file")


class HttpSettings(StrictModel):
    """Where the API and the page are served. Anything but this machine belongs behind a proxy that does TLS."""

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8600, ge=0, le=65535)


class AlertSettings(StrictModel):
    """Which rules are evaluated."""

    rules: FilePath = Field(strict=False)


class SmsSettings(StrictModel):
    """The SMS provider. Without it alerts are decided and shown, and not sent."""

    url: str = Field(pattern=r"^https?://[^/]+")
    token_file: FilePath | None = Field(default=None, strict=False)

    def token(self) -> str:
        """Return the bearer token. Raises ConfigurationError when its file cannot be read."""
        return read_secret(self.token_file, "sms.token_file") or ""


class CommandSettings(DatabaseSettings):
    """Commands to gateways, with the books unless a database is named. `key_file` signs; the service needs none."""

    key_file: FilePath | None = Field(default=None, strict=False)
    repeat_s: float = Field(default=30.0, gt=0)


class StoreSettings(DatabaseSettings):
    """Where books, alerts and commands are: in SQLite files of state_dir unless this names a PostgreSQL database."""


class RetentionSettings(StrictModel):
    """What a person archives. The store keeps everything for ever unless somebody runs tram-cloud archive --remove."""

    archive_after_years: int | None = Field(default=None, ge=1, le=100)


class CloudConfiguration(StrictModel):
    """The whole of cloud.toml."""

    network: FilePath = Field(strict=False)
    state_dir: FilePath = Field(strict=False)
    broker: BrokerSettings = BrokerSettings()
    http: HttpSettings = HttpSettings()
    alerts: AlertSettings | None = None
    sms: SmsSettings | None = None
    commands: CommandSettings = CommandSettings()
    retention: RetentionSettings = RetentionSettings()
    store: StoreSettings = StoreSettings()
    observations: ObservationSettings | None = None


def load_configuration(path: Path) -> CloudConfiguration:
    """Return cloud.toml with absolute paths. Raises ConfigurationError with every fault."""
    folder = path.resolve().parent
    configuration = load(path, CloudConfiguration, check=lambda data: _faults(data, folder))
    update: dict[str, object] = {
        "network": folder / configuration.network,
        "state_dir": folder / configuration.state_dir,
        "broker": configuration.broker.anchored(folder),
    }
    if configuration.alerts is not None:
        update["alerts"] = AlertSettings(rules=folder / configuration.alerts.rules)
    if configuration.sms is not None and configuration.sms.token_file is not None:
        update["sms"] = configuration.sms.model_copy(update={"token_file": folder / configuration.sms.token_file})
    commands = configuration.commands.anchored(folder)
    key_file = None if commands.key_file is None else folder / commands.key_file
    update["commands"] = commands.model_copy(update={"key_file": key_file})
    update["store"] = configuration.store.anchored(folder)
    if configuration.observations is not None:
        update["observations"] = configuration.observations.anchored(folder)
    return configuration.model_copy(update=update)


def _faults(data: Table, folder: Path) -> Iterator[Fault]:
    yield from broker_faults(data, folder)
    yield from observation_faults(data, folder)
    for name in ("store", "commands"):
        yield from database_faults(data, name, folder)
    store = data.get("store")
    if isinstance(store, dict) and "database" in store and "observations" not in data:
        yield Fault(
            ("store", "database"), "books in PostgreSQL want their observations outside too: see [observations]"
        )


def read_secret(file: Path | None, key: str) -> str | None:
    """Return the first line of a secret's file, None without a file. Raises ConfigurationError."""
    if file is None:
        return None
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{key}: {file} cannot be read: {error}") from None
    if not lines or not lines[0]:
        raise ConfigurationError(f"{key}: {file} is empty; its first line is the secret")
    return lines[0]
