"""The command line of `tram-cloud broker-files`."""

from __future__ import annotations

import ipaddress
import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from cloud_ingest.errors import CloudError
from station_config.clock import clock_from_environment
from station_config.errors import ConfigurationError
from station_config.network import load_network

FAILED, WRONG_USE = 1, 2
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")


def broker_files(
    network: Annotated[Path, typer.Option(help="network.toml: its gateways get certificates", metavar="FILE")],
    out: Annotated[Path, typer.Option(help="folder of the authority and of all it makes", metavar="DIR")],
    name: Annotated[
        list[str], typer.Option(help="DNS name or IP address of the broker; the first is what clients connect to")
    ],
    port: Annotated[int, typer.Option(min=1, max=65535, help="port of the broker")] = 8883,
    installed_at: Annotated[
        Path | None,
        typer.Option(help="where DIR/broker will stand on the broker's machine [DIR/broker]", metavar="DIR"),
    ] = None,
    broker_user: Annotated[str, typer.Option(help="user mosquitto runs as")] = "mosquitto",
    days: Annotated[int, typer.Option(min=1, max=3650, help="how long new certificates are valid")] = 730,
    renew_days: Annotated[int, typer.Option(min=0, help="renew what ends within so many days")] = 90,
    revoke: Annotated[
        list[str] | None, typer.Option(help="revoke this gateway's certificates and make new ones", metavar="ID")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for scripts")] = False,
) -> None:
    """Write what mosquitto needs to let in exactly the gateways of a network and the cloud, by certificate.

    Safe to run again: keeps what is good, makes what is missing, renews what ends soon, revokes removed gateways.

    Example: tram-cloud broker-files --network network.toml --out /etc/tram/authority --name mqtt.example.org
    """
    from cloud_ingest.broker_files import BrokerPlan, write_broker_files  # the other commands start without it

    _check_names(name)
    try:
        known, clock = load_network(network), clock_from_environment(os.environ)
    except (ConfigurationError, ValueError) as error:
        _fail(str(error), WRONG_USE)
    plan = BrokerPlan(
        network=known.name,
        gateways=tuple(gateway.id for gateway in known.gateways),
        names=tuple(name),
        port=port,
        folder_there=installed_at or (out / "broker").absolute(),
        broker_user=broker_user,
        valid_days=days,
        renew_days=min(renew_days, days - 1),
        revoke=frozenset(revoke or ()),
    )
    try:
        report = write_broker_files(plan, out, clock.now())
    except CloudError as error:
        _fail(str(error), FAILED)
    except OSError as error:
        _fail(f"{error.filename or out}: {error.strerror}", FAILED)
    if as_json:
        typer.echo(json.dumps({"folder": str(out), **asdict(report)}))
        return
    for what, names in asdict(report).items():
        typer.echo(f"{what}: {', '.join(names) or '-'}")
    typer.echo(
        f"broker: {out / 'broker'}, start it with mosquitto -c {plan.folder_there / 'mosquitto.conf'}; after a change "
        "restart it\n"
        f"gateways and cloud: copy each folder of {out / 'clients'} to its machine, over a secure way\n"
        f"keep {out / 'ca.key'} here, and a backup of it: whoever has it can be any gateway"
    )


def _check_names(names: list[str]) -> None:
    for name in names:
        try:
            ipaddress.ip_address(name)
        except ValueError:
            if not _HOST_NAME.fullmatch(name) or len(name) > 253:
                _fail(f"--name {name}: a DNS name (a-z, 0-9, -, dots) or an IP address, without a port", WRONG_USE)


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)
