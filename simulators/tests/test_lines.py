"""RS-485 lines: who hears what, what faults do, and that participants may come and go."""

from __future__ import annotations

import json
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st

from simulators import control
from simulators.errors import SimulatorError
from simulators.faults.line import LineFaults, Passage, pass_chunk
from simulators.lines import Lines, load

FRAME = b"\x0b\x04\x00\x00\x00\x08\xf1\x66"
SILENCE_S = 0.1

# ---- the decisions


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({}, Passage(FRAME, 0.0, ())),
        ({"cut": True}, Passage(b"", 0.0, ("cut",))),
        ({"stuck": True}, Passage(bytes(8), 0.0, ("stuck",))),
        ({"drop": 1.0}, Passage(b"", 0.0, ("drop",))),
        ({"double": 1.0}, Passage(FRAME + FRAME, 0.0, ("double",))),
        ({"delay_ms": 750.0}, Passage(FRAME, 0.75, ("delay_ms",))),
        ({"cut": True, "noise": 1.0, "delay_ms": 9.0}, Passage(b"", 0.0, ("cut",))),
    ],
    ids=str,
)
def test_what_becomes_of_a_frame(fault: dict[str, Any], expected: Passage) -> None:
    assert pass_chunk(LineFaults(**fault), FRAME, random.Random(1)) == expected


@given(st.binary(min_size=1, max_size=300), st.integers())
def test_corruption_flips_exactly_one_bit(chunk: bytes, seed: int) -> None:
    passage = pass_chunk(LineFaults(corrupt=1.0), chunk, random.Random(seed))
    flipped = int.from_bytes(chunk, "big") ^ int.from_bytes(passage.data, "big")
    assert (len(passage.data), flipped.bit_count(), passage.reasons) == (len(chunk), 1, ("corrupt",))


@given(st.binary(min_size=1, max_size=300), st.integers())
def test_noise_adds_to_a_frame_and_takes_nothing_away(chunk: bytes, seed: int) -> None:
    passage = pass_chunk(LineFaults(noise=1.0), chunk, random.Random(seed))
    assert len(chunk) < len(passage.data) <= len(chunk) + 4
    assert passage.data.startswith(chunk) or passage.data.endswith(chunk)


