"""What a farmer reads: the shipped texts in both languages, dates, decimals, and 160 characters of GSM-7."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import alerts
from alerts.configuration import _Texts
from alerts.rules import Kind, Rule
from alerts.texts import (
    SMS_SEPTETS,
    AlertEvent,
    Quantity,
    Template,
    Wording,
    decimals_beside,
    number,
    septets,
    to_gsm7,
    without_diacritics,
)
from station_config.toml_config import load

RULE = Rule("rice", "salinity", ("s",), 2.0, 1.8, text="salinity", crop={"vi": "lúa", "en": "rice"})
STATIONS = {"s": {"vi": "Cống Xuân Hòa", "en": "Xuan Hoa sluice"}}
QUANTITIES = {
    "salinity": Quantity({"vi": "độ mặn", "en": "salinity"}, "g/L"),
    "water_temperature": Quantity({"vi": "nhiệt độ nước", "en": "water temperature"}, "Cel"),
    "ph": Quantity({"vi": "pH", "en": "pH"}, "[pH]"),
}


TEMPLATES = tuple(row.template() for row in load(Path(alerts.__file__).with_name("texts.toml"), _Texts).text)


def shipped(stations: dict[str, dict[str, str]] = STATIONS) -> Wording:
    return Wording(TEMPLATES, stations, QUANTITIES, ZoneInfo("Asia/Ho_Chi_Minh"))


def event(kind: Kind = Kind.RAISED, value: float = 2.34, rule: Rule = RULE, time: int = 1_773_000_000) -> AlertEvent:
    return AlertEvent(rule, "s", kind, time, time, value, "raised")


TEXTS = [
    (
        Kind.RAISED,
        "vi",
        "Tram Cong Xuan Hoa: do man 2,3 g/L luc 03:00 ngay 09/03, da toi nguong tram 2,0 g/L cho lua. "
        "Khong lay nuoc vao, cho tin tiep.",
    ),
    (
        Kind.CLEARED,
        "vi",
        "Tram Cong Xuan Hoa: do man con 2,3 g/L luc 03:00 ngay 09/03, duoi 1,8 g/L cho lua. "
        "Co the lay nuoc lai, nen do truoc khi bom.",
    ),
    (
        Kind.RAISED,
        "en",
        "Station Xuan Hoa sluice: salinity 2.3 g/L at 03:00 on 9 Mar, reached the station threshold 2.0 g/L for rice. "
        "Do not take water in.",
    ),
    (
        Kind.CLEARED,
        "en",
        "Station Xuan Hoa sluice: salinity down to 2.3 g/L at 03:00 on 9 Mar, below 1.8 g/L for rice. "
        "You may take water again; measure first.",
    ),
]


@pytest.mark.parametrize(("kind", "language", "text"), TEXTS)
def test_a_farmer_reads(kind: Kind, language: str, text: str) -> None:
    assert shipped().sms(event(kind), language) == text


def test_the_page_keeps_the_diacritics() -> None:
    assert shipped().page(event())["vi"] == (
        "Trạm Cống Xuân Hòa: độ mặn 2,3 g/L lúc 03:00 ngày 09/03, đã tới ngưỡng trạm 2,0 g/L cho lúa. "
        "Không lấy nước vào."
    )


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        (
            "water_temperature",
            "Tram Cong Xuan Hoa: nhiet do nuoc 31,5 C luc 03:00 ngay 09/03, da toi nguong tram 31,0 C.",
        ),
        ("ph", "Tram Cong Xuan Hoa: pH 31,5 luc 03:00 ngay 09/03, da toi nguong tram 31,0."),
    ],
)
def test_other_parameters_are_told_without_advice(parameter: str, text: str) -> None:
    rule = Rule("r", parameter, ("s",), 31.0, 30.0)

    assert shipped().sms(event(value=31.5, rule=rule), "vi") == text


def test_a_value_is_as_fine_as_its_level() -> None:
    rule = Rule("seedlings", "salinity", ("s",), 0.25, 0.15, text="salinity")

    assert "do man 0,27 g/L" in shipped().sms(event(value=0.27, rule=rule), "vi")


@pytest.mark.parametrize("language", ["vi", "en"])
def test_long_names_are_shortened_and_nothing_else_is(language: str) -> None:
    long = {"s": {"vi": "Trạm bơm điện ấp Mỹ Thạnh Hòa Đông", "en": "Pumping station of My Thanh Hoa Dong"}}
    crop = {"vi": "cam, quýt, chanh, mít, măng cụt, vú sữa", "en": "oranges, mandarins, limes, jackfruit, star apple"}
    rule = Rule("fruit", "salinity", ("s",), 0.5, 0.4, text="salinity", crop=crop)

    text = shipped(long).sms(event(rule=rule), language)

    assert septets(text) <= SMS_SEPTETS
    assert text.endswith(("Khong lay nuoc vao, cho tin tiep.", "Do not take water in."))


def dated(text: str, start: date, end: date | None = None) -> Template:
    return Template("salinity", Kind.RAISED, "vi", text, text, start, end)


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        pytest.param([dated("old", date(2020, 1, 1)), dated("new", date(2026, 3, 1))], "new", id="the newest in force"),
        pytest.param([dated("now", date(2020, 1, 1)), dated("later", date(2026, 3, 10))], "now", id="not yet begun"),
        pytest.param(
            [dated("base", date(2020, 1, 1)), dated("gone", date(2025, 1, 1), date(2026, 3, 8))], "base", id="ended"
        ),
        pytest.param(
            [dated("base", date(2020, 1, 1)), dated("last day", date(2025, 1, 1), date(2026, 3, 9))],
            "last day",
            id="on its last local day",
        ),
        pytest.param([dated("ours", date(2026, 1, 1)), dated("yours", date(2026, 1, 1))], "yours", id="the later row"),
        pytest.param([dated("gone", date(2020, 1, 1), date(2021, 1, 1))], "gone", id="better old than without words"),
    ],
)
def test_the_text_of_the_day(rows: list[Template], chosen: str) -> None:
    wording = Wording(tuple(rows), STATIONS, QUANTITIES, ZoneInfo("Asia/Ho_Chi_Minh"))

    assert wording.sms(event(), "vi") == chosen


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Đồng Tháp, đường nước mặn", "Dong Thap, duong nuoc man"),
        ("ă â ê ô ơ ư Ằ Ẫ Ễ Ộ Ỡ Ự ỵ", "a a e o o u A A E O O U y"),
        ("“4 ‰” – 25 °C…", '"4 g/L" - 25 C...'),
        ("mặn 水", "man ?"),
    ],
)
def test_taking_off_diacritics(text: str, plain: str) -> None:
    assert to_gsm7(text) == plain


def test_letters_typed_decomposed_give_the_same() -> None:
    assert without_diacritics("Xua\u0302n Ho\u0300a") == "Xuan Hoa"


@pytest.mark.parametrize(
    ("value", "language", "decimals", "text"),
    [
        (2.34, "vi", 1, "2,3"),
        (2.0, "en", 2, "2.0"),
        (0.25, "en", 2, "0.25"),
        (10.0, "vi", 1, "10,0"),
        (-0.5, "vi", 1, "-0,5"),
    ],
)
def test_numbers(value: float, language: str, decimals: int, text: str) -> None:
    assert number(value, language, decimals) == text


def test_signs_of_the_extension_table_take_two() -> None:
    assert septets("[2]") == 5


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=60), st.text(max_size=60), st.floats(-99999, 99999), st.sampled_from(["vi", "en"]))
def test_every_sms_fits_and_is_gsm7(station: str, crop: str, value: float, language: str) -> None:
    rule = Rule("r", "salinity", ("s",), 2.0, 1.8, text="salinity", crop={"vi": crop, "en": crop})

    text = shipped({"s": {"vi": station, "en": station}}).sms(event(value=value, rule=rule), language)

    assert septets(text) <= SMS_SEPTETS
    assert to_gsm7(text) == text


@pytest.mark.parametrize(
    ("value", "level", "decimals"),
    [
        (4.2, 4.0, 1),
        (0.27, 0.25, 2),  # as fine as the level
        (0.38, 0.4, 2),  # 0.4 beside 0.4 would say nothing
        (0.398, 0.4, 3),
        (4.0, 4.0, 1),  # equal is equal
    ],
)
def test_a_value_beside_its_level_can_be_told_from_it(value: float, level: float, decimals: int) -> None:
    assert decimals_beside(value, level) == decimals
