"""Modbus RTU frames on a line with other stations, echo and noise: which of the bytes heard answer a question.

pymodbus encodes questions and decodes answers. It does not look for them: its framer gives up a whole buffer that has
one stray byte in it, and takes whatever has the right address for the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.file_message import FileRecord

from firmware.record import crc16

LONGEST_FRAME_BYTES = 256
SHORTEST_FRAME_BYTES = 5
EXCEPTION_BYTES = 5
CONFIRMATION_BYTES = 8
WRITES = (6, 16)
READ_FILE, WRITE_FILE = 20, 21
PART_HEADER_BYTES = 2  # of each part of a file in an answer: its length, the reference type
FAILED = 0x80

_FRAMER = FramerRTU(DecodePDU(False))


@dataclass(frozen=True)
class Question:
    """A question as it goes out, and what its answer must look like."""

    frame: bytes
    answer_bytes: int

    @property
    def address(self) -> int:
        """The device asked."""
        return self.frame[0]

    @property
    def function(self) -> int:
        """The Modbus function."""
        return self.frame[1]

    @property
    def shape(self) -> tuple[int, int]:
        """What tells the answers to two questions apart besides their content."""
        return self.function, checksum(self.frame) if self.answers_with_itself else self.answer_bytes

    @property
    def answers_with_itself(self) -> bool:
        """Whether the answer is the question once more."""
        return self.function == WRITE_FILE


def question(request: ModbusPDU) -> Question:
    """Return the frame of a request to read or write registers, both, or parts of a file."""
    frame = _FRAMER.buildFrame(request)
    if request.function_code == WRITE_FILE:  # the answer is the question once more
        return Question(frame, len(frame))
    if request.function_code == READ_FILE:
        parts: list[FileRecord] = request.records  # type: ignore[attr-defined]
        data_bytes = sum(PART_HEADER_BYTES + 2 * part.record_length for part in parts)
        return Question(frame, EXCEPTION_BYTES + data_bytes)
    count = getattr(request, "read_count", request.count)
    answer_bytes = CONFIRMATION_BYTES if request.function_code in WRITES else EXCEPTION_BYTES + 2 * count
    return Question(frame, answer_bytes)


def answers(asked: Question, heard: bytes) -> Iterator[bytes]:
    """Yield every frame among the bytes heard that can answer this question: address, function, length and CRC fit."""
    at = 0
    while at <= len(heard) - SHORTEST_FRAME_BYTES:
        length = _answer_bytes(asked, heard, at)
        frame = heard[at : at + length]
        if length and len(frame) == length and crc16(frame) == 0:
            yield frame
            at += length
        else:
            at += 1


def count_frames(heard: bytes | bytearray) -> int:
    """Return how many good answers of anybody to anything are among the bytes heard."""
    number = at = 0
    while at <= len(heard) - SHORTEST_FRAME_BYTES:
        frame = heard[at : at + _own_bytes(heard, at)]
        if len(frame) >= SHORTEST_FRAME_BYTES and crc16(frame) == 0:
            number += 1
            at += len(frame)
        else:
            at += 1
    return number


def is_exception(frame: bytes) -> bool:
    """Whether a frame is a refusal."""
    return bool(frame[1] & FAILED)


def checksum(frame: bytes) -> int:
    """Return a frame's own CRC."""
    return frame[-2] | frame[-1] << 8


def decode(frame: bytes) -> ModbusPDU | None:
    """Return the answer in a frame; None when pymodbus cannot make sense of it."""
    return _FRAMER.decoder.decode(frame[1:-2])


def _answer_bytes(asked: Question, heard: bytes, at: int) -> int:
    if heard[at] != asked.address:
        return 0
    if heard[at + 1] == asked.function | FAILED:
        return EXCEPTION_BYTES
    if heard[at + 1] != asked.function:
        return 0
    if asked.function in WRITES:
        return CONFIRMATION_BYTES if heard[at + 2 : at + 6] == asked.frame[2:6] else 0
    if asked.function == WRITE_FILE:
        return asked.answer_bytes if heard[at : at + asked.answer_bytes] == asked.frame else 0
    return asked.answer_bytes if heard[at + 2] == asked.answer_bytes - EXCEPTION_BYTES else 0


def _own_bytes(heard: bytes | bytearray, at: int) -> int:
    if heard[at + 1] & FAILED:
        return EXCEPTION_BYTES
    return CONFIRMATION_BYTES if heard[at + 1] in WRITES else EXCEPTION_BYTES + heard[at + 2]
