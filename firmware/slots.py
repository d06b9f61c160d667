# The application's side of the loader's state (firmware.loader says what is in it): set up a candidate, confirm it, or
# give it up. The loader is a file of its own that no update changes, so the format is written down in both.
import hashlib
import os

STATE = "/slots"
_APPLIED, _ROLLED_BACK, _NOTHING = "A", "R", "-"


class Slots:
    # running: the slot this application was imported from, or None where that is not known (on a computer)
    def __init__(self, running, path=STATE, files=os, open_file=open):
        self.running = running
        self._path = path
        self._os = files
        self._open = open_file
        self.active, self.candidate, self.starts, self.outcome = self._read()

    def spare(self):
        # The slot that may be written: never the one that runs.
        return "b" if self.running == "a" else "a"

    def on_trial(self):
        return self.candidate != "-" and self.candidate == self.running

    def propose(self):
        self._write(self.running, self.spare(), "0", _NOTHING)

    def confirm(self):
        self._write(self.running, "-", "0", _APPLIED)

    def give_up(self):
        # Back to the slot that was active; or, when that could not be imported, to the one that runs.
        self._write(self.active if self.on_trial() else self.running, "-", "0", _ROLLED_BACK)

    def told(self):
        # What became of the last update stands in the journal now.
        self._write(self.active, self.candidate, self.starts, _NOTHING)

    def _read(self):
        try:
            with self._open(self._path, "rb") as file:
                raw = file.read(16)
            if raw == _seal(raw[:4]) and max(raw[:4]) < 128:
                return raw[:4].decode()
        except (OSError, ValueError):
            pass
        return "a-0-"

    def _write(self, active, candidate, starts, outcome):
        with self._open(self._path + ".new", "wb") as file:
            file.write(_seal((active + candidate + starts + outcome).encode()))
        self._os.rename(self._path + ".new", self._path)
        self.active, self.candidate, self.starts, self.outcome = active, candidate, starts, outcome


def _seal(raw):
    return raw + hashlib.sha256(raw).digest()[:4]
