"""The record and the batch: what one side reads, the other side reads too, and writes again byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_ingest import decode as cloud
from edge_gateway import outbox_salvage, station_protocol
from edge_gateway.messages import encode_batch
from edge_gateway.slices import Series, Slice
from firmware import record
from firmware.record import Record, RecordError
from hil_tests.fuzz.target import Target

GOOD = Record(7, 1_771_000_020, 12_500, 1, 34, 2)


def sealed(data: bytes) -> bytes:
    """Return the records these bytes are bodies of, each with the CRC a fuzzer would never guess."""
    bodies = [data[at : at + record.SIZE - 2] for at in range(0, len(data), record.SIZE - 2)]
    return b"".join(body + record.crc16(body).to_bytes(2, "little") for body in bodies)


def batch_of(data: bytes) -> bytes:
    """Return the payload that data is; behind 0xff, a batch of sealed records of which the first byte damages one."""
    if data[:1] != b"\xff":
        return data
    body = bytearray(sealed(data[2:]))
    if body and data[1]:
        body[data[1] % len(body)] ^= data[1]
    number = len(body) // record.SIZE
    return record.batch_header(0x1234ABCD, max(1, number)) + bytes(body)


def _record(data: bytes) -> None:
    raw = sealed(data[:16]) if len(data) < record.SIZE else data
    found = record.decode(raw)
    assert record.encode(found) == raw[: record.SIZE]


def _batch(data: bytes) -> None:
    payload = batch_of(data)
    journal, body = record.split_batch(payload)
    assert record.batch_header(journal, len(body) // record.SIZE) + body == payload
    decoded = cloud.decode([payload, b"TRB1", payload])
    good = [record.decode(body, at) for at in range(0, len(body), record.SIZE) if _is_good(body, at)]
    read = [Record(*row) for row in decoded.records[list(Record._fields)].tolist()]
    assert read == good + good, "board and cloud read different records"
    assert len(decoded.records) + len(decoded.unusable_records) == 2 * (len(body) // record.SIZE)
    cloud.as_dicts(payload)


def _is_good(body: bytes, at: int) -> bool:
    try:
        record.decode(body, at)
    except RecordError:
        return False
    return True


def _fetched(data: bytes) -> None:
    raw = batch_of(data)[record.BATCH_HEADER_SIZE :]
    raw += b"\xff" * (-len(raw) % record.SIZE)
    fetched = station_protocol.decode_records([raw[at] << 8 | raw[at + 1] for at in range(0, len(raw), 2)])
    assert raw.startswith(fetched.records)
    if fetched.number:
        piece = Slice(Series("xuan-hoa", 1), fetched.first_seq or 0, fetched.records)
        assert record.split_batch(encode_batch(piece)) == (1, fetched.records)


def _salvage(data: bytes) -> None:
    page = data if data[:1] != b"\xff" else _page(data[1:])
    for found in outbox_salvage.slices_in_page(page):
        assert record.decode(found.piece.records).seq == found.piece.first_seq


def _page(data: bytes) -> bytes:
    """Return an index leaf with one cell that holds these bytes."""
    cell = bytes((len(data) & 0x7F,)) + data
    return bytes((0x0A, 0, 0, 0, 1, 0, 10, 0, 0, 10)) + cell


_fields = st.builds(
    Record,
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 255),
)


@settings(database=None, deadline=None)
@given(st.lists(_fields, min_size=1, max_size=20), st.integers(0, 0xFFFFFFFF))
def _made(records: list[Record], journal: int) -> None:
    payload = record.batch_header(journal, len(records)) + b"".join(record.encode(one) for one in records)
    decoded = cloud.decode([payload])
    assert [Record(*row) for row in decoded.records[list(Record._fields)].tolist()] == records
    assert decoded.journals == [journal]


def _seeds() -> Iterator[bytes]:
    raw = record.encode(GOOD)
    yield raw
    yield raw[:16]
    yield record.batch_header(1, 2) + raw + raw
    yield b"\xff\x00" + raw[:16] * 3
    yield b"\xff\x15" + raw[:16] * 3
    yield b"\xff\x00" + b"".join(record.encode(GOOD._replace(seq=seq))[:16] for seq in range(5))


def targets() -> list[Target]:
    """Return the targets of this module."""
    made = cast(Any, _made).hypothesis.fuzz_one_input  # hypothesis builds the records out of the bytes
    return [
        Target("record", _record, (RecordError,), _seeds, 64),
        Target("batch", _batch, (RecordError,), _seeds, 600),
        Target("batch-made", made, (), lambda: [bytes(64), bytes(range(256))], 1024),
        Target("fetched-records", _fetched, (), _seeds, 300),
        Target("salvage-page", _salvage, (), _seeds, 512),
    ]
