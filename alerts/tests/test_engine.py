"""The engine on a real SQLite file: what is stored, what a replay or a crash changes (nothing), what the API shows."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import URL, Engine, insert, inspect, text
from sqlalchemy.exc import DBAPIError

from alerts import schema
from alerts.errors import DatabaseTooNew
from alerts.rules import Observation
from alerts.schema import migrate, open_database

START = 1_773_000_000


def observations(values: dict[int, float], station: str = "xuan-hoa") -> list[Observation]:
    return [Observation(station, "salinity", START + minute * 60, value, 1) for minute, value in values.items()]


TIDE = observations({0: 2.5, 5: 2.5, 10: 2.6, 15: 1.5, 20: 1.5, 25: 1.4})


def test_a_tide_is_raised_and_cleared_with_a_message_to_each_farmer(service: Any) -> None:
    service.tide()

    assert [
        (event["kind"], event["time"], event["value"], event["threshold"], len(event["deliveries"]))
        for event in service.engine.recent()
    ] == [("cleared", START + 1500, 1.4, 1.8, 2), ("raised", START + 600, 2.6, 2.0, 2)]


def test_the_api_shows_the_text_in_each_persons_language_and_never_a_whole_number(service: Any) -> None:
    service.tide()

    raised = service.engine.recent()[1]

    assert raised["text"] == {
        "vi": "Trạm Xuân Hòa: mặn 2,6 g/L lúc 03:10 ngày 09/03. Không lấy nước vào.",
        "en": "Station Xuan Hoa: 2.6 g/L at 03:10 on 9 Mar. Do not take water in.",
    }
    assert [(d["person"], d["address_masked"], d["text"], d["status"]) for d in raised["deliveries"]] == [
        ("Ba Tám", "+84******678", "Tram Xuan Hoa: man 2,6 g/L luc 03:10 ngay 09/03. Khong lay nuoc vao.", "pending"),
        ("Chị Hoa", "+84******321", "Station Xuan Hoa: 2.6 g/L at 03:10 on 9 Mar. Do not take water in.", "pending"),
    ]


def test_a_batch_that_arrives_newest_first_is_taken_in_event_time(service: Any) -> None:
    service.clock.time = START + 700

    events = service.engine.evaluate(reversed(observations({0: 2.5, 5: 2.5, 10: 2.5})))

    assert [(str(event.kind), event.time) for event in events] == [("raised", START + 600)]


def test_each_station_has_its_own_alert(service: Any) -> None:
    service.clock.time = START + 700
    service.engine.evaluate(observations({0: 2.5, 10: 2.6}) + observations({0: 9.5, 10: 9.6}, "vam-kenh"))

    assert [(alert.station, alert.since, alert.value) for alert in service.engine.active()] == [
        ("vam-kenh", START + 600, 9.6),
        ("xuan-hoa", START + 600, 2.6),
    ]


def test_an_alert_of_a_rule_that_is_gone_is_not_shown(service: Any, database: Engine) -> None:
    service.salinity(0, 2.5)
    service.salinity(10, 2.5)

    assert replace(service, rule=replace(service.rule, id="orchard")).engine.active() == []


def test_the_same_observations_again_change_nothing(service: Any, restarted: Callable[[Any], Any]) -> None:
    service.tide()
    before = service.engine.recent()

    again = restarted(service).engine.evaluate(TIDE)

    assert (again, service.engine.recent()) == ([], before)


def test_lost_states_with_kept_events_do_not_tell_the_same_event_twice(service: Any, database: Engine) -> None:
    service.tide()
    before = service.engine.recent()
    with database.begin() as connection:
        connection.execute(schema.states.delete())

    service.engine.evaluate(TIDE)

    assert service.engine.recent() == before


def test_a_crash_inside_the_transaction_leaves_neither_event_nor_cursor(
    service: Any, restarted: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    service.salinity(0, 2.5)
    with monkeypatch.context() as patch:
        patch.setattr("alerts.engine.insert_messages", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            service.salinity(10, 2.5)
    crashed = (service.engine.recent(), service.engine.cursor())

    told = restarted(service).salinity(10, 2.5)

    assert (crashed, told) == (([], "0"), ["raised"])


def test_the_cursor_is_saved_with_what_came_of_the_observations(service: Any) -> None:
    service.engine.evaluate([], cursor="row 41")

    assert service.engine.cursor() == "row 41"


def test_observations_nobody_watches_cost_no_transaction(service: Any, database: Engine) -> None:
    database.dispose()
    other = [Observation("xuan-hoa", "ph", START, 7.0, 1), Observation("elsewhere", "salinity", START, 9.0, 1)]

    assert (service.engine.evaluate(other), service.engine.parameters) == ([], frozenset({"salinity"}))


def test_evaluating_from_many_threads_tells_each_event_once(service: Any) -> None:
    service.clock.time = START + 1600
    with ThreadPoolExecutor(4) as pool:
        told = [event for events in pool.map(lambda _: service.engine.evaluate(TIDE), range(12)) for event in events]

    assert [str(event.kind) for event in told] == ["raised", "cleared"]


def test_the_migrated_tables_are_the_ones_the_code_uses(service: Any, database: Engine) -> None:
    inspector = inspect(database)

    found = {name: {c["name"] for c in inspector.get_columns(name)} for name in inspector.get_table_names()}

    assert found == {table.name: set(table.columns.keys()) for table in schema.metadata.sorted_tables}


def test_preparing_twice_is_harmless(service: Any) -> None:
    service.tide()
    service.engine.prepare()

    assert len(service.engine.recent()) == 2


def test_two_processes_that_prepare_at_once_make_the_tables_once(url: URL | str) -> None:
    engines = [open_database(url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, engines))
    with engines[0].connect() as connection:
        steps = connection.execute(text("SELECT number, name FROM alert_migrations")).all()
    for engine in engines:
        engine.dispose()

    assert [tuple(step) for step in steps] == [(1, "first tables"), (2, "warnings of gateways")]


def test_a_migration_that_fails_halfway_leaves_nothing(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def halfway(connection: Any) -> None:
        connection.execute(text("CREATE TABLE alert_half (id INTEGER)"))
        connection.execute(text("CREATE TABLE no comma"))

    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (("half", halfway),))
        with pytest.raises(DBAPIError, match="syntax error"):
            migrate(database)

    assert inspect(database).get_table_names() == ["alert_migrations"]


def test_a_database_of_a_later_version_is_refused_with_advice(service: Any, database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(insert(schema.migrations).values(number=99, name="from the future"))

    with pytest.raises(DatabaseTooNew, match="run the newer version"):
        service.engine.prepare()
