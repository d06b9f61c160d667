"""The simulated modem is as strict as a network, and the phone behind it reads what the standard says."""

from __future__ import annotations

import asyncio
import random

import pytest

from simulators.errors import SimulatorError
from simulators.modem import Modem, ModemFaults
from simulators.sms_submit import PduUnreadable, Telephone, read_submit

HELLO = "0011000B916407281553F80000AA0AE8329BFD4697D9EC37"  # the published example, dreamfabric.com/sms


class Desk:
    """A modem and what it has said."""

    def __init__(self, **faults: object) -> None:
        self.said = b""
        self.modem = Modem(self._hear, random.Random(1), ModemFaults.model_validate(faults))

    def _hear(self, data: bytes) -> None:
        self.said += data

    def say(self, data: bytes) -> str:
        self.said = b""
        asyncio.run(self.modem.hear(data))
        return self.said.decode()


def test_the_published_example_is_read() -> None:
    read = read_submit(HELLO)
    assert (read.to, read.text, read.length, read.validity_min) == ("+46708251358", "hellohello", 23, 855)


@pytest.mark.parametrize(
    "hexadecimal", ["", "00", "zz", "0004", HELLO[:-2], HELLO + "00", HELLO.replace("0A E8", "")[:30]]
)
def test_what_is_no_submit_is_refused(hexadecimal: str) -> None:
    with pytest.raises(PduUnreadable):
        read_submit(hexadecimal)


def test_parts_are_shown_when_all_are_there_in_any_order_and_once() -> None:
    first = read_submit("0041000B914819325476F80000A005000300020182C1" + "6030180C0683C1" * 18 + "6030180C0683")
    second = read_submit("0041000B914819325476F800000F05000300020282C16030180C0601")
    phone = Telephone()
    phone.receive(second)
    assert phone.texts == []
    phone.receive(first)
    assert phone.texts == [{"to": "+84912345678", "text": "A" * 161}]


def test_a_message_is_handed_over_at_the_prompt() -> None:
    desk = Desk()
    assert desk.say(b"ATE0\r").endswith("\r\nOK\r\n")
    assert desk.say(b"AT+CMGS=23\r") == "\r\n> "
    assert "+CMGS: 1" in desk.say(HELLO.encode() + b"\x1a")
    assert desk.modem.telephone.texts == [{"to": "+46708251358", "text": "hellohello"}]


def test_a_length_that_does_not_fit_is_refused() -> None:
    desk = Desk()
    desk.say(b"ATE0\rAT+CMGS=22\r")
    assert "+CMS ERROR: 304" in desk.say(HELLO.encode() + b"\x1a")
    assert desk.modem.telephone.texts == []


def test_escape_at_the_prompt_sends_nothing() -> None:
    desk = Desk()
    desk.say(b"ATE0\rAT+CMGS=23\r")
    assert "OK" in desk.say(HELLO.encode() + b"\x1b")
    assert desk.modem.pdus == []


def test_three_wrong_pins_lock_the_card() -> None:
    desk = Desk(sim="pin", pin="4711")
    answers = [desk.say(b'AT+CPIN="0000"\r') for _ in range(3)]
    assert all("+CME ERROR: 16" in answer for answer in answers)
    assert "SIM PUK" in desk.say(b"AT+CPIN?\r")


def test_a_fault_nobody_knows_is_refused() -> None:
    with pytest.raises(SimulatorError, match="singal"):
        asyncio.run(Desk().modem.change({"singal": 3}))
