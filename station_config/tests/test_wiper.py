"""A brush the station sets going: what its row may say, and what the board is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from station_config.board import board_configuration
from station_config.errors import ConfigurationError
from station_config.network import load_network

Y520 = 'instrument = "yosemitech-y520"\n'


def test_the_board_is_told_the_order_and_for_how_long_nothing_is_read(
    network_text: str, write_network: Callable[[str], Path]
) -> None:
    row = 'instrument = "yosemitech-y511"\nwipe_every_s = 1800\n'
    network = load_network(write_network(network_text.replace(Y520, row, 1)))
    probe = board_configuration(network, "xuan-hoa")["sensors"][0]
    assert probe["wiper"] == {"fc": 16, "register": 0x3100, "every_s": 1800, "busy_s": 16}


def test_without_a_word_the_brush_turns_by_itself(network_text: str, write_network: Callable[[str], Path]) -> None:
    network = load_network(write_network(network_text.replace(Y520, 'instrument = "yosemitech-y511"\n', 1)))
    assert "wiper" not in board_configuration(network, "xuan-hoa")["sensors"][0]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (f"{Y520}wipe_every_s = 1800\n", "wipe_every_s: remove it: this instrument has no brush"),
        ('instrument = "yosemitech-y511"\nwipe_every_s = 30\n', "wipe_every_s: Input should be greater"),
    ],
)
def test_a_brush_that_cannot_be_is_refused(
    network_text: str, write_network: Callable[[str], Path], row: str, fault: str
) -> None:
    with pytest.raises(ConfigurationError, match=fault):
        load_network(write_network(network_text.replace(Y520, row, 1)))
