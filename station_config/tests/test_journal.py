"""A journal read out of a board: everything good, in order, and nothing torn."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.record import NOT_EVALUATED, SIZE, Record, decode, encode, split_batch
from station_config.journal import BATCH_RECORDS, Journal, assemble, segment_files, write_batches


def _segment(first: int, number: int) -> tuple[int, bytes]:
    return first, b"".join(encode(Record(first + i, 1_700_000_000, i, 1, 34, NOT_EVALUATED)) for i in range(number))


def _seqs(records: bytes) -> list[int]:
    return [decode(records, at).seq for at in range(0, len(records), SIZE)]


def test_only_segments_are_taken_from_the_folder() -> None:
    sizes = {"id": 8, "state": 34, "0000001f": 36, "00000001": 540, "cut.new": 90, "ABCDEF00": 18}
    assert segment_files(sizes) == [(1, 540), (31, 36)]


def test_segments_end_to_end() -> None:
    journal = assemble("xuan-hoa", 7, [_segment(31, 2), _segment(1, 30)])
    assert (_seqs(journal.records), journal.first_seq, journal.last_seq) == (list(range(1, 33)), 1, 32)


@pytest.mark.parametrize(
    ("case", "segments", "seqs", "damaged"),
    [
        ("nothing recorded yet", [(1, b"")], [], 0),
        ("a torn last record", [(1, _segment(1, 3)[1][:-5])], [1, 2], 0),
        ("a damaged record between", [(1, _segment(1, 1)[1] + bytes(SIZE) + _segment(3, 1)[1])], [1, 3], 1),
        ("a cut-off end whose numbers were given up", [_segment(1, 5), _segment(4, 2)], [1, 2, 3, 4, 5], 0),
        ("records of another place", [(1, _segment(8, 2)[1])], [], 2),
    ],
)
def test_what_a_power_cut_left_is_understood(
    case: str, segments: list[tuple[int, bytes]], seqs: list[int], damaged: int
) -> None:
    journal = assemble("xuan-hoa", 7, segments)
    assert (_seqs(journal.records), journal.damaged) == (seqs, damaged), case


@given(st.binary(max_size=200), st.integers(1, 2**31))
def test_any_bytes_are_read_without_a_fault(data: bytes, first: int) -> None:
    journal = assemble(None, 7, [(first, data)])
    assert journal.number + journal.damaged == len(data) // SIZE


def test_a_read_out_is_a_batch_as_it_travels(tmp_path: Path) -> None:
    written = write_batches(assemble("xuan-hoa", 0xFD8FEC8A, [_segment(5, 20)]), tmp_path / "out.trb")
    journal, records = split_batch((tmp_path / "out.trb").read_bytes())
    assert (written.as_json(), journal, _seqs(records)) == (
        {
            "station": "xuan-hoa",
            "journal": "fd8fec8a",
            "first_seq": 5,
            "last_seq": 24,
            "records": 20,
            "damaged": 0,
            "restarted": None,
            "files": (str(tmp_path / "out.trb"),),
        },
        0xFD8FEC8A,
        list(range(5, 25)),
    )


def test_more_than_one_batch_holds_goes_into_more_files(tmp_path: Path) -> None:
    one = _segment(1, 1)[1]
    journal = Journal("xuan-hoa", 7, one * (BATCH_RECORDS + 1), 1, BATCH_RECORDS + 1, 0)
    written = write_batches(journal, tmp_path / "out.trb")
    sizes = [len(split_batch(Path(file).read_bytes())[1]) // SIZE for file in written.files]
    assert (sizes, [Path(file).name for file in written.files]) == ([BATCH_RECORDS, 1], ["out.trb", "out-2.trb"])
