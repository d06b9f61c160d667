# The journal: every record of the station in the order it was made, in a ring of segment files on flash.
#
#   id          the journal's random 32-bit id in 8 hex digits, made once when the folder is first used
#   0000001f    a segment: records end to end, named by the seq of its first one in hex. A record's place is
#               (seq - first) * 18, so reading needs no index and no decoding.
#   state       replaced whole (written beside, then renamed): what may be lost without harm, and the removal under way
#
# A record counts once flush has returned, which on littlefs is an atomic sync. No seq is ever given twice: what damaged
# bytes once stood for is skipped and declared, never used again.
# Removing the oldest segment takes three steps: the intention (state), the record that declares what was never sent,
# the removal. A power cut after any of them is finished at the next start or the next append.
import os
import struct

from firmware.errors import JournalError
from firmware.record import EVENT_CONFIGURATION, EVENT_OVERWRITTEN, NOT_EVALUATED, SIZE, Record, crc16, decode, encode

_STATE = "<4sIIIIIII"
_STATE_MAGIC = b"TRS1"
_CHUNK = 14 * SIZE
_LEAST_SEGMENTS = 3
_RESERVE = 65536  # bytes of flash the journal leaves to everybody else


class Journal:
    # folder           exists or is made by open()
    # segment_records  records per segment; files made under another setting stay readable
    # max_bytes        of all segments together
    # random_bytes     os.urandom: makes the id
    # files, open_file  the flash: os and open, or a test's
    def __init__(self, folder, segment_records, max_bytes, random_bytes, files=os, open_file=open):
        self.id = 0  # until open() succeeded
        self.first_seq = 1
        self.next_seq = 1
        self.stored_through = 0
        self.boots = 0
        self.configuration_hash = 0
        self._folder = folder
        self._segment_records = segment_records
        self._max_bytes = max(max_bytes, _LEAST_SEGMENTS * segment_records * SIZE)
        self._random_bytes = random_bytes
        self._os = files
        self._open = open_file
        self._segments = []  # [first seq, number of records], oldest first
        self._file = None  # the last segment, open for appending
        self._state_stored = 0  # stored_through as the state file has it
        self._removing_through = 0
        self._declare = 0  # how many records the event of the removal names
        self._declare_seq = 0  # the seq that event has or will have

    # Start

    def open(self):
        # Find everything again: the directory, the sizes, the last segment. Returns what was repaired, in words.
        repaired: list[str] = []
        if not self._exists():
            self._os.mkdir(self._folder)
        self._segments = self._find_segments()
        self._fit_flash()
        self._load_state(self._load_id(repaired))
        self._check_last_segment(repaired)
        self._find_ends()
        self._finish_removal()
        return repaired

    def _find_segments(self):
        # One pass over the folder gives the sizes too: littlefs would go through all of it again for each name asked.
        segments = []
        unfinished = []
        for entry in self._os.ilistdir(self._folder):
            name, size = entry[0], entry[3]
            if name.endswith(".new"):
                unfinished.append(name)
            elif len(name) == 8 and _is_hex(name.encode()):
                segments.append([int(name, 16), size // SIZE])
        for name in unfinished:
            self._os.remove(self._path(name))  # a replacement that was not finished: the old file stands
        segments.sort()
        for i in range(len(segments) - 1):  # what stands behind the next segment's first record was cut off
            segments[i][1] = min(segments[i][1], segments[i + 1][0] - segments[i][0])
        return segments

    def _fit_flash(self):
        # Never plan for more than the flash has. A segment takes whole blocks, and a reserve stays for everything else.
        block, _, _, free = self._os.statvfs(self._folder)[:4]
        segment = self._segment_records * SIZE
        blocks = segment // block + 1
        own = sum([number * SIZE // block + 1 for _, number in self._segments])
        fitting = max(0, (free + own) - _RESERVE // block) // blocks
        self._max_bytes = max(_LEAST_SEGMENTS * segment, min(self._max_bytes, fitting * segment))

    def _load_id(self, repaired):
        # Returns the state file's bytes if they belong to this journal. It names the id too, if the id file is damaged.
        state = self._read_small("state")
        if len(state) != struct.calcsize(_STATE) + 2 or crc16(state) != 0 or state[:4] != _STATE_MAGIC:
            state = b""
        text = self._read_small("id")
        if len(text) == 8 and _is_hex(text):
            self.id = int(str(text, "ascii"), 16)
            return state if state and struct.unpack_from("<I", state, 4)[0] == self.id else b""
        self.id = struct.unpack("<I", state[4:8] if state else self._random_bytes(4))[0] or 1
        if self._segments:
            repaired.append("the journal's id was unreadable and is now %08x" % self.id)
        self._replace("id", b"%08x" % self.id)
        return state

    def _load_state(self, state):
        if not state:
            return
        (
            self.stored_through,
            self.boots,
            self.configuration_hash,
            self._removing_through,
            self._declare,
            self._declare_seq,
        ) = struct.unpack(_STATE, state[:-2])[2:]
        self._state_stored = self.stored_through

    def _save_state(self):
        raw = struct.pack(
            _STATE,
            _STATE_MAGIC,
            self.id,
            self.stored_through,
            self.boots,
            self.configuration_hash,
            self._removing_through,
            self._declare,
            self._declare_seq,
        )
        self._replace("state", raw + struct.pack("<H", crc16(raw)))
        self._state_stored = self.stored_through

    def _check_last_segment(self, repaired):
        # Cut the last segment off behind its last good record. Whole records that are damaged may have been read by
        # somebody before: their numbers are not used again.
        if not self._segments:
            return
        first, number = self._segments[-1]
        good = self._count_good(first, number)
        if good < number:
            repaired.append("%d damaged records at seq %d cut off" % (number - good, first + good))
        if good < number or self._os.stat(self._path("%08x" % first))[6] != good * SIZE:
            self._cut(first, good)
        self._segments[-1][1] = good
        if good < number:
            pending = self._declare if self._declare_seq >= first + good else 0
            self._begin_segment(first + number)
            self._intend_removal(self._removing_through, pending + number - good, first + number)

    def _begin_segment(self, first):
        # The next record starts a file of its own. An empty one that stood there before gives way.
        if self._segments and not self._segments[-1][1]:
            name = "%08x" % self._segments.pop()[0]
            if self._exists(name):
                self._os.remove(self._path(name))
        self._segments.append([first, 0])

    def _count_good(self, first, number):
        with self._open(self._path("%08x" % first), "rb") as file:
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

    def _cut(self, first, number):
        name = "%08x" % first
        with self._open(self._path(name), "rb") as source, self._open(self._path("cut.new"), "wb") as target:
            left = number * SIZE
            while left > 0:
                chunk = source.read(min(left, _CHUNK))
                target.write(chunk)
                left -= len(chunk)
        self._os.rename(self._path("cut.new"), self._path(name))

    def _find_ends(self):
        self.next_seq = max(self.stored_through, self._removing_through) + 1
        if self._segments:
            first, number = self._segments[-1]
            if first + number < self.next_seq:  # records that are gone were read by somebody: skip their numbers
                self._begin_segment(self.next_seq)
            self.next_seq = max(self.next_seq, first + number)
        self._find_first()

    def _find_first(self):
        self.first_seq = self.next_seq
        for first, number in self._segments:
            if number:
                self.first_seq = first
                return

    # Append

    def append(self, entries):
        # Store records (time, count, sensor, parameter, flag), all with one sync where they fit one segment; returns
        # the first one's seq. When this returns they are durable. Raises JournalError when they could not be stored.
        entries = left = list(entries)
        try:
            if not self.id:
                self.open()
            self._make_room(entries[0][0])
            first_seq = self.next_seq
            while left:
                room = self._segment_records - self._last_number()
                if room <= 0:
                    self._start_segment(left[0][0])
                    continue
                self._write(left[:room])
                left = left[room:]
        except OSError as error:
            self._recover()
            raise JournalError("flash: %s; %d records not stored" % (error, len(left)), len(entries) - len(left))
        self._keep_configuration(entries)
        return first_seq

    def _write(self, entries):
        seq = self.next_seq
        raw = b"".join([encode(Record(seq + i, *entry)) for i, entry in enumerate(entries)])
        if self._file is None:
            if not self._segments:
                self._segments.append([seq, 0])
            self._file = self._open(self._path("%08x" % self._segments[-1][0]), "ab")
        self._file.write(raw)
        self._file.flush()
        self._segments[-1][1] += len(entries)
        self.next_seq = seq + len(entries)
        self._find_first()

    def _start_segment(self, time):
        self._close()
        self._begin_segment(self.next_seq)
        self._make_room(time)

    def _last_number(self):
        return self._segments[-1][1] if self._segments else 0

    def _close(self):
        if self._file is not None:
            self._file.close()
            self._file = None

    def _recover(self):
        # After a failed write the file is what the last sync made it; look what that is.
        try:
            self._close()
        except OSError:
            self._file = None
        try:
            self._segments = self._find_segments()
            self._check_last_segment([])
            self._find_ends()
        except OSError as error:
            raise JournalError("flash: %s; the journal cannot be read" % error)

    # The ring

    def _make_room(self, time):
        # Finish a removal that was begun, then begin one if a new segment stands and the ring is full.
        self._finish_removal(time)
        if self._last_number():
            return
        through, unsent = self._oldest_to_remove()
        if through:
            self._intend_removal(through, unsent, self.next_seq)
            self._finish_removal(time)

    def _oldest_to_remove(self):
        # (last seq of the segments that must go, how many of their records nobody has). A segment being filled and one
        # in reserve must fit beside those that stay.
        room = self._max_bytes // SIZE - 2 * self._segment_records
        held = sum([number for _, number in self._segments])
        through = unsent = 0
        for first, number in self._segments[:-1]:
            if held <= room:
                break
            held -= number
            through = first + number - 1
            unsent += max(0, min(number, through - self.stored_through))
        return through, unsent

    def _intend_removal(self, through, unsent, seq):
        # An intention that is not on flash is none: acted upon, it would be declared again after a power cut.
        before = self._removing_through, self._declare, self._declare_seq
        self._removing_through, self._declare, self._declare_seq = through, unsent, seq
        try:
            self._save_state()
        except OSError:
            self._removing_through, self._declare, self._declare_seq = before
            raise

    def _finish_removal(self, time=None):
        # The declaring record needs a time, so at the start it waits for the first append.
        if self._declare and self.next_seq <= self._declare_seq:
            if time is None:
                return
            self._write([(time, self._declare, 0, EVENT_OVERWRITTEN, NOT_EVALUATED)])
        while self._segments and 0 < self._segments[0][0] + self._segments[0][1] - 1 <= self._removing_through:
            if len(self._segments) == 1:
                break
            self._os.remove(self._path("%08x" % self._segments[0][0]))
            self._segments.pop(0)
        self._find_first()

    # Read and acknowledge

    def read_into(self, buffer, from_seq, max_records):
        # Put up to max_records records into buffer, end to end as they lie on flash; returns how many. Starts at
        # first_seq when from_seq is older than that, and at the next record there is when from_seq was skipped.
        view = memoryview(buffer)
        done = 0
        for first, number in self._segments:
            skip = max(0, from_seq - first)
            wanted = min(number - skip, max_records - done)
            if wanted <= 0:
                continue
            with self._open(self._path("%08x" % first), "rb") as file:
                file.seek(skip * SIZE)
                file.readinto(view[done * SIZE : (done + wanted) * SIZE])
            done += wanted
            if done == max_records:
                break
        return done

    def read(self, from_seq, max_records):
        # The same as bytes.
        buffer = bytearray(max_records * SIZE)
        return bytes(memoryview(buffer)[: self.read_into(buffer, from_seq, max_records) * SIZE])

    def acknowledge(self, seq):
        # Everything up to seq is stored elsewhere. Goes forward only, never beyond what exists. Written to flash
        # seldom: after a power cut an older mark costs nothing but records sent twice.
        self.stored_through = max(self.stored_through, min(seq, self.next_seq - 1))
        if self.stored_through - self._state_stored >= self._segment_records:
            self._save_state()

    def start_boot(self, configuration_hash):
        # Count this start. Returns (its number, whether the configuration is another than the one an event last told).
        self.boots += 1
        self._save_state()
        return self.boots, configuration_hash != self.configuration_hash

    def _keep_configuration(self, entries):
        # The configuration counts as told once its event is stored.
        told = [entry[1] for entry in entries if entry[3] == EVENT_CONFIGURATION]
        if not told:
            return
        self.configuration_hash = told[-1]
        try:
            self._save_state()
        except OSError:
            pass  # the records are stored; at worst the next start tells it again

    # Files

    def _path(self, name):
        return self._folder + "/" + name if name else self._folder

    def _exists(self, name=""):
        try:
            self._os.stat(self._path(name))
        except OSError:
            return False
        return True

    def _read_small(self, name):
        try:
            with self._open(self._path(name), "rb") as file:
                return file.read(64)
        except OSError:
            return b""

    def _replace(self, name, raw):
        with self._open(self._path(name + ".new"), "wb") as file:
            file.write(raw)
        self._os.rename(self._path(name + ".new"), self._path(name))


def _is_hex(text):
    # text: bytes
    return all(character in b"0123456789abcdef" for character in text)
