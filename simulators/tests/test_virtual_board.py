"""The virtual board against what a real one does: clock, resets, heap, console, flash, power cuts, wires."""

from __future__ import annotations

import calendar
import hashlib
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import serial
from mpremote.transport import TransportExecError
from mpremote.transport_serial import SerialTransport

from simulators.board import BoardSettings, VirtualBoard, drive_pin, parse_size, parse_uarts, set_rtc_battery
from simulators.virtual_board.build import build
from simulators.virtual_board.console import LOG_BYTES, BoundedLog
from simulators.virtual_board.errors import BoardFault, VirtualBoardMissing

PROMPT = "\n>>> "
FLASH_BYTES = 256 * 1024
TICKS_PERIOD = 1 << 30


@pytest.fixture(scope="module", autouse=True)
def interpreter() -> None:
    try:
        build()
    except VirtualBoardMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the virtual board cannot be built here: {error}")


def settings(directory: Path, **changes: Any) -> BoardSettings:
    return BoardSettings(flash=directory / "board.flash", size_bytes=FLASH_BYTES, **changes)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[VirtualBoard]:
    with VirtualBoard(settings(tmp_path)) as board:
        board.console.wait_for(PROMPT)
        yield board


@contextmanager
def repl(board: VirtualBoard) -> Iterator[SerialTransport]:
    transport = SerialTransport(str(board.console_path), timeout=10)
    try:
        transport.enter_raw_repl(soft_reset=False)
        yield transport
        transport.exit_raw_repl()
        board.console.wait_for("MicroPython v")
        board.console.wait_for(PROMPT)
    finally:
        transport.close()


def ask(board: VirtualBoard, expression: str, prepare: str = "import gc, machine, os, time") -> Any:
    with repl(board) as transport:
        transport.exec(prepare)
        return transport.eval(expression)


def write_main(board: VirtualBoard, program: str) -> None:
    with repl(board) as transport:
        transport.fs_writefile("main.py", program.encode())


def holds_within(condition: Callable[[], bool], deadline_s: float) -> bool:
    pause, end = threading.Event(), time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            return False
        pause.wait(0.01)
    return True


# ---- the clock


@pytest.mark.parametrize("epoch", [1970, 2000])
def test_at_power_on_the_clock_is_not_set_and_starts_at_the_epoch(tmp_path: Path, epoch: int) -> None:
    with VirtualBoard(settings(tmp_path, epoch=epoch)) as board:
        board.console.wait_for(PROMPT)
        seconds, date = ask(board, "(time.time(), time.gmtime()[:4])")
    assert seconds < 10
    assert date == (epoch, 1, 1, 0)


@pytest.mark.parametrize("epoch", [1970, 2000])
def test_calendar_agrees_with_cpython(tmp_path: Path, epoch: int) -> None:
    origin = calendar.timegm((epoch, 1, 1, 0, 0, 0))
    unix = [
        calendar.timegm((y, m, d, 23, 59, 58)) for y in (2000, 2024, 2026, 2096) for m, d in [(2, 28), (3, 1), (12, 31)]
    ]
    expected = [(s - origin, (*(t := time.gmtime(s))[:6], t.tm_wday, t.tm_yday)) for s in unix]
    with VirtualBoard(settings(tmp_path, epoch=epoch)) as board:
        board.console.wait_for(PROMPT)
        seconds = [s - origin for s in unix]
        shown = ask(board, f"[(time.mktime(time.gmtime(s)), time.gmtime(s)) for s in {seconds}]")
    assert shown == expected


@pytest.mark.parametrize("rate", [1.0, 60.0])
def test_the_clock_runs_at_its_rate_and_ticks_stay_real(tmp_path: Path, rate: float) -> None:
    elapsed = "[time.ticks_us(), time.time_ns(), time.ticks_us()]"
    with VirtualBoard(settings(tmp_path, rate=rate)) as board:
        board.console.wait_for(PROMPT)
        first, begun_ns, then = ask(board, elapsed, "import time")
        before, ended_ns, last = ask(board, elapsed, "time.sleep_ms(200)")
    # The board may stand still between two looks: the clock's time is between the shorter and the longer of the ticks.
    shorter_us, longer_us = ((end - begin) % TICKS_PERIOD for begin, end in ((then, before), (first, last)))
    assert shorter_us >= 200_000
    assert 0.98 * shorter_us <= (ended_ns - begun_ns) / 1000 / rate <= 1.02 * longer_us


