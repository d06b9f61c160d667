"""A file system whose power can be cut at any operation: what littlefs promises, and the less that others do.

It stands for `os` and `open` of a board. A file's bytes are safe once flush or close has returned; names change in one
step. With `torn` a cut in the middle of a flush leaves a part of what was being written, which littlefs would not.
"""

import errno


class PowerCut(Exception):
    """The power went at this operation; only what is in `files` is left."""


class Flash:
    def __init__(self):
        self.files = {}
        self.folders = set()
        self.cut_at = None  # the operation before which the power goes
        self.torn = False
        self.full = False  # writes find no room
        self.operations = 0
        self.blocks_free = 1 << 20

    def power_on(self):
        self.cut_at = None
        self.operations = 0

    def changes(self, torn_change=None):
        self.operations += 1
        if self.cut_at is not None and self.operations >= self.cut_at:
            if self.torn and torn_change:
                torn_change()
            raise PowerCut

    # os

    def mkdir(self, path):
        self.changes()
        self.folders.add(path)

    def listdir(self, path):
        return [name[len(path) + 1 :] for name in self.files if name.startswith(path + "/")]

    def ilistdir(self, path):
        return [(name, 0x8000, 0, len(self.files[path + "/" + name])) for name in self.listdir(path)]

    def stat(self, path):
        if path in self.folders:
            return (0,) * 10
        if path not in self.files:
            raise OSError(errno.ENOENT, path)
        return (0, 0, 0, 0, 0, 0, len(self.files[path]), 0, 0, 0)

    def statvfs(self, path):
        return (4096, 4096, 1 << 20, self.blocks_free, self.blocks_free)

    def remove(self, path):
        if path not in self.files:
            raise OSError(errno.ENOENT, path)
        self.changes()
        del self.files[path]

    def rename(self, old, new):
        self.changes()
        self.files[new] = self.files.pop(old)

    # open

    def open(self, path, mode):
        if mode == "rb":
            if path not in self.files:
                raise OSError(errno.ENOENT, path)
            return _Reader(self.files[path])
        self.changes()
        if mode == "wb" or path not in self.files:
            self.files[path] = b""
        return _Writer(self, path)


class _Reader:
    def __init__(self, data):
        self._data = data
        self._at = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def seek(self, at):
        self._at = at

    def read(self, size):
        chunk = self._data[self._at : self._at + size]
        self._at += len(chunk)
        return chunk

    def readinto(self, buffer):
        chunk = self.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


class _Writer:
    def __init__(self, flash, path):
        self._flash = flash
        self._path = path
        self._pending = b""

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.close()

    def write(self, data):
        self._pending += bytes(data)
        return len(data)

    def flush(self):
        if not self._pending:
            return
        if self._flash.full:
            self._pending = b""
            raise OSError(errno.ENOSPC, "no room")
        self._flash.changes(lambda: self._keep(len(self._pending) * 2 // 3))
        self._keep(len(self._pending))

    def _keep(self, size):
        self._flash.files[self._path] += self._pending[:size]
        self._pending = b""

    def close(self):
        self.flush()
