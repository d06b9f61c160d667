"""What a SIM card may cost: a rate, and a day's budget with live records before the backlog."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_gateway import data_budget as policy
from edge_gateway.configuration import BrokerConfiguration
from edge_gateway.data_budget import Allowed, Bucket
from edge_gateway.traffic import Traffic, day_text
from edge_gateway.wire_bytes import HEADERS, wire_bytes

MORNING = 1_780_012_800.0  # 2026-05-29 07:00 in Mỹ Tho, midnight UTC
DAY_S = 86_400


@given(
    st.lists(st.tuples(st.floats(0, 30), st.integers(60, 20_000)), min_size=1, max_size=200), st.integers(50, 10_000)
)
def test_no_more_goes_than_the_rate_and_one_burst_and_one_message(sends: list[tuple[float, int]], rate: int) -> None:
    bucket, now, sent, largest = Bucket(0.0, 0.0), 0.0, 0, 0
    for pause_s, size in sends:
        now += pause_s
        bucket = policy.filled(bucket, now, rate)
        if policy.wait_s(bucket, now, rate) == 0:
            bucket = policy.spent(bucket, size)
            sent, largest = sent + size, max(largest, size)

    assert sent <= rate * (now + policy.BURST_S) + largest


def test_a_message_larger_than_the_bucket_goes_and_is_paid_for() -> None:
    bucket = policy.spent(policy.filled(Bucket(0.0, 0.0), 100.0, 1000), 11_000)

    assert policy.wait_s(bucket, 100.0, 1000) == 6.0
    assert policy.wait_s(bucket, 106.0, 1000) == 0.0


@pytest.mark.parametrize(
    ("spent", "share", "expected"),
    [
        (0, 0.0, Allowed.ALL),
        (99, 0.0, Allowed.ALL),
        (100, 0.0, Allowed.LIVE),
        (540, 0.5, Allowed.ALL),
        (560, 0.5, Allowed.LIVE),
        (999, 0.9, Allowed.LIVE),
        (1000, 0.1, Allowed.NOTHING),
    ],
)
def test_above_the_days_pace_only_live_records_go(spent: int, share: float, expected: Allowed) -> None:
    assert policy.allowed(spent, 1000, share) is expected


def test_without_a_budget_all_goes() -> None:
    assert policy.allowed(10**12, None, 0.5) is Allowed.ALL


@pytest.mark.parametrize(("rate", "records"), [(None, 600), (50, 13), (1000, 277), (10_000, 600)])
def test_batches_are_small_on_a_slow_link(rate: int | None, records: int) -> None:
    assert policy.records_per_message(rate, 600) == records


def test_the_day_begins_at_local_midnight_and_counts_from_there() -> None:
    traffic = Traffic(BrokerConfiguration(max_mb_per_day=1.0), {})
    traffic.note_connection(400_000, MORNING)
    traffic.note_connection(900_000, MORNING + 3600)
    today = traffic.spent(MORNING + 3600)
    traffic.note_connection(910_000, MORNING + DAY_S)

    assert today == (20602, 900_000)
    assert traffic.spent(MORNING + DAY_S) == (20603, 10_000)
    assert day_text(20602) == "2026-05-29"


def test_what_an_earlier_run_spent_today_counts() -> None:
    traffic = Traffic(BrokerConfiguration(max_mb_per_day=1.0), {20602: 1_000_000})

    assert traffic.allowed(MORNING) is Allowed.NOTHING


def test_what_was_sent_before_the_clock_was_set_belongs_to_the_day_it_is() -> None:
    traffic = Traffic(BrokerConfiguration(max_mb_per_day=1.0), {20602: 100_000})
    traffic.note_connection(50_000, 60.0)  # a minute after the start of a board without a clock

    assert traffic.spent(MORNING) == (20602, 150_000)


def test_each_connection_counts_from_zero() -> None:
    traffic = Traffic(BrokerConfiguration(), {})
    for size in (5_000, 7_000):
        traffic.begin_connection()
        traffic.note_connection(size, MORNING)

    assert traffic.spent(MORNING)[1] == 12_000


def test_where_the_kernel_does_not_tell_messages_are_counted_as_estimated() -> None:
    traffic = Traffic(BrokerConfiguration(), {})
    traffic.note_message("tram/v1/status/gw", b"x" * 100, 0.0)
    traffic.note_connection(None, MORNING)

    assert traffic.spent(MORNING)[1] == policy.message_bytes("tram/v1/status/gw", 100, tls=False)


def test_the_kernel_counts_both_ways_with_headers() -> None:
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as server,
        closing(socket.create_connection(server.getsockname())) as near,
        closing(server.accept()[0]) as far,
    ):
        before = wire_bytes(near)
        near.sendall(b"x" * 1000)
        far.recv(2000)
        far.sendall(b"y" * 300)
        near.recv(2000)
        after = wire_bytes(near)

    assert before is not None
    assert after is not None
    assert 1300 + 2 * HEADERS <= after - before <= 1300 + 6 * HEADERS
