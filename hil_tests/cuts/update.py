"""Updates under power cuts: firmware and configuration over the uplink, cut at every flash operation from the first
chunk to the confirmation or the way back.

After each cut the power comes back, the station must start and answer the gateway with its journal whole, and what was
under way must still come to its end: the new firmware or configuration in force, or the old one again.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firmware.record import Record
from hil_tests.cuts.table import Cut, Outcome
from simulators.board import BoardSettings, VirtualBoard
from simulators.station_client import (
    APPLY_CONFIGURATION,
    APPLY_UPDATE,
    CONFIGURATION,
    FIRMWARE,
    RESTART,
    Result,
    StationClient,
    StationRefuses,
    StationSilent,
)
from simulators.virtual_board.errors import BoardFault
from simulators.wire import Wire
from station_config.board import encode
from station_config.flash import board_files, firmware_folder, flash
from station_config.image import build
from station_config.keys import board_keys, generate, load_private, load_public

STRANDED, JOURNAL, STUCK = "stranded", "journals damaged", "not brought to an end"
FLASH_BYTES = 768 * 1024
RATE = 600.0  # a trial of 15 minutes takes a second and a half
ADDRESS = 11
DEADLINE_S = 60.0
START_S = 15.0  # three starts of a candidate included
_FAR_AWAY = 1_000_000  # a cut that never comes, but is counted down to
_INSTALLING = threading.Lock()
_PAUSE = threading.Event()

OLD, NEW = "0.1.0", "0.2.0"


class PowerGone(Exception):
    """The cut came."""


def configuration(**changes: object) -> bytes:
    """Return a station.json without instruments, so that a trial asks for the gateway only."""
    port = {"uart": 1, "baud": 9600, "bits": 8, "parity": None, "stop": 1, "tx": 17, "rx": 16, "de": 4}
    content: dict[str, Any] = {
        "version": 1,
        "station": "vam-kenh",
        "address": ADDRESS,
        "sample_s": 10,
        "record_s": 60,
        "bus": port,
        "uplink": port | {"uart": 2},
        "journal": {"segment_records": 128, "max_bytes": 65536},
        "sensors": [],
    }
    return encode(content | changes)


@dataclass
class Station:
    """A station and the gateway's side of its line."""

    board: VirtualBoard
    client: StationClient

    def until(self, holds: Callable[[], bool]) -> None:
        """Ask until it holds. Raises PowerGone, or StationSilent when the time is over."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                if holds():
                    return
            except StationSilent:
                pass
            if self.board.console.wait_disconnected(0):
                raise PowerGone
            if time.monotonic() > deadline:
                raise StationSilent(f"not so within {DEADLINE_S} s")
            _PAUSE.wait(0.02)

    def restart(self) -> None:
        boots = self.client.registers(15, 1)[0]
        self.client.command(RESTART, boots)
        self.until(lambda: self.client.registers(15, 1)[0] != boots)

    def prove(self) -> None:
        def nothing_on_trial() -> bool:
            self.client.fetch()
            return self.client.holding(15, 1) == [0]

        self.until(nothing_on_trial)


@dataclass
class Start:
    """The flash a row begins with, and the records a gateway has seen on it."""

    flash: Path
    journal: int = 0
    records: list[Record] = field(default_factory=list)


class UpdateCuts:
    """The table."""

    name = "update"
    counts: tuple[str, ...] = (STRANDED, JOURNAL, STUCK)

    def __init__(self, firmware: Path | None = None, rows: frozenset[str] | None = None) -> None:
        self._firmware = firmware  # what runs on the station before: another folder than the real one
        self._wanted = rows  # all when None
        self._starts: dict[str, Start] = {}
        self._image = b""
        self._new = configuration(record_s=120)
        self._lost = configuration(address=77)
        # row: what happens until the cut; what must come of it
        self._rows: dict[str, tuple[Callable[[Station], None], Callable[[Station], None]]] = {
            "upload": (self._send, self._finish_update),
            "unpack": (self._apply, self._finish_update),
            "confirm": (Station.prove, self._finish_update),
            "roll back": (_comes_back, _comes_back),
            "configuration": (self._configure, self._finish_configuration),
            "configuration reverted": (_reverts, _reverts),
        }

    def cuts(self, folder: Path) -> list[Cut]:
        """Run every row once, undisturbed, and count its flash operations."""
        self._prepare(folder)
        cuts = []
        for row, (act, _) in self._rows.items():
            if self._wanted is not None and row not in self._wanted:
                continue
            copy = folder / "count.flash"
            shutil.copy(self._starts[row].flash, copy)
            with _powered(copy, _FAR_AWAY) as station:
                act(station)
                operations = _operations(station.board)
            cuts += [Cut(row, operation) for operation in range(1, operations + 1)]
        return cuts

    def try_cut(self, cut: Cut, folder: Path) -> Outcome:
        """Cut, start again, look at the station and its journal, and bring what was begun to its end."""
        start = self._starts[cut.row]
        flash_file = folder / "board.flash"
        shutil.copy(start.flash, flash_file)
        act, finish = self._rows[cut.row]
        try:
            with _powered(flash_file, cut.operation, cut.torn_percent) as station:
                act(station)
        except (PowerGone, StationSilent, StationRefuses, BoardFault):
            pass  # the cut came; a board that does so without one is found out below
        try:
            with _powered(flash_file) as station:
                return _judge(station, start, finish)
        except (BoardFault, StationSilent, StationRefuses) as error:
            return Outcome(Counter({STRANDED: 1}), (f"after the cut: {error}",))

    # What each row starts from

    def _prepare(self, folder: Path) -> None:
        generate(folder / "key.pem", folder / "key.pub.pem")
        source = folder / "source"
        shutil.copytree(firmware_folder(), source, ignore=shutil.ignore_patterns("tests", "__pycache__"))
        (source / "version.py").write_text(f'VERSION = ({NEW.replace(".", ", ")})\nTEXT = "{NEW}"\n')
        self._image = build(load_private(folder / "key.pem"), folder=source)
        keys = board_keys([load_public(folder / "key.pub.pem")])
        _install(folder / "sent-out.flash", board_files(configuration(), keys, self._firmware))
        base = self._begin(folder, "sent-out", folder / "sent-out.flash", lambda station: station.prove())
        staged = self._begin(folder, "staged", base.flash, self._send)
        proposed = self._begin(folder, "proposed", staged.flash, self._apply)
        lost = self._begin(folder, "lost", base.flash, self._propose_lost)
        self._starts = {
            "upload": base,
            "unpack": staged,
            "confirm": proposed,
            "roll back": proposed,
            "configuration": base,
            "configuration reverted": lost,
        }

    def _begin(self, folder: Path, name: str, before: Path, act: Callable[[Station], None]) -> Start:
        flash_file = folder / f"{name}-start.flash"
        shutil.copy(before, flash_file)
        with _powered(flash_file) as station:
            act(station)
            return Start(flash_file, station.client.number(2), station.client.fetch())

    # What happens until the cut

    def _send(self, station: Station) -> None:
        station.client.send_file(FIRMWARE, self._image)

    def _apply(self, station: Station) -> None:
        station.client.command(APPLY_UPDATE, self._image)

    def _configure(self, station: Station) -> None:
        station.client.send_file(CONFIGURATION, self._new)
        station.client.command(APPLY_CONFIGURATION, self._new)
        station.restart()
        station.prove()

    def _propose_lost(self, station: Station) -> None:
        station.client.send_file(CONFIGURATION, self._lost)
        station.client.command(APPLY_CONFIGURATION, self._lost)

    # What must come of it

    def _finish_update(self, station: Station) -> None:
        if station.client.version() != NEW:
            self._send(station)
            result = station.client.command(APPLY_UPDATE, self._image)
            if result not in (Result.DONE, Result.ON_TRIAL):
                raise StationSilent(f"the update is refused: {result.name}")
            station.restart()
        station.prove()
        if station.client.version() != NEW:
            raise StationSilent("the new firmware does not run")

    def _finish_configuration(self, station: Station) -> None:
        if station.client.read_file(1) != self._new and station.client.holding(15, 1) == [0]:
            station.client.send_file(CONFIGURATION, self._new)
            result = station.client.command(APPLY_CONFIGURATION, self._new)
            if result not in (Result.DONE, Result.ON_TRIAL):
                raise StationSilent(f"the configuration is refused: {result.name}")
            station.restart()
        station.prove()
        if station.client.read_file(1) != self._new:
            raise StationSilent("the new configuration is not in force")


def _comes_back(station: Station) -> None:
    """Nobody fetches: the old firmware runs again, and nothing is on trial."""
    station.until(lambda: station.client.version() == OLD and station.client.holding(15, 1) == [0])


def _reverts(station: Station) -> None:
    """Nobody finds the station at its new address: it comes back to the old one."""
    station.until(lambda: station.client.holding(15, 1) == [0])


def _judge(station: Station, start: Start, finish: Callable[[Station], None]) -> Outcome:
    counts: Counter[str] = Counter()
    faults = []
    try:
        finish(station)
    except (StationSilent, StationRefuses, PowerGone, BoardFault) as error:
        counts[STUCK] = 1
        faults.append(f"cannot be brought to an end: {error}")
    station.until(lambda: station.client.registers(0, 1) == [0x5452])
    records = station.client.fetch(acknowledge=False)
    seqs = [record.seq for record in records]
    whole = records[: len(start.records)] == start.records and seqs == list(range(1, len(seqs) + 1))
    if station.client.number(2) != start.journal or not whole:
        counts[JOURNAL] = 1
        faults.append(f"journal {station.client.number(2):08x} holds {seqs[:3]} ... {seqs[-3:]}")
    return Outcome(counts, tuple(faults))


@contextmanager
def _powered(flash_file: Path, cut_at: int = 0, torn_percent: int = 50) -> Iterator[Station]:
    """A station with its power on. Raises BoardFault when it does not start."""
    with tempfile.TemporaryDirectory(prefix="wire-") as wires, Wire(Path(wires)) as wire:
        settings = BoardSettings(
            flash=flash_file,
            size_bytes=FLASH_BYTES,
            uarts={2: wire.ends["board"]},
            rate=RATE,
            cut_at_operation=cut_at,
            torn_percent=torn_percent,
        )
        with VirtualBoard(settings) as board:
            board.console.wait_for("tram station=", START_S)
            client = StationClient(wire.ends["gateway"], ADDRESS, timeout_s=0.5, retries=1)
            try:
                yield Station(board, client)
            finally:
                client.close()


def _operations(board: VirtualBoard) -> int:
    """Return how many flash operations there were since power-on, resets included. Stops the application."""
    board.console.write(b"\x03")
    board.console.wait_for(">>> ", DEADLINE_S)
    board.console.write(b"import _vboard; c = _vboard.flash_counts()\r")
    board.console.wait_for(">>> ", DEADLINE_S)
    board.console.write(f"print('==', {_FAR_AWAY} - int(_vboard.env('VB_CUT', '0')) + c[2] + c[4], '.')\r".encode())
    board.console.wait_for("\n== ", DEADLINE_S)
    return int(board.console.wait_for(".", DEADLINE_S).strip(" ."))


def _install(flash_file: Path, files: dict[str, bytes]) -> None:
    settings = BoardSettings(flash=flash_file, size_bytes=FLASH_BYTES)
    with _INSTALLING, VirtualBoard(settings) as board:
        board.console.wait_for(">>> ", DEADLINE_S)
        flash(str(board.console_path), files)
