"""Relays byte by byte, as their makers document them; and what is said when one is not there."""

from __future__ import annotations

import os
import select
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_gateway.errors import RelayError
from edge_gateway.relays import make_relay
from edge_gateway.siren import phase
from edge_gateway.warning_configuration import (
    GpioRelayConfiguration,
    LcusRelayConfiguration,
    ModbusRelayConfiguration,
)


class Board:
    """The far end of a relay's port: notes frames, and answers Modbus ones with an echo, as function 5 does."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.answers = True
        self.length = 8
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        self.port = os.ttyname(self._theirs)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._ours)
        os.close(self._theirs)

    def _serve(self) -> None:
        heard = b""
        while not self._stop.is_set():
            if select.select([self._ours], [], [], 0.02)[0]:
                heard += os.read(self._ours, 256)
            while len(heard) >= self.length:
                frame, heard = heard[: self.length], heard[self.length :]
                self.frames.append(frame)
                if self.answers and self.length == 8:
                    os.write(self._ours, frame)


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board()
    yield board
    board.close()


def test_a_modbus_board_is_told_what_its_manual_shows(board: Board) -> None:
    relay = make_relay(ModbusRelayConfiguration(kind="modbus", port=board.port))
    relay.on(3.0)
    relay.off()
    assert [frame.hex() for frame in board.frames] == ["01050000ff008c3a", "010500000000cdca"]


def test_a_board_that_switches_off_by_itself_is_given_its_time(board: Board) -> None:
    relay = make_relay(ModbusRelayConfiguration(kind="modbus", port=board.port, flash=True))
    relay.on(0.7)
    relay.on(99_999.0)
    relay.close()
    assert board.frames[0].hex() == "0105020000078db0"  # the manual's: relay 0 for 700 ms
    assert board.frames[1][4:6].hex() == "7fff"


def test_a_modbus_board_that_is_silent_is_said(board: Board) -> None:
    board.answers = False
    relay = make_relay(ModbusRelayConfiguration(kind="modbus", port=board.port, address=7))
    with pytest.raises(RelayError, match="relay board 7"):
        relay.on(1.0)
    board.answers = True
    relay.on(1.0)
    relay.close()


def test_a_usb_relay_gets_its_four_bytes(board: Board) -> None:
    board.length = 4
    relay = make_relay(LcusRelayConfiguration(kind="lcus", port=board.port, channel=1))
    relay.on(1.0)
    relay.off()
    seen = threading.Event()
    for _ in range(100):
        if len(board.frames) == 2:
            break
        seen.wait(0.02)
    assert [frame.hex() for frame in board.frames] == ["a00101a2", "a00100a1"]


@pytest.mark.parametrize("kind", ["modbus", "lcus"])
def test_a_port_that_is_not_there_is_said(tmp_path: Path, kind: str) -> None:
    port = str(tmp_path / "none")
    configuration = (
        ModbusRelayConfiguration(kind="modbus", port=port)
        if kind == "modbus"
        else LcusRelayConfiguration(kind="lcus", port=port)
    )
    with pytest.raises(RelayError, match="check"):
        make_relay(configuration).on(1.0)


@pytest.mark.parametrize("chip", ["/dev/gpiochip250", "/dev/null"])
def test_a_gpio_chip_that_is_not_there_is_said(chip: str) -> None:
    relay = make_relay(GpioRelayConfiguration(kind="gpio", chip=chip, line=17))
    with pytest.raises(RelayError, match="gpioinfo"):
        relay.on(1.0)
    relay.close()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0, (0, True)), (2.9, (0, True)), (3.1, (0, False)), (5.0, (1, True)), (8.5, (1, False))],
)
def test_the_pattern_of_a_siren(seconds: float, expected: tuple[int, bool]) -> None:
    assert phase(seconds, on_s=3.0, off_s=2.0) == expected


def test_a_siren_without_pauses_is_switched_anew_each_turn() -> None:
    assert [phase(seconds, 3.0, 0.0) for seconds in (0.0, 2.9, 3.1)] == [(0, True), (0, True), (1, True)]
