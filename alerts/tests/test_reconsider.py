"""Values that fail after they have counted: a spike, a real tide with one in it, a probe in the air, a stuck sensor."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from alerts.engine import AlertEngine
from alerts.rules import Kind, Observation, Rule
from alerts.schema import open_database, sqlite_url
from alerts.tests.conftest import FARMERS, RULE, START, WORDING, HandClock, template

AT_ONCE = replace(RULE, set_dwell_s=0, clear_dwell_s=0)
TEXTS = (
    *WORDING.templates,
    *(
        replace(template(Kind.CLEARED, one, "{station}: huỷ, đo trước khi lấy nước"), id="withdrawn")
        for one in ("vi", "en")
    ),
    *(replace(template(Kind.RAISED, one, "{station}: còn {value}"), id="reinstated") for one in ("vi", "en")),
)


@dataclass
class River:
    """A station's salinity as it is judged now, and the alert side of the cloud that hears of it."""

    rule: Rule
    engine: AlertEngine
    clock: HandClock
    judged: dict[int, Observation] = field(default_factory=dict)

    def hear(self, values: dict[int, float]) -> list[str]:
        """Values of these minutes arrive, each a few seconds after its time."""
        return [one for minute, value in values.items() for one in self._take([(minute, value)], 1, minute)]

    def fail(self, *minutes: int, at: int) -> list[str]:
        """Quality control fails the values of these minutes, at that minute."""
        return self._take([(minute, self.judged[minute].value) for minute in minutes], 4, at)

    def messages(self) -> list[tuple[str, str]]:
        """What the first farmer was to be told, the newest first."""
        return [
            (event["reason"], event["deliveries"][0]["text"] if event["deliveries"] else "nobody is told")
            for event in self.engine.recent()
        ]

    def _take(self, values: list[tuple[int, float | None]], flag: int, at: int) -> list[str]:
        taken = {
            minute: Observation("xuan-hoa", "salinity", START + 60 * minute, value, flag) for minute, value in values
        }
        self.judged.update(taken)
        self.clock.time = START + 60 * at + 5
        events = self.engine.evaluate(taken.values(), cursor=f"minute {at}", history=self._history)
        return [f"{event.kind}: {event.reason}" for event in events]

    def _history(self, rule: Rule, station: str, first: int, last: int) -> list[Observation]:
        assert (rule, station) == (self.rule, "xuan-hoa")
        return [one for _, one in sorted(self.judged.items()) if first <= one.time <= last]


def a_river(folder: Path, rule: Rule) -> River:
    clock = HandClock()
    database = open_database(sqlite_url(folder / "alerts.sqlite"))
    engine = AlertEngine(database, [rule], FARMERS, replace(WORDING, templates=TEXTS), clock)
    engine.prepare()
    return River(rule, engine, clock)


@pytest.fixture
def at_once(tmp_path: Path) -> River:
    """A rule without dwell, as for a station that sends seldom."""
    return a_river(tmp_path, AT_ONCE)


@pytest.fixture
def river(tmp_path: Path) -> River:
    """A rule with ten minutes of dwell both ways."""
    return a_river(tmp_path, RULE)


def test_a_warning_made_on_a_spike_is_withdrawn_in_words_of_its_own(at_once: River) -> None:
    assert at_once.hear({0: 0.4, 1: 9.0}) == ["raised: raised"]
    assert at_once.hear({2: 0.4}) == ["cleared: cleared"]
    assert at_once.fail(1, at=3) == [], "the river had said so itself"


def test_a_spike_at_the_end_of_the_record_is_withdrawn(at_once: River) -> None:
    at_once.hear({0: 0.4, 1: 9.0})
    assert at_once.fail(1, at=2) == ["cleared: withdrawn"]
    assert at_once.messages() == [
        ("withdrawn", "Xuan Hoa: huy, do truoc khi lay nuoc"),
        ("raised", "Tram Xuan Hoa: man 9,0 g/L luc 03:01 ngay 09/03. Khong lay nuoc vao."),
    ]
    assert at_once.fail(1, at=3) == [], "the same word again changes nothing"


def test_after_a_withdrawal_a_bad_sensor_is_not_believed_at_once_and_a_tide_is(at_once: River) -> None:
    at_once.hear({0: 0.4, 1: 9.0})
    at_once.fail(1, at=2)
    for minute in range(2, 8, 2):
        assert at_once.hear({minute: 9.0, minute + 1: 0.4}) == [], "no message for each spike of a noisy sensor"
    assert at_once.hear(dict.fromkeys(range(10, 16), 2.5)) == ["raised: raised"]


def test_a_real_tide_with_a_failed_value_in_it_stays_raised(river: River) -> None:
    told = river.hear({0: 0.5, 1: 1.0, 2: 8.0} | {minute: 2.0 + minute / 50 for minute in range(3, 20)})
    assert told == ["raised: raised"]
    assert river.fail(2, 12, at=20) == []
    assert river.hear({20: 2.4, 21: 2.5}) == []
    assert [one.since for one in river.engine.active()] == [START + 12 * 60]


def test_a_failed_value_takes_the_dwell_along_that_it_began(river: River) -> None:
    river.hear({0: 2.5, 5: 0.4, 6: 2.5})
    assert river.fail(6, at=7) == []
    assert river.hear({8: 2.5, 16: 2.5}) == [], "ten minutes from minute 8, not from minute 6"
    assert river.hear({18: 2.5}) == ["raised: raised"]


def test_an_all_clear_of_a_probe_in_the_air_is_taken_back_once(river: River) -> None:
    river.hear(dict.fromkeys(range(13), 2.5))
    assert river.hear(dict.fromkeys(range(13, 25), 0.1)) == ["cleared: cleared"]
    assert river.fail(*range(13, 25), at=26) == ["raised: reinstated"]
    assert river.messages()[0] == ("reinstated", "Xuan Hoa: con 2,5")
    assert [one.value for one in river.engine.active()] == [2.5]
    assert river.hear({27: 1.5, 32: 1.5, 38: 1.5}) == ["cleared: cleared"], "and then the water is really sweet"


def test_what_is_found_hours_later_is_put_right_and_wakes_nobody(river: River) -> None:
    river.hear(dict.fromkeys(range(13), 2.5))
    assert river.fail(*range(13), at=300) == ["cleared: withdrawn"]
    assert river.messages()[0] == ("withdrawn", "nobody is told")
    assert river.engine.active() == []


def test_what_failed_before_the_last_decision_s_time_changes_nothing_of_it(river: River) -> None:
    river.hear({0: 9.0} | dict.fromkeys(range(1, 60), 0.4) | dict.fromkeys(range(60, 72), 2.5))
    assert river.fail(0, at=72) == []
    assert len(river.engine.active()) == 1
