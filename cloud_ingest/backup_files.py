"""Where a backup lies: a folder, or one tar file; made whole or not at all, put back only when it is whole."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cloud_ingest import observation_copy
from cloud_ingest.backup import BLOCK, MANIFEST, Manifest, content, contradictions, differences, sync_folder
from cloud_ingest.backup import read_manifest as parse_manifest
from cloud_ingest.database import DATABASE
from cloud_ingest.errors import BackupRefused
from cloud_ingest.store import LOCK

TAR = ".tar"
_NAME = re.compile(r"[a-z0-9_-]{1,60}\.sqlite")
_MANIFEST_LIMIT = 256 << 20


@contextmanager
def new_place(target: Path) -> Iterator[Path]:
    """Yield an empty folder for a backup's files; at the end it is at `target`, a folder or a tar file, or nowhere.

    Raises BackupRefused when there is something already, or no room.
    """
    if target.exists() and (target.suffix == TAR or not target.is_dir() or any(target.iterdir())):
        raise BackupRefused(f"{target}: there is something already; name a new file or folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            folder = Path(scratch, "backup")
            folder.mkdir(mode=0o700)
            yield folder
            _put(folder, target, Path(scratch, "backup.tar"))
    except OSError as error:
        raise BackupRefused(f"{target}: {error.strerror or error}; there is no backup") from None


def verify(source: Path) -> Manifest:
    """Count and hash a backup against its manifest. Raises BackupRefused with what is not as it should be."""
    with verified(source) as (manifest, _):
        return manifest


@contextmanager
def verified(source: Path) -> Iterator[tuple[Manifest, Path]]:
    """Lend a backup's manifest and the folder of its files, counted and hashed. Raises BackupRefused."""
    if source.is_dir():
        yield _verified(source, source), source
        return
    with tempfile.TemporaryDirectory(prefix="tram-verify-") as scratch:
        _unpack(source, Path(scratch))
        yield _verified(Path(scratch), source), Path(scratch)


def restore(
    source: Path, state_dir: Path, *, deep: bool, elsewhere: Callable[[Path], object] | None = None
) -> Manifest:
    """Put a backup into a directory that is new or empty; `deep` counts and hashes it too. Raises BackupRefused.

    The files are checked before the first is at its place; the store's comes last. Observations that belong elsewhere
    are put there by `elsewhere` (of the folder their file is in) before all.
    """
    _require_free(state_dir)
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".restoring-", dir=state_dir) as scratch:
            folder = Path(scratch)
            manifest = _copied(source, folder) if source.is_dir() else _unpack(source, folder)
            if deep:
                _verified(folder, source)
            names = set(manifest.databases) - {observation_copy.FILE}
            if elsewhere is not None:
                elsewhere(folder)
            elif len(names) < len(manifest.databases):
                raise BackupRefused(f"{source}: its observations belong into an InfluxDB: say --config cloud.toml")
            if DATABASE not in names:
                raise BackupRefused(f"{source}: only observations are in it; its books are in PostgreSQL's own dump")
            for name in sorted(names, key=lambda name: name == DATABASE):
                (folder / name).replace(state_dir / name)
            sync_folder(state_dir)
    except OSError as error:
        raise BackupRefused(f"{state_dir}: {error.strerror or error}; nothing was restored") from None
    return manifest


def _put(folder: Path, target: Path, scratch: Path) -> None:
    if target.suffix != TAR:
        with suppress(FileNotFoundError):
            target.rmdir()  # it was empty
        folder.replace(target)
    else:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            with tarfile.open(fileobj=opened, mode="w") as tar:
                for name in (MANIFEST, *sorted(file.name for file in folder.glob("*.sqlite"))):
                    tar.add(folder / name, name)
            opened.flush()
            os.fsync(descriptor)
        scratch.replace(target)
    sync_folder(target.parent)


def _require_free(state_dir: Path) -> None:
    lock = state_dir / LOCK
    if lock.exists():
        with lock.open("rb") as opened:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise BackupRefused(f"{state_dir}: in use by a running tram-cloud; stop it") from None
    if state_dir.exists() and (not state_dir.is_dir() or any(state_dir.iterdir())):
        raise BackupRefused(f"{state_dir}: not empty; move what is in it away, or name a new directory")


def _verified(folder: Path, source: Path) -> Manifest:
    manifest = _read_manifest(folder / MANIFEST)
    found = content(folder)
    texts = [*differences(manifest, found), *contradictions(found.journals)]
    if not texts and observation_copy.FILE in manifest.databases:
        texts = observation_copy.faults(folder / observation_copy.FILE)
    if texts:
        raise BackupRefused("\n".join([f"{source}: not what was backed up:", *texts]))
    return manifest


def _read_manifest(file: Path) -> Manifest:
    try:
        return parse_manifest(file.read_bytes())
    except OSError as error:
        raise BackupRefused(f"{file}: {error.strerror}; this is no backup, or one that was never finished") from None


def _copied(source: Path, folder: Path) -> Manifest:
    manifest = _read_manifest(source / MANIFEST)
    shutil.copyfile(source / MANIFEST, folder / MANIFEST)
    for name in manifest.databases:
        if not (source / name).exists():
            raise BackupRefused(f"{source}: {name} is missing")
        with (source / name).open("rb") as opened:
            _take(opened.read, folder / _known(name), manifest)
    return manifest


def _unpack(source: Path, folder: Path) -> Manifest:
    """Take the manifest and the files it names out of a tar file, each checked by its hash; nothing else is touched."""
    try:
        with tarfile.open(source, "r:") as tar:
            manifest = parse_manifest(_member(tar, MANIFEST)(_MANIFEST_LIMIT))
            (folder / MANIFEST).write_text(manifest.model_dump_json())
            for name in manifest.databases:
                _take(_member(tar, name), folder / _known(name), manifest)
    except tarfile.TarError as error:
        raise BackupRefused(f"{source}: no whole backup: {error}") from None
    except FileNotFoundError:
        raise BackupRefused(f"{source}: no such backup") from None
    return manifest


def _member(tar: tarfile.TarFile, name: str) -> Callable[[int], bytes]:
    try:
        opened = tar.extractfile(name)
    except KeyError:
        opened = None
    if opened is None:
        raise BackupRefused(f"no whole backup: {name} is missing")
    return opened.read


def _take(read: Callable[[int], bytes], target: Path, manifest: Manifest) -> None:
    digest, size = hashlib.sha256(), 0
    with target.open("xb") as opened:
        while data := read(BLOCK):
            digest.update(data)
            size += len(data)
            opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())
    said = manifest.databases[target.name]
    if (size, digest.hexdigest()) != (said.bytes, said.sha256):
        raise BackupRefused(f"{target.name}: torn or altered: {size} bytes, SHA-256 {digest.hexdigest()[:12]}…;"
                            f" the manifest says {said.bytes} and {said.sha256[:12]}…")  # fmt: skip


def _known(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BackupRefused(f"{name!r}: not the name of a database")
    return name
