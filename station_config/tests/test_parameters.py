"""The vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest

from firmware.record import LAST_EVENT
from station_config.errors import ConfigurationError
from station_config.parameters import COUNT_LIMIT, Parameter, load_parameters, read_vocabulary

MEASURED = [p for p in load_parameters() if p.kind != "event"]


@pytest.mark.parametrize("parameter", MEASURED, ids=lambda p: p.name)
def test_every_count_is_exact_in_single_floats(parameter: Parameter) -> None:
    assert parameter.valid_min is not None
    assert parameter.valid_max is not None
    limits = (parameter.valid_min, parameter.valid_max)
    assert max(abs(limit) for limit in limits) * 10**parameter.decimals < COUNT_LIMIT < 2**24


def test_names_and_codes_lead_to_the_same() -> None:
    vocabulary = load_parameters()
    assert all(vocabulary.by_code[p.code] is vocabulary.by_name[p.name] is p for p in vocabulary)


def test_events_are_where_the_record_has_them() -> None:
    assert {p.code <= LAST_EVENT for p in load_parameters() if p.kind == "event"} == {True}


def test_a_count_becomes_a_value() -> None:
    assert load_parameters().by_name["water_temperature"].value(2843) == 28.43


def test_conflicts_of_a_vocabulary_are_all_named(tmp_path: Path) -> None:
    path = tmp_path / "parameters.toml"
    row = 'unit = "m"\nvalid_min = 0.0\nvalid_max = 1.0\nvi = "x"\nen = "x"\n'
    tables = [
        f'[a]\ncode = 32\nkind = "gauge"\n{row}',
        f'[b]\ncode = 32\nkind = "gauge"\n{row}',
        f'[c]\ncode = 7\nkind = "gauge"\n{row}',
        f'[d]\ncode = 200\nkind = "gauge"\n{row}',
        f'[e]\ncode = 33\nkind = "gauge"\ndecimals = 6\n{row.replace("1.0", "9.0")}',
    ]
    path.write_text("\n".join(tables), encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        read_vocabulary(path)
    assert [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()] == [
        "11: b.code: this code is used twice, first at a",
        "20: c.code: codes 1 to 15 are events, and only they",
        "29: d.code: codes from 128 are derived, and only they",
        "37: e: valid_min or valid_max times 10^decimals reaches 4000000: fewer decimals",
    ]
