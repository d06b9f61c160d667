"""Every kind of fault in turn on the bench's chain: `tram-sim bench --every-fault`. Each must end in a green account.

One chain for all kinds; the seed gives their parameters. A kind that ends in anything but a green account takes the
chain with it, so that the next begins on one that is whole. Beside the records: no value that is not the river's,
where the fault is not one of values or clocks, and every message on its phone once.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from simulators import check
from simulators.bench import Bench
from simulators.bench_fixture import started, timeline_of, wanted
from simulators.bench_options import BenchOptions
from simulators.fault_table import Row
from simulators.faults import kind, kinds
from simulators.faults.plan import parameters_of
from simulators.in_flight import LedgerWatch, most_in_flight
from simulators.processes import wait_for
from simulators.timeline import Timeline, Verdict

# Field seconds. A fault is in force from BEGIN_S on, as a rule for five minutes.
BEGIN_S, USUAL_S, AFTER_S = 60.0, 300.0, 180.0
WIPER_S = 2100.0  # a brush turns every half an hour
PEOPLE_S, TURNED_S = 900.0, 420.0  # a level is crossed at the beginning, and back after TURNED_S
TOLD_WITHIN_S = 120.0  # of the wall: a channel that did not answer is asked again after some seconds
OF_NO_VALUES = ("bus", "link", "gateway", "broker", "cloud", "people")
MOVE_CLOCKS = ("board.clock-jump", "gateway.clock-wrong")
SENSOR, BRUSHED = 1, 4
FOLLOWER = "0900000002"
BRUSH = """
[[stations.sensors]]
number = 4
instrument = "yosemitech-y511"
address = 4
"""
RULE = f"""
[[rule]]
id = "turbid"
parameter = "turbidity"
sensor = {BRUSHED}
set_level = 61.2
clear_level = 60.5
set_dwell_s = 60
clear_dwell_s = 60

[[person]]
name = "Anh Bảy"
phone = "{FOLLOWER}"
rules = ["turbid"]
"""
SHOWN = (
    {"sensor": 1, "model": "yosemitech-y520", "address": 1},
    {"sensor": 2, "model": "keller-acculevel", "address": 2},
    {"sensor": 3, "model": "ecowitt-wn90lp", "address": 144},
    {"sensor": 4, "model": "yosemitech-y511", "address": 4, "values": {"water_temperature": 28.4, "turbidity": 61.5}},
)

if importlib.util.find_spec("pytest_timeout"):
    pytestmark = pytest.mark.timeout(1800)  # a kind is judged by its account, however slow the machine is


class Chain:
    """The bench that is running, if one is."""

    def __init__(self, start: Callable[[], AbstractContextManager[Bench]]) -> None:
        self._start = start
        self._kept = ExitStack()
        self.bench: Bench | None = None

    def running(self) -> Bench:
        """Return the bench, which is brought up where there is none."""
        if self.bench is None:
            self.bench = self._kept.enter_context(self._start())
        return self.bench

    @contextmanager
    def in_turn(self) -> Iterator[Bench]:
        """Yield the bench for one kind; it ends when the block fails."""
        bench, whole = self.running(), False
        try:
            yield bench
            whole = True
        except pytest.skip.Exception:  # nothing was done to it
            whole = True
            raise
        finally:
            if not whole:
                self.end()

    def end(self) -> None:
        """End the bench."""
        self.bench = None
        self._kept.close()


@pytest.fixture(scope="module")
def chain(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Keep one chain for all kinds."""
    kept = Chain(lambda: started(pytestconfig, tmp_path_factory, adapt=with_a_brush))
    yield kept
    kept.end()


def with_a_brush(options: BenchOptions) -> BenchOptions:
    """Give the station a probe with a brush besides, and somebody who follows what it measures."""
    assert options.stations is not None
    head, station, rest = options.network.read_text(encoding="utf-8").partition(f'id = "{options.stations[0]}"')
    own, after, others = rest.partition("\n[[stations]]")
    network = options.directory.with_name("network.toml")
    network.write_text(head + station + own + BRUSH + after + others, encoding="utf-8")
    return replace(options, network=network, shown=SHOWN, more_rules=RULE)


