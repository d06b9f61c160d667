"""A running bench (simulators.bench) as a timeline sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from firmware.record import Record
from simulators import check, demo
from simulators.bench import Bench
from simulators.faults.bench_parts import parts_of
from simulators.processes import wait_for
from simulators.timeline.script import Place
from simulators.timeline.verdict import Account, Message, Value
from station_config.parameters import load_parameters

FIRST_RECORD_S, SETTLE_S = 90.0, 60.0
MOST_POINTS = 10_000
#: Parameters whose truth the simulated river knows, under its own names.
TRUTHS = {
    "salinity": "salinity",
    "water_temperature": "water_temperature_c",
    "conductivity": "conductivity_ms_cm",
}
HALF_A_MINUTE_S = 30.0  # a minute's value is a mean; its middle is what the instrument stood in


class BenchRig:
    """Everything a timeline needs of a bench."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.parts = parts_of(bench)
        self.speed = bench.options.speed

    @property
    def place(self) -> Place:
        """What a timeline can name here."""
        stations = {one.id: [sensor.number for sensor in one.sensors] for one in self.bench.site.stations}
        instruments = self.bench.options.shown
        in_the_river = instruments is None or any("values" not in one for one in instruments)
        return Place(stations, list(load_parameters().by_name), self.parts, list(TRUTHS) if in_the_river else [])

    def now(self) -> float:
        """Return the bench's time."""
        return self.bench.clock.now()

    def wait_for_first_record(self) -> None:
        """Return when every station has one record more in the store: its board may just have begun again.

        Raises BenchError.
        """
        before, interval_s = self._stored(), self._longest_interval_s()
        deadline_s = FIRST_RECORD_S + 2 * interval_s / self.speed
        wait_for(lambda: all(self._stored()[name] > of for name, of in before.items()), deadline_s, "the first records")

    def _longest_interval_s(self) -> float:
        return max(station.record_interval_s or 60 for station in self.bench.site.stations)

    def _stored(self) -> Counter[str]:
        """Return how many records of each station are in the store."""
        stored = Counter({station.id: 0 for station in self.bench.site.stations})
        for row in self.bench.api("/api/v1/ledger"):
            stored[row["station"]] += row["stored"]
        return stored

    def messages(self) -> Sequence[Message]:
        """Return all texts that reached the telephone."""
        return [Message(float(one["received_at"]), one["to"], one["text"]) for one in self.bench.inbox()]

    def values(self, station: str, parameter: str, first: float, last: float) -> Sequence[Value]:
        """Return stored values; the water's truth where the parameter is one of the river's."""
        path = f"/api/v1/stations/{station}/series/{parameter}"
        answer = self.bench.api(path, **{"from": int(first), "to": int(last), "limit": MOST_POINTS})
        rows = zip(answer["times"], answer["values"], answer["flags"], strict=True)
        return [Value(t, station, parameter, v, flag, self._truth(station, parameter, t)) for t, v, flag in rows]

    def _truth(self, station: str, parameter: str, time: float) -> float | None:
        if parameter not in self.place.truths:
            return None
        return self.bench.truth(station, time - HALF_A_MINUTE_S).get(TRUTHS[parameter])

    def accounts(self) -> Sequence[Account]:
        """Read every journal over its board's console and compare it with the store, record by record."""
        for station in self.bench.site.stations:
            wait_for(self.bench.boards.console(station.id).exists, SETTLE_S, f"the console of {station.id}")
        made = demo.read_journals(self.bench)
        wait_for(lambda: demo.stored_all(self.bench, made), SETTLE_S, "all records to be stored", raises=False)
        return [self._account(station, journal, records) for (station, journal), records in sorted(made.items())]

    def _account(self, station: str, journal: int, records: Mapping[int, Record]) -> Account:
        stored = [row for row in demo.stored_records(self.bench, station) if row["journal"] == journal]
        counts = check.compare({(station, journal): dict(records)}, {station: stored})
        return Account(
            station,
            f"{journal:08x}",
            min(records, default=0),
            max(records, default=0),
            counts.made,
            counts.stored,
            counts.lost,
            counts.duplicated,
            counts.different,
            counts.lost_examples,
        )
