"""Where the virtual board's source comes from, and what its build says when something is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulators.virtual_board import build as building
from simulators.virtual_board import source
from simulators.virtual_board.errors import VirtualBoardMissing

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DEB822 = f"""\
# the distribution
Types: deb
URIs: http://packages.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: {KEYRING}

Types: deb
URIs: http://packages.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: {KEYRING}
"""
OURS = "Types: deb-src\nURIs: http://packages.example/debian\nSuites: trixie\nComponents: main\n"

TABLE = {
    "deb822": ({"debian.sources": DEB822}, [OURS + f"signed-by: {KEYRING}\n"]),
    "one line": ({"sources.list": "deb http://packages.example/debian bookworm main non-free-firmware\n"}, [OURS]),
    "one line with options": (
        {"sources.list": f"deb [arch=amd64 signed-by={KEYRING}] http://packages.example/debian stable main # why\n"},
        [OURS + f"signed-by: {KEYRING}\n"],
    ),
    "updates, security and backports only": (
        {
            "sources.list": "".join(
                f"deb http://packages.example/debian bookworm-{s} main\n" for s in ("updates", "backports")
            )
        },
        [],
    ),
    "somebody else's archive": (
        {
            "other.sources": DEB822.replace("debian-archive", "other").replace("/debian", "/apt"),
            "more.list": "deb [signed-by=/etc/apt/keyrings/other.gpg] http://other.example bookworm main\n",
            "third.list": "deb http://third.example/debian nodistro main\ndeb http://third.example/debian sid stable\n",
        },
        [],
    ),
    "switched off": ({"debian.sources": DEB822.replace("Types: deb\n", "Types: deb\nEnabled: no\n")}, []),
    "the same twice": ({"a.sources": DEB822, "b.sources": DEB822}, [OURS + f"signed-by: {KEYRING}\n"]),
    "the keyring first": (
        {"a.list": "deb http://second.example/debian sid main\n", "b.sources": DEB822},
        [OURS + f"signed-by: {KEYRING}\n", OURS.replace("packages", "second")],
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_the_machines_own_sources_name_the_mirror(case: str) -> None:
    files, expected = TABLE[case]
    assert source.source_stanzas(files) == expected


def test_an_embedded_key_is_kept_whole() -> None:
    key = "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END PGP PUBLIC KEY BLOCK-----\n"
    text = f"Types: deb\nURIs: http://packages.example/debian\nSuites: trixie\nComponents: main\n{key}"
    assert source.source_stanzas({"debian.sources": text}) == [OURS + key.replace("Signed-By", "signed-by")]


def test_a_machine_without_debian_sources_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(VirtualBoardMissing, match="MICROPYTHON_SRC"):
        source.fetch(tmp_path, tmp_path, lambda _: None, etc_apt=tmp_path)


def test_a_damaged_tarball_in_the_cache_is_not_used(tmp_path: Path) -> None:
    (tmp_path / source.TARBALL).write_bytes(b"damaged")
    with pytest.raises(VirtualBoardMissing):
        source.fetch(tmp_path, tmp_path, lambda _: None, etc_apt=tmp_path)


def test_missing_tools_are_named(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "simulators.virtual_board.build"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, "apt-get install gcc" in done.stderr) == (1, True)


def test_a_source_tree_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("MICROPYTHON_SRC", str(tmp_path / "nothing"))
    with pytest.raises(VirtualBoardMissing, match="holds no MicroPython source tree"):
        building.build()


def test_without_a_build_the_interpreter_is_missing_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(VirtualBoardMissing, match=r"python -m simulators\.virtual_board\.build"):
        building.interpreter()


def test_the_second_build_takes_milliseconds() -> None:
    try:
        built = building.build()
    except VirtualBoardMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the virtual board cannot be built here: {error}")
    start = time.perf_counter()
    again = building.build()
    assert (again, time.perf_counter() - start < 0.1) == (built, True)
