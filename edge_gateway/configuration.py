"""gateway.toml as frozen, checked objects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from edge_gateway.direct.faults import direct_faults
from edge_gateway.endpoint import Endpoint, parse_port
from edge_gateway.modbus_units import modbus_faults
from edge_gateway.warning_configuration import WarningConfiguration, warning_faults
from station_config.broker_link import BrokerLink, broker_faults
from station_config.toml_config import (
    Fault,
    FilePath,
    KeyPath,
    Several,
    StrictModel,
    Table,
    load,
    plain,
    repeated,
    rows,
)

Name = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
MEBIBYTE = 1 << 20


class StationConfiguration(StrictModel):
    """One station on a line."""

    id: Name
    address: int = Field(ge=1, le=247)


class LineConfiguration(StrictModel):
    """One line: a serial port (RS-485, radio), Modbus TCP, or RTU frames through a TCP connection.

    `timeout_s` is real time, the answer's own length not counted.
    """

    name: str = Field(min_length=1, max_length=32)
    port: str = Field(min_length=1)
    baud: int = Field(default=9600, ge=300, le=4_000_000)
    parity: Literal["N", "E", "O"] = "N"
    stop: Literal[1, 2] = 1
    timeout_s: float = Field(default=1.0, gt=0, le=60)
    stations: Several[StationConfiguration] = Field(default=(), alias="station")

    @field_validator("port")
    @classmethod
    def _understood(cls, port: str) -> str:
        parse_port(port)
        return port

    @property
    def endpoint(self) -> Endpoint:
        """What the port means."""
        return parse_port(self.port)


class BrokerConfiguration(BrokerLink):
    """Where records go, and how they are sent. All times are real time."""

    protocol: Literal["3.1.1", "5"] = "3.1.1"
    keepalive_s: int = Field(default=20, ge=5, le=3600)
    commit_timeout_s: float = Field(default=30.0, gt=0)
    window: int = Field(default=20, ge=2, le=1000)
    backlog_share: float = Field(default=0.25, gt=0, lt=1)
    retry_min_s: float = Field(default=0.5, gt=0)
    retry_max_s: float = Field(default=60.0, gt=0)
    first_choice_after_s: float = Field(default=900.0, gt=0)
    max_bytes_per_s: int | None = Field(default=None, ge=50)
    max_mb_per_day: float | None = Field(default=None, gt=0)


class OutboxConfiguration(StrictModel):
    """How much the outbox may hold before the oldest goes, and how it is written: all that comes within `gather_s`
    in one transaction, so that a card lasts."""

    max_bytes: int = Field(default=256 * MEBIBYTE, ge=128 * 1024)
    max_age_days: float = Field(default=60.0, gt=0)
    gather_s: float = Field(default=2.0, ge=0, le=60)


class CommandsConfiguration(StrictModel):
    """Whose commands are carried out: the public keys (.pem) in a folder; none without it."""

    keys_dir: FilePath | None = None


class ModbusServerConfiguration(StrictModel):
    """SCADA may read the stations here. `units`: station -> unit, where its address is taken by another line's."""

    host: str = "127.0.0.1"
    port: int = Field(default=1502, ge=1, le=65535)
    connections: int = Field(default=8, ge=1, le=64)
    idle_s: float = Field(default=300.0, gt=0)
    stale_s: float = Field(default=900.0, gt=0)
    units: dict[str, Annotated[int, Field(ge=1, le=247)]] = Field(default_factory=dict)


class DirectConfiguration(StrictModel):
    """A station of network.toml without a board: the gateway asks its instruments, and keeps its journal."""

    station: Name
    line: str = Field(min_length=1, max_length=32)
    journal_records: int = Field(default=500_000, ge=10_000, le=50_000_000)  # 30 bytes each; then the oldest go


