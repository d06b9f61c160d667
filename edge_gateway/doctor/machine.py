"""The machine: its clock, and the disk that holds the outbox."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from edge_gateway.configuration import GatewayConfiguration
from edge_gateway.doctor.findings import Finding, found
from edge_gateway.host_clock import is_synchronised
from edge_gateway.slices import EARLIEST_BELIEVABLE_S

LOCAL_TIME = ZoneInfo("Asia/Ho_Chi_Minh")
MEBIBYTE = 1 << 20
LEAST_FREE_BYTES = 50 * MEBIBYTE
FSYNCS = 5
SLOW_FSYNC_MS = 1000


def examine_clock(configuration: GatewayConfiguration, now: float) -> Iterator[Finding]:
    """Yield whether the clock is set, can be believed, and is kept right."""
    shown = datetime.fromtimestamp(now, LOCAL_TIME).strftime("%Y-%m-%d %H:%M:%S")
    written_at = _last_written(configuration)
    if now < EARLIEST_BELIEVABLE_S:
        yield found("clock-not-set", shown)
    elif now < written_at:
        last = datetime.fromtimestamp(written_at, LOCAL_TIME).strftime("%Y-%m-%d %H:%M:%S")
        yield found("clock-behind", shown, last=last)
    elif not is_synchronised():
        yield found("clock-alone", shown)
    else:
        yield found("clock-ok", shown)


def examine_disk(configuration: GatewayConfiguration) -> Iterator[Finding]:
    """Yield whether the outbox can be written, how fast, and how much room there is."""
    folder = configuration.state_dir
    if not folder.is_dir():
        yield found("disk-no-folder", folder)
        return
    try:
        took_ms = _fsync_ms(folder)
    except PermissionError:
        yield found("disk-no-right", folder)
    except OSError as error:
        yield found("disk-not-written", folder, why=error.strerror)
    else:
        yield found("disk-slow" if took_ms > SLOW_FSYNC_MS else "disk-written", folder, took_ms=round(took_ms, 1))
    yield _room(configuration)
    card = card_of(folder)
    if card is not None:
        yield found("disk-card", card)


def card_of(folder: Path) -> str | None:
    """Return the SD card or eMMC a folder lies on, None when it lies on something else."""
    device = folder.stat().st_dev
    block = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    name = block.resolve().name if block.exists() else ""
    return name if name.startswith("mmcblk") else None


def _room(configuration: GatewayConfiguration) -> Finding:
    status = os.statvfs(configuration.state_dir)
    free = status.f_bavail * status.f_frsize
    used = sum(file.stat().st_size for file in configuration.state_dir.glob("outbox.sqlite*") if file.is_file())
    wanted = max(0, configuration.outbox.max_bytes - used) + LEAST_FREE_BYTES
    code = "disk-full" if free < LEAST_FREE_BYTES else "disk-small" if free < wanted else "disk-room"
    return found(
        code,
        configuration.state_dir,
        free_mb=round(free / 1e6),
        outbox_mb=round(configuration.outbox.max_bytes / 1e6),
    )


def _fsync_ms(folder: Path) -> float:
    """Write and sync a small file a few times; return the longest. Raises OSError."""
    took_ms = 0.0
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(FSYNCS):
            begun = time.monotonic()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            took_ms = max(took_ms, 1000 * (time.monotonic() - begun))
    return took_ms


def _last_written(configuration: GatewayConfiguration) -> float:
    """Return when the newest of what must be older than now was written: this program, and the outbox."""
    witnesses = [Path(__file__), *configuration.state_dir.glob("outbox.sqlite*")]
    return max(file.stat().st_mtime for file in witnesses if file.exists())
