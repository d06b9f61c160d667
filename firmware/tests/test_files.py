"""Files over the uplink: in pieces, again, after a break, and never more than there is room for."""

import asyncio
import hashlib
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware import rtu
from firmware.commands import RESULTS
from firmware.files import Files, Refusal
from firmware.record import decode
from firmware.tests.station_parts import Parts, configuration_of, content
from firmware.uplink import Server

IMAGE, CONFIGURATION = 3, 5


@pytest.fixture
def files(tmp_path):
    (tmp_path / "station.json").write_bytes(b'{"version":1}')
    return Files(str(tmp_path))


def declaration(data):
    return struct.pack(">I", len(data)) + hashlib.sha256(data).digest()


def send(files, number, data, chunk=244, start=0):
    files.write(100 + number, 0, declaration(data))
    for at in range(start, len(data), chunk):
        piece = data[at : at + chunk]
        files.write(number, at, piece + bytes(len(piece) % 2))


def begins(data):
    return hashlib.sha256(data).digest()[:4]


@given(st.binary(min_size=1, max_size=2000), st.integers(1, 122))
def test_what_is_sent_is_what_is_staged(tmp_path_factory, data, words):
    files = Files(str(tmp_path_factory.mktemp("flash")))
    send(files, IMAGE, data, 2 * words)
    with open(files.whole(IMAGE, begins(data)), "rb") as file:
        assert file.read() == data


def test_a_chunk_again_changes_nothing(files):
    data = bytes(range(200)) * 3
    send(files, IMAGE, data[:400])
    send(files, IMAGE, data)
    files.write(IMAGE, 100, data[100:200])
    assert files.whole(IMAGE, begins(data))


def test_the_same_description_keeps_what_is_held(files):
    data = bytes(1000)
    files.write(100 + IMAGE, 0, declaration(data))
    files.write(IMAGE, 0, data[:200])
    files.write(100 + IMAGE, 0, declaration(data))
    assert struct.unpack(">I", files.description(IMAGE)[36:])[0] == 200


def test_another_description_begins_anew(files):
    send(files, IMAGE, bytes(1000))
    files.write(100 + IMAGE, 0, declaration(b"other"))
    assert struct.unpack(">I", files.description(IMAGE)[36:])[0] == 0


@pytest.mark.parametrize(
    ("number", "start", "data", "code"),
    [
        (IMAGE, 0, b"ab", 2),  # nothing was declared
        (1, 0, b"ab", 2),
        (9, 0, b"ab", 2),
        (109, 0, bytes(36), 2),
        (101, 0, declaration(b"x"), 2),
        (100 + IMAGE, 2, bytes(36), 3),
        (100 + IMAGE, 0, bytes(34), 3),
        (100 + IMAGE, 0, declaration(b""), 3),
        (100 + IMAGE, 0, struct.pack(">I", 131073) + bytes(32), 3),
        (100 + CONFIGURATION, 0, struct.pack(">I", 32769) + bytes(32), 3),
    ],
)
def test_what_cannot_be_written_is_refused(files, number, start, data, code):
    with pytest.raises(Refusal) as refusal:
        files.write(number, start, data)
    assert refusal.value.code == code


@pytest.mark.parametrize("start", [302, 1000, 131070])
def test_a_hole_is_refused(files, start):
    files.write(100 + IMAGE, 0, declaration(bytes(400)))
    files.write(IMAGE, 0, bytes(300))
    with pytest.raises(Refusal):
        files.write(IMAGE, start, bytes(2))


@pytest.mark.parametrize(
    ("sent", "asked"), [(b"whole", b"other"), (None, b"whole"), (b"whol", b"whole")], ids=["other", "nothing", "part"]
)
def test_only_the_whole_file_that_is_meant_is_given_to_a_command(files, sent, asked):
    files.write(100 + IMAGE, 0, declaration(b"whole"))
    if sent:
        files.write(IMAGE, 0, sent + bytes(len(sent) % 2))
    assert files.whole(IMAGE, begins(asked)) is None


def test_a_full_flash_takes_no_file(files):
    class Full:
        def __getattr__(self, name):
            return getattr(os, name)

        def statvfs(self, path):
            return (4096, 4096, 64, 8, 8)

    files._os = Full()
    with pytest.raises(Refusal) as refusal:
        files.write(100 + IMAGE, 0, declaration(b"something"))
    assert refusal.value.code == rtu.DEVICE_FAILURE


