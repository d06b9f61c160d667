# A configuration that came over the uplink, until it has shown that the station can be reached with it.
#
#   /candidate.json    tried at the next starts instead of /station.json, which stays as it is meanwhile
#   /candidate.starts  how many starts it has had, replaced whole
#
# It becomes /station.json by a rename, or is removed: when the board finds a fault in it, after _TRIES starts, or when
# its trial (firmware.trial) runs out.
import os

from firmware import const

_TRIES = const(3)


class Candidate:
    def __init__(self, root="", files=os, open_file=open):
        self.path = root + "/candidate.json"
        self._starts = root + "/candidate.starts"
        self._station = root + "/station.json"
        self._os = files
        self._open = open_file

    def is_there(self):
        try:
            self._os.stat(self.path)
        except OSError:
            return False
        return True

    def count_start(self):
        # Whether it may be tried once more. Raises OSError when that cannot be written down: then it is not tried.
        starts = self._count()
        if starts >= _TRIES:
            return False
        with self._open(self._starts + ".new", "wb") as file:
            file.write(b"%d" % (starts + 1))
        self._os.rename(self._starts + ".new", self._starts)
        return True

    def _count(self):
        try:
            with self._open(self._starts, "rb") as file:
                return int(file.read(4))
        except (OSError, ValueError):
            return 0

    def propose(self, path):
        # Take the file at path as the candidate.
        self._remove(self._starts)
        self._os.rename(path, self.path)

    def confirm(self):
        self._os.rename(self.path, self._station)
        self._remove(self._starts)

    def give_up(self):
        self._remove(self.path)
        self._remove(self._starts)

    def _remove(self, path):
        try:
            self._os.remove(path)
        except OSError:
            pass
