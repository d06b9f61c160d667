"""`tram-sim demo`: the whole chain on this machine; with --check a run that judges itself.

plan (when does salinity cross a crop's threshold?) → bench up → two days of history → plugs pulled by a timetable
(check) or by a person on the page (demo) → journals read from the boards → verdict.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from firmware.record import Record
from simulators import check, history
from simulators import plan as planning
from simulators import site as sites
from simulators.bench import Bench
from simulators.check import Journal, Verdict
from simulators.estuary import Estuary, Place
from simulators.plan import Plan
from simulators.processes import wait_for
from simulators.replay import Replay, Series
from simulators.world import StationSurroundings
from station_config.network import load_network
from station_config.thresholds import load_thresholds, thresholds_in_force

DRAIN_DEADLINE_S = 60.0
PAGE = 5000


def plan_run(series: Series | None, seed: int, span_s: float | None) -> Plan:
    """Choose when the run begins, and for which crop and station. Raises PlanError."""
    source = Estuary(seed) if series is None else Replay(series)
    return planning.plan(source, places(), thresholds_in_force(load_thresholds(), datetime.now(UTC).date()), span_s)


def places() -> list[Place]:
    """Return where the demo network's stations stand."""
    stations = load_network(sites.DEMO_NETWORK).stations
    return [sites.place_of(station, number) for number, station in enumerate(stations)]


def bring_up(bench: Bench, series: Series | None) -> None:
    """Start the bench and send the two days before it."""
    bench.start()
    bench.report("sending two days of history")
    bench.history = {station: history_of(bench, station, series) for station in bench.site.places}
    password = bench.broker.password_file(sites.EARLIER_GATEWAY).read_text(encoding="utf-8").strip()
    history.publish(history.Broker(bench.site.ports.broker, sites.EARLIER_GATEWAY, password), bench.history)


def history_of(bench: Bench, station: str, series: Series | None) -> list[Record]:
    """Return the records of the two days before the bench's clock began, from the same river or file."""
    source = Estuary(bench.options.seed) if series is None else Replay(series)
    surroundings = StationSurroundings(bench.site.places[station], source, bench.options.seed)
    begin_s = int(bench.clock.origin_s - bench.options.start_lead_s * bench.clock.rate)
    network = bench.site.network
    return history.records(network, network.station(station), surroundings, begin_s)


@dataclass(frozen=True)
class Pull:
    """One line of the timetable: at `at_s` real seconds after the start, `plug` is out for `out_s`."""

    at_s: float
    plug: str
    out_s: float


def timetable(plugs: Sequence[str], seconds: float) -> list[Pull]:
    """Spread one pull of every plug over the run, each out for a twentieth of it, 2 to 8 s; none at the end."""
    out_s = min(8.0, max(2.0, seconds / 20))
    step = 0.8 * seconds / len(plugs)
    return [Pull(0.08 * seconds + number * step, plug, out_s) for number, plug in enumerate(plugs)]


class Timetable:
    """Pulls plugs while a run goes on, from `tick`; counts what it pulled."""

    def __init__(self, bench: Bench, pulls: Sequence[Pull]) -> None:
        self._bench = bench
        self._due = sorted([(p.at_s, p.plug, True) for p in pulls] + [(p.at_s + p.out_s, p.plug, False) for p in pulls])
        self.pulled: Counter[str] = Counter()

    def tick(self, elapsed_s: float) -> None:
        """Do all that is due."""
        while self._due and self._due[0][0] <= elapsed_s:
            _, plug, out = self._due.pop(0)
            self._bench.report(f"{elapsed_s:5.0f} s  {plug} {'out' if out else 'back in'}")
            if out:
                self._bench.pull(plug)
                self.pulled[plug] += 1
            else:
                self._bench.put_back(plug)


def run_check(bench: Bench, seconds: float, series: Series | None, stop: threading.Event) -> Verdict:
    """Run a started bench for `seconds` of real time, pull every plug, and judge; `stop` ends it early.

    Raises BenchError.
    """
    pulls = Timetable(bench, timetable(bench.plugs, seconds))
    begin = max(bench.clock.real_origin_s, time.time())
    while time.time() < begin + seconds and not stop.wait(0.05):
        pulls.tick(time.time() - begin)
    pulls.tick(float("inf"))
    wait_until_told(bench)
    made = read_journals(bench)
    wait_for(lambda: stored_all(bench, made), DRAIN_DEADLINE_S, "the boards' records to be stored", raises=False)
    return judge(bench, made, pulls.pulled, series)


