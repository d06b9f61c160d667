"""The values of a chunk (chunks.py) as bytes, and back bit for bit: whole numbers over a power of ten, what follows
from count and time by a calibration, or their bits. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cloud_ingest.chunk_numbers import Kind, folded, length_of, packed_numbers, read_length, signed, unpacked_numbers
from cloud_ingest.columns import Floats, Ints
from cloud_ingest.errors import ChunkDamaged
from cloud_ingest.observations import Logged

_NAN = int(np.array(np.nan).view(np.int64))
_MOST_DIGITS = 9
_MOST_FITS = 8
_FITTED_ROWS = 500  # are enough to find what all follow
_TERMS = 6  # 1, x, x², x³, t, t·x


def packed_values(rows: Logged) -> tuple[Kind, bytes]:
    """Return how the values of rows are written, and their bytes."""
    bits = rows.value.view(np.int64)
    if (bits == bits[0]).all():
        return Kind.CONSTANT, signed(int(bits[0]))
    absent = np.isnan(rows.value)
    if (bits[absent] == _NAN).all():
        there = np.flatnonzero(~absent)
        if (found := _decimal(rows, absent, there)) is not None:
            return found
        if (rows.count != rows.count[0]).any() and (found := _fitted(rows, absent, there)) is not None:
            return found
    kind, content = packed_numbers(bits)
    return Kind.BITS, bytes([kind]) + content


def unpacked_values(number: int, contents: dict[str, tuple[int, bytes]]) -> Floats:
    """Return so many values; `contents` has kind and bytes of each column. Raises as unpacked_numbers."""
    kind, content = contents["value"]
    if kind == Kind.CONSTANT:
        return unpacked_numbers(number, kind, content).view(np.float64)
    if kind == Kind.BITS:
        return unpacked_numbers(number, content[0], content[1:]).view(np.float64)
    if kind == Kind.DECIMAL:
        (absent, whole), digits = _sections(content[1:]), content[0]
        numbers, scale = unpacked_numbers(number, whole[0], whole[1:]), 10.0**digits
        values = numbers / scale
    elif kind == Kind.FITTED:
        absent, which, fits, rest = _sections(content)
        time, count = (unpacked_numbers(number, *contents[name]) for name in ("time", "count"))
        coefficients = np.frombuffer(fits, "<f8").reshape(-1, _TERMS + 2)
        fitted = _evaluated(time, count, unpacked_numbers(number, which[0], which[1:]), coefficients)
        words = fitted.view(np.uint64) + unpacked_numbers(number, rest[0], rest[1:]).view(np.uint64)
        values = words.view(np.float64)
    else:
        raise ChunkDamaged(f"a chunk of observations has values of kind {kind}")
    values[unpacked_numbers(number, absent[0], absent[1:]) != 0] = np.nan
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
    packed = [packed_numbers(absent.astype(np.int64)), packed_numbers(whose), None, packed_numbers(rest)]
    sections = [coefficients.tobytes() if one is None else bytes([one[0]]) + one[1] for one in packed]
    return Kind.FITTED, b"".join(length_of(len(one)) + one for one in sections)


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
        bits = float(np.log2(folded(off) + 1.0).sum())
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
    packed = (bytes([kind]) + content for kind, content in map(packed_numbers, columns))
    return b"".join(length_of(len(one)) + one for one in packed)


def _sections(content: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(content):
        length, at = read_length(content, at)
        found.append(content[at : at + length])
        at += length
    return found
