"""The TCP link: what is forwarded, and how each way of failing looks from both ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from simulators import control
from simulators.link import Link, parse_address


@contextmanager
def far_end() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


class Rig:
    """A far end, the link, and a way to connect through it."""

    def __init__(self, server: socket.socket, port: int, link: Link, process: subprocess.Popen[str]) -> None:
        self.server, self.port, self.link, self.process = server, port, link, process

    def connect(self) -> socket.socket:
        near = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        near.settimeout(60)
        return near

    @contextmanager
    def connection(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        with self.connect() as near:
            far, _ = self.server.accept()
            with far:
                far.settimeout(60)
                yield near, far


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with far_end() as server:
        to = f"127.0.0.1:{server.getsockname()[1]}"
        argv = [sys.executable, "-m", "simulators.link", "--listen", "0", "--to", to, "--control", str(tmp_path / "c")]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                ready = json.loads(process.stdout.readline())
                yield Rig(server, ready["port"], Link(tmp_path / "c"), process)
            finally:
                process.kill()


def holds_within(condition: Callable[[], bool], deadline_s: float = 60.0) -> bool:
    pause, end = threading.Event(), time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            return False
        pause.wait(0.01)
    return True


def receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := connection.recv(65536)):
        data += more
    return data


def test_bytes_pass_both_ways_unchanged(rig: Rig) -> None:
    content = bytes(range(256)) * 4096
    with rig.connection() as (near, far):
        sender = threading.Thread(target=near.sendall, args=(content,))
        sender.start()
        up = receive(far, len(content))
        sender.join()
        far.sendall(b"thanks")
        assert (up == content, receive(near, 6)) == (True, b"thanks")


def test_the_end_of_one_direction_passes_and_the_other_goes_on(rig: Rig) -> None:
    with rig.connection() as (near, far):
        near.sendall(b"question")
        near.shutdown(socket.SHUT_WR)
        question = receive(far, 100)
        far.sendall(b"answer")
        far.close()
        assert (question, receive(near, 100)) == (b"question", b"answer")


def test_a_cut_resets_both_ends_and_refuses_new_connections(rig: Rig) -> None:
    with rig.connection() as (near, far):
        near.sendall(b"x")
        receive(far, 1)
        rig.link.cut(True)
        for end in (near, far):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
        with pytest.raises(ConnectionRefusedError):
            rig.connect()


def test_after_a_cut_the_same_port_works_again(rig: Rig) -> None:
    rig.link.cut(True)
    rig.link.cut(False)
    with rig.connection() as (near, far):
        near.sendall(b"again")
        assert receive(far, 5) == b"again"


def test_a_black_hole_keeps_connections_up_and_lets_nothing_through(rig: Rig) -> None:
    with rig.connection() as (near, far):
        rig.link.blackhole(True)
        near.sendall(b"swallowed")
        assert holds_within(lambda: rig.link.status()["counters"].get("swallowed_bytes") == 9)
        far.settimeout(0.1)
        with pytest.raises(TimeoutError):
            far.recv(1)


def test_when_the_black_hole_ends_connections_that_missed_bytes_are_reset_and_others_live(rig: Rig) -> None:
    with rig.connection() as (near, far), rig.connection() as (quiet_near, quiet_far):
        rig.link.blackhole(True)
        near.sendall(b"swallowed")
        assert holds_within(lambda: rig.link.status()["counters"].get("swallowed_bytes") == 9)
        rig.link.blackhole(False)
        with pytest.raises(ConnectionResetError):
            far.recv(1)
        quiet_near.sendall(b"fine")
        assert receive(quiet_far, 4) == b"fine"


def test_a_delay_holds_every_byte_and_keeps_their_order(rig: Rig) -> None:
    with rig.connection() as (near, far):
        rig.link.delay(500)
        start = time.monotonic()
        for number in range(20):
            near.sendall(bytes([number]))
        heard = receive(far, 20)
        took_s = time.monotonic() - start
    assert heard == bytes(range(20))
    assert 0.5 <= took_s < 20 * 0.5, "each is held as long, not one after the other"


def test_a_cut_does_not_wait_for_delayed_bytes(rig: Rig) -> None:
    with rig.connection() as (near, _):
        rig.link.delay(60_000)
        near.sendall(b"late")
        rig.link.cut(True)
        assert holds_within(lambda: rig.link.status()["connections"] == 0)


def test_when_the_far_end_is_away_the_near_end_is_dropped(rig: Rig) -> None:
    rig.server.close()
    with rig.connect() as near:
        try:
            ended = near.recv(1) == b""
        except ConnectionResetError:
            ended = True
    assert (ended, rig.link.status()["counters"]["far_end_refused"]) == (True, 1)


@pytest.mark.parametrize("request_", [{"cut": "yes"}, {"delay_ms": -1}, {"colour": "red"}, {"cut": 1}], ids=str)
def test_a_request_that_cannot_be_carried_out_is_refused_and_changes_nothing(
    rig: Rig, request_: dict[str, object]
) -> None:
    with pytest.raises(control.ControlError, match=next(iter(request_))):
        control.ask(rig.link._control_socket, request_)
    status = rig.link.status()
    assert (status["cut"], status["blackhole"], status["delay_ms"]) == (False, False, 0.0)


def test_a_request_that_is_not_json_is_answered(rig: Rig) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(rig.link._control_socket))
        connection.sendall(b"cut it\n[1]\n")
        answers = [json.loads(line)["error"][:8] for line in receive_lines(connection, 2)]
    assert answers == ["not JSON", "a reques"]


def receive_lines(connection: socket.socket, count: int) -> list[bytes]:
    with connection.makefile("rb") as stream:
        return [stream.readline() for _ in range(count)]


def test_the_link_ends_gracefully_with_live_connections(rig: Rig) -> None:
    with rig.connection() as (near, far):
        near.sendall(b"x")
        receive(far, 1)
        rig.process.send_signal(signal.SIGTERM)
        code = rig.process.wait(60)
        with pytest.raises(ConnectionResetError):
            near.recv(1)
    assert code == 0


def test_a_link_that_does_not_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(control.ControlError, match="no simulator answers"):
        Link(tmp_path / "nowhere").cut(True)


@pytest.mark.parametrize("text", ["1883", ":1883", "host:", "host:0", "host:70000"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address(text)
