"""Questions on a line that misbehaves. The answers come from pymodbus over ptys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge_gateway.configuration import LineConfiguration
from edge_gateway.errors import LineUnavailable, LinkError, NoAnswer, NotOurStation, StationRefused
from edge_gateway.line_client import LineClient
from edge_gateway.station_link import StationLink
from edge_gateway.station_upkeep import StationFile
from edge_gateway.tests.fake_station import FakeLine, FakeStation, make_record

TIMEOUT_S = 0.5


@pytest.fixture
def stations() -> tuple[FakeStation, FakeStation]:
    return FakeStation("xuan-hoa", 11, journal=0xAA, number=100), FakeStation("my-tho", 12, journal=0xBB, number=7)


@pytest.fixture
def line(stations: tuple[FakeStation, FakeStation]) -> Iterator[FakeLine]:
    with FakeLine(*stations) as line:
        yield line


@pytest.fixture
def link(line: FakeLine) -> Iterator[StationLink]:
    link = StationLink(link_configuration(line.port))
    link.open()
    yield link
    link.close()


def link_configuration(port: str, timeout_s: float = TIMEOUT_S) -> LineConfiguration:
    station = {"id": "xuan-hoa", "address": 11}
    return LineConfiguration.model_validate(
        {"name": "uplink", "port": port, "baud": 38400, "timeout_s": timeout_s, "station": [station]}
    )


def test_stations_on_one_pair_answer_for_themselves(link: StationLink) -> None:
    found = [(link.read_station_id(address), link.read_status(address).journal) for address in (11, 12)]

    assert found == [("xuan-hoa", 0xAA), ("my-tho", 0xBB)]


@pytest.mark.parametrize("number", [1, 12, 13])
def test_records_come_as_the_station_made_them(link: StationLink, number: int) -> None:
    fetched = link.fetch(11, 0xAA, 5, 4, number)

    assert (fetched.first_seq, fetched.records) == (5, b"".join(make_record(seq) for seq in range(5, 5 + number)))


def test_the_end_of_the_journal_is_padding(link: StationLink) -> None:
    assert link.fetch(12, 0xBB, 5, 4, 13).number == 3


def test_an_absent_station_is_no_answer(link: StationLink) -> None:
    with pytest.raises(NoAnswer):
        link.read_status(99)

    assert link.counters(99).timeouts == 1


def test_a_question_for_another_journal_is_refused(link: StationLink) -> None:
    with pytest.raises(StationRefused) as refusal:
        link.fetch(11, 0xDEAD, 5, 4, 13)

    assert refusal.value.exception_code == 3


def test_a_late_answer_is_thrown_away_and_teaches_how_late_the_station_can_be(line: FakeLine) -> None:
    link = StationLink(link_configuration(line.port, timeout_s=1.0))
    link.open()
    line.delay_next_answer(1.4)
    with pytest.raises(NoAnswer):
        link.fetch(11, 0xAA, 1, 0, 13)

    fetched = link.fetch(11, 0xAA, 40, 0, 13)

    assert fetched.first_seq == 40
    assert link.counters(11).late_answers == 1
    assert isinstance(link._client, LineClient)
    assert link._client.patience(11).worst_ms > 1000  # the time limit
    link.close()


@pytest.mark.parametrize("delay_s", [0.05, 0.26, 0.45])
def test_no_delay_makes_an_answer_pass_for_another_question(line: FakeLine, delay_s: float) -> None:
    link = StationLink(link_configuration(line.port, timeout_s=0.15))
    link.open()
    for asked in range(1, 40, 13):
        line.delay_next_answer(delay_s)
        for question in (lambda asked=asked: link.fetch(11, 0xAA, asked, 0, 13).first_seq, lambda: status(link)):
            try:
                answer = question()
            except LinkError:
                continue
            assert answer in (asked, 0xAA)
    link.close()


def status(link: StationLink) -> int:
    return link.read_status(11).journal


def test_an_echo_and_noise_before_an_answer_are_skipped(link: StationLink, line: FakeLine) -> None:
    line.echo, line.noise = True, b"\x00\x0b\x04\xff"

    assert [link.read_status(11).journal for _ in range(3)] == [0xAA] * 3
    assert link.counters(11).questions == 3


def test_where_the_gateway_hears_itself_a_written_chunk_is_not_its_own_confirmation(
    link: StationLink, line: FakeLine
) -> None:
    line.echo = True
    link.read_status(11)
    link.write_file(11, StationFile.CONFIGURATION, 0, b"chunk!")
    with pytest.raises(NoAnswer):
        link.write_file(99, StationFile.CONFIGURATION, 0, b"chunk!")

    assert (link.counters(11).late_answers, link.counters(99).timeouts) == (0, 1)


def test_an_answer_that_comes_twice_is_one_answer(link: StationLink, line: FakeLine) -> None:
    line.twice = True

    assert [link.read_status(11).journal, link.fetch(11, 0xAA, 40, 0, 13).first_seq] == [0xAA, 40]
    assert link.counters(11).late_answers == 2


def test_status_is_never_asked_for_with_the_length_of_one_that_may_still_come(
    link: StationLink, line: FakeLine, stations: tuple[FakeStation, FakeStation]
) -> None:
    line.cut = True
    with pytest.raises(NoAnswer):
        link.read_status(11)
    line.cut = False

    assert [link.read_status(11).journal for _ in range(8)] == [0xAA] * 8
    assert link.counters(11).held == 0


def test_latencies_are_counted(link: StationLink) -> None:
    for _ in range(5):
        link.read_status(11)

    assert sum(link.counters(11).latencies.counts) == 5


def test_noise_on_the_line_is_counted_and_not_used(link: StationLink, line: FakeLine) -> None:
    line.cut = True
    line.talk(bytes(range(40)))
    with pytest.raises(LinkError):
        link.read_status(11)
    line.cut = False

    assert link.read_status(11).journal == 0xAA


def test_a_port_that_is_not_there_is_an_unavailable_line() -> None:
    link = StationLink(link_configuration("/dev/tty-that-is-not-there"))

    with pytest.raises(LineUnavailable, match="check the cable"):
        link.open()


def test_a_device_that_is_no_station_is_said(link: StationLink, stations: tuple[FakeStation, FakeStation]) -> None:
    stations[0]._status = lambda: [1] * 31  # type: ignore[method-assign]

    with pytest.raises(NotOurStation):
        link.read_status(11)
