"""Files that disks and people damage: update images, journals, outbox, backups, archives, keys, the loader's state."""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from cloud_ingest import backup, backup_files
from cloud_ingest.archive_files import ArchiveManifest, read_archive
from cloud_ingest.errors import BackupRefused
from cloud_ingest.store import Store
from cloud_ingest.tests.field import batch, minutes, records_topic
from edge_gateway.direct.journal import DirectJournal
from edge_gateway.errors import OutboxUnavailable
from edge_gateway.outbox import open_outbox
from edge_gateway.outbox_store import Limits
from edge_gateway.slices import Series, Slice
from firmware import image as board_image
from firmware import record
from firmware.errors import ImageRefused as BoardRefused
from firmware.errors import JournalError
from firmware.journal import Journal
from firmware.record import SIZE, Record
from firmware.slots import Slots
from firmware.tests.flash import Flash
from hil_tests.fuzz import scratch
from hil_tests.fuzz.graft import json_of, seeds_of
from hil_tests.fuzz.steps import finished
from hil_tests.fuzz.target import Target
from simulators import control
from station_config import certificates, command_keys, keys
from station_config import image as office_image
from station_config.clock import SystemClock
from station_config.errors import ConfigurationError, ImageRefused, KeyRefused

NOW = 1_780_000_000
SEALED = b"\xfe"
ROOMY = Limits(1 << 30, 60 * 86_400)


def damage(whole: bytes, data: bytes) -> bytes:
    """Return the bytes with changes, each by five: what to do, where (two), and with what (two)."""
    changed = bytearray(whole)
    for at in range(0, min(len(data), 40) - 4, 5):
        way, place, what = struct.unpack(">BHH", data[at : at + 5])
        if not changed:
            break
        where = place * len(changed) // 65536
        if way % 6 == 0:
            changed[where] ^= what & 0xFF or 1
        elif way % 6 == 1:
            del changed[where:]
        elif way % 6 == 2:
            changed[where : where + what % 4096] = bytes(len(changed[where : where + what % 4096]))
        elif way % 6 == 3:
            changed += bytes(what % 600)
        elif way % 6 == 4:
            changed[where : where + 2] = what.to_bytes(2, "big")
        else:
            begin = what * len(changed) // 65536
            changed[where : where + 512] = changed[begin : begin + 512]
    return bytes(changed)


def _changes() -> Iterator[bytes]:
    yield b""
    for way in range(6):
        for place in range(0, 65536, 13107):
            yield struct.pack(">BHH", way, place, 513 * way + 1)


# Update images


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def _modulus() -> int:
    return _key().public_key().public_numbers().n


def _image(data: bytes) -> None:
    """A board and the office read an image. What the board takes, the office does."""
    raw = _signed(data[1:]) if data[:1] == SEALED else data
    taken = None
    with suppress(BoardRefused):
        file = io.BytesIO(raw)
        header = board_image.read_header(file)
        taken = board_image.parse_header(header)
        if not board_image.is_signed(header, raw[len(header) + sum(one.size for one in taken.files) :], [_modulus()]):
            taken = None
    about = office_image.summary(raw)
    if taken is not None:
        assert (about.version, about.bytecode) == (taken.version, taken.bytecode)
        assert [one.name for one in about.files] == [one.name for one in taken.files]
    office_image.verify(raw, [_key().public_key()])
    assert taken is None or board_image.may_replace(taken, (0, 0, 0)) in (True, False)


def _signed(header: bytes) -> bytes:
    """Return the header signed, with no files behind it: they may have no bytes."""
    return header + _key().sign(header, padding.PKCS1v15(), hashes.SHA256())


def _header(names: Iterable[str]) -> bytes:
    table = b"".join(
        bytes((len(name),)) + name.encode() + struct.pack("<I", 0) + hashlib.sha256(b"").digest() for name in names
    )
    files = table.count(b".mpy")
    return b"TRF1" + struct.pack("<HB", 14 + len(table), 6) + bytes((0, 2, 0, 0, 0, 0, files)) + table


def _slots(data: bytes) -> None:
    text = bytes(byte & 0x7F for byte in data[1:5]).ljust(4, b"-")  # what is sealed was written by us
    state = data if data[:1] != SEALED else text + hashlib.sha256(text).digest()[:4]
    flash = Flash()
    flash.files["/slots"] = state
    slots = Slots("a", "/slots", flash, flash.open)
    assert slots.active
    slots.on_trial()
    slots.give_up()
    assert Slots("a", "/slots", flash, flash.open).outcome == "R"
    board_image.parse_keys(data)


# Journals


