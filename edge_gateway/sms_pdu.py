"""One text as the PDUs a GSM modem sends: SMS-SUBMIT of 3GPP TS 23.040, alphabets of TS 23.038. Codec only.

    for submit in submits("+84912345678", "Không lấy nước vào"):
        AT+CMGS=<submit.length>  then  submit.hex

A text goes in the GSM 7-bit alphabet when every character is in it, 160 to a message; else in UCS-2, 70 to a message.
A longer one is cut into parts of 153 or 67, which the phone puts together again by the header in front of each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from edge_gateway.errors import TextTooLong

PARTS_AT_MOST = 8  # nobody reads more on a phone; the header would allow 255
MINUTES_PER_VALIDITY_STEP = 5  # up to 12 hours
LONGEST_VALIDITY_MIN = 720

# Position is code. The 27th is the escape to the second table, which no text holds.
_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_ESCAPE = 0x1B
_EXTENSION = {"\f": 0x0A, "^": 0x14, "{": 0x28, "}": 0x29, "\\": 0x2F, "[": 0x3C, "~": 0x3D, "]": 0x3E, "|": 0x40}
_EXTENSION["€"] = 0x65
_CODES: dict[str, tuple[int, ...]] = {
    **{character: (code,) for code, character in enumerate(_BASIC) if code != _ESCAPE},
    **{character: (_ESCAPE, code) for character, code in _EXTENSION.items()},
}

_SUBMIT_RELATIVE_VALIDITY = 0x11  # TP-MTI submit, TP-VPF relative
_HEADER_PRESENT = 0x40
_DCS_GSM7, _DCS_UCS2 = 0x00, 0x08
_INTERNATIONAL, _UNKNOWN = 0x91, 0x81
_CONCATENATED_8_BIT = (5, 0, 3)  # header length, element, its length; then reference, parts, this part
_HEADER_OCTETS, _HEADER_SEPTETS = 6, 7
_SEPTETS, _OCTETS = 160, 140


@dataclass(frozen=True)
class Submit:
    """One PDU: `hex` as it follows the prompt, `length` its octets without the service centre, for AT+CMGS."""

    length: int
    hex: str


def submits(
    number: str, text: str, *, reference: int = 0, validity_min: int = 120, service_centre: str | None = None
) -> list[Submit]:
    """Return the PDUs of a text to a number in E.164 (or national digits), in order.

    reference: names the parts of one text to the phone, 0 to 255. validity_min: how long the network keeps trying.
    service_centre: its number, when not the one on the SIM. Raises TextTooLong, and ValueError on a bad number.
    """
    seven_bits = is_gsm7(text)
    parts = _cut_septets(text) if seven_bits else _cut_ucs2(text)
    if len(parts) > PARTS_AT_MOST:
        raise TextTooLong(f"{len(text)} characters would be {len(parts)} messages, at most {PARTS_AT_MOST} are sent")
    centre = _address(service_centre, of_centre=True) if service_centre else b"\0"
    made = []
    for index, part in enumerate(parts, start=1):
        header = bytes((*_CONCATENATED_8_BIT, reference % 256, len(parts), index)) if len(parts) > 1 else b""
        first = _SUBMIT_RELATIVE_VALIDITY | (_HEADER_PRESENT if header else 0)
        tpdu = bytes((first, 0)) + _address(number) + bytes((0, _DCS_GSM7 if seven_bits else _DCS_UCS2))
        tpdu += bytes((_validity(validity_min),)) + (_septet_data(header, part) if seven_bits else _data(header, part))
        made.append(Submit(len(tpdu), (centre + tpdu).hex().upper()))
    return made


def is_gsm7(text: str) -> bool:
    """Return whether the 7-bit alphabet can write the text."""
    return all(character in _CODES for character in text)


def pack_septets(codes: bytes, first_bit: int = 0) -> bytes:
    """Return 7-bit codes packed into octets, lowest bits first, beginning at bit 0 to 6 of the first octet."""
    bits = 0
    for index, code in enumerate(codes):
        bits |= code << (7 * index)
    return (bits << first_bit).to_bytes((7 * len(codes) + first_bit + 7) // 8, "little")


def _septet_data(header: bytes, codes: bytes) -> bytes:
    """TP-UDL in septets, header and fill bits counted, then the header and the packed text."""
    in_header = _HEADER_SEPTETS if header else 0
    fill = 7 * in_header - 8 * len(header)
    return bytes((in_header + len(codes),)) + header + pack_septets(codes, fill)


def _data(header: bytes, octets: bytes) -> bytes:
    return bytes((len(header) + len(octets),)) + header + octets


def _cut_septets(text: str) -> list[bytes]:
    return _cut([bytes(_CODES[character]) for character in text], _SEPTETS, _SEPTETS - _HEADER_SEPTETS)


def _cut_ucs2(text: str) -> list[bytes]:
    # A character beyond the basic plane is a pair, as phones write it; it is never cut in two, nor is a lone half.
    units = [character.encode("utf-16-be", "replace") for character in text]
    return _cut(units, _OCTETS, _OCTETS - _HEADER_OCTETS)


def _cut(units: list[bytes], whole: int, part: int) -> list[bytes]:
    """Join units into one piece of at most `whole`, or into pieces of at most `part`; no unit is cut."""
    if sum(map(len, units)) <= whole:
        return [b"".join(units)]
    pieces = [b""]
    for unit in units:
        if len(pieces[-1]) + len(unit) > part:
            pieces.append(b"")
        pieces[-1] += unit
    return pieces


def _validity(minutes: int) -> int:
    bounded = min(max(minutes, MINUTES_PER_VALIDITY_STEP), LONGEST_VALIDITY_MIN)
    return bounded // MINUTES_PER_VALIDITY_STEP - 1


def _address(number: str, *, of_centre: bool = False) -> bytes:
    """Return length, type and swapped digits; a length is in digits, but of a service centre in octets."""
    if not re.fullmatch(r"\+?[0-9]{1,20}", number):
        raise ValueError("a number is digits, with + in front when it begins with the country")
    digits = number.removeprefix("+")
    kind = _INTERNATIONAL if number.startswith("+") else _UNKNOWN
    swapped = bytes(_swapped(digits))
    return bytes((1 + len(swapped) if of_centre else len(digits), kind)) + swapped


def _swapped(digits: str) -> Iterator[int]:
    padded = digits if len(digits) % 2 == 0 else digits + "F"
    for index in range(0, len(padded), 2):
        yield int(padded[index + 1] + padded[index], 16)
