"""What the cloud worked by, and since when: the network and the alert rules, kept in the books whenever they change.

The files say how it shall be from now on; this says how it was on any day, so that a number or a warning of two years
ago can still be explained. The network is kept as the file's text, rules as they were resolved (levels, stations).
People and their telephone numbers are not kept here.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from alerts.rules import Rule
from cloud_ingest.book_tables import settings
from cloud_ingest.database import Database, changing, person_changes, store_errors
from cloud_ingest.errors import ChangeRefused
from station_config.network import Network
from station_config.toml_config import parse

VERSION_DIGITS = 12


class Kind(StrEnum):
    """What is kept: network.toml as text, the resolved rules as JSON."""

    NETWORK = "network"
    RULES = "rules"


@dataclass(frozen=True)
class Setting:
    """One version and the time (unix seconds UTC) from which the cloud worked by it."""

    id: int
    kind: Kind
    version: str
    in_force_from: int
    content: str


def version_of(content: str) -> str:
    """Return twelve digits that change with the content; of a file they are those that `sha256sum` begins with."""
    return sha256(content.encode()).hexdigest()[:VERSION_DIGITS]


def rules_as_json(rules: tuple[Rule, ...]) -> str:
    """Return rules as they are kept: every level, dwell and station, in order of their ids."""
    rows = [asdict(rule) for rule in sorted(rules, key=lambda one: one.id)]
    return json.dumps(rows, ensure_ascii=False, sort_keys=True, indent=1)


def keep(database: Database, kind: Kind, content: str, now_s: int) -> bool:
    """Keep what is in force from now on; return False when it was before. Raises StoreUnavailable, StoreRefused."""
    with changing(database) as books, store_errors(), person_changes(books):
        newest = in_force(books, kind)
        if newest is not None and newest.content == content:
            return False
        row = {"kind": str(kind), "version": version_of(content), "in_force_from": now_s, "content": content}
        books.execute(insert(settings).values(row))
    return True


def keep_all(database: Database, network: Path, rules: tuple[Rule, ...] | None, now_s: int) -> list[Kind]:
    """Keep the network's file, and the rules where this process has any; return what changed.

    Raises OSError besides what `keep` raises.
    """
    found = {Kind.NETWORK: network.read_text(encoding="utf-8")}
    if rules is not None:
        found[Kind.RULES] = rules_as_json(rules)
    return [kind for kind, content in found.items() if keep(database, kind, content, now_s)]


def in_force(books: Connection, kind: Kind, at: int | None = None) -> Setting | None:
    """Return what was in force at a time (the newest without one), None before the first."""
    which = select(settings).where(settings.c.kind == str(kind))
    if at is not None:
        which = which.where(settings.c.in_force_from <= at)
    row = books.execute(which.order_by(settings.c.in_force_from.desc(), settings.c.id.desc()).limit(1)).first()
    return None if row is None else _setting(row)


def history(database: Database, kind: Kind | None = None) -> list[Setting]:
    """Return every version in the order they came into force."""
    which = select(settings).order_by(settings.c.in_force_from, settings.c.id)
    with changing(database) as books, store_errors(), books.begin():
        rows = books.execute(which if kind is None else which.where(settings.c.kind == str(kind)))
        return [_setting(row) for row in rows]


def one(database: Database, number: int) -> Setting:
    """Return one version. Raises ChangeRefused when there is none."""
    with changing(database) as books, store_errors(), books.begin():
        row = books.execute(select(settings).where(settings.c.id == number)).first()
    if row is None:
        raise ChangeRefused(f"there is no version {number}; tram-cloud settings list shows all")
    return _setting(row)


def network_of(setting: Setting) -> Network:
    """Return the network as it was. Raises ConfigurationError where this program reads the file otherwise."""
    return parse(setting.content, Network, f"network.toml as of version {setting.version}")


def _setting(row: Row[Any]) -> Setting:
    return Setting(row.id, Kind(row.kind), row.version, row.in_force_from, row.content)
