# Prints the documentation of the Modbus map: python -m firmware.register_page > firmware/REGISTERS.md
# Runs on a computer; a board never imports it.
from firmware import registers


def as_markdown():
    # The documentation of the map, for people and SCADA engineers.
    lines = [
        "# Modbus map of a station",
        "",
        "Printed by `python -m firmware.register_page`; the server answers from the same table.",
        "",
    ]
    lines += ["Addresses count from 0. RTU, the station is the server. u32 = two registers, high word first.", ""]
    lines += _section("Input registers (FC 04)", registers.INPUT)
    lines += [
        "From %d: one block of %d registers per channel, in the order of station.json: sensor << 8 | parameter;"
        % (registers.LIVE, registers.LIVE_SIZE),
        "flag (QARTOD: 2 not evaluated, 4 the instrument says it failed, 9 no value); latest sample as float32.",
        "Behind the last channel everything reads 0xFFFF.",
        "",
    ]
    lines += _section("Holding registers (FC 03, FC 16 from 0)", registers.HOLDING)
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
        "## Identification (FC 43/14)",
        "",
        "Vendor Tram, product station, revision = firmware version; object 0x80 is the station's id.",
        "",
    ]
    return "\n".join(lines)


def _section(title, table):
    lines = ["## " + title, "", "| register | size | name | meaning |", "|---|---|---|---|"]
    for register, words, name, meaning in table:
        lines.append("| %d | %d | %s | %s |" % (register, words, name, meaning))
    return lines + [""]


if __name__ == "__main__":
    print(as_markdown())
