"""The gateway as a service of systemd: which files it takes, made from the configuration; written and taken back.

What is to be written is decided first, as data; `tram-gateway install --dry-run` shows it. Nothing is asked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath
from string import Template
from typing import NamedTuple

from edge_gateway.configuration import GatewayConfiguration
from edge_gateway.errors import InstallationRefused
from edge_gateway.watchdog import longest_silence_s

MARK = "Made by `tram-gateway install`"
UNIT = "tram-gateway.service"
OWN_FOLDER = Path("/etc/tram")
STATE_ROOT = PurePosixPath("/var/lib")
HOMES = ("/home", "/root", "/run/user")
FIRST_FREE_PORT = 1024
# Names of port classes in /proc/devices, and the kernel module that makes a class known before anything is plugged in.
GPIO_CLASS = "gpiochip"
KNOWN_CLASSES = ("tty", GPIO_CLASS)
USB_CLASSES = {"ttyUSB": "usbserial", "ttyACM": "cdc_acm"}


class SystemFile(NamedTuple):
    """A file of the installation."""

    path: Path
    content: str
    ours: bool = True
    """Written again each time and removed by uninstall; the configuration is neither."""


class Step(NamedTuple):
    """A command that makes the system notice what was written."""

    argv: tuple[str, ...]
    what: str


@dataclass(frozen=True)
class Installation:
    """What the service takes. All paths are those of the system it is for, not yet below a prefix."""

    files: tuple[SystemFile, ...]
    state_dir: Path


@dataclass(frozen=True)
class Program:
    """The program that the service starts: its command, and the folders it needs that may lie in somebody's home."""

    command: Path
    folders: tuple[Path, ...]


def plan(configuration: GatewayConfiguration, config: Path, program: Program) -> Installation:
    """Return the installation for this configuration, which the service reads from `config`."""
    values = {
        "program": str(program.command),
        "config": str(config),
        "config_dir": str(config.parent),
        "config_files": "\n".join(f"Z {path} ~0750 root tram" for path in _files_beside(configuration, config)),
        "state_dir": str(configuration.state_dir),
        "state": _state(configuration.state_dir),
        "watchdog_s": str(round(2 * longest_silence_s(line.timeout_s for line in configuration.lines))),
        "groups": " ".join(_groups(configuration)),
        "members": "\n".join(f"m tram {group}" for group in _groups(configuration)),
        "devices": "\n".join(f"DeviceAllow=char-{name} rw" for name in port_classes(configuration)),
        "modules": "\n".join(USB_CLASSES[name] for name in port_classes(configuration) if name in USB_CLASSES),
        "capabilities": "CAP_NET_BIND_SERVICE" if _serves_a_low_port(configuration) else "",
        "home": _home(program.folders),
    }
    wanted = {
        f"/etc/systemd/system/{UNIT}": UNIT,
        "/etc/sysusers.d/tram.conf": "sysusers.conf",
        "/etc/tmpfiles.d/tram.conf": "tmpfiles.conf",
        "/etc/systemd/journald.conf.d/tram.conf": "journald.conf",
        "/etc/modules-load.d/tram.conf": "modules-load.conf",
        "/etc/udev/rules.d/62-tram.rules": "udev.rules",
    }
    made = [SystemFile(Path(path), _filled(name, values)) for path, name in wanted.items()]
    return Installation(tuple(made), configuration.state_dir)


def configuration_template(gateway: str, state_dir: Path, port: str) -> str:
    """Return a gateway.toml with every key explained."""
    return _filled("gateway.toml", {"id": gateway, "state_dir": str(state_dir), "port": port})


def steps(prefix: Path, is_running: bool, start: bool) -> list[Step]:
    """Return the commands that follow writing; `is_running` says whether systemd runs on the system at `prefix`."""
    root = [] if prefix == Path("/") else [f"--root={prefix}"]
    always = [
        Step(("systemd-sysusers", *root, "tram.conf"), "user tram, member of dialout"),
        Step(("systemd-tmpfiles", *root, "--create", "tram.conf"), "folders and their rights"),
        Step(("systemctl", *root, "enable", UNIT), "the service starts with the machine"),
    ]
    if not is_running:
        return always
    now = [
        Step(("systemctl", "daemon-reload"), "systemd knows the unit"),
        Step(("systemctl", "restart", "systemd-modules-load"), "the kernel knows the ports"),
        Step(("systemctl", "try-reload-or-restart", "systemd-udevd"), "udev knows the rules"),
        Step(("systemctl", "try-restart", "systemd-journald"), "the log has its bound"),
    ]
    return always + now + ([Step(("systemctl", "restart", UNIT), "the gateway runs")] if start else [])


