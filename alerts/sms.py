"""The SMS provider's HTTP interface, as a sender. One request, one outcome; when to try again is the caller's decision.

POST <url>/messages     Authorization: Bearer <token>
{"id": "<idempotency key>", "to": "+84...", "text": "..."}
202 {"provider_id": "..."}    accepted; the same id again gives the same provider_id and no second SMS
4xx                           this message will never be accepted
5xx, no answer in time        unknown: it may or may not have been accepted, so the same id is sent again
401, 403, 408, 429            about us or the moment, not about the message: sent again too
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit

import httpx

TIMEOUT_S = 10.0
_ABOUT_US_OR_THE_MOMENT = frozenset({401, 403, 408, 429})
_DETAIL_CHARACTERS = 200


class Outcome(StrEnum):
    """What became of one attempt."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Answer:
    """The outcome of one attempt; `detail` says why in words, `provider_id` is set when accepted."""

    outcome: Outcome
    detail: str = ""
    provider_id: str | None = None


class Sender(Protocol):
    """A channel that carries one text to one address."""

    def send(self, key: str, address: str, text: str) -> Answer:
        """Hand over one message under its idempotency key. Never raises for what the other side does."""


class SmsSender:
    """Sends through the provider at `url`; from any thread. `close` when done. Raises ValueError on a bad url."""

    def __init__(self, url: str, token: str, *, timeout_s: float = TIMEOUT_S) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ValueError(f"the SMS provider's url {url!r} must begin with https:// (or http://) and name a host")
        self._url = f"{url.rstrip('/')}/messages"
        self._client = httpx.Client(
            timeout=timeout_s,
            headers={"Authorization": f"Bearer {token}"},
            # A proxy of the environment is for the outside world, not for a provider on this machine.
            trust_env=not _is_local(url),
        )

    def send(self, key: str, address: str, text: str) -> Answer:
        """Hand one SMS to the provider; returns what it said, or UNKNOWN when it said nothing usable."""
        try:
            response = self._client.post(self._url, json={"id": key, "to": address, "text": text})
        except httpx.TimeoutException as error:
            return Answer(Outcome.UNKNOWN, f"no answer in time ({type(error).__name__})")
        except httpx.RequestError as error:
            return Answer(Outcome.UNKNOWN, f"provider out of reach: {error}"[:_DETAIL_CHARACTERS])
        return _read(response)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _read(response: httpx.Response) -> Answer:
    status = response.status_code
    said = f"HTTP {status}: {' '.join(response.text.split())}"[:_DETAIL_CHARACTERS]
    if status in _ABOUT_US_OR_THE_MOMENT:
        return Answer(Outcome.UNKNOWN, said)
    if 400 <= status < 500:
        return Answer(Outcome.REFUSED, said)
    provider_id = _provider_id(response) if status == 202 else None
    if provider_id is None:
        return Answer(Outcome.UNKNOWN, said)
    return Answer(Outcome.ACCEPTED, provider_id=provider_id)


def _provider_id(response: httpx.Response) -> str | None:
    try:
        body = response.json()
    except ValueError:
        return None
    provider_id = body.get("provider_id") if isinstance(body, dict) else None
    return provider_id if isinstance(provider_id, str) and provider_id else None


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
