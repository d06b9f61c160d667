"""The [observations] table of cloud.toml: another place than the books for the rows of the time series.

[observations]
url = "https://influx.example.org:8086"   # a server that speaks as InfluxDB 1.8, 2.x or 3.x does
bucket = "tram"                           # database, or database/retention-policy
token_file = "influx-token"               # its first line: a token, or user:password for InfluxDB 1.x
org = "department"                        # InfluxDB 2.x
ca_file = "ca.pem"                        # who signed the server's certificate
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field

from station_config.broker_link import LOCAL_HOSTS
from station_config.errors import ConfigurationError
from station_config.toml_config import Fault, StrictModel, Table

FilePath = Path


class ObservationSettings(StrictModel):
    """Where observations are kept when they are not in the books' file."""

    url: str = Field(pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$")
    bucket: str = Field(pattern=r"^[^/\"\\\s]+(/[^/\"\\\s]+)?$")
    org: str | None = Field(default=None, min_length=1)
    token_file: FilePath | None = Field(default=None, strict=False)
    ca_file: FilePath | None = Field(default=None, strict=False)

    @property
    def root(self) -> str:
        """The address without a slash at its end."""
        return self.url.rstrip("/")

    @property
    def place(self) -> tuple[str, str | None]:
        """The database, and the retention policy where one is named."""
        database, _, policy = self.bucket.partition("/")
        return database, policy or None

    def token(self) -> str | None:
        """Return the token. Raises ConfigurationError when its file cannot be read."""
        return None if self.token_file is None else _first_line(self.token_file)

    def anchored(self, folder: Path) -> ObservationSettings:
        """Return it with absolute paths; relative ones are meant from `folder`."""
        files = {name: getattr(self, name) for name in ("token_file", "ca_file")}
        return self.model_copy(update={name: folder / path for name, path in files.items() if path is not None})


def observation_faults(data: Table, folder: Path) -> Iterator[Fault]:
    """Yield what contradicts itself in `data["observations"]`, and what is wrong with its files."""
    table = data.get("observations")
    if not isinstance(table, dict):
        return
    url = table.get("url")
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts and parts.scheme == "http" and parts.hostname not in LOCAL_HOSTS:
        yield Fault(("observations", "url"), "http only to this machine: write https, a token must not travel open")
    if parts and parts.scheme == "http" and "ca_file" in table:
        yield Fault(("observations", "ca_file"), "certificates are for https; remove this, or write https in url")
    if isinstance(table.get("token_file"), str):
        try:
            _first_line(folder / table["token_file"])
        except ConfigurationError as error:
            yield Fault(("observations", "token_file"), str(error))
    if isinstance(table.get("ca_file"), str):
        try:
            ssl.create_default_context(cafile=str(folder / table["ca_file"]))
        except OSError as error:
            yield Fault(("observations", "ca_file"), f"cannot be used: {error.strerror or error}")


def _first_line(file: Path) -> str:
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{file} cannot be read: {getattr(error, 'strerror', None) or 'not plain text'}"
        ) from None
    if not lines or not lines[0].strip():
        raise ConfigurationError(f"{file} is empty; its first line is the token")
    return lines[0].strip()
