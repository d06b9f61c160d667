"""What people and their telephones say: SMS, modems, numbers, durations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from unittest.mock import patch

from alerts.subscriptions import mask_phone, normalise_phone
from alerts.texts import septets, to_gsm7
from cloud_ingest.commanding import ordering
from edge_gateway import at_answers, at_port, gsm_modem
from edge_gateway.errors import ModemError, TextTooLong
from edge_gateway.gsm_modem import GsmModem, ModemSettings
from edge_gateway.sms_pdu import is_gsm7, submits
from hil_tests.fuzz.target import Target
from simulators.sms_submit import PduUnreadable, Telephone, read_submit


def _text(data: bytes) -> None:
    """Send a text; a phone shows it as it was."""
    text = data.decode("utf-8", "replace")
    phone = Telephone()
    for pdu in submits("+84912345678", text, reference=len(data)):
        read = read_submit(pdu.hex)
        assert read.length == pdu.length
        phone.receive(read)
    assert [one["text"] for one in phone.texts] == [text]
    folded = to_gsm7(text)
    assert septets(folded) <= 2 * len(folded)
    assert not is_gsm7(text) or len(phone.texts) == 1


def _pdu(data: bytes) -> None:
    read_submit(data.decode("ascii", "replace"))
    read_submit(data.hex())


def _number(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    with suppress(ordering.OrderRefused):
        assert ordering.parse_duration(text) > 0
    phone = normalise_phone(text)
    assert normalise_phone(phone) == phone
    assert phone not in mask_phone(phone)
    submits(phone, "x")


class _Port:
    """A modem's port that says what the fuzzer wants, in pieces, and then nothing more."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self.in_waiting = 0
        self.timeout = 0.0

    def write(self, _data: bytes) -> None:
        pass

    def flush(self) -> None:
        pass

    def read(self, _size: int) -> bytes:
        if not self._pieces:
            raise OSError("gone")
        return self._pieces.pop(0)

    def close(self) -> None:
        pass


class _Serial:
    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def Serial(self, *_: Any, **__: Any) -> _Port:  # noqa: N802  pyserial's own name
        return _Port(self._pieces)


GREETING = [b"OK\r\n"] * 3 + [b"\r\nOK\r\n", b"+CPIN: READY\r\n\r\nOK\r\n", b"OK\r\n"]


def _modem(data: bytes) -> None:
    """Have a modem say these lines, from the start or once it is ready; nothing is believed sent without a number."""
    said = data[1:].split(b"\xff")
    pieces = [*(GREETING if data[:1] != b"\0" else []), *said]
    with patch.object(at_port, "serial", _Serial(pieces)), patch.object(gsm_modem, "SETTLING_S", 0.0):
        sent = GsmModem(ModemSettings("/dev/modem")).send("+84912345678", "Man 2,5 g/l", reference=1)
    assert len(sent) == 1
    assert b"+CMGS:" in data


def _line(data: bytes) -> None:
    line = data.decode("ascii", "replace")
    refusal = at_answers.refusal(line)
    assert at_answers.is_final(line) == (line == "OK" or refusal is not None)
    at_answers.is_registered(at_answers.registration(line))
    dbm = at_answers.signal_dbm(line)
    assert dbm is None or -113 <= dbm <= -51
    at_answers.reference(line)


def _modem_seeds() -> Iterator[bytes]:
    ready = b"+CREG: 0,1\r\nOK\r\n\xff+CSQ: 20,99\r\nOK\r\n"
    yield b"\1" + ready + b"\xff+CSQ: 20,99\r\nOK\r\n\xff> \xff+CMGS: 17\r\n\r\nOK\r\n"
    yield b"\1" + ready + b"\xff+CSQ: 20,99\r\nOK\r\n\xff> \xff+CMS ERROR: 38\r\n"
    yield b"\0OK\r\n\xffERROR\r\n\xff+CPIN: SIM PUK\r\nOK\r\n"


def targets() -> list[Target]:
    """Return the targets of this module."""
    texts = [text.encode() for text in ("Mặn 2,5 g/l", "{[]}€^~|\\", "x" * 161, "ặ" * 71, "😀" * 40, "@\r\n\x1b")]
    lines = [b"+CMS ERROR: 38", b"+CME ERROR: SIM busy", b"+CREG: 0,5", b"+CSQ: 31,99", b"+CMGS: 255", b"OK", b"ERROR"]
    numbers = [b"0912 345 678", b"+84912345678", b"0084912345678", b"90s", b"7d", b"+1 (555) 010-9999"]
    return [
        Target("sms-text", _text, (TextTooLong,), lambda: texts, 1500),
        Target("sms-pdu", _pdu, (PduUnreadable,), lambda: [b"0011000B914821436587F90000AA0AE8329BFD4697D9EC37"], 400),
        Target("phone-number", _number, (ValueError,), lambda: numbers, 60),
        Target("modem", _modem, (ModemError,), _modem_seeds, 400),
        Target("modem-line", _line, (), lambda: lines, 6000),
    ]
