"""The configuration files of one bench run, written as a technician and an operator would write them.

A site is a folder: network.toml (who is where), gateway.toml, cloud.toml and rules.toml for the real commands, and the
JSON files of the simulated outside world. Nothing here starts anything; simulators.bench does.
"""

from __future__ import annotations

import json
import secrets
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from simulators.errors import SimulatorError
from simulators.estuary import Place
from simulators.plan import Plan
from station_config.free_ports import free_ports
from station_config.network import Network, Station, load_network
from station_config.thresholds import load_thresholds, thresholds_in_force

DEMO_NETWORK = Path(__file__).with_name("demo_network.toml")
GATEWAY = "gw-go-cong"
EARLIER_GATEWAY = "gw-earlier"
UPLINK = "uplink"
MARKER = ".tram-run"  # a folder with it was made by a run and may be emptied by the next
REPLAY_SHIFT_S = 3600.0
USUAL_ELEVATION_M = -3.0
CROPS = {"vam-kenh": "tiger-shrimp", "hoa-binh": "coconut", "xuan-hoa": "rice"}
FARMER = ("Chị Sáu", "0900000001")


class SiteError(SimulatorError):
    """The folder named for a run cannot be used."""


@dataclass(frozen=True)
class Ports:
    """TCP ports of a run, all on 127.0.0.1."""

    broker: int
    link: int
    phone: int
    cloud: int


@dataclass(frozen=True)
class Site:
    """Where everything of one bench run lies."""

    directory: Path
    network: Network
    stations: tuple[Station, ...]
    ports: Ports
    plan: Plan

    @property
    def places(self) -> dict[str, Place]:
        """Where each station of the run stands, as the simulated world sees it."""
        numbered = {station.id: place_of(station, number) for number, station in enumerate(self.network.stations)}
        return {station.id: numbered[station.id] for station in self.stations}

    @property
    def network_file(self) -> Path:
        """The network.toml that all commands read."""
        return self.directory / "network.toml"

    @property
    def gateway_file(self) -> Path:
        """The gateway's configuration."""
        return self.directory / "gateway.toml"

    @property
    def cloud_file(self) -> Path:
        """The cloud's configuration."""
        return self.directory / "cloud.toml"

    @property
    def rules_file(self) -> Path:
        """The alert rules and whom they reach."""
        return self.directory / "rules.toml"

    def line(self, line: str, port: str) -> Path:
        """Return the serial port one participant of an RS-485 line opens."""
        return self.directory / "lines" / line / port

    def console(self, station: str) -> Path:
        """Return the USB console of a board."""
        return self.directory / f"console-{station}"

    def flash(self, station: str) -> Path:
        """Return the file that is a board's flash."""
        return self.directory / f"flash-{station}.img"

    def socket(self, name: str) -> Path:
        """Return the control socket of a simulator."""
        return self.directory / f"{name}.sock"


def place_of(station: Station, number: int) -> Place:
    """Return where the n-th station of a network stands; in a replay each is an hour behind the one before."""
    elevations = [sensor.elevation_m for sensor in station.sensors if sensor.elevation_m is not None]
    elevation_m = elevations[0] if elevations else USUAL_ELEVATION_M
    return Place(station.id, station.river_km, elevation_m, REPLAY_SHIFT_S * number)


def accepts(port: int) -> bool:
    """Whether something accepts TCP connections on 127.0.0.1:port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5):
            return True
    except OSError:
        return False


def write_secret(path: Path) -> None:
    """Write a new random secret to a file only its owner can read."""
    path.touch(mode=0o600)
    path.write_text(secrets.token_urlsafe(24), encoding="utf-8")


def lay_out(
    directory: Path, plan: Plan, station_ids: Sequence[str] | None = None, network_file: Path = DEMO_NETWORK
) -> Site:
    """Make the folder of a new run and write network.toml; the stations are those named, or all of the network.

    Raises SiteError when the folder holds anything but an earlier run.
    """
    _make_empty(directory)
    shutil.copyfile(network_file, directory / "network.toml")
    network = load_network(directory / "network.toml")
    stations = tuple(s for s in network.stations if station_ids is None or s.id in station_ids)
    return Site(directory, network, stations, Ports(*free_ports(4)), plan)


def _make_empty(directory: Path) -> None:
    marker = directory / MARKER
    if directory.exists() and not marker.exists() and any(directory.iterdir()):
        raise SiteError(f"{directory} is not empty and holds no earlier run; name another --directory")
    if marker.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    marker.touch()


def write_gateway(site: Site, password_file: Path, *, poll_interval_s: float, commit_timeout_s: float) -> None:
    """Write gateway.toml: the broker through the link that can be cut, one radio line with all stations."""
    text = f"""id = "{GATEWAY}"
