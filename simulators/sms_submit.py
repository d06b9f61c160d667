"""A phone's side of an SMS: reads an SMS-SUBMIT PDU (3GPP TS 23.040) and puts the parts of long texts together.

Written from the standard and on its own, so that a mistake in the gateway's encoder is not made twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from simulators.errors import SimulatorError

_DEFAULT = [
    *"@£$¥èéùìòÇ\nØø\rÅå",
    *"Δ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ",
    *" !\"#¤%&'()*+,-./",
    *"0123456789:;<=>?",
    *"¡ABCDEFGHIJKLMNO",
    *"PQRSTUVWXYZÄÖÑÜ§",
    *"¿abcdefghijklmno",
    *"pqrstuvwxyzäöñüà",
]
_AFTER_ESCAPE = {10: "\f", 20: "^", 40: "{", 41: "}", 47: "\\", 60: "[", 61: "~", 62: "]", 64: "|", 101: "€"}


class PduUnreadable(SimulatorError):
    """These hex digits are not an SMS-SUBMIT a network would take."""


@dataclass(frozen=True)
class Submitted:
    """One PDU read. `part` of `parts`; `reference` names the whole; `length` as AT+CMGS counts it."""

    to: str
    text: str
    length: int
    validity_min: int | None
    reference: int = 0
    parts: int = 1
    part: int = 1


@dataclass
class Telephone:
    """Shows whole texts; keeps the parts of unfinished ones by sender's reference, as phones do."""

    texts: list[dict[str, str]] = field(default_factory=list)
    _parts: dict[tuple[str, int, int], dict[int, str]] = field(default_factory=dict)

    def receive(self, pdu: Submitted) -> None:
        """Take one message."""
        key = (pdu.to, pdu.reference, pdu.parts)
        parts = self._parts.setdefault(key, {})
        parts[pdu.part] = pdu.text
        if len(parts) == pdu.parts:
            del self._parts[key]
            self.texts.append({"to": pdu.to, "text": "".join(parts[number] for number in sorted(parts))})


def read_submit(hexadecimal: str) -> Submitted:
    """Return what a PDU says. Raises PduUnreadable."""
    try:
        octets = bytes.fromhex(hexadecimal)
        return _read(octets[1 + octets[0] :])
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise PduUnreadable(f"{hexadecimal[:60]}: {error}") from None


def _read(tpdu: bytes) -> Submitted:
    first = tpdu[0]
    if first & 0b11 != 1:
        raise ValueError("not an SMS-SUBMIT")
    digits, kind = tpdu[2], tpdu[3]
    end_of_number = 4 + (digits + 1) // 2
    number = "".join(f"{octet & 15:X}{octet >> 4:X}" for octet in tpdu[4:end_of_number])[:digits]
    if not number.isdecimal():
        raise ValueError(f"number {number}")
    coding = tpdu[end_of_number + 1]
    has_validity = first & 0b11000
    at = end_of_number + 2
    validity = (tpdu[at] + 1) * 5 if has_validity == 0b10000 else None
    at += {0: 0, 0b10000: 1}.get(has_validity, 7)
    units, data = tpdu[at], tpdu[at + 1 :]
    header = data[: data[0] + 1] if first & 0x40 else b""
    text = _septet_text(data, units, len(header)) if coding == 0 else _ucs2_text(data, units, len(header), coding)
    reference, parts, part = _concatenation(header)
    return Submitted(("+" if kind == 0x91 else "") + number, text, len(tpdu), validity, reference, parts, part)


def _septet_text(data: bytes, units: int, header: int) -> str:
    if len(data) != (units * 7 + 7) // 8 or units > 160:
        raise ValueError(f"{units} septets in {len(data)} octets")
    stream = "".join(f"{octet:08b}"[::-1] for octet in data)
    first = (header * 8 + 6) // 7
    codes = [int(stream[7 * index : 7 * index + 7][::-1], 2) for index in range(first, units)]
    return "".join(_characters(codes))


def _characters(codes: list[int]) -> Iterator[str]:
    waiting = False
    for code in codes:
        if waiting:
            yield _AFTER_ESCAPE[code] if code in _AFTER_ESCAPE else _DEFAULT[code]
            waiting = False
        elif code == 27:
            waiting = True
        else:
            yield _DEFAULT[code]
    if waiting:
        raise ValueError("an escape without its character")


def _ucs2_text(data: bytes, units: int, header: int, coding: int) -> str:
    if coding != 8 or len(data) != units or units > 140:
        raise ValueError(f"coding {coding}, {units} octets announced, {len(data)} there")
    return data[header:].decode("utf-16-be")


def _concatenation(header: bytes) -> tuple[int, int, int]:
    if not header:
        return 0, 1, 1
    if header[:3] != b"\x05\x00\x03" or not 1 <= header[5] <= header[4]:
        raise ValueError(f"header {header.hex()}")
    return header[3], header[4], header[5]
