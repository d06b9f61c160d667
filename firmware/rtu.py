# Modbus RTU frames, bytes in and bytes out: no port, no time.
#
# Answers are recognised by the question they belong to: address, function, the length the question implies, and CRC.
# That is stricter than trusting the answer's own byte count, and it reads the frames of instruments that do not keep to
# the standard: Yosemitech probes answer some reads with byte count 0 and two data bytes, and take writes of nothing.
import struct

from firmware import const
from firmware.record import crc16

READ_HOLDING = 3
READ_INPUT = 4
WRITE_SINGLE = 6
WRITE_MULTIPLE = 16
READ_FILE = 20
WRITE_FILE = 21
READ_WRITE = 23
IDENTIFY = 43
IDENTIFY_MEI = 14
FAILED = 0x80

ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
DEVICE_FAILURE = 4
BUSY = 6

MAX_FRAME = 256

_MORE = const(0)  # not enough bytes yet to know the length
_NOT_A_FRAME = const(-1)


def seal(body):
    return body + struct.pack("<H", crc16(body))


def seal_into(buffer, length):
    # Puts the CRC behind the first `length` bytes; returns the frame's length.
    crc = crc16(memoryview(buffer)[:length])
    buffer[length] = crc & 0xFF
    buffer[length + 1] = crc >> 8
    return length + 2


def is_sealed(data, start, end):
    return crc16(memoryview(data)[start:end]) == 0


# Questions


def read_request(address, function, register, count):
    return seal(struct.pack(">BBHH", address, function, register, count))


def write_single_request(address, register, value):
    return seal(struct.pack(">BBHH", address, WRITE_SINGLE, register, value))


def write_request(address, register, values=()):
    # No values at all is the start command of some probes: 0 registers, byte count 0.
    head = struct.pack(">BBHHB", address, WRITE_MULTIPLE, register, len(values), 2 * len(values))
    return seal(head + _words(values))


def read_write_request(address, read_register, read_count, write_register, values):
    head = struct.pack(
        ">BBHHHHB", address, READ_WRITE, read_register, read_count, write_register, len(values), 2 * len(values)
    )
    return seal(head + _words(values))


def identify_request(address, code=1, first_object=0):
    return seal(bytes((address, IDENTIFY, IDENTIFY_MEI, code, first_object)))


def _words(values):
    return b"".join([struct.pack(">H", value) for value in values])


def request_length(data, start, end):
    # Length of the request that begins at `start`, or _MORE, or _NOT_A_FRAME for a function we do not know.
    held = end - start
    if held < 2:
        return _MORE
    function = data[start + 1]
    if function in (READ_HOLDING, READ_INPUT, WRITE_SINGLE):
        return 8
    if function == WRITE_MULTIPLE:
        return 9 + data[start + 6] if held > 6 else _MORE
    if function in (READ_FILE, WRITE_FILE):
        return 5 + data[start + 2] if held > 2 else _MORE
    if function == READ_WRITE:
        return 13 + data[start + 10] if held > 10 else _MORE
    if function == IDENTIFY:
        return 7
    return _NOT_A_FRAME


def find_request(data, end, address):
    # Where a request to `address` begins that ends exactly at `end`, or -1. The master waits after its question, so the
    # question is the last thing on the line; whatever stands before it was noise or somebody else's conversation.
    for start in range(end - 6):
        if data[start] != address:
            continue
        length = request_length(data, start, end)
        if length == _NOT_A_FRAME and start == 0:
            length = end
        if length == end - start and is_sealed(data, start, end):
            return start
    return -1


# Answers


def answer_length(request, data, start, end):
    # Length of the answer to `request` that begins at `start`, or _MORE, or _NOT_A_FRAME when it answers another.
    held = end - start
    if data[start] != request[0]:
        return _NOT_A_FRAME
    if held < 3:
        return _MORE
    function = data[start + 1]
    if function == request[1] | FAILED:
        return 5
    if function != request[1]:
        return _NOT_A_FRAME
    if function in (WRITE_SINGLE, WRITE_MULTIPLE):
        return _confirmation_length(request, data, start, held)
    if function == IDENTIFY:
        return _identification_length(data, start, end)
    size = 2 * (request[4] << 8 | request[5])
    return 5 + size if data[start + 2] in (size, 0) else _NOT_A_FRAME


def longest_answer(request):
    # How many bytes the answer to `request` can have.
    if request[1] in (READ_HOLDING, READ_INPUT, READ_WRITE):
        return min(5 + 2 * (request[4] << 8 | request[5]), MAX_FRAME)
    return MAX_FRAME if request[1] == IDENTIFY else 8


def _confirmation_length(request, data, start, held):
    # A write is confirmed by repeating its register and value (or number of registers).
    for i in range(2, min(6, held)):
        if data[start + i] != request[i]:
            return _NOT_A_FRAME
    return 8


def _identification_length(data, start, end):
    # address, 43, 14, code, conformity, more, next object, number of objects, then (id, length, text) each
    at = start + 8
    if end < at:
        return _MORE
    for _ in range(data[start + 7]):
        if end < at + 2:
            return _MORE
        at += 2 + data[at + 1]
    return at + 2 - start


def find_answer(request, data, start, end):
    # (where it begins, its length) of the answer to `request` among the bytes received, or None.
    for at in range(start, end - 4):
        length = answer_length(request, data, at, end)
        if length > 0 and at + length <= end and is_sealed(data, at, at + length):
            return at, length
    return None


def count_answers(data, start, end):
    # How many good answers of anybody to anything stand among these bytes. Each is an answer nobody waits for.
    number = 0
    at = start
    while at <= end - 5:
        length = _own_length(data, at)
        if at + length <= end and is_sealed(data, at, at + length):
            number += 1
            at += length
        else:
            at += 1
    return number


def _own_length(data, at):
    function = data[at + 1]
    if function & FAILED:
        return 5
    if function in (WRITE_SINGLE, WRITE_MULTIPLE):
        return 8
    return 5 + data[at + 2]