def test_chances_are_what_they_say_and_a_seed_gives_the_same_again() -> None:
    def lost(seed: int) -> list[bool]:
        chance = random.Random(seed)
        return [pass_chunk(LineFaults(drop=0.2), FRAME, chance).data == b"" for _ in range(2000)]

    assert 330 < sum(lost(7)) < 470
    assert lost(7) == lost(7) != lost(8)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mould", True),
        ("cut", 0.5),
        ("noise", 1.5),
        ("drop", -0.1),
        ("delay_ms", True),
        ("delay_ms", 1e9),
        ("noise", "x"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(name: str, value: Any) -> None:
    with pytest.raises(SimulatorError):
        LineFaults().with_fault(name, value)


# ---- the running lines


@contextmanager
def running(directory: Path, **changes: Any) -> Iterator[subprocess.Popen[str]]:
    content = {
        "dir": str(directory / "lines"),
        "socket": str(directory / "s"),
        "lines": {"bus": ["board", "probe", "level"], "other": ["a", "b"]},
    }
    (directory / "lines.json").write_text(json.dumps(content | changes))
    argv = [sys.executable, "-m", "simulators.lines", "--config", str(directory / "lines.json")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["ready"] is True
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("lines")
    with running(directory):
        yield directory


@pytest.fixture
def lines(site: Path) -> Iterator[Lines]:
    lines = Lines(site / "s")
    yield lines
    for line in lines.status():
        lines.clear(line)


@contextmanager
def port(site: Path, path: str) -> Iterator[serial.Serial]:
    with serial.Serial(str(site / "lines" / path), 9600, timeout=60) as opened:
        yield opened


def hears_nothing(opened: serial.Serial) -> bool:
    return not select.select([opened], [], [], SILENCE_S)[0]


def test_all_others_on_the_line_hear_and_nobody_else(site: Path, lines: Lines) -> None:
    paths = ("bus/board", "bus/probe", "bus/level", "other/a")
    with ExitStack() as stack:
        board, probe, level, other = (stack.enter_context(port(site, path)) for path in paths)
        board.write(FRAME)
        heard = (probe.read(8), level.read(8), hears_nothing(board), hears_nothing(other))
    assert heard == (FRAME, FRAME, True, True)


def test_every_byte_value_passes_unchanged(site: Path, lines: Lines) -> None:
    content = bytes(range(256)) * 4
    with port(site, "bus/board") as board, port(site, "bus/probe") as probe:
        board.write(content)
        assert probe.read(len(content)) == content


def test_a_participant_may_leave_and_come_back(site: Path, lines: Lines) -> None:
    for _ in range(3):
        with port(site, "bus/board") as board, port(site, "bus/probe") as probe:
            board.write(FRAME)
            assert probe.read(8) == FRAME


def test_a_cut_line_carries_nothing_until_it_is_mended(site: Path, lines: Lines) -> None:
    with port(site, "bus/board") as board, port(site, "bus/probe") as probe:
        lines.set_fault("bus", "cut", True)
        board.write(b"lost")
        silent = hears_nothing(probe)
        lines.set_fault("bus", "cut", False)
        board.write(b"mended")
        assert (silent, probe.read(6)) == (True, b"mended")


def test_what_is_on_its_way_when_the_line_is_cut_is_lost(site: Path, lines: Lines) -> None:
    with port(site, "bus/board") as board, port(site, "bus/probe") as probe:
        lines.set_fault("bus", "delay_ms", 300)
        write_and_see_it_taken(board, FRAME, lines)
        lines.set_fault("bus", "cut", True)
        assert not select.select([probe], [], [], 0.5)[0]


def wait_until(condition: Any, deadline_s: float = 60.0) -> None:
    pause, end = threading.Event(), time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end
        pause.wait(0.005)


def write_and_see_it_taken(board: serial.Serial, data: bytes, lines: Lines) -> None:
    def taken() -> int:
        return int(lines.status()["bus"]["counters"].get("sent_chunks", 0))

    before = taken()
    board.write(data)
    wait_until(lambda: taken() > before)


def test_a_delay_is_kept_and_nothing_overtakes(site: Path, lines: Lines) -> None:
    with port(site, "bus/board") as board, port(site, "bus/probe") as probe:
        lines.set_fault("bus", "delay_ms", 150)
        start = time.monotonic()
        write_and_see_it_taken(board, b"first ", lines)
        lines.set_fault("bus", "delay_ms", 0)
        board.write(b"second")
        heard = probe.read(12)
    assert (heard, time.monotonic() - start >= 0.15) == (b"first second", True)


def test_with_echo_the_sender_hears_itself(site: Path, lines: Lines) -> None:
    with port(site, "bus/board") as board:
        lines.set_fault("bus", "echo", True)
        board.write(FRAME)
        assert board.read(8) == FRAME


def test_faults_and_what_they_did_are_counted(site: Path, lines: Lines) -> None:
    before = lines.status()["bus"]["counters"].get("drop", 0)
    with port(site, "bus/board") as board, port(site, "bus/probe") as probe:
        lines.set_fault("bus", "drop", 1.0)
        board.write(FRAME)
        assert hears_nothing(probe)
    after = lines.status()["bus"]
    assert (after["faults"], after["counters"]["drop"] - before) == ({"drop": 1.0}, 1)


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        ({"line": "nowhere", "fault": "cut", "on": True}, "no line 'nowhere'; there are bus, other"),
        ({"line": "bus", "fault": "mould", "on": True}, "no fault 'mould'"),
        ({"line": "bus"}, "expected"),
    ],
    ids=["line", "fault", "shape"],
)
def test_a_request_that_cannot_be_carried_out_is_refused(site: Path, request_: dict[str, Any], complaint: str) -> None:
    with pytest.raises(control.ControlError, match=complaint):
        control.ask(site / "s", request_)


def test_a_reader_that_sleeps_loses_its_own_bytes_only(site: Path, lines: Lines) -> None:
    content = bytes(1000)
    with port(site, "bus/board") as board, port(site, "bus/probe") as probe:
        for _ in range(40):
            board.write(content)
            assert probe.read(1000) == content
    assert lines.status()["bus"]["counters"]["unread_bytes"] > 0


def test_bytes_take_their_time_at_the_lines_baud(tmp_path: Path) -> None:
    with running(tmp_path, baud=9600), port(tmp_path, "bus/board") as board, port(tmp_path, "bus/probe") as probe:
        start = time.monotonic()
        board.write(bytes(96))
        heard = probe.read(96)
        took_s = time.monotonic() - start
    assert (len(heard), took_s > 0.09) == (96, True)


def test_an_idle_line_costs_no_processor_time(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        process_times = psutil.Process(process.pid).cpu_times
        before = process_times()
        threading.Event().wait(0.5)
        after = process_times()
    assert sum(after[:2]) - sum(before[:2]) <= 0.1


def test_lines_end_gracefully_and_leave_nothing_behind(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    assert (code, list((tmp_path / "lines").glob("*/*")), (tmp_path / "s").exists()) == (0, [], False)


def test_lines_start_again_after_a_kill(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        process.kill()
    with running(tmp_path), port(tmp_path, "other/a") as one, port(tmp_path, "other/b") as another:
        one.write(FRAME)
        assert another.read(8) == FRAME


def test_a_second_bench_on_the_same_socket_is_refused(site: Path) -> None:
    argv = [sys.executable, "-m", "simulators.lines", "--config", str(site / "lines.json")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, "another simulator is listening" in done.stderr) == (1, True)


def test_all_faults_of_a_configuration_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lines.json"
    path.write_text('{"dir": "x", "lines": {"bus": ["only one"]}, "baud": 5, "colour": "red"}')
    with pytest.raises(SimulatorError) as caught:
        load(path)
    assert [word in str(caught.value) for word in ("socket", "lines.bus", "baud", "colour")] == [True] * 4
