"""PDUs against other programs' and published ones. What a phone makes of them: hil_tests/test_sms.py."""

from __future__ import annotations

import pytest

from edge_gateway.errors import TextTooLong
from edge_gateway.sms_pdu import is_gsm7, pack_septets, submits

VIETNAMESE = "+84912345678"


def body(pdu: str) -> str:
    """The PDU without service centre, first octet, reference and validity: other programs choose those otherwise."""
    number_octets = (int(pdu[6:8], 16) + 1) // 2
    address = pdu[6 : 10 + 2 * number_octets]
    rest = pdu[10 + 2 * number_octets :]
    return f"{address} {rest[:4]} {rest[6:]}"


def test_the_published_example_of_a_submit() -> None:
    # dreamfabric.com/sms: "hellohello" to +46708251358, validity four days; ours is two hours (17 hex)
    (made,) = submits("+46708251358", "hellohello")
    assert made.hex == "0011000B916407281553F8000017" + "0AE8329BFD4697D9EC37"
    assert made.length == 23


@pytest.mark.parametrize(
    ("text", "tpdu"),
    [  # made with python-gsmmodem-new 0.13, which writes no validity
        (
            "Tram Xuan Hoa: do man 2,5 g/L luc 14:05 ngay 22/11. Khong lay nuoc vao.",
            "0001000B914819325476F80000475479B80DC2D6C36E10F21DD681C86F503BEC06C95835D0F9C504B1EB63508CA683D540EE73380F"
            "92C95EB1980BB444BFDD67103B9C07B9EBEF31C81E7EBB00",
        ),
        ("€ [50] {x} ^~\\|", "0001000B914819325476F80000189B3268C3ABC1363ED00685DFA4401BCAA6B7796D80"),
        (
            "Trạm Xuân Hòa: độ mặn 2,5 g/L. Không lấy nước vào.",
            "0001000B914819325476F8000864005400721EA1006D00200058007500E2006E0020004800F20061003A002001111ED90020006D1E"
            "B7006E00200032002C003500200067002F004C002E0020004B006800F4006E00670020006C1EA500790020006E01B01EDB0063002000"
            "7600E0006F002E",
        ),
    ],
)
def test_texts_as_another_program_writes_them(text: str, tpdu: str) -> None:
    (made,) = submits(VIETNAMESE, text)
    address, coding_and_data = tpdu[6:22], tpdu[22:]
    assert body(made.hex) == f"{address} {coding_and_data[:4]} {coding_and_data[4:]}"


def test_a_long_text_is_cut_as_another_program_cuts_it() -> None:
    first, second = submits(VIETNAMESE, "A" * 161, reference=0)
    assert (first.length, second.length) == (154, 28)  # one octet of validity more than python-gsmmodem-new
    assert first.hex[2:4] == "51"
    assert second.hex.endswith("0F05000300020282C16030180C0601")


def test_a_long_text_in_vietnamese_has_67_characters_a_part() -> None:
    made = submits(VIETNAMESE, "Đ" * 71)
    assert [pdu.hex.count("0110") for pdu in made] == [67, 4]
    assert made[1].hex.endswith("0E0500030002020110011001100110")


@pytest.mark.parametrize(("length", "parts"), [(0, 1), (160, 1), (161, 2), (306, 2), (307, 3)])
def test_how_many_messages_a_plain_text_takes(length: int, parts: int) -> None:
    assert len(submits(VIETNAMESE, "a" * length)) == parts


def test_a_text_nobody_would_read_is_refused() -> None:
    with pytest.raises(TextTooLong, match="at most 8"):
        submits(VIETNAMESE, "a" * (8 * 153 + 1))


@pytest.mark.parametrize("number", ["", "+", "09x", "+84 912", "AT+CFUN=0\r", "1" * 21])
def test_a_number_that_is_none_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match="digits"):
        submits(number, "x")


def test_the_service_centre_stands_in_front_and_is_not_counted() -> None:
    (without,) = submits(VIETNAMESE, "x")
    (made,) = submits(VIETNAMESE, "x", service_centre="+84900000023")
    assert made.hex == "07914809000020F3" + without.hex[2:]
    assert made.length == without.length


def test_septets_pack_lowest_bits_first() -> None:
    assert pack_septets(b"hellohello").hex().upper() == "E8329BFD4697D9EC37"
    assert pack_septets(b"") == b""


def test_which_texts_need_no_ucs2() -> None:
    assert is_gsm7("Dong Thap 2,5 g/L €")
    assert not is_gsm7("Đồng Tháp")
    assert not is_gsm7("\x1b")
