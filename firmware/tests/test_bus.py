"""The client never takes a late answer for the answer it waits for."""

import asyncio
import random

import pytest

from firmware import rtu
from firmware.bus import Client, Patience
from firmware.errors import BadAnswer, NoAnswer, Refused
from firmware.line import Line
from firmware.tests.wire import Pin, Ticks, Uart

QUESTION = rtu.read_request(1, 3, 0x0100, 2)
OTHER = rtu.read_request(1, 3, 0x0200, 2)
RIGHT = rtu.seal(b"\x01\x03\x04\x00\x00\x00\x01")
WRONG = rtu.seal(b"\x01\x03\x04\x00\x00\x00\x02")


class Bench:
    """A client on a scripted line: each question takes the next line of the script."""

    def __init__(self, *script):
        self.ticks = Ticks()
        self.uart = Uart(self.ticks, lambda _: self.script.pop(0) if self.script else [])
        self.script = list(script)
        self.pin = Pin()
        self.client = Client(Line(self.uart, 9600, self.pin, self.ticks), self.ticks)
        self.patience = Patience(500)

    def ask(self, question=QUESTION, retries=0):
        return bytes(asyncio.run(self.client.ask(question, self.patience, retries)))

    @property
    def counters(self):
        client = self.client
        return client.polls, client.timeouts, client.crc_errors, client.late_answers


def test_an_answer_in_time_is_returned_without_its_frame():
    assert Bench([(20, RIGHT)]).ask() == b"\x00\x00\x00\x01"


def test_an_answer_in_pieces_is_put_together():
    assert Bench([(20, RIGHT[:3]), (35, RIGHT[3:4]), (90, RIGHT[4:])]).ask() == b"\x00\x00\x00\x01"


def test_silence_is_no_answer_and_counted():
    bench = Bench()
    with pytest.raises(NoAnswer):
        bench.ask()
    assert bench.counters == (1, 1, 0, 0)


def test_a_damaged_frame_is_counted_as_a_crc_error_and_asked_again():
    bench = Bench([(20, RIGHT[:-1] + b"\x00")], [(20, RIGHT)])
    assert (bench.ask(retries=1), bench.counters) == (b"\x00\x00\x00\x01", (2, 0, 1, 0))


def test_nothing_but_damage_is_a_bad_answer():
    with pytest.raises(BadAnswer):
        Bench([(20, b"\xff\x00\x13")]).ask()


def test_boot_noise_before_the_question_is_thrown_away():
    bench = Bench([(20, RIGHT)])
    bench.uart.comes(0, b"SEN0676 v1.2 ready\r\n")
    assert bench.ask() == b"\x00\x00\x00\x01"


def test_noise_before_the_answer_is_skipped():
    assert Bench([(10, b"\x00\xff\x01\x03"), (20, RIGHT)]).ask() == b"\x00\x00\x00\x01"


def test_an_echo_of_the_question_is_skipped():
    assert Bench([(5, QUESTION), (30, RIGHT)]).ask() == b"\x00\x00\x00\x01"


def test_a_write_on_a_line_that_echoes_waits_for_the_instruments_own_answer():
    write = rtu.write_single_request(1, 5, 1000)
    bench = Bench([(5, QUESTION), (30, RIGHT)], [(5, write)])
    bench.ask()
    with pytest.raises((NoAnswer, BadAnswer)):
        bench.ask(write)


def test_a_refusal_is_told_with_its_code_and_not_asked_again():
    bench = Bench([(20, rtu.seal(b"\x01\x83\x02"))])
    with pytest.raises(Refused) as refused:
        bench.ask(retries=3)
    assert (refused.value.code, bench.client.polls) == (2, 1)


def test_the_driver_is_enabled_for_the_question_only():
    bench = Bench([(20, RIGHT)])
    bench.ask()
    assert bench.pin.levels == [0, 1, 0]


def test_a_late_answer_is_caught_before_the_next_question():
    bench = Bench([(800, WRONG)], [(20, RIGHT)])
    with pytest.raises(NoAnswer):
        bench.ask()
    assert (bench.ask(OTHER), bench.counters) == (b"\x00\x00\x00\x01", (2, 1, 0, 1))


def test_after_a_timeout_the_line_is_left_quiet_before_the_next_question():
    bench = Bench([], [(20, RIGHT)])
    bench.ask(retries=1)
    first, second = [when for when, _ in bench.uart.asked]
    assert second - first >= 500 + 500


def test_the_quiet_time_is_learned_from_the_latest_answer_seen():
    bench = Bench([(900, WRONG)], [])
    for _ in range(2):
        with pytest.raises(NoAnswer):
            bench.ask()
    assert bench.patience.quiet_ms() >= 2 * 900


def test_an_answer_that_is_later_than_all_patience_is_not_believed():
    # The first answer comes when the second question has been asked: two answers to one question, none is taken.
    bench = Bench([(1010, WRONG)], [(40, RIGHT)], [(20, RIGHT)])
    with pytest.raises(NoAnswer):
        bench.ask()
    assert (bench.ask(OTHER, retries=1), bench.client.late_answers) == (b"\x00\x00\x00\x01", 1)