class GatewayConfiguration(StrictModel):
    """The whole of gateway.toml. Relative paths are meant from the file's own folder."""

    id: Name
    state_dir: FilePath
    poll_interval_s: float = Field(default=1.0, gt=0)
    clock_tolerance_s: float = Field(default=2.0, ge=1.0)
    clock_source: Literal["network", "host"] = "network"
    status_interval_s: float = Field(default=60.0, gt=0)
    network: FilePath | None = None
    broker: BrokerConfiguration = BrokerConfiguration()
    outbox: OutboxConfiguration = OutboxConfiguration()
    commands: CommandsConfiguration = CommandsConfiguration()
    warning: WarningConfiguration | None = None
    lines: Several[LineConfiguration] = Field(alias="line")
    direct: Several[DirectConfiguration] = ()
    modbus_server: ModbusServerConfiguration | None = None

    @property
    def stations(self) -> tuple[StationConfiguration, ...]:
        """All stations with a board, of all lines."""
        return tuple(station for line in self.lines for station in line.stations)

    @property
    def station_ids(self) -> tuple[str, ...]:
        """All stations, those without a board too."""
        return tuple(station for line in self.lines for station in self.stations_of(line.name))

    def stations_of(self, line_name: str) -> tuple[str, ...]:
        """Return the stations whose board or instruments are on a line."""
        boards = [station.id for line in self.lines if line.name == line_name for station in line.stations]
        return (*boards, *(row.station for row in self.direct if row.line == line_name))

    @property
    def outbox_path(self) -> Path:
        """The outbox's SQLite file."""
        return self.state_dir / "outbox.sqlite"


def load_configuration(path: Path) -> GatewayConfiguration:
    """Return the checked configuration. Raises station_config.errors.ConfigurationError with every fault."""
    folder = path.resolve().parent
    configuration = load(
        path,
        GatewayConfiguration,
        check=lambda data: [
            *_conflicts(data),
            *direct_faults(data, folder),
            *modbus_faults(data, folder),
            *warning_faults(data),
            *broker_faults(data, folder),
        ],
    )
    return _anchored(configuration, folder)


def _anchored(configuration: GatewayConfiguration, folder: Path) -> GatewayConfiguration:
    keys_dir = configuration.commands.keys_dir
    return configuration.model_copy(
        update={
            "state_dir": folder / configuration.state_dir,
            "warning": configuration.warning and configuration.warning.anchored(folder),
            "network": configuration.network and folder / configuration.network,
            "broker": configuration.broker.anchored(folder),
            "commands": CommandsConfiguration(keys_dir=keys_dir and folder / keys_dir),
        }
    )


def _conflicts(data: Table) -> Iterator[Fault]:
    lines = list(rows(data, "line"))
    stations = [(path, row, at) for at, line in lines for path, row in rows(line, "station", at)]
    if not lines:
        yield Fault(("line",), "there is no line; give each RS-485 port its [[line]] with its [[line.station]] tables")
    yield from repeated((((*path, "name"), row.get("name")) for path, row in lines), "this line name")
    yield from repeated((((*path, "port"), row.get("port")) for path, row in lines), "this port")
    ids = [((*path, "id"), row.get("id")) for path, row, _ in stations]
    directs = list(rows(data, "direct"))
    yield from repeated([*ids, *(((*path, "station"), row.get("station")) for path, row in directs)], "this station")
    used = {plain(row, "line") for _, row in directs}
    for path, row in lines:
        if not row.get("station") and plain(row, "name") not in used:
            yield Fault(path, "nothing is on this line: give it [[line.station]] tables, or a [[direct]] that names it")
    yield from _serial_settings_of_tcp(lines)
    for at, _line in lines:
        addresses = [((*path, "address"), row.get("address")) for path, row, line_at in stations if line_at == at]
        yield from repeated(addresses, "this address")


def _serial_settings_of_tcp(lines: list[tuple[KeyPath, Table]]) -> Iterator[Fault]:
    for path, line in lines:
        if str(line.get("port")).startswith("tcp://"):
            for key in ("baud", "parity", "stop"):
                if key in line:
                    yield Fault(
                        (*path, key), "Modbus TCP has none; it is set at the device behind (rtu+tcp:// wants baud)"
                    )
