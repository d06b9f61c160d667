"""From what a person says to a signed command: which gateway, which station, which file."""

from __future__ import annotations

import base64
import getpass
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from station_config.board import board_configuration, encode
from station_config.command import KINDS, AnyCommand, Envelope, command_of, new_id, sign
from station_config.errors import StationConfigError
from station_config.network import Network

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class OrderRefused(StationConfigError):
    """This cannot be ordered so; the text says what to write instead."""


@dataclass(frozen=True)
class Wish:
    """What the command line says. Files stand for their content."""

    kind: str
    gateway: str | None = None
    station: str | None = None
    line: str | None = None
    first: int = 1
    last: int = 247
    sensor: int | None = None
    on: bool | None = None
    file: Path | None = None
    image: Path | None = None
    in_cloud: list[dict[str, Any]] | None = None  # read-again: by journal


@dataclass(frozen=True)
class Ticket:
    """By whom, from when, for how long."""

    by: str
    now: float
    lasts_s: int


def parse_duration(text: str) -> int:
    """Return seconds of 90s, 15m, 2h or 7d. Raises OrderRefused."""
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None or int(match[1]) == 0:
        raise OrderRefused(f"{text!r} is no duration; write 90s, 15m, 2h or 7d")
    return int(match[1]) * _UNITS_S[match[2]]


def os_user() -> str:
    """Return who is logged in, for the audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no name for this user id, as in some containers
        return "unknown"


def make_command(wish: Wish, network: Network, ticket: Ticket) -> AnyCommand:
    """Return the command of a wish. Raises OrderRefused, ConfigurationError."""
    if wish.kind not in KINDS:
        raise OrderRefused(f"{wish.kind!r} is no kind of command; there are {', '.join(KINDS)}")
    plain = {
        "kind": wish.kind,
        "id": new_id(),
        "gateway": _gateway(wish, network),
        "issued_at": int(ticket.now),
        "expires_at": int(ticket.now) + ticket.lasts_s,
        "by": ticket.by,
        "arguments": _arguments(wish, network),
    }
    try:
        return command_of(plain)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise OrderRefused(f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}") from None


def make_rollout(
    image: Path, stations: list[str], network: Network, ticket: Ticket, key: Ed25519PrivateKey
) -> list[Envelope]:
    """Return one signed firmware command per station, in this order. Raises OrderRefused."""
    doubled = {station for station in stations if stations.count(station) > 1}
    if doubled:
        raise OrderRefused(f"named twice: {', '.join(sorted(doubled))}")
    wishes = [Wish("firmware", station=station, image=image) for station in stations]
    return [sign(make_command(wish, network, ticket), key) for wish in wishes]


def _gateway(wish: Wish, network: Network) -> str:
    """Return the gateway: of the station, or as said; both must fit."""
    known = {gateway.id for gateway in network.gateways}
    if wish.station is None:
        if wish.gateway is None:
            raise OrderRefused("say --gateway, or the --station it is for")
        if wish.gateway not in known:
            raise OrderRefused(f"no gateway {wish.gateway} in the network; there are {', '.join(sorted(known))}")
        return wish.gateway
    stations = {station.id: station.gateway for station in network.stations}
    if wish.station not in stations:
        raise OrderRefused(f"no station {wish.station} in the network; there are {', '.join(sorted(stations))}")
    if wish.gateway not in (None, stations[wish.station]):
        raise OrderRefused(f"station {wish.station} is read by {stations[wish.station]}, not {wish.gateway}")
    return stations[wish.station]


def _arguments(wish: Wish, network: Network) -> dict[str, Any]:
    if wish.kind == "bus-scan":
        return {"line": _needed(wish.line, "--line"), "first": wish.first, "last": wish.last}
    if wish.kind in ("logs", "reboot"):
        return {"station": wish.station}
    station = _needed(wish.station, "--station")
    if wish.kind == "calibration-mode":
        return {"station": station, "sensor": _needed(wish.sensor, "--sensor"), "on": _needed(wish.on, "--on or --off")}
    if wish.kind == "configuration":
        made = encode(board_configuration(network, station)) if wish.file is None else _read(wish.file)
        return {"station": station, "content": _as_text(made), "sha256": hashlib.sha256(made).hexdigest()}
    if wish.kind == "firmware":
        image = _read(_needed(wish.image, "--image"))
        encoded = base64.b64encode(image).decode("ascii")
        return {"station": station, "image": encoded, "sha256": hashlib.sha256(image).hexdigest()}
    if wish.kind == "read-again":
        return {"station": station, "in_cloud": _needed(wish.in_cloud, "use tram-cloud ask-again: the ledger")}
    return {"station": station}


def _needed(value: Any, option: str) -> Any:
    if value is None:
        raise OrderRefused(f"{option} is missing")
    return value


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OrderRefused(f"{path}: cannot be read: {error.strerror}") from None


def _as_text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise OrderRefused("a station.json is UTF-8 text; is this another file?") from None
