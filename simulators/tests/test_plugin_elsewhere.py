"""The plugin in somebody else's project: an instrument of theirs on the bench; and no trace where it is not used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import xml.etree.ElementTree as ElementTree
from itertools import groupby
from pathlib import Path

import pytest

from simulators.pty_bench import PtyBench
from simulators.virtual_board.build import build
from simulators.virtual_board.errors import VirtualBoardMissing

ROOT = Path(__file__).parents[2]
SPEED = 60.0
PROBE = """vendor = "My workshop"
model = "Muddy"
source = "its maker's leaflet"
from_memory = []
confirmed_on_device = false
default_address = 7

[timing]
warmup_ms = 200
timeout_ms = 300
retries = 1
minimum_interval_ms = 100

[serial]
baud = 9600
bits = 8
parity = "N"
stop = 1

[[reads]]
fc = 3
register = 0x0010
count = 4

[[reads.fields]]
parameter = "water_temperature"
at = 0
type = "f32"
order = "CDAB"

[[reads.fields]]
parameter = "turbidity"
at = 4
type = "f32"
order = "CDAB"
"""
SCENARIO = """
from pathlib import Path

import pytest

from simulators.own_bench import OwnInstrument

PROBE = Path(__file__).with_name("muddy-probe.toml")


@pytest.fixture(scope="module")
def instruments():
    return [OwnInstrument(PROBE, address=7, shows={"water_temperature": 28.4, "turbidity": 61.5})]


def test_what_a_chip_cannot_have(timeline):
    timeline.during(10, 20).fault("board.heap-full", heap=80)
    timeline.run()


def test_the_probe_is_read_through_silence_noise_and_a_power_cut(timeline):
    timeline.during("1 min", "3 min").fault("instrument.silent")
    timeline.between("1.5 min", "4 min").expect_missing("turbidity")
    timeline.during("3 min", "5 min").fault("bus.noise", chance=0.1)
    timeline.at("3 min").cut("link")
    timeline.at("5 min").restore("link")
    timeline.at("5 min").cut("board")
    timeline.at("5.5 min").restore("board")
    timeline.by("7 min").expect_value("turbidity", near=61.5, within=0.1)
    timeline.by("7 min").expect_records(lost=0, twice=0)
    timeline.run()
"""
OTHERS = """
import sys


def test_nothing_of_the_bench_is_loaded():
    ours = {"simulators", "simulators.pytest_plugin"}
    loaded = {n for n in sys.modules if n.partition(".")[0] in ("simulators", "station_config", "firmware", "pymodbus")}
    assert loaded <= ours, loaded - ours
"""
CLASHES = """
def pytest_addoption(parser):
    for name in ("--board", "--bus", "--relay", "--report", "--speed"):
        parser.addoption(name, default=None)
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a virtual environment with Trạm's wheel installed; what that needs is borrowed from ours."""
    folder = tmp_path_factory.mktemp("elsewhere")
    source = folder / "source"
    kept = ("firmware", "station_config", "edge_gateway", "cloud_ingest", "alerts", "simulators")
    for name in kept:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "tests", ".build"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-q", "-w", str(folder), str(source)], check=True, capture_output=True)
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    install = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps", "--no-index"]
    (wheel,) = folder.glob("tram-*.whl")
    python = str(folder / "venv" / "bin" / "python")
    subprocess.run([*install[:3], "--python", python, *install[3:], str(wheel)], check=True, capture_output=True)
    shutil.rmtree(source)
    _borrow(site)
    return folder


def _borrow(site: Path) -> None:
    """Let the environment see our third-party packages, and not our own in editable form."""
    ours = Path(sysconfig.get_path("purelib"))
    for one in ours.iterdir():
        if not one.name.startswith(("tram-", "__editable__")) and not (site / one.name).exists():
            (site / one.name).symlink_to(one)


def run(elsewhere: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    python = str(elsewhere / "venv" / "bin" / "python")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "PYTHON"))}
    environment["PATH"] = f"{elsewhere / 'venv' / 'bin'}:{environment['PATH']}"
    return subprocess.run(
        [python, "-m", "pytest", "-p", "no:cacheprovider", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the folder of somebody's own scenarios."""
    try:
        build()
    except VirtualBoardMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no virtual board here: {error}")
    folder = tmp_path / "muddy"
    folder.mkdir()
    (folder / "muddy-probe.toml").write_text(PROBE, encoding="utf-8")
    (folder / "test_muddy.py").write_text(SCENARIO, encoding="utf-8")
    return folder


def test_ones_own_scenarios_outside_of_the_repository_on_real_ports(
    elsewhere: Path, project: Path, tmp_path: Path
) -> None:
    with PtyBench(tmp_path, SPEED) as ports:
        options = [option.replace("--", "--tram-", 1) for option in ports.options]
        done = run(elsewhere, project, "--tram-report=report", *options)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    changes = [closed for closed, _ in groupby([True, *ports.switched])]
    assert changes == [True, False, True, False, True], "off after the flash, and in the scenario"
    page = _assert_report(project / "report", skipped=1)
    for words in ("firmware 0.1.0 on", "board.power-cut", "a chip has the memory", "<svg", str(tmp_path / "console")):
        assert words in page


@pytest.mark.soak
def test_ones_own_scenarios_outside_of_the_repository_on_a_virtual_board(elsewhere: Path, project: Path) -> None:
    done = run(elsewhere, project, "--tram-report=report")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    _assert_report(project / "report", skipped=0)


def _assert_report(folder: Path, skipped: int) -> str:
    """Look at the figures of JUnit XML and return the page."""
    suite = ElementTree.parse(folder / "junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "0", str(skipped))
    said = {one.get("name"): one.get("value") or "" for one in suite.iter("property")}
    verdict = json.loads(said["tram_timeline"])
    assert verdict["passed"]
    assert sum(account["made"] for account in verdict["log"]["accounts"]) > 10
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "muddy-probe" in page
    assert "http" not in page, "one file, nothing fetched"
    return page


def test_a_project_that_does_not_use_it_is_not_touched_and_may_have_options_of_the_same_names(
    elsewhere: Path, tmp_path: Path
) -> None:
    (tmp_path / "conftest.py").write_text(CLASHES, encoding="utf-8")
    (tmp_path / "test_others.py").write_text(OTHERS, encoding="utf-8")
    done = run(elsewhere, tmp_path, "--board=theirs", "-W", "error")
    assert done.returncode == 0, done.stdout + done.stderr


def test_wrong_options_are_all_named_at_once(elsewhere: Path, tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("def test_one(bench): pass\n", encoding="utf-8")
    done = run(elsewhere, tmp_path, "--tram-board=/dev/nowhere", "--tram-relay=lcus:x#9", "--tram-speed=fast")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    for words in (
        "missing: --bus, --uplink",
        "--board /dev/nowhere",
        "channels 1 to 8",
        "--speed and --seed are numbers",
    ):
        assert words in said, said
