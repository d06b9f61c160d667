"""Commands to a gateway: a closed list of kinds, each signed, for one gateway, with an end.

    signed = sign(ReadNow(id=new_id(), gateway="gw-mytho", …), private_key)      # the office
    verdict = verify(payload, public_keys, "gw-mytho", now)                      # the gateway

What is signed is the command's text byte for byte as it is sent, so that nobody has to agree on how JSON is written.
What a verdict refuses has not been looked into further than the reason says: before the signature is known to be good
nothing of the text is read. There is no kind that runs a program, and there will be none.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from station_config.toml_config import StrictModel

LONGEST_BYTES = 1 << 20
LONGEST_LIFE_S = 14 * 86_400
FUTURE_TOLERANCE_S = 120
CONFIGURATION_BYTES = 32_768  # what a board takes (firmware/files.py)
IMAGE_BYTES = 131_072
ADDRESSES = 247
RANGES_AT_MOST = 2_000  # of one journal that a gateway is told of
JOURNALS_AT_MOST = 50

_CONTEXT = b"tram-command-1\0"
_ID = r"^[0-9a-f]{32}$"

Name = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class OfStation(StrictModel):
    """Which station it is for."""

    station: Name


class OfStationOrGateway(StrictModel):
    """Which station it is for; none: the gateway itself."""

    station: Name | None = None


class CalibrationArguments(OfStation):
    """The sensor that is being calibrated, or no longer."""

    sensor: int = Field(ge=1, le=255)
    on: bool


class ConfigurationArguments(OfStation):
    """A whole station.json."""

    content: str = Field(min_length=2, max_length=CONFIGURATION_BYTES)
    sha256: Sha256

    @model_validator(mode="after")
    def _whole(self) -> ConfigurationArguments:
        _check_content(self.content.encode(), self.sha256, CONFIGURATION_BYTES)
        return self

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        return self.content.encode()


class FirmwareArguments(OfStation):
    """A firmware image in base64. The board checks the image's own signature."""

    image: str = Field(min_length=4, max_length=IMAGE_BYTES * 4 // 3 + 4)
    sha256: Sha256

    @model_validator(mode="after")
    def _whole(self) -> FirmwareArguments:
        _check_content(self.data, self.sha256, IMAGE_BYTES)
        return self

    @property
    def data(self) -> bytes:
        """The bytes of the image. Raises ValueError when it is no base64."""
        return base64.b64decode(self.image, validate=True)


class ScanArguments(StrictModel):
    """The line to look for devices on, and between which addresses."""

    line: str = Field(min_length=1, max_length=32)
    first: int = Field(default=1, ge=1, le=ADDRESSES)
    last: int = Field(default=ADDRESSES, ge=1, le=ADDRESSES)

    @model_validator(mode="after")
    def _in_order(self) -> ScanArguments:
        if self.last < self.first:
            raise ValueError("last is below first")
        return self


Seq = Annotated[int, Field(ge=1, le=0xFFFF_FFFF)]


class JournalInCloud(StrictModel):
    """What the cloud has of a journal, or knows to be lost: sequence numbers, both ends included."""

    journal: int = Field(ge=0, le=0xFFFF_FFFF)
    ranges: list[tuple[Seq, Seq]] = Field(max_length=RANGES_AT_MOST)


class ReadAgainArguments(OfStation):
    """All that the cloud has of a station; what is not in it is to be sent once more."""

    in_cloud: list[JournalInCloud] = Field(max_length=JOURNALS_AT_MOST)


class _Signed(StrictModel):
    id: str = Field(pattern=_ID)
    gateway: Name
    issued_at: int = Field(ge=0)
    expires_at: int = Field(ge=0)
    by: str = Field(min_length=1, max_length=64)

    @model_validator(mode="after")
    def _ends(self) -> _Signed:
        if not 0 < self.expires_at - self.issued_at <= LONGEST_LIFE_S:
            raise ValueError(f"expires_at is after issued_at by at most {LONGEST_LIFE_S // 86_400} days")
        return self


class ReadNow(_Signed):
    """Read a station's registers now."""

    kind: Literal["read-now"] = "read-now"
    arguments: OfStation


class SetClock(_Signed):
    """Set a station's clock by the gateway's."""

    kind: Literal["set-clock"] = "set-clock"
    arguments: OfStation


class CalibrationMode(_Signed):
    """Note in a station's journal that a sensor is being calibrated, or no longer."""

    kind: Literal["calibration-mode"] = "calibration-mode"
    arguments: CalibrationArguments


class Configuration(_Signed):
    """Give a station another configuration."""

    kind: Literal["configuration"] = "configuration"
    arguments: ConfigurationArguments


class Firmware(_Signed):
    """Give a station another firmware."""

    kind: Literal["firmware"] = "firmware"
    arguments: FirmwareArguments


class Logs(_Signed):
    """Fetch a station's log, or the gateway's own last lines."""

    kind: Literal["logs"] = "logs"
    arguments: OfStationOrGateway


class BusScan(_Signed):
    """Look for devices on a line."""

    kind: Literal["bus-scan"] = "bus-scan"
    arguments: ScanArguments


class Reboot(_Signed):
    """Restart a station's board, or the gateway's service."""

    kind: Literal["reboot"] = "reboot"
    arguments: OfStationOrGateway


class ReadAgain(_Signed):
    """Send once more what the cloud has not of a station, from the station's journal."""

    kind: Literal["read-again"] = "read-again"
    arguments: ReadAgainArguments


AnyCommand = ReadNow | SetClock | CalibrationMode | Configuration | Firmware | Logs | BusScan | Reboot | ReadAgain
Command = Annotated[AnyCommand, Field(discriminator="kind")]
_COMMAND: TypeAdapter[AnyCommand] = TypeAdapter(Command)
KINDS = (
    *("read-now", "set-clock", "calibration-mode", "configuration", "firmware", "logs", "bus-scan", "reboot"),
    "read-again",
)


class Envelope(StrictModel):
    """What travels: the text, whose key signed it, and the signature in base64."""

    command: str
    key: str = Field(pattern=r"^[0-9a-f]{16}$")
    signature: str = Field(max_length=100)

    def encode(self) -> bytes:
        """Return the message's payload."""
        return _json(self.model_dump()).encode()


class Reason(StrEnum):
    """Why a message is not carried out."""

    TOO_LONG = "too long"
    MALFORMED = "malformed"
    UNKNOWN_KEY = "unknown key"
    BAD_SIGNATURE = "bad signature"
    OTHER_GATEWAY = "for another gateway"
    UNKNOWN_KIND = "unknown kind"
    NO_CLOCK = "clock not set"
    FROM_THE_FUTURE = "issued in the future"
    EXPIRED = "expired"


@dataclass(frozen=True)
class Verdict:
    """What to make of a message. `command` only when it may be carried out; `id` once the signature is known good."""

    reason: Reason | None
    detail: str
    command: AnyCommand | None = None
    text: str = ""
    id: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether the same message can never be carried out later."""
        return self.reason not in (None, Reason.NO_CLOCK, Reason.FROM_THE_FUTURE)


def new_id() -> str:
    """Return an id no other command has."""
    return uuid.uuid4().hex


def key_id(key: Ed25519PublicKey) -> str:
    """Return the name of a public key: the first 16 hex digits of the SHA-256 of its 32 bytes."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def command_text(command: AnyCommand) -> str:
    """Return the text of a command, as it is signed and sent."""
    return _json(command.model_dump())


def parse_text(text: str) -> AnyCommand:
    """Return the command of a text. Raises pydantic.ValidationError."""
    return _COMMAND.validate_json(text)


def command_of(plain: Mapping[str, Any]) -> AnyCommand:
    """Return the command of plain data. Raises pydantic.ValidationError."""
    return _COMMAND.validate_python(dict(plain))


def sign(command: AnyCommand, key: Ed25519PrivateKey) -> Envelope:
    """Return the command signed."""
    text = command_text(command)
    signature = base64.b64encode(key.sign(_CONTEXT + text.encode())).decode("ascii")
    return Envelope(command=text, key=key_id(key.public_key()), signature=signature)


def verify(payload: bytes, keys: Mapping[str, Ed25519PublicKey], gateway: str, now: float | None) -> Verdict:
    """Say whether a message is a command that `gateway` may carry out at `now`, unix seconds.

    `now` is None when the clock cannot be trusted: then no expiry can be judged and nothing is accepted.
    """
    if len(payload) > LONGEST_BYTES:
        return Verdict(Reason.TOO_LONG, f"{len(payload)} bytes, at most {LONGEST_BYTES} are read")
    try:
        envelope = Envelope.model_validate_json(payload)
        signature = base64.b64decode(envelope.signature, validate=True)
        signed = _CONTEXT + envelope.command.encode()
    except ValidationError as error:
        return Verdict(Reason.MALFORMED, _first_fault(error))
    except (binascii.Error, UnicodeEncodeError, ValueError) as error:
        return Verdict(Reason.MALFORMED, str(error))
    key = keys.get(envelope.key)
    if key is None:
        return Verdict(Reason.UNKNOWN_KEY, f"key {envelope.key} is not among {len(keys)} known")
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return Verdict(Reason.BAD_SIGNATURE, f"not signed by key {envelope.key}")
    return _judge(envelope.command, gateway, now)


def _judge(text: str, gateway: str, now: float | None) -> Verdict:
    """Judge a text that somebody we trust has signed."""
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Verdict(Reason.MALFORMED, f"not JSON: {error}")
    if not isinstance(plain, dict):
        return Verdict(Reason.MALFORMED, "not a JSON object")
    named = plain.get("id")
    known_id = named if isinstance(named, str) and len(named) == 32 else None
    if plain.get("gateway") != gateway:  # of another gateway's command nothing more is read, and nothing answered
        return Verdict(Reason.OTHER_GATEWAY, f"for {plain.get('gateway')!r:.40}, this is {gateway}")
    if plain.get("kind") not in KINDS:
        return Verdict(Reason.UNKNOWN_KIND, f"{plain.get('kind')!r:.40} is not among the kinds known", id=known_id)
    try:
        command = parse_text(text)
    except ValidationError as error:
        return Verdict(Reason.MALFORMED, _first_fault(error), id=known_id)
    reason, detail = _judge_time(command, now)
    return Verdict(reason, detail, command if reason is None else None, text, command.id)


def _judge_time(command: AnyCommand, now: float | None) -> tuple[Reason | None, str]:
    if now is None:
        return Reason.NO_CLOCK, "without the time it cannot be told whether it has expired; it waits to be sent again"
    if now >= command.expires_at:
        return Reason.EXPIRED, f"{now - command.expires_at:.0f} s ago"
    if command.issued_at > now + FUTURE_TOLERANCE_S:
        return Reason.FROM_THE_FUTURE, f"{command.issued_at - now:.0f} s ahead of this clock; check both clocks"
    return None, "signed, for this gateway, and in time"


def _check_content(data: bytes, sha256: str, most: int) -> None:
    if len(data) > most:
        raise ValueError(f"{len(data)} bytes, a board takes {most}")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError("the content does not have this SHA-256")


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
