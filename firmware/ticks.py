# Real time for timeouts: milliseconds that wrap, and a sleep that lets the other tasks run.
# MicroPython has both; the other half of this file gives CPython the same, so that tests run there.
# Classes that wait take this module as an argument: a test hands in a time of its own.
try:
    from asyncio import sleep_ms
    from time import ticks_diff, ticks_ms
except ImportError:
    import asyncio
    import time

    _PERIOD = 1 << 30

    def ticks_ms():
        return int(time.monotonic() * 1000) % _PERIOD

    def ticks_diff(end, start):
        return (end - start + _PERIOD // 2) % _PERIOD - _PERIOD // 2

    def sleep_ms(duration_ms):
        return asyncio.sleep(duration_ms / 1000)


__all__ = ("sleep_ms", "ticks_diff", "ticks_ms")
