"""The bad line does what it says; what clients make of it is in hil_tests and in benchmarks.late_answers."""

from __future__ import annotations

import asyncio
import os
import struct
import time
from pathlib import Path

import pytest

from firmware.record import crc16
from simulators.bad_bus import LATEST_TIMEOUTS, BadBus, Badness
from simulators.lines import terminals

TIMEOUT_S = 0.05
NOTHING = Badness(late=0.0, lost=0.0, doubled=0.0, damaged=0.0, mixed=0.0)


def question(address: int, register: int) -> bytes:
    body = struct.pack(">BBHH", address, 3, register, 2)
    return body + struct.pack("<H", crc16(body))


def answer(address: int, register: int, number: int) -> bytes:
    body = struct.pack(">BBBBBH", address, 3, 4, address, register, number)
    return body + struct.pack("<H", crc16(body))


def heard(folder: Path, badness: Badness, *questions: bytes, seconds: float = 0.4) -> list[tuple[float, bytes]]:
    """Ask one after another; return (seconds after its question, bytes) of all that came within `seconds` of each."""

    async def conversation() -> list[tuple[float, bytes]]:
        found: list[tuple[float, bytes]] = []
        with terminals(folder, ["client"]) as fds:
            bus = BadBus(fds["client"], TIMEOUT_S, 1, badness)
            bus.start()
            port = os.open(folder / "client", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            asked = time.monotonic()
            loop = asyncio.get_running_loop()
            loop.add_reader(port, lambda: found.append((time.monotonic() - asked, os.read(port, 256))))
            for each in questions:
                asked = time.monotonic()
                os.write(port, each)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asyncio.Event().wait(), seconds)
            loop.remove_reader(port)
            bus.stop()
            os.close(port)
        return found

    return asyncio.run(conversation())


def test_a_register_tells_its_own_name_and_how_often_it_was_asked(tmp_path: Path) -> None:
    found = heard(tmp_path, NOTHING, question(2, 4), question(2, 4), question(3, 6))
    assert [data for _, data in found] == [answer(2, 4, 1), answer(2, 4, 2), answer(3, 6, 1)]


def test_a_late_answer_comes_after_the_timeout(tmp_path: Path) -> None:
    ((after_s, data),) = heard(
        tmp_path, Badness(late=1.0), question(1, 0), seconds=(LATEST_TIMEOUTS + 2) * TIMEOUT_S + 0.5
    )
    assert (after_s >= TIMEOUT_S, data) == (True, answer(1, 0, 1))


def test_a_lost_answer_never_comes(tmp_path: Path) -> None:
    assert heard(tmp_path, Badness(late=0.0, lost=1.0), question(1, 0)) == []


def test_a_doubled_answer_comes_twice(tmp_path: Path) -> None:
    found = heard(tmp_path, Badness(late=0.0, lost=0.0, doubled=1.0), question(1, 0))
    assert b"".join(data for _, data in found) == 2 * answer(1, 0, 1)


def test_a_damaged_answer_is_not_the_answer_alone(tmp_path: Path) -> None:
    ((_, data),) = heard(tmp_path, Badness(late=0.0, lost=0.0, doubled=0.0, damaged=1.0), question(1, 0))
    assert data != answer(1, 0, 1)


@pytest.mark.parametrize("stranger", [b"\x01\x03\x00", question(9, 0), question(1, 1)])
def test_nobody_answers_what_is_no_question_to_them(tmp_path: Path, stranger: bytes) -> None:
    assert heard(tmp_path, NOTHING, stranger) == []
