# The machine module of the virtual board: the part of it that station firmware uses.
import _vboard, binascii, io, time
from micropython import const

PWRON_RESET = const(1)
HARD_RESET = const(2)
WDT_RESET = const(3)
DEEPSLEEP_RESET = const(4)
SOFT_RESET = const(5)

_frequency_hz = 125_000_000


def reset_cause():
    return {"soft": SOFT_RESET, "hard": HARD_RESET, "wdt": WDT_RESET}.get(_vboard.env("VB_CAUSE", ""), PWRON_RESET)


def reset():
    _vboard.reset("hard")


def soft_reset():
    raise SystemExit


def unique_id():
    return binascii.unhexlify(_vboard.env("VB_UID", "e66164084373532b"))


def freq(hz=None):
    global _frequency_hz
    if hz is None:
        return _frequency_hz
    _frequency_hz = hz


def idle():
    time.sleep_ms(1)


def lightsleep(ms=0):
    time.sleep_ms(ms)


def disable_irq():
    return 0


def enable_irq(state):
    pass


_POLL = const(3)
_FILENO = const(10)
_POLL_RD = const(1)
_POLL_WR = const(4)


class UART(io.IOBase):
    def __init__(self, id, baudrate=115200, **settings):
        self._id = id
        self._tx = -1
        self.init(baudrate, **settings)

    def init(
        self,
        baudrate=115200,
        bits=8,
        parity=None,
        stop=1,
        *,
        tx=None,
        rx=None,
        rts=None,
        cts=None,
        txbuf=256,
        rxbuf=256,
        timeout=0,
        timeout_char=0,
        invert=0,
        flow=0,
    ):
        if bits not in (7, 8) or parity not in (None, 0, 1) or stop not in (1, 2) or baudrate <= 0:
            raise ValueError("bad UART parameter")
        self._baudrate = baudrate
        self._timeout = timeout
        self._timeout_char = max(
            timeout_char, 2 * 11 * 1000 // baudrate + 1
        )  # two characters at least, as the ports do
        if tx is not None:
            self._tx = tx._id if isinstance(tx, Pin) else tx
        _vboard.uart_open(self._id, baudrate, bits, -1 if parity is None else parity, stop, self._tx)

    def __repr__(self):
        return "UART(%d, baudrate=%d)" % (self._id, self._baudrate)

    def deinit(self):
        _vboard.uart_close(self._id)

    def any(self):
        return _vboard.uart_any(self._id)

    def readinto(self, buf, n=None):
        n = len(buf) if n is None else min(n, len(buf))
        view = memoryview(buf)
        got = 0
        timeout = self._timeout
        while got < n and _vboard.uart_wait(self._id, timeout):
            r = _vboard.uart_readinto(self._id, view[got:n])
            if not r:
                break
            got += r
            timeout = self._timeout_char if self._timeout else 0
        return got or None

    def read(self, n=-1):
        if n is None or n < 0:
            n = self.any()
            if not n and self._timeout and _vboard.uart_wait(self._id, self._timeout):
                n = self.any()
            if not n:
                return None
        buf = bytearray(n)
        got = self.readinto(buf)
        return bytes(buf[:got]) if got else None

    def readline(self):
        line = b""
        buf = bytearray(1)
        while self.readinto(buf):
            line += buf
            if buf[0] == 10:
                break
        return line or None

    def write(self, buf, off=None, n=None):
        if off is not None:  # as asyncio's StreamWriter calls it
            buf = memoryview(buf)[off : off + n if n is not None else len(buf)]
        return _vboard.uart_write(self._id, buf)

    def txdone(self):
        return True

    def flush(self):
        pass

    def sendbreak(self):
        pass

    def ioctl(self, request, arg):
        if request == _FILENO:
            return _vboard.uart_fileno(self._id)  # lets the poll be a real one, without polling every millisecond
        if request == _POLL:
            return (arg & _POLL_RD if self.any() else 0) | (arg & _POLL_WR)
        return 0


class Pin:
    # What nobody outside drives reads as its pull-up, or as it was set.
    IN = const(0)
    OUT = const(1)
    OPEN_DRAIN = const(2)
    PULL_UP = const(1)
    PULL_DOWN = const(2)
    IRQ_RISING = const(8)
    IRQ_FALLING = const(4)
    _levels = {}
    _inputs = {}  # number: its pull, of those that are inputs
    _handlers = {}  # number: what _vboard must find alive

    def __init__(self, id, mode=-1, pull=-1, *, value=None, alt=-1):
        self._id = id._id if isinstance(id, Pin) else id
        self.init(mode, pull, value=value)

    def init(self, mode=-1, pull=-1, *, value=None, alt=-1):
        if mode == Pin.IN:
            Pin._inputs[self._id] = pull
        elif mode != -1:
            Pin._inputs.pop(self._id, None)
        if value is not None:
            self.value(value)

    def value(self, level=None):
        if level is not None:
            Pin._levels[self._id] = 1 if level else 0
            return None
        if self._id in Pin._inputs:
            driven = _vboard.pin_level(self._id)
            if driven is not None:
                return driven
            if Pin._inputs[self._id] == Pin.PULL_UP:
                return 1
        return Pin._levels.get(self._id, 0)

    def __call__(self, level=None):
        return self.value(level)

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)

    def toggle(self):
        self.value(not self.value())

    def irq(self, handler=None, trigger=IRQ_FALLING | IRQ_RISING, hard=False):
        Pin._handlers[self._id] = (handler, self)
        _vboard.pin_irq(self._id, 0 if handler is None else trigger, handler, self)


class WDT:
    def __init__(self, id=0, timeout=5000):
        self._timeout = timeout
        self.feed()

    def feed(self):
        _vboard.watchdog(self._timeout)


class RTC:
    # (year, month, day, weekday, hours, minutes, seconds, microseconds); kept through a reset, lost with the power
    def datetime(self, now=None):
        if now is not None:
            _vboard.rtc_set(time.mktime((now[0], now[1], now[2], now[4], now[5], now[6], 0, 0)), now[7])
            return None
        ns = time.time_ns()
        t = time.gmtime(ns // 1_000_000_000)
        return (t[0], t[1], t[2], t[6], t[3], t[4], t[5], ns % 1_000_000_000 // 1000)

    def init(self, now):
        self.datetime(now)
