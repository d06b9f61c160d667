# Prints the documentation of the Modbus map: python -m firmware.register_page > firmware/REGISTERS.md
# Runs on a computer; a board never imports it.
from firmware import commands, files, registers

# register: its name, what it means
INPUT_MEANINGS = {
    0: ("magic", "0x5452 (TR): this is a station of ours"),
    1: ("map_version", "version of this map, 1"),
    2: ("journal_id", "random id of the journal, made when it was"),
    4: ("first_seq", "oldest record held"),
    6: ("next_seq", "seq the next record will get; next_seq - first_seq records are held"),
    8: ("stored_through", "highest seq acknowledged so far, 0 = none"),
    10: ("clock", "unix seconds UTC, or seconds since boot while the clock is unset"),
    12: ("clock_state", "0 unset, 1 set"),
    13: ("uptime_s", "seconds since boot"),
    15: ("boots", "boot number, modulo 65536"),
    16: ("reset_cause", "of the last start, as machine.reset_cause() says it"),
    17: ("free_heap_kib", "free heap, KiB"),
    18: ("configuration_hash", "first 31 bits of the SHA-256 of station.json; 0 = none or refused"),
    20: ("bus_polls", "questions to instruments since boot"),
    22: ("bus_timeouts", "of these without an answer in time"),
    24: ("bus_crc_errors", "of these with bytes but no good frame"),
    26: ("bus_late_answers", "answers that came when nobody waited for them, caught"),
    28: ("version_major", "firmware version"),
    29: ("version_minor", ""),
    30: ("version_patch", ""),
    40: ("station_id", "ASCII, padded with NUL"),
}
HOLDING_MEANINGS = {
    0: ("clock", "write: unix seconds UTC to set the clock to; read: what it shows"),
    2: ("milliseconds", "write: milliseconds of that time; read: 0"),
    3: ("uncertainty_ms", "write: how far off it may be; read: of the last setting"),
}
COMMAND_MEANINGS = {
    10: ("command", "write together with the argument: what is to be done; read: the last one"),
    11: ("argument", ""),
    13: ("result", "of the last command since the start, see below"),
    14: ("slot", "the slot that runs: 0 a, 1 b"),
    15: ("trial", "what is on trial: 0 nothing, 1 firmware, 2 configuration"),
}
FILES = {
    1: "the configuration in force",
    2: "the log",
    3: "a firmware image, staged",
    4: "the log before that",
    5: "a configuration, staged",
}


def as_markdown():
    # The documentation of the map, for people and SCADA engineers.
    lines = [
        "# Modbus map of a station",
        "",
        "Printed by `python -m firmware.register_page`; the server answers from the same table.",
        "",
    ]
    lines += ["Addresses count from 0. RTU, the station is the server. u32 = two registers, high word first.", ""]
    lines += _section("Input registers (FC 04)", registers.INPUT, INPUT_MEANINGS)
    lines += [
        "From %d: one block of %d registers per channel, in the order of station.json: sensor << 8 | parameter;"
        % (registers.LIVE, registers.LIVE_SIZE),
        "flag (QARTOD: 2 not evaluated, 4 the instrument says it failed, 9 no value); latest sample as float32.",
        "Behind the last channel everything reads 0xFFFF.",
        "",
    ]
    lines += _section("Holding registers (FC 03, FC 16 from 0)", registers.HOLDING, HOLDING_MEANINGS)
    lines += [
        "Times before 2010 or after 2099 are refused with exception 3. A step beyond one second makes a record.",
        "",
        "## Records (FC 23)",
        "",
        "Write %d registers at 0x%04X: journal id, from_seq, stored_through (u32). Read up to %d, a multiple of %d,"
        % (
            registers.FETCH_WRITE_COUNT,
            registers.FETCH_WRITE,
            registers.MOST_RECORDS * registers.RECORD_REGISTERS,
            registers.RECORD_REGISTERS,
        ),
        "at 0x%04X: records of 18 bytes as the journal holds them, 0xFF where there are no more. May be asked again."
        % registers.FETCH_READ,
        "Another journal id is refused with exception 3. stored_through only moves forward, never beyond what exists.",
        "",
    ]
    lines += _section(
        "Commands (FC 03, FC 16 of %d registers from %d)" % (registers.COMMAND_SIZE, registers.COMMAND),
        registers.COMMANDS,
        COMMAND_MEANINGS,
    )
    lines += _numbered("command", "what it does", commands.COMMANDS)
    lines += _numbered("result", "meaning", {code: text for text, code in commands.RESULTS.items()})
    lines += [
        "A command is answered at once and worked on; result tells how far it is. Another one meanwhile is refused",
        "with exception 6 (busy); the same one again is not done twice.",
        "",
        "## Files (FC 20, FC 21)",
        "",
        "A record is one register: record n of a file is its byte 2n and the next. The last byte of an odd file is",
        "followed by a NUL. Record numbers beyond 9999 are used. Up to 121 registers are read, up to 122 written at",
        "once.",
        "",
    ]
    lines += _numbered("file", "content", FILES)
    limits = ["file %d %d bytes" % row for row in sorted(files.STAGED.items())]
    lines += [
        "File %d + n describes file n: length (u32), SHA-256 (32 bytes), bytes held (u32). Staged files are sent like"
        % files.DESCRIPTION,
        "this: write length and SHA-256 to the description, from record 0; write the chunks in order; give the",
        "command. A chunk is on flash when it is answered, and may be repeated. After a break read the description and",
        "go on at the bytes held; writing the same description again keeps them. A chunk beyond them is refused with",
        "exception 2, a file that is too long with exception 3 (limits: %s), one for which the" % ", ".join(limits),
        "flash has no room with exception 4.",
        "",
        "## Identification (FC 43/14)",
        "",
        "Vendor Tram, product station, revision = firmware version; object 0x80 is the station's id.",
        "",
    ]
    return "\n".join(lines)


def _section(title, table, meanings):
    lines = ["## " + title, "", "| register | size | name | meaning |", "|---|---|---|---|"]
    for register, words, _ in table:
        lines.append("| %d | %d | %s | %s |" % ((register, words) + meanings[register]))
    return lines + [""]


def _numbered(heading, meaning, texts):
    lines = ["| %s | %s |" % (heading, meaning), "|---|---|"]
    return lines + ["| %d | %s |" % (number, texts[number]) for number in sorted(texts)] + [""]


if __name__ == "__main__":
    print(as_markdown())
