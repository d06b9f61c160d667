"""`tram-cloud ask-again`: after a restore, have the gateways send once more what the store lacks."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from cloud_ingest.audit import account_for, in_cloud
from cloud_ingest.chunked_log import LogStore
from cloud_ingest.commanding.book import Order
from cloud_ingest.commanding.ordering import OrderRefused, Ticket, Wish, make_command, parse_duration
from cloud_ingest.commanding.output import (
    ByOption,
    ConfigOption,
    JsonOption,
    KeyOption,
    Office,
    opened_office,
    out,
    print_json,
    print_orders,
    who,
)
from cloud_ingest.configuration import load_configuration
from cloud_ingest.places import Places, database_of
from cloud_ingest.reading import Journal
from station_config.command import JOURNALS_AT_MOST, RANGES_AT_MOST, Envelope, sign


def ask_again(
    config: ConfigOption,
    station: Annotated[list[str] | None, typer.Option(help="of which station [all]; may be repeated")] = None,
    expires: Annotated[str, typer.Option(help="not carried out after this: 90s, 15m, 2h, 7d")] = "7d",
    by: ByOption = None,
    key_file: KeyOption = None,
    only_sign: Annotated[
        Path | None, typer.Option("--only-sign", help="write the signed commands into this folder", metavar="FOLDER")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Have the gateways send again what this store lacks: they read it from their stations' journals.

    For after `tram-cloud restore`: gateways have forgotten what was committed to the store that is lost. Each gets a
    signed command with what is here; the running service publishes it. Records that come twice are counted once.
    `tram-cloud command list` shows what each gateway found, `tram-cloud audit` what is still missing.

    Example: tram-cloud ask-again --config cloud.toml
    """
    with opened_office(config) as (office, book):
        envelopes = list(
            _signed(office, _known(config), station, Ticket(who(by), office.clock.now(), 0), expires, key_file)
        )
        if only_sign is not None:
            _write(only_sign, envelopes)
            out.print(f"{only_sign}: send each with tram-cloud command submit, where the service's database is")
            return
        orders: list[Order] = [book.order(envelope, who(by)) for _, envelope in envelopes]
    if as_json:
        print_json([order.as_json() for order in orders])
    else:
        print_orders(orders, "Asked for again")


def _known(config: Path) -> list[Journal]:
    configuration = load_configuration(config)
    database = database_of(configuration)
    if not database.exists():
        raise OrderRefused(f"{configuration.state_dir}: no store here yet; tram-cloud restore brings one back")
    places = Places(configuration.state_dir, database, LogStore())  # no observation is asked for
    with closing(places.reader()) as reader:
        return reader.journals()


def _signed(
    office: Office, known: list[Journal], stations: list[str] | None, ticket: Ticket, expires: str, key: Path | None
) -> Iterable[tuple[str, Envelope]]:
    """Yield each station's command, signed. Raises OrderRefused."""
    network, private = office.network(), office.key(key)
    ticket = Ticket(ticket.by, ticket.now, parse_duration(expires))
    wanted = stations or [one.id for one in network.stations]
    for station in dict.fromkeys(wanted):
        wish = Wish("read-again", station=station, in_cloud=_in_cloud(known, station))
        yield station, sign(make_command(wish, network, ticket), private)


def _in_cloud(known: list[Journal], station: str) -> list[dict[str, Any]]:
    """Return what is here of a station; of very many journals the newest, which come last."""
    own = [one for one in known if one.station == station][-JOURNALS_AT_MOST:]
    accounts = [(one.journal, account_for(one.stored, one.unusable, one.overwritten, one.declared)) for one in own]
    most = RANGES_AT_MOST // max(1, len(own))
    return [{"journal": journal, "ranges": in_cloud(account, most)} for journal, account in accounts]


def _write(folder: Path, envelopes: list[tuple[str, Envelope]]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for station, envelope in envelopes:
            (folder / f"read-again-{station}.json").write_bytes(envelope.encode() + b"\n")
    except OSError as error:
        raise OrderRefused(f"{folder}: cannot be written: {error.strerror}") from None
