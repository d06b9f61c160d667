# The Modbus map of a station: one table. The server answers from it and firmware/REGISTERS.md is printed from it
# (python -m firmware.register_page), so the two cannot differ.
#
# A row: first register, number of registers, name, meaning. u32 values take two registers, high word first. The name
# is that of a method of whoever knows the value (firmware.station.Status).
MAP_VERSION = 1
MAGIC = 0x5452

INPUT = (
    (0, 1, "magic", "0x5452 (TR): this is a station of ours"),
    (1, 1, "map_version", "version of this map, 1"),
    (2, 2, "journal_id", "random id of the journal, made when it was"),
    (4, 2, "first_seq", "oldest record held"),
    (6, 2, "next_seq", "seq the next record will get; next_seq - first_seq records are held"),
    (8, 2, "stored_through", "highest seq acknowledged so far, 0 = none"),
    (10, 2, "clock", "unix seconds UTC, or seconds since boot while the clock is unset"),
    (12, 1, "clock_state", "0 unset, 1 set"),
    (13, 2, "uptime_s", "seconds since boot"),
    (15, 1, "boots", "boot number, modulo 65536"),
    (16, 1, "reset_cause", "of the last start, as machine.reset_cause() says it"),
    (17, 1, "free_heap_kib", "free heap, KiB"),
    (18, 2, "configuration_hash", "first 31 bits of the SHA-256 of station.json; 0 = none or refused"),
    (20, 2, "bus_polls", "questions to instruments since boot"),
    (22, 2, "bus_timeouts", "of these without an answer in time"),
    (24, 2, "bus_crc_errors", "of these with bytes but no good frame"),
    (26, 2, "bus_late_answers", "answers that came when nobody waited for them, caught"),
    (28, 1, "version_major", "firmware version"),
    (29, 1, "version_minor", ""),
    (30, 1, "version_patch", ""),
    (40, 16, "station_id", "ASCII, padded with NUL"),
)
INPUT_END = 56  # registers 0..55 are the table's; those between two rows read 0

LIVE = 100
LIVE_SIZE = 4  # sensor << 8 | parameter; flag; value as float32 (two registers, high word first)
LIVE_END = LIVE + 64 * LIVE_SIZE  # behind the last channel everything reads 0xFFFF

HOLDING = (
    (0, 2, "clock", "write: unix seconds UTC to set the clock to; read: what it shows"),
    (2, 1, "milliseconds", "write: milliseconds of that time; read: 0"),
    (3, 1, "uncertainty_ms", "write: how far off it may be; read: of the last setting"),
)
HOLDING_END = 4

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
    for register, words, name, _ in table:
        if register < first + count and first < register + words:
            put_words(image, 2 * register, getattr(source, name)(), words)
