"""What one board, gateway and cloud take while nothing much happens: one station, one record per parameter a minute.

Real time (speed 1), CPU seconds from the kernel over the measured span, memory as the proportional share (PSS). The
machine's simulators (world, lines, link, phone, the board's supervisor) are listed too, but are no part of a product.

python -m benchmarks.idle --seconds 300
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from pathlib import Path

import psutil

from simulators import demo
from simulators.bench import Bench
from simulators.bench_options import BenchOptions

SETTLE_S = 20.0
MIB = 1 << 20
PRODUCT = ("board", "gateway", "cloud")


def processes(bench: Bench) -> dict[str, psutil.Process]:
    """Return the processes to measure by what they are; the board is MicroPython itself, not its supervisor."""
    found = {name.partition(":")[0]: psutil.Process(program.pid) for name, program in bench.programs.items()}
    supervisor = found.pop("board")
    (found["board"],) = supervisor.children()
    return found | {"board supervisor": supervisor}


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU time a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    """Bring the chain up with one station, wait, and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=300.0)
    seconds = options.parse_args().seconds
    plan = demo.plan_run(None, 1, None)
    with tempfile.TemporaryDirectory() as folder:
        measure(BenchOptions(Path(folder) / "run", plan, 1.0, stations=(plan.station,)), seconds)


def measure(options: BenchOptions, seconds: float) -> None:
    """Run a bench and print CPU and memory of each of its programs."""
    with Bench(options, print) as bench:
        bench.start()
        threading.Event().wait(SETTLE_S)
        watched = processes(bench)
        before = {name: cpu_s(process) for name, process in watched.items()}
        threading.Event().wait(seconds)
        print(f"{'':18}{'CPU % of a core':>16}{'resident MiB':>14}{'its share (PSS) MiB':>21}")
        total = 0.0
        for name, process in sorted(watched.items(), key=lambda item: (item[0] not in PRODUCT, item[0])):
            percent = 100 * (cpu_s(process) - before[name]) / seconds
            total += percent if name in PRODUCT else 0.0
            memory = process.memory_full_info()
            print(f"{name:18}{percent:16.2f}{memory.rss / MIB:14.1f}{memory.pss / MIB:21.1f}")
        print(f"board + gateway + cloud: {total:.2f} % of one core over {seconds:g} s")


if __name__ == "__main__":
    main()