def test_a_doubled_answer_is_not_taken_for_the_next_one():
    bench = Bench([(20, RIGHT), (30, RIGHT)], [(20, WRONG)])
    bench.ask()
    assert bench.ask(OTHER) == b"\x00\x00\x00\x02"


def test_a_line_that_babbles_for_ever_ends_in_an_error():
    ticks = Ticks()
    uart = Uart(ticks)
    uart.any = lambda: 8
    uart.readinto = lambda buffer: _fill(buffer, ticks)
    client = Client(Line(uart, 9600, ticks=ticks), ticks)
    with pytest.raises(BadAnswer):
        asyncio.run(client.ask(QUESTION, Patience(200)))


def _fill(buffer, ticks):
    ticks.now_ms += 8
    buffer[:] = b"\x55" * len(buffer)
    return len(buffer)


def test_a_question_that_could_be_confused_waits_until_no_late_answer_can_come():
    bench = Bench([], [(20, RIGHT)], [(20, RIGHT)])
    with pytest.raises(NoAnswer):
        bench.ask()
    with pytest.raises(NoAnswer, match="not asked"):
        bench.ask(OTHER)
    bench.ticks.now_ms += bench.patience.horizon_ms()
    assert (bench.ask(OTHER), bench.client.held, bench.client.polls) == (b"\x00\x00\x00\x01", 1, 2)


def test_a_question_whose_answer_has_another_length_need_not_wait():
    bench = Bench([], [(20, rtu.seal(b"\x01\x03\x02\x00\x07"))])
    with pytest.raises(NoAnswer):
        bench.ask()
    assert bench.ask(rtu.read_request(1, 3, 0x0100, 1)) == b"\x00\x07"


def test_another_instrument_need_not_wait():
    bench = Bench([], [(20, rtu.seal(b"\x02\x03\x04\x00\x00\x00\x05"))])
    with pytest.raises(NoAnswer):
        bench.ask()
    bench.patience = Patience(500)
    assert bench.ask(rtu.read_request(2, 3, 0x0100, 2)) == b"\x00\x00\x00\x05"


def test_a_copy_that_lags_is_not_taken_for_the_next_answer():
    bench = Bench([(20, RIGHT), (60, RIGHT)], [(90, WRONG)], [(20, WRONG)])
    bench.ask()
    assert bench.ask(OTHER) == b"\x00\x00\x00\x02"


def test_registers_that_hold_the_same_are_confirmed_and_read():
    bench = Bench([(20, RIGHT)], [(20, RIGHT)], [(20, RIGHT)])
    bench.ask()
    assert (bench.ask(OTHER), bench.client.polls) == (b"\x00\x00\x00\x01", 3)


@pytest.mark.parametrize("retries", [0, 1, 3])
@pytest.mark.parametrize("what", ["silence", "babble", "late", "damage"])
def test_whatever_an_instrument_does_it_takes_the_line_no_longer_than_its_budget(what, retries):
    bench = Bench()
    coming = {"silence": [], "late": [(950, RIGHT)], "damage": [(20, RIGHT[:-1])]}
    coming["babble"] = [(at, b"\x55" * 30) for at in range(10, 60_000, 40)]
    bench.uart._answer = lambda question: coming[what]
    bench.patience.worst_ms = 5000
    with pytest.raises((NoAnswer, BadAnswer)):
        bench.ask(retries=retries)
    on_the_wire_ms = (retries + 2) * 60
    assert bench.ticks.now_ms <= bench.patience.budget_ms(retries) + on_the_wire_ms


class BadInstrument:
    """Four registers that name themselves and count how often they were asked; answers as bad lines bring them."""

    HORIZON_MS = 8 * 100  # of a timeout of 100 ms

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.asked = 0

    def answer(self, question):
        self.asked += 1
        register = question[2:4]
        answer = rtu.seal(b"\x01\x03\x04" + register + (self.asked & 0xFFFF).to_bytes(2, "big"))
        fault, at = self.chance.random(), self.chance.randint(5, 60)
        if fault < 0.05:
            return []
        if fault < 0.13:
            return [(self.chance.randint(90, self.HORIZON_MS - 20), answer)]
        if fault < 0.17:
            return [(at, bytes([answer[0]]) + b"\x13" + answer[2:])]
        if fault < 0.23:
            return [(at, answer), (at + self.chance.randint(1, 90), answer)]
        return [(at, answer)]


@pytest.mark.parametrize("seed", range(20))
def test_no_wrong_value_in_a_bad_line(seed):
    bench = Bench()
    bench.patience = Patience(100)
    bench.uart._answer = BadInstrument(seed).answer
    values = wrong = 0
    for number in range(1000):
        bench.ticks.now_ms += 30
        register = number % 4
        try:
            data = bench.ask(rtu.read_request(1, 3, register, 2), retries=1)
        except (NoAnswer, BadAnswer):
            continue
        values += 1
        wrong += data[:2] != bytes([0, register])
    assert (wrong, values > 200) == (0, True)
