"""The chain's own scenarios, unchanged, through real ports: pseudo-terminals stand for them here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from simulators.pty_bench import PtyBench

CHAIN = Path(__file__).with_name("test_chain.py")


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_the_scenarios_of_the_chain_pass_on_real_ports(tmp_path: Path) -> None:
    with PtyBench(tmp_path, 60.0) as ports:
        options = [*ports.options, f"--report={tmp_path / 'report'}", "-p", "no:cacheprovider"]
        argv = [sys.executable, "-m", "pytest", str(CHAIN), *options]
        done = subprocess.run(argv, cwd=CHAIN.parents[1], capture_output=True, text=True, timeout=1100, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert ports.switched.count(False) >= 7, "six scenarios' kills and the end of the flash"
    assert (tmp_path / "report" / "report.html").exists()
