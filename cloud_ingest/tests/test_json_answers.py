"""Columns as JSON: what a client reads is what the columns say."""

from __future__ import annotations

import json
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloud_ingest.columns import SeriesKey
from cloud_ingest.json_answers import json_response, series_fields
from cloud_ingest.quality import Test
from cloud_ingest.queries import LayerName, Points
from station_config.parameters import load_parameters

KEY = SeriesKey("xuan-hoa", 1, 34)
SALINITY = load_parameters().by_name["salinity"]
SETS = st.sampled_from([0, 0, 0, 4, 512, 4 | 16, sum(Test)])
ROWS = st.lists(st.tuples(st.integers(0, 2**32 - 1), st.floats(), st.integers(0, 9), SETS, st.integers(0, 9)))


@given(ROWS)
def test_every_row_is_as_it_was(rows: list[tuple[int, float, int, int, int]]) -> None:
    time, value, flag, failed, calibration = zip(*rows, strict=True) if rows else ((),) * 5
    ints = [np.array(one, np.int64) for one in (time, failed, calibration)]
    points = Points(ints[0], np.array(value, np.float64), np.array(flag, np.uint8), ints[1], ints[2])
    found = {
        name: json.loads(bytes(json_response(series_fields(KEY, SALINITY, name, points, thinned=False)).body))
        for name in LayerName
    }
    flagged = found[LayerName.FLAGGED]
    assert (flagged["times"], flagged["flags"]) == (list(time), list(flag))
    assert flagged["values"] == [one if math.isfinite(one) else None for one in value]
    assert flagged["failed"] == [list(Test(one).names) for one in failed]
    assert found[LayerName.CALIBRATED]["calibrations"] == list(calibration)
    assert found[LayerName.RAW]["failed"] == found[LayerName.RAW]["calibrations"] == []


def test_a_column_of_one_number_is_written_for_each_row() -> None:
    zeros = np.broadcast_to(np.int64(0), 3)
    points = Points(np.arange(3), np.full(3, 1.5), np.ones(3, np.uint8), zeros, zeros)
    for name, field, each in ((LayerName.CALIBRATED, "calibrations", 0), (LayerName.FLAGGED, "failed", [])):
        answer = json.loads(bytes(json_response(series_fields(KEY, SALINITY, name, points, thinned=False)).body))
        assert answer[field] == [each] * 3
