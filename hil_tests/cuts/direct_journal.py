"""The journal of a station without a board under power cuts: the real DirectJournal, in a process of its own.

What `append` returned is promised: after any cut those records are read as they were, or the ring has overwritten them
and said so, and no number is given a second time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from edge_gateway.direct.journal import DirectJournal, Entry
from firmware.errors import JournalError
from firmware.record import NOT_EVALUATED, SIZE, decode
from hil_tests.cuts.gateway_judge import DUPLICATED, LOST, UNREADABLE, Knowledge
from hil_tests.cuts.table import Outcome
from simulators.disk.shim import environment, put_mark

FILE = "direct-xuan-hoa.sqlite"
RING = 200
STEPS = 45
EACH = 7
NOON = 1_780_000_000
WATER_TEMPERATURE = 32


def write_down(state: Path, trace: Path) -> None:
    """Run a journal's life in a process whose calls are written down."""
    program = [sys.executable, "-c", "from hil_tests.cuts.direct_journal import live; live()", str(state), str(trace)]
    subprocess.run(program, check=True, env={**os.environ, **environment(state, trace)})


def live() -> None:
    """Append, acknowledge some, fill the ring; mark what each append has promised."""
    state, trace = Path(sys.argv[1]), Path(sys.argv[2])
    put_mark(trace, {"row": "direct journal"})
    journal = DirectJournal(state / FILE, RING, os.urandom)
    journal.open()
    journal.start_boot(1)
    for step in range(STEPS):
        first = journal.append(_entries(step))
        put_mark(trace, {"appended": [first, journal.read(first, EACH).hex()], "journal": journal.id})
        if step % 3 == 0:
            journal.acknowledge(first - 10)
    journal.close()


def judge_journal(state: Path, known: Knowledge) -> Outcome:
    """Open what a cut left, and append once more."""
    journal = DirectJournal(state / FILE, RING, os.urandom)
    try:
        journal.open()
        first_new = journal.append(_entries(STEPS))
        held = {decode(raw).seq: raw for raw in _split(journal.read(journal.first_seq, RING + EACH))}
    except JournalError as error:
        return Outcome(Counter({UNREADABLE: 1}), (f"the journal cannot be used: {error}",))
    finally:
        journal.close()
    promised = {decode(raw).seq: raw for raw in known.appended}
    lost = [seq for seq in promised if seq >= journal.first_seq and seq not in held]
    other = [seq for seq, raw in promised.items() if held.get(seq, raw) != raw]
    again = first_new <= max(promised, default=0)
    anew = known.journal not in (None, journal.id)
    counts = Counter({LOST: len(lost) + len(promised) * anew, DUPLICATED: len(other) + again, UNREADABLE: 0})
    faults = (f"lost {lost[:3]}, other values {other[:3]}, numbers again {again}, begun anew {anew}",)
    return Outcome(counts, faults if counts.total() else ())


def _entries(step: int) -> list[Entry]:
    return [(NOON + 60 * step, 100 * step + at, 1, WATER_TEMPERATURE, NOT_EVALUATED) for at in range(EACH)]


def _split(records: bytes) -> list[bytes]:
    return [records[at : at + SIZE] for at in range(0, len(records), SIZE)]
