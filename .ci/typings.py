"""Lay MicroPython's type files out where mypy can use them: .build/typings, beside the host's own.

The installed distribution puts `machine.pyi`, `time.pyi` and the others at the top of site-packages, where mypy reads
only packages that say they are typed. Usage: typings.py DIRECTORY
"""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import files
from pathlib import Path

DISTRIBUTIONS = ("micropython-esp32-stubs", "micropython-stdlib-stubs")


def lay_out(target: Path) -> int:
    """Copy every .pyi (and typeshed's VERSIONS) of the distributions under target; return how many."""
    shutil.rmtree(target, ignore_errors=True)
    number = 0
    for distribution in DISTRIBUTIONS:
        for file in files(distribution) or ():
            if file.suffix != ".pyi" and file.name != "VERSIONS":
                continue
            copy = target / str(file)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), copy)
            number += 1
    return number


if __name__ == "__main__":
    sys.stdout.write(f"{lay_out(Path(sys.argv[1]))} type files\n")
