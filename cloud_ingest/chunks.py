"""A compressed column chunk: rows of one series as bytes, and back to the same rows, bit for bit. Pure.

    u32 CRC of what follows, u8 version, u32 rows, then the columns of `Logged` in their order:
    u8 kind, length (7 bits a byte, low first), content

    CONSTANT   the number, as few bytes as it needs
    RISING     the first and what each adds: times, sequence numbers
    DIFFERENCES of order 0, 1 or 2, whichever needs the fewest bits: u8 order, u8 bytes of each, `order` first numbers
               (of order 0: the smallest), then the differences, sign in the lowest bit, their lowest bytes first, then
               their next, deflated. White noise on a slow tide is 0.9 bytes a value, and 45 us for ten thousand.
    DECIMAL    values that are whole numbers over a power of ten: u8 digits, which are NaN, the whole numbers
    FITTED     values that follow from count and time by a calibration: polynomials found by least squares, one for each
               calibration, and the differences in the last bits
    BITS       any other values: their 64 bits as numbers

All arithmetic on numbers is modulo 2**64, so no number is too large. CRC: a chunk is read whole or refused.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_ingest.columns import Floats, Ints
from cloud_ingest.errors import ChunkDamaged
from cloud_ingest.observations import Logged

VERSION = 1
COLUMNS = tuple(Logged.__dataclass_fields__)
_HEAD = struct.Struct("<IBI")
_I64 = struct.Struct("<q")
_NAN = int(np.array(np.nan).view(np.int64))
_MOST_DIGITS = 9
_MOST_FITS = 8
_FITTED_ROWS = 500  # are enough to find what all follow
_TERMS = 6  # 1, x, x², x³, t, t·x

Words = npt.NDArray[np.uint64]


class Kind(IntEnum):
    """How a column is written."""

    CONSTANT = 1
    RISING = 2
    DIFFERENCES = 3
    DECIMAL = 4
    FITTED = 5
    BITS = 6


def pack(rows: Logged) -> bytes:
    """Return rows (at least one, times ascending) as one chunk."""
    parts = [_HEAD.pack(0, VERSION, len(rows.time))[4:]]
    for name in COLUMNS:
        if name == "value":
            kind, content = _packed_values(rows)
        else:
            kind, content = _packed(getattr(rows, name).astype(np.int64))
        parts += [bytes([kind]), _length(len(content)), content]
    body = b"".join(parts)
    return struct.pack("<I", zlib.crc32(body)) + body


def unpack(chunk: bytes) -> Logged:
    """Return all columns of a chunk. Raises ChunkDamaged."""
    return Logged(**unpack_columns(chunk, COLUMNS))


def unpack_columns(chunk: bytes, wanted: Collection[str]) -> dict[str, npt.NDArray[Any]]:
    """Return some columns of a chunk, by name. Raises ChunkDamaged."""
    try:
        number, contents = _opened(chunk)
        columns: dict[str, npt.NDArray[Any]] = {}
        for name in wanted:
            if name == "value":
                columns[name] = _values(number, contents)
            else:
                column = _unpacked(number, *contents[name])
                columns[name] = column.astype(np.uint8) if name == "flag" else column
    except (struct.error, zlib.error, ValueError, IndexError, KeyError, OverflowError) as error:
        raise ChunkDamaged(f"a chunk of observations cannot be read: {error}") from None
    return columns


def _opened(chunk: bytes) -> tuple[int, dict[str, tuple[int, bytes]]]:
    """Return the number of rows, and kind and content of each column."""
    crc, version, number = _HEAD.unpack_from(chunk)
    if crc != zlib.crc32(memoryview(chunk)[4:]):
        raise ChunkDamaged("a chunk of observations is damaged: its checksum does not fit")
    if version != VERSION:
        raise ChunkDamaged(f"a chunk of observations has format {version}: install the newer program")
    at = _HEAD.size
    contents = {}
    for name in COLUMNS:
        kind, at = chunk[at], at + 1
        length, at = _read_length(chunk, at)
        contents[name] = (kind, chunk[at : at + length])
        at += length
    return number, contents


# whole numbers


def _packed(column: Ints) -> tuple[Kind, bytes]:
    words = column.view(np.uint64)
    steps = words[1:] - words[:-1]
    if not len(steps) or not steps.any():
        return Kind.CONSTANT, _signed(int(column[0]))
    if (steps == steps[0]).all():
        return Kind.RISING, _I64.pack(column[0]) + _signed(int(steps[:1].view(np.int64)[0]))
    lowest = column.min()
    ways: list[tuple[int, list[int], Words]] = [
        (0, [int(lowest)], words - lowest.view(np.uint64)),
        (1, [int(column[0])], _folded(steps)),
        (2, [int(column[0]), int(steps[:1].view(np.int64)[0])], _folded(steps[1:] - steps[:-1])),
    ]
    order, heads, words = min(ways, key=lambda way: float(np.log2(way[2] + 1.0).sum()))
    width = max(1, (int(words.max()).bit_length() + 7) // 8)
    planes = words.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width].T.tobytes()
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15, 9, zlib.Z_FILTERED)
    stream = deflate.compress(planes) + deflate.flush()
    return Kind.DIFFERENCES, bytes([order, width]) + b"".join(_I64.pack(one) for one in heads) + stream


def _unpacked(number: int, kind: int, content: bytes) -> Ints:
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
    """Return the signed numbers that _folded put the sign of into the lowest bit."""
    one = words.dtype.type(1)
    signed: npt.NDArray[np.signedinteger[Any]] = ((words >> one) ^ (~(words & one) + one)).view(f"<i{words.itemsize}")
    return signed


def _folded(differences: Words) -> Words:
    """Return signed numbers with the sign as the lowest bit, so that small ones of either sign are small."""
    signed = differences.view(np.int64)
    return ((signed << 1) ^ (signed >> 63)).view(np.uint64)


def _summed(steps: npt.NDArray[np.signedinteger[Any]], first: int) -> Ints:
    sums = np.empty(len(steps) + 1, np.int64)
    sums[0], sums[1:] = first, steps
    return np.cumsum(sums, out=sums)


def _signed(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)


def _length(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _read_length(chunk: bytes, at: int) -> tuple[int, int]:
    length, shift = 0, 0
    while chunk[at] & 0x80:
        length |= (chunk[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return length | chunk[at] << shift, at + 1


# values


def _packed_values(rows: Logged) -> tuple[Kind, bytes]:
    bits = rows.value.view(np.int64)
    if (bits == bits[0]).all():
        return Kind.CONSTANT, _signed(int(bits[0]))
    absent = np.isnan(rows.value)
    if (bits[absent] == _NAN).all():
        there = np.flatnonzero(~absent)
        if (found := _decimal(rows, absent, there)) is not None:
            return found
        if (rows.count != rows.count[0]).any() and (found := _fitted(rows, absent, there)) is not None:
            return found
    kind, content = _packed(bits)
    return Kind.BITS, bytes([kind]) + content


def _values(number: int, contents: dict[str, tuple[int, bytes]]) -> Floats:
    kind, content = contents["value"]
    if kind == Kind.CONSTANT:
        return _unpacked(number, kind, content).view(np.float64)
    if kind == Kind.BITS:
        return _unpacked(number, content[0], content[1:]).view(np.float64)
    if kind == Kind.DECIMAL:
        (absent, whole), digits = _sections(content[1:]), content[0]
        numbers, scale = _unpacked(number, whole[0], whole[1:]), 10.0**digits
        values = numbers / scale
    elif kind == Kind.FITTED:
        absent, which, fits, rest = _sections(content)
        time, count = (_unpacked(number, *contents[name]) for name in ("time", "count"))
        coefficients = np.frombuffer(fits, "<f8").reshape(-1, _TERMS + 2)
        fitted = _evaluated(time, count, _unpacked(number, which[0], which[1:]), coefficients)
        words = fitted.view(np.uint64) + _unpacked(number, rest[0], rest[1:]).view(np.uint64)
        values = words.view(np.float64)
    else:
        raise ChunkDamaged(f"a chunk of observations has values of kind {kind}")
    values[_unpacked(number, absent[0], absent[1:]) != 0] = np.nan
    return values


def _decimal(rows: Logged, absent: npt.NDArray[np.bool_], there: npt.NDArray[np.intp]) -> tuple[Kind, bytes] | None:
    """Return values as whole numbers over the lowest power of ten that gives the same bits; None where none does."""
    values = rows.value[there]
    if not (np.abs(values) < 1e14).all():
        return None
    for digits in range(_MOST_DIGITS + 1):
        whole = np.rint(values[:50] * 10.0**digits)
        if np.abs(whole).max() >= 1 << 53:
            return None
        if not (_bits(whole / 10.0**digits) == _bits(values[:50])).all():
            continue
        whole = np.rint(values * 10.0**digits)
        if np.abs(whole).max() < 1 << 53 and (_bits(whole.astype(np.int64) / 10.0**digits) == _bits(values)).all():
            numbers = _spread(whole.astype(np.int64), absent)
            return Kind.DECIMAL, bytes([digits]) + _put(absent.astype(np.int64), numbers)
    return None


def _fitted(rows: Logged, absent: npt.NDArray[np.bool_], there: npt.NDArray[np.intp]) -> tuple[Kind, bytes] | None:
    """Return values as polynomials of count and time for each calibration, and how far off in the last bits."""
    values = rows.value[there]
    names, which = np.unique(rows.calibration[there], return_inverse=True)
    if len(names) > _MOST_FITS or not (np.abs(values) < 1e14).all():
        return None
    fits = []
    for at in range(len(names)):
        own = there[which == at]
        own = own[:: len(own) // _FITTED_ROWS + 1]
        time, count = rows.time[own], rows.count[own]
        fits.append(_best_fit(time, count, rows.value[own]))
    whose = _spread(which.astype(np.int64), absent)
    coefficients = np.array(fits, "<f8")
    fitted = _evaluated(rows.time, rows.count, whose, coefficients)
    rest = (_bits(rows.value).view(np.uint64) - fitted.view(np.uint64)).view(np.int64)
    rest[absent] = 0
    packed = [_packed(absent.astype(np.int64)), _packed(whose), None, _packed(rest)]
    sections = [coefficients.tobytes() if one is None else bytes([one[0]]) + one[1] for one in packed]
    return Kind.FITTED, b"".join(_length(len(one)) + one for one in sections)


def _best_fit(time: Ints, count: Ints, value: Floats) -> list[float]:
    """Return a polynomial as _evaluated takes it: of those with 2, 4 and all terms the one that is nearest."""
    middle = (float(time[0]), float(np.median(count)))
    terms = _terms(time, count, *middle)
    scale = np.abs(terms).max(axis=0)
    scale[scale == 0.0] = 1.0
    best: tuple[float, list[float]] | None = None
    for number in (2, 4, _TERMS):
        found = np.zeros(_TERMS)
        found[:number] = np.linalg.lstsq((terms / scale)[:, :number], value, rcond=1e-15)[0] / scale[:number]
        fit = [*middle, *found.tolist()]
        fitted = _evaluated(time, count, np.zeros(len(time), np.int64), np.array([fit]))
        off = _bits(value).view(np.uint64) - fitted.view(np.uint64)
        bits = float(np.log2(_folded(off) + 1.0).sum())
        if best is None or bits < best[0]:
            best = (bits, fit)
    assert best is not None
    return best[1]


def _terms(time: Ints, count: Ints, time_0: float, count_0: float) -> Floats:
    x, t = count.astype(np.float64) - count_0, time.astype(np.float64) - time_0
    return np.stack([np.ones(len(x)), x, x * x, x * x * x, t, t * x], axis=1)


def _evaluated(time: Ints, count: Ints, which: Ints, fits: Floats) -> Floats:
    """Return the fitted values: products and sums one by one in this order, so that every machine gets the same."""
    fit = fits[which] if len(fits) > 1 else fits
    x, t = count.astype(np.float64) - fit[:, 1], time.astype(np.float64) - fit[:, 0]
    values: Floats = fit[:, 5] * x
    for term in (fit[:, 4], fit[:, 3]):
        values = (values + term) * x
    values = values + fit[:, 2]
    values = values + t * fit[:, 6]
    return values + t * x * fit[:, 7]


def _spread(numbers: Ints, absent: npt.NDArray[np.bool_]) -> Ints:
    """Return numbers for all rows: where there is none, the one before it."""
    spread: Ints = numbers[np.maximum(np.cumsum(~absent) - 1, 0)]
    return spread


def _bits(values: Floats) -> Ints:
    return np.ascontiguousarray(values).view(np.int64)


def _put(*columns: Ints) -> bytes:
    packed = (bytes([kind]) + content for kind, content in map(_packed, columns))
    return b"".join(_length(len(one)) + one for one in packed)


def _sections(content: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(content):
        length, at = _read_length(content, at)
        found.append(content[at : at + length])
        at += length
    return found
