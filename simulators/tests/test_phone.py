"""The simulated phone as its own process: the provider's interface, the inbox, and every fault it can be told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from station_config.clock import BenchClock

CLOCK = BenchClock(real_origin_s=0.0, origin_s=5_000_000_000.0, rate=2.0)
MESSAGE = {"id": "m-1", "to": "+84912345678", "text": "Khong lay nuoc vao."}


@contextmanager
def running(token_file: Path) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "simulators.phone", "--token-file", str(token_file)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **CLOCK.as_environment()},
    )
    assert process.stdout is not None
    try:
        port = json.loads(process.stdout.readline())["port"]
        headers = {"Authorization": "Bearer wonderful"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=10) as client:
            yield client, process
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    token_file = tmp_path_factory.mktemp("phone") / "token"
    token_file.write_text("wonderful\n", encoding="utf-8")
    with running(token_file) as (client, _process):
        yield client


@pytest.fixture
def phone(server: httpx.Client) -> httpx.Client:
    """The phone, without faults. Messages of earlier tests stay in its inbox."""
    assert server.post("/faults", json={}).json() == {
        "refuse": 0,
        "unavailable": 0,
        "lie": 0,
        "silence": 0,
        "delay_s": 0.0,
    }
    return server


def send(phone: httpx.Client, key: str, timeout_s: float = 10.0) -> int:
    return phone.post("/messages", json={**MESSAGE, "id": key}, timeout=timeout_s).status_code


def inbox(phone: httpx.Client, key: str) -> list[dict[str, object]]:
    return [message for message in phone.get("/inbox").json()["messages"] if message["id"] == key]


def test_an_accepted_message_is_in_the_inbox_with_bench_and_real_time(phone: httpx.Client) -> None:
    answer = phone.post("/messages", json={**MESSAGE, "id": "times"})

    (message,) = inbox(phone, "times")
    received_at, received_at_real = (float(str(message.pop(key))) for key in ("received_at", "received_at_real"))
    assert (answer.status_code, answer.json()) == (202, {"provider_id": message.pop("provider_id")})
    assert message == {**MESSAGE, "id": "times"}
    assert received_at == pytest.approx(5_000_000_000.0 + 2.0 * received_at_real, abs=1.0)


def test_the_same_id_again_is_the_same_message(phone: httpx.Client) -> None:
    answers = [phone.post("/messages", json={**MESSAGE, "id": "twice"}).json() for _ in range(3)]

    assert (len(inbox(phone, "twice")), answers) == (1, [answers[0]] * 3)


@pytest.mark.parametrize(
    ("fault", "status", "delivered"), [("refuse", 400, 0), ("unavailable", 503, 0), ("lie", 500, 1)]
)
def test_a_fault_hits_as_often_as_told_and_then_no_more(
    phone: httpx.Client, fault: str, status: int, delivered: int
) -> None:
    phone.post("/faults", json={fault: 2})

    first = [send(phone, fault), send(phone, fault)]
    had = len(inbox(phone, fault))
    third = send(phone, fault)

    assert (first, had, third, len(inbox(phone, fault))) == ([status, status], delivered, 202, 1)


def test_silence_delivers_and_says_nothing(phone: httpx.Client) -> None:
    phone.post("/faults", json={"silence": 1})
    with pytest.raises(httpx.ReadTimeout):
        send(phone, "silent", timeout_s=0.3)

    assert (len(inbox(phone, "silent")), send(phone, "silent")) == (1, 202)


def test_a_delay_comes_before_the_delivery(phone: httpx.Client) -> None:
    phone.post("/faults", json={"delay_s": 0.3})

    seconds = phone.post("/messages", json={**MESSAGE, "id": "late"}).elapsed.total_seconds()

    assert seconds >= 0.3


def test_a_wrong_token_is_turned_away(phone: httpx.Client) -> None:
    answer = phone.post("/messages", json={**MESSAGE, "id": "thief"}, headers={"Authorization": "Bearer guessed"})

    assert (answer.status_code, inbox(phone, "thief")) == (401, [])


BAD_BODIES = [
    (b"", "expected a JSON object"),
    (b"[1]", "expected a JSON object"),
    (b'{"id":' + b" " * 20_000 + b"1}", "expected a JSON object of at most 16384 bytes"),
    (json.dumps({**MESSAGE, "id": ""}).encode(), "id: expected text of 1 to 100 characters"),
    (json.dumps({**MESSAGE, "to": "0912345678"}).encode(), "to: expected a number such as +84912345678"),
    (json.dumps({**MESSAGE, "text": 5}).encode(), "text: expected text of 1 to 1600 characters"),
]


@pytest.mark.parametrize(("body", "told"), BAD_BODIES)
def test_a_bad_message_is_refused_in_words(phone: httpx.Client, body: bytes, told: str) -> None:
    answer = phone.post("/messages", content=body)

    assert (answer.status_code, answer.json()["error"].startswith(told)) == (400, True)


def test_an_unknown_fault_is_refused_and_changes_nothing(phone: httpx.Client) -> None:
    answer = phone.post("/faults", json={"explode": 1})

    assert (answer.status_code, answer.json()["error"]) == (400, "explode: Extra inputs are not permitted")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_at_a_signal_without_an_error(tmp_path: Path, number: signal.Signals) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("wonderful", encoding="utf-8")
    with running(token_file) as (_client, process):
        process.send_signal(number)

        assert process.wait(60) == 0


@pytest.mark.parametrize("content", [None, ""])
def test_without_a_token_it_does_not_start(tmp_path: Path, content: str | None) -> None:
    token_file = tmp_path / "token"
    if content is not None:
        token_file.write_text(content, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "simulators.phone", "--token-file", str(token_file)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, str(token_file) in done.stderr) == (2, True)
