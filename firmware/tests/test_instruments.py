"""Bytes of an answer become counts, whatever order the instrument sends them in."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.configuration import Field, Status
from firmware.instruments import decode_field, status_is_ok

ORDERS = {"ABCD": (0, 1, 2, 3), "BADC": (1, 0, 3, 2), "CDAB": (2, 3, 0, 1), "DCBA": (3, 2, 1, 0)}


def field(kind, order, at=0, scale=1.0, offset=0.0, decimals=0, invalid=()):
    return Field(34, at, kind, order, scale, offset, decimals, "mean", None, invalid)


@given(st.floats(-3999, 3999, width=32), st.sampled_from(sorted(ORDERS)))
def test_floats_of_every_byte_order(value, order):
    big_endian = struct.pack(">f", value)
    wire = b"\xee" + bytes(big_endian[i] for i in ORDERS[order])
    assert decode_field(field("f32", order, at=1, decimals=2), wire) == round(value * 100)


@given(st.integers(-0x80000000, 0x7FFFFFFF), st.sampled_from(sorted(ORDERS)))
def test_long_integers_of_every_byte_order(value, order):
    wire = bytes(struct.pack(">i", value)[i] for i in ORDERS[order])
    expected = value if -4_000_000 < value < 4_000_000 else None
    assert decode_field(field("i32", order), wire) == expected


@pytest.mark.parametrize(
    ("row", "wire", "count"),
    [
        (field("u16", "AB", scale=0.1, offset=-40.0, decimals=2), "0291", 2570),  # WN90LP: (657 - 400) / 10
        (field("u16", "AB", scale=0.1, decimals=2, invalid=(0xFFFF,)), "FFFF", None),
        (field("i16", "AB", invalid=(32767,)), "7FFF", None),
        (field("i16", "AB"), "FFFE", -2),
        (field("u16", "BA"), "0102", 0x0201),
        (field("u8", "A", at=1), "00FF", 255),
        (field("f32", "ABCD", invalid=(0xFFFFFFFF,)), "FFFFFFFF", None),
        (field("f32", "ABCD", invalid=(-9999,)), "C61C3C00", None),
        (field("f32", "DCBA", decimals=3), "00008D41", 17625),  # Y520, as captured
        (field("f32", "ABCD"), "7F800000", None),
    ],
)
def test_documented_values(row, wire, count):
    assert decode_field(row, bytes.fromhex(wire)) == count


@pytest.mark.parametrize(("wire", "ok"), [("00", True), ("FF", False), ("02", True)])
def test_a_status_is_ok_when_it_is_listed(wire, ok):
    assert status_is_ok(Status(0, "u8", "A", (0, 2), None, "read"), bytes.fromhex(wire)) is ok
