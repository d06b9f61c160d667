"""The station answers the gateway, and only the gateway, and only when it is asked."""

import asyncio
import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware import register_page, registers, rtu
from firmware.line import Line
from firmware.record import EVENT_CLOCK_SET, SIZE, decode
from firmware.tests.station_parts import Parts, configuration_of, content
from firmware.tests.wire import Pin, Ticks, Uart
from firmware.uplink import Server, Uplink

ADDRESS = 11
JOURNAL = 0x12345678
NOW = 1_780_000_000


def server_of(parts):
    return Server(ADDRESS, "vam-kenh", "0.1.0", parts.station, parts.upkeep)


@pytest.fixture
def parts():
    parts = Parts(configuration_of(content()))
    parts.journal.append([(NOW + i, i, 1, 34, 2) for i in range(30)])
    return parts


def ask(parts, question):
    return bytes(server_of(parts).answer(question))


def registers_of(answer):
    assert rtu.is_sealed(answer, 0, len(answer))
    return struct.unpack(">%dH" % (answer[2] // 2), answer[3:-2])


def read(parts, first, count, function=4):
    return registers_of(ask(parts, rtu.read_request(ADDRESS, function, first, count)))


def fetch(parts, from_seq, stored_through=0, number=13, journal=JOURNAL):
    words = struct.unpack(">6H", struct.pack(">III", journal, from_seq, stored_through))
    return ask(parts, rtu.read_write_request(ADDRESS, 0x0200, 9 * number, 0x0100, words))


def refusal(code):
    return lambda answer: (answer[1] & 0x80, answer[2], len(answer)) == (0x80, code, 5)


def test_the_identification_block_says_what_the_station_is(parts):
    block = read(parts, 0, 10)
    assert block == (0x5452, 1, 0x1234, 0x5678, 0, 1, 0, 31, 0, 0)


def test_the_station_id_is_padded_with_nul(parts):
    assert struct.pack(">16H", *read(parts, 40, 16)) == b"vam-kenh" + bytes(24)


def test_any_part_of_the_block_reads_as_in_the_whole(parts):
    whole = read(parts, 0, 56)
    for first in range(56):
        assert read(parts, first, 56 - first) == whole[first:]


def test_live_channels_are_followed_by_ffff(parts):
    parts.station.channels.sample(1, 27_075, True)
    block = read(parts, 100, 4 * 5)
    value = struct.unpack(">f", struct.pack(">HH", *block[6:8]))[0]
    assert (block[4:6], round(value, 3), block[16:]) == ((1 << 8 | 34, 2), 27.075, (0xFFFF,) * 4)


def test_records_come_as_the_journal_holds_them_padded_with_ff(parts):
    data = fetch(parts, 25)[3:-2]
    assert [decode(data, at).seq for at in range(0, 6 * SIZE, SIZE)] == [25, 26, 27, 28, 29, 30]
    assert data[6 * SIZE :] == b"\xff" * 7 * SIZE


def test_asking_again_gives_the_same(parts):
    assert fetch(parts, 5, 4) == fetch(parts, 5, 4)


def test_fetching_acknowledges_what_the_gateway_has(parts):
    fetch(parts, 14, 13)
    assert read(parts, 8, 2) == (0, 13)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (rtu.seal(b"\x0b\x01\x00\x00\x00\x01"), refusal(1)),
        (rtu.read_request(ADDRESS, 4, 56, 1), refusal(2)),
        (rtu.read_request(ADDRESS, 4, 50, 10), refusal(2)),
        (rtu.read_request(ADDRESS, 4, 0, 0), refusal(3)),
        (rtu.read_request(ADDRESS, 4, 0, 126), refusal(3)),
        (rtu.read_request(ADDRESS, 3, 3, 2), refusal(2)),
        (rtu.write_request(ADDRESS, 1, (0, 0)), refusal(2)),
        (rtu.write_request(ADDRESS, 0, (0,)), refusal(2)),
        (rtu.write_request(ADDRESS, 0, (0, 5, 0, 0)), refusal(3)),
        (rtu.write_request(ADDRESS, 0, (0x6A18, 0, 1000, 0)), refusal(3)),
        (rtu.read_write_request(ADDRESS, 0x0200, 9, 0x0101, (0x1234, 0x5678, 0, 1, 0, 0)), refusal(2)),
        (rtu.read_write_request(ADDRESS, 0x0200, 10, 0x0100, (0x1234, 0x5678, 0, 1, 0, 0)), refusal(3)),
        (rtu.read_write_request(ADDRESS, 0x0200, 126, 0x0100, (0x1234, 0x5678, 0, 1, 0, 0)), refusal(3)),
        (rtu.read_write_request(ADDRESS, 0x0200, 9, 0x0100, (0x1234, 0x5678, 0, 1)), refusal(3)),
        (rtu.read_write_request(ADDRESS, 0x0200, 9, 0x0100, (0x1234, 0x5679, 0, 1, 0, 0)), refusal(3)),
        (rtu.identify_request(ADDRESS, 4, 0x55), refusal(2)),
        (rtu.identify_request(ADDRESS, 9), refusal(3)),
    ],
)
def test_what_cannot_be_is_refused_with_the_right_code(parts, question, expected):
    assert expected(ask(parts, question))


def test_a_refused_fetch_acknowledges_nothing(parts):
    fetch(parts, 1, 20, journal=JOURNAL + 1)
    assert parts.journal.stored_through == 0


def set_clock(parts, unix_s, milliseconds=0, uncertainty_ms=20):
    words = (unix_s >> 16, unix_s & 0xFFFF, milliseconds, uncertainty_ms)
    return ask(parts, rtu.write_request(ADDRESS, 0, words))


