"""A command channel is no shell: what a gateway takes, and why it refuses the rest."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from station_config import command_keys
from station_config.command import (
    FUTURE_TOLERANCE_S,
    LONGEST_LIFE_S,
    Configuration,
    ConfigurationArguments,
    Envelope,
    Firmware,
    FirmwareArguments,
    OfStation,
    ReadNow,
    Reason,
    key_id,
    new_id,
    sign,
    verify,
)
from station_config.errors import KeyRefused

NOW = 1_780_000_000
OFFICE = Ed25519PrivateKey.generate()
KEYS = {key_id(OFFICE.public_key()): OFFICE.public_key()}


def read_now(**changes: Any) -> ReadNow:
    fields: dict[str, Any] = {
        "id": new_id(),
        "gateway": "gw-mytho",
        "issued_at": NOW,
        "expires_at": NOW + 600,
        "by": "lan",
        "arguments": OfStation(station="xuan-hoa"),
    }
    return ReadNow(**(fields | changes))


def signed_text(text: str) -> bytes:
    """Sign any text as the office would: what is refused then is refused for what it says."""
    signature = OFFICE.sign(b"tram-command-1\0" + text.encode())
    return Envelope(
        command=text, key=key_id(OFFICE.public_key()), signature=base64.b64encode(signature).decode()
    ).encode()


def changed(**changes: object) -> bytes:
    text = json.loads(sign(read_now(), OFFICE).command)
    return signed_text(json.dumps(text | changes))


def test_a_signed_command_in_time_is_taken_as_it_was_meant() -> None:
    command = read_now()
    verdict = verify(sign(command, OFFICE).encode(), KEYS, "gw-mytho", NOW + 5)

    assert (verdict.reason, verdict.command, verdict.id) == (None, command, command.id)


def test_what_is_signed_is_the_text_as_sent_however_its_json_is_written() -> None:
    text = json.dumps(json.loads(sign(read_now(), OFFICE).command), indent=3)

    assert verify(signed_text(text), KEYS, "gw-mytho", NOW).command is not None


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"x" * ((1 << 20) + 1), Reason.TOO_LONG),
        (b"", Reason.MALFORMED),
        (b"\xff\x00", Reason.MALFORMED),
        (b"[1]", Reason.MALFORMED),
        (b'{"command":"{}","key":"0123456789abcdef"}', Reason.MALFORMED),
        (b'{"command":"{}","key":"0123456789abcdef","signature":"no base64"}', Reason.MALFORMED),
        (sign(read_now(), Ed25519PrivateKey.generate()).encode(), Reason.UNKNOWN_KEY),
        (changed(gateway="gw-gocong"), Reason.OTHER_GATEWAY),
        (changed(kind="shell", arguments={"line": "rm -rf /"}), Reason.UNKNOWN_KIND),
        (changed(arguments={}), Reason.MALFORMED),
        (changed(arguments={"station": "xuan-hoa", "also": 1}), Reason.MALFORMED),
        (changed(expires_at=NOW + LONGEST_LIFE_S + 1), Reason.MALFORMED),
        (changed(id="1"), Reason.MALFORMED),
        (signed_text("[" * 100_000), Reason.MALFORMED),
        (signed_text("7"), Reason.MALFORMED),
        (changed(issued_at=NOW - 700, expires_at=NOW), Reason.EXPIRED),
        (changed(issued_at=NOW + FUTURE_TOLERANCE_S + 1, expires_at=NOW + 900), Reason.FROM_THE_FUTURE),
    ],
)
def test_every_refusal_has_its_reason(payload: bytes, reason: Reason) -> None:
    verdict = verify(payload, KEYS, "gw-mytho", NOW)

    assert (verdict.reason, verdict.command) == (reason, None)
    assert verdict.detail


def test_without_the_time_nothing_is_taken_and_nothing_is_refused_for_good() -> None:
    verdict = verify(sign(read_now(), OFFICE).encode(), KEYS, "gw-mytho", None)

    assert (verdict.reason, verdict.is_final, verdict.command) == (Reason.NO_CLOCK, False, None)


@given(st.data())
def test_a_changed_byte_is_never_taken(data: st.DataObject) -> None:
    payload = bytearray(sign(read_now(id="0" * 32), OFFICE).encode())
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] ^= data.draw(st.integers(1, 255))
    verdict = verify(bytes(payload), KEYS, "gw-mytho", NOW)

    # JSON has more than one way to write a letter or a key's position; the text itself has one.
    assert verdict.reason is not None or verdict.text == sign(read_now(id="0" * 32), OFFICE).command


@given(st.binary(max_size=400))
def test_any_bytes_are_judged_without_a_fault(payload: bytes) -> None:
    assert verify(payload, KEYS, "gw-mytho", NOW).reason in (Reason.MALFORMED, Reason.UNKNOWN_KEY)


def test_a_file_that_is_not_what_its_hash_says_is_refused_before_it_is_signed() -> None:
    common: dict[str, Any] = {
        "id": new_id(),
        "gateway": "gw-mytho",
        "issued_at": NOW,
        "expires_at": NOW + 9,
        "by": "lan",
    }
    wrong = hashlib.sha256(b"else").hexdigest()
    with pytest.raises(ValidationError, match="SHA-256"):
        Configuration(**common, arguments=ConfigurationArguments(station="xuan-hoa", content="{}", sha256=wrong))
    with pytest.raises(ValidationError, match="SHA-256"):
        Firmware(**common, arguments=FirmwareArguments(station="xuan-hoa", image="AAAA", sha256=wrong))


def test_the_largest_image_fits_a_message() -> None:
    image = bytes(131_072)
    arguments = FirmwareArguments(
        station="xuan-hoa", image=base64.b64encode(image).decode(), sha256=hashlib.sha256(image).hexdigest()
    )
    common: dict[str, Any] = {
        "id": new_id(),
        "gateway": "gw-mytho",
        "issued_at": NOW,
        "expires_at": NOW + 9,
        "by": "lan",
    }
    verdict = verify(sign(Firmware(**common, arguments=arguments), OFFICE).encode(), KEYS, "gw-mytho", NOW)

    assert isinstance(verdict.command, Firmware)
    assert verdict.command.arguments.data == image


def test_keys_are_made_once_kept_secret_and_found_by_their_id(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    made = command_keys.generate(tmp_path / "office.pem", tmp_path / "keys" / "office.pub.pem")
    private = command_keys.load_private(tmp_path / "office.pem")

    assert (tmp_path / "office.pem").stat().st_mode & 0o777 == 0o600
    assert list(command_keys.load_public_folder(tmp_path / "keys")) == [made] == [key_id(private.public_key())]
    with pytest.raises(KeyRefused, match="exists already"):
        command_keys.generate(tmp_path / "office.pem", tmp_path / "other.pub.pem")
    (tmp_path / "office.pem").chmod(0o644)
    with pytest.raises(KeyRefused, match="chmod 600"):
        command_keys.load_private(tmp_path / "office.pem")


def test_a_folder_with_something_else_in_it_is_refused_rather_than_read_in_part(tmp_path: Path) -> None:
    command_keys.generate(tmp_path / "office.pem", tmp_path / "office.pub.pem")
    with pytest.raises(KeyRefused, match=r"office\.pem: no public key"):
        command_keys.load_public_folder(tmp_path)
