"""The SMS sender and the deliverer against a provider that is a real HTTP server in a process of its own."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from alerts.sms import Answer, Outcome, SmsSender

TOKEN = "wonderful"
TEXT = "Tram Xuan Hoa: do man 2,3 g/L. Khong lay nuoc vao."


@dataclass(frozen=True)
class Provider:
    url: str

    def faults(self, **faults: float) -> None:
        httpx.post(f"{self.url}/faults", json=faults, trust_env=False, timeout=60).raise_for_status()

    def inbox(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = httpx.get(f"{self.url}/inbox", trust_env=False, timeout=60).json()["messages"]
        return messages


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN, encoding="utf-8")
    # A process, not an import: the product never depends on its simulators.
    argv = [sys.executable, "-m", "simulators.phone", "--token-file", str(token_file)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Provider(f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}")
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


@pytest.fixture
def sender(provider: Provider) -> Iterator[SmsSender]:
    sender = SmsSender(provider.url, TOKEN, timeout_s=1.0)
    yield sender
    sender.close()


def test_every_answer_of_a_provider_becomes_an_outcome(provider: Provider, sender: SmsSender) -> None:
    outcomes = {}
    for fault in ("refuse", "unavailable", "lie", "silence"):
        provider.faults(**{fault: 1})
        outcomes[fault] = sender.send(fault, "+84912345678", TEXT).outcome

    accepted = sender.send("lie", "+84912345678", TEXT)

    assert outcomes == {
        "refuse": Outcome.REFUSED,
        "unavailable": Outcome.UNKNOWN,
        "lie": Outcome.UNKNOWN,
        "silence": Outcome.UNKNOWN,
    }
    assert accepted == Answer(Outcome.ACCEPTED, provider_id="sms-000001")
    assert [message["id"] for message in provider.inbox()] == ["lie", "silence"]


def test_a_wrong_token_is_ours_to_mend_and_the_message_waits(provider: Provider) -> None:
    sender = SmsSender(provider.url, "outdated")
    answer = sender.send("m", "+84912345678", TEXT)
    sender.close()

    assert answer == Answer(Outcome.UNKNOWN, 'HTTP 401: {"error":"unknown token"}')


def test_a_provider_out_of_reach_is_an_unknown_outcome() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    sender = SmsSender(f"http://127.0.0.1:{port}", TOKEN)
    answer = sender.send("m", "+84912345678", TEXT)
    sender.close()

    assert (answer.outcome, answer.detail.startswith("provider out of reach: ")) == (Outcome.UNKNOWN, True)


def test_a_local_provider_is_asked_directly_whatever_proxy_the_environment_names(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    sender = SmsSender(provider.url, TOKEN)
    answer = sender.send("m", "+84912345678", TEXT)
    sender.close()

    assert answer.outcome is Outcome.ACCEPTED


def test_from_a_salt_tide_to_the_phone_through_every_fault(service: Any, provider: Provider, sender: SmsSender) -> None:
    service.deliverer.senders = {"sms": sender}
    provider.faults(unavailable=1, lie=2, silence=1)
    service.tide()

    for _ in range(8):
        service.deliver(later_s=60)

    assert service.statuses() == ["sent"] * 4
    assert sorted((message["to"], message["text"]) for message in provider.inbox()) == [
        ("+84912345678", "Tram Xuan Hoa: man 1,4 g/L luc 03:25 ngay 09/03. Co the lay nuoc lai."),
        ("+84912345678", "Tram Xuan Hoa: man 2,6 g/L luc 03:10 ngay 09/03. Khong lay nuoc vao."),
        ("+84987654321", "Station Xuan Hoa: 1.4 g/L at 03:25 on 9 Mar. You may take water again."),
        ("+84987654321", "Station Xuan Hoa: 2.6 g/L at 03:10 on 9 Mar. Do not take water in."),
    ]
