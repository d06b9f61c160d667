"""`tram-gateway install` and `tram-gateway doctor`: the gateway and the machine it lives on."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import tempfile
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_gateway import installation
from edge_gateway.configuration import GatewayConfiguration, LineConfiguration, load_configuration
from edge_gateway.doctor.examination import examine
from edge_gateway.doctor.findings import Finding, Language, Verdict, check, found, language_of, verdict, words, worst
from edge_gateway.doctor.findings import as_json as finding_as_json
from edge_gateway.doctor.ports import loop_back
from edge_gateway.errors import InstallationRefused
from edge_gateway.installation import Installation, Step, SystemFile
from station_config.clock import clock_from_environment
from station_config.errors import ConfigurationError

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
DEFAULT_CONFIG = Path("/etc/tram/gateway.toml")
DEFAULT_STATE_DIR = Path("/var/lib/tram")
USUAL_PORT = "/dev/ttyUSB0"
BADGES = {
    Language.en: {Verdict.ok: "ok", Verdict.warning: "warning", Verdict.failure: "FAILURE"},
    Language.vi: {Verdict.ok: "tốt", Verdict.warning: "cảnh báo", Verdict.failure: "HỎNG"},
}
COLOURS = {Verdict.ok: "green", Verdict.warning: "yellow", Verdict.failure: "red"}


@dataclass
class Report:
    """What an installation did, for people and for scripts."""

    files: list[tuple[str, str]] = field(default_factory=list)
    steps: list[tuple[Step, str | None]] = field(default_factory=list)
    next: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "files": [{"path": path, "state": state} for path, state in self.files],
            "steps": [{"command": " ".join(step.argv), "what": step.what, "fault": why} for step, why in self.steps],
            "next": self.next,
        }

    def show(self) -> None:
        """Print it."""
        for path, state in self.files:
            typer.echo(f"{state:10}{path}")
        for step, why in self.steps:
            typer.echo(f"{'done' if why is None else 'FAILED':10}{step.what}: {' '.join(step.argv)}")
            if why is not None:
                typer.echo(f"{'':10}{why}")
        for number, text in enumerate(self.next, 1):
            typer.echo(f"next {number}    {text}")


def install(
    config: Annotated[
        Path, typer.Option("--config", metavar="FILE", help="The service reads this; made where it is not there.")
    ] = DEFAULT_CONFIG,
    prefix: Annotated[
        Path, typer.Option("--prefix", metavar="FOLDER", help="Install into the system mounted here, an SD card's.")
    ] = Path("/"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be written, and write nothing.")] = False,
    uninstall: Annotated[
        bool, typer.Option("--uninstall", help="Take the service back; configuration, records and user stay.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for scripts")] = False,
) -> None:
    """Make the gateway a service of systemd: unit, user, rights, watchdog. Again after each upgrade or change of ports.

    Example: sudo tram-gateway install --config /etc/tram/gateway.toml
    """
    if not config.is_absolute():
        typer.echo(f"{config}: the service needs the whole path, as /etc/tram/gateway.toml", err=True)
        raise typer.Exit(EXIT_CONFIGURATION)
    report = Report()
    try:
        wanted, is_new = _plan(config, prefix.resolve(), read=not uninstall)
        if dry_run:
            _show_plan(wanted, as_json)
            return
        if uninstall:
            _take_back(wanted, prefix.resolve(), report)
        else:
            _install(wanted, prefix.resolve(), report, config, is_new)
    except ConfigurationError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_CONFIGURATION) from None
    except InstallationRefused as error:
        report.show()
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_FAILED) from None
    if as_json:
        typer.echo(json.dumps(report.as_json(), ensure_ascii=False))
    else:
        report.show()
    if any(why is not None for _step, why in report.steps):
        raise typer.Exit(EXIT_FAILED)


def doctor(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="gateway.toml")] = DEFAULT_CONFIG,
    lang: Annotated[Language | None, typer.Option("--lang", help="of the report; default: LANG")] = None,
    loop_back_line: Annotated[
        str | None,
        typer.Option(
            "--loopback",
            metavar="LINE",
            help="Only test this line's port; its TX and RX are joined.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for scripts")] = False,
) -> None:
    """Find what keeps the gateway from its work: clock, disk, ports, stations, certificates, broker, outbox.

    Changes nothing, and leaves the ports of a running gateway alone. Exit code 1 when something fails.

    Example: sudo -u tram tram-gateway doctor --config /etc/tram/gateway.toml --lang vi
    """
    language = lang or language_of(os.environ)
    try:
        configuration, clock = load_configuration(config), clock_from_environment(os.environ)
    except (ConfigurationError, ValueError) as error:
        _tell([found("configuration-wrong", config, why=str(error))], language, as_json)
        raise typer.Exit(EXIT_CONFIGURATION) from None
    if loop_back_line is None:
        findings = _tell(examine(configuration, clock), language, as_json)
    else:
        findings = _tell([loop_back(_line(configuration, loop_back_line))], language, as_json)
    if worst(findings) is Verdict.failure:
        raise typer.Exit(EXIT_FAILED)


def _line(configuration: GatewayConfiguration, name: str) -> LineConfiguration:
    for line in configuration.lines:
        if line.name == name and not line.endpoint.host:
            return line
    serial_lines = [line.name for line in configuration.lines if not line.endpoint.host]
    typer.echo(f"no line {name!r} with a serial port; there are: {', '.join(serial_lines) or 'none'}", err=True)
    raise typer.Exit(EXIT_CONFIGURATION)


def _tell(findings: Iterable[Finding], language: Language, as_json: bool) -> list[Finding]:
    """Print each finding as it comes, or all at the end as JSON; return them."""
    told = []
    for finding in findings:
        told.append(finding)
        if not as_json:
            _show(finding, language)
    if as_json:
        report = {"verdict": worst(told), "findings": [finding_as_json(finding, language) for finding in told]}
        typer.echo(json.dumps(report, ensure_ascii=False))
    return told


def _show(finding: Finding, language: Language) -> None:
    text, advice = words(finding, language)
    badge = typer.style(BADGES[language][verdict(finding)].ljust(9), fg=COLOURS[verdict(finding)], bold=True)
    typer.echo(f"{badge}{check(finding, language):13} {text}")
    if advice:
        typer.echo(textwrap.fill(advice, 100, initial_indent=" " * 23, subsequent_indent=" " * 23))


def _plan(config: Path, prefix: Path, *, read: bool) -> tuple[Installation, bool]:
    """Return the installation, with a configuration where there is none yet, and whether there was none.

    To take an installation back its configuration need not be read: it may be what is wrong.
    """
    there = installation.below(prefix, config)
    program = installation.running_program(sys.executable, sys.prefix, sys.base_prefix)
    if read and there.exists():
        return installation.plan(_seen_from(prefix, load_configuration(there)), config, program), False
    text = installation.configuration_template(_gateway_id(socket.gethostname()), DEFAULT_STATE_DIR, _first_port())
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / config.name
        draft.write_text(text, encoding="utf-8")
        made = installation.plan(load_configuration(draft), config, program)
    return Installation((SystemFile(config, text, ours=False), *made.files), made.state_dir), True


def _seen_from(prefix: Path, configuration: GatewayConfiguration) -> GatewayConfiguration:
    """Return the configuration with a relative state_dir as the system at the prefix will see it."""
    if prefix != Path("/") and configuration.state_dir.is_relative_to(prefix):
        seen = Path("/") / configuration.state_dir.relative_to(prefix)
        return configuration.model_copy(update={"state_dir": seen})
    return configuration


def _install(wanted: Installation, prefix: Path, report: Report, config: Path, is_new: bool) -> None:
    for file in wanted.files:
        report.files.append((str(file.path), "written" if installation.write(file, prefix) else "unchanged"))
    is_running = _systemd_runs(prefix)
    for step in installation.steps(prefix, is_running, start=not is_new):
        report.steps.append((step, installation.carry_out(step)))
    doctor = f"tram-gateway doctor --config {config}"
    if is_new:
        report.next += [f"edit {config}: id, broker, lines and stations", "sudo tram-gateway install, for its ports"]
    report.next += [f"{doctor}: what is still missing, in plain words"]
    if is_new or not is_running:
        report.next += ["sudo systemctl start tram-gateway"]
    report.next += ["log: journalctl -u tram-gateway -f; to undo: sudo tram-gateway install --uninstall"]


def _take_back(wanted: Installation, prefix: Path, report: Report) -> None:
    unit = installation.below(prefix, Path("/etc/systemd/system") / installation.UNIT)
    is_running = _systemd_runs(prefix)
    if unit.exists():
        for step in installation.steps_back(prefix, is_running):
            report.steps.append((step, installation.carry_out(step)))
    for file in wanted.files:
        if file.ours:
            report.files.append((str(file.path), "removed" if installation.remove(file, prefix) else "not there"))
    if is_running:
        step = Step(("systemctl", "daemon-reload"), "systemd forgets the unit")
        report.steps.append((step, installation.carry_out(step)))
    report.next.append("kept: the configuration, the records in its state_dir, and the user tram")


def _show_plan(wanted: Installation, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"files": [{"path": str(file.path), "content": file.content} for file in wanted.files]}))
        return
    for file in wanted.files:
        typer.echo(f"=== {file.path}\n{file.content}")


def _systemd_runs(prefix: Path) -> bool:
    return prefix == Path("/") and Path("/run/systemd/system").is_dir()


def _gateway_id(host: str) -> str:
    name = re.sub(r"[^a-z0-9-]+", "-", host.lower()).strip("-")
    return (name if name.startswith("gw-") else f"gw-{name}")[:32]


def _first_port() -> str:
    named = sorted(Path("/dev/serial/by-id").glob("*"))
    return str(named[0]) if named else USUAL_PORT
