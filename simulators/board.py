"""One virtual board under its supervisor: power on, power off, console, wires.

    with VirtualBoard(BoardSettings(flash=Path("board.flash"))) as board:
        board.console.wait_for(">>> ")
        board.power_cut()
        board.start()

`tram-sim board` does the same as a process of its own; killing that process is a power cut.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from simulators.virtual_board.build import build, built_interpreter
from simulators.virtual_board.console import Console
from simulators.virtual_board.errors import BoardFault, VirtualBoardError

SECTOR_BYTES = 4096
EXIT_POWER_CUT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class BoardSettings:
    """What a board is made of. Raises ValueError, naming every fault, when it cannot be made so."""

    flash: Path
    size_bytes: int = 1 << 20
    uarts: Mapping[int, Path] = field(default_factory=dict)
    """UART number (0..3): the terminal it is wired to."""
    uart_pins: Mapping[tuple[int, int], Path] = field(default_factory=dict)
    """UART number and TX pin: another terminal, which it is wired to on that pin."""
    heap_bytes: int = 120 * 1024
    """As on a 32-bit board; a 64-bit build doubles it."""
    rate: float = 1.0
    """How many times as fast as real time the board's clock runs."""
    epoch: int = 1970
    """The year where time.time() is 0: 1970 (RP2040) or 2000 (ESP32)."""
    uid: str = ""
    """machine.unique_id() in hex; made from the flash's path when empty."""
    console_link: Path | None = None
    log: Path | None = None
    cut_at_operation: int = 0
    """Lose power in the middle of this flash operation (1 = the first since power-on; 0 = never)."""
    torn_percent: int = 50
    """How much of that operation is done before the power is gone."""
    pins: Path | None = None
    """FIFO the board makes, by which others drive its pins: see `drive_pin`."""
    rtc_battery: Path | None = None
    """File that is a clock chip with a battery; without one the clock starts at 0 with the power."""

    def __post_init__(self) -> None:
        faults = [text for wrong, text in self._faults() if wrong]
        if faults:
            raise ValueError("; ".join(faults))

    def _faults(self) -> list[tuple[bool, str]]:
        return [
            (
                self.size_bytes < 8 * SECTOR_BYTES or self.size_bytes % SECTOR_BYTES != 0,
                f"flash of {self.size_bytes} bytes: must be a multiple of {SECTOR_BYTES}, at least eight times",
            ),
            (any(not 0 <= number <= 3 for number in self._uart_numbers), f"UARTs {self._uart_numbers}: must be 0 to 3"),
            (self.heap_bytes < 16 * 1024, f"heap of {self.heap_bytes} bytes: must be 16k or more"),
            (not 0 < self.rate <= 1e6, f"rate {self.rate}: must be above 0, at most 1000000"),
            (self.epoch not in (1970, 2000), f"epoch {self.epoch}: must be 1970 or 2000"),
            (not re.fullmatch(r"([0-9a-fA-F]{2}){0,16}", self.uid), f"uid {self.uid!r}: must be hex, at most 16 bytes"),
            (self.cut_at_operation < 0, f"cut at operation {self.cut_at_operation}: must be 0 or more"),
            (not 0 <= self.torn_percent <= 100, f"torn {self.torn_percent} %: must be 0 to 100"),
        ]

    @property
    def _uart_numbers(self) -> list[int]:
        return sorted({*self.uarts, *(number for number, _ in self.uart_pins)})

    def environment(self) -> dict[str, str]:
        """Return what the board itself is told (see virtual_board/usermod/vboard/vboard.c)."""
        made_uid = hashlib.sha256(str(self.flash.resolve()).encode()).hexdigest()[:16]
        wires = {f"VB_UART{number}": str(path.absolute()) for number, path in self.uarts.items()}
        wires |= {f"VB_UART{number}_TX{tx}": str(path.absolute()) for (number, tx), path in self.uart_pins.items()}
        return wires | {
            "VB_CUT": str(self.cut_at_operation),
            "VB_TEAR": str(self.torn_percent),
            "VB_EPOCH": str(self.epoch),
            "VB_RATE": repr(float(self.rate)),
            "VB_UID": self.uid or made_uid,
        }


