"""rules.toml as an operator writes it: what comes out, and what he is told when something is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from alerts.configuration import AlertConfiguration, load_alerts
from alerts.rules import Rule
from alerts.subscriptions import Subscription, mask_phone, normalise_phone
from station_config.errors import ConfigurationError
from station_config.network import load_network

NOW = 1_773_000_000

NETWORK = """
name = "Thử nghiệm"
gateways = [{ id = "gw-mytho" }]
"""
STATION = """
[[stations]]
id = "{id}"
name_vi = "{vi}"
name_en = "{en}"
latitude = 10.3
longitude = 106.4
river = "Tiền"
river_km = 42.0
gateway = "gw-mytho"
address = {address}
sample_interval_s = 10
record_interval_s = {record_s}
sensors = []
"""
RICE = """
[[rule]]
id = "rice"
parameter = "salinity"
threshold = "rice"
stations = ["xuan-hoa"]

[[person]]
name = "Ba Tám"
phone = "0912 345 678"
rules = ["rice"]
"""

Load = Callable[[str], AlertConfiguration]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a rules.toml of this text for a network of two stations."""
    stations = STATION.format(id="xuan-hoa", vi="Xuân Hòa", en="Xuan Hoa", address=11, record_s=60)
    stations += STATION.format(id="vam-kenh", vi="Vàm Kênh", en="Vam Kenh", address=12, record_s=900)
    network = tmp_path / "network.toml"
    network.write_text(NETWORK + stations, encoding="utf-8")
    rules = tmp_path / "rules.toml"

    def load_text(text: str) -> AlertConfiguration:
        rules.write_text(text, encoding="utf-8")
        return load_alerts(rules, load_network(network), NOW)

    return load_text


def test_a_rule_takes_its_levels_and_crop_from_the_threshold_in_force(load: Load) -> None:
    (rule,) = load(RICE).rules

    assert rule == Rule(
        id="rice",
        parameter="salinity",
        stations=("xuan-hoa",),
        set_level=1.0,
        clear_level=0.9,
        set_dwell_s=600,
        clear_dwell_s=1800,
        stale_after_s=3600,
        max_gap_s=1800,
        severity="warning",
        threshold="rice",
        text="salinity",
        crop={"vi": "lúa", "en": "rice"},
    )


def test_a_person_is_known_by_a_number_in_international_form(load: Load) -> None:
    assert load(RICE).subscriptions == (Subscription("Ba Tám", "+84912345678", "vi", frozenset({"rice"})),)


def test_levels_of_ones_own_go_before_the_thresholds(load: Load) -> None:
    (rule,) = load(RICE.replace('threshold = "rice"', 'threshold = "rice"\nset_level = 2.5\nclear_level = 2.2')).rules

    assert (rule.set_level, rule.clear_level, rule.crop["vi"]) == (2.5, 2.2, "lúa")


def test_without_stations_a_rule_watches_all_and_allows_gaps_of_the_slowest(load: Load) -> None:
    (rule,) = load(RICE.replace('stations = ["xuan-hoa"]\n', "")).rules

    assert (rule.stations, rule.max_gap_s) == (("xuan-hoa", "vam-kenh"), 2700)


def test_an_empty_file_is_a_configuration_without_rules(load: Load) -> None:
    configuration = load("")

    assert (configuration.rules, configuration.subscriptions) == ((), ())


def test_every_fault_of_a_file_is_named_at_once_with_its_line(load: Load, tmp_path: Path) -> None:
    text = """
[[rule]]
id = "rice"
parameter = "saltiness"
threshold = "rise"
stations = ["xuan-hoa", "hoa-xuan"]
set_dwell = 600

[[rule]]
id = "rice"
parameter = "salinity"
set_level = 2.0
clear_level = 2.0

[[person]]
name = "Ba Tám"
phone = "0912 345"
rules = ["rise"]
"""
    with pytest.raises(ConfigurationError) as raised:
        load(text)

    faults = str(raised.value).replace(f"{tmp_path}/", "").splitlines()
    assert [fault.partition("; ")[0] for fault in faults] == [
        "rules.toml:4: rule[0].parameter: not a measured or derived parameter",
        "rules.toml:5: rule[0].threshold: no threshold of this id is in force",
        "rules.toml:6: rule[0].stations[1]: no such station in the network",
        "rules.toml:7: rule[0].set_dwell: unknown key",
        "rules.toml:10: rule[1].id: this id is used twice, first at rule[0]",
        "rules.toml:13: rule[1].clear_level: must be below the set level, or the alert comes and goes with every wave",
        "rules.toml:17: person[0].phone: a Vietnamese number has 9 or 10 digits after the 0 or +84",
        "rules.toml:18: person[0].rules[0]: no rule has this id",
    ]


FAULTS = [
    ("no levels", RICE.replace('threshold = "rice"\n', ""), "rules.toml:2: rule[0]: a rule needs set_level and clear"),
    (
        "a crop's threshold on another parameter",
        RICE.replace("salinity", "ph"),
        "rule[0].threshold: crop thresholds are salinities",
    ),
    (
        "a text that does not exist",
        RICE.replace('threshold = "rice"', 'threshold = "rice"\ntext = "flood"'),
        "rules.toml:2: rule[0]: station 'xuan-hoa', raised, vi: no text 'flood' for raised in 'vi': add a [[text]] row",
    ),
]


@pytest.mark.parametrize(("text", "told"), [pytest.param(*row[1:], id=row[0]) for row in FAULTS])
def test_a_fault_is_told_in_words(load: Load, text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(text)

    assert told in str(raised.value)


TEXT = """
[[text]]
id = "salinity"
kind = "raised"
language = "vi"
sms = "{sms}"
page = "Mặn!"
effective_from = 2026-11-22
source = "the cooperative"
"""


@pytest.mark.parametrize(
    ("sms", "told"),
    [
        ("Trạm {station} " + "rất mặn " * 20, "the SMS takes 170 of 160 characters: shorten it"),
        ("Trạm {river} mặn", "the text cannot be filled in: KeyError('river')"),
        ("Trạm {station mặn", "the text cannot be filled in: ValueError"),
    ],
)
def test_a_text_that_could_not_be_sent_is_refused_when_it_is_loaded(load: Load, sms: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(RICE + TEXT.replace("{sms}", sms))

    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("written", "phone"),
    [
        ("0912345678", "+84912345678"),
        ("0912 345 678", "+84912345678"),
        ("(0273) 3872-123", "+842733872123"),
        ("+84 912.345.678", "+84912345678"),
        ("0084912345678", "+84912345678"),
        ("+855 12 345 678", "+85512345678"),
    ],
)
def test_numbers_are_taken_as_people_write_them(written: str, phone: str) -> None:
    assert normalise_phone(written) == phone


@pytest.mark.parametrize(
    "written", ["", "113", "0912345", "091234567890", "+84", "84912345678", "0912x45678", "++84912345678"]
)
def test_what_is_no_number_is_refused_without_being_repeated(written: str) -> None:
    with pytest.raises(ValueError, match="number") as raised:
        normalise_phone(written)

    assert written == "" or written not in str(raised.value).replace("+84912345678", "").replace("+84.", "")


def test_a_subscription_in_a_log_or_traceback_hides_its_number() -> None:
    shown = repr(Subscription("Ba Tám", "+84912345678", "vi", frozenset({"rice"})))

    assert (shown.count("912345"), mask_phone("+84912345678")) == (0, "+84******678")
