# Files over the uplink: FC 20 reads, FC 21 writes. A record is one register, so record n is byte 2n; the last byte of
# an odd file stands before a NUL. Numbers beyond 9999 are used, up to 65535.
#
# Files 3 and 5 are staged here, in /staged, and nothing happens to the station until a command says so. First their
# description is written (file 100 + n: length, SHA-256), then their chunks in order; each is on flash before it is
# answered. The same chunk again changes nothing. Reading the description tells how many bytes are held, so a transfer
# that broke off goes on from there.
import hashlib
import os
import struct

from firmware import const, rtu

DESCRIPTION = 100  # file number of a file's description: 100 + n
DESCRIPTION_SIZE = 40  # length u32, SHA-256, bytes held u32
_DECLARED_SIZE = const(36)  # of these the first two are written
_SHOWN = {1: "/station.json", 2: "/log.txt", 4: "/log.txt.old"}
STAGED = {3: 131072, 5: 32768}  # the longest each may be
_MARGIN = const(32768)  # bytes of flash that a staged file leaves free
_REFERENCE = const(6)
_CHUNK = const(512)


class Refusal(Exception):
    # code: the Modbus exception
    def __init__(self, code):
        self.code = code


class Files:
    # root: "" on a board, a folder in a test
    def __init__(self, root="", files=os, open_file=open):
        self._root = root
        self._os = files
        self._open = open_file

    # Modbus

    def answer(self, request, out):
        # Puts the answer into out; returns its length without the CRC, or minus the exception code.
        try:
            return self._read_answer(request, out) if request[1] == rtu.READ_FILE else self._write_answer(request, out)
        except Refusal as refusal:
            return -refusal.code
        except OSError:
            return -rtu.DEVICE_FAILURE

    def _read_answer(self, request, out):
        length = request[2]
        if length == 0 or length % 7:
            raise Refusal(rtu.ILLEGAL_VALUE)
        at = 3
        for i in range(3, 3 + length, 7):
            number, record, count = self._part(request, i)
            if not count or at + 2 + 2 * count > 3 + 245:
                raise Refusal(rtu.ILLEGAL_VALUE)
            data = self.read(number, 2 * record, 2 * count)
            out[at] = 2 * count + 1
            out[at + 1] = _REFERENCE
            out[at + 2 : at + 2 + 2 * count] = data + bytes(2 * count - len(data))
            at += 2 + 2 * count
        out[2] = at - 3
        return at

    def _write_answer(self, request, out):
        end = 3 + request[2]
        i = 3
        while i < end:
            number, record, count = self._part(request, i)
            if not count or i + 7 + 2 * count > end:
                raise Refusal(rtu.ILLEGAL_VALUE)
            self.write(number, 2 * record, bytes(request[i + 7 : i + 7 + 2 * count]))
            i += 7 + 2 * count
        out[2:end] = request[2:end]
        return end

    def _part(self, request, at):
        if at + 7 + 2 > len(request) or request[at] != _REFERENCE:
            raise Refusal(rtu.ILLEGAL_VALUE)
        return struct.unpack(">HHH", bytes(request[at + 1 : at + 7]))

    # Bytes

    def read(self, number, start, size):
        # Up to size bytes from start; fewer at the end.
        if number > DESCRIPTION:
            return self.description(number - DESCRIPTION)[start : start + size]
        path = self._path(number)
        if start >= self._size(path):
            raise Refusal(rtu.ILLEGAL_ADDRESS)
        with self._open(path, "rb") as file:
            file.seek(start)
            return file.read(size)

    def write(self, number, start, data):
        if number > DESCRIPTION:
            if start or len(data) < _DECLARED_SIZE:
                raise Refusal(rtu.ILLEGAL_VALUE)
            self._declare(number - DESCRIPTION, data[:_DECLARED_SIZE])
            return
        declared = self._declared(number)
        path = self._path(number)
        held = self._size(path)
        data = data[: struct.unpack(">I", declared[:4])[0] - start]
        if start > held or not data:
            raise Refusal(rtu.ILLEGAL_ADDRESS)
        self._put(path, start, data, held)

    def _put(self, path, start, data, held):
        if start == held:
            with self._open(path, "ab") as file:
                file.write(data)
            return
        with self._open(path, "r+b") as file:
            file.seek(start)
            if file.read(len(data)) != data:
                file.seek(start)
                file.write(data)

    def description(self, number):
        # length, SHA-256, held; of a staged file the length and hash it is to have.
        path = self._path(number)
        size = self._size(path)
        if number in STAGED:
            return self._declared(number) + struct.pack(">I", size)
        return struct.pack(">I", size) + self._digest(path) + struct.pack(">I", size)

    def _declared(self, number):
        if number not in STAGED:
            raise Refusal(rtu.ILLEGAL_ADDRESS)
        try:
            with self._open(self._path(number) + ".is", "rb") as file:
                declared = file.read(_DECLARED_SIZE)
        except OSError:
            declared = b""
        return declared if len(declared) == _DECLARED_SIZE else bytes(_DECLARED_SIZE)

    def _declare(self, number, declared):
        # The same again keeps what is held; anything else begins anew.
        if self._declared(number) == declared:
            return
        length = struct.unpack(">I", declared[:4])[0]
        if not 0 < length <= STAGED[number]:
            raise Refusal(rtu.ILLEGAL_VALUE)
        self.forget(number)
        block, _, _, free = self._os.statvfs(self._root + "/")[:4]
        if length + _MARGIN > block * free:
            raise Refusal(rtu.DEVICE_FAILURE)
        path = self._path(number)
        with self._open(path + ".new", "wb") as file:
            file.write(declared)
        with self._open(path, "wb"):
            pass
        self._os.rename(path + ".new", path + ".is")

    # For the commands

    def forget(self, number):
        # The description goes first: chunks without one are not taken.
        if number not in STAGED:
            raise Refusal(rtu.ILLEGAL_ADDRESS)
        try:
            self._os.mkdir(self._root + "/staged")
        except OSError:
            pass
        for end in (".is", ".new", ""):
            try:
                self._os.remove(self._path(number) + end)
            except OSError:
                pass

    def whole(self, number, begins):
        # The path of a staged file that is all here and has the hash it was declared with, which begins with these
        # 4 bytes; or None.
        declared = self._declared(number)
        path = self._path(number)
        size = self._size(path)
        if size == 0 or size != struct.unpack(">I", declared[:4])[0] or declared[4:8] != begins:
            return None
        return path if self._digest(path) == declared[4:] else None

    def _digest(self, path):
        digest = hashlib.sha256()
        try:
            with self._open(path, "rb") as file:
                while True:
                    chunk = file.read(_CHUNK)
                    if not chunk:
                        break
                    digest.update(chunk)
        except OSError:
            return bytes(32)
        return digest.digest()

    def _path(self, number):
        if number in STAGED:
            return "%s/staged/%d" % (self._root, number)
        if number not in _SHOWN:
            raise Refusal(rtu.ILLEGAL_ADDRESS)
        return self._root + _SHOWN[number]

    def _size(self, path):
        try:
            return self._os.stat(path)[6]
        except OSError:
            return 0
