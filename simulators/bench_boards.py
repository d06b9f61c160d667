"""The station boards of a bench, virtual ones or a real one: power, console, and what a technician does with them."""

from __future__ import annotations

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from simulators import site as sites
from simulators.bench_options import BenchOptions
from simulators.bench_programs import Programs, sim
from simulators.faults.boards import NoPlug, PlugMissing, Power, ProgramPower, RelayPower
from simulators.processes import BenchError, command
from simulators.site import Site

FLASH_BYTES = 1 << 20
TECHNICIAN_S = 120.0


class Boards:
    """All boards of a site, by station."""

    def __init__(self, options: BenchOptions, site: Site, programs: Programs) -> None:
        self._options, self._site, self._programs = options, site, programs
        self.powers: dict[str, Power] = {}
        self.flashed: dict[str, dict[str, Any]] = {}

    def flash_all(self) -> None:
        """Flash every board as technicians do, all at once, and take its power away where it can be."""
        stations = [station.id for station in self._site.stations]
        for station in stations:
            self.start(station)
        with ThreadPoolExecutor(max_workers=len(stations)) as technicians:
            self.flashed = dict(zip(stations, technicians.map(self.flash, stations), strict=True))
        for station in stations:
            with suppress(PlugMissing):  # then it goes on with its power
                self.powers[station].off()

    def start(self, station: str) -> None:
        """Give a board power; one that is virtual runs with the environment there is now."""
        hardware, console = self._options.hardware, self._site.console(station)
        if hardware is not None:
            self.powers[station] = RelayPower(hardware.relay, hardware.board) if hardware.relay else NoPlug()
            self.powers[station].on()
            return
        console.unlink(missing_ok=True)
        self._programs.run(f"board:{station}", self._argv(station), console.exists)
        self.powers[station] = ProgramPower(self._programs[f"board:{station}"], console)

    def console(self, station: str) -> Path:
        """Return the port of a board's console."""
        return self._options.hardware.board if self._options.hardware else self._site.console(station)

    def _argv(self, station: str) -> list[str]:
        site = self._site
        uarts = (f"1={site.line(f'bus-{station}', 'board')}", f"2={site.line(sites.UPLINK, station)}")
        return sim(
            "board",
            *("--flash", str(site.flash(station)), "--size", str(FLASH_BYTES)),
            *(word for uart in uarts for word in ("--uart", uart)),
            *("--console", str(site.console(station)), "--heap", "120k", "--rate", repr(self._options.speed)),
            *("--log", str(site.directory / f"console-{station}.log")),
        )

    def flash(self, station: str) -> dict[str, Any]:
        """Flash one board over its console, as a technician does; return what tram-station reported."""
        port, network = str(self.console(station)), str(self._site.network_file)
        return self._tram_station("flash", "--port", port, "--network", network, "--station", station)

    def journals(self, station: str) -> Path:
        """Return the folder of batch files that `read_journal` wrote last."""
        return self._site.directory / "journals" / station

    def read_journal(self, station: str) -> Path:
        """Read a board's journal out over its console and restart it; return the folder of batch files."""
        folder = self.journals(station)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._tram_station("journal", "--port", str(self.console(station)), "--out", str(folder / "journal.trb"))
        return folder

    def _tram_station(self, *words: str) -> dict[str, Any]:
        argv = [command("tram-station"), *words, "--json"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TECHNICIAN_S, check=False)
        if done.returncode != 0:
            raise BenchError(f"tram-station {words[0]} failed: {done.stdout[-400:]}{done.stderr[-2000:]}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer
