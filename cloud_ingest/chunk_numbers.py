"""A column of whole numbers as bytes, and back: part of a chunk (chunks.py). Pure."""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_ingest.columns import Ints
from cloud_ingest.errors import ChunkDamaged

Words = npt.NDArray[np.uint64]
_I64 = struct.Struct("<q")


class Kind(IntEnum):
    """How a column is written."""

    CONSTANT = 1
    RISING = 2
    DIFFERENCES = 3
    DECIMAL = 4
    FITTED = 5
    BITS = 6


def packed_numbers(column: Ints) -> tuple[Kind, bytes]:
    """Return how a column (at least one number) is written, and its bytes."""
    words = column.view(np.uint64)
    steps = words[1:] - words[:-1]
    if not len(steps) or not steps.any():
        return Kind.CONSTANT, signed(int(column[0]))
    if (steps == steps[0]).all():
        return Kind.RISING, _I64.pack(column[0]) + signed(int(steps[:1].view(np.int64)[0]))
    lowest = column.min()
    ways: list[tuple[int, list[int], Words]] = [
        (0, [int(lowest)], words - lowest.view(np.uint64)),
        (1, [int(column[0])], folded(steps)),
        (2, [int(column[0]), int(steps[:1].view(np.int64)[0])], folded(steps[1:] - steps[:-1])),
    ]
    order, heads, words = min(ways, key=lambda way: float(np.log2(way[2] + 1.0).sum()))
    width = max(1, (int(words.max()).bit_length() + 7) // 8)
    planes = words.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width].T.tobytes()
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15, 9, zlib.Z_FILTERED)
    stream = deflate.compress(planes) + deflate.flush()
    return Kind.DIFFERENCES, bytes([order, width]) + b"".join(_I64.pack(one) for one in heads) + stream


def unpacked_numbers(number: int, kind: int, content: bytes) -> Ints:
    """Return so many numbers. Raises ChunkDamaged, and what comes of bytes that nobody packed."""
    if kind == Kind.CONSTANT:
        return np.full(number, int.from_bytes(content, "little", signed=True), np.int64)
    if kind == Kind.RISING:
        (first,), step = _I64.unpack_from(content), int.from_bytes(content[8:], "little", signed=True)
        return np.arange(number) * np.int64(step) + np.int64(first)
    if kind != Kind.DIFFERENCES:
        raise ChunkDamaged(f"a chunk of observations has a column of kind {kind}")
    order, width = content[0], content[1]
    heads = [_I64.unpack_from(content, 2 + 8 * at)[0] for at in range(max(order, 1))]
    words = _joined(content[2 + 8 * len(heads) :], number - order, width)
    if order == 0:
        return (words.astype(np.uint64) + np.array(heads).view(np.uint64)).view(np.int64)
    column = _unfolded(words)
    for head in reversed(heads):
        column = _summed(column, head)
    return column


def _joined(stream: bytes, number: int, width: int) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Return the numbers whose bytes a stream has, all lowest bytes first, then all next ones; as wide as need be."""
    inflate = zlib.decompressobj(-15)
    planes = inflate.decompress(stream, number * width + 1)
    if len(planes) != number * width:
        raise ChunkDamaged("a chunk of observations has a column of another length")
    if width == 1:
        return np.frombuffer(planes, np.uint8)
    size = 2 if width == 2 else 4 if width <= 4 else 8
    found = np.zeros((number, size), np.uint8)
    found[:, :width] = np.frombuffer(planes, np.uint8).reshape(width, number).T
    return found.view(f"<u{size}").reshape(number)


def _unfolded(words: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[np.signedinteger[Any]]:
    """Return the signed numbers that folded put the sign of into the lowest bit."""
    one = words.dtype.type(1)
    signed: npt.NDArray[np.signedinteger[Any]] = ((words >> one) ^ (~(words & one) + one)).view(f"<i{words.itemsize}")
    return signed


def folded(differences: Words) -> Words:
    """Return signed numbers with the sign as the lowest bit, so that small ones of either sign are small."""
    signed = differences.view(np.int64)
    return ((signed << 1) ^ (signed >> 63)).view(np.uint64)


def _summed(steps: npt.NDArray[np.signedinteger[Any]], first: int) -> Ints:
    sums = np.empty(len(steps) + 1, np.int64)
    sums[0], sums[1:] = first, steps
    return np.cumsum(sums, out=sums)


def signed(number: int) -> bytes:
    """Return a number in as few bytes as it needs."""
    return number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)


def length_of(number: int) -> bytes:
    """Return a length, 7 bits a byte, low first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def read_length(chunk: bytes, at: int) -> tuple[int, int]:
    """Return the length that begins at a byte, and where it ends. Raises IndexError."""
    length, shift = 0, 0
    while chunk[at] & 0x80:
        length |= (chunk[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return length | chunk[at] << shift, at + 1
