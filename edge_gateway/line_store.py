"""What a line's stations have sent: handed to the outbox without waiting, acknowledged when it is on disk.

Two things are known of each series: what has come (it need not be asked again), and what of that is stored (it may be
acknowledged). While the outbox gathers slices for one transaction, the line goes on asking.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial

from edge_gateway.contacts import Contact
from edge_gateway.outbox import Outbox
from edge_gateway.outbox_store import OutboxStore
from edge_gateway.slices import Loss, Progress, Range, Series, Slice


class LineStore:
    """The progress of a line's series. For one thread."""

    def __init__(self, outbox: Outbox, gather_s: float) -> None:
        self._outbox = outbox
        self._gather_s = gather_s
        self._stored: dict[Series, Progress] = {}
        self._come: dict[Series, Progress] = {}
        self._waiting: deque[tuple[Series, Future[Progress]]] = deque()

    def load(self) -> None:
        """Read what is stored; what was on its way is forgotten."""
        reader = self._outbox.reader()
        self._stored = reader.progress()
        reader.close()
        self._come = dict(self._stored)
        self._waiting.clear()

    def progress(self, series: Series) -> Progress | None:
        """Return what has come of a series and need not be asked again; None when it is new."""
        return self._come.get(series)

    def stored_through(self, series: Series) -> int | None:
        """Return up to where the records of a series are on disk and may be acknowledged; None when it is new."""
        stored = self._stored.get(series)
        return None if stored is None else stored.through

    def store(self, piece: Slice, begins_at: int, now: float) -> Progress:
        """Hand over records of a journal whose oldest is `begins_at`; return what has come of it."""
        change = partial(OutboxStore.append_anywhere, piece=piece, begins_at=begins_at, now=now)
        self._waiting.append((piece.series, self._outbox.submit(change, self._gather_s)))
        come = self._come.get(piece.series, Progress(begins_at - 1)).having((piece.first_seq, piece.last_seq))
        self._come[piece.series] = come
        return come

    def lose(self, series: Series, losses: Sequence[Loss], begins_at: int, now: float) -> Progress:
        """Declare losses of a journal whose oldest is `begins_at`, at once. Raises OutboxError."""
        after = self._outbox.write(_losing(series, losses, begins_at, now))
        self.settle()  # what was handed over before is stored by now
        self._stored[series] = self._come[series] = after
        return after

    def ask_again(self, seen: Contact, in_cloud: Mapping[int, Sequence[Range]], now: float) -> dict[int, list[Range]]:
        """Take what the cloud has not for not stored, so that it is fetched again; return it. Raises OutboxError."""
        change = partial(OutboxStore.ask_again, station=seen.station, in_cloud=in_cloud, seen=seen, now=now)
        asked = self._outbox.write(change)
        self.load()  # what was handed over before is stored by now
        return asked

    def settle(self) -> None:
        """Take in what was stored meanwhile. Raises OutboxError: then all that is not stored has to be asked again."""
        while self._waiting and self._waiting[0][1].done():
            series, future = self._waiting.popleft()
            try:
                self._stored[series] = future.result()
            except BaseException:  # whatever the other thread met: what is not stored is asked again; it is raised on
                self._forget_what_is_not_stored()
                raise

    def _forget_what_is_not_stored(self) -> None:
        # What was handed over after the failure may have been stored since; asked again, it is stored once.
        self._waiting.clear()
        self._come = dict(self._stored)


def _losing(series: Series, losses: Sequence[Loss], begins_at: int, now: float) -> Callable[[OutboxStore], Progress]:
    def change(store: OutboxStore) -> Progress:
        store.begin(series, begins_at, now)
        for loss in losses:
            store.declare_lost(loss, now)
        return store.progress(series)

    return change
