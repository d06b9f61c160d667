"""A PIN is never tried so often that the card locks itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_gateway.errors import ModemNotReady
from edge_gateway.sim_pin import PinFile


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pin"
    path.write_text("1234\n")
    return path


def test_a_pin_that_works_may_be_taken_for_ever(file: Path, tmp_path: Path) -> None:
    pin = PinFile(file, tmp_path / "note")
    for _ in range(5):
        assert pin.take() == "1234"
        pin.accepted()


def test_after_two_tries_without_success_a_restart_tries_no_third(file: Path, tmp_path: Path) -> None:
    for _ in range(2):
        PinFile(file, tmp_path / "note").take()
    with pytest.raises(ModemNotReady, match="refused the PIN twice"):
        PinFile(file, tmp_path / "note").take()


def test_another_pin_in_the_file_is_tried(file: Path, tmp_path: Path) -> None:
    pin = PinFile(file, tmp_path / "note")
    pin.take()
    pin.take()
    file.write_text("4711")
    os.utime(file, ns=(1, file.stat().st_mtime_ns + 1_000_000))
    assert pin.take() == "4711"


@pytest.mark.parametrize("content", ["", "12", "123456789", "abcd", '1234"\rAT+CFUN=0'])
def test_what_is_no_pin_is_not_sent_to_the_modem(file: Path, tmp_path: Path, content: str) -> None:
    file.write_text(content)
    with pytest.raises(ModemNotReady, match="4 to 8 digits") as said:
        PinFile(file, tmp_path / "note").take()
    assert content == "" or content not in str(said.value).replace(str(file), "")


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModemNotReady, match="cannot be read"):
        PinFile(tmp_path / "none", tmp_path / "note").take()
