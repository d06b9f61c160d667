"""The first scenarios: a reading reaches the phone, and four ways in which it might not have.

The order is that of an evening: salt rises while boards, buses, links and brokers fail.
"""

from __future__ import annotations

import random
import subprocess
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from firmware.record import EVENT_BOOT, EVENT_CLOCK_SET, MISSING, NO_VALUE, NOT_EVALUATED
from hil_tests.scene import Scene, nothing_lost
from simulators.faults import kinds
from simulators.faults.bench_parts import parts_of
from simulators.processes import command
from simulators.timeline import Timeline

CONDUCTIVITY_25 = 34
KILLS = 6


def test_the_first_records_say_boot_and_clock(scene: Scene) -> None:
    scene.wait_for_more(30)
    events = [record for record in scene.records() if record.parameter in (EVENT_BOOT, EVENT_CLOCK_SET)]
    assert events[0].parameter == EVENT_BOOT
    assert EVENT_CLOCK_SET in {record.parameter for record in events}


def test_values_are_what_the_probe_gave(scene: Scene) -> None:
    scene.wait_for_more(30)
    path = f"/api/v1/stations/{scene.station}/series/salinity"
    series = scene.bench.api(path, **{"from": int(scene.bench.options.plan.start_s) - 3600, "limit": 1000})
    time, value = next((t, v) for t, v in zip(reversed(series["times"]), reversed(series["values"]), strict=True) if v)
    assert value == pytest.approx(scene.bench.truth(scene.station, time - 30)["salinity"], rel=0.02, abs=0.01)


def test_a_silent_bus_is_recorded_as_missing_and_the_station_goes_on(scene: Scene) -> None:
    scene.wait_for_more(15)
    before = scene.ledger()["ranges"][-1][1]
    scene.bench.silence_bus(scene.station, True)
    scene.wait_until(lambda: _missing_after(scene, before) >= 3, "three minutes of missing conductivity")
    scene.bench.silence_bus(scene.station, False)
    silent_until = scene.ledger()["ranges"][-1][1]
    scene.wait_until(lambda: _present_after(scene, silent_until) >= 2, "conductivity to come back")
    assert nothing_lost(scene.account())


def test_a_broker_that_dies_with_all_it_knew_costs_nothing(scene: Scene) -> None:
    scene.wait_for_more(15)
    scene.bench.pull("broker")
    scene.wait_until(lambda: buffered(scene) >= 30, "records to wait at the gateway")
    scene.bench.put_back("broker")
    scene.wait_until(lambda: buffered(scene) < 15, "the outbox to empty")
    assert nothing_lost(scene.account())


def test_a_board_killed_at_any_moment_loses_no_record(scene: Scene) -> None:
    chance = random.Random(7)
    for _ in range(KILLS):
        scene.wait_for_more(chance.randrange(1, 25))
        scene.bench.pull(scene.board)
        scene.bench.put_back(scene.board)
    scene.wait_for_more(15)
    boots = [record.count for record in scene.records() if record.parameter == EVENT_BOOT]
    assert nothing_lost(scene.account())
    assert boots == sorted(set(boots)), "every boot has its own number"


def test_a_gateway_killed_at_any_moment_loses_no_record(scene: Scene) -> None:
    chance = random.Random(8)
    for _ in range(3):
        scene.wait_for_more(chance.randrange(1, 25))
        scene.bench.pull("gateway")
        scene.bench.put_back("gateway")
    scene.wait_for_more(15)
    assert nothing_lost(scene.account())


def test_an_evening_on_which_everything_fails_costs_no_record(timeline: Timeline) -> None:
    timeline.during("1 min", "3 min").fault("bus.wrong-slave", chance=0.3)
    timeline.during("1 min", "2 min").fault("broker.slow", share=0.2)
    timeline.during("2 min", "4 min").fault("cloud.disk-full")
    timeline.during("3 min", "5 min").fault("gateway.read-only")
    timeline.during("3 min", "4 min").fault("broker.refuses")
    timeline.during("4 min", "5 min").fault("link.bit-errors", rate=0.001)
    timeline.during("5 min", "6 min").fault("gateway.torn-page")
    timeline.between("0 min", "6 min").expect_value("salinity", near="truth")
    timeline.by("7 min").expect_records(lost=0, twice=0)
    timeline.run()


def test_the_farmer_is_told_once_when_salt_comes_and_once_when_it_goes(scene: Scene) -> None:
    plan, clock = scene.bench.options.plan, scene.bench.clock
    left_s = max(0.0, plan.clearing_s + plan.dwell_s - clock.now()) / clock.rate
    scene.wait_until(lambda: len(scene.bench.inbox()) >= 2, "the warning and the all-clear", left_s + 40)
    texts = [message["text"] for message in scene.bench.inbox()]
    assert [text for text in texts if "vuot nguong" in text or "toi nguong" in text] == texts[:1]
    assert [text for text in texts if "duoi" in text] == texts[1:]
    assert all(text.isascii() and len(text) <= 160 for text in texts)


def buffered(scene: Scene) -> int:
    """Return how many records wait in the gateway's outbox."""
    return int(scene.bench.gateway_status()["stations"][scene.station]["buffered"])


def _missing_after(scene: Scene, seq: int) -> int:
    later = [r for r in scene.records() if r.seq > seq and r.parameter == CONDUCTIVITY_25]
    return sum(record.flag == NO_VALUE and record.count == MISSING for record in later)


def _present_after(scene: Scene, seq: int) -> int:
    later = [r for r in scene.records() if r.seq > seq and r.parameter == CONDUCTIVITY_25]
    return sum(record.flag == NOT_EVALUATED for record in later)


def test_a_calibration_entered_while_the_station_runs_changes_values_and_no_record(scene: Scene) -> None:
    scene.wait_for_more(30)
    bench = scene.bench
    begin = datetime.fromtimestamp(bench.clock.now() - 300, ZoneInfo(bench.site.network.timezone))
    of = ("--config", str(bench.site.cloud_file), "--station", scene.station, "--sensor", "1")
    entry = ("--parameter", "conductivity_25", "--from", f"{begin:%Y-%m-%dT%H:%M}", "--coefficients", "0,1.1")
    argv = [command("tram-cloud"), "calibration", "add", *of, *entry, "--note", "two standards on the bench"]
    subprocess.run(argv, env=bench.environment(), check=True, capture_output=True, timeout=60)
    scene.wait_until(lambda: _gain(scene, "calibrated") == pytest.approx(1.1, rel=1e-3), "the new values")
    assert _gain(scene, "raw") == pytest.approx(1.0)
    assert nothing_lost(scene.account())


def _gain(scene: Scene, layer: str) -> float | None:
    """Return the newest conductivity of a layer over the raw one of the same minute; None while there is none."""
    path = f"/api/v1/stations/{scene.station}/series/conductivity_25"
    since = int(scene.bench.clock.now()) - 240
    raw, other = (scene.bench.api(path, **{"from": since, "sensor": 1, "layer": one}) for one in ("raw", layer))
    values = dict(zip(raw["times"], raw["values"], strict=True))
    pairs = [(v, values.get(t)) for t, v in zip(other["times"], other["values"], strict=True)]
    gains = [value / count for value, count in pairs if value and count]
    return gains[-1] if gains else None


def test_every_fault_of_the_catalogue_can_be_injected_here(scene: Scene) -> None:
    parts = parts_of(scene.bench)
    on_hardware = scene.bench.options.hardware is not None
    wanted = {name for name, one in kinds().items() if not (on_hardware and one.no_hardware)}
    assert set(parts.possible()) == wanted
