# The board's `time`: ticks and sleeps are the built-in's (real time), the time of day is the board's own clock.
# gmtime and mktime as on the microcontroller ports: tuples of 8, epoch 1970 (RP2040) or 2000 (ESP32).
from utime import *
import _vboard
from micropython import const

_DAYS_1970_TO_2000 = const(10957)
_EPOCH_DAYS = _DAYS_1970_TO_2000 if _vboard.env("VB_EPOCH", "1970") == "2000" else 0

time = _vboard.rtc_s
time_ns = _vboard.rtc_ns


def _days_of(year, month, day):
    # days since 1970-01-01 in the proleptic Gregorian calendar; years are counted from March, so that leap days come last
    if month <= 2:
        year -= 1
        month += 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month - 457) // 5 + day - 719469


def gmtime(seconds=None):
    days, second = divmod(int(time() if seconds is None else seconds), 86400)
    days += _EPOCH_DAYS
    year = 1970 + days // 366
    while _days_of(year + 1, 1, 1) <= days:
        year += 1
    month = 1
    while month < 12 and _days_of(year, month + 1, 1) <= days:
        month += 1
    return (
        year,
        month,
        days - _days_of(year, month, 1) + 1,
        second // 3600,
        second // 60 % 60,
        second % 60,
        (days + 3) % 7,
        days - _days_of(year, 1, 1) + 1,
    )


localtime = gmtime  # a board has no time zone


def mktime(t):
    if not 8 <= len(t) <= 9:
        raise TypeError("mktime needs a tuple of length 8 or 9")
    year, month = t[0], t[1] - 1
    days = _days_of(year + month // 12, month % 12 + 1, 1) + t[2] - 1 - _EPOCH_DAYS
    return days * 86400 + t[3] * 3600 + t[4] * 60 + t[5]
