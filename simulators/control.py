"""How a running simulator is told what to do: JSON lines over a unix socket, one answer line per request line.

An answer is the simulator's own object, or {"error": "why"}.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from simulators.errors import SimulatorError

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
LONGEST_PATH_BYTES = 107  # the kernel's limit for a unix socket
ANSWER_TIMEOUT_S = 5.0


class ControlError(SimulatorError):
    """The simulator cannot be reached, or refused; the text says which and why."""


class Tasks:
    """The tasks of a server, one per connection: kept, so that they can be ended with it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as a task."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def cancel(self) -> None:
        """Cancel all, and wait until they have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


@asynccontextmanager
async def serve(path: Path, answer: Answer) -> AsyncIterator[None]:
    """Answer requests on the socket at `path` while the block runs. Raises ControlError when the path cannot be used.

    `answer` may raise SimulatorError to refuse.
    """

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await _answered(line, answer), separators=(",", ":")).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):  # gone, or a line beyond the stream's limit: nobody to answer to
            pass
        finally:
            writer.close()

    _make_way(path)
    conversations = Tasks()
    server = await asyncio.start_unix_server(lambda *streams: conversations.start(converse(*streams)), path)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)
        await conversations.cancel()


async def _answered(line: bytes, answer: Answer) -> dict[str, Any]:
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            return {"error": "a request is a JSON object on one line"}
        return await answer(request)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        return {"error": f"not JSON: {error}"}
    except SimulatorError as error:
        return {"error": str(error)}


def _make_way(path: Path) -> None:
    if len(str(path).encode()) > LONGEST_PATH_BYTES:
        raise ControlError(f"{path}: a socket's path has at most {LONGEST_PATH_BYTES} bytes; use a shorter directory")
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:  # nobody listens: whoever left the file is gone
            path.unlink(missing_ok=True)
            return
    raise ControlError(f"{path}: another simulator is listening there; stop it, or use another path")


def ask(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Send one request to a running simulator and return its answer. Raises ControlError."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_TIMEOUT_S)
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as stream:
                line = stream.readline()
    except OSError as error:
        raise ControlError(f"{path}: no simulator answers there ({error}); is it running?") from error
    if not line:
        raise ControlError(f"{path}: the simulator closed the connection without an answer")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise ControlError(f"{path}: refused {request}: {answer['error']}")
    return answer