def steps_back(prefix: Path, is_running: bool) -> list[Step]:
    """Return the commands that go before the files are removed."""
    root = [] if prefix == Path("/") else [f"--root={prefix}"]
    stop = [Step(("systemctl", "stop", UNIT), "the gateway is stopped")] if is_running else []
    return [*stop, Step(("systemctl", *root, "disable", UNIT), "the service no longer starts with the machine")]


def write(file: SystemFile, prefix: Path) -> bool:
    """Write the file below `prefix` unless it is there already; say whether it changed. Raises InstallationRefused."""
    path = below(prefix, file.path)
    try:
        if path.exists() and path.read_text(encoding="utf-8") == file.content:
            return False
        if path.exists() and file.ours and MARK not in path.read_text(encoding="utf-8"):
            raise InstallationRefused(f"{path}: somebody else's file is in the way; move it, then install again")
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.new")
        draft.write_text(file.content, encoding="utf-8")
        draft.chmod(0o644 if file.ours else 0o640)
        draft.replace(path)
    except OSError as error:
        raise InstallationRefused(_why_not(path, error)) from error
    return True


def remove(file: SystemFile, prefix: Path) -> bool:
    """Remove the file below `prefix` if it is ours; say whether it was there. Raises InstallationRefused."""
    path = below(prefix, file.path)
    try:
        if not path.exists() or MARK not in path.read_text(encoding="utf-8"):
            return False
        path.unlink()
    except OSError as error:
        raise InstallationRefused(_why_not(path, error)) from error
    return True


def carry_out(step: Step) -> str | None:
    """Run the command; return why it did not succeed, None when it did."""
    program = shutil.which(step.argv[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        return f"{step.argv[0]} is not on this machine"
    done = subprocess.run([program, *step.argv[1:]], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else (done.stderr or done.stdout).strip().partition("\n")[0]


def below(prefix: Path, path: Path) -> Path:
    """Return the path as it is found below the prefix."""
    return prefix / path.relative_to("/")


def port_classes(configuration: GatewayConfiguration) -> list[str]:
    """Return the classes of the configured serial ports (and GPIO chips) as /proc/devices names them.

    A name that stays (/dev/serial/by-id) says which class only while the adapter is plugged in; until then both of USB.
    """
    classes: set[str] = set()
    for port in _texts(configuration.model_dump()):
        if port.startswith("/dev/"):
            name = os.path.basename(os.path.realpath(port)).rstrip("0123456789")  # noqa: PTH119  a name, not a file
            classes |= {name} if name.startswith(KNOWN_CLASSES) else set(USB_CLASSES)
    return sorted(classes)


def _groups(configuration: GatewayConfiguration) -> list[str]:
    """Return the groups that own the configured devices."""
    return ["dialout", "gpio"] if GPIO_CLASS in port_classes(configuration) else ["dialout"]


def running_program(executable: str, prefix: str, base_prefix: str) -> Program:
    """Return the tram-gateway beside this Python, with the environment's folder and the interpreter's."""
    interpreter = Path(os.path.realpath(executable)).parents[1]
    folders = (Path(prefix), Path(base_prefix), interpreter)
    return Program(Path(prefix) / "bin" / "tram-gateway", tuple(dict.fromkeys(folders)))


def _filled(name: str, values: Mapping[str, str]) -> str:
    text = files("edge_gateway").joinpath("system_files", name).read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _state(state_dir: Path) -> str:
    if PurePosixPath(state_dir).is_relative_to(STATE_ROOT) and PurePosixPath(state_dir) != STATE_ROOT:
        return f"StateDirectory={PurePosixPath(state_dir).relative_to(STATE_ROOT)}\nStateDirectoryMode=0750"
    return f"ReadWritePaths={state_dir}"


def _home(folders: tuple[Path, ...]) -> str:
    """Hide people's homes; a program installed in one is shown alone, wherever its owner's rights end."""
    inside = [folder for folder in folders if str(folder).startswith(HOMES)]
    if not inside:
        return "ProtectHome=yes"
    return "\n".join(["ProtectHome=tmpfs", *(f"BindReadOnlyPaths={folder}" for folder in inside)])


def _files_beside(configuration: GatewayConfiguration, config: Path) -> list[Path]:
    """Return what the gateway's group may read: our own folder whole, of another one only the files we are told of."""
    if config.parent == OWN_FOLDER:
        return [OWN_FOLDER]
    paths = [Path(text) for text in _texts(configuration.model_dump()) if text.startswith("/")]
    return [config, *(path for path in dict.fromkeys(paths) if path.is_relative_to(config.parent) and path != config)]


def _serves_a_low_port(configuration: GatewayConfiguration) -> bool:
    server = configuration.model_dump().get("modbus_server")
    return isinstance(server, dict) and 0 < int(server.get("port", 0)) < FIRST_FREE_PORT


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str | Path):
        yield str(value)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _why_not(path: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"{path}: no right to write there; run it as root: sudo tram-gateway install"
    return f"{path}: {error.strerror}"
