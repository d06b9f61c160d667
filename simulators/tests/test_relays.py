"""The relay that gives a board its power: the makers' bytes, and boards that are late, refuse or are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulators.processes import wait_for
from simulators.relay_board import RelayBoard
from simulators.relays import LcusRelay, ModbusRelay, RelayError, lcus_order, parse_relay


def test_the_bytes_of_an_lcus_board_are_those_its_maker_documents() -> None:
    assert lcus_order(1, True) == bytes.fromhex("A0 01 01 A2")
    assert lcus_order(1, False) == bytes.fromhex("A0 01 00 A1")
    assert lcus_order(8, True) == bytes.fromhex("A0 08 01 A9")


def test_an_lcus_board_switches(tmp_path: Path) -> None:
    switched: list[bool] = []
    with RelayBoard(tmp_path, switched.append) as board:
        for closed in (True, False, True):
            LcusRelay(str(board.port)).switch(closed)
        LcusRelay(str(board.port), channel=2).switch(False)
        wait_for(lambda: len(switched) == 3, 5, "three orders")
    assert switched == [True, False, True]


def test_a_modbus_board_switches_and_confirms(tmp_path: Path) -> None:
    switched: list[bool] = []
    with RelayBoard(tmp_path, switched.append, "modbus", 0) as board:
        relay = parse_relay(f"modbus:{board.port}")
        relay.switch(True)
        relay.switch(False)
        assert switched == [True, False]
        board.late_s = 0.3
        relay.switch(True)
        board.late_s = 0.0
        board.refuses = True
        with pytest.raises(RelayError, match="refuses coil 0"):
            relay.switch(False)
    assert switched == [True, False, True]


def test_a_board_that_is_silent_or_not_there_is_named(tmp_path: Path) -> None:
    with RelayBoard(tmp_path, lambda _: None, "modbus", 0) as board, pytest.raises(RelayError, match="No response"):
        ModbusRelay(str(board.port), coil=7).switch(True)
    with pytest.raises(RelayError, match="nowhere"):
        LcusRelay(str(tmp_path / "nowhere")).switch(True)


@pytest.mark.parametrize("text", ["", "lcus:/dev/x#9", "modbus:#1", "#1"])
def test_what_names_no_relay_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--relay"):
        parse_relay(text)
