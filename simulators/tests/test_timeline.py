"""A timeline is checked as a whole before it runs, carried out by the clock of its bench, and judged from its log."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from simulators.faults.line import LineFaults
from simulators.faults.parts import Absent, Parts
from simulators.faults.wires import Bus
from simulators.timeline import Account, Message, RunLog, Timeline, TimelineRefused, Value, drive, judge
from simulators.timeline.script import Place, hardware_reasons
from simulators.timeline.verdict import folded


class HandBus:
    """A line in this process that writes down what was changed."""

    def __init__(self) -> None:
        self.now = LineFaults()
        self.changes: list[str] = []

    def set_fault(self, name: str, value: bool | float) -> None:
        self.now = self.now.with_fault(name, value)
        self.changes.append(f"{name} {value}")


class HandRig:
    """A bench whose clock goes on by a field second whenever it is looked at."""

    def __init__(self, parts: Parts, messages: Sequence[Message] = ()) -> None:
        self.parts = parts
        self.speed = 60.0
        self._time = 1000.0
        self._messages = messages

    def now(self) -> float:
        self._time += 1.0
        return self._time

    def wait_for_first_record(self) -> None:
        pass

    def messages(self) -> Sequence[Message]:
        return [one for one in self._messages if one.at_s <= self._time]

    def values(self, station: str, parameter: str, first: float, last: float) -> Sequence[Value]:
        return [Value(1030, station, parameter, 4.1, 1, 4.0), Value(1040, station, parameter, None, 9)]

    def accounts(self) -> Sequence[Account]:
        return [Account("xuan-hoa", "0badcafe", 1, 90, 90, 90, 0, 0, 0)]


def place(bus: HandBus | None = None, hardware: bool = False) -> Place:
    parts = Parts(
        {
            "bus": {"xuan-hoa": Bus((bus or HandBus()).set_fault)},
            "instrument": {"xuan-hoa/1": Absent("nobody asks it"), "xuan-hoa/2": Absent("nobody asks it")},
            "gateway": {"gateway": Absent("it runs elsewhere")},
        },
        hardware,
    )
    return Place({"xuan-hoa": [1, 2]}, ["salinity", "turbidity"], parts, ["salinity"])


def test_a_timeline_is_carried_out_and_judged() -> None:
    bus = HandBus()
    timeline = Timeline()
    timeline.at(5).cut("bus")
    timeline.at("0.25 min").restore("bus")
    timeline.during(20, 30).fault("bus.noise", station="xuan-hoa", chance=0.2)
    timeline.between(10, 25).expect_sms("vượt")
    timeline.between(25, 35).expect_no_sms()
    timeline.between(20, 35).expect_value("salinity", near="truth")
    timeline.between(35, 45).expect_missing("salinity")
    timeline.by(60).expect_records(lost=0, twice=0)
    script = timeline.script(place(bus))
    rig = HandRig(place(bus).parts, [Message(900, "1", "cu"), Message(1015, "+84900000001", "VUOT nguong")])
    told: list[str] = []
    verdict = judge(script.expectations, drive(script, rig, told.append))
    assert verdict.passed, str(verdict)
    assert bus.changes == ["cut True", "cut False", "noise 0.2", "noise False"]
    assert sum("SMS to +84900000001" in line for line in told) == 1
    assert "at(5).cut('bus')" in str(script)
    assert [one.said.split(".")[0] for one in verdict.judged][:2] == ["between(10, 25)", "between(25, 35)"]


def test_all_that_is_wrong_is_said_at_once_before_anything_is_done() -> None:
    bus = HandBus()
    timeline = Timeline(end="1 min")
    timeline.at(5).cut("lnik")
    timeline.at(10).restore("bus")
    timeline.during(20, 10).fault("bus.noise")
    timeline.during(20, 30).fault("bus.nose")
    timeline.during(10, 30).fault("bus.drop", chance=7)
    timeline.during(20, 40).fault("bus.echo")
    timeline.during(5, 9).fault("instrument.dry")
    timeline.during(5, 9).fault("bus.echo", station="hoa-binh")
    timeline.during(90, 99).fault("bus.stuck")
    timeline.between("soon", 50).expect_sms("vượt")
    timeline.by(200).expect_value("saltiness", near=3)
    timeline.by(50).expect_value("turbidity")
    timeline.during(1, 2).fault("gateway.kill")
    with pytest.raises(TimelineRefused) as refused:
        timeline.script(place(bus))
    said = str(refused.value)
    for words in (
        "at(5).cut('lnik'): no plug 'lnik'; there are link, bus",
        "at(10).restore('bus'): nothing was cut there before",
        "ends at 10 s, before it begins at 20 s",
        "'bus.nose'",
        "chance must be 0.05 to 0.5 share, not 7",
        "during(10, 30).fault('bus.drop', chance=7) and during(20, 40).fault('bus.echo'): overlap at xuan-hoa",
        "which sensor? xuan-hoa has 1, 2",
        "no station 'hoa-binh'; there are xuan-hoa",
        "during(90, 99).fault('bus.stuck'): begins at or after the end, 60 s",
        "'soon' is no moment",
        "no parameter 'saltiness'",
        "by(200).expect_value('saltiness', near=3): after the end, 60 s",
        "not at gateway: it runs elsewhere",
        "the truth is known of salinity here; say near=number",
    ):
        assert words in said, said
    assert bus.changes == []


def test_a_run_that_ends_by_an_error_heals_what_was_in_force() -> None:
    class Broken(HandRig):
        def now(self) -> float:
            if self._time > 1020:
                raise KeyboardInterrupt
            return super().now()

    bus = HandBus()
    timeline = Timeline(end=60)
    timeline.at(5).cut("bus")
    rig = Broken(place(bus).parts)
    with pytest.raises(KeyboardInterrupt):
        drive(timeline.script(place(bus)), rig)
    assert bus.changes == ["cut True", "cut False"]


def test_what_hardware_cannot_have_is_named_with_the_reason() -> None:
    timeline = Timeline()
    timeline.during(1, 2).fault("gateway.torn-page")
    script = timeline.script(place(hardware=True))
    assert hardware_reasons(script, place(hardware=True).parts) == [
        "gateway.torn-page: not on hardware: a card tears a page when it likes; nobody can order it"
    ]


def test_each_expectation_can_fail_and_says_why() -> None:
    timeline = Timeline()
    timeline.between(0, 10).expect_sms("vượt", times=1)
    timeline.between(0, 10).expect_value("salinity", near=3.0, within=0.1)
    timeline.between(20, 30).expect_value("salinity", near=3.0)
    timeline.between(0, 10).expect_missing("salinity")
    timeline.by(30).expect_records()
    expectations = timeline.script(place()).expectations
    log = RunLog(
        messages=(Message(15, "1", "vuot"),),
        values=(Value(5, "xuan-hoa", "salinity", 4.0, 1),),
        accounts=(Account("xuan-hoa", "0badcafe", 1, 9, 9, 8, 1, 0, 0, ("xuan-hoa/0badcafe/7",)),),
    )
    verdict = judge(expectations, log)
    assert [one.passed for one in verdict.judged] == [False] * 5
    assert [one.why for one in verdict.judged] == [
        "came: none; outside the time: 15 s",
        "1 of 1 too far, first 4 instead of 3",
        "no value was stored in that time",
        "0 records with flag 9",
        "9 made, 1 lost, 0 stored twice, 0 with another content: xuan-hoa/0badcafe/7",
    ]
    assert not judge(expectations, RunLog()).judged[-1].passed, "a run without records has shown nothing"


def test_the_account_is_expected_of_every_run_and_ends_it() -> None:
    timeline = Timeline()
    timeline.at(5).cut("bus")
    timeline.at(20).restore("bus")
    assert timeline.script(place()).expectations[-1].said == "every record once (always expected)"
    timeline.by(10).expect_records()
    with pytest.raises(TimelineRefused, match="the account is taken at the end, and faults last until 20 s"):
        timeline.script(place())


def test_vietnamese_is_compared_without_its_signs() -> None:
    assert folded("Độ mặn VƯỢT ngưỡng") == "do man vuot nguong"
