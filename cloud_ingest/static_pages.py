"""The page's files at /, and the headers that keep foreign scripts out of every answer."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGES = Path(__file__).with_name("pages")

# Only these are served: the folder is a Python package too.
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
    ".json": "application/json",
}

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class SecurityHeaders:
    """Adds the headers to every HTTP answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; the answer's first message gets the headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def add_pages(app: FastAPI) -> None:
    """Serve the page; add it after all other routes, because it takes every path."""

    @app.get("/{path:path}", include_in_schema=False)
    def page(path: str) -> FileResponse:
        name = path or "index.html"
        # the name is looked up among what is there, never joined to a path
        found = {str(file.relative_to(PAGES)): file for file in PAGES.rglob("*") if file.suffix in CONTENT_TYPES}
        if name not in found:
            raise HTTPException(404, f"no page {name!r}")
        return FileResponse(found[name], media_type=CONTENT_TYPES[found[name].suffix])
