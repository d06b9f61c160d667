"""What a run leaves behind, gathered: journals from the stations, everything else from cloud and phones."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

from firmware.record import FAIL, SIZE, decode
from hil_tests.chaos.evidence import Evidence, Rows
from hil_tests.chaos.layout import Layout
from hil_tests.chaos.program_logs import exceptions_in
from hil_tests.chaos.truth import Key
from hil_tests.chaos.world import World, side_by_side
from simulators.check import RECORD_FIELDS
from simulators.processes import command
from station_config.errors import StationConfigError
from station_config.journal import read_journal

PAGE = 10_000
DAY_S = 86_400


def read_journals(world: World, trouble: list[str]) -> dict[Key, Rows]:
    """Read every board's journal over its console, and those of stations without a board from their files."""
    found: dict[Key, Rows] = {}

    def read(station: str) -> tuple[str, int, bytes, str | None]:
        try:
            journal = read_journal(str(world.boards[station].console_path))
        except StationConfigError as error:
            return station, 0, b"", str(error)
        return station, journal.journal, journal.records, None

    for station, journal, raw, fault in side_by_side(read, list(world.boards)):
        if fault is not None:
            trouble.append(f"the journal of {station} cannot be read: {fault}")
        found[station, journal] = [list(decode(raw, at)) for at in range(0, len(raw), SIZE)]
    for one in world.layout.stations:
        if one.direct:
            found |= _direct_journals(world.layout.state(one.gateway), one.id)
    return found


def _direct_journals(state: Path, station: str) -> dict[Key, Rows]:
    found: dict[Key, Rows] = {}
    for file in sorted(state.glob(f"journal-{station}*.sqlite")):
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as sql:
            (journal,) = sql.execute("SELECT id FROM state").fetchone()
            rows = [list(decode(raw)) for (raw,) in sql.execute("SELECT raw FROM record ORDER BY seq")]
        found.setdefault((station, journal), []).extend(rows)
    return found


def gather(world: World, evidence: Evidence) -> None:
    """Ask the cloud and the phones for everything."""
    layout = world.layout
    for row in world.api("/api/v1/ledger"):
        key = row["station"], row["journal"]
        evidence.declared[key] = [(one["first"], one["last"]) for one in row["declared_lost"]]
        evidence.stored[key] = _stored(world, *key)
    evidence.failed = {station.id: _failed(world, station.id) for station in layout.stations}
    evidence.alerts = world.api("/api/v1/alerts", limit=1000)["alerts"]
    phone = world.phone_log()
    evidence.inbox, evidence.refused_messages = phone["messages"], phone["refused"]
    evidence.restarts = dict(world.restarts)
    evidence.audit = audit(layout)
    evidence.trouble += exceptions_in(layout.folder)


def _stored(world: World, station: str, journal: int) -> Rows:
    rows: Rows = []
    after, path = 0, f"/api/v1/stations/{station}/records"
    while (page := world.api(path, journal=journal, after_seq=after, limit=PAGE))["records"]:
        rows += [[row[name] for name in RECORD_FIELDS] for row in page["records"]]
        after = page["next_after_seq"]
    return rows


def _failed(world: World, station: str) -> list[int]:
    """Return the times whose salinity has failed; those of wrong clocks outside of the run are of no interest."""
    layout = world.layout
    span = {"from": int(layout.begin_s) - DAY_S, "to": int(world.clock.now()) + DAY_S}
    answer = world.api(f"/api/v1/stations/{station}/series/salinity", **span, limit=100_000)
    return [at for at, flag in zip(answer["times"], answer["flags"], strict=True) if flag >= FAIL]


def audit(layout: Layout) -> dict[str, Any]:
    """Run `tram-cloud audit` and return its exit code and what it says."""
    argv = [command("tram-cloud"), "audit", "--config", str(layout.configuration("cloud")), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    try:
        said = json.loads(done.stdout)
    except ValueError:
        said = done.stdout[-2000:] + done.stderr[-2000:]
    return {"code": done.returncode, "said": said}
