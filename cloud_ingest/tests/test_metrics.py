"""What Prometheus reads, and what /health says of a disk or a review in trouble."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cloud_ingest.health import Disk, health
from cloud_ingest.review import SOON_EVERY_S, Review
from cloud_ingest.review_spans import Depth
from cloud_ingest.schema import SCHEMA
from cloud_ingest.tests.field import T0, Broker, Cloud, GatewaySide, a_cloud, batch, damaged, minutes, until
from cloud_ingest.tests.test_backup import RULES
from cloud_ingest.tests.test_ingest import Bench
from cloud_ingest.worker import Totals, WorkerState

Samples = dict[tuple[str, ...], float]
GB = 1_000_000_000


def scraped(cloud: Cloud) -> Samples:
    """Every sample by its name and the values of its labels."""
    answer = cloud.ask("/metrics")
    assert (answer.status_code, answer.headers["content-type"].split(";")[:2]) == (
        200,
        ["text/plain", " version=0.0.4"],
    )
    families = text_string_to_metric_families(answer.text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def state(review_behind_s: float = 0.0, trouble: str | None = None) -> WorkerState:
    return WorkerState(True, None, trouble, 0.0, 0, 0, review_behind_s, Totals())


def test_what_happened_is_counted_and_strangers_make_no_labels(
    broker: Broker, gateway: GatewaySide, tmp_path: Path
) -> None:
    folder = tmp_path / "cloud"
    folder.mkdir()
    (folder / "rules.toml").write_text(RULES)
    with a_cloud(folder, broker.port, '[alerts]\nrules = "rules.toml"\n', now_s=T0 + 3600) as cloud:
        gateway.send(batch(minutes(10)))
        gateway.send(damaged(batch(minutes(12)), 21))
        gateway.send(batch(minutes(2)), station="no-station-of-ours")
        gateway.send(b"no batch")
        gateway.say("tram/v1/status/gw-mytho", {"gateway": "gw-mytho", "online": True})
        gateway.say("tram/v1/status/gw-stranger", {"gateway": "gw-stranger", "online": True})
        gateway.await_commit(1, 4, "no-station-of-ours")
        until(lambda: scraped(cloud).get(("tram_set_aside_total",)) == 2, "the last message")
        until(lambda: scraped(cloud).get(("tram_gateway_online", "gw-mytho")) == 1, "the gateway")
        found = scraped(cloud)
        text = cloud.ask("/metrics").text

    counted = ("received", "stored", "duplicate")
    assert [found[f"tram_records_{name}_total",] for name in counted] == [48, 27, 20]
    assert 3600 - 660 <= found["tram_station_newest_record_age_seconds", "xuan-hoa"] < 3600
    assert found["tram_build_info", str(SCHEMA), "0.1.0"] == 1
    assert found["tram_database_size_bytes", "store"] > 50_000
    assert found["tram_disk_free_bytes",] > 0
    assert found["tram_alert_deliveries_waiting",] == 0
    for name in ("broker_connected", "store_writable", "store_readable"):
        assert found[f"tram_{name}",] == 1
    for name in ("ingest_lag_seconds", "ingest_inbox_messages", "ingest_inbox_bytes", "review_behind_seconds"):
        assert found[f"tram_{name}",] == 0
    assert ("tram_review_waiting_stations", "settle") in found
    assert "stranger" not in text
    assert "no-station" not in text


@pytest.mark.parametrize(
    ("disk", "warned"),
    [
        (Disk(100 * GB, 6 * GB), False),
        (Disk(100 * GB, 4 * GB), True),
        (Disk(4 * GB, GB), False),
        (Disk(4 * GB, GB // 4), True),
    ],
)
def test_a_disk_nearly_full_is_said_before_it_is_full(disk: Disk, warned: bool) -> None:
    found = health(state(), 0, disk)
    assert (found.status, bool(found.warnings)) == ("ok", warned)


def test_a_review_that_is_behind_is_said() -> None:
    found = health(state(review_behind_s=1800), 0, Disk(100 * GB, 50 * GB))
    assert (found.status, found.warnings) == (
        "ok",
        ["the quality review has been behind for 30 minutes: more arrives than it can do"],
    )


def test_a_store_that_does_not_answer_is_a_problem_and_no_failure_of_the_answer() -> None:
    found = health(state(), "the store cannot be used now", "/var is out of reach")
    assert (found.status, found.problems) == ("failing", ["the store cannot be used now", "/var is out of reach"])
    assert (found.set_aside, found.disk_free_bytes) == (None, None)


def test_the_review_is_behind_until_it_has_done_what_waits(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with bench.store:
        bench.take(batch(minutes(30)))
        review = Review(bench.store, bench.registry)
        start = review._caught_up_s
        waiting = review.behind_s(start + 1000)
        while bench.reader.waiting_spans(Depth.SOON):
            review.step(start + 1000)
        review.step(start + 1001)
        done = review.behind_s(start + 1001)
    bench.reader.close()
    assert waiting == pytest.approx(1000 - SOON_EVERY_S)
    assert done == 0.0
