"""The bytes between gateway and station."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_gateway import station_protocol as protocol
from edge_gateway.errors import NotOurStation
from edge_gateway.tests.fake_station import make_record
from firmware import record

STATUS = [0x5452, 1, 0x1234, 0xABCD, 0, 5, 1, 2, 0, 9, 0x6A00, 0, 1, 0, 77, 3, 1, *[0] * 14]


def registers(data: bytes, number: int = 13) -> list[int]:
    return list(struct.unpack(f">{number * 9}H", data.ljust(number * 18, b"\xff")))


def records(first: int, last: int) -> bytes:
    return b"".join(make_record(seq) for seq in range(first, last + 1))


def test_the_status_block_is_read_high_word_first() -> None:
    assert protocol.decode_status(STATUS) == protocol.StationStatus(
        journal=0x1234ABCD,
        first_seq=5,
        next_seq=0x10002,
        stored_through=9,
        clock_s=0x6A000000,
        clock_is_set=True,
        uptime_s=77,
        boot=3,
        reset_cause=1,
    )


@pytest.mark.parametrize("wrong", [[0x1234, 1], [0x5452, 2]])
def test_another_device_is_no_station_of_ours(wrong: list[int]) -> None:
    with pytest.raises(NotOurStation):
        protocol.decode_status([*wrong, *STATUS[2:]])


def test_a_station_id_ends_at_its_padding() -> None:
    assert protocol.decode_station_id(list(struct.unpack(">16H", b"xuan-hoa".ljust(32, b"\0")))) == "xuan-hoa"


def test_the_clock_is_sent_as_seconds_and_milliseconds() -> None:
    assert protocol.encode_clock(0x6A000001 + 0.25, 0.125) == [0x6A00, 1, 250, 125]


@given(first=st.integers(1, 0xFFFFFF00), there=st.integers(0, 13))
def test_every_record_up_to_the_padding_is_returned(first: int, there: int) -> None:
    data = b"".join(make_record(seq, 1_780_000_000, 7) for seq in range(first, first + there))

    assert protocol.decode_records(registers(data)) == protocol.Fetched(first if there else None, data, None)


@given(there=st.integers(1, 13), at=st.integers(0, 13 * 18 - 1), flip=st.integers(1, 255))
def test_a_spoiled_byte_never_gets_through(there: int, at: int, flip: int) -> None:
    data = records(1, there)
    spoiled = bytearray(data.ljust(13 * 18, b"\xff"))
    spoiled[at] ^= flip

    fetched = protocol.decode_records(list(struct.unpack(">117H", bytes(spoiled))))

    assert data.startswith(fetched.records)
    assert fetched.fault is not None or fetched.records == data


@pytest.mark.parametrize(
    ("sequence", "number", "fault"),
    [
        pytest.param([1, 2, 4], 2, "seq 4 follows 2", id="hole"),
        pytest.param([1, 2, 2], 2, "seq 2 follows 2", id="repeated"),
        pytest.param([3, 2], 1, "seq 2 follows 3", id="backward"),
    ],
)
def test_records_that_do_not_follow_are_not_used(sequence: list[int], number: int, fault: str) -> None:
    data = b"".join(make_record(seq) for seq in sequence)

    assert protocol.decode_records(registers(data)) == protocol.Fetched(
        sequence[0], data[: number * record.SIZE], fault
    )
