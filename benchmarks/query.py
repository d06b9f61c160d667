"""Times questions on the same fifty million observations in several stores, in one run: half and 95 in 100 answers.

    ours        in process; through HTTP, by the real `tram-cloud run`; the same while batches arrive
    beside it   VictoriaMetrics and InfluxDB through their HTTP (where installed), plain SQL in process

A year raw and daily are asked of ten series in turn, so that nobody answers from a cache of answers. Data is kept in
--cache between runs, if that is given. Time over HTTP is from the request to the last byte; nobody parses the answer
meanwhile. The shortest time and the time of a processor are what other work on the machine lengthens least.

python -m benchmarks.query --rows 5000000 --times 20 --cache /var/tmp/tram-query
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.stores import ours
from benchmarks.stores.asking import Times
from benchmarks.stores.engines import (
    DAY_OF_TEN,
    LATEST,
    YEAR_DAILY,
    YEAR_RAW,
    Engine,
    Influx,
    PlainSql,
    Points,
    VictoriaMetrics,
    filled,
)
from benchmarks.stores.observations import DAYS, SERIES, Plan

QUESTIONS = (YEAR_RAW, YEAR_DAILY, LATEST, DAY_OF_TEN)
GOALS_MS = {YEAR_RAW: 30.0, YEAR_DAILY: 5.0, LATEST: 6.0, DAY_OF_TEN: 3.8}  # in process
OURS = ("ours, in process", "ours, HTTP", "ours, HTTP, ingesting")
BESIDE: dict[str, Engine] = {"victoria": VictoriaMetrics(), "influx": Influx(), "sql": PlainSql()}


def measured(options: argparse.Namespace, cache: Path, plan: Plan) -> dict[str, dict[str, Times]]:
    """Return the times of each store. Raises SystemExit where answers are not of the same length."""
    registry = ours.registry_in(cache / "registry")
    found: dict[str, dict[str, Times]] = {}
    points: dict[str, Points] = {}
    for name in options.beside:
        engine = BESIDE[name]
        if engine.program is not None and shutil.which(engine.program) is None:
            print(f"{engine.name}: {engine.program} is not installed", flush=True)
            continue
        folder = filled(name, partial(engine.fill, plan=plan, registry=registry), cache, plan)
        found[engine.name], points[engine.name] = engine.measure(folder, plan, options.times)
    folder = filled("ours", partial(ours.fill, plan=plan, registry=registry), cache, plan)
    ours.registry_in(folder)
    on_disk = ours.size(folder, plan)
    print(f"ours: {on_disk.file:.3f} bytes of file for each row, {on_disk.chunks:.3f} of chunks", flush=True)
    found[OURS[0]] = ours.in_process(folder, plan, registry, options.times)
    found[OURS[1]], points[OURS[1]] = ours.over_http(folder, registry, plan, options.times)
    if options.arriving:
        busy, rate = ours.while_ingesting(folder, registry, plan, options.times, options.arriving)
        found[OURS[2]] = busy
        print(f"while ingesting: {rate:,.0f} records/s stored", flush=True)
    if any(one != points[OURS[1]] for one in points.values()):
        raise SystemExit(f"the answers are not alike: {points}")
    return found


def table(found: dict[str, dict[str, Times]]) -> str:
    """Return all times, and what ours are of VictoriaMetrics'."""
    lines = [f"{'p50 / p95 / least / CPU, ms':28}" + "".join(f"{name:>32}" for name in QUESTIONS)]
    for name, times in found.items():
        shown = (" / ".join(f"{one:.1f}" for one in times[question]) for question in QUESTIONS)
        lines.append(f"{name:28}" + "".join(f"{cell:>32}" for cell in shown))
    rival = found.get(BESIDE["victoria"].name)
    for name in OURS:
        if rival is not None and name in found:
            pairs = (zip(found[name][one], rival[one], strict=True) for one in QUESTIONS)
            ratios = (" / ".join(f"{mine / its:.2f}x" for mine, its in four) for four in pairs)
            lines.append(f"{name + ' : VM':28}" + "".join(f"{ratio:>32}" for ratio in ratios))
    goals = "".join(f"{f'{GOALS_MS[name]:g}':>32}" for name in QUESTIONS)
    return "\n".join([*lines, f"{'goal in process':28}{goals}"])


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=53_856_000, help="as near as whole series come to it")
    parser.add_argument("--times", type=int, default=30, help="answers to each question")
    parser.add_argument("--cache", type=Path, help="folder that keeps the filled stores, on the disk to be measured")
    parser.add_argument(
        "--beside", nargs="*", choices=sorted(BESIDE), default=list(BESIDE), help="what else is asked; none: only ours"
    )
    parser.add_argument("--arriving", type=int, default=200, help="batches of 13 a second beside the last questions")
    options = parser.parse_args()
    plan = Plan.of(options.rows)
    print(f"{plan.rows:,} rows: {plan.whole} series of {DAYS} days, {SERIES - plan.whole} of one", flush=True)
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix="bench-") as name:
        cache = options.cache or Path(name)
        print("\n" + table(measured(options, cache, plan)), flush=True)


if __name__ == "__main__":
    main()
