"""Repeatable chance: numbers that look random, yet depend only on a seed, a name and a place in time.

There is no state, so any moment can be asked for in any order and gives the same answer in every process.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_MASK = 0xFFFFFFFFFFFFFFFF


def uniform(seed: int, name: str, index: ArrayLike) -> Array:
    """Return one number in [0, 1) for each whole `index`; the mixing is splitmix64 (Steele, Lea, Flood 2014)."""
    key = (zlib.crc32(name.encode()) << 32 ^ seed * 0x9E3779B97F4A7C15) & _MASK
    shape = np.shape(index)
    mixed = np.atleast_1d(np.asarray(index, dtype=np.int64)).astype(np.uint64)
    mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return ((mixed >> np.uint64(11)).astype(np.float64) / 2.0**53).reshape(shape)


def smooth(seed: int, name: str, times: ArrayLike, period_s: float) -> Array:
    """Return numbers in [-1, 1] that wander continuously, with a new goal every `period_s`."""
    position = np.asarray(times, dtype=np.float64) / period_s
    index = np.floor(position)
    part = position - index
    weight = part * part * (3.0 - 2.0 * part)
    here, there = uniform(seed, name, index), uniform(seed, name, index + 1)
    result: Array = np.asarray(2.0 * (here + (there - here) * weight) - 1.0)
    return result


def normal(seed: int, name: str, index: int) -> float:
    """Return one number with mean 0 and deviation 1 (the sum of twelve uniform ones: never beyond 6)."""
    return float(np.sum(uniform(seed, name, index * 12 + np.arange(12)))) - 6.0