@pytest.mark.parametrize("name", list(kinds()))
def test_fault(name: str, chain: Chain, request: pytest.FixtureRequest) -> None:
    """Inject one kind, and hold all that must hold."""
    row = Row(name)
    given = parameters_of(wanted(request.config).seed, kind(name))
    try:
        with chain.in_turn() as bench:
            before = len(_deliveries(bench))
            verdict = run(scenario(timeline_of(bench, request.node), name, given), bench, row)
            wrong = wrong_messages(bench, before + (kind(name).scope == "people"))
            assert verdict.passed, str(verdict)
            assert not wrong, "; ".join(wrong)
            row.result = "green"
    finally:
        request.node.user_properties.append(row.as_property())


def scenario(timeline: Timeline, name: str, given: Mapping[str, float]) -> Timeline:
    """Write the fault of one kind, with what must hold."""
    of = kind(name)
    for_s = {"instrument.wiper-parked-wrong": WIPER_S}.get(name, PEOPLE_S if of.scope == "people" else USUAL_S)
    sensor = {"instrument.wiper-parked-wrong": BRUSHED}.get(name, SENSOR) if of.scope == "instrument" else None
    until_s = BEGIN_S + for_s
    timeline.during(BEGIN_S, until_s).fault(name, None, sensor, None, **given)
    if of.scope == "people":  # somebody must be told something meanwhile
        turned = timeline.during(2 * BEGIN_S, 2 * BEGIN_S + TURNED_S)
        turned.fault("instrument.fouling", sensor=BRUSHED, rate=50.0)
    if of.scope in OF_NO_VALUES and name not in MOVE_CLOCKS:
        timeline.between(0.0, until_s + AFTER_S).expect_value("salinity", near="truth")
    timeline.by(until_s + AFTER_S).expect_records(lost=0, twice=0)
    return timeline


def run(timeline: Timeline, bench: Bench, row: Row) -> Verdict:
    """Run a scenario, and note in the row what came of it; the journals are those read for its account."""
    watch = LedgerWatch(lambda: bench.api("/api/v1/ledger"), bench.clock.now)
    assert timeline.runner is not None
    with watch.running():
        began = bench.clock.now()
        verdict = timeline.runner(timeline)
    row.injected = sum(one.what == "began" and one.injection.kind == row.kind for one in verdict.log.happened)
    row.lost = sum(account.lost for account in verdict.log.accounts)
    row.doubled = sum(account.twice for account in verdict.log.accounts)
    for station in bench.site.stations:
        for journal, records in check.read_batches(bench.boards.journals(station.id)).items():
            stored = watch.stored[station.id, journal]
            row.made += sum(stored.get(seq, inf) > watch.moments[0] for seq in records)
            on_the_way = most_in_flight(records, stored, watch, began, began + verdict.log.seconds)
            row.in_flight = max(row.in_flight, on_the_way)
    return verdict


def wrong_messages(bench: Bench, at_least: int) -> list[str]:
    """Return in words what is wrong with messages: each is on its phone once, or was refused as the fault does it."""
    deliveries, inbox = _settled(bench)
    on_phones = Counter(str(message["provider_id"]) for message in inbox)
    sent = [str(one["provider_id"]) for one in deliveries if one["status"] == "sent"]
    failed = sum(one["status"] == "failed" for one in deliveries)
    found = [f"a message still waits: {one['detail']}" for one in deliveries if one["status"] == "pending"]
    found += [f"{name} is said to be sent, and on no phone" for name in sent if not on_phones[name]]
    found += [f"{name} came {times} times" for name, times in on_phones.items() if times > 1]
    if len(deliveries) < at_least:
        found.append("nobody had to be told anything")
    if len(inbox) > len(sent):
        found.append(f"{len(inbox)} messages came, {len(sent)} were sent")
    if failed > bench.refused_messages():
        found.append(f"{failed} messages were given up, {bench.refused_messages()} refused")
    return found


def _deliveries(bench: Bench) -> list[dict[str, Any]]:
    return [one for alert in bench.api("/api/v1/alerts", limit=1000)["alerts"] for one in alert["deliveries"]]


def _settled(bench: Bench) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return all deliveries and what is on the phones, of a moment at which nothing was being sent, if one came."""
    deliveries, inbox = _deliveries(bench), bench.inbox()

    def nothing_moves() -> bool:
        nonlocal deliveries, inbox
        before, deliveries, inbox = deliveries, _deliveries(bench), bench.inbox()
        still = before == deliveries == _deliveries(bench)
        return still and not any(one["status"] == "pending" for one in deliveries)

    wait_for(nothing_moves, TOLD_WITHIN_S, "the last messages to go", raises=False)
    return deliveries, inbox
