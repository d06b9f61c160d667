"""Any order of storing, committing, losing and opening again, against a model of plain sets."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge_gateway.outbox import Outbox, open_outbox
from edge_gateway.outbox_store import Limits, OutboxStore
from edge_gateway.slices import Loss, Range, Series, Slice
from edge_gateway.tests.fake_station import make_record
from firmware import record

SERIES = [Series("ben-tre", 1), Series("ben-tre", 2), Series("my-tho", 1)]
ROOMY = Limits(1 << 30, 1e12)


def _declare_lost(loss: Loss, store: OutboxStore) -> None:
    store.declare_lost(loss, 0.0)


class _StandingClock:
    def now(self) -> float:
        return 1_780_000_000.0


class OutboxMachine(RuleBasedStateMachine):
    outbox: Outbox

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "outbox.sqlite"
        self.outbox = open_outbox(self.path, ROOMY, _StandingClock())
        self.held: dict[Series, set[int]] = {series: set() for series in SERIES}
        self.settled: dict[Series, set[int]] = {}

    def through(self, series: Series) -> int:
        """Everything up to it is settled; each series begins at 100."""
        seq = 99
        while seq + 1 in self.settled[series]:
            seq += 1
        return seq

    @rule(series=st.sampled_from(SERIES), at=st.integers(-5, 30), number=st.integers(1, 13))
    def store(self, series: Series, at: int, number: int) -> None:
        """A slice that overlaps what is there, joins it, or lies beyond it."""
        cursor = self.through(series) if series in self.settled else 99
        first = max(1, cursor + 1 + at)
        piece = Slice(series, first, b"".join(make_record(seq) for seq in range(first, first + number)))
        settled = self.settled.setdefault(series, set())
        new = {seq for seq in range(first, first + number) if seq >= 100} - settled
        self.held[series] |= new
        settled |= new

        after = self.outbox.write(lambda store: store.append_anywhere(piece, 100, 0.0))

        assert after.through == self.through(series)
        assert {seq for first, last in after.ahead for seq in range(first, last + 1)} == {
            seq for seq in settled if seq > after.through
        }

    @rule(
        series=st.sampled_from(SERIES),
        ranges=st.lists(st.tuples(st.integers(90, 160), st.integers(0, 20)), min_size=1, max_size=3),
    )
    def commit(self, series: Series, ranges: list[Range]) -> None:
        spans = [(first, first + length) for first, length in ranges]
        named = {seq for first, last in spans for seq in range(first, last + 1)}
        expected = len(self.held[series] & named)
        self.held[series] -= named

        assert self.outbox.write(lambda store: store.free(series, spans)) == expected

    @rule(series=st.sampled_from(SERIES), ahead=st.integers(0, 20), number=st.integers(1, 5))
    def lose(self, series: Series, ahead: int, number: int) -> None:
        if series in self.settled:
            first = self.through(series) + 1 + ahead
            # What is settled is never declared lost.
            numbers = [seq for seq in range(first, first + number) if seq not in self.settled[series]]
            for seq in numbers:
                self.outbox.write(partial(_declare_lost, Loss(series, seq, seq, "a hole")))
            self.settled[series] |= set(numbers)

    @rule()
    def open_again(self) -> None:
        self.outbox.close()
        self.outbox = open_outbox(self.path, ROOMY, _StandingClock())

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        reader = self.outbox.reader()
        found = {}
        for state in reader.series():
            sequence: list[int] = []
            while head := reader.oldest(state.series, [(0, sequence[-1])] if sequence else []):
                data = reader.following(head, [], 600).records
                sequence += [record.decode(data, at).seq for at in range(0, len(data), record.SIZE)]
            found[state.series] = (sequence, state.buffered, state.stored_through)
        reader.close()
        assert found == {
            series: (sorted(self.held[series]), len(self.held[series]), self.through(series)) for series in self.settled
        }

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.outbox.close()
            self.folder.cleanup()


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
