"""A firmware image: all modules of the application in one signed file.

    magic "TRF1" | header length u16 | bytecode u8 | version 3 x u8 | replaces 3 x u8 | number of files u8
    per file: length of its name u8, name, size u32, SHA-256        (all little-endian)
    files, in the table's order
    signature: RSA PKCS#1 v1.5 with SHA-256 over the header

This is the office's reading of the format, on the `cryptography` library; the board's own is firmware/image.py, and the
tests hold one against the other.
"""

from __future__ import annotations

import ast
import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from station_config.errors import ImageRefused, StationConfigError
from station_config.flash import BYTECODE, compile_firmware, firmware_folder

MAGIC = b"TRF1"
MAX_SIZE = 131_072  # what a board takes (firmware/files.py)
Version = tuple[int, int, int]
NO_VERSION: Version = (0, 0, 0)

_HEAD = struct.Struct("<4sHB3B3BB")


@dataclass(frozen=True)
class ImageFile:
    """One module of an image."""

    name: str
    size: int
    sha256: bytes


@dataclass(frozen=True)
class Image:
    """What an image says of itself."""

    bytecode: int
    version: Version
    replaces: Version  # (0, 0, 0): only older versions
    files: tuple[ImageFile, ...]
    sha256: str  # of the whole file


def build(key: rsa.RSAPrivateKey, replaces: Version = NO_VERSION, folder: Path | None = None) -> bytes:
    """Return a signed image of the firmware in a folder (the installed one by default).

    replaces: the one version it may replace although it is not newer. Raises StationConfigError.
    """
    modules = compile_firmware(folder)
    version = source_version(folder)
    table = b"".join(
        struct.pack("B", len(name)) + name.encode() + struct.pack("<I", len(data)) + hashlib.sha256(data).digest()
        for name, data in modules.items()
    )
    length = _HEAD.size + len(table)
    header = _HEAD.pack(MAGIC, length, BYTECODE, *version, *replaces, len(modules)) + table
    image = header + b"".join(modules.values()) + key.sign(header, padding.PKCS1v15(), hashes.SHA256())
    if len(image) > MAX_SIZE:
        raise StationConfigError(f"the image has {len(image)} bytes, a board takes {MAX_SIZE}")
    return image


def verify(image: bytes, keys: Iterable[rsa.RSAPublicKey]) -> Image:
    """Return what an image says of itself, after checking all of it. Raises ImageRefused."""
    header, about = _parse(image)
    start = len(header)
    for file in about.files:
        if hashlib.sha256(image[start : start + file.size]).digest() != file.sha256:
            raise ImageRefused(f"{file.name} is damaged")
        start += file.size
    if not any(_is_signed(header, image[start:], key) for key in keys):
        raise ImageRefused("none of these keys has signed it")
    return about


def summary(image: bytes) -> Image:
    """Return what an image says of itself; its signature is for a board to check. Raises ImageRefused."""
    return _parse(image)[1]


def source_version(folder: Path | None = None) -> Version:
    """Return VERSION of the firmware's source. Raises StationConfigError."""
    path = (folder or firmware_folder()) / "version.py"
    try:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "VERSION":
                return parse_version(".".join(map(str, ast.literal_eval(node.value))))
    except (OSError, SyntaxError, ValueError, TypeError) as error:
        raise StationConfigError(f"{path}: cannot be read: {error}") from None
    raise StationConfigError(f"{path}: says no VERSION")


def parse_version(text: str) -> Version:
    """Return 0.2.1 as three numbers. Raises ValueError."""
    major, minor, patch = (int(part) for part in text.split("."))
    if not all(0 <= part <= 255 for part in (major, minor, patch)) or minor > 99 or patch > 99:
        raise ValueError(f"version {text}: minor and patch go to 99, major to 255")
    return major, minor, patch


def _parse(image: bytes) -> tuple[bytes, Image]:
    try:
        magic, length, bytecode, *versions, number = _HEAD.unpack_from(image)
        if magic != MAGIC:
            raise ImageRefused("not a firmware image")
        files, at = [], _HEAD.size
        for _ in range(number):
            end = at + 1 + image[at]
            size, digest = struct.unpack_from("<I32s", image, end)
            files.append(ImageFile(image[at + 1 : end].decode("ascii"), size, digest))
            at = end + 36
    except (struct.error, IndexError, UnicodeDecodeError):
        raise ImageRefused("it is cut off or not a firmware image") from None
    if at != length:
        raise ImageRefused("its table of files is damaged")
    version, replaces = tuple(versions[:3]), tuple(versions[3:])
    return image[:at], Image(bytecode, version, replaces, tuple(files), hashlib.sha256(image).hexdigest())


def _is_signed(header: bytes, signature: bytes, key: rsa.RSAPublicKey) -> bool:
    try:
        key.verify(signature, header, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True
