# A firmware image, as tram-station image makes it: header, files end to end, signature. Pure: bytes in, answers out.
#
#   magic "TRF1" | header length u16 | bytecode u8 | version 3 x u8 | replaces 3 x u8 | number of files u8
#   per file: length of its name u8, name, size u32, SHA-256        (all little-endian)
#   files, in the table's order
#   signature: RSA PKCS#1 v1.5 with SHA-256 over the header, as long as the key (2048 or 3072 bits), exponent 65537
#
# The header names each file's hash, so the signature over the header seals everything. replaces is 0.0.0, or the one
# version this image may replace although it is not newer than that.
import hashlib
import struct
from collections import namedtuple

from firmware import const
from firmware.errors import ImageRefused

MAGIC = b"TRF1"
HEAD_SIZE = 14
MAX_HEADER = 4096
MAX_FILES = 64
SIGNATURE_SIZES = (256, 384)

Image = namedtuple("Image", ("bytecode", "version", "replaces", "files"))
File = namedtuple("File", ("name", "size", "sha256"))

_EXPONENT = const(65537)
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789_"
_SHA256_INFO = b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"


def read_header(file):
    # The image's header as bytes; the file then stands behind it. Raises ImageRefused.
    head = file.read(HEAD_SIZE)
    if len(head) < HEAD_SIZE or head[:4] != MAGIC:
        raise ImageRefused("not a firmware image")
    size = struct.unpack("<H", head[4:6])[0]
    if not HEAD_SIZE < size <= MAX_HEADER:
        raise ImageRefused("a header of %d bytes" % size)
    return head + file.read(size - HEAD_SIZE)


def parse_header(header):
    # The whole header -> Image. Raises ImageRefused.
    files = []
    at = HEAD_SIZE
    try:
        for _ in range(header[13]):
            begin = at + 1
            at = begin + header[at]
            name = str(header[begin:at], "ascii")
            if at + 36 > len(header):
                break
            size = struct.unpack("<I", header[at : at + 4])[0]
            files.append(File(name, size, bytes(header[at + 4 : at + 36])))
            at += 36
    except (IndexError, ValueError):
        raise ImageRefused("its table of files is damaged")
    if at != len(header) or len(files) != header[13]:
        raise ImageRefused("its table of files is damaged")
    names = [file.name for file in files]
    if not all(_is_module(name) for name in names) or len(set(names)) != len(names) or len(names) > MAX_FILES:
        raise ImageRefused("its files are not modules")
    if "main.mpy" not in names or "__init__.mpy" not in names:
        raise ImageRefused("there is no application in it")
    return Image(header[6], tuple(header[7:10]), tuple(header[10:13]), files)


def _is_module(name):
    stem, _, kind = name.partition(".")
    return 0 < len(stem) <= 32 and kind == "mpy" and all(letter in _LETTERS for letter in stem)


def is_signed(header, signature, moduli):
    # Whether one of the keys made this signature. What it must be is built and compared whole, never taken apart.
    size = len(signature)
    if size not in SIGNATURE_SIZES:
        return False
    info = _SHA256_INFO + hashlib.sha256(header).digest()
    wanted = b"\x00\x01" + b"\xff" * (size - len(info) - 3) + b"\x00" + info
    value = int.from_bytes(signature, "big")
    fitting = [modulus for modulus in moduli if modulus >> (8 * size - 1) == 1 and value < modulus]
    return any(pow(value, _EXPONENT, modulus).to_bytes(size, "big") == wanted for modulus in fitting)


def may_replace(image, running):
    # Newer, or made for replacing just this version. running: the version as a tuple of three.
    return image.version > running or (image.replaces == running and image.replaces != (0, 0, 0))


def parse_keys(raw):
    # /update_keys: one modulus in hex a line. Lines that are none are passed over.
    moduli = []
    for line in raw.split():
        try:
            modulus = int(line, 16)
        except ValueError:
            continue
        if len(line) // 2 in SIGNATURE_SIZES:
            moduli.append(modulus)
    return moduli
