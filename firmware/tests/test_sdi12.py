"""SDI-12: the codec by the standard's own examples, the line and its sensors against a simulated one."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware import sdi12
from firmware.configuration import Field, Measurement, Sensor
from firmware.errors import BadAnswer, NoAnswer
from firmware.line import Line
from firmware.record import MISSING, NO_VALUE, NOT_EVALUATED
from firmware.sampler import Channels
from firmware.sdi12_line import Client, Turns
from firmware.sdi12_sensor import Sensor as Driver
from firmware.tests.wire import Ticks, Uart

ZERO = ord("0")


def test_the_crc_is_the_standards():
    assert sdi12.crc(b"0+3.14") == b"OqZ"


@given(st.binary(min_size=1, max_size=80), st.integers(0, 7), st.data())
def test_a_flipped_bit_never_passes_the_crc(data, bit, drawn):
    at = drawn.draw(st.integers(0, len(data) - 1))
    damaged = bytearray(data)
    damaged[at] ^= 1 << bit
    assert sdi12.crc(bytes(damaged)) != sdi12.crc(data)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [(text, True) for text in ("M", "MC", "M1", "MC9", "C", "CC", "C3", "CC3", "R0", "RC9")]
    + [(text, False) for text in ("", "X", "M0", "R", "M10", "MCC", "D0", "V", "m")],
)
def test_which_measurements_there_are(text, is_one):
    assert sdi12.is_command(text) is is_one


@pytest.mark.parametrize(
    ("line", "values"),
    [
        (b"0+3.14", [b"+3.14"]),
        (b"0+3.14-2.2+10", [b"+3.14", b"-2.2", b"+10"]),
        (b"z-0", [b"-0"]),
        (b"0", []),
        (b"0+1234567", [b"+1234567"]),
        (b"0+.5", [b"+.5"]),
    ],
)
def test_values_of_an_answer(line, values):
    assert sdi12.parse_values(line, False) == values


@pytest.mark.parametrize(
    "line", [b"03.14", b"0+", b"0+3.1.4", b"0+3,1", b"0+12345678", b"0+3 ", b"0+1e5", b"0+-3"], ids=lambda line: line
)
def test_what_is_no_value_is_refused_with_all_beside_it(line):
    with pytest.raises(BadAnswer):
        sdi12.parse_values(line, False)


@given(st.binary(max_size=90))
def test_whatever_is_received_is_a_line_or_none(data):
    found = sdi12.find_line(data, ZERO)
    assert found is None or (found[0][:1] == b"0" and found[1] <= len(data))


@pytest.mark.parametrize(
    ("received", "line"),
    [
        (b"00013\r\n", b"00013"),
        (b"\x000M!00013\r\n", b"00013"),
        (b"\x7f\x0000013\r\n", b"00013"),
        (b"10013\r\n00023\r\n", b"00023"),
        (b"00013\r\n0\r\n", b"00013"),
        (b"00013\r", None),
        (b"10013\r\n", None),
        (b"", None),
    ],
    ids=[
        "clean",
        "heard back",
        "noise",
        "another's",
        "with its service request",
        "not whole",
        "only another's",
        "none",
    ],
)
def test_an_answer_among_what_was_received(received, line):
    found = sdi12.find_line(received, ZERO)
    assert (found and found[0]) == line


# On the line


class Probe:
    """A sensor as the standard describes it: sleeps, wakes on a break, measures, says when it is ready."""

    def __init__(self, ticks, values="+28.50+27.075", address="0", seconds=1, ready_ms=400):
        self.values = values
        self.seconds = seconds
        self.ready_ms = ready_ms
        self.deaf = 0  # questions it does not answer
        self.damage = 0  # answers to D that arrive damaged
        self.parts = 1  # data commands its values are spread over
        self.heard = []
        self.early = []
        self._ticks = ticks
        self._address = address
        self._awake_ms = None
        self._with_crc = False
        self._ready_at_ms = None

    def answer(self, question):
        if question == b"\x00":
            self._awake_ms = self._ticks.now_ms
            return []
        text = question.decode()
        asleep = self._awake_ms is None or self._ticks.now_ms - self._awake_ms > 100
        if asleep or text[0] != self._address:
            return []
        self._awake_ms = self._ticks.now_ms
        self.heard.append(text)
        if self.deaf:
            self.deaf -= 1
            return []
        return [(after, line.encode()) for after, line in self._respond(text[1:-1])]

    def _respond(self, command):
        kind = command[0]
        number = self.values.count("+") + self.values.count("-")
        if kind in "MC":
            self._with_crc = command[1:2] == "C"
            self._ready_at_ms = self._ticks.now_ms + self.ready_ms
            width = 1 if kind == "M" else 2
            yield 15, f"{self._address}{self.seconds:03d}{number:0{width}d}\r\n"
            if kind == "M" and self.seconds:
                yield self.ready_ms, f"{self._address}\r\n"
        else:
            if self._ready_at_ms is not None and self._ticks.now_ms < self._ready_at_ms and self.seconds:
                self.early.append(command)
            yield 15, self._data(command) + "\r\n"

    def _data(self, command):
        values = [sign + text for sign, text in self._split()]
        each = -(-len(values) // self.parts)
        at = int(command[-1]) if command[0] == "D" else 0
        body = self._address + "".join(values[at * each : (at + 1) * each])
        if self._with_crc or command[:2] == "RC":
            body += sdi12.crc(body.encode()).decode()
        if self.damage:
            self.damage -= 1
            body = body.replace("2", "3", 1)
        return body

    def _split(self):
        for part in self.values.replace("-", "+-").split("+")[1:]:
            yield ("-", part[1:]) if part.startswith("-") else ("+", part)


class Bench:
    def __init__(self, *probes_of, **settings):
        self.ticks = Ticks()
        self.probe = Probe(self.ticks, **settings)
        self.probes = [self.probe] + [Probe(self.ticks, **more) for more in probes_of]
        self.uart = Uart(self.ticks, lambda question: [one for probe in self.probes for one in probe.answer(question)])
        self.client = Client(Line(self.uart, 1200, ticks=self.ticks), self.ticks)

    def measure(self, command="M", address=ZERO):
        return asyncio.run(self.client.measure(address, sdi12.Measurement(command), 60_000))


@pytest.mark.parametrize("command", ["M", "MC", "M1", "R0", "RC0"])
def test_a_measurement_brings_the_values(command):
    assert Bench().measure(command) == [b"+28.50", b"+27.075"]


def test_each_question_follows_a_break_at_half_speed_and_goes_out_at_1200_7e1():
    bench = Bench()
    settings = []
    bench.uart.init = lambda **given: settings.append((given["baudrate"], given["bits"], given["parity"]))
    bench.measure("R0")
    assert (settings, [data for _, data in bench.uart.asked]) == ([(600, 8, None), (1200, 7, 0)], [b"\x00", b"0R0!"])


def test_the_mark_after_a_break_is_long_enough():
    bench = Bench()
    bench.measure("R0")
    (began, _), (asked, _) = bench.uart.asked
    assert 8.33 <= asked - began <= 85


def test_the_sensors_word_ends_the_wait():
    bench = Bench(seconds=30, ready_ms=400)
    bench.measure()
    assert (bench.probe.early, bench.ticks.now_ms < 1500) == ([], True)


def test_a_word_that_comes_together_with_the_answer_is_heard():
    bench = Bench(seconds=30, ready_ms=15)
    bench.measure()
    assert bench.ticks.now_ms < 1000


def test_a_lost_word_costs_the_announced_time_and_no_value():
    bench = Bench(seconds=2, ready_ms=400)
    answer = bench.probe.answer
    bench.probe.answer = lambda question: answer(question)[:1]
    assert (bench.measure(), 2000 <= bench.ticks.now_ms < 3000) == ([b"+28.50", b"+27.075"], True)


def test_values_may_need_several_data_commands():
    bench = Bench(values="+1+2-3+4+5")
    bench.probe.parts = 3
    assert (bench.measure(), bench.probe.heard) == (
        [b"+1", b"+2", b"-3", b"+4", b"+5"],
        ["0M!", "0D0!", "0D1!", "0D2!"],
    )


@pytest.mark.parametrize(("deaf", "breaks"), [(1, 1), (4, 2), (7, 3)])
def test_a_question_is_tried_again_and_after_some_tries_a_break_goes_first(deaf, breaks):
    bench = Bench()
    bench.probe.deaf = deaf
    values = bench.measure("R0")
    asked = [data for _, data in bench.uart.asked]
    assert (values, asked.count(b"\x00")) == ([b"+28.50", b"+27.075"], breaks)


def test_between_tries_the_line_rests():
    bench = Bench()
    bench.probe.deaf = 1
    bench.measure("R0")
    times = [when for when, data in bench.uart.asked if data != b"\x00"]
    assert times[1] - times[0] >= 16.67


def test_a_sensor_that_is_not_there_is_given_up_within_a_second():
    bench = Bench()
    with pytest.raises(NoAnswer):
        bench.measure(address=ord("7"))
    assert (bench.client.polls, bench.client.timeouts, bench.ticks.now_ms < 1500) == (9, 9, True)


def test_a_damaged_answer_is_asked_for_again():
    bench = Bench()
    bench.probe.damage = 2
    assert (bench.measure("MC"), bench.client.crc_errors) == ([b"+28.50", b"+27.075"], 2)


def test_a_measurement_that_was_broken_off_has_no_values():
    bench = Bench()
    bench.probe.parts = 1
    bench.probe._data = lambda command: "0"
    with pytest.raises(BadAnswer):
        bench.measure()


# As a station's instrument


class Uptime:
    seconds = 1000

    def uptime_s(self):
        return self.seconds


TEMPERATURE = Field(32, 0, None, None, 1, 0, 2, "mean", None, (-9999,), None)
CONDUCTIVITY = Field(33, 1, None, None, 1, 0, 3, "mean", None, (), None)


def sensor(command, address="0", number=1):
    measurement = Measurement(command, (TEMPERATURE, CONDUCTIVITY))
    return Sensor(number, ord(address), 500, 1, 0, 1, 0, None, (), None, None, (measurement,), None)


def sampled(bench, *sensors, times=1):
    channels = Channels()
    drivers = [Driver(one, Uptime(), bench.client, channels, bench.ticks) for one in sensors]

    async def sample():
        for _ in range(times):
            for driver in drivers:
                await driver.start(bench.client)
            for driver in drivers:
                await driver.sample(bench.client)

    asyncio.run(sample())
    return [channels.close(row) for row in range(len(channels))]


@pytest.mark.parametrize("command", ["M", "MC", "C", "CC", "R0"])
def test_values_become_counts(command):
    assert sampled(Bench(), sensor(command)) == [(2850, NOT_EVALUATED), (27075, NOT_EVALUATED)]


def test_concurrent_sensors_measure_side_by_side():
    second = {"address": "1", "seconds": 5, "ready_ms": 4900}
    bench = Bench(second, seconds=5, ready_ms=4900)
    records = sampled(bench, sensor("C"), sensor("C", "1", 2))
    assert (len(records), bench.ticks.now_ms < 6000, bench.probe.early) == (4, True, [])


def test_a_code_for_no_value_is_none():
    assert sampled(Bench(values="-9999+27.075"), sensor("M")) == [(MISSING, NO_VALUE), (27075, NOT_EVALUATED)]


def test_a_sensor_that_gives_fewer_values_than_configured_lacks_the_rest():
    assert sampled(Bench(values="+28.5"), sensor("M")) == [(2850, NOT_EVALUATED), (MISSING, NO_VALUE)]


def test_a_silent_sensor_is_missing_and_asked_less_and_less_often():
    bench = Bench()
    records = sampled(bench, sensor("C", "7"), times=40)
    assert (records, bench.client.polls < 40 * 9 // 2) == ([(MISSING, NO_VALUE)] * 2, True)


# A UART that two lines have in turn


class Wire:
    IN = 0
    PULL_UP = 1

    def __init__(self, log, name):
        self.log, self.name = log, name

    def init(self, mode, pull):
        self.log.append(f"{self.name} released")


class SharedBench(Bench):
    """A Modbus line's lock and settings around the SDI-12 line's bench."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.happened = []
        self.lock = asyncio.Lock()
        self.uart.init = lambda **given: self.happened.append(given["baudrate"])
        turns = Turns(
            self.lock,
            self.uart,
            {"baudrate": 1200, "tx": Wire(self.happened, "sdi12 tx"), "rx": Wire(self.happened, "sdi12 rx")},
            {"baudrate": 9600, "rx": Wire(self.happened, "bus rx")},
        )
        self.counts = Client(Line(self.uart, 9600, ticks=self.ticks), self.ticks)
        self.client = Client(Line(self.uart, 1200, ticks=self.ticks), self.ticks, turns, self.counts)


