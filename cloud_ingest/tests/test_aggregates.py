"""Hours, days and months of local time against a plain loop over the rows."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_ingest.aggregates import USABLE, USABLE_AND_SUSPECT, combined, of_rows, rain, vector_mean, wind_of
from cloud_ingest.columns import Shown
from cloud_ingest.local_time import By, days_between, end_of, starts_of, widened
from station_config.meteorology import mean_wind, rain_increments

HO_CHI_MINH, BERLIN, KATHMANDU = (ZoneInfo(name) for name in ("Asia/Ho_Chi_Minh", "Europe/Berlin", "Asia/Kathmandu"))
SANTIAGO, LORD_HOWE = ZoneInfo("America/Santiago"), ZoneInfo("Australia/Lord_Howe")
ZONES = st.sampled_from((HO_CHI_MINH, BERLIN, KATHMANDU, SANTIAGO, LORD_HOWE))
JANUARY = 1_767_225_600
TIMES = st.lists(st.integers(JANUARY, JANUARY + 400 * 86400), min_size=1, max_size=30, unique=True)
ROWS = st.lists(
    st.tuples(
        st.integers(JANUARY, JANUARY + 70 * 86400),
        st.one_of(st.just(math.nan), st.integers(-500, 5000).map(lambda count: count / 10)),
        st.sampled_from((1, 1, 1, 2, 3, 4, 9)),
    ),
    min_size=1,
    max_size=60,
    unique_by=lambda row: row[0],
)


def shown(rows: list[tuple[int, float, int]]) -> Shown:
    times, values, flags = zip(*sorted(rows), strict=True)
    return Shown(np.array(times), np.array(values, np.float64), np.array(flags, np.uint8))


def local(moment: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(moment, zone).strftime("%Y-%m-%d %H:%M")


def test_what_ends_at_midnight_belongs_to_the_day_before() -> None:
    midnight = int(datetime(2026, 3, 2, tzinfo=HO_CHI_MINH).timestamp())
    starts = starts_of(np.array([midnight, midnight + 1]), By.DAY, HO_CHI_MINH)
    assert [local(one, HO_CHI_MINH) for one in starts.tolist()] == ["2026-03-01 00:00", "2026-03-02 00:00"]
    assert starts_of(np.array([midnight]), By.HOUR, HO_CHI_MINH).tolist() == [midnight - 3600]
    assert widened(midnight, midnight, By.DAY, HO_CHI_MINH) == (midnight, midnight + 86400)
    assert widened(midnight - 5, midnight, By.DAY, HO_CHI_MINH) == (midnight - 86400, midnight)


def test_days_on_which_clocks_are_changed_have_23_and_25_hours() -> None:
    for month, day, hours in ((3, 29, 23), (10, 25, 25), (6, 1, 24)):
        start = int(datetime(2026, month, day, tzinfo=BERLIN).timestamp())
        end = end_of(start, By.DAY, BERLIN)
        assert end - start == hours * 3600
        assert len(set(starts_of(np.arange(start + 1, end + 1, 600), By.HOUR, BERLIN).tolist())) == hours


@given(TIMES, ZONES)
def test_every_time_is_in_its_span_and_spans_tile_the_time(times: list[int], zone: ZoneInfo) -> None:
    ordered = np.array(sorted(times))
    for by in By:
        starts = starts_of(ordered, by, zone).tolist()
        for moment, start in zip(ordered.tolist(), starts, strict=True):
            end = end_of(start, by, zone)
            assert start < moment <= end
            assert widened(start, end, by, zone) == (start, end)
            assert starts_of(np.array([end + 1]), by, zone).tolist() == [end]
    for moment, start in zip(ordered.tolist(), starts_of(ordered, By.DAY, zone).tolist(), strict=True):
        assert datetime.fromtimestamp(moment - 1, zone).date() == datetime.fromtimestamp(start, zone).date()
    for moment, start in zip(ordered.tolist(), starts_of(ordered, By.MONTH, zone).tolist(), strict=True):
        assert local(start, zone)[:7] == local(moment - 1, zone)[:7]
    assert set(days_between(int(ordered[0]) - 1, int(ordered[-1]), zone)) >= set(
        starts_of(ordered, By.DAY, zone).tolist()
    )


@given(ROWS, ZONES, st.booleans())
def test_days_and_months_are_what_a_plain_loop_makes_of_the_rows(
    rows: list[tuple[int, float, int]], zone: ZoneInfo, with_suspect: bool
) -> None:
    flags = USABLE_AND_SUSPECT if with_suspect else USABLE
    column = shown(rows)
    hours = of_rows(column, starts_of(column.time, By.HOUR, zone), counter=True, flags=flags)
    days = combined(hours, starts_of(hours["start"] + 1, By.DAY, zone))
    months = combined(days, starts_of(days["start"] + 1, By.MONTH, zone))
    for by, made in ((By.HOUR, hours), (By.DAY, days), (By.MONTH, months)):
        expected: dict[int, list[tuple[int, float, int]]] = defaultdict(list)
        for row in sorted(rows):
            expected[int(starts_of(np.array([row[0]]), by, zone)[0])].append(row)
        assert made["start"].tolist() == sorted(expected)
        for bucket in made:
            members = expected[int(bucket["start"])]
            good = [value for _, value, flag in members if flag in flags and not math.isnan(value)]
            assert (bucket["n"], bucket["n_usable"]) == (len(members), len(good))
            assert bucket["n_good"] == sum(flag == 1 for _, _, flag in members)
            assert bucket["total"] == pytest.approx(math.fsum(good))
            if good:
                wanted = (min(good), max(good), good[0], good[-1])
                assert tuple(bucket[name] for name in ("lowest", "highest", "first", "last")) == wanted
            else:
                assert all(math.isnan(bucket[name]) for name in ("lowest", "highest", "first", "last"))


@given(ROWS, ZONES, st.booleans())
def test_rain_belongs_to_the_span_it_ends_in_and_is_never_negative(
    rows: list[tuple[int, float, int]], zone: ZoneInfo, something_before: bool
) -> None:
    column = shown([(moment, abs(value), flag) for moment, value, flag in rows])
    before = 3.0 if something_before else math.nan
    good = np.isin(column.flag, USABLE)
    increments = rain_increments(np.concatenate(([before], np.where(good, column.value, np.nan))))[1:]
    hours = of_rows(column, starts_of(column.time, By.HOUR, zone), counter=True)
    days = combined(hours, starts_of(hours["start"] + 1, By.DAY, zone))
    for by, made in ((By.HOUR, hours), (By.DAY, days)):
        starts = starts_of(column.time, by, zone)
        for start, fell in zip(made["start"].tolist(), rain(made, before).tolist(), strict=True):
            known = [one for one in increments[starts == start].tolist() if not math.isnan(one)]
            assert math.isnan(fell) if not known else fell == pytest.approx(math.fsum(known))
            assert not fell < 0


@given(
    st.lists(
        st.tuples(st.floats(0, 60), st.floats(0, 359), st.sampled_from((1, 2, 3)), st.sampled_from((1, 2, 9))),
        min_size=1,
        max_size=30,
    )
)
def test_wind_is_averaged_as_a_vector(rows: list[tuple[float, float, int, int]]) -> None:
    begin = int(datetime(2026, 3, 2, 5, tzinfo=UTC).timestamp())
    speed = shown([(begin + 60 * at, row[0], row[2]) for at, row in enumerate(rows, 1)])
    direction = shown([(begin + 60 * at, row[1], row[3]) for at, row in enumerate(rows, 1)])
    hours = of_rows(
        direction, starts_of(direction.time, By.HOUR, HO_CHI_MINH), counter=False, wind=wind_of(direction, speed)
    )
    expected = mean_wind((row[0], row[1]) for row in rows if row[2] != 3 and row[3] != 9)
    length, comes_from = vector_mean(float(hours["east"][0]), float(hours["north"][0]), int(hours["n_vector"][0]))
    if expected is None:
        assert (length, comes_from) == (None, None)
        return
    assert length == pytest.approx(expected.vector_speed, abs=1e-9)
    if comes_from is not None and expected.from_direction is not None and expected.vector_speed > 1e-6:
        turned = abs(comes_from - expected.from_direction)
        assert min(turned, 360 - turned) < 1e-3


def test_wind_without_a_speed_at_that_moment_does_not_count() -> None:
    begin = int(datetime(2026, 3, 2, 5, tzinfo=UTC).timestamp())
    direction = shown([(begin + 60, 350.0, 1), (begin + 120, 10.0, 1), (begin + 180, 180.0, 1)])
    speed = shown([(begin + 60, 2.0, 1), (begin + 120, 2.0, 1), (begin + 240, 9.0, 1)])
    made = of_rows(
        direction, starts_of(direction.time, By.HOUR, HO_CHI_MINH), counter=False, wind=wind_of(direction, speed)
    )
    length, comes_from = vector_mean(float(made["east"][0]), float(made["north"][0]), int(made["n_vector"][0]))
    assert (made["n"][0], made["n_vector"][0]) == (3, 2)
    assert length == pytest.approx(2 * math.cos(math.radians(10)))
    assert comes_from == pytest.approx(0.0, abs=1e-9) or comes_from == pytest.approx(360.0)


def test_nothing_makes_nothing() -> None:
    nothing = Shown(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.uint8))
    made = of_rows(nothing, starts_of(nothing.time, By.HOUR, BERLIN), counter=True)
    assert (len(made), len(combined(made, made["start"])), len(rain(made, 1.0))) == (0, 0, 0)
    assert timedelta(seconds=end_of(JANUARY, By.MINUTE, BERLIN) - JANUARY) == timedelta(minutes=1)
