"""The verdict for people: the table of faults, the account, what is not explained."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from hil_tests.chaos.judge import Verdict, too_slow


def show(verdict: Verdict, console: Console) -> None:
    """Print a verdict."""
    console.print(fault_table(verdict))
    console.print(account_table(verdict))
    if too_slow(verdict):
        console.print(
            f"the machine is too slow for this speed: load {verdict.highest_load:g} for each core, it stood still for"
            f" {verdict.stood_still_s:g} s, its disk took {verdict.slowest_sync_s:g} s for a record; lower --speed",
            highlight=False,
        )
    for text in verdict.refused:
        console.print(f"not injected: {text}", highlight=False)
    restarts = ", ".join(f"{name} {number} times" for name, number in sorted(verdict.restarts.items()))
    if restarts:
        console.print(f"ended by themselves and were started again: {restarts}", highlight=False)
    for fault in verdict.faults:
        console.print(f"[red]not explained:[/red] {fault}", highlight=False)
    console.print("passed" if not verdict.faults else f"FAILED: {len(verdict.faults)} things are not explained")


def fault_table(verdict: Verdict) -> Table:
    """Return the table of kinds."""
    about = verdict.about
    title = f"seed {about['seed']}, {about['minutes']:g} min at {about['speed']:g} times the river's speed"
    table = Table("fault", "injected", "records in flight", "lost", "duplicated", title=title, title_justify="left")
    for name in table.columns[1:]:
        name.justify = "right"
    for row in verdict.rows:
        table.add_row(row.kind, *(f"{number:,}" for number in (row.injected, row.in_flight, row.lost, row.duplicated)))
    table.add_section()
    injected, in_flight = sum(row.injected for row in verdict.rows), sum(row.in_flight for row in verdict.rows)
    totals = (injected, in_flight, verdict.lost + verdict.vanished, verdict.duplicated)
    table.add_row("all", *(f"{number:,}" for number in totals))
    return table


def account_table(verdict: Verdict) -> Table:
    """Return the account of numbers, values and alerts."""
    table = Table("account", "", title_justify="left", show_header=False)
    table.columns[1].justify = "right"
    for name, number in account_rows(verdict):
        table.add_row(name, f"{number:,}")
    return table


def account_rows(verdict: Verdict) -> list[tuple[str, int]]:
    """Return the account as lines of words and numbers."""
    alerts = verdict.alerts
    return [
        ("records made", verdict.made),
        ("stored", verdict.stored),
        ("declared: overwritten unread, or given up after a power cut", verdict.declared),
        ("lost, not explained", verdict.lost),
        ("stored twice", verdict.duplicated),
        ("stored with another content", verdict.different),
        ("stored, and gone from their journal", verdict.vanished),
        *((f"values: {name}", number) for name, number in sorted(verdict.values.items())),
        ("alerts decided", alerts.events),
        ("moments at which an alert's side was beyond doubt", alerts.certain),
        ("of a later value, as the alerts stood still for a fault", alerts.told_late),
        ("decided after the last look at the ledger, their cause not judged", alerts.after_last_look),
        ("alerts missing", len(alerts.missing)),
        ("alerts doubled", len(alerts.doubled)),
        ("alerts without a cause", len(alerts.without_cause)),
        ("messages to people", alerts.expected_messages),
        ("on their phones", alerts.delivered),
        ("refused by the channel, as told", alerts.refused),
        ("too old when the channel came back", alerts.expired),
    ]


def as_markdown(verdict: Verdict) -> str:
    """Return the table of faults and the account as docs/reliability.md shows them."""
    about = verdict.about
    minutes, seed, every = about["minutes"], about["seed"], about["every_s"]
    machine = f"commit {about.get('commit')}, {about.get('cores')} cores, load {about.get('load')}"
    lines = [f"{minutes:g} minutes, seed {seed}, --every {every:g}, store {about.get('store')}; {machine}.", ""]
    lines += ["| fault | injected | records in flight | lost | duplicated |", "|---|---:|---:|---:|---:|"]
    for row in verdict.rows:
        lines.append(f"| {row.kind} | {row.injected:,} | {row.in_flight:,} | {row.lost:,} | {row.duplicated:,} |")
    injected, in_flight = sum(row.injected for row in verdict.rows), sum(row.in_flight for row in verdict.rows)
    lost = verdict.lost + verdict.vanished
    lines.append(f"| **all** | **{injected:,}** | **{in_flight:,}** | **{lost:,}** | **{verdict.duplicated:,}** |")
    lines += ["", "| account | |", "|---|---:|"]
    return "\n".join([*lines, *(f"| {name} | {number:,} |" for name, number in account_rows(verdict))])
