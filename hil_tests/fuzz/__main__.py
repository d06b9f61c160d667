"""make fuzz: the command line, the table."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path

from hil_tests.fuzz import campaign
from hil_tests.fuzz.campaign import Row
from hil_tests.fuzz.growth import ROUNDS, most_staying, objects_staying
from hil_tests.fuzz.target import Target, try_input

FOLDER = Path(".fuzz")
HEAD = (
    f"{'target':<22}{'inputs':>11}{'new branches':>14}{'corpus':>8}{'slowest ms':>12}{'growth MB':>11}{'findings':>10}"
)


def main() -> int:
    arguments = _parser().parse_args()
    if importlib.util.find_spec("atheris") is None and arguments.replay is None:
        sys.stderr.write("atheris is not installed: it has no package for this Python; make fuzz wants 3.11 to 3.13\n")
        return 2
    targets = campaign.load_targets(instrumented=arguments.replay is None)
    unknown = set(arguments.targets) - set(targets)
    if unknown or (arguments.replay and len(arguments.targets) != 1):
        sys.stderr.write(f"{', '.join(sorted(unknown)) or 'one target'}: there are {', '.join(targets)}\n")
        return 2
    chosen = [targets[name] for name in arguments.targets or targets]
    if arguments.replay:
        return _replay(chosen[0], arguments.replay)
    return _fuzz(chosen, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make fuzz", description="Fuzz every parser.", epilog='Example: make fuzz MINUTES=5 ARGS="network commit"'
    )
    parser.add_argument("targets", nargs="*", help="names of targets; all without")
    parser.add_argument("--minutes", type=float, default=1.0, help="for all together, on two processors")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="the table for scripts")
    parser.add_argument("--keep", action="store_true", help="make what was found the corpus of the repository")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where corpus, logs and findings of the run go")
    parser.add_argument(
        "--replay",
        type=Path,
        metavar="FILE",
        help="try one input on one target; of a folder, look what all its inputs leave behind",
    )
    return parser


def _fuzz(chosen: list[Target], arguments: argparse.Namespace) -> int:
    folder = arguments.folder.resolve()
    if not arguments.json:
        sys.stdout.write(f"{HEAD}\n")
    told = (lambda _: None) if arguments.json else _tell
    rows = campaign.run(chosen, 60 * arguments.minutes, arguments.seed, folder, told)
    findings = sum(len(row.result.findings) for row in rows)
    if arguments.json:
        sys.stdout.write(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    else:
        inputs = sum(row.result.inputs for row in rows)
        sys.stdout.write(f"{len(rows)} targets, {inputs:,} inputs, {findings} findings\n")
    if arguments.keep:
        campaign.keep(chosen, folder)
    return 1 if findings else 0


def _tell(row: Row) -> None:
    one = row.result
    sys.stdout.write(
        f"{one.target:<22}{one.inputs:>11,}{row.new_branches:>14}{row.corpus:>8}"
        f"{one.slowest_ms:>12.1f}{one.rss_growth_mb:>11.1f}{len(one.findings):>10}\n"
    )
    for place, finding in one.findings.items():
        last = finding["text"].strip().splitlines()[-1][:160]
        sys.stdout.write(f"  {finding['kind']} {place}: {last}\n")
        if finding["file"]:
            sys.stdout.write(f'  again: make fuzz ARGS="--replay {finding["file"]} {one.target}"\n')
    sys.stdout.flush()


def _replay(target: Target, file: Path) -> int:
    if file.is_dir():
        return _replay_all(target, [one.read_bytes() for one in sorted(file.iterdir())])
    try:
        data = file.read_bytes()
    except OSError as error:
        sys.stderr.write(f"{file}: {error.strerror}\n")
        return 2
    finding, cpu_ms = try_input(target, data)
    sys.stdout.write(f"{len(data)} bytes, {cpu_ms:.1f} ms: {finding.text if finding else 'no finding'}\n")
    return 1 if finding else 0


def _replay_all(target: Target, inputs: list[bytes]) -> int:
    staying, most = objects_staying(target, inputs), most_staying(len(inputs))
    sys.stdout.write(f"{len(inputs)} inputs, {ROUNDS} times: {staying} objects stay, {most} may\n")
    return 1 if staying > most else 0


if __name__ == "__main__":
    sys.exit(main())