@cache
def _flash_files() -> dict[str, bytes]:
    flash = Flash()
    journal = _journal(flash)
    for at in range(30):
        journal.append([(NOW + 60 * at, at, 1, 34, 2)] * 5)
    journal.acknowledge(20)
    return dict(flash.files)


def _journal(flash: Any) -> Any:
    journal = Journal("/journal", 16, 16 * SIZE * 8, lambda _: b"\x78\x56\x34\x12", flash, flash.open)
    journal.open()
    return journal


def _flash_journal(data: bytes) -> None:
    """Open a journal whose files are damaged; it goes on, and gives no number twice."""
    flash = Flash()
    flash.files = dict(_flash_files())
    flash.folders.add("/journal")
    names = sorted(flash.files)
    for at in range(0, min(len(data), 24) - 5, 6):
        name = names[data[at] % len(names)]
        flash.files[name] = damage(flash.files[name], data[at + 1 : at + 6])
    journal = _journal(flash)
    first = journal.append([(NOW + 9000, 1, 1, 34, 2)] * 3)
    assert first > 0
    numbers = _numbers(journal)
    assert numbers[-3:] == [first, first + 1, first + 2], numbers
    assert numbers == sorted(set(numbers)), numbers
    again = _journal(flash)
    assert (again.id, again.next_seq) == (journal.id, journal.next_seq)


def _numbers(journal: Any) -> list[int]:
    """Return the numbers of all good records, asking as a gateway does."""
    found: list[int] = []
    seq, buffer = journal.first_seq, bytearray(13 * SIZE)
    for _ in range(400):
        number = journal.read_into(buffer, seq, 13)
        if not number:
            return found
        good = 0
        for at in range(0, number * SIZE, SIZE):
            with suppress(ValueError):
                found.append(record.decode(buffer, at).seq)
                good = found[-1]
        seq = max(seq + number, good + 1)
    raise AssertionError("the journal's records have no end")


@cache
def _direct_file() -> bytes:
    path = scratch.emptied("direct-made") / "journal.sqlite"
    journal = DirectJournal(path, 10_000, bytes)
    journal.open()
    for at in range(40):
        journal.append([(NOW + 60 * at, at, 1, 34, 2)] * 5)
    journal.close()
    return path.read_bytes()


def _direct_journal(data: bytes) -> None:
    path = scratch.emptied("direct") / "journal.sqlite"
    path.write_bytes(damage(_direct_file(), data))
    journal = DirectJournal(path, 10_000, bytes)
    try:
        journal.open()
        first = journal.append([(NOW + 9000, 1, 1, 34, 2)] * 3)
        assert len(journal.read(first, 3)) == 3 * SIZE
        journal.newest_time()
        journal.acknowledge(first)
        journal.start_boot(5)
    finally:
        journal.close()


# The outbox


def _piece(first: int, journal: int = 0x1234ABCD) -> Slice:
    raw = b"".join(record.encode(Record(seq, NOW + seq, seq, 1, 34, 2)) for seq in range(first, first + 13))
    return Slice(Series("xuan-hoa", journal), first, raw)


@cache
def _outbox_file() -> bytes:
    path = scratch.emptied("outbox-made") / "outbox.sqlite"
    outbox = open_outbox(path, ROOMY, SystemClock())
    for first in range(1, 400, 13):
        outbox.append(_piece(first))
    outbox.close()
    return path.read_bytes()


def _outbox(data: bytes) -> None:
    """Open a damaged outbox: what can be read is salvaged, and it takes new records."""
    path = scratch.emptied("outbox") / "outbox.sqlite"
    path.write_bytes(damage(_outbox_file(), data))
    outbox = open_outbox(path, ROOMY, SystemClock())
    try:
        outbox.append(_piece(1, journal=2))
        with closing(outbox.reader()) as reader:
            reader.losses()
            reader.contacts()
    finally:
        outbox.close()


# Backups and archives


@cache
def _backup_made() -> tuple[bytes, dict[str, bytes]]:
    """Return a backup: its manifest, and its databases by name."""
    from hil_tests.fuzz.targets.messages import _Arrived, _Cloud

    cloud = _Cloud()
    cloud.ingest.store_group([_Arrived(records_topic("xuan-hoa"), batch(minutes(20)))], NOW)
    cloud.close()
    folder = scratch.emptied("backup-made")
    backup.make(scratch.folder() / "store", folder, "fuzz", NOW, [])
    return (folder / backup.MANIFEST).read_bytes(), {file.name: file.read_bytes() for file in folder.glob("*.sqlite")}