class Gateway:
    """Questions as they come over the wire."""

    def __init__(self, root):
        self.parts = Parts(configuration_of(content()), root=root)
        self.server = Server(11, "vam-kenh", "0.1.0", self.parts.station, self.parts.upkeep)

    def ask(self, body):
        answer = bytes(self.server.answer(rtu.seal(bytes([11]) + body)))
        assert rtu.is_sealed(answer, 0, len(answer))
        return answer[1:-2]

    def read(self, *parts):
        body = b"".join(struct.pack(">BHHH", 6, *part) for part in parts)
        return self.ask(bytes([20, len(body)]) + body)

    def write(self, *parts):
        body = b"".join(struct.pack(">BHHH", 6, n, record, len(data) // 2) + data for n, record, data in parts)
        return self.ask(bytes([21, len(body)]) + body)

    def command(self, number, argument):
        return self.ask(struct.pack(">BHHBHI", 16, 10, 3, 6, number, argument))

    def result(self):
        async def come_round():
            self.parts.upkeep.come_round()
            await self.parts.upkeep._task

        asyncio.run(come_round())
        return struct.unpack(">H", self.ask(struct.pack(">BHH", 3, 13, 1))[2:])[0]


@pytest.fixture
def gateway(tmp_path):
    (tmp_path / "station.json").write_bytes(b"0123456")
    (tmp_path / "log.txt").write_bytes(b"12 fault\n")
    return Gateway(tmp_path)


def test_several_parts_in_one_question(gateway):
    assert gateway.read((1, 0, 2), (2, 1, 3)) == b"\x14\x0e" + b"\x05\x060123" + b"\x07\x06 fault"


def test_the_last_byte_of_an_odd_file_stands_before_a_nul(gateway):
    assert gateway.read((1, 2, 3)) == b"\x14\x08\x07\x06456\x00\x00\x00"


def test_a_write_is_answered_with_itself(gateway):
    question = struct.pack(">BHHH", 6, 103, 0, 18) + declaration(b"12345678")
    assert gateway.ask(bytes([21, len(question)]) + question) == bytes([21, len(question)]) + question


@pytest.mark.parametrize(
    ("question", "code"),
    [
        (b"\x14\x00", 3),
        (b"\x14\x07\x07\x00\x01\x00\x00\x00\x01", 3),
        (b"\x14\x07\x06\x00\x01\x00\x00\x00\x00", 3),
        (b"\x14\x07\x06\x00\x01\x00\x00\x00\x7a", 3),
        (b"\x14\x07\x06\x00\x01\x00\x04\x00\x01", 2),
        (b"\x14\x07\x06\x00\x63\x00\x00\x00\x01", 2),
        (b"\x15\x09\x06\x00\x03\x00\x00\x00\x02ab", 3),
    ],
)
def test_questions_that_cannot_be_are_refused(gateway, question, code):
    assert gateway.ask(question) == bytes([question[0] | 0x80, code])


@given(st.sampled_from([20, 21]), st.binary(max_size=240))
def test_any_question_about_files_gets_an_answer(tmp_path_factory, function, body):
    gateway = Gateway(tmp_path_factory.mktemp("flash"))
    assert gateway.ask(bytes([function, len(body)]) + body)[0] & 0x7F == function


@pytest.mark.parametrize(
    ("number", "argument", "result"),
    [
        (9, 0, "unknown command"),
        (1, 5, "nothing staged"),
        (2, 5, "nothing staged"),
        (3, 99, "bad argument"),
        (3, 0, "done"),
        (4, 1, "bad argument"),
        (4, 3, "done"),
        (5, 0xEE01, "bad argument"),
        (5, 0x0102, "bad argument"),
        (5, 0x0101, "done"),
    ],
)
def test_commands_tell_their_result(gateway, number, argument, result):
    assert gateway.command(number, argument) == struct.pack(">BHH", 16, 10, 3)
    assert gateway.result() == RESULTS[result]
    assert gateway.parts.restarts == (number == 3 and result == "done")


def test_another_command_meanwhile_finds_the_station_busy(gateway):
    gateway.command(4, 3)
    assert gateway.command(4, 5) == b"\x90\x06"


def test_the_same_command_again_is_not_done_twice(gateway):
    gateway.command(3, 0)
    gateway.command(3, 0)
    gateway.result()
    gateway.command(3, 0)
    gateway.parts.upkeep.come_round()
    assert gateway.parts.restarts == 1


def test_the_code_for_files_is_let_go_when_nobody_uses_it(gateway):
    gateway.read((1, 0, 2))
    gateway.parts.ticks.now_ms += 31_000
    gateway.parts.upkeep.come_round()
    assert gateway.parts.upkeep._files is None


def test_calibration_of_a_sensor_is_noted_in_the_journal_once_a_command(gateway):
    for argument in (0x0101, 0x0101, 0x0100):
        gateway.command(5, argument)
        assert gateway.result() == RESULTS["done"]
    journal = gateway.parts.journal
    noted = [decode(bytes(journal.read(seq, 1))) for seq in range(journal.first_seq, journal.next_seq)]
    assert [(record.parameter, record.sensor, record.count) for record in noted] == [(4, 1, 1), (4, 1, 0)]
