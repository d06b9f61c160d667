"""The vectorised decoder against the board's own codec, and what damage does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_ingest.decode import decode, seq_by_neighbours
from cloud_ingest.tests.field import JOURNAL, batch, damaged, minutes
from firmware.record import BATCH_HEADER_SIZE, SIZE, Record, crc16

RECORDS = st.builds(
    Record,
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.integers(-0x80000000, 0x7FFFFFFF),
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 255),
)
FIELDS = ("seq", "time", "count", "sensor", "parameter", "flag")


@given(st.lists(st.lists(RECORDS, min_size=1, max_size=8), max_size=4))
def test_every_record_a_board_encodes_is_read_in_order(batches: list[list[Record]]) -> None:
    decoded = decode([batch(records, journal=at) for at, records in enumerate(batches)])
    rows = list(zip(*(decoded.records[name].tolist() for name in FIELDS), strict=True))
    assert rows == [tuple(one) for records in batches for one in records]
    assert decoded.batch.tolist() == [at for at, records in enumerate(batches) for _ in records]
    assert decoded.journals == list(range(len(batches)))


@given(st.lists(RECORDS, min_size=1, max_size=6), st.data())
def test_one_wrong_bit_sets_one_record_aside(records: list[Record], data: st.DataObject) -> None:
    at = data.draw(st.integers(BATCH_HEADER_SIZE * 8, (BATCH_HEADER_SIZE + SIZE * len(records)) * 8 - 1))
    payload = bytearray(batch(records))
    payload[at // 8] ^= 1 << at % 8
    decoded = decode([bytes(payload)])
    hit = (at // 8 - BATCH_HEADER_SIZE) // SIZE
    assert decoded.records["seq"].tolist() == [one.seq for row, one in enumerate(records) if row != hit]
    assert [(bad.position, bad.reason) for bad in decoded.unusable_records] == [(hit, "CRC does not match")]


@given(st.binary(max_size=60))
def test_any_bytes_are_a_batch_or_set_aside_whole(payload: bytes) -> None:
    decoded = decode([payload, batch(minutes(1))])
    assert len(decoded.records) + len(decoded.unusable_records) >= 2
    assert (decoded.journals[0] is None) == bool(decoded.unusable_batches)


def test_another_record_version_is_set_aside_with_its_seq() -> None:
    payload = batch(minutes(1))
    body = bytes([2]) + payload[BATCH_HEADER_SIZE + 1 : BATCH_HEADER_SIZE + SIZE - 2]
    crc = crc16(body).to_bytes(2, "little")
    decoded = decode([payload[:BATCH_HEADER_SIZE] + body + crc + payload[BATCH_HEADER_SIZE + SIZE :]])
    assert [(bad.seq, bad.reason) for bad in decoded.unusable_records] == [
        (1, "record version 2, this program reads 1")
    ]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "0 bytes, a batch header has 10"),
        (b"TRB2" + bytes(24), "not a batch: begins with b'TRB2'"),
        (batch(minutes(1))[:-1], "batch of 2 records has 45 bytes"),
    ],
)
def test_what_is_no_batch_is_named(payload: bytes, reason: str) -> None:
    assert [bad.reason for bad in decode([payload]).unusable_batches] == [reason]


@pytest.mark.parametrize(
    ("seqs", "good", "position", "expected", "why"),
    [
        ([7, 0, 9], [1, 0, 1], 1, 8, "both neighbours agree, its own bytes do not count"),
        ([7, 8, 12], [1, 0, 1], 1, None, "the batch has a gap somewhere"),
        ([7, 8], [1, 0], 1, 8, "one neighbour and its own bytes agree"),
        ([7, 99], [1, 0], 1, None, "one neighbour and its own bytes differ"),
        ([6, 7], [0, 1], 0, 6, "the same at the beginning"),
        ([7], [0], 0, None, "alone it proves nothing"),
        ([7, 0, 0, 10], [1, 0, 0, 1], 2, 9, "two damaged in a row"),
    ],
)
def test_seq_of_a_damaged_record(
    seqs: list[int], good: list[int], position: int, expected: int | None, why: str
) -> None:
    assert seq_by_neighbours(np.array(seqs), np.array(good, bool), position) == expected, why


def test_damage_helper_damages() -> None:
    assert len(decode([damaged(batch(minutes(2), JOURNAL), 1)]).unusable_records) == 1
