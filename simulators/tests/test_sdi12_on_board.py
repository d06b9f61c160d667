"""The firmware's SDI-12 on real MicroPython, against a simulated sensor at the end of a pty."""

from __future__ import annotations

import json
import os
import pty
import threading
import tty
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from firmware.record import NOT_EVALUATED
from simulators.board import VirtualBoard
from simulators.tests import test_firmware_on_board
from simulators.tests.test_firmware_on_board import Bench, Gateway, _flash_new, _settings, bench, interpreter

__all__ = ["bench", "interpreter"]  # fixtures

ANSWERS = {b"0CC!": b"000102", b"0D0!": b"0+28.50+27.075CJD"}  # the last three are its CRC


def _serve(master: int) -> None:
    """Answer as a sensor at address 0 that measures concurrently; a zero byte is a break."""
    held = b""
    while True:
        try:
            held += os.read(master, 64)
        except OSError:  # the board's end is not open yet, or gone
            threading.Event().wait(0.05)
            continue
        while b"!" in held:
            question, held = held.split(b"!", 1)
            answer = ANSWERS.get(question.lstrip(b"\x00") + b"!")
            if answer is not None:
                os.write(master, answer + b"\r\n")


@pytest.fixture
def sensor() -> Iterator[Path]:
    """The terminal of a line with one sensor."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    threading.Thread(target=_serve, args=(master,), daemon=True).start()
    yield Path(os.ttyname(slave))
    os.close(slave)


def _configuration() -> dict[str, Any]:
    configuration = test_firmware_on_board._configuration()
    fields = [{"parameter": 32, "at": 0, "decimals": 2}, {"parameter": 33, "at": 1, "decimals": 3}]
    probe = {"number": 1, "address": ord("0"), "measurements": [{"command": "CC", "fields": fields}]}
    bus = configuration["bus"] | {"baud": 1200, "bits": 7, "parity": 0}
    return configuration | {"bus": bus, "sensors": [probe]}


def test_an_sdi12_sensor_is_read_from_its_line_to_the_gateway(bench: Bench, sensor: Path, tmp_path: Path) -> None:
    _flash_new(bench, tmp_path / "board.flash", json.dumps(_configuration()).encode())
    settings = _settings(bench, tmp_path / "board.flash")
    gateway = Gateway(bench.port("uplink", "gateway"), _configuration()["address"])
    with VirtualBoard(replace(settings, uarts={**settings.uarts, 1: sensor})) as board:
        board.console.wait_for("tram station=vam-kenh")
        records = gateway.wait_for(lambda records: any(r.sensor == 1 and r.flag == NOT_EVALUATED for r in records))
    gateway.close()
    assert {(r.parameter, r.count) for r in records if r.flag == NOT_EVALUATED and r.sensor == 1} == {
        (32, 2850),
        (33, 27075),
    }
