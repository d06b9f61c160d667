"""The link to a database that speaks as InfluxDB does: lines out by /api/v2/write, InfluxQL answers in by /query.

Every answer is read before it is believed. What may pass by itself (nobody there, too slow, 5xx, rights that somebody
is changing) is StoreUnavailable; points that the server will not have are PointsRefused. The token is in no text.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import httpx

from cloud_ingest.errors import CloudError, PointsRefused, StoreUnavailable
from cloud_ingest.observation_settings import ObservationSettings

CONNECT_S, WRITE_S, READ_S = 5.0, 30.0, 60.0
CHUNK_ROWS = 10_000
TEXT_SHOWN = 300
OK, NO_CONTENT = 200, 204
_TAGS = re.compile("<[^>]*>")  # a proxy's error page


class Denied(StoreUnavailable):
    """The server is there and will not: rights, names, its own limits."""


class InfluxLink:
    """Clients that connect when first needed; any thread may ask."""

    def __init__(self, settings: ObservationSettings) -> None:
        self._settings = settings
        self._writer: Any = None  # of a library without types
        self._reader: httpx.Client | None = None
        self._opening = threading.Lock()

    def close(self) -> None:
        """Close the connections."""
        if self._writer is not None:
            self._writer.close()
        if self._reader is not None:
            self._reader.close()
        self._writer = self._reader = None

    def write(self, lines: Iterable[str]) -> None:
        """Return when the server says that it has stored every line. Raises StoreUnavailable or PointsRefused."""
        body = "\n".join(lines)
        if not body:
            return
        status, text = self._posted(body)
        if status != NO_CONTENT:
            raise refusal(status, text, self._settings.root)

    def ask(self, question: str) -> Iterator[Mapping[str, Any]]:
        """Yield the series of the answer piece by piece, each with `columns` and `values`.

        Raises StoreUnavailable; an answer that breaks off does so too, after what came before.
        """
        database, policy = self._settings.place
        form = {"db": database, "q": question, "epoch": "s", "chunked": "true", "chunk_size": str(CHUNK_ROWS)}
        if policy:
            form["rp"] = policy
        try:
            with self._reading().stream("POST", f"{self._settings.root}/query", data=form) as answer:
                if answer.status_code != OK:
                    answer.read()
                    raise _denied(answer.status_code, answer.text, self._settings.root)
                yield from self._pieces(answer.iter_bytes())
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise StoreUnavailable(self._away(error)) from None

    def _pieces(self, data: Iterable[bytes]) -> Iterator[Mapping[str, Any]]:
        whole = False
        for line in _lines(data):
            for result in self._results(line):
                if "error" in result:
                    raise _denied(OK, str(result["error"]), self._settings.root)
                yield from result.get("series", ())
                whole = not result.get("partial")
        if not whole:
            raise StoreUnavailable(f"an answer of {self._settings.root} broke off; ask again")

    def _results(self, line: bytes) -> list[dict[str, Any]]:
        try:
            document = json.loads(line)
            results = [document] if "error" in document else document["results"]
            if all(isinstance(one, dict) for one in results):
                return list(results)
        except (ValueError, KeyError, TypeError):
            pass
        raise StoreUnavailable(f"{self._settings.root} answers as no InfluxDB does: {line[:80]!r}")

    def _posted(self, body: str) -> tuple[int, str]:
        """Return the status and the text of the answer."""
        from influxdb_client.rest import ApiException
        from influxdb_client.service.write_service import WriteService
        from urllib3.exceptions import HTTPError

        try:
            service: Any = WriteService
            text, status, _ = service(self._writing().api_client).post_write_with_http_info(
                self._settings.org or "-",
                self._settings.bucket,
                body,
                precision="s",
                content_type="text/plain; charset=utf-8",
                _return_http_data_only=False,
            )
        except HTTPError as error:
            raise StoreUnavailable(self._away(error)) from None
        except ApiException as error:
            if not error.status:
                raise StoreUnavailable(self._away(error.reason)) from None
            text, status = error.body, error.status
        return int(status), str(text or "")

    def _writing(self) -> Any:
        with self._opening:
            self._writer = self._writer or _writing_client(self._settings)
            return self._writer

    def _reading(self) -> httpx.Client:
        with self._opening:
            self._reader = self._reader or _reading_client(self._settings)
            return self._reader

    def _away(self, error: object) -> str:
        reason = " ".join(str(error).split())[:TEXT_SHOWN] or type(error).__name__
        return f"{self._settings.root} cannot be reached, nothing is stored there: {reason}"


def _writing_client(settings: ObservationSettings) -> Any:
    from influxdb_client.client.influxdb_client import InfluxDBClient

    return InfluxDBClient(
        settings.root,
        token=settings.token() or "",
        org=settings.org or "-",
        timeout=(int(CONNECT_S * 1000), int(WRITE_S * 1000)),
        ssl_ca_cert=None if settings.ca_file is None else str(settings.ca_file),
        retries=False,
    )


def _reading_client(settings: ObservationSettings) -> httpx.Client:
    token = settings.token() or ""
    user, colon, password = token.partition(":")
    # InfluxDB below 1.8 knows user:password tokens for writing only, where its proxy translates them.
    auth = httpx.BasicAuth(user, password) if colon else None
    headers = {"Authorization": f"Token {token}"} if token and not colon else {}
    verify: ssl.SSLContext | bool = True
    if settings.ca_file is not None:
        verify = ssl.create_default_context(cafile=str(settings.ca_file))
    timeout = httpx.Timeout(READ_S, connect=CONNECT_S)
    return httpx.Client(auth=auth, headers=headers, timeout=timeout, verify=verify, trust_env=False)


def refusal(status: int, text: str, url: str) -> CloudError:
    """Return what an answer to a write means that is not 204."""
    if status in (400, 413, 422) or "partial write" in text or "dropped" in text:
        return PointsRefused(f"{url} does not store some observations (HTTP {status}): {_in_words(status, text)}")
    return _kind(status)(f"{url} stores nothing (HTTP {status}): {_in_words(status, text)}")


def _denied(status: int, text: str, url: str) -> StoreUnavailable:
    return _kind(status)(f"{url} answers no questions (HTTP {status}): {_in_words(status, text)}")


def _kind(status: int) -> type[StoreUnavailable]:
    return StoreUnavailable if status >= 500 or status == 429 else Denied


def _in_words(status: int, text: str) -> str:
    """Return the server's reason on one line, and what to do where that is known."""
    try:
        document = json.loads(text)
        text = str(document.get("error") or document.get("message") or text)
    except (ValueError, AttributeError):
        pass
    return (" ".join(_TAGS.sub(" ", text).split())[:TEXT_SHOWN] or "no reason given") + _advice(status, text)


def _advice(status: int, text: str) -> str:
    if "field type conflict" in text:
        return "; another program writes the same measurement with other types: give us a bucket of our own"
    if "retention policy" in text and "points beyond" in text:
        return "; the bucket forgets what must be kept: make its retention policy infinite"
    if status == 413:
        return "; allow bodies of 2 MB (nginx: client_max_body_size, InfluxDB: max-body-size)"
    if status in (401, 403):
        return "; look at [observations] token_file, and what it may do"
    if status == 404 or "not found" in text:
        return "; look at [observations] bucket and url (an InfluxDB below 1.8 needs a proxy for /api/v2/write)"
    return ""


def _lines(data: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in data:
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line for line in lines if line.strip())
    if rest.strip():
        yield rest
