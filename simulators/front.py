"""The demo's front door: the cloud's own page at /, with the bench panel added, and what the panel asks for at /bench/.

Everything outside /bench/ is passed on to the cloud unchanged, but for one script tag in the page: the product knows
nothing of the bench. Plugs are pulled by POST; a request from another site's page is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from simulators.bench import Bench
from simulators.processes import BenchError

PANEL = b'<script type="module" src="/bench/panel.js"></script></body>'
HOP_HEADERS = {"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"}


def front_door(bench: Bench, state: Callable[[], Mapping[str, Any]]) -> Starlette:
    """Return the web application in front of a running bench; state() is what the panel shows."""
    cloud = httpx.AsyncClient(base_url=f"http://127.0.0.1:{bench.site.ports.cloud}", timeout=30.0)

    async def pass_on(request: Request) -> Response:
        url = httpx.URL(path=request.url.path, query=request.url.query.encode())
        headers = {k: v for k, v in request.headers.items() if k not in ("host", "accept-encoding")}
        try:
            answer = await cloud.request(request.method, url, headers=headers)
        except httpx.TransportError as error:
            return PlainTextResponse(f"the cloud service does not answer: {error}", status_code=502)
        kept = {k: v for k, v in answer.headers.items() if k not in HOP_HEADERS}
        body = answer.content
        if answer.headers.get("content-type", "").startswith("text/html"):
            body = body.replace(b"</body>", PANEL, 1)
        return Response(body, answer.status_code, kept)

    async def bench_state(_: Request) -> Response:
        return JSONResponse(await run_in_threadpool(state))

    async def plug(request: Request) -> Response:
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            return PlainTextResponse("plugs are pulled from the demo's own page only", status_code=403)
        try:
            out = (await request.json())["out"]
            act = bench.pull if out else bench.put_back
            await run_in_threadpool(act, request.path_params["name"])
        except (ValueError, KeyError, TypeError) as error:
            return PlainTextResponse(f'expected {{"out": true|false}}: {error}', status_code=422)
        except BenchError as error:
            return PlainTextResponse(str(error), status_code=409)
        return JSONResponse(await run_in_threadpool(state))

    pages = StaticFiles(directory=Path(__file__).with_name("pages"))
    return Starlette(
        routes=[
            Route("/bench/state", bench_state),
            Route("/bench/plugs/{name}", plug, methods=["POST"]),
            Mount("/bench", pages),
            Route("/{path:path}", pass_on, methods=["GET", "HEAD"]),
        ]
    )