RESETS = {
    "hard": ("import machine; machine.reset()\r", 2),
    "watchdog": ("import machine\rw = machine.WDT(timeout=300)\rwhile True: pass\r\r", 3),
    "soft": ("\x04", 5),
}


@pytest.mark.parametrize("kind", RESETS)
def test_the_clock_goes_on_through_a_reset_and_the_cause_is_told(board: VirtualBoard, kind: str) -> None:
    typed, cause = RESETS[kind]
    ask(board, "machine.RTC().datetime((2026, 11, 22, 6, 8, 30, 0, 0))")
    board.console.write(typed.encode())
    board.console.wait_for("MicroPython v")
    board.console.wait_for(PROMPT)
    assert ask(board, "(machine.reset_cause(), time.gmtime()[:5])") == (cause, (2026, 11, 22, 8, 30))


def test_the_clock_is_lost_with_the_power(board: VirtualBoard) -> None:
    ask(board, "machine.RTC().datetime((2026, 11, 22, 6, 8, 30, 0, 0))")
    board.power_cut()
    board.start()
    board.console.wait_for(PROMPT)
    assert ask(board, "(machine.reset_cause(), time.gmtime()[0])") == (1, 1970)


# ---- what a board is made of


def test_heap_is_a_boards_heap(board: VirtualBoard) -> None:
    with repl(board) as transport:
        transport.exec("import gc; kept = [None] * (22 * 1024); kept = None; gc.collect()")  # in words of the heap
        with pytest.raises(TransportExecError, match="MemoryError"):
            transport.exec("kept = [None] * (29 * 1024)")


def test_floats_are_single_precision(board: VirtualBoard) -> None:
    assert ask(board, "16777216.0 + 1.0 == 16777216.0") is True


@pytest.mark.parametrize("absent", ["os.getenv", "os.system", "__import__('socket')", "__import__('termios')"])
def test_what_no_station_board_has_is_absent(board: VirtualBoard, absent: str) -> None:
    with repl(board) as transport:
        transport.exec("import os")
        with pytest.raises(TransportExecError, match=r"AttributeError|ImportError"):
            transport.exec(absent)


def test_unique_id_is_the_one_given(tmp_path: Path) -> None:
    with VirtualBoard(settings(tmp_path, uid="0badc0de")) as board:
        board.console.wait_for(PROMPT)
        assert ask(board, "machine.unique_id()") == bytes.fromhex("0badc0de")


# ---- the console


def test_ctrl_c_breaks_a_tight_loop(board: VirtualBoard) -> None:
    board.console.write(b"print('run' + 'ning'); exec('while True: pass')\r")
    board.console.wait_for("running")
    board.console.write(b"\x03")
    board.console.wait_for("KeyboardInterrupt")


@pytest.mark.parametrize("start", ["power-on", "reset"])
def test_a_technician_may_connect_at_any_moment_of_the_boot(board: VirtualBoard, start: str) -> None:
    write_main(board, "import machine, time\nwhile True:\n    time.sleep_ms(10)\n")
    for delay_ms in range(12):
        if start == "power-on":
            board.power_cut()
            board.start()
        else:
            board.console.write(b"import machine; machine.reset()\r")
        threading.Event().wait(delay_ms / 1000)
        board.console.write(b"\r\x03\r\x03")
        board.console.wait_for("KeyboardInterrupt")
        board.console.wait_for(PROMPT)


def test_mpremote_writes_reads_lists_and_hashes_files(board: VirtualBoard) -> None:
    content = bytes(range(256)) * 120
    with repl(board) as transport:
        transport.fs_mkdir("lib")
        transport.fs_writefile("lib/data.bin", content)
        seen = (
            transport.fs_readfile("lib/data.bin"),
            [entry.name for entry in transport.fs_listdir("lib")],
            transport.fs_hashfile("lib/data.bin", "sha256"),
        )
    assert seen == (content, ["data.bin"], hashlib.sha256(content).digest())


