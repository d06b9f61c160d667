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

from firmware import lazy
from firmware.errors import JournalError
from firmware.record import (
    CLOCK_UNSET_BELOW,
    EVENT_CONFIGURATION,
    EVENT_OVERWRITTEN,
    NOT_EVALUATED,
    SIZE,
    Record,
    crc16,
    decode,
    encode,
)

STATE = "<4sIIIIIII"
STATE_MAGIC = b"TRS1"
LEAST_SEGMENTS = 3


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
        self._max_bytes = max(max_bytes, LEAST_SEGMENTS * segment_records * SIZE)
        self._random_bytes = random_bytes
        self._os = files
        self._open = open_file
        self._segments = []  # [first seq, number of records], oldest first
        self._file = None  # the last segment, open for appending
        self._in_doubt = False  # a write has failed, and what is there has not been seen since
        self._state_stored = 0  # stored_through as the state file has it
        self._removing_through = 0
        self._declare = 0  # how many records the event of the removal names
        self._declare_seq = 0  # the seq that event has or will have

    # Start

    def open(self):
        # Find everything again: the directory, the sizes, the last segment. Returns what was repaired, in words.
        repaired = lazy.borrow("recovery").open_journal(self)
        self._finish_removal()
        return repaired

    def _save_state(self):
        raw = struct.pack(
            STATE,
            STATE_MAGIC,
            self.id,
            self.stored_through,
            self.boots,
            self.configuration_hash,
            self._removing_through,
            self._declare,
            self._declare_seq,
        )
        self._write_whole("state", raw + struct.pack("<H", crc16(raw)))
        self._state_stored = self.stored_through

    def _begin_segment(self, first):
        # The next record starts a file of its own. An empty one that stood there before gives way.
        if self._segments and not self._segments[-1][1]:
            name = "%08x" % self._segments.pop()[0]
            if self._exists(name):
                self._os.remove(self._path(name))
        self._segments.append([first, 0])

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
        left = entries
        try:
            if not self.id:
                self.open()
            if self._in_doubt:
                self._recover()
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
        raw = bytearray(len(entries) * SIZE)
        for i, entry in enumerate(entries):
            raw[i * SIZE : (i + 1) * SIZE] = encode(Record(seq + i, *entry))
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
        # After a failed write the file is what the last sync made it; look what that is. Until that has been seen
        # nothing is appended.
        self._in_doubt = True
        try:
            self._close()
        except OSError:
            self._file = None
        try:
            lazy.borrow("recovery").look_again(self)
        except (OSError, ImportError) as error:
            raise JournalError("flash: %s; the journal cannot be read" % error)
        self._in_doubt = False

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

    def newest_time(self):
        # Unix seconds of the newest record, or None when there is none or its clock was not set.
        raw = self.read(self.next_seq - 1, 1)
        time = decode(raw).time if raw else 0
        return time if time >= CLOCK_UNSET_BELOW else None

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

    def _write_whole(self, name, raw):
        with self._open(self._path(name + ".new"), "wb") as file:
            file.write(raw)
        self._os.rename(self._path(name + ".new"), self._path(name))