def test_a_shared_uart_is_the_sdi12_lines_for_one_measurement_and_then_the_buses_again():
    bench = SharedBench()
    assert bench.measure("R0") == [b"+28.50", b"+27.075"]
    assert bench.happened == ["bus rx released", 1200, 600, 1200, "sdi12 tx released", "sdi12 rx released", 9600]
    assert (bench.lock.locked(), bench.counts.polls, bench.client.polls) == (False, 1, 0)


def test_a_shared_uart_is_given_back_when_nobody_answers():
    bench = SharedBench()
    with pytest.raises(NoAnswer):
        bench.measure(address=ord("7"))
    assert (bench.happened[-1], bench.lock.locked(), bench.counts.timeouts) == (9600, False, 9)


def test_while_the_bus_is_asked_the_sdi12_line_waits():
    bench = SharedBench()

    async def both():
        async with bench.lock:
            waiting = asyncio.ensure_future(bench.client.measure(ZERO, sdi12.Measurement("R0"), 1000))
            for _ in range(20):
                await asyncio.sleep(0)
            untouched = list(bench.happened)
        return untouched, await waiting

    assert asyncio.run(both()) == ([], [b"+28.50", b"+27.075"])


def test_a_concurrent_measurement_leaves_the_uart_to_the_bus_while_it_measures():
    bench = SharedBench(seconds=5, ready_ms=4900)

    async def between():
        _, number = await bench.client.start(ZERO, sdi12.Measurement("C"))
        free = not bench.lock.locked()
        bench.ticks.now_ms += 5000
        return free, await bench.client.collect(ZERO, sdi12.Measurement("C"), number)

    assert asyncio.run(between()) == (True, [b"+28.50", b"+27.075"])


def test_without_a_line_a_sensor_is_missing():
    channels = Channels()
    driver = Driver(sensor("C"), Uptime(), None, channels, Ticks())
    asyncio.run(driver.start(None))
    asyncio.run(driver.sample(None))
    assert [channels.close(row) for row in range(2)] == [(MISSING, NO_VALUE)] * 2
