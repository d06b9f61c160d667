# The Modbus map of a station: one table. The server answers from it, and firmware/REGISTERS.md is printed from it with
# the meanings that stand in register_page, which no board carries in its memory.
#
# A row: first register, number of registers, value. u32 values take two registers, high word first. The value is a
# number, or where it is found, from the station or upkeep on: a table and not a method each, because a function costs a
# hundred bytes of heap before it does anything.
from firmware import version

MAP_VERSION = 1
MAGIC = 0x5452

INPUT = (
    (0, 1, MAGIC),
    (1, 1, MAP_VERSION),
    (2, 2, "journal.id"),
    (4, 2, "journal.first_seq"),
    (6, 2, "journal.next_seq"),
    (8, 2, "journal.stored_through"),
    (10, 2, "clock.now"),
    (12, 1, "clock.is_set"),
    (13, 2, "clock.uptime_s"),
    (15, 1, "journal.boots"),
    (16, 1, "reset_cause"),
    (17, 1, "free_heap_kib"),
    (18, 2, "configuration_hash"),
    (20, 2, "client.polls"),
    (22, 2, "client.timeouts"),
    (24, 2, "client.crc_errors"),
    (26, 2, "client.late_answers"),
    (28, 1, version.VERSION[0]),
    (29, 1, version.VERSION[1]),
    (30, 1, version.VERSION[2]),
    (40, 16, "id"),
)
INPUT_END = 56  # registers 0..55 are the table's; those between two rows read 0

LIVE = 100
LIVE_SIZE = 4  # sensor << 8 | parameter; flag; value as float32 (two registers, high word first)
LIVE_END = LIVE + 64 * LIVE_SIZE  # behind the last channel everything reads 0xFFFF

HOLDING = (
    (0, 2, "clock.now"),
    (2, 1, 0),
    (3, 1, "clock.uncertainty_ms"),
)
HOLDING_END = 4

COMMAND = 10
COMMANDS = (
    (10, 1, "command"),
    (11, 2, "argument"),
    (13, 1, "result"),
    (14, 1, "slot"),
    (15, 1, "trial"),
)
COMMANDS_END = 16
COMMAND_SIZE = 3  # registers of a command and its argument, written together

FETCH_WRITE = 0x0100
FETCH_WRITE_COUNT = 6  # journal id u32, from_seq u32, stored_through u32
FETCH_READ = 0x0200
RECORD_REGISTERS = 9
MOST_RECORDS = 13


def put_words(out, at, value, words):
    # value as big-endian registers into out[at:]; bytes are copied and padded with NUL
    if isinstance(value, (bytes, str)):
        raw = value.encode() if isinstance(value, str) else value
        for i in range(2 * words):
            out[at + i] = raw[i] if i < len(raw) else 0
        return
    for i in range(2 * words - 1, -1, -1):
        out[at + i] = value & 0xFF
        value >>= 8


def fill(table, source, image, first, count):
    # Refresh in image (a register table as bytes) every row that touches registers first..first+count-1.
    for register, words, value in table:
        if register < first + count and first < register + words:
            put_words(image, 2 * register, value if isinstance(value, int) else value_at(source, value), words)


def value_at(source, path):
    for step in path.split("."):
        source = getattr(source, step)
        if source is None:  # a station without a bus has no client, and so nothing counted
            return 0
    return source() if callable(source) else source
