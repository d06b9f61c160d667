# A staged firmware image into the spare slot. The slot that runs is not touched, and a slot whose main.mpy is missing
# cannot be started: that one goes first and comes back last, so a power cut on the way leaves nothing half new.
import hashlib
import os

from firmware import const, lazy
from firmware.errors import CommandRefused, ImageRefused

KEYS = "/update_keys"
BYTECODE = 6  # what MicroPython since 1.19 loads
_CHUNK = const(512)
_LONGEST_SIGNATURE = const(384)
_MARGIN = const(16384)  # bytes of flash that stay free


class Updater:
    # running: the version that runs, three numbers. rest: awaited between two chunks, so that the station goes on.
    def __init__(self, slots, running, rest, root="", files=os, open_file=open):
        self._slots = slots
        self._running = running
        self._rest = rest
        self._root = root
        self._os = files
        self._open = open_file
        self._format = lazy.borrow("image")

    async def apply(self, path):
        # Check the image at path, unpack it, propose it to the loader. Raises CommandRefused and OSError.
        with self._open(path, "rb") as file:
            image = self.check(file)
            await self._check_files(file, image)
            await self._unpack(file, image)
        self._slots.propose()
        return image.version

    def check(self, file):
        # Everything but the files themselves; leaves the file at the first of them.
        header = self._format.read_header(file)
        image = self._format.parse_header(header)
        file.seek(len(header) + sum([entry.size for entry in image.files]))
        signature = file.read(_LONGEST_SIGNATURE + 1)
        if not self._format.is_signed(header, signature, self._keys()):
            raise CommandRefused("bad signature", "image refused: none of this board's keys has signed it")
        if image.bytecode != BYTECODE:
            raise CommandRefused("other bytecode", "image refused: made for another MicroPython")
        if not self._format.may_replace(image, self._running):
            raise CommandRefused("not newer", "image refused: version %d.%d.%d is not newer" % image.version)
        file.seek(len(header))
        return image

    def _keys(self):
        try:
            with self._open(self._root + KEYS, "rb") as file:
                moduli = self._format.parse_keys(file.read(4096))
        except OSError:
            moduli = []
        if not moduli:
            raise CommandRefused("no key", "image refused: this board has no key; flash it with one")
        return moduli

    async def _check_files(self, file, image):
        # Leaves the file where it found it.
        start = file.tell()
        for entry in image.files:
            if await self._copy(file, entry, None) != entry.sha256:
                raise ImageRefused("%s is damaged" % entry.name)
        file.seek(start)

    async def _unpack(self, file, image):
        folder = "%s/%s/firmware" % (self._root, self._slots.spare())
        self._clear(folder)
        block, _, _, free = self._os.statvfs(self._root + "/")[:4]
        # littlefs keeps a few bytes of each block for itself
        if sum([entry.size // (block - 8) + 1 for entry in image.files]) + _MARGIN // block > free:
            raise CommandRefused("flash full", "no room on the flash for the new firmware")
        for entry in image.files:
            path = folder + "/" + entry.name
            with self._open(path + ".new" if entry.name == "main.mpy" else path, "wb") as target:
                await self._copy(file, entry, target)
        for entry in image.files:
            await self._verify(folder, entry)
        with self._open("%s/%s/version" % (self._root, self._slots.spare()), "w") as target:
            target.write("%d.%d.%d" % image.version)
        self._os.rename(folder + "/main.mpy.new", folder + "/main.mpy")

    async def _verify(self, folder, entry):
        path = folder + "/" + entry.name
        with self._open(path + ".new" if entry.name == "main.mpy" else path, "rb") as written:
            if await self._copy(written, entry, None) != entry.sha256:
                raise OSError("%s reads back differently" % path)

    async def _copy(self, source, entry, target):
        # The next entry.size bytes, to target if there is one; returns their SHA-256.
        digest = hashlib.sha256()
        left = entry.size
        while left > 0:
            chunk = source.read(min(left, _CHUNK))
            if not chunk:
                break
            digest.update(chunk)
            if target is not None:
                target.write(chunk)
            left -= len(chunk)
            await self._rest()
        return digest.digest()

    def _clear(self, folder):
        for path in (folder.rsplit("/", 1)[0], folder):
            try:
                self._os.mkdir(path)
            except OSError:
                pass
        names = self._os.listdir(folder)
        for name in ["main.mpy"] * ("main.mpy" in names) + [name for name in names if name != "main.mpy"]:
            self._os.remove(folder + "/" + name)
