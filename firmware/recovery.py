# How a journal is found again: at the start, and after a write that failed. It is needed then and not between, so the
# journal borrows it (firmware.lazy) and works on with what it has found.
import struct

from firmware.journal import LEAST_SEGMENTS, STATE, STATE_MAGIC
from firmware.record import SIZE, crc16, decode

_CHUNK = 14 * SIZE
# Bytes of flash the journal leaves to everybody else, by the number of slots that are there. With one the next update
# still has to find room for the other, beside its image (simulators/tests/test_room.py).
_RESERVES = (65536, 311296, 114688)


def open_journal(journal):
    # Returns what was repaired, in words.
    repaired: list[str] = []
    if not journal._exists():
        journal._os.mkdir(journal._folder)
    journal._segments = _find_segments(journal)
    _fit_flash(journal)
    _load_state(journal, _load_id(journal, repaired))
    _check_last_segment(journal, repaired)
    _find_ends(journal)
    return repaired


def look_again(journal):
    journal._segments = _find_segments(journal)
    _check_last_segment(journal, [])
    _find_ends(journal)


def _find_segments(journal):
    # One pass over the folder gives the sizes too: littlefs would go through all of it again for each name asked.
    segments = []
    unfinished = []
    for entry in journal._os.ilistdir(journal._folder):
        name, size = entry[0], entry[3]
        if name.endswith(".new"):
            unfinished.append(name)
        elif len(name) == 8 and _is_hex(name.encode()):
            segments.append([int(name, 16), size // SIZE])
    for name in unfinished:
        journal._os.remove(journal._path(name))  # a replacement that was not finished: the old file stands
    segments.sort()
    for i in range(len(segments) - 1):  # what stands behind the next segment's first record was cut off
        segments[i][1] = min(segments[i][1], segments[i + 1][0] - segments[i][0])
    return segments


def _fit_flash(journal):
    # Never plan for more than the flash has. A segment takes whole blocks, and a reserve stays for everything else.
    block, _, _, free = journal._os.statvfs(journal._folder)[:4]
    segment = journal._segment_records * SIZE
    blocks = segment // block + 1
    own = sum([number * SIZE // block + 1 for _, number in journal._segments])
    names = journal._os.listdir(journal._folder.rsplit("/", 1)[0] or "/")
    reserve = _RESERVES[("a" in names) + ("b" in names)]
    fitting = max(0, (free + own) - reserve // block) // blocks
    journal._max_bytes = max(LEAST_SEGMENTS * segment, min(journal._max_bytes, fitting * segment))


def _load_id(journal, repaired):
    # Returns the state file's bytes if they belong to this journal. It names the id too, if the id file is damaged.
    state = journal._read_small("state")
    if len(state) != struct.calcsize(STATE) + 2 or crc16(state) != 0 or state[:4] != STATE_MAGIC:
        state = b""
    text = journal._read_small("id")
    if len(text) == 8 and _is_hex(text):
        journal.id = int(str(text, "ascii"), 16)
        return state if state and struct.unpack_from("<I", state, 4)[0] == journal.id else b""
    journal.id = struct.unpack("<I", state[4:8] if state else journal._random_bytes(4))[0] or 1
    if journal._segments:
        repaired.append("the journal's id was unreadable and is now %08x" % journal.id)
    journal._write_whole("id", b"%08x" % journal.id)
    return state


def _load_state(journal, state):
    if not state:
        return
    (
        journal.stored_through,
        journal.boots,
        journal.configuration_hash,
        journal._removing_through,
        journal._declare,
        journal._declare_seq,
    ) = struct.unpack(STATE, state[:-2])[2:]
    journal._state_stored = journal.stored_through


def _check_last_segment(journal, repaired):
    # Cut the last segment off behind its last good record. Whole records that are damaged may have been read by
    # somebody before: their numbers are not used again.
    if not journal._segments:
        return
    first, number = journal._segments[-1]
    good = _count_good(journal, first, number)
    if good < number:
        repaired.append("%d damaged records at seq %d cut off" % (number - good, first + good))
    if good < number or journal._os.stat(journal._path("%08x" % first))[6] != good * SIZE:
        _cut(journal, first, good)
    journal._segments[-1][1] = good
    if good < number:
        pending = journal._declare if journal._declare_seq >= first + good else 0
        journal._begin_segment(first + number)
        journal._intend_removal(journal._removing_through, pending + number - good, first + number)


def _count_good(journal, first, number):
    with journal._open(journal._path("%08x" % first), "rb") as file:
        chunk = b""
        for i in range(number):
            at = i * SIZE % _CHUNK
            if at == 0:
                chunk = file.read(_CHUNK)
            try:
                if decode(chunk, at).seq != first + i:
                    return i
            except ValueError:
                return i
    return number


def _cut(journal, first, number):
    name = "%08x" % first
    with journal._open(journal._path(name), "rb") as source, journal._open(journal._path("cut.new"), "wb") as target:
        left = number * SIZE
        while left > 0:
            chunk = source.read(min(left, _CHUNK))
            target.write(chunk)
            left -= len(chunk)
    journal._os.rename(journal._path("cut.new"), journal._path(name))


def _find_ends(journal):
    journal.next_seq = max(journal.stored_through, journal._removing_through) + 1
    if journal._segments:
        first, number = journal._segments[-1]
        if first + number < journal.next_seq:  # records that are gone were read by somebody: skip their numbers
            journal._begin_segment(journal.next_seq)
        journal.next_seq = max(journal.next_seq, first + number)
    journal._find_first()


def _is_hex(text):
    # text: bytes
    return all(character in b"0123456789abcdef" for character in text)