def _manifest(data: bytes) -> None:
    """Verify a backup: with a damaged database, or a manifest with something wrong in it, sealed as if it were ours."""
    manifest, databases = _backup_made()
    folder = scratch.emptied("backup")
    for name, whole in databases.items():
        (folder / name).write_bytes(damage(whole, data[1:]) if data[:1] == b"\1" else whole)
    said = manifest if data[:1] in (b"\1", b"") else json_of(json.loads(manifest), data)
    with suppress(ValueError):
        said = backup.Manifest.model_validate_json(said).sealed().model_dump_json().encode()
    (folder / backup.MANIFEST).write_bytes(said)
    backup_files.verify(folder)
    with Store(_restored(folder)):
        pass


def _restored(folder: Path) -> Path:
    place = scratch.emptied("restored")
    backup_files.restore(folder, place, deep=True)
    return place


def _tar(data: bytes) -> None:
    path = scratch.folder() / "backup.tar"
    path.write_bytes(damage(_tar_made(), data))
    backup_files.verify(path)


@cache
def _tar_made() -> bytes:
    import tarfile

    manifest, databases = _backup_made()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in ((backup.MANIFEST, manifest), *databases.items()):
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return out.getvalue()


PART: dict[str, Any] = {
    "path": "records/station=x/month=2024-03/part.parquet", "kind": "records", "station": "x", "month": "2024-03",
    "rows": 1, "bytes": 4, "sha256": hashlib.sha256(b"PAR1").hexdigest(), "first_time": 1, "last_time": 1,
    "seqs": {"1234abcd": [[1, 2]]},
}  # fmt: skip
ARCHIVE = {"format": "tram-archive-1", "program": "x", "made_at": 1, "before": 2, "timezone": "UTC", "files": [PART]}


def _archive(data: bytes) -> None:
    folder = scratch.folder() / "archive"
    part = folder / PART["path"]
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(b"PAR1")
    said = json_of(ARCHIVE, data)
    with suppress(ValueError):
        said = ArchiveManifest.model_validate_json(said).sealed().model_dump_json().encode()
    (folder / backup.MANIFEST).write_bytes(said)
    read_archive(folder)


# Keys, and what a simulator is told


@cache
def _pems() -> list[bytes]:
    private = _key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = (
        _key().public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return [private, public]


def _pem(data: bytes) -> None:
    raw = damage(_pems()[data[0] % 2], data[1:]) if data[:1] in (b"\0", b"\1") else data
    path = scratch.written("key.pem", raw)
    path.chmod(0o600)
    for read in (keys.load_private, keys.load_public, command_keys.load_private, certificates.read_validity):
        with suppress(KeyRefused, ConfigurationError):
            read(path)
    folder = scratch.folder() / "keys"
    folder.mkdir(exist_ok=True)
    (folder / "one.pem").write_bytes(raw)
    command_keys.load_public_folder(folder)


def _control(data: bytes) -> None:
    async def answer(request: dict[str, Any]) -> dict[str, Any]:
        return {"said": sorted(map(str, request))[:3]}

    answered = finished(control._answered(data, answer))
    assert isinstance(answered, dict)
    json.dumps(answered)


def targets() -> list[Target]:
    """Return the targets of this module."""
    images = [_header(["__init__.mpy", "main.mpy"]), _header(["__init__.mpy", "main.mpy", "x" * 32 + ".mpy"])]
    return [
        Target("update-image", _image, (ImageRefused,), lambda: [*images, *(SEALED + one for one in images)], 600),
        Target("loader-state", _slots, (), lambda: [b"a-0-", SEALED + b"ab1A", b"f" * 512 + b"\nxyz"], 600),
        Target("flash-journal", _flash_journal, (), lambda: [b"", *(bytes((at,)) + one for at in range(4)
                                                                  for one in _changes() if one)], 24),
        Target("direct-journal", _direct_journal, (JournalError,), _changes, 40),
        Target("outbox-file", _outbox, (OutboxUnavailable,), _changes, 40, slow_ms=5000),
        Target("backup", _manifest, (BackupRefused,), lambda: [b"", *(b"\1" + one for one in _changes()),
                                                             *seeds_of(ARCHIVE, b"{}")], 300, slow_ms=5000),
        Target("backup-tar", _tar, (BackupRefused,), _changes, 40, slow_ms=5000),
        Target("archive-manifest", _archive, (BackupRefused,), lambda: seeds_of(ARCHIVE, b"{}"), 800),
        Target("key-pem", _pem, (KeyRefused,), lambda: [b"\0", b"\1", *(b"\1" + one for one in _changes())], 600),
        Target("control-line", _control, (), lambda: [b'{"status": true}', b"[1]", b"{"], 300),
    ]  # fmt: skip
