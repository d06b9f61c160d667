"""MicroPython's source: the Debian package's tarball, from the machine's own Debian mirror, checksum verified.

Whatever Debian the machine runs, the tarball is asked of the suite that has it (trixie) through a private apt state:
the machine's own sources name the mirror and the keys, and stay as they are. No root is needed.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from simulators.virtual_board.errors import VirtualBoardMissing

VERSION = "1.25.0"
PACKAGE = f"micropython={VERSION}+ds-1"
SUITE = "trixie"
TARBALL = f"micropython_{VERSION}+ds.orig.tar.xz"
SHA256 = "7b25be99a502f070b2de81dafc08da7051d992325d6e67daa9045a918fffdbea"

APT_TIMEOUT_S = 300
BASE_SUITES = frozenset(
    ["bullseye", "bookworm", "trixie", "forky", "sid", "oldoldstable", "oldstable", "stable", "testing", "unstable"]
)
DEBIAN_KEYRING = "debian-archive-keyring"
OTHERWISE = f"Or set MICROPYTHON_SRC to an unpacked MicroPython {VERSION} source tree."

Report = Callable[[str], None]


def deb822_stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yield the stanzas of a .sources file as {lower-case field: value, with its continuation lines}."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for block in re.split(r"\n\s*\n", "\n".join(lines)):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if line[:1].isspace() and name:
                fields[name] += "\n" + line
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields:
            yield fields


def _one_line_stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yield the entries of a one-line .list file in the shape of deb822 stanzas."""
    for line in text.splitlines():
        match = re.match(r"\s*(deb|deb-src)\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]*)", line)
        if match:
            kind, options, uri, suite, components = match.groups()
            fields = {"types": kind, "uris": uri, "suites": suite, "components": components.strip()}
            for option in (options or "").split():
                name, _, value = option.partition("=")
                fields[name.lower()] = value.replace(",", " ")
            yield fields


def _is_debian(stanza: dict[str, str]) -> bool:
    """Say whether a stanza is Debian's own main archive (not updates, security, backports, nor somebody else's)."""
    if stanza.get("enabled", "yes").lower() in ("no", "false", "0"):
        return False
    if not BASE_SUITES.intersection(stanza.get("suites", "").split()):
        return False
    if "main" not in stanza.get("components", "").split():
        return False
    return DEBIAN_KEYRING in stanza.get("signed-by", "") or "debian" in stanza.get("uris", "")


def source_stanzas(files: dict[str, str]) -> list[str]:
    """Return deb-src stanzas for SUITE derived from apt source files ({file name: text}), the surest first."""
    found = []
    for name, text in files.items():
        stanzas = deb822_stanzas(text) if name.endswith(".sources") else _one_line_stanzas(text)
        found += [stanza for stanza in stanzas if _is_debian(stanza)]
    found.sort(key=lambda stanza: DEBIAN_KEYRING not in stanza.get("signed-by", ""))
    kept_options = ("signed-by", "trusted", "check-valid-until", "allow-insecure")
    texts = []
    for stanza in found:
        lines = ["Types: deb-src", f"URIs: {stanza['uris']}", f"Suites: {SUITE}", "Components: main"]
        lines += [f"{option}: {stanza[option]}".replace(": \n", ":\n") for option in kept_options if option in stanza]
        texts.append("\n".join(lines) + "\n")
    return list(dict.fromkeys(texts))


def _machine_source_files(etc_apt: Path) -> dict[str, str]:
    candidates = [
        etc_apt / "sources.list",
        *sorted((etc_apt / "sources.list.d").glob("*.sources")),
        *sorted((etc_apt / "sources.list.d").glob("*.list")),
    ]
    return {str(path): path.read_text(errors="replace") for path in candidates if path.is_file()}


def _apt(arguments: list[str], state: Path, directory: Path) -> str | None:
    """Run apt-get on the private state; return None when it succeeded, else the last line it complained with."""
    options = {
        "Dir::State": state / "state",
        "Dir::Cache": state / "cache",
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": state / "sources",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "APT::Sandbox::User": "root",  # the cache may lie where apt's own user cannot go
    }
    flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    try:
        done = subprocess.run(
            ["apt-get", "-q", *flags, *arguments],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=APT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {APT_TIMEOUT_S} s"
    if done.returncode == 0:
        return None
    complaints = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:"))]
    return complaints[-1] if complaints else f"exit code {done.returncode}"


def _download_with(stanza: str, workspace: Path) -> str | None:
    """Download the tarball into `workspace` with one stanza; return None, or why not."""
    state = workspace / "apt"
    shutil.rmtree(state, ignore_errors=True)
    for directory in ("state/lists/partial", "cache/archives/partial", "sources"):
        (state / directory).mkdir(parents=True)
    (state / "sources" / "micropython.sources").write_text(stanza)
    return _apt(["update"], state, workspace) or _apt(["source", "--download-only", PACKAGE], state, workspace)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(cache: Path, workspace: Path, report: Report, etc_apt: Path = Path("/etc/apt")) -> Path:
    """Return the verified tarball in `cache`, downloading it through apt when it is not there.

    Raises VirtualBoardMissing with what to do when it cannot be had.
    """
    tarball = cache / TARBALL
    if tarball.is_file() and _digest(tarball) == SHA256:
        return tarball
    stanzas = source_stanzas(_machine_source_files(etc_apt)) if shutil.which("apt-get") else []
    if not stanzas:
        raise VirtualBoardMissing(
            f"MicroPython's source comes from Debian through apt, and this machine names no Debian mirror. {OTHERWISE}"
        )
    reason: str | None = None
    for stanza in stanzas:
        report(f"asking apt for the source of {PACKAGE} ({SUITE})")
        reason = _download_with(stanza, workspace)
        downloaded = workspace / TARBALL
        if reason is None and _digest(downloaded) != SHA256:
            reason = f"the sha256 of {TARBALL} is not the expected one; it was not used"
        if reason is None:
            downloaded.replace(tarball)
            return tarball
    raise VirtualBoardMissing(f"apt could not get {PACKAGE}: {reason}. Try again with the network up. {OTHERWISE}")


def unpack(tarball: Path, directory: Path) -> Path:
    """Unpack the verified tarball under `directory`; return the source tree."""
    with tarfile.open(tarball) as archive:
        # Pythons before 3.11.4 have no filters; the archive's checksum was verified either way.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        archive.extractall(directory)  # noqa: S202 - what is in it is fixed by its checksum
    return directory / f"micropython-{VERSION}"
