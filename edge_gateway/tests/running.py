"""The real `tram-gateway run` as a process, as it runs in the field."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_gateway.outbox_reader import OutboxReader

PROGRAM = [sys.executable, "-c", "from edge_gateway.commands import app; app()"]


class RunningGateway:
    """gateway.toml in `folder`, and the process that runs on it."""

    def __init__(
        self,
        folder: Path,
        port: str,
        broker_port: int,
        stations: dict[str, int],
        outbox: Mapping[str, object] | None = None,
        keys_dir: Path | None = None,
        **settings: object,
    ) -> None:
        self.folder = folder
        self.file = folder / "gateway.toml"
        broker = {"commit_timeout_s": settings.pop("commit_timeout_s", 1.0), "retry_max_s": 0.5, "retry_min_s": 0.1}
        lines = [
            f'id = "{settings.pop("id", "gw-test")}"',
            'state_dir = "state"',
            f"poll_interval_s = {settings.pop('poll_interval_s', 0.05)}",
            "status_interval_s = 0.5",
            f'clock_source = "{settings.pop("clock_source", "host")}"',  # nothing may synchronise a test machine
            *(f"{key} = {value}" for key, value in settings.items()),
            "[outbox]",
            *(f"{key} = {value}" for key, value in {"gather_s": 0.05, **(outbox or {})}.items()),
            "[broker]",
            f"port = {broker_port}",
            *(f"{key} = {value}" for key, value in broker.items()),
            "[[line]]",
            'name = "uplink"',
            f'port = "{port}"',
            "baud = 115200",
            "timeout_s = 0.2",
            *(f'[[line.station]]\nid = "{name}"\naddress = {address}' for name, address in stations.items()),
        ]
        if keys_dir is not None:
            lines += ["[commands]", f'keys_dir = "{keys_dir}"']
        self.file.write_text("\n".join(lines))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def outbox(self) -> Path:
        return self.folder / "state" / "outbox.sqlite"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with (self.folder / "gateway.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*PROGRAM, "run", "--config", str(self.file), "--log", "json"], stderr=log, stdout=log, env=os.environ
            )

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(60)

    def terminate(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def log(self) -> str:
        return (self.folder / "gateway.log").read_text()

    def buffered(self) -> int:
        """Return how many records wait in the outbox, without the cost of a process."""
        reader = OutboxReader(self.outbox)
        number = sum(state.buffered for state in reader.series())
        reader.close()
        return number

    def status(self) -> dict[str, Any]:
        done = subprocess.run(
            [*PROGRAM, "status", "--config", str(self.file), "--json"], capture_output=True, check=True, timeout=120
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found
