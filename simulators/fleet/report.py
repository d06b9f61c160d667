"""What a fleet's run came to: figures, the account, and both for people."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from simulators.fleet.plan import FleetPlan
from simulators.fleet.servers import Usage


@dataclass
class Report:
    """Rates are records a second of real time; lag is from a batch's moment to its commit message.

    Rates, lags, CPU and bytes written are those after the warm-up: until every station had been stored once.
    """

    plan: FleetPlan
    against: str
    load_average: float
    took_s: float
    warm_up_s: float
    warm_up_records: int
    offered_per_s: float
    committed_per_s: float
    batches: int
    sent_again: int
    lag_p50_s: float
    lag_p95_s: float
    lag_max_s: float
    stations_carried: float
    publisher_cpu_s: float
    programs: dict[str, Usage]
    disk_bytes: dict[str, int]
    faults: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        plan: FleetPlan,
        result: dict[str, Any],
        programs: dict[str, Usage],
        disk_bytes: dict[str, int],
        against: str,
    ) -> Report:
        """Return the figures of a publisher's result."""
        measured_s = max(result["took_s"] - result["warm_up_s"], 1e-9)
        rate = (result["committed"] - result["warm_up_records"]) / measured_s
        short = plan.records - result["committed"]
        return cls(
            plan=plan,
            against=against,
            load_average=os.getloadavg()[0],
            took_s=result["took_s"],
            warm_up_s=result["warm_up_s"],
            warm_up_records=result["warm_up_records"],
            offered_per_s=plan.records / max(result["offered_s"], 1e-9),
            committed_per_s=rate,
            batches=result["batches"],
            sent_again=result["sent_again"],
            lag_p50_s=result["lag_s"][0],
            lag_p95_s=result["lag_s"][1],
            lag_max_s=result["lag_s"][2],
            stations_carried=rate / plan.channels * plan.interval_s,
            publisher_cpu_s=result["cpu_s"],
            programs=programs,
            disk_bytes=disk_bytes,
            faults=[f"{short} records were never named by a commit message"] if short else [],
        )


def faults_of(plan: FleetPlan, audit: list[dict[str, Any]], stored: float | None) -> list[str]:
    """Return what is wrong by the cloud's own account: each journal stored from 1 to its last, and nothing twice."""
    found = list(_journals(plan, audit))
    if stored is not None and stored != plan.records:
        found.append(f"{plan.records} records were made and {stored:.0f} stored")
    return found


def _journals(plan: FleetPlan, audit: list[dict[str, Any]]) -> Iterator[str]:
    whole = [[1, plan.rounds * plan.batch_records]]
    by_station = {entry["station"]: entry for entry in audit}
    for at in range(plan.stations):
        entry = by_station.get(plan.station(at))
        if entry is None or entry["journal"] != plan.journal(at):
            yield f"{plan.station(at)}: nothing in the ledger"
        elif [list(one) for one in entry["stored"]] != whole:
            yield f"{plan.station(at)}: stored {entry['stored']}, made {whole}"
        elif entry["conflicts"] or entry["set_aside"]:
            yield f"{plan.station(at)}: {entry['conflicts']} records of a moment twice, {entry['set_aside']} set aside"


def show(report: Report, console: Console) -> None:
    """Print a report for people."""
    plan, records = report.plan, report.plan.records
    pace = f"{plan.speed:g} times as fast as the field" if plan.speed else "as fast as it goes"
    console.print(
        f"{plan.stations:,} stations, {records:,} records ({plan.channels} every {plan.interval_s} s, batches of "
        f"{plan.batch_records}), {pace}, against {report.against}; load average {report.load_average:.1f}",
        highlight=False,
    )
    messages_per_s = report.committed_per_s / plan.batch_records
    rows = [
        ("new stations", f"{report.warm_up_s:.1f} s until every station was known; not in the figures below"),
        ("offered", f"{report.offered_per_s:,.0f} records/s"),
        ("committed", f"{report.committed_per_s:,.0f} records/s, {messages_per_s:,.0f} messages/s"),
        ("lag p50, p95, most", f"{report.lag_p50_s:.2f}, {report.lag_p95_s:.2f}, {report.lag_max_s:.2f} s"),
        ("batches sent again", f"{report.sent_again:,}"),
        ("that carries", f"{report.stations_carried:,.0f} such stations"),
        ("publisher", f"{report.publisher_cpu_s / report.took_s:.2f} cores"),
    ]
    for name, size in report.disk_bytes.items():
        rows.append((f"disk: {name}", f"{size:,} bytes, {size / records:.1f} a record"))
    table = Table("", "", show_header=False, box=None)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    _show_programs(report, console)
    for fault in report.faults[:20]:
        console.print(f"[red]{fault}[/red]", highlight=False)
    if not report.faults:
        console.print("every record is stored once", highlight=False)


def _show_programs(report: Report, console: Console) -> None:
    if not report.programs:
        return
    table = Table("program", "cores", "CPU s per million records", "memory MiB", "bytes written a record")
    records = report.plan.records - report.warm_up_records
    million, measured_s = records / 1e6, report.took_s - report.warm_up_s
    for name, one in report.programs.items():
        cores, each = one.cpu_s / measured_s, one.written_bytes / records
        table.add_row(name, f"{cores:.2f}", f"{one.cpu_s / million:.2f}", f"{one.memory_mib:.0f}", f"{each:.0f}")
    console.print(table)