def drive_pin(pins: Path, number: int, level: int) -> None:
    """Hold a pin of a board at a level from outside; `pins` is its FIFO. Of a board that is off nothing is kept.

    Raises OSError when no board has that FIFO open.
    """
    fd = os.open(pins, os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(fd, bytes((number | (0x80 if level else 0),)))
    finally:
        os.close(fd)


def set_rtc_battery(file: Path, shown_s: int) -> None:
    """Make a clock chip show `shown_s` seconds since the board's epoch from now on: any number, sense or not."""
    file.write_text(f"{shown_s * 1_000_000_000},{time.monotonic_ns()}".ljust(63) + "\n")


class VirtualBoard:
    """A board on the bench. Start it from a thread that outlives it: the kernel ends the board with that thread."""

    def __init__(self, settings: BoardSettings, on_off: Callable[[], None] = lambda: None) -> None:
        self.settings = settings
        self.console = Console(settings.log, on_off)
        self._opened = False
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> VirtualBoard:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def console_path(self) -> Path:
        """The terminal for mpremote."""
        return self.console.path

    @property
    def pid(self) -> int:
        """The process id of the running board. Raises BoardFault when it is off."""
        if self._process is None:
            raise BoardFault("the board is off")
        return self._process.pid

    def start(self) -> None:
        """Power on. Raises VirtualBoardMissing without an interpreter, BoardFault when the flash cannot be used."""
        if self._process is not None:
            raise BoardFault("the board is on already")
        interpreter = built_interpreter()
        flash = self._open_flash()
        self._open_console()
        terminal = self.console.connect()
        battery = self.settings.rtc_battery
        rtc = None if battery is None else os.open(battery, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        pins = self._open_pins()
        handed_over = [descriptor for descriptor in (flash, rtc, pins) if descriptor is not None]
        heap_bytes = self.settings.heap_bytes * interpreter.heap_factor
        try:
            self._process = subprocess.Popen(
                [interpreter.path, "-X", f"heapsize={heap_bytes}", "-c", "import _vboot; _vboot.run()"],
                stdin=terminal,
                stdout=terminal,
                stderr=terminal,
                pass_fds=handed_over,
                start_new_session=True,
                cwd="/",
                env=self.settings.environment()
                | {"VB_FLASH_FD": str(flash), "VB_SUPERVISOR": str(os.getpid())}
                | ({} if pins is None else {"VB_PINS_FD": str(pins)})
                | ({} if rtc is None else {"VB_RTC_FD": str(rtc), "VB_RTC": os.pread(rtc, 64, 0).decode().strip()}),
            )
        finally:
            for descriptor in (terminal, *handed_over):
                os.close(descriptor)

    def _open_console(self) -> None:
        if self._opened:
            return
        self.console.open()
        self._opened = True
        link = self.settings.console_link
        if link is not None:
            link.parent.mkdir(parents=True, exist_ok=True)
            new = link.with_name(f".{link.name}.{os.getpid()}")
            new.unlink(missing_ok=True)
            new.symlink_to(self.console.path)
            new.replace(link)

    def _open_pins(self) -> int | None:
        """Return the board's end of the FIFO that drives its pins, empty: nothing reaches a board without power."""
        path = self.settings.pins
        if path is None:
            return None
        if not path.exists():
            os.mkfifo(path, 0o600)
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def _open_flash(self) -> int:
        """Return the flash's descriptor, locked for one board; a new flash is all ones."""
        path, size = self.settings.flash, self.settings.size_bytes
        if not path.exists():
            new = path.with_name(f".{path.name}.{os.getpid()}")
            new.write_bytes(b"\xff" * size)
            new.replace(path)
        found = path.stat().st_size
        if found != size:
            raise BoardFault(
                f"{path} has {found} bytes, the board's flash {size}: give the file's size, or another file"
            )
        flash = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(flash, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(flash)
            raise BoardFault(f"{path} is in use by another running board") from None
        return flash

    def wait_off(self, deadline_s: float) -> int:
        """Wait until the board has lost power by itself (a cut flash operation); return its exit code.

        Raises BoardFault when it is still on.
        """
        if self._process is None:
            raise BoardFault("the board is off")
        try:
            code = self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise BoardFault(f"the board still runs after {deadline_s} s") from None
        self.console.wait_disconnected(deadline_s)
        self._process = None
        return code

    def power_cut(self) -> None:
        """Take the power away, at once. What the board said until then stays readable."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGKILL)
        self.wait_off(EXIT_POWER_CUT_S)

    def stop(self) -> None:
        """Power off and take the console away."""
        self.power_cut()
        link = self.settings.console_link
        if self._opened and link is not None and link.is_symlink() and link.readlink() == self.console.path:
            link.unlink()
        self.console.close()
        self._opened = False


def parse_size(text: str) -> int:
    """Return bytes from text such as 4096, 120k or 2M. Raises ValueError."""
    match = re.fullmatch(r"(\d+)([kKmM]?)", text)
    if match is None:
        raise ValueError(f"{text!r}: expected a number of bytes such as 4096, 120k or 2M")
    return int(match[1]) << {"": 0, "k": 10, "m": 20}[match[2].lower()]


def parse_uarts(texts: list[str]) -> dict[int | tuple[int, int], Path]:
    """Return the terminals of texts such as 1=/dev/pts/3, or 1:18=/dev/pts/4 for UART 1 on TX pin 18.

    Raises ValueError.
    """
    uarts: dict[int | tuple[int, int], Path] = {}
    for text in texts:
        match = re.fullmatch(r"(\d+)(?::(\d+))?=(.+)", text)
        if match is None:
            raise ValueError(f"--uart {text}: expected NUMBER=PATH or NUMBER:TX_PIN=PATH")
        uarts[int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))] = Path(match[3])
    return uarts


def run(settings: BoardSettings) -> int:
    """Run one board until SIGTERM or SIGINT (returns 0) or until it goes off by itself (returns 1)."""
    asked_to_stop = threading.Event()
    done = threading.Event()

    def on_signal(*_: object) -> None:
        asked_to_stop.set()
        done.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    build()
    with VirtualBoard(settings, on_off=done.set) as board:
        typer.echo(json.dumps({"ready": True, "console": str(settings.console_link or board.console_path)}))
        done.wait()
        if asked_to_stop.is_set():
            return 0
        typer.echo(f"the board went off: exit code {board.wait_off(EXIT_POWER_CUT_S)}", err=True)
        return 1


def command(
    flash: Annotated[Path, typer.Option(help="File that is the board's flash; made when it is not there.")],
    size: Annotated[str, typer.Option(help="Size of the flash.")] = "1M",
    uart: Annotated[
        list[str] | None,
        typer.Option(help="NUMBER=PATH: terminal a UART is wired to, NUMBER:TX_PIN=PATH on that pin; repeatable."),
    ] = None,
    console: Annotated[Path | None, typer.Option(help="Link to make to the console, for mpremote.")] = None,
    heap: Annotated[str, typer.Option(help="Heap of the board.")] = "120k",
    rate: Annotated[float, typer.Option(help="How many times as fast as real time the board's clock runs.")] = 1.0,
    epoch: Annotated[int, typer.Option(help="Year where its time is 0: 1970 (RP2040) or 2000 (ESP32).")] = 1970,
    uid: Annotated[str, typer.Option(help="Its unique id, hex.")] = "",
    log: Annotated[Path | None, typer.Option(help="File for all that the console says.")] = None,
    cut: Annotated[int, typer.Option(help="Lose power in the middle of the n-th flash operation; 0: never.")] = 0,
    rtc: Annotated[Path | None, typer.Option(help="File that is a clock chip with a battery.")] = None,
    pins: Annotated[Path | None, typer.Option(help="FIFO to make, by which others drive the board's pins.")] = None,
) -> None:
    """Run one virtual station board: real MicroPython with flash, UARTs, console, watchdog and clock.

    Kill it with -9 for a power cut. Example:
    tram-sim board --flash board.flash --uart 1=/dev/pts/3 --console ttyBOARD --rate 60
    """
    try:
        wires = parse_uarts(uart or [])
        settings = BoardSettings(
            flash=flash,
            size_bytes=parse_size(size),
            uarts={key: path for key, path in wires.items() if isinstance(key, int)},
            uart_pins={key: path for key, path in wires.items() if isinstance(key, tuple)},
            heap_bytes=parse_size(heap),
            rate=rate,
            epoch=epoch,
            uid=uid,
            console_link=console,
            log=log,
            cut_at_operation=cut,
            rtc_battery=rtc,
            pins=pins,
        )
    except ValueError as error:
        typer.echo(f"tram-sim board: {error}", err=True)
        raise typer.Exit(2) from None
    try:
        raise typer.Exit(run(settings))
    except VirtualBoardError as error:
        typer.echo(f"tram-sim board: {error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(command)
