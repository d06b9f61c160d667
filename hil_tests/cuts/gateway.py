"""The gateway under power cuts: each call by which the process changes its state directory is cut.

Lives (gateway_life) are written down once. A cut is a point in one of them and a choice of what of the unsynced writes
is on the disk (simulators.disk.model); the files that leaves are opened, judged and carried on with by the gateway's
own code against the cloud's own store (gateway_judge).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge_gateway.outbox_store import Limits
from edge_gateway.tests.conftest import wait_for
from edge_gateway.tests.running import PROGRAM
from hil_tests.cuts.direct_journal import judge_journal, write_down
from hil_tests.cuts.gateway_judge import DUPLICATED, LOST, UNREADABLE, Knowledge, Truth, judge
from hil_tests.cuts.gateway_life import DEADLINE_S, Life, a_life
from hil_tests.cuts.gateway_rounds import DISTURBANCE, ROUNDS, play_round
from hil_tests.cuts.old_outbox import spoil, write_first_schema
from hil_tests.cuts.table import DECLARED, Cut, Outcome
from simulators.disk.model import ALL_DROPPED, ALL_KEPT, LAST_TORN, SOME_KEPT, Disk, write_image
from simulators.disk.shim import MARK, SYNC, WRITE, Event, put_mark, read_trace

CHECKPOINT = "checkpoint"
SNAPSHOT_EVERY = 100
SMALL_BYTES = 128 * 1024
SMALL = Limits(SMALL_BYTES, 60 * 86_400)


@dataclass
class _Moment:
    """The disk and what was known after some events of a life."""

    disk: Disk
    known: Knowledge

    def copy(self) -> _Moment:
        return _Moment(self.disk.copy(), self.known.copy())

    def take(self, event: Event) -> None:
        if event.op == MARK:
            self.known.note(event.mark)
        else:
            self.disk.apply(event)


@dataclass
class Written:
    """A life that was written down."""

    state: Path
    truth: Truth | None  # None: a journal of a station without a board
    events: list[Event]
    moments: dict[int, _Moment] = field(default_factory=dict)

    @classmethod
    def of(cls, state: Path, trace: Path, begin: _Moment, truth: Truth | None) -> Written:
        written = cls(state, truth, read_trace(trace))
        moment = begin.copy()
        for number, event in enumerate(written.events):
            if number % SNAPSHOT_EVERY == 0:
                written.moments[number] = moment.copy()
            moment.take(event)
        return written

    def before(self, number: int) -> _Moment:
        """Return the moment before an event."""
        start = number - number % SNAPSHOT_EVERY
        moment = self.moments[start].copy()
        for event in self.events[start:number]:
            moment.take(event)
        return moment

    def cuts(self) -> Iterator[tuple[str, int, str]]:
        """Yield (row, number of the event, what is kept)."""
        row: str | None = None
        moment = self.moments[0].copy()
        for number, event in enumerate(self.events):
            moment.take(event)
            if event.op == MARK:
                row = event.mark.get("row", row) if "row" in event.mark else row
                continue
            found = self._row(row, event)
            if found is None:
                continue
            kinds = [ALL_KEPT]
            if not moment.disk.is_certain:
                kinds += [ALL_DROPPED, f"{SOME_KEPT} {2 * number}", f"{SOME_KEPT} {2 * number + 1}"]
            if event.op == WRITE and len(event.data) > 1:
                kinds.append(LAST_TORN)
            yield from ((found, number, kind) for kind in kinds)

    def _row(self, row: str | None, event: Event) -> str | None:
        """Writes to the file itself, while its WAL is in use, are a checkpoint, whatever else goes on."""
        is_file = event.path == str(self.state / "outbox.sqlite") and event.op in (WRITE, SYNC)
        return CHECKPOINT if is_file and row in (None, *ORDINARY) else row


LIVES = ("ordinary", "full", "damaged", "older", "direct")
ORDINARY = ("append", "commit", "append and commit", "messages", "drop of the oldest")


class GatewayCuts:
    """The table of power cuts."""

    name = "gateway"
    counts: tuple[str, ...] = (LOST, DUPLICATED, UNREADABLE, DECLARED)

    def __init__(self, program: Sequence[str] = PROGRAM, lives: Sequence[str] = LIVES) -> None:
        self._program = program
        every: dict[str, Callable[[Path], Written]] = {
            "ordinary": self._ordinary,
            "appending": self._appending,  # the beginning of an ordinary one
            "full": self._full,
            "damaged": self._damaged,
            "older": self._older,
            "direct": self._direct,
        }
        self._makers = {name: make for name, make in every.items() if name in lives}
        self._rounds = DISTURBANCE if lives == LIVES else ()
        self._lives: list[Written] = []
        self._starts: list[int] = []
        self._outcomes: dict[str, Outcome] = {}
        self._lock = threading.Lock()

    def cuts(self, folder: Path) -> list[Cut]:
        """Live every life once, undisturbed, and list its cuts."""
        found: list[Cut] = []
        start = 0
        for name, make in self._makers.items():
            life = make(folder / f"life-{name}")
            self._lives.append(life)
            self._starts.append(start)
            found += [Cut(row, start + number, kept=kept) for row, number, kept in life.cuts()]
            start += len(life.events)
        return found + [Cut(row, number) for row in self._rounds for number in range(1, ROUNDS + 1)]

    def try_cut(self, cut: Cut, folder: Path) -> Outcome:
        """Make the files of this cut, and judge what the gateway makes of them. The same files are judged once."""
        if cut.kept is None:
            return play_round(cut.row, cut.operation, folder)
        at = max(number for number, start in enumerate(self._starts) if start <= cut.operation)
        life, number = self._lives[at], cut.operation - self._starts[at]
        moment = life.before(number)
        if cut.kept == LAST_TORN:
            image = moment.disk.image(cut.kept, life.events[number])
        else:
            moment.take(life.events[number])
            image = moment.disk.image(cut.kept)
        key = _key(at, image, moment.known)
        with self._lock:
            outcome = self._outcomes.get(key)
        if outcome is None:
            (folder / "state").mkdir()
            write_image(image, life.state, folder / "state")
            if life.truth is None:
                outcome = judge_journal(folder / "state", moment.known)
            else:
                outcome = judge(folder / "state", folder / "cloud", moment.known, life.truth)
            with self._lock:
                self._outcomes[key] = outcome
        return outcome

    # The lives

    def _ordinary(self, folder: Path) -> Written:
        with a_life(folder, program=self._program) as life:
            assert life.cloud is not None
            begin = _begin_and_append(life)
            life.step("commit")
            life.until_empty()
            life.step("append and commit")
            life.cloud.stores.set()
            life.make_records(13 * 6)
            life.cloud.stores.clear()
            life.step("messages")
            _overwrite_unread(life)
            life.until_empty()
            life.step("contact note and stop")
            life.stop()
            life.step("second start")
            life.start()
            life.make_records(13 * 2)
            life.step(None)  # of what fills the WAL only the checkpoint is cut
            _until_checkpoints(life)
            life.close()
            return Written.of(life.state, life.trace, begin, Truth(life.station.next_seq - 1))

    def _appending(self, folder: Path) -> Written:
        with a_life(folder, program=self._program) as life:
            begin = _begin_and_append(life)
            life.close()
            return Written.of(life.state, life.trace, begin, Truth(life.station.next_seq - 1))

    def _full(self, folder: Path) -> Written:
        with a_life(folder, with_cloud=False, program=self._program, max_bytes=SMALL_BYTES) as life:
            begin = _Moment(Disk.of(life.state), Knowledge())
            life.step(None)
            life.start()
            while "declared lost" not in life.gateway.log():
                life.make_records(13 * 20, 130)
            life.step("drop of the oldest")
            life.make_records(13 * 10)
            life.close()
            return Written.of(life.state, life.trace, begin, Truth(life.station.next_seq - 1, limits=SMALL))

    def _damaged(self, folder: Path) -> Written:
        with a_life(folder, program=self._program) as life:
            made = 13 * 40
            life.station.add(made)
            life.station.stored_through = made
            spoil(write_first_schema(life.state / "outbox.sqlite", made))
            begin = _Moment(Disk.of(life.state), Knowledge(acknowledged=made))
            life.step("set aside")
            life.start()
            life.make_records(13)
            life.until_empty()
            life.close()
            truth = Truth(life.station.next_seq - 1, station_keeps_all=True, file_was_damaged=True)
            return Written.of(life.state, life.trace, begin, truth)

    def _older(self, folder: Path) -> Written:
        with a_life(folder, program=self._program) as life:
            made = 13 * 20
            life.station.add(made)
            life.station.stored_through = made
            write_first_schema(life.state / "outbox.sqlite", made)
            begin = _Moment(Disk.of(life.state), Knowledge(acknowledged=made))
            life.step("schema upgrade")
            life.start()
            _runs(life)
            life.make_records(13)
            life.close()
            return Written.of(life.state, life.trace, begin, Truth(life.station.next_seq - 1))

    def _direct(self, folder: Path) -> Written:
        state, trace = folder / "state", folder / "trace"
        state.mkdir(parents=True)
        begin = _Moment(Disk.of(state), Knowledge())
        write_down(state, trace)
        return Written.of(state, trace, begin, None)


def _begin_and_append(life: Life) -> _Moment:
    begin = _Moment(Disk.of(life.state), Knowledge())
    life.step("first start")
    life.start()
    _runs(life)
    life.step("append")
    life.make_records(13 * 12)
    return begin


def _runs(life: Life) -> None:
    wait_for(lambda: "the gateway runs" in life.gateway.log(), "a running gateway", DEADLINE_S)


def _overwrite_unread(life: Life) -> None:
    """The station overwrites records nobody has read."""
    life.line.cut = True
    life.station.add(60)
    overwritten = life.station.next_seq - 20
    put_mark(life.trace, {"overwritten": overwritten})
    life.station.overwrite_before(overwritten + 1)
    life.line.cut = False
    last = life.station.next_seq - 1
    wait_for(lambda: life.station.stored_through == last, "the rest stored", DEADLINE_S)


def _until_checkpoints(life: Life) -> None:
    file = life.state / "outbox.sqlite"
    before, begun = file.stat().st_mtime_ns, life.station.next_seq
    while file.stat().st_mtime_ns == before:
        life.make_records(13 * 20, 13 * 20)  # the line is never idle
        assert life.station.next_seq < begun + 100_000, "no checkpoint came"
    life.make_records(13)


def _key(life: int, image: dict[str, bytes], known: Knowledge) -> str:
    digest = hashlib.sha256(f"{life} {known.acknowledged} {len(known.took)} {len(known.appended)}".encode())
    for path, content in sorted(image.items()):
        digest.update(f"{path} {len(content)} ".encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()
