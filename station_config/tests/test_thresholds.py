"""Crop thresholds are dated rows."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from station_config.errors import ConfigurationError
from station_config.thresholds import load_thresholds, read_thresholds, thresholds_in_force


@pytest.mark.parametrize(
    ("day", "level_g_l"),
    [(date(2019, 11, 30), None), (date(2020, 2, 14), 2.0), (date(2022, 3, 6), 2.0), (date(2022, 3, 7), 1.0)],
)
def test_rice_by_the_source_of_the_day(day: date, level_g_l: float | None) -> None:
    levels = {t.id: t.level_g_l for t in thresholds_in_force(load_thresholds(), day)}
    assert levels.get("rice") == level_g_l


def test_every_crop_of_the_delta_has_one_row_today() -> None:
    ids = [t.id for t in thresholds_in_force(load_thresholds(), date(2026, 11, 22))]
    wanted = {"rice", "vegetables", "orchard", "mango", "coconut", "tiger-shrimp-best", "tiger-shrimp"}
    assert (wanted - set(ids), len(ids) - len(set(ids))) == (set(), 0)


def test_two_rows_of_a_crop_on_one_day_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.toml"
    row = '[[threshold]]\nid = "rice"\nvi = "Lúa"\nen = "Rice"\nlevel_g_l = 1.0\nclear_g_l = {}\nsource = "s"\n'
    first = row.format(0.9) + "effective_from = 2020-01-01\nconfirmed = true\n"
    second = row.format(1.1) + "effective_from = 2021-01-01\nconfirmed = true\n"
    path.write_text(first + second, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        read_thresholds(path)
    assert [line.split(": ", 1)[1] for line in str(caught.value).splitlines()] == [
        "threshold[1]: clear_g_l must be below level_g_l, or an alert would come and go with every wave",
        "threshold[1].effective_from: two rows of this id count on one day; end the earlier one before",
    ]