def test_the_mpremote_command_copies_and_resets_into_main(board: VirtualBoard, tmp_path: Path) -> None:
    main = tmp_path / "main.py"
    main.write_text("print('main has run')\n")
    mpremote = [sys.executable, "-m", "mpremote", "connect", str(board.console_path)]
    copied = [*mpremote, "fs", "cp", str(main), ":main.py", "+", "fs", "sha256sum", ":main.py", "+", "reset"]
    done = subprocess.run(copied, capture_output=True, text=True, timeout=120, check=True)
    board.console.wait_for("main has run")
    assert hashlib.sha256(main.read_bytes()).hexdigest() in done.stdout


def test_a_board_nobody_listens_to_is_not_held_up(board: VirtualBoard) -> None:
    board.console.write(b"for i in range(4000): print('x' * 100)\r\r")
    board.console.write(b"print('do' + 'ne')\r")
    board.console.wait_for("\ndone", deadline_s=60)


def test_waiting_for_what_a_dead_board_will_never_say_is_refused_at_once(board: VirtualBoard) -> None:
    board.power_cut()
    with pytest.raises(BoardFault, match="the board is off"):
        board.console.wait_for("hello", deadline_s=60)


def test_the_log_is_bounded(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "console.log")
    for _ in range(5):
        log.write(bytes(LOG_BYTES // 2))
    log.close()
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert sizes == [LOG_BYTES // 2, LOG_BYTES]


# ---- flash and power cuts


def test_files_survive_a_power_cut(board: VirtualBoard) -> None:
    with repl(board) as transport:
        transport.fs_writefile("kept.txt", b"still here")
    board.power_cut()
    board.start()
    board.console.wait_for(PROMPT)
    assert ask(board, "open('kept.txt').read()") == "still here"


def test_programming_a_bit_back_to_one_is_an_io_error_and_said_on_the_console(board: VirtualBoard) -> None:
    with repl(board) as transport:
        transport.exec("from _vbflash import Flash; f = Flash(); n = f.sectors - 1; f.ioctl(6, n)")
        transport.exec("f.writeblocks(n, b'\\x0f' * 256, 0); f.writeblocks(n, b'\\x0e' * 256, 0)")
        with pytest.raises(TransportExecError, match="EIO"):
            transport.exec("f.writeblocks(n, b'\\xf0' * 256, 0)")
    assert "flash fault" in board.console.text()


APPENDS = """
import os
try:
    with open("journal.csv") as file:
        n = sum(1 for _ in file)
except OSError:
    n = 0
print("START", n)
while n < 200:
    with open("journal.csv", "a") as file:
        file.write("%d,%d\\n" % (n, n * 7))
    print("STORED", n)
    if n % 20 == 0:
        with open("state.new", "w") as file:
            file.write(str(n))
        os.rename("state.new", "state")
    n += 1
print("END")
"""


def test_a_power_cut_in_the_middle_of_any_flash_operation_loses_nothing_acknowledged(
    board: VirtualBoard, tmp_path: Path
) -> None:
    write_main(board, APPENDS)
    board.power_cut()
    wrong = []
    for cut in [*range(1, 25), *range(30, 350, 20)]:
        torn = tmp_path / "torn.flash"
        shutil.copy(tmp_path / "board.flash", torn)
        with VirtualBoard(BoardSettings(flash=torn, size_bytes=FLASH_BYTES, cut_at_operation=cut)) as victim:
            victim.wait_off(10)
            stored = victim.console.text().count("STORED")
        with VirtualBoard(BoardSettings(flash=torn, size_bytes=FLASH_BYTES)) as survivor:
            said = survivor.console.wait_for("END")
            said = survivor.console.text() if "vboard:" in survivor.console.text() else said
        found = re.search(r"START (\d+)", said)
        if found is None or int(found[1]) - stored not in (0, 1) or "vboard:" in said:
            wrong.append((cut, stored, said[:200]))
    assert wrong == []


def test_the_cut_counts_on_through_resets(board: VirtualBoard, tmp_path: Path) -> None:
    write_main(board, "import machine\nwith open('boots', 'a') as f:\n    f.write('x')\nmachine.reset()\n")
    board.power_cut()
    with VirtualBoard(settings(tmp_path, cut_at_operation=40)) as victim:
        assert victim.wait_off(20) == 137


def test_one_flash_serves_one_board(board: VirtualBoard, tmp_path: Path) -> None:
    with pytest.raises(BoardFault, match="in use"), VirtualBoard(settings(tmp_path)):
        pass


def test_a_flash_of_another_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "board.flash").write_bytes(b"\xff" * 4096)
    with pytest.raises(BoardFault, match="4096 bytes"), VirtualBoard(settings(tmp_path)):
        pass


# ---- wires


@contextmanager
def wire() -> Iterator[tuple[int, str]]:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    try:
        yield ours, os.ttyname(theirs)
    finally:
        os.close(theirs)
        os.close(ours)


OPEN_UART = "from machine import UART; u = UART(1, 9600, timeout=2000)"


def test_a_uart_hears_and_speaks(tmp_path: Path) -> None:
    with wire() as (ours, path), VirtualBoard(settings(tmp_path, uarts={1: Path(path)})) as board:
        board.console.wait_for(PROMPT)
        with repl(board) as transport:
            transport.exec(OPEN_UART)
            os.write(ours, b"ping\xff\x00")
            heard = transport.eval("(u.read(6), u.write(b'pong'), u.any())")
        assert (heard, os.read(ours, 4)) == ((b"ping\xff\x00", 4, 0), b"pong")


def test_a_uart_whose_wire_is_missing_is_silent_and_its_timeouts_hold(tmp_path: Path) -> None:
    prepare = "import time; from machine import UART; u = UART(1, 9600, timeout=300); t = time.ticks_ms()"
    timed = "(u.read(4), u.any(), u.write(b'x'), time.ticks_diff(time.ticks_ms(), t) >= 300)"
    with VirtualBoard(settings(tmp_path, uarts={1: tmp_path / "missing"})) as board:
        board.console.wait_for(PROMPT)
        assert ask(board, timed, prepare) == (None, 0, 1, True)


def test_asyncio_waits_on_a_hung_up_wire_without_spinning_and_hears_it_come_back(tmp_path: Path) -> None:
    link = tmp_path / "wire"
    listens = "import asyncio\nfrom machine import UART\nu = UART(1, 9600)\nprint('UP')\n"
    listens += (
        "async def main():\n    print('HEARD', await asyncio.StreamReader(u).readexactly(3))\nasyncio.run(main())\n"
    )
    with VirtualBoard(settings(tmp_path, uarts={1: link})) as board:
        board.console.wait_for(PROMPT)
        with wire() as (_, path):
            link.symlink_to(path)
            write_main(board, listens)
            board.power_cut()
            board.start()
            board.console.wait_for("UP")
        process = psutil.Process(board.pid)
        before = sum(process.cpu_times()[:2])
        assert not holds_within(lambda: "HEARD" in board.console.text(), 0.6)
        spent = sum(process.cpu_times()[:2]) - before
        with wire() as (ours, path):
            link.unlink()
            link.symlink_to(path)
            heard = holds_within(lambda: bool(os.write(ours, b"abc")) and "HEARD" in board.console.text(), 60)
    assert heard
    assert spent < 0.1


def test_a_link_left_behind_does_not_lead_to_somebody_elses_terminal(tmp_path: Path) -> None:
    link = tmp_path / "wire"
    prepare = "from machine import UART; u = UART(1, 9600, timeout=100); u.write(b'x')"
    with wire() as (ours, path), VirtualBoard(settings(tmp_path, uarts={1: link})) as board:
        board.console.wait_for(PROMPT)
        link.symlink_to(path)
        os.utime(link, (0, 0), follow_symlinks=False)  # the link is older than the terminal that now has its number
        ask(board, "u.any()", prepare)
        assert not select.select([ours], [], [], 0)[0]


def test_a_uart_that_is_not_wired_says_so(board: VirtualBoard) -> None:
    with repl(board) as transport, pytest.raises(TransportExecError, match="not wired"):
        transport.exec("from machine import UART; UART(3, 9600)")


def test_a_uart_that_changes_its_pins_speaks_on_another_wire(tmp_path: Path) -> None:
    change = "u.write(b'one'); u.init(1200, bits=7, parity=0, tx=Pin(18)); u.write(b'two'); u.init(9600, tx=Pin(17))"
    with wire() as (bus, bus_path), wire() as (other, other_path):
        wires = {"uarts": {1: Path(bus_path)}, "uart_pins": {(1, 18): Path(other_path)}}
        with VirtualBoard(settings(tmp_path, **wires)) as board:
            board.console.wait_for(PROMPT)
            with repl(board) as transport:
                transport.exec(f"from machine import Pin, UART; u = UART(1, 9600, tx=Pin(17)); {change}")
                transport.exec("u.write(b'three')")
            assert (os.read(bus, 20), os.read(other, 20)) == (b"onethree", b"two")


# ---- pins that the outside drives

COUNT_EDGES = "from machine import Pin; seen = []; p = Pin(14, Pin.IN, Pin.PULL_UP); "


def test_a_pin_reads_its_pull_up_until_somebody_outside_drives_it(tmp_path: Path) -> None:
    pins = tmp_path / "pins"
    with VirtualBoard(settings(tmp_path, pins=pins)) as board:
        board.console.wait_for(PROMPT)
        with repl(board) as transport:
            transport.exec(COUNT_EDGES)
            open_contact = transport.eval("p.value()")
            drive_pin(pins, 14, 0)
            closed = transport.eval("(p.value(), Pin(15, Pin.IN).value())")
    assert (open_contact, closed) == (1, (0, 0))


@pytest.mark.parametrize(
    ("trigger", "seen"), [("Pin.IRQ_FALLING", [0, 0]), ("Pin.IRQ_RISING", [1, 1]), ("12", [0, 1, 0, 1])]
)
def test_an_edge_calls_the_handler_of_its_pin(tmp_path: Path, trigger: str, seen: list[int]) -> None:
    pins = tmp_path / "pins"
    with VirtualBoard(settings(tmp_path, pins=pins)) as board:
        board.console.wait_for(PROMPT)
        with repl(board) as transport:
            transport.exec(f"{COUNT_EDGES}p.irq(lambda pin: seen.append(pin.value()), {trigger})")
            for level in (0, 1, 1, 0, 1):
                drive_pin(pins, 14, level)
                drive_pin(pins, 15, level)  # nobody listens there
                transport.eval("None")  # the board comes round
            assert transport.eval("seen") == seen


def test_edges_wake_a_board_that_sleeps_in_asyncio(tmp_path: Path) -> None:
    pins = tmp_path / "pins"
    program = (
        "import asyncio\nfrom machine import Pin\np = Pin(14, Pin.IN, Pin.PULL_UP)\n"
        "p.irq(lambda pin: print('EDGE', pin.value()))\nprint('UP')\n"
        "async def main():\n    await asyncio.sleep(3600)\nasyncio.run(main())\n"
    )
    with VirtualBoard(settings(tmp_path, pins=pins)) as board:
        board.console.wait_for(PROMPT)
        write_main(board, program)
        board.power_cut()
        with pytest.raises(OSError, match="No such device"):  # nobody there
            drive_pin(pins, 14, 0)
        board.start()
        board.console.wait_for("UP")
        drive_pin(pins, 14, 0)
        board.console.wait_for("EDGE 0")


def test_handlers_that_come_faster_than_the_queue_takes_are_lost_and_nothing_else(tmp_path: Path) -> None:
    pins = tmp_path / "pins"
    with VirtualBoard(settings(tmp_path, pins=pins)) as board:
        board.console.wait_for(PROMPT)
        with repl(board) as transport:
            transport.exec(f"{COUNT_EDGES}p.irq(lambda pin: seen.append(1))")
            for at in range(2000):
                drive_pin(pins, 14, at % 2)
            transport.eval("None")
            seen = transport.eval("len(seen)")
            assert transport.eval("p.value()") == 1
    assert 0 < seen <= 2000


# ---- settings and the command


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"size_bytes": 5000}, "flash of 5000"),
        ({"uarts": {7: Path("/dev/null")}}, r"UARTs \[7\]"),
        ({"heap_bytes": 10}, "heap of 10"),
        ({"rate": 0.0}, "rate 0"),
        ({"epoch": 1980}, "epoch 1980"),
        ({"uid": "xyz"}, "uid 'xyz'"),
        ({"cut_at_operation": -1}, "cut at operation -1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_board_that_cannot_be_made_is_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        BoardSettings(flash=Path("x"), **change)


def test_sizes_and_uarts_are_read_as_people_write_them() -> None:
    assert (parse_size("120k"), parse_size("2M"), parse_uarts(["1=/dev/a", "2=b=c"])) == (
        122880,
        2 << 20,
        {1: Path("/dev/a"), 2: Path("b=c")},
    )
    assert parse_uarts(["1:18=/dev/a"]) == {(1, 18): Path("/dev/a")}


def test_a_relative_wire_is_found_from_where_the_command_was_given(tmp_path: Path) -> None:
    told = settings(tmp_path, uarts={2: Path("lines/bus/board")}).environment()
    assert told["VB_UART2"] == str(Path.cwd() / "lines/bus/board")


@contextmanager
def board_process(directory: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    argv = [
        sys.executable,
        "-m",
        "simulators.board",
        "--flash",
        str(directory / "board.flash"),
        "--size",
        "256k",
        *options,
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_killing_the_command_is_a_power_cut(tmp_path: Path) -> None:
    link = tmp_path / "ttyBOARD"
    with board_process(tmp_path, "--console", str(link)) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        (child,) = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        died = holds_within(lambda: gone(child), 60)
    assert (ready, died) == ({"ready": True, "console": str(link)}, True)
    with VirtualBoard(settings(tmp_path)) as board:
        board.console.wait_for(PROMPT)


def test_the_command_stops_gracefully_on_sigterm(tmp_path: Path) -> None:
    link = tmp_path / "ttyBOARD"
    with board_process(tmp_path, "--console", str(link), "--log", str(tmp_path / "log")) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with serial.Serial(str(link), timeout=60) as port:
            port.write(b"\r")
            prompt = port.read_until(b">>> ")
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    assert prompt.endswith(b">>> ")
    assert (code, link.is_symlink(), b"MicroPython" in (tmp_path / "log").read_bytes()) == (0, False, True)


def test_the_command_says_when_the_board_lost_its_power(tmp_path: Path) -> None:
    with board_process(tmp_path, "--cut", "3") as process:
        _, complaint = process.communicate(timeout=20)
    assert (process.returncode, complaint.strip()) == (1, "the board went off: exit code 137")


def test_the_command_refuses_bad_usage_with_exit_code_2(tmp_path: Path) -> None:
    with board_process(tmp_path, "--uart", "one") as process:
        _, complaint = process.communicate(timeout=20)
    assert (process.returncode, "expected NUMBER=PATH" in complaint) == (2, True)


# ---- the clock chip, and what is counted


@pytest.mark.parametrize("epoch", [1970, 2000])
def test_a_clock_chip_goes_on_through_a_power_cut(tmp_path: Path, epoch: int) -> None:
    chip = tmp_path / "rtc"
    with VirtualBoard(settings(tmp_path, epoch=epoch, rtc_battery=chip)) as board:
        board.console.wait_for(PROMPT)
        ask(board, "machine.RTC().datetime((2031, 5, 6, 1, 7, 8, 9, 0))")
        board.power_cut()
        board.start()
        board.console.wait_for(PROMPT)
        shown = ask(board, "time.gmtime()[:5]")
    assert shown == (2031, 5, 6, 7, 8)


def test_a_clock_chip_may_show_anything(tmp_path: Path) -> None:
    chip = tmp_path / "rtc"
    set_rtc_battery(chip, 4_000_000_000)
    with VirtualBoard(settings(tmp_path, rtc_battery=chip)) as board:
        board.console.wait_for(PROMPT)
        assert 0 <= ask(board, "time.time()") - 4_000_000_000 < 600


@pytest.mark.parametrize(("percent", "kept"), [(0, 0), (50, 2048), (100, 4096)])
def test_a_cut_erase_has_done_its_part(tmp_path: Path, percent: int, kept: int) -> None:
    cut = {"cut_at_operation": 1, "torn_percent": percent}
    (tmp_path / "board.flash").write_bytes(bytes(FLASH_BYTES))
    with VirtualBoard(settings(tmp_path, **cut)) as board:
        board.wait_off(10)
    assert (tmp_path / "board.flash").read_bytes().count(b"\xff") == kept


def test_reads_and_wear_are_counted(board: VirtualBoard) -> None:
    prepare = """
import _vboard
before = _vboard.flash_counts(), [_vboard.sector_erases(n) for n in range(64)]
with open('/file', 'w') as file: file.write('x' * 6000)
after = _vboard.flash_counts(), [_vboard.sector_erases(n) for n in range(64)]
"""
    counts, erases, wear = ask(
        board,
        "([a - b for a, b in zip(after[0], before[0])], after[0][4] - before[0][4], sum(after[1]) - sum(before[1]))",
        prepare,
    )
    assert counts[3] >= 6000
    assert erases == wear >= 2
