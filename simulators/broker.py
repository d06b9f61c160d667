"""An MQTT broker for one bench run: mosquitto where it is installed, an embedded one where it is not.

    setup = set_up_broker("auto", directory, port, gateways=("gw-mytho",))    writes files, starts nothing
    setup.argv                                     the command line to run as a process of its own, and to kill with -9
    setup.password_file("cloud")                   the file with a user's new password

Nothing is kept on disk unless asked for, so a broker that was killed comes back empty. Passwords are random, made for
each run and kept in files that only their owner can read; the broker's own file holds hashes. It listens on 127.0.0.1.
"""

from __future__ import annotations

import base64
import hashlib
import os
import pwd
import secrets
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from simulators.errors import SimulatorError
from station_config.broker_access import BENCH, CLOUD, mosquitto_acl

Kind = Literal["mosquitto", "embedded"]
#: What mosquitto queues for slow or absent subscribers, all messages together; above it, new ones are dropped.
MOSQUITTO_QUEUE_BYTES = 256 * 1024 * 1024

_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")  # often not on a user's PATH
_MOSQUITTO_ITERATIONS = 101


class BrokerMissing(SimulatorError):
    """mosquitto was asked for by name and is not installed."""


@dataclass(frozen=True)
class BrokerSetup:
    """A broker ready to be started: `argv` is its command line, `users` are its users."""

    kind: Kind
    directory: Path
    port: int
    argv: tuple[str, ...]
    users: tuple[str, ...]

    def password_file(self, user: str) -> Path:
        """Return the file whose first line is the user's password."""
        if user not in self.users:
            raise KeyError(user)
        return self.directory / f"password-{user}"

    def erase(self) -> None:
        """Take away what a broker kept on disk; passwords and configuration stay."""
        shutil.rmtree(self.directory / "data", ignore_errors=True)
        if self.kind == "mosquitto":
            (self.directory / "data").mkdir(mode=0o700)


def find_mosquitto() -> Path | None:
    """Return mosquitto's program, or None where it is not installed."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path=os.pathsep.join(_SYSTEM_FOLDERS))
    return Path(found) if found else None


def set_up_broker(
    kind: Literal["auto"] | Kind, directory: Path, port: int, *, gateways: Iterable[str], persistent: bool = False
) -> BrokerSetup:
    """Write a broker's configuration, users and new passwords into the directory; start nothing.

    "auto" takes mosquitto where it is installed. `persistent` lets mosquitto keep its messages in directory/data (the
    embedded broker has no disk). Raises BrokerMissing when mosquitto is asked for by name and absent.
    """
    mosquitto = find_mosquitto()
    if kind == "mosquitto" and mosquitto is None:
        raise BrokerMissing("mosquitto is not installed: apt install mosquitto, or take the embedded broker")
    users = (*gateways, CLOUD, BENCH)
    passwords = {user: secrets.token_urlsafe(24) for user in users}
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for user, password in passwords.items():
        _write_private(directory / f"password-{user}", f"{password}\n")
    if kind == "embedded" or mosquitto is None:
        argv = _write_embedded(directory, port, passwords)
        return BrokerSetup("embedded", directory, port, argv, users)
    setup = BrokerSetup("mosquitto", directory, port, _write_mosquitto(mosquitto, directory, port, persistent), users)
    _write_private(directory / "passwords", "".join(f"{u}:{mosquitto_hash(p)}\n" for u, p in passwords.items()))
    _write_private(directory / "acl", mosquitto_acl(users))
    setup.erase()
    return setup


def _write_mosquitto(program: Path, directory: Path, port: int, persistent: bool) -> tuple[str, ...]:
    # Without the two limits at 0, mosquitto drops acknowledged messages to a subscriber slower than the senders.
    configuration = f"""listener {port} 127.0.0.1
allow_anonymous false
password_file {directory / "passwords"}
acl_file {directory / "acl"}
user {pwd.getpwuid(os.getuid()).pw_name}
max_queued_messages 0
max_inflight_messages 0
max_queued_bytes {MOSQUITTO_QUEUE_BYTES}
set_tcp_nodelay true
sys_interval 0
persistence {"true" if persistent else "false"}
persistence_location {directory / "data"}/
log_dest stderr
log_type error
log_type warning
log_type notice
connection_messages false
"""
    path = directory / "mosquitto.conf"
    path.write_text(configuration, encoding="utf-8")
    return (str(program), "-c", str(path))


def _write_embedded(directory: Path, port: int, passwords: Mapping[str, str]) -> tuple[str, ...]:
    from simulators.embedded_broker import argon2_hash  # amqtt is slow to import, and not needed beside mosquitto

    path = directory / "passwords"
    _write_private(path, "".join(f"{user}:{argon2_hash(password)}\n" for user, password in passwords.items()))
    return (sys.executable, "-m", "simulators.broker", "--port", str(port), "--passwords", str(path))


def mosquitto_hash(password: str) -> str:
    """Return a password the way mosquitto_passwd writes it: $7$, PBKDF2 with HMAC-SHA-512.

    Made here, because that program takes passwords on its command line, where every user of the machine reads them.
    """
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _MOSQUITTO_ITERATIONS)
    return f"$7${_MOSQUITTO_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def command(
    passwords: Annotated[Path, typer.Option(help="File of user:hash lines (argon2), as set_up_broker writes it.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port on 127.0.0.1; 0 takes a free one.")] = 0,
) -> None:
    """Be an MQTT 3.1.1 broker in memory, on this machine only; for benches where mosquitto is not installed.

    Prints {"ready":true,"port":N} when it answers. Example: tram-sim broker --port 1883 --passwords broker/passwords
    """
    from simulators.embedded_broker import serve

    if not passwords.is_file():
        typer.echo(f"{passwords} is not there; set_up_broker writes it", err=True)
        raise typer.Exit(2)
    try:
        serve(port, passwords)
    except OSError as error:
        typer.echo(f"cannot listen on 127.0.0.1:{port}: {error.strerror}", err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(command)
