"""A farmer's telephone, and the SMS provider in front of it, as one small HTTP server on this machine.

    POST /messages   the provider's interface: Authorization: Bearer <token>, {"id", "to", "text"} gives
                     202 {"provider_id"}; the same id again gives the same provider_id, and no second SMS
    GET  /inbox      {"messages": [{"id", "provider_id", "to", "text", "received_at", "received_at_real"}],
                      "refused": [id, …]}    what was refused as told by /faults
    POST /faults     what goes wrong from now on, see Faults; answers with the faults in force

`received_at` is bench time, `received_at_real` the machine's; both unix seconds UTC.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import re
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from pydantic import Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from station_config.clock import Clock, clock_from_environment
from station_config.toml_config import StrictModel

INBOX_MESSAGES = 10_000  # more are answered 503 and not taken
BODY_BYTES = 16_384
SILENCE_S = 60.0
_E164 = re.compile(r"\+[1-9]\d{7,14}")


class Faults(StrictModel):
    """What goes wrong; counts run down with each message, in this order: refuse, unavailable, lie, silence."""

    refuse: int = Field(default=0, ge=0)  # 400, not delivered
    unavailable: int = Field(default=0, ge=0)  # 503, not delivered
    lie: int = Field(default=0, ge=0)  # delivered, yet 500
    silence: int = Field(default=0, ge=0)  # delivered, yet no answer for a minute
    delay_s: float = Field(default=0.0, ge=0.0, le=600.0)  # before every answer


@dataclass
class Phone:
    """The inbox, and what the provider remembers: messages by their idempotency key, in the order received."""

    clock: Clock
    token: str
    faults: Faults = field(default_factory=Faults)
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def deliver(self, key: str, to: str, text: str) -> str:
        """Put a message into the inbox unless its key is known; return the provider's id."""
        if key not in self.messages:
            self.messages[key] = {
                "id": key,
                "provider_id": f"sms-{len(self.messages) + 1:06d}",
                "to": to,
                "text": text,
                "received_at": self.clock.now(),
                "received_at_real": time.time(),
            }
        provider_id: str = self.messages[key]["provider_id"]
        return provider_id

    def take_fault(self) -> str | None:
        """Return the fault that hits the message at hand, and count it down."""
        for name in ("refuse", "unavailable", "lie", "silence"):
            left = getattr(self.faults, name)
            if left:
                self.faults = self.faults.model_copy(update={name: left - 1})
                return name
        return None

    async def accept(self, request: Request) -> JSONResponse:
        """Answer POST /messages."""
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), f"Bearer {self.token}".encode()):
            return _error(401, "unknown token")
        content = await _read_json(request)
        fault = _why_no_message(content)
        if isinstance(fault, str):
            return _error(400, fault)
        if len(self.messages) >= INBOX_MESSAGES and content["id"] not in self.messages:
            return _error(503, "the inbox is full")
        await asyncio.sleep(self.faults.delay_s)
        return await self._answer(content["id"], content["to"], content["text"])

    async def _answer(self, key: str, to: str, text: str) -> JSONResponse:
        fault = self.take_fault()
        if fault == "refuse":
            self.refused = [*self.refused[1 - INBOX_MESSAGES :], key]
            return _error(400, "refused as told by /faults")
        if fault == "unavailable":
            return _error(503, "unavailable as told by /faults")
        provider_id = self.deliver(key, to, text)
        if fault == "lie":
            return _error(500, "an untrue error, as told by /faults")
        if fault == "silence":
            await asyncio.sleep(SILENCE_S)
        return JSONResponse({"provider_id": provider_id}, 202)

    async def show_inbox(self, _request: Request) -> JSONResponse:
        """Answer GET /inbox."""
        return JSONResponse({"messages": list(self.messages.values()), "refused": self.refused})

    async def set_faults(self, request: Request) -> JSONResponse:
        """Answer POST /faults: the faults named replace all that were in force."""
        try:
            self.faults = Faults.model_validate(await _read_json(request))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            return _error(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        return JSONResponse(self.faults.model_dump())


def create_app(phone: Phone, announcement: str) -> Starlette:
    """Return the server's application; the announcement is printed when it is about to answer."""

    @asynccontextmanager
    async def announce(_app: Starlette) -> AsyncIterator[None]:
        typer.echo(announcement)
        yield

    routes = [
        Route("/messages", phone.accept, methods=["POST"]),
        Route("/inbox", phone.show_inbox, methods=["GET"]),
        Route("/faults", phone.set_faults, methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=announce)


def command(
    token_file: Annotated[Path, typer.Option(help="File whose first line is the token senders must show.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port on 127.0.0.1; 0 takes a free one.")] = 0,
) -> None:
    """Be an SMS provider and the phone behind it, on this machine only.

    Prints {"ready":true,"port":N} when it answers. Example: tram-sim phone --port 8601 --token-file sms-token
    """
    try:
        lines = token_file.read_text(encoding="utf-8").splitlines()
        listener = socket.create_server(("127.0.0.1", port), backlog=128)
    except (OSError, UnicodeDecodeError) as error:
        typer.echo(f"cannot start: {error}", err=True)
        raise typer.Exit(2) from None
    if not lines or not lines[0]:
        typer.echo(f"{token_file} is empty; its first line is the token", err=True)
        raise typer.Exit(2)
    _stop_quietly()
    ready = json.dumps({"ready": True, "port": listener.getsockname()[1]}, separators=(",", ":"))
    app = create_app(Phone(clock_from_environment(os.environ), lines[0]), ready)
    settings = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    uvicorn.Server(settings).run(sockets=[listener])


def _stop_quietly() -> None:
    """Let uvicorn's own handling be all: a signal it has handled it raises again, which would end us with an error."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)


async def _read_json(request: Request) -> Any:
    """Return the body as JSON, None when it is too long or no JSON."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_BYTES:
            return None
    try:
        return json.loads(body)
    except ValueError:
        return None


def _why_no_message(content: Any) -> str | None:
    if not isinstance(content, dict):
        return f'expected a JSON object of at most {BODY_BYTES} bytes: {{"id", "to", "text"}}'
    for name, longest in (("id", 100), ("to", 16), ("text", 1600)):
        value = content.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= longest:
            return f"{name}: expected text of 1 to {longest} characters"
    if not _E164.fullmatch(content["to"]):
        return "to: expected a number such as +84912345678"
    return None


def _error(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, status)


if __name__ == "__main__":
    typer.run(command)
