# The record: 18 bytes, made once by the station and never changed on its way to the database.
# One file for both runtimes: the board encodes with it, every host tool decodes with it.
#
#   version u8 = 1 | seq u32 | time u32 | count i32 | sensor u8 | parameter u8 | flag u8 | crc16 u16   (little-endian)
#
# time   unix seconds UTC of the END of the averaging interval; below CLOCK_UNSET_BELOW it is seconds since boot
# count  the instrument's own value times 10^decimals of the parameter; MISSING means "no value"
# crc16  Modbus polynomial over the first 16 bytes
#
# Identity of a record everywhere: (station, journal, seq).
import struct
from array import array
from collections import namedtuple

VERSION = 1
SIZE = 18
MISSING = -0x80000000
CLOCK_UNSET_BELOW = 100_000_000

# QARTOD flags. The board says NOT_EVALUATED, FAIL (the instrument said so) or NO_VALUE.
GOOD = 1
NOT_EVALUATED = 2
SUSPECT = 3
FAIL = 4
NO_VALUE = 9

# Journal events are the parameter codes 1..15, written for sensor 0.
EVENT_BOOT = 1  # count = boot number
EVENT_CLOCK_SET = 2  # count = step in seconds, new minus old; the record's time is the new one
EVENT_CONFIGURATION = 3  # count = first 31 bits of the configuration's hash
EVENT_CALIBRATION_MODE = 4  # sensor = which, count = 1 on, 0 off
EVENT_OVERWRITTEN = 5  # count = how many unsent records the ring overwrote
EVENT_UPDATE_APPLIED = 6
EVENT_UPDATE_ROLLED_BACK = 7
LAST_EVENT = 15

BATCH_MAGIC = b"TRB1"
BATCH_HEADER_SIZE = 10

_BODY = "<BIIiBBB"
_BATCH_HEADER = "<4sIH"

Record = namedtuple("Record", ("seq", "time", "count", "sensor", "parameter", "flag"))


class RecordError(ValueError):
    """These bytes are not a record or a batch of records; the text says why."""


def _crc_table() -> "array[int]":
    table = array("H")
    for i in range(256):
        crc = i
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
        table.append(crc)
    return table


_CRC_TABLE = _crc_table()


def crc16(data: bytes | bytearray | memoryview, crc: int = 0xFFFF) -> int:
    # CRC-16/MODBUS. Over a frame or a record with its own CRC behind it the result is 0.
    table = _CRC_TABLE
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc


def encode(record: Record) -> bytes:
    """Return the 18 bytes of a Record; raises RecordError when a field does not fit."""
    try:
        body = struct.pack(
            _BODY, VERSION, record.seq, record.time, record.count, record.sensor, record.parameter, record.flag
        )
    except (struct.error, OverflowError, TypeError) as error:
        raise RecordError("a field does not fit: %s: %r" % (error, record))
    if struct.unpack(_BODY, body)[1:] != tuple(record):  # MicroPython's pack truncates without a word
        raise RecordError("a field does not fit: %r" % (record,))
    return body + struct.pack("<H", crc16(body))


def decode(data: bytes | bytearray | memoryview, offset: int = 0) -> Record:
    """Return the Record in data[offset:offset+18]; raises RecordError when length, CRC or version is wrong."""
    if offset < 0 or len(data) - offset < SIZE:
        raise RecordError("%d bytes, a record has %d" % (len(data) - offset, SIZE))
    raw = bytes(data[offset : offset + SIZE])
    if crc16(raw) != 0:
        raise RecordError("CRC does not match")
    fields = struct.unpack(_BODY, raw[:16])
    if fields[0] != VERSION:
        raise RecordError("record version %d, this program reads %d" % (fields[0], VERSION))
    return Record(*fields[1:])


def batch_header(journal: int, number: int) -> bytes:
    """Return the 10 bytes before `number` records of a journal (u32 id)."""
    if not (0 <= journal <= 0xFFFFFFFF and 0 < number <= 0xFFFF):
        raise RecordError("journal %r, %r records: not a batch" % (journal, number))
    return struct.pack(_BATCH_HEADER, BATCH_MAGIC, journal, number)


def split_batch(data: bytes | bytearray | memoryview) -> tuple[int, bytes]:
    """Return (journal, the records' bytes end to end) of a batch; raises RecordError. Records are not decoded."""
    if len(data) < BATCH_HEADER_SIZE:
        raise RecordError("%d bytes, a batch header has %d" % (len(data), BATCH_HEADER_SIZE))
    magic, journal, number = struct.unpack(_BATCH_HEADER, bytes(data[:BATCH_HEADER_SIZE]))
    if magic != BATCH_MAGIC:
        raise RecordError("not a batch: begins with %r" % (magic,))
    if len(data) != BATCH_HEADER_SIZE + number * SIZE or number == 0:
        raise RecordError("batch of %d records has %d bytes" % (number, len(data)))
    return journal, bytes(data[BATCH_HEADER_SIZE:])
