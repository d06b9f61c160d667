"""Stations behind TCP: pymodbus's own server, one that lies in every way, and one that never says a word."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymodbus.framer import FramerType
from pymodbus.pdu.register_message import ReadInputRegistersRequest

from edge_gateway.configuration import LineConfiguration
from edge_gateway.errors import ConnectionLost, LineUnavailable, LinkError, NoAnswer, StationRefused, WrongAnswer
from edge_gateway.station_link import StationLink
from edge_gateway.tcp_client import TcpClient
from edge_gateway.tests.fake_station import FakeStation, make_record
from edge_gateway.tests.tcp_servers import LyingServer, Piece, Question, StationServer, framed, registers
from edge_gateway.transport import Turn, make_transport
from station_config.free_ports import free_port

TIMEOUT_S = 0.4


def line(port: str) -> LineConfiguration:
    return LineConfiguration.model_validate({"name": "tcp", "port": port, "timeout_s": TIMEOUT_S})


@contextmanager
def client_of(server: LyingServer) -> Iterator[TcpClient]:
    client = TcpClient(make_transport(line(f"tcp://127.0.0.1:{server.port}")), TIMEOUT_S)
    yield client
    client.close()


def read(client: TcpClient, unit: int = 1, count: int = 2) -> list[int]:
    return list(client.ask(ReadInputRegistersRequest(dev_id=unit, address=0, count=count)).registers)


def honest(question: Question) -> list[Piece]:
    """Registers that say their own transaction."""
    return [Piece(framed(question.transaction, question.unit, registers(question.transaction, 7)))]


@pytest.mark.parametrize(
    ("scheme", "framer"),
    [
        pytest.param("tcp", FramerType.SOCKET, id="Modbus TCP"),
        pytest.param("rtu+tcp", FramerType.RTU, id="RTU frames through a serial server"),
    ],
)
def test_stations_behind_pymodbus_answer_for_themselves(scheme: str, framer: FramerType) -> None:
    stations = FakeStation("xuan-hoa", 11, journal=0xAA, number=100), FakeStation("my-tho", 12, journal=0xBB, number=7)
    with StationServer(*stations, framer=framer) as server:
        link = StationLink(line(f"{scheme}://127.0.0.1:{server.port}"))
        link.open()
        found = [(link.read_station_id(address), link.read_status(address).journal) for address in (11, 12)]
        fetched = link.fetch(11, 0xAA, 5, 4, 13)
        with pytest.raises(StationRefused) as refusal:
            link.fetch(11, 0xDEAD, 5, 4, 13)
        link.close()

    assert found == [("xuan-hoa", 0xAA), ("my-tho", 0xBB)]
    assert (fetched.first_seq, fetched.records) == (5, b"".join(make_record(seq) for seq in range(5, 18)))
    assert refusal.value.exception_code == 3


def test_a_late_answer_is_told_by_its_number_and_is_nobody_elses() -> None:
    delays_s = iter([0.0, 1.8 * TIMEOUT_S, 0.0, 2.6 * TIMEOUT_S, 0.0, 0.0])

    def late(question: Question) -> list[Piece]:
        return [piece._replace(after_s=next(delays_s)) for piece in honest(question)]

    answers: list[int | None] = []
    with LyingServer(late) as server, client_of(server) as client:
        for _ in range(6):
            try:
                answers.append(read(client)[0])
            except NoAnswer:
                answers.append(None)
        late_answers, timeouts = client.counters(1).late_answers, client.counters(1).timeouts
        asked = [question.transaction for question in server.questions]

    assert [answer in (None, number) for answer, number in zip(answers, asked, strict=True)] == [True] * 6
    assert timeouts == answers.count(None) >= 2
    assert late_answers == timeouts
    assert answers[-1] is not None


def test_an_answer_with_another_number_is_not_taken() -> None:
    def wrong(question: Question) -> list[Piece]:
        return [Piece(framed(question.transaction + 1, question.unit, registers(1, 2)))]

    with LyingServer(wrong) as server, client_of(server) as client:
        with pytest.raises(NoAnswer):
            read(client)

        assert (client.counters(1).timeouts, client.counters(1).late_answers) == (1, 1)


@pytest.mark.parametrize(
    "say",
    [
        pytest.param(lambda q: framed(q.transaction, q.unit + 1, registers(1, 2)), id="of another unit"),
        pytest.param(lambda q: framed(q.transaction, q.unit, registers(1, 2, function=3)), id="of another function"),
        pytest.param(lambda q: framed(q.transaction, q.unit, registers(1)), id="too short"),
        pytest.param(lambda q: framed(q.transaction, q.unit, bytes((4, 4, 0, 1))), id="cut short in its own length"),
    ],
)
def test_an_answer_that_does_not_fit_is_wrong_and_counted(say: object) -> None:
    with LyingServer(lambda question: [Piece(say(question))]) as server, client_of(server) as client:  # type: ignore[operator]
        with pytest.raises(LinkError):
            read(client)

        assert client.counters(1).wrong_answers == 1


def test_an_answer_in_pieces_is_put_together() -> None:
    def in_pieces(question: Question) -> list[Piece]:
        whole = honest(question)[0].data
        return [Piece(whole[:3]), Piece(whole[3:9], 0.02), Piece(whole[9:], 0.02)]

    with LyingServer(in_pieces) as server, client_of(server) as client:
        assert [read(client)[1] for _ in range(3)] == [7, 7, 7]


def test_half_an_answer_and_its_rest_after_the_timeout_is_late_and_the_next_one_is_right() -> None:
    rests_s = iter([1.5 * TIMEOUT_S, 0.0])

    def halves(question: Question) -> list[Piece]:
        whole = honest(question)[0].data
        return [Piece(whole[:8]), Piece(whole[8:], next(rests_s))]

    with LyingServer(halves) as server, client_of(server) as client:
        with pytest.raises(NoAnswer):
            read(client)

        assert read(client)[0] == server.questions[1].transaction
        assert client.counters(1).late_answers == 1


@pytest.mark.parametrize("sent", [0, 3, 9])
def test_a_connection_closed_in_mid_answer_costs_that_question_alone(sent: int) -> None:
    broken = iter([True, False])

    def closes(question: Question) -> list[Piece]:
        if next(broken):
            return [Piece(honest(question)[0].data[:sent], then_close=True)]
        return honest(question)

    with LyingServer(closes) as server, client_of(server) as client:
        with pytest.raises(ConnectionLost):
            read(client)

        assert read(client)[1] == 7
        assert server.connections == 2


def test_bytes_that_are_no_modbus_tcp_end_the_connection_and_the_next_one_is_clean() -> None:
    answers = iter([[Piece(b"HTTP/1.1 400 Bad Request\r\n\r\n")], None])

    def web_page_first(question: Question) -> Sequence[Piece]:
        return next(answers) or honest(question)

    with LyingServer(web_page_first) as server, client_of(server) as client:
        with pytest.raises(ConnectionLost, match="not Modbus TCP"):
            read(client)

        assert (read(client)[1], client.counters(1).crc_errors) == (7, 1)


def test_a_server_that_accepts_and_never_answers_costs_a_bounded_time_and_gets_a_new_connection() -> None:
    with LyingServer(lambda _question: []) as server, client_of(server) as client:
        begun = time.monotonic()
        for _ in range(7):
            with pytest.raises(NoAnswer):
                read(client)
        each_s = (time.monotonic() - begun) / 7

    # The time limit, and once more to hear whether the answer is merely late.
    assert each_s >= TIMEOUT_S
    assert len(server.questions) == 7
    assert server.connections == 3


def test_a_connection_that_was_closed_while_nobody_asked_is_made_anew() -> None:
    def once(question: Question) -> list[Piece]:
        return [honest(question)[0]._replace(then_close=True)]

    with LyingServer(once) as server, client_of(server) as client:
        assert [read(client)[1] for _ in range(4)] == [7] * 4
        assert server.connections == 4


@pytest.mark.parametrize(("function", "asked"), [(4, 3), (6, 2)], ids=["a reading is", "a writing may have been done"])
def test_a_connection_that_ends_upon_a_question_is_made_anew_and_only_a_reading_is_repeated(
    function: int, asked: int
) -> None:
    def second_time(question: Question) -> list[Piece]:
        if len(server.questions) == 2:
            return [Piece(b"", then_close=True)]
        return [Piece(framed(question.transaction, question.unit, registers(7, function=function)))]

    with LyingServer(second_time) as server, client_of(server) as client:
        client.exchange(1, bytes((function, 0, 0, 0, 1)))
        with suppress(ConnectionLost):
            client.exchange(1, bytes((function, 0, 0, 0, 1)))
        assert len(server.questions) == asked


def test_nobody_there_is_a_line_that_cannot_be_used() -> None:
    link = StationLink(line(f"tcp://127.0.0.1:{free_port()}"))

    with pytest.raises(LineUnavailable, match="no connection"):
        link.open()


def test_a_refusal_is_the_answer_to_its_own_question_even_after_a_timeout() -> None:
    answers: Iterator[list[Piece] | None] = iter([[], None])

    def refuses(question: Question) -> Sequence[Piece]:
        silent = next(answers)
        return [Piece(framed(question.transaction, question.unit, b"\x84\x02"))] if silent is None else silent

    with LyingServer(refuses) as server, client_of(server) as client:
        with pytest.raises(NoAnswer):
            read(client)

        answer = client.ask(ReadInputRegistersRequest(dev_id=1, address=0, count=2))

    assert answer.isError()


def test_wrong_answers_of_a_station_do_not_pass_for_its_records() -> None:
    def other_length(question: Question) -> list[Piece]:
        return [Piece(framed(question.transaction, question.unit, bytes((23, 2, 0, 1))))]

    with LyingServer(other_length) as server:
        link = StationLink(line(f"tcp://127.0.0.1:{server.port}"))
        with pytest.raises(WrongAnswer):
            link.fetch(11, 0xAA, 5, 4, 13)
        link.close()


class Scripted:
    """A transport that says what it is told, in pieces; then it is silent."""

    name = "scripted"

    def __init__(self, pieces: list[bytes]) -> None:
        self.turn = Turn()
        self._pieces = pieces

    def is_usable(self) -> bool:
        return True

    def open(self) -> None:
        raise LineUnavailable("there is nothing to open")

    def close(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        pass

    def read(self, timeout_s: float) -> bytes:
        return self._pieces.pop(0) if timeout_s and self._pieces else b""


@given(
    before=st.lists(st.integers(2, 65_535), max_size=4),
    cuts=st.lists(st.integers(1, 60), max_size=12),
    values=st.lists(st.integers(0, 65_535), min_size=2, max_size=2),
)
def test_however_the_bytes_are_cut_the_answer_is_found_behind_late_ones(
    before: list[int], cuts: list[int], values: list[int]
) -> None:
    said = b"".join(framed(number, 1, registers(9, 9)) for number in before) + framed(1, 1, registers(*values))
    pieces, at = [], 0
    for cut in [*cuts, len(said)]:
        pieces.append(said[at : at + cut])
        at += cut

    client = TcpClient(Scripted([piece for piece in pieces if piece]), 0.05)

    assert read(client) == values
    assert client.counters(1).late_answers == len(before)


@given(said=st.lists(st.binary(min_size=1, max_size=300), max_size=6))
@settings(deadline=None, max_examples=60)
def test_whatever_is_said_is_an_answer_or_a_link_error(said: list[bytes]) -> None:
    client = TcpClient(Scripted(said), 0.001)
    with suppress(LinkError):
        assert len(read(client)) == 2
