"""What the bench panel shows: every record counted at each place it can be, and the phone.

`tram-gateway status --watch` tells what boards have made and what waits at the gateway, whatever the link does; the
cloud's ledger tells what is stored. Made, minus stored, is on its way; lost is what the ledger itself calls missing.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Mapping
from typing import Any

import httpx

from simulators.bench import Bench
from simulators.history import JOURNAL
from simulators.processes import command


class GatewayWatch:
    """The gateway's own status, read line by line from `tram-gateway status --watch`."""

    def __init__(self, bench: Bench) -> None:
        argv = [command("tram-gateway"), "status", "--config", str(bench.site.gateway_file), "--json", "--watch", "1"]
        self._process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=bench.environment()
        )
        self._latest: Mapping[str, Any] = {}
        self._reader = threading.Thread(target=self._read, name="gateway-watch", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._latest = json.loads(line)

    def stations(self) -> Mapping[str, Mapping[str, Any]]:
        """Return {station: what the gateway last knew of it}."""
        stations: Mapping[str, Mapping[str, Any]] = self._latest.get("stations", {})
        return stations

    def close(self) -> None:
        """End the watching process."""
        self._process.terminate()
        self._process.wait(5.0)
        self._reader.join(5.0)


class PanelState:
    """Puts the panel's JSON together on request."""

    def __init__(self, bench: Bench, watch: GatewayWatch) -> None:
        self._bench = bench
        self._watch = watch
        self._ledger: list[Mapping[str, Any]] = []

    def __call__(self) -> dict[str, Any]:
        """Return the panel's state; what does not answer is shown as it was last."""
        bench = self._bench
        self._ledger = _or(lambda: bench.api("/api/v1/ledger"), self._ledger)
        gateway = self._watch.stations()
        stations = [_station(s.id, gateway.get(s.id, {}), self._ledger) for s in bench.site.stations]
        counted = ("made", "buffered", "stored", "missing", "conflicts")
        sums = {key: sum(int(station[key]) for station in stations) for key in counted}
        return {
            "now": int(bench.clock.now()),
            "rate": bench.clock.rate,
            "broker": bench.broker.kind,
            "plugs": {plug: {"out": plug in bench.out} for plug in bench.plugs},
            "stations": stations,
            "totals": {
                "made": sums["made"],
                "buffered": sums["buffered"],
                "stored": sums["stored"],
                "lost": sums["missing"],
                "duplicated": sums["conflicts"],
                "equal": sums["made"] == sums["stored"],
            },
            "inbox": _or(bench.inbox, []),
        }


def _or(ask: Any, otherwise: Any) -> Any:
    try:
        return ask()
    except httpx.HTTPError:
        return otherwise


def _station(station: str, gateway: Mapping[str, Any], ledger: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Count one station's records in the journal its board has now; the demo's two earlier days are not counted."""
    rows = [row for row in ledger if row["station"] == station and row["journal"] != JOURNAL]
    stored = sum(int(row["stored"]) for row in rows)
    return {
        "id": station,
        "made": max(int(gateway.get("next_seq") or 1) - 1, stored),
        "buffered": int(gateway.get("buffered") or 0),
        "stored": stored,
        "missing": sum(last - first + 1 for row in rows for first, last in row["missing"]),
        "conflicts": sum(int(row["conflicts"]) for row in rows),
        "duplicates": sum(int(row["duplicates_received"]) for row in rows),
    }