def wait_until_told(bench: Bench) -> None:
    """Give the last alert the time its rule needs, then let messages arrive."""
    plan, clock = bench.options.plan, bench.clock
    left_s = (plan.clearing_s + plan.dwell_s + 120 - clock.now()) / clock.rate
    wait_for(
        lambda: any(a["kind"] == "cleared" for a in alerts_of(bench)), max(left_s, 0) + 15, "all clear", raises=False
    )
    wait_for(lambda: len(bench.inbox()) >= len(alerts_of(bench)), 15, "the messages", raises=False)


def alerts_of(bench: Bench) -> list[dict[str, Any]]:
    """Return what was decided for the planned station."""
    alerts = bench.api("/api/v1/alerts", limit=100)["alerts"]
    return [alert for alert in alerts if alert["station"] == bench.options.plan.station]


def read_journals(bench: Bench) -> dict[tuple[str, int], Journal]:
    """Read every board's journal over its console, all at once, and add what the history sent."""
    ids = [station.id for station in bench.site.stations]
    with ThreadPoolExecutor(max_workers=len(ids)) as technicians:
        folders = list(technicians.map(bench.boards.read_journal, ids))
    made = {
        (station, journal): records
        for station, folder in zip(ids, folders, strict=True)
        for journal, records in check.read_batches(folder).items()
    }
    earlier = {(s, history.JOURNAL): {r.seq: r for r in records} for s, records in bench.history.items()}
    return made | earlier


def stored_all(bench: Bench, made: Mapping[tuple[str, int], Journal]) -> bool:
    """Whether the ledger covers every seq of the journals."""
    ranges = {(row["station"], row["journal"]): row["ranges"] for row in bench.api("/api/v1/ledger")}

    def covered(key: tuple[str, int], journal: Journal) -> bool:
        return all(any(a <= seq <= b for a, b in ranges.get(key, ())) for seq in journal)

    return all(covered(key, journal) for key, journal in made.items())


def stored_records(bench: Bench, station: str) -> Iterator[dict[str, Any]]:
    """Yield every raw record the API has of a station, journal by journal."""
    for row in bench.api("/api/v1/ledger"):
        if row["station"] != station:
            continue
        path, after = f"/api/v1/stations/{station}/records", 0
        while (page := bench.api(path, journal=row["journal"], after_seq=after, limit=PAGE))["records"]:
            yield from page["records"]
            after = page["next_after_seq"]


def judge(
    bench: Bench, made: Mapping[tuple[str, int], Journal], pulled: Mapping[str, int], series: Series | None
) -> Verdict:
    """Compare and judge."""
    ids = [station.id for station in bench.site.stations]
    counts = check.compare(made, {station: stored_records(bench, station) for station in ids})
    alerting = check.judge_alert(bench.options.plan, alerts_of(bench), bench.inbox(), bench.clock.rate)
    errors = [error for station in ids for error in replay_errors(bench, station, series)]
    bench_hours = (bench.clock.now() - bench.options.plan.start_s) / 3600
    found = check.faults(counts, alerting, bench.plugs, pulled)
    if errors and round(max(errors), 2) > check.SALINITY_ROUNDING:
        found.append(f"salinity differs from the file's own by up to {max(errors):.3f}")
    if series is not None and not errors:
        found.append("no stored minute could be compared with the file's salinity")
    return Verdict(
        counts,
        alerting,
        dict(pulled),
        bench.broker.kind,
        bench_hours,
        max(errors, default=None),
        len(errors),
        found,
    )


def replay_errors(bench: Bench, station: str, series: Series | None) -> list[float]:
    """Return how far the stored salinity of a station is from the replayed file's own column, minute by minute."""
    if series is None:
        return []
    start = int(bench.options.plan.start_s)
    path = f"/api/v1/stations/{station}/series/salinity"
    answer = bench.api(path, **{"from": start, "to": int(bench.clock.now()), "limit": 10000})
    shifted = series.shifted(bench.site.places[station].shift_s)
    return check.salinity_errors(answer["times"], answer["values"], shifted.times, shifted.salinity)
