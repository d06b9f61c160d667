"""Whether the service works, and what will go wrong unless somebody acts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cloud_ingest import models
from cloud_ingest.worker import WorkerState
from cloud_ingest.workers import WorkersState
from cloud_ingest.workers import problems as of_workers

LAG_LIMIT_S = 30.0
REVIEW_LIMIT_S = 600.0
DISK_FEW_BYTES, DISK_FEW_SHARE = 500_000_000, 0.05


class Disk(NamedTuple):
    """The disk of state_dir, in bytes."""

    total: int
    free: int


def health(
    state: WorkerState, set_aside: int | str, disk: Disk | str, workers: WorkersState | None = None
) -> models.Health:
    """Return what /health says; a text for `set_aside` or `disk` is the reason why they are not known.

    `workers`: those that take the records in, where this process does not.
    """
    problems = [*_problems(state), *(() if workers is None else of_workers(workers))]
    problems += [one for one in (set_aside, disk) if isinstance(one, str)]
    return models.Health(
        status="failing" if problems else "ok",
        problems=problems,
        warnings=list(_warnings(state, disk)),
        broker_connected=state.broker_connected,
        ingest_lag_s=round(state.lag_s, 3),
        store_writable=state.trouble is None,
        set_aside=None if isinstance(set_aside, str) else set_aside,
        disk_free_bytes=None if isinstance(disk, str) else disk.free,
        workers=[] if workers is None else [models.Worker(**vars(one)) for one in workers.said],
    )


def _problems(state: WorkerState) -> Iterator[str]:
    if not state.broker_connected:
        yield f"no connection to the broker: {state.broker_problem or 'connecting'}"
    if state.lag_s > LAG_LIMIT_S:
        yield f"messages have been waiting for {state.lag_s:.0f} s"
    if state.trouble is not None:
        yield state.trouble


def _warnings(state: WorkerState, disk: Disk | str) -> Iterator[str]:
    if not isinstance(disk, str) and disk.free < max(DISK_FEW_BYTES, DISK_FEW_SHARE * disk.total):
        yield f"the disk of state_dir has {disk.free / 1e6:,.0f} MB left: make room, or tram-cloud archive old years"
    if state.chunks_mended:
        yield f"{state.chunks_mended} chunks of observations were damaged and made again from raw: look at the disk"
    if state.review_behind_s > REVIEW_LIMIT_S:
        behind_min = state.review_behind_s / 60
        yield f"the quality review has been behind for {behind_min:.0f} minutes: more arrives than it can do"