state_dir = "{site.directory / "gateway"}"
poll_interval_s = {poll_interval_s}

[outbox]
gather_s = 0.1

[broker]
host = "127.0.0.1"
port = {site.ports.link}
user = "{GATEWAY}"
password_file = "{password_file}"
commit_timeout_s = {commit_timeout_s}
retry_max_s = 2

[[line]]
name = "{UPLINK}"
port = "{site.line(UPLINK, "gateway")}"
baud = 9600
timeout_s = 1.0
"""
    for station in site.stations:
        text += f'\n[[line.station]]\nid = "{station.id}"\naddress = {station.address}\n'
    site.gateway_file.write_text(text, encoding="utf-8")


def write_cloud(site: Site, password_file: Path, sms_token_file: Path) -> None:
    """Write cloud.toml: ingest, page and alerts in one program."""
    text = f"""network = "{site.network_file}"
state_dir = "{site.directory / "cloud"}"

[broker]
host = "127.0.0.1"
port = {site.ports.broker}
user = "cloud"
password_file = "{password_file}"

[http]
host = "127.0.0.1"
port = {site.ports.cloud}

[alerts]
rules = "{site.rules_file}"

[sms]
url = "http://127.0.0.1:{site.ports.phone}"
token_file = "{sms_token_file}"
"""
    site.cloud_file.write_text(text, encoding="utf-8")


def write_rules(site: Site, more: str = "") -> None:
    """Write rules.toml: a rule per station for the planned crop, and a farmer who listens to the planned station.

    A network other than the demo's has no crops, and no rules.
    """
    plan = site.plan
    if any(station.id not in CROPS for station in site.stations):
        site.rules_file.write_text(more, encoding="utf-8")
        return
    text = ""
    for station in site.stations:
        crop, set_level, clear_level = _levels(plan, station.id)
        text += f"""[[rule]]
id = "{crop}-{station.id}"
parameter = "salinity"
stations = ["{station.id}"]
{_crop_line(plan, crop)}set_level = {set_level}
clear_level = {clear_level}
set_dwell_s = {round(plan.dwell_s)}
clear_dwell_s = {round(plan.dwell_s)}
stale_after_s = 3600
severity = "warning"

"""
    text += f"""[[person]]
name = "{FARMER[0]}"
phone = "{FARMER[1]}"
language = "vi"
rules = ["{plan.threshold.id}-{plan.station}"]
"""
    site.rules_file.write_text(text + more, encoding="utf-8")


def _levels(plan: Plan, station: str) -> tuple[str, float, float]:
    """Return crop, set and clear level of a station's rule: the planned ones where the planned alert is."""
    if station == plan.station:
        return plan.threshold.id, plan.set_level, plan.clear_level
    crop = CROPS[station]
    threshold = next(one for one in load_thresholds() if one.id == crop and one.effective_to is None)
    return crop, threshold.level_g_l, threshold.clear_g_l


def _crop_line(plan: Plan, crop: str) -> str:
    """Name the crop, unless the run replays days on which its threshold was not in force yet; then levels must do."""
    day = datetime.fromtimestamp(plan.start_s, UTC).date()
    known = any(threshold.id == crop for threshold in thresholds_in_force(load_thresholds(), day))
    return f'threshold = "{crop}"\n' if known else ""


def write_json(path: Path, content: Mapping[str, object]) -> Path:
    """Write the JSON configuration of a simulator."""
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path
