"""The journal keeps what it said it kept, whatever happens to the power."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from firmware.errors import JournalError
from firmware.journal import Journal
from firmware.record import EVENT_CONFIGURATION, EVENT_OVERWRITTEN, SIZE, decode
from firmware.tests.flash import Flash, PowerCut

SEGMENT = 16
RING = 6 * SEGMENT * SIZE


def make(flash, segment_records=SEGMENT, max_bytes=RING):
    random = iter(range(1, 1000))
    return Journal(
        "/journal", segment_records, max_bytes, lambda n: next(random).to_bytes(n, "little"), flash, flash.open
    )


def reopen(flash, **settings):
    journal = make(flash, **settings)
    flash.power_on()
    journal.open()
    return journal


def entries(number, first=0):
    return [(1_780_000_000 + i, first + i, 1, 34, 2) for i in range(number)]


def everything(journal):
    raw = journal.read(0, journal.next_seq)
    return [decode(raw, at) for at in range(0, len(raw), SIZE)]


def seqs(journal):
    return [record.seq for record in everything(journal)]


@pytest.fixture
def flash():
    return Flash()


def test_a_new_journal_is_empty_and_has_an_id_that_stays(flash):
    first, second = reopen(flash), reopen(flash)
    assert (first.id, first.first_seq, first.next_seq, first.stored_through) == (second.id, 1, 1, 0)


def test_the_id_file_is_eight_hex_digits_for_the_technicians_tool(flash):
    journal = reopen(flash)
    assert flash.files["/journal/id"] == b"%08x" % journal.id


def test_records_come_back_byte_for_byte_from_any_seq(flash):
    journal = reopen(flash)
    journal.append(entries(40))
    assert [decode(journal.read(17, 1)).seq, decode(journal.read(17, 20), 19 * SIZE).seq] == [17, 36]


def test_a_read_goes_on_over_the_end_of_a_segment(flash):
    journal = reopen(flash)
    journal.append(entries(40))
    assert len(journal.read(10, 13)) == 13 * SIZE


def test_there_is_nothing_to_read_behind_the_end(flash):
    journal = reopen(flash)
    journal.append(entries(3))
    assert [journal.read(4, 13), journal.read(4_000_000_000, 13)] == [b"", b""]


def test_segments_are_named_by_their_first_seq_in_hex(flash):
    journal = reopen(flash)
    journal.append(entries(40))
    names = sorted(name for name in flash.listdir("/journal") if name not in ("id", "state"))
    assert names == ["00000001", "00000011", "00000021"]


def test_several_records_are_stored_with_one_sync(flash):
    journal = reopen(flash)
    journal.append(entries(1))
    before = flash.operations
    journal.append(entries(11))
    assert flash.operations - before == 1


def test_seq_goes_on_after_a_restart(flash):
    reopen(flash).append(entries(20))
    journal = reopen(flash)
    journal.append(entries(1))
    assert seqs(journal) == list(range(1, 22))


def test_a_torn_record_at_the_end_is_cut_off_and_its_number_used(flash):
    reopen(flash).append(entries(5))
    flash.files["/journal/00000001"] += b"\x01\x06\x00"
    journal = reopen(flash)
    assert (journal.append(entries(1)), seqs(journal)) == (6, [1, 2, 3, 4, 5, 6])


def test_damaged_whole_records_are_declared_and_their_numbers_never_used_again(flash):
    reopen(flash).append(entries(10))
    raw = bytearray(flash.files["/journal/00000001"])
    raw[7 * SIZE + 3] ^= 0xFF  # seq 8, and with it 9 and 10
    flash.files["/journal/00000001"] = bytes(raw)
    journal = reopen(flash)
    journal.append(entries(2))
    kept = everything(journal)
    assert [record.seq for record in kept] == [1, 2, 3, 4, 5, 6, 7, 11, 12, 13]
    assert (kept[7].parameter, kept[7].count) == (EVENT_OVERWRITTEN, 3)


def test_the_oldest_segment_goes_when_the_ring_is_full_and_what_was_unsent_is_declared(flash):
    journal = reopen(flash)
    journal.append(entries(5 * SEGMENT))
    journal.acknowledge(10)
    journal.append(entries(SEGMENT - 1))  # and the record that declares the loss fills the segment
    lost = [record.count for record in everything(journal) if record.parameter == EVENT_OVERWRITTEN]
    assert (journal.first_seq, sum(lost)) == (SEGMENT + 1, SEGMENT - 10)


def test_sent_records_go_without_a_word(flash):
    journal = reopen(flash)
    for _ in range(40):
        journal.append(entries(SEGMENT))
        journal.acknowledge(journal.next_seq - 1)
    assert all(record.parameter != EVENT_OVERWRITTEN for record in everything(journal))


def test_the_ring_never_outgrows_its_limit(flash):
    journal = reopen(flash)
    most = 0
    for _ in range(300):
        journal.append(entries(7))
        most = max(most, sum(len(data) for name, data in flash.files.items() if name[9:] not in ("id", "state")))
    assert most <= RING


def test_a_flash_smaller_than_configured_is_not_overfilled(flash):
    flash.blocks_free = 64
    journal = reopen(flash, segment_records=256, max_bytes=1 << 20)
    for _ in range(400):
        journal.append(entries(16))
    segments = [name for name in flash.listdir("/journal") if name not in ("id", "state")]
    assert len(segments) * 2 <= 64 - 16  # 4608 bytes take two blocks each; 64 KiB stay free


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(0, 0), (7, 7), (20, 20), (21, 20), (0xFFFFFFFF, 20)],
    ids=["none", "some", "all", "+1", "max"],
)
def test_the_acknowledged_mark_never_goes_beyond_what_exists(flash, asked, expected):
    journal = reopen(flash)
    journal.append(entries(20))
    journal.acknowledge(asked)
    assert journal.stored_through == expected


def test_the_acknowledged_mark_never_goes_back(flash):
    journal = reopen(flash)
    journal.append(entries(20))
    journal.acknowledge(15)
    journal.acknowledge(3)
    assert journal.stored_through == 15


def test_losing_the_state_file_costs_nothing_but_records_sent_twice(flash):
    journal = reopen(flash)
    journal.append(entries(40))
    journal.acknowledge(40)
    flash.files.pop("/journal/state", None)
    again = reopen(flash)
    assert (again.id, seqs(again), again.next_seq) == (journal.id, list(range(1, 41)), 41)


def test_a_damaged_id_is_found_again_in_the_state_file(flash):
    journal = reopen(flash)
    journal.append(entries(3))
    journal.start_boot(5)
    flash.files["/journal/id"] = b"\xff\xfe"
    assert reopen(flash).id == journal.id


def test_another_segment_size_leaves_the_old_segments_readable(flash):
    reopen(flash).append(entries(40))
    journal = reopen(flash, segment_records=64)
    journal.append(entries(40))
    assert seqs(journal) == list(range(1, 81))


def test_a_full_flash_is_an_error_that_stores_nothing_and_the_same_records_can_come_again(flash):
    journal = reopen(flash)
    journal.append(entries(5))
    flash.full = True
    with pytest.raises(JournalError):
        journal.append(entries(3))
    flash.full = False
    journal.append(entries(3))
    assert seqs(journal) == list(range(1, 9))


def test_an_append_that_fails_half_way_says_how_much_is_stored(flash):
    journal = reopen(flash)
    journal.append(entries(SEGMENT - 3))
    full_after(flash, 1)
    with pytest.raises(JournalError) as failed:
        journal.append(entries(10))
    assert (failed.value.stored, journal.next_seq) == (3, SEGMENT + 1)


def full_after(flash, flushes):
    changes = flash.changes

    def counted(torn_change=None):
        changes(torn_change)
        flash.full = flash.operations >= last

    last = flash.operations + flushes
    flash.changes = counted


def test_a_removal_that_could_not_be_noted_is_not_begun(flash):
    journal = reopen(flash)
    journal.append(entries(5 * SEGMENT))
    flash.full = True
    with pytest.raises(JournalError):
        journal.append(entries(SEGMENT))
    flash.full = False
    flash.cut_at = flash.operations + 8  # wherever that is: the declaration stands on flash at most once
    with pytest.raises(PowerCut):
        journal.append(entries(SEGMENT))
    journal = reopen(flash)
    journal.append(entries(1))
    declared = [record.count for record in everything(journal) if record.parameter == EVENT_OVERWRITTEN]
    assert sum(declared) == journal.first_seq - 1


def test_boots_are_counted_and_a_changed_configuration_is_told_until_its_event_is_stored(flash):
    told = []
    for hash_, stored in ((7, False), (7, True), (7, False), (8, True), (8, False)):
        journal = reopen(flash)
        told.append(journal.start_boot(hash_))
        if stored:
            journal.append([(0, hash_, 0, EVENT_CONFIGURATION, 2)])
    assert told == [(1, True), (2, True), (3, False), (4, True), (5, False)]


class PowerCuts(RuleBasedStateMachine):
    """Append, acknowledge, restart and lose power at every possible operation, in any order."""

    torn = False

    def __init__(self):
        super().__init__()
        self.flash = Flash()
        self.flash.torn = self.torn
        self.promised = {}  # seq: count of records whose append returned
        self.seen = {}  # seq: bytes ever readable under it
        self.sent = 0
        self.number = 0
        self.journal = reopen(self.flash)

    def _append(self, size):
        before = self.journal.next_seq
        self.journal.append(entries(size, self.number))
        self.number += size
        for record in everything(self.journal):
            if record.seq >= before:
                self.promised[record.seq] = record.count

    @rule(size=st.integers(1, 40))
    def append(self, size):
        self._append(size)

    @rule(back=st.integers(0, 30))
    def acknowledge(self, back):
        self.sent = max(self.sent, self.journal.next_seq - 1 - back)
        self.journal.acknowledge(self.sent)

    @rule()
    def restart(self):
        self.journal = reopen(self.flash)

    @rule(size=st.integers(1, 40), operation=st.integers(1, 12))
    def power_cut_while_appending(self, size, operation):
        self.flash.power_on()
        self.flash.cut_at = operation
        try:
            self._append(size)
        except PowerCut:
            self.number += size
        self.journal = reopen(self.flash)

    @rule(operation=st.integers(1, 6))
    def power_cut_while_starting(self, operation):
        self.flash.power_on()
        self.flash.cut_at = operation
        try:
            make(self.flash).open()
        except PowerCut:
            pass
        self.journal = reopen(self.flash)

    @precondition(lambda self: self.journal.next_seq > 1)
    @rule()
    def full_flash(self):
        self.flash.full = True
        try:
            self._append(20)
        except JournalError:
            pass
        self.flash.full = False

    @invariant()
    def promised_records_are_there_until_the_ring_takes_them(self):
        held = {record.seq: record.count for record in everything(self.journal)}
        missing = [
            seq for seq, count in self.promised.items() if seq >= self.journal.first_seq and held.get(seq) != count
        ]
        assert missing == []

    @invariant()
    def no_seq_ever_means_two_records(self):
        raw = self.journal.read(0, self.journal.next_seq)
        for at in range(0, len(raw), SIZE):
            record = raw[at : at + SIZE]
            assert self.seen.setdefault(decode(record).seq, record) == record

    @invariant()
    def what_is_gone_unsent_is_declared(self):
        declared = sum(decode(raw).count for raw in self.seen.values() if decode(raw).parameter == EVENT_OVERWRITTEN)
        gone = sum(1 for seq in self.promised if self.sent < seq < self.journal.first_seq)
        assert gone <= declared < self.journal.first_seq or declared == gone == 0


class TornPowerCuts(PowerCuts):
    torn = True


PowerCuts.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TornPowerCuts.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestPowerCuts = PowerCuts.TestCase
TestTornPowerCuts = TornPowerCuts.TestCase
