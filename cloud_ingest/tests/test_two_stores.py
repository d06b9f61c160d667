"""The same day through the pipeline into either store of observations: every answer is the same, to the last bit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import URL

from cloud_ingest.calibrations import CalibrationBook
from cloud_ingest.columns import SeriesKey
from cloud_ingest.database import Database
from cloud_ingest.gateway_messages import GatewayMessages
from cloud_ingest.influx_observations import InfluxStore, InfluxWriter
from cloud_ingest.ingest import Ingest
from cloud_ingest.losses import LossTaker
from cloud_ingest.observations import ObservationStore
from cloud_ingest.reading import Reader
from cloud_ingest.recompute import Recompute
from cloud_ingest.registry import Registry
from cloud_ingest.review import Review
from cloud_ingest.rollups import Rollups
from cloud_ingest.store import Store
from cloud_ingest.tests.answers import as_of_today, differences, duplicates, everything
from cloud_ingest.tests.influx_server import InfluxServer
from cloud_ingest.tests.test_review import calibration
from cloud_ingest.tests.traffic import BEGIN, MINUTES, NETWORK_OF_FOUR, PRESENT, Sent, traffic
from cloud_ingest.transaction import Transaction
from cloud_ingest.workers import parse_shards
from firmware.record import FAIL
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters

SPAN = (BEGIN - 3600, BEGIN + 60 * MINUTES + 3600)
GROUP = 7


class _PowerCut(Exception):
    """Between the observations and the books."""


class Office:
    """A store, the pipeline and the readers of it."""

    def __init__(
        self,
        folder: Path,
        observations: ObservationStore | None = None,
        database: Database | None = None,
        shards: frozenset[str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "network.toml").write_text(NETWORK_OF_FOUR)
        self.registry = Registry(load_network(folder / "network.toml"), load_instruments(), load_parameters())
        self.folder, self.observations = folder, observations
        self.store = Store(folder, observations, database, shards)
        self.reader = Reader(folder, self.registry.scale, observations, database)
        self.ingest = Ingest(self.store, self.registry, GatewayMessages({"losses": LossTaker(self.store).take}))

    def take(self, messages: list[Sent], group: int = GROUP) -> None:
        for at in range(0, len(messages), group):
            self.ingest.store_group(messages[at : at + group], PRESENT)

    def is_for(self, message: Sent) -> bool:
        """Losses are told to all; records come by their shard."""
        parts = message.topic.split("/")
        return parts[2] != "records" or self.store.owns(parts[5])

    def fall_over(self, messages: list[Sent], patch: pytest.MonkeyPatch) -> None:
        """Die between the observations and the books; what was only remembered is gone."""
        with self.store.transaction() as transaction:
            kind = type(transaction)
        finish = kind.finish

        def dying(transaction: Transaction) -> None:
            finish(transaction)
            raise _PowerCut

        with patch.context() as patched, suppress(_PowerCut):
            patched.setattr(kind, "finish", dying)
            self.ingest.store_group([one for one in messages if "/records/" in one.topic][:GROUP], PRESENT)
        self.store.close()
        self.store.__enter__()

    def settle(self) -> None:
        Review(self.store, self.registry).finish()
        Rollups(self.store, self.registry).finish(PRESENT + 86400)

    def everything(self) -> dict[str, object]:
        return everything(self.reader, self.registry, SPAN, PRESENT)

    def recompute(self) -> Recompute:
        return Recompute(self.folder, self.registry, self.observations)


@pytest.fixture
def offices(tmp_path: Path, influx_server: InfluxServer) -> Iterator[tuple[Office, Office]]:
    influx = InfluxStore(influx_server.database())
    found = Office(tmp_path / "sqlite"), Office(tmp_path / "influx", influx)
    with ExitStack() as stack:
        stack.callback(influx.close)
        for one in found:
            stack.callback(one.reader.close)
            stack.enter_context(one.store)
        yield found


def test_every_answer_is_the_same_from_either_store(offices: tuple[Office, Office], tmp_path: Path) -> None:
    messages = traffic()
    for one in offices:
        one.take(messages[: len(messages) // 2])
    assert differences(*(one.everything() for one in offices)) == []
    for one in offices:
        one.settle()
        one.take(messages[len(messages) // 2 :])  # with much that is late
        with CalibrationBook(Database.in_folder(one.folder)) as book:
            book.enter(calibration())
    for one in offices:
        one.settle()
    sqlite, influx = (one.everything() for one in offices)
    assert differences(sqlite, influx) == []
    assert sum(journal.conflicts for journal in offices[0].reader.journals()) > 20
    assert duplicates(offices[0].reader) == duplicates(offices[1].reader) > 100
    told = []
    for one in offices:
        with one.recompute() as work:
            assert (work.check(None), work.check_rollups(None)) == ({}, {})
            told.append(as_of_today(work, tmp_path / "then.csv"))
    assert told[0] == told[1]


def _one_by_one(folder: Path, messages: list[Sent]) -> dict[str, object]:
    """Return the answers of a store that nothing has happened to."""
    office = Office(folder)
    with closing(office.reader), office.store:
        office.take(messages, 1)
        office.settle()
        return office.everything()


@pytest.mark.parametrize("seed", range(3))
def test_how_messages_are_grouped_changes_no_answer(tmp_path: Path, seed: int) -> None:
    """A broker delivers one by one, or all that has waited while the program was away."""
    messages = _shuffled(traffic(stations=("vam-kenh",)), seed)
    expected = _one_by_one(tmp_path / "one by one", messages)
    for group in (9, len(messages)):
        office = Office(tmp_path / f"by {group}")
        with closing(office.reader), office.store:
            office.take(messages, group)
            office.settle()
            assert differences(expected, office.everything()) == []


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_killed_while_observations_are_written_and_the_books_are_not(
    tmp_path: Path, influx_server: InfluxServer, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """The program is killed in every group, when this share of its lines is written; other groups come then."""
    messages = _shuffled(traffic(stations=("vam-kenh",)), 7)
    settings, deaths = influx_server.database(), 0

    def dying(writer: InfluxWriter) -> None:
        lines = writer._lines
        writer._link.write(lines[: int(share * len(lines))])
        raise _PowerCut

    for at in range(0, len(messages), GROUP):
        for group in (GROUP + 4, GROUP):  # what it was killed with, and what is stored
            influx = InfluxStore(settings)
            office = Office(tmp_path / "influx", influx)
            with closing(influx), closing(office.reader), office.store, monkeypatch.context() as patched:
                if group != GROUP:
                    patched.setattr(InfluxWriter, "settle", dying)
                    with pytest.raises(_PowerCut):
                        office.ingest.store_group(messages[at : at + group], PRESENT)
                    deaths += 1
                else:
                    office.take(messages[at : at + group], 2)
                    office.settle()
                    found = office.everything()
    assert deaths > 5
    assert differences(_one_by_one(tmp_path / "sqlite", messages), found) == []


def _shuffled(messages: list[Sent], seed: int) -> list[Sent]:
    return random.Random(seed).sample(messages, len(messages))


def test_recomputing_from_raw_gives_bit_for_bit_what_live_ingest_gave(offices: tuple[Office, Office]) -> None:
    _, influx = offices
    influx.take(traffic(seed=2, stations=("xuan-hoa",)))
    influx.settle()
    before = influx.everything()
    influx.recompute().run(influx.store, None, lambda _done, _of: None)
    assert differences(before, influx.everything()) == []
    number = influx.store.series[SeriesKey("xuan-hoa", 1, 34)]
    with influx.store.transaction() as transaction:
        layer = transaction.log.layers([number], *SPAN)[number]
        spoiled = type(layer)(layer.time, layer.value, layer.calibration, np.full_like(layer.flag, 4), layer.failed)
        transaction.log.put_layer(number, spoiled, derived=False)
    with influx.recompute() as work:
        assert work.check(None) == {"xuan-hoa": int((layer.flag != FAIL).sum())}
        work.run(influx.store, None, lambda _done, _of: None)
    assert differences(before, influx.everything()) == []


def test_two_workers_over_split_shards_give_the_same_database_as_one(
    tmp_path: Path, influx_server: InfluxServer, postgres_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them ends after the observations are written and before the books are, and begins again."""
    influx = InfluxStore(influx_server.database())
    place = (influx, Database(postgres_url))
    one = Office(tmp_path / "one")
    low, high = (Office(tmp_path / part, *place, parse_shards(part)) for part in ("00-1f", "20-3f"))
    messages = traffic(seed=3, stations=("xuan-hoa", "my-hanh-a"))
    half = len(messages) // 2
    with ExitStack() as stack:
        stack.callback(influx.close)
        for office in (one, low, high):
            stack.callback(office.reader.close)
            stack.enter_context(office.store)
        one.take(messages)
        for office in (low, high):
            office.take([message for message in messages[:half] if office.is_for(message)])
        low.fall_over([message for message in messages[half:] if low.is_for(message)], monkeypatch)
        for office in (high, low):
            office.take([message for message in messages[half:] if office.is_for(message)])
        for office in (one, low, high):
            office.settle()
        assert differences(one.everything(), low.everything()) == []
        assert differences(low.everything(), high.everything()) == []
