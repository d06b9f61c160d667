"""Faults injected by plan into the parts they are made for: begun, in force, healed; what cannot be done says why."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from firmware.record import crc16
from simulators.board import BoardSettings, VirtualBoard
from simulators.disk.shim import Faults
from simulators.errors import SimulatorError
from simulators.faults import FaultPlan, FaultRefused, Injection
from simulators.faults.boards import BoardPart, VirtualPower
from simulators.faults.line import LineFaults, pass_chunk
from simulators.faults.parts import Absent, Begin, Injector, Parts
from simulators.faults.programs import GatewayPart, Slowed, failing
from simulators.faults.wires import Bus
from simulators.link import damaged_share
from simulators.processes import Program, Spawner, wait_for
from simulators.virtual_board.build import build


class BusOfOne:
    """A line in this process."""

    def __init__(self) -> None:
        self.now = LineFaults()

    def set_fault(self, name: str, value: bool | float) -> None:
        self.now = self.now.with_fault(name, value)


def test_a_plan_is_carried_out_healed_and_told() -> None:
    bus = BusOfOne()
    plan = FaultPlan(
        1,
        60.0,
        (
            Injection(5, 10, "bus.noise", "xuan-hoa", {"chance": 0.2}),
            Injection(8, 2, "bus.stuck", "hoa-binh"),
            Injection(20, 5, "bus.delay", "xuan-hoa"),
        ),
    )
    injector = Injector(Parts({"bus": {"xuan-hoa": Bus(bus.set_fault)}}), plan)
    seen = []
    for second in range(30):
        injector.tick(second)
        seen.append(bus.now.as_dict())
    assert seen[4:6] == [{}, {"noise": 0.2}]
    assert seen[14:16] == [{"noise": 0.2}, {}]
    assert seen[20] == {"delay_ms": 1500.0}
    assert injector.done
    assert bus.now == LineFaults()
    assert [f"{one.at_s:g} {one.what}" for one in injector.log] == [
        *("5 began", "8 refused", "15 ended", "20 began", "25 ended"),
    ]
    assert "no bus 'hoa-binh'" in injector.log[1].reason


def test_a_fault_whose_time_is_over_before_the_bench_gets_to_it_is_not_injected_and_told() -> None:
    bus = BusOfOne()
    plan = FaultPlan(1, 60.0, (Injection(5, 3, "bus.cut", "a"), Injection(10, 30, "bus.echo", "a")))
    injector = Injector(Parts({"bus": {"a": Bus(bus.set_fault)}}), plan)
    injector.tick(20)
    assert [f"{one.what} {one.injection.kind}" for one in injector.log] == ["refused bus.cut", "began bus.echo"]
    assert "15 s late" in injector.log[0].reason


def test_a_fault_that_cannot_be_ended_is_told_and_the_others_are_ended() -> None:
    class Stubborn:
        def faults(self) -> Mapping[str, Begin]:
            return {"kill": lambda _: self._not_again}

        def _not_again(self) -> None:
            raise SimulatorError("it does not start again")

    bus = BusOfOne()
    plan = FaultPlan(1, 60.0, (Injection(1, 5, "gateway.kill", "g"), Injection(1, 5, "bus.cut", "a")))
    injector = Injector(Parts({"gateway": {"g": Stubborn()}, "bus": {"a": Bus(bus.set_fault)}}), plan)
    injector.tick(2)
    injector.tick(7)
    assert [one.what for one in injector.log] == ["began", "began", "refused", "ended"]
    assert "did not end: it does not start again" in injector.log[2].reason
    assert not bus.now.cut


def test_ending_early_heals_all_that_is_in_force() -> None:
    bus = BusOfOne()
    plan = FaultPlan(1, 60.0, (Injection(1, 50, "bus.cut", "a"), Injection(30, 5, "bus.cut", "a")))
    injector = Injector(Parts({"bus": {"a": Bus(bus.set_fault)}}), plan)
    injector.tick(2)
    assert bus.now.cut
    injector.heal_all(3)
    assert (bus.now.cut, injector.done) == (False, True)


@pytest.mark.parametrize(
    ("injection", "why"),
    [
        (Injection(0, 1, "board.heap-full", "b"), "not on hardware: a chip has the memory"),
        (Injection(0, 1, "link.cut", "link"), "not on hardware: the bench has no broker"),
        (Injection(0, 1, "bus.noise", "b", {"chance": 7}), "chance must be 0.05 to 0.5"),
    ],
)
def test_what_a_bench_cannot_do_is_refused_with_the_reason(injection: Injection, why: str) -> None:
    parts = Parts({"board": {"b": Absent("it is not here")}, "link": {"link": Absent("the bench has no broker")}}, True)
    with pytest.raises(FaultRefused, match=why):
        parts.begin(injection)


def test_the_wrong_slave_has_a_good_checksum_and_never_becomes_right_again() -> None:
    import random

    frame = bytes((17, 3, 2, 0, 5))
    frame += crc16(frame).to_bytes(2, "little")
    chance = random.Random(1)
    wrong = pass_chunk(LineFaults(wrong_slave=1.0), frame, chance)
    assert (wrong.data[0], wrong.data[1:-2], crc16(wrong.data), wrong.reasons) == (18, frame[1:-2], 0, ("wrong_slave",))
    assert pass_chunk(LineFaults(wrong_slave=1.0), wrong.data, chance).data[0] == 19
    assert pass_chunk(LineFaults(wrong_slave=1.0), b"no frame", chance).data == b"no frame"


def test_one_percent_of_wrong_bits_lets_hardly_a_segment_through() -> None:
    assert damaged_share(0.01, 1460) > 0.9999
    assert damaged_share(0.00001, 100) == pytest.approx(0.011, abs=0.001)
    assert damaged_share(0.0, 1460) == 0.0


def test_a_board_loses_power_at_the_nth_write_and_comes_back(tmp_path: Path) -> None:
    _need_board()
    board = VirtualBoard(BoardSettings(flash=tmp_path / "flash"))
    parts = Parts({"board": {"b": BoardPart(VirtualPower(board), lambda: board.console_path)}})
    with board:
        board.console.wait_for(">>> ")
        heal = parts.begin(Injection(0, 5, "board.power-cut", "b", {"n": 3}))
        board.console.wait_for(">>> ")
        board.console.write(b"for i in range(9): open('/x%d' % i, 'w').write('y')\r\n")
        assert board.wait_off(10) != 0
        heal()
        board.console.wait_for(">>> ")
        heal = parts.begin(Injection(0, 5, "board.heap-full", "b", {"heap": 48}))
        board.console.wait_for(">>> ")
        board.console.write(b"x = bytearray(60000)\r\n")
        board.console.wait_for("MemoryError")
        heal()
        board.console.wait_for(">>> ")
        board.console.write(b"x = bytearray(60000); print(len(x) + 1)\r\n")
        board.console.wait_for("60001")


def test_a_clock_is_moved_over_the_console_and_kept_through_the_reset(tmp_path: Path) -> None:
    _need_board()
    with VirtualBoard(BoardSettings(flash=tmp_path / "flash")) as board:
        board.console.wait_for(">>> ")
        parts = Parts({"board": {"b": BoardPart(VirtualPower(board), lambda: board.console_path)}})
        parts.begin(Injection(0, 0, "board.clock-jump", "b", {"step": 86400}))()
        board.console.wait_for(">>> ")
        board.console.write(b"import time; print(time.time() // 86400, 'days')\r\n")
        board.console.wait_for("1 days")


@pytest.fixture
def sleeper(tmp_path: Path) -> Program:
    """A program that writes a dot a hundredth of a second."""
    code = "import time,sys\nwhile True:\n open(sys.argv[1],'a').write('.'); time.sleep(0.01)"
    argv = [sys.executable, "-c", code, str(tmp_path / "dots")]
    return Program("dots", argv, Spawner(), tmp_path / "log", (tmp_path / "dots").exists, dict(os.environ))


def test_a_program_is_killed_and_started_again(sleeper: Program, tmp_path: Path) -> None:
    sleeper.start()
    parts = Parts({"gateway": {"g": GatewayPart(sleeper, tmp_path)}})
    heal = parts.begin(Injection(0, 1, "gateway.kill", "g"))
    assert not sleeper.running
    heal()
    assert (sleeper.running, sleeper.starts) == (True, 2)
    (tmp_path / "outbox.sqlite-wal").write_bytes(b"12345")
    heal = parts.begin(Injection(0, 1, "gateway.torn-page", "g", {"part": 0.5}))
    assert (tmp_path / "outbox.sqlite-wal").stat().st_size == 5 + 2060
    heal()
    with pytest.raises(FaultRefused, match="disk-full: not at g: it can have kill, torn-page"):
        parts.begin(Injection(0, 1, "gateway.disk-full", "g"))
    sleeper.kill()


def test_a_slowed_program_stands_most_of_the_time_and_runs_when_it_is_over(sleeper: Program) -> None:
    sleeper.start()
    slowed = Slowed(sleeper.pid, 0.1)
    slowed.start()
    process = psutil.Process(sleeper.pid)
    wait_for(lambda: process.status() == psutil.STATUS_STOPPED, 5, "it to stand")
    slowed.end()
    wait_for(lambda: process.status() != psutil.STATUS_STOPPED, 5, "it to run")
    sleeper.kill()


def test_a_full_disk_is_counted_where_the_program_meets_it(tmp_path: Path) -> None:
    from simulators.disk.shim import ShimMissing, environment

    disk = Faults(tmp_path / "faults")
    try:
        witnessed = environment(tmp_path, faults=disk)
    except ShimMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))

    def writes() -> str:
        code = (
            "import sys\ntry: open(sys.argv[1],'wb',0).write(b'x'); print('fine')\nexcept OSError as e: print(e.errno)"
        )
        argv = [sys.executable, "-c", code, str(tmp_path / "file")]
        return subprocess.run(
            argv, env={**os.environ, **witnessed}, capture_output=True, text=True, check=True
        ).stdout.strip()

    heal = failing(disk, errno.ENOSPC)({})
    assert (writes(), disk.failed > 0) == (str(errno.ENOSPC), True)
    heal()
    assert writes() == "fine"


def _need_board() -> None:
    try:
        build()
    except SimulatorError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no virtual board here: {error}")