def test_the_gateway_sets_the_clock_and_the_journal_tells_the_step(parts):
    parts.wall.seconds = 184
    set_clock(parts, NOW)
    event = decode(parts.journal.read(31, 1))
    assert event == (31, NOW, NOW - 184, 0, EVENT_CLOCK_SET, 2)
    assert read(parts, 0, 4, function=3) == (NOW >> 16, NOW & 0xFFFF, 0, 20)


def test_a_clock_that_is_right_is_left_alone(parts):
    set_clock(parts, NOW)
    set_clock(parts, NOW + 1)
    assert parts.journal.next_seq == 32


def test_uptime_goes_on_through_a_clock_step(parts):
    parts.wall.seconds = 184
    set_clock(parts, NOW)
    parts.wall.seconds += 6
    assert read(parts, 10, 5) == (NOW + 6 >> 16, NOW + 6 & 0xFFFF, 1, 0, 190)


@given(st.binary(min_size=2, max_size=250))
def test_any_sealed_question_gets_a_sealed_answer(body):
    parts = Parts(configuration_of(content()))
    answer = ask(parts, rtu.seal(bytes([ADDRESS]) + body))
    assert rtu.is_sealed(answer, 0, len(answer))


class SharedLine:
    """Our station hears everything on the pair."""

    def __init__(self, parts):
        self.ticks = Ticks()
        self.uart = Uart(self.ticks)
        self.pin = Pin()
        self.uplink = Uplink(Line(self.uart, 9600, self.pin, self.ticks), server_of(parts))

    def hear(self, *chunks, apart_ms=1):
        for number, chunk in enumerate(chunks):
            self.uart.comes(number * apart_ms, chunk)
        asyncio.run(self._listen())
        return [frame for _, frame in self.uart.asked]

    async def _listen(self):
        while self.uart._coming or self.uplink._held:
            await self.uplink.serve_once()


QUESTION = rtu.read_request(ADDRESS, 4, 0, 2)
OUR_ANSWER = rtu.seal(b"\x0b\x04\x04\x54\x52\x00\x01")
THEIR_QUESTION = rtu.read_request(12, 4, 0, 31)
THEIR_ANSWER = rtu.seal(b"\x0c\x04\x3e" + bytes(62))


@pytest.mark.parametrize(
    ("heard", "answers"),
    [
        ([QUESTION], 1),
        ([QUESTION[:3], QUESTION[3:]], 1),
        ([THEIR_QUESTION], 0),
        ([THEIR_QUESTION, THEIR_ANSWER], 0),
        ([THEIR_QUESTION + THEIR_ANSWER + QUESTION], 1),
        ([THEIR_QUESTION, THEIR_ANSWER, QUESTION], 1),
        ([b"\x00\xff\x0b\x04", QUESTION], 1),
        ([QUESTION[:-1] + b"\x00"], 0),
        ([THEIR_ANSWER] * 30 + [QUESTION], 1),
        ([bytes([byte]) for byte in THEIR_QUESTION + THEIR_ANSWER + QUESTION], 1),
    ],
    ids=["ours", "in two pieces", "theirs", "theirs answered", "all at once", "one after the other", "noise", "damaged",
         "no pause between the others", "byte by byte"],
)  # fmt: skip
def test_only_whole_questions_to_us_are_answered(parts, heard, answers):
    assert SharedLine(parts).hear(*heard) == [OUR_ANSWER] * answers


def test_half_a_question_is_forgotten_when_the_line_falls_silent(parts):
    assert SharedLine(parts).hear(QUESTION[:4], QUESTION[4:], apart_ms=200) == []


def test_our_own_echo_is_no_question(parts):
    assert SharedLine(parts).hear(OUR_ANSWER) == []


class LineThatEchoes(Uart):
    """A transceiver without a driver-enable pin: what is sent is heard."""

    def write(self, frame):
        super().write(frame)
        self.comes(1, bytes(frame))


WRITE_FILE = rtu.seal(struct.pack(">BBBBHHH4s", ADDRESS, 21, 11, 6, 5, 0, 2, b"TRB1"))  # answered by itself


@pytest.mark.parametrize("question", [QUESTION, WRITE_FILE], ids=["read", "write file"])
def test_a_board_that_hears_itself_does_not_answer_its_own_answer(parts, question):
    line = SharedLine(parts)
    line.uart = LineThatEchoes(line.ticks)
    line.uplink._line = Line(line.uart, 9600, None, line.ticks)
    assert len(line.hear(question)) == 1
    line.uart.asked.clear()
    assert line.hear(QUESTION) == [OUR_ANSWER], "and goes on listening"


@given(st.lists(st.binary(max_size=100), max_size=6))
def test_whatever_is_on_the_line_the_next_question_is_answered(noise):
    line = SharedLine(Parts(configuration_of(content())))
    line.hear(*noise)
    line.uart.asked.clear()
    assert line.hear(QUESTION) == [OUR_ANSWER]


def test_every_register_of_the_map_has_a_value(parts):
    for table, source in ((registers.INPUT + registers.HOLDING, parts.station), (registers.COMMANDS, parts.upkeep)):
        for _, _, value in table:
            found = value if isinstance(value, int) else registers.value_at(source, value)
            assert isinstance(found, int | str)


def test_no_two_rows_of_the_map_overlap():
    for table in (registers.INPUT, registers.HOLDING + registers.COMMANDS):
        ends = [(row[0], row[0] + row[1]) for row in table]
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(ends))


def test_the_printed_map_is_that_of_the_code():
    import pathlib

    page = pathlib.Path(register_page.__file__).with_name("REGISTERS.md")
    assert page.read_text() == register_page.as_markdown() + "\n"
