# Runs as /main.py on the board under test: the real firmware.journal, told over the console what to do, order by order.
# Every answer ends with a line "== ok" or "== failed ..."; what an order did is printed only after it is durable, so
# whatever the host has read is what a gateway could have read.
#
#   open SEGMENT_RECORDS MAX_BYTES HASH    as firmware.main does at the start: open, count the boot, write its events
#   append NUMBER FIRST                    that many records, with one call, their counts from FIRST on
#   acknowledge SEQ                        the gateway has stored everything up to SEQ
#   configure HASH                         replace /station.json
#   read                                   all records, by the journal
#   files                                  the journal's files as they lie on the flash, without the journal's code
#   fill APPENDS NUMBER                    so many appends of so many records, not shown
#   operations                             how many flash operations there were since power-on (virtual board)
#   chip                                   bytes read, erases, most erases of one block, blocks erased (virtual board)
import os
import sys
from binascii import hexlify

from firmware.journal import Journal
from firmware.record import EVENT_BOOT, EVENT_CONFIGURATION, NOT_EVALUATED, SIZE

journal: Journal


def open_journal(segment_records: str, max_bytes: str, hash_: str) -> None:
    global journal
    journal = Journal("/journal", int(segment_records), int(max_bytes), os.urandom)
    repaired = journal.open()
    print("state", journal.id, journal.first_seq, journal.next_seq, journal.stored_through, len(repaired))
    boots, changed = journal.start_boot(int(hash_))
    events = [(0, boots, 0, EVENT_BOOT, NOT_EVALUATED)]
    if changed:
        events.append((0, int(hash_), 0, EVENT_CONFIGURATION, NOT_EVALUATED))
    store(events)


def store(entries: list[tuple[int, int, int, int, int]]) -> None:
    before = journal.next_seq
    journal.append(entries)
    show_records(before)


def append(number: str, first: str) -> None:
    counts = range(int(first), int(first) + int(number))
    store([(1_780_000_000 + count, count, 1, 34, NOT_EVALUATED) for count in counts])


def acknowledge(seq: str) -> None:
    journal.acknowledge(int(seq))


def configure(hash_: str) -> None:
    with open("/station.json.new", "w") as file:
        file.write('{"hash":%s}' % hash_ + " " * 1500)  # of the size a configuration has
    os.rename("/station.json.new", "/station.json")


def read() -> None:
    show_records(0)
    print("state", journal.id, journal.first_seq, journal.next_seq, journal.stored_through, 0)


def show_records(seq: int) -> None:
    buffer = bytearray(32 * SIZE)
    while True:
        number = journal.read_into(buffer, seq, 32)
        if not number:
            return
        print("records", str(hexlify(memoryview(buffer)[: number * SIZE]), "ascii"))
        last = (number - 1) * SIZE
        seq = int.from_bytes(buffer[last + 1 : last + 5], "little") + 1


def operations() -> None:
    import _vboard

    _, _, programs, _, erases = _vboard.flash_counts()
    print("operations", programs + erases)


def chip() -> None:
    import _vboard

    _, bytes_read, _, _, erases = _vboard.flash_counts()
    worn = [_vboard.sector_erases(sector) for sector in range(_vboard.flash_size() // 4096)]
    print("chip", bytes_read, erases, max(worn), len([1 for times in worn if times]))


def fill(appends: str, number: str) -> None:
    for i in range(int(appends)):
        journal.append([(1_780_000_000 + i, i, 1, 34, NOT_EVALUATED)] * int(number))


def files() -> None:
    for name in os.listdir("/journal"):
        print("file", name, os.stat("/journal/" + name)[6])
        with open("/journal/" + name, "rb") as file:
            while True:
                data = file.read(512)
                if not data:
                    break
                print("data", str(hexlify(data), "ascii"))


ORDERS = {
    "open": open_journal,
    "append": append,
    "acknowledge": acknowledge,
    "configure": configure,
    "read": read,
    "files": files,
    "operations": operations,
    "chip": chip,
    "fill": fill,
}

print("== ready")
while True:
    order = sys.stdin.readline().split()
    try:
        ORDERS[order[0]](*order[1:])
        print("== ok")
    except Exception as error:
        print("== failed", type(error).__name__, error)
