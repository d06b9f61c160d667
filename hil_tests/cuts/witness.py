"""What a gateway could have seen of a journal, and what must therefore be true of it ever after."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from firmware.record import EVENT_OVERWRITTEN, SIZE, Record, decode
from hil_tests.cuts.orders import Answer
from hil_tests.cuts.table import DECLARED
from station_config.journal import assemble, segment_files

LOST, DUPLICATED, UNREADABLE = "lost", "duplicated", "unreadable"


@dataclass
class State:
    """Of a journal, as it says itself."""

    journal: int
    first_seq: int
    next_seq: int
    stored_through: int


@dataclass
class Witness:
    """All that was ever told, and the faults found in it. Copy it to follow what may happen next in several ways."""

    journal: int | None = None
    seen: dict[int, bytes] = field(default_factory=dict)  # seq: the record once readable under it
    promised: set[int] = field(default_factory=set)  # seqs whose append has returned
    acknowledged: int = 0  # what the gateway said it has, highest
    made: int = 0  # how many records were ordered so far: each has a count of its own
    duplicated: set[int] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def note(self, answer: Answer) -> list[Record]:
        """Take in whatever was told; return the records in it, in the order they were told."""
        records = []
        for words in answer:
            if words[0] == "state":
                self._note_journal(int(words[1]))
            elif words[0] == "records":
                raw = bytes.fromhex(words[1])
                records += [self._note_record(raw[at : at + SIZE]) for at in range(0, len(raw), SIZE)]
        return records

    def promise(self, answer: Answer) -> None:
        """Take in the answer of an append that has returned."""
        self.promised |= {record.seq for record in self.note(answer)}

    def _note_journal(self, journal: int) -> None:
        if self.journal not in (None, journal):
            self.faults.append(f"the journal's id was {self.journal:08x} and is {journal:08x}")
        self.journal = journal

    def _note_record(self, raw: bytes) -> Record:
        record = decode(raw)
        if self.seen.setdefault(record.seq, raw) != raw:
            self.duplicated.add(record.seq)
            self.faults.append(f"seq {record.seq} stood for {decode(self.seen[record.seq])} and stands for {record}")
        return record

    def judge(self, read: Answer, files: Answer) -> Counter[str]:
        """Compare the journal's own reading, and its files read without it, with all that was told before."""
        state = next(State(*map(int, words[1:5])) for words in reversed(read) if words[0] == "state")
        held = {record.seq: record for record in self.note(read)}
        raw = b"".join(bytes.fromhex(words[1]) for words in read if words[0] == "records")
        unreadable = 0
        if list(held) != sorted(held) or (held and not state.first_seq <= min(held) <= max(held) < state.next_seq):
            unreadable = 1
            self.faults.append(f"seqs {min(held)} to {max(held)} read out of order or outside of {state}")
        if (found := _records_in(files)) != raw:
            unreadable = 1
            self.faults.append(f"the journal reads {len(raw)} bytes, its files hold {len(found)} bytes of good records")
        lost, declared = self._account(state, set(held))
        return Counter({LOST: lost, DUPLICATED: len(self.duplicated), UNREADABLE: unreadable, DECLARED: declared})

    def _account(self, state: State, held: set[int]) -> tuple[int, int]:
        """Return (records lost, records overwritten unsent and declared)."""
        lost = sorted(seq for seq in self.promised - held if seq >= state.first_seq)
        gone = {seq for seq in range(self.acknowledged + 1, state.next_seq) if seq not in held}
        declared = sum(
            record.count for record in map(decode, self.seen.values()) if record.parameter == EVENT_OVERWRITTEN
        )
        undeclared = max(0, len(gone) - declared)
        if lost:
            self.faults.append(f"stored and gone: seqs {lost[0]} to {lost[-1]}, {len(lost)} records")
        if undeclared:
            self.faults.append(f"{len(gone)} seqs are gone unsent, only {declared} declared")
        if state.stored_through > self.acknowledged:
            self.faults.append(f"the mark says {state.stored_through}, acknowledged was {self.acknowledged}")
        return len(lost) + undeclared + max(0, state.stored_through - self.acknowledged), min(len(gone), declared)


def _records_in(files: Answer) -> bytes:
    """Return the good records of the journal's files, put together as the technician's tool does."""
    contents: dict[str, bytearray] = {}
    for words in files:
        if words[0] == "file":
            name = words[1]
            contents[name] = bytearray()
        elif words[0] == "data":
            contents[name] += bytes.fromhex(words[1])
    segments = segment_files({name: len(data) for name, data in contents.items()})
    journal = assemble(None, 0, [(first, bytes(contents[f"{first:08x}"])) for first, _ in segments])
    return journal.records
