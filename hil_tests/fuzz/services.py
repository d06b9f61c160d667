"""The HTTP services, asked by schemathesis whatever their OpenAPI allows, and what it does not.

tram-cloud's API makes its own description (/openapi.json). The phone of the simulators has none of its own; PHONE is
it. A gateway serves no HTTP. The demo's front door passes everything on to the cloud but two routes without a
description, which simulators/tests try by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from cloud_ingest.api import Sources, make_app
from cloud_ingest.models import Health
from cloud_ingest.tests.field import batch, damaged, minutes
from cloud_ingest.tests.test_ingest import Bench
from simulators.phone import Phone, create_app
from station_config.clock import SystemClock

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
)
TOKEN = "quite-secret"
_ERROR = {"description": "why not", "content": {"application/json": {"schema": {
    "type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}}}}  # fmt: skip


def _answers(*codes: int, **good: Any) -> dict[str, Any]:
    return {code.removeprefix("_"): answer for code, answer in good.items()} | {str(code): _ERROR for code in codes}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": "as asked", "content": {"application/json": {"schema": schema}}}


_COUNT = {"type": "integer", "minimum": 0}
_FAULTS = {"type": "object", "additionalProperties": False, "properties": {"refuse": _COUNT}}
_MESSAGE = {"type": "object", "required": ["id", "to", "text"], "properties": {
    "id": {"type": "string", "minLength": 1, "maxLength": 100},
    "to": {"type": "string", "pattern": r"^\+[1-9]\d{7,14}$"},
    "text": {"type": "string", "minLength": 1, "maxLength": 1600}}}  # fmt: skip
#: What of the phone schemathesis is told. Of the faults it sets only refusals: others are 5xx, or a minute's silence.
PHONE: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "phone", "version": "1"},
    "paths": {
        "/messages": {"post": {
            "requestBody": {"required": True, "content": {"application/json": {"schema": _MESSAGE}}},
            "responses": _answers(400, 401, _202=_json({"type": "object", "required": ["provider_id"]}))}},
        "/inbox": {"get": {"responses": _answers(_200=_json({"type": "object", "required": ["messages", "refused"]}))}},
        "/faults": {"post": {
            "requestBody": {"required": True, "content": {"application/json": {"schema": _FAULTS}}},
            "responses": _answers(400, _200=_json({"type": "object", "properties": dict.fromkeys(
                ("refuse", "unavailable", "lie", "silence"), _COUNT)}))}},
    },
}  # fmt: skip


@contextmanager
def cloud(folder: Path) -> Iterator[Any]:
    """Yield the schema of tram-cloud's API over a store with records, gaps and damage in it."""
    bench = Bench(folder)
    with bench.store, closing(bench.reader):
        bench.take(batch(minutes(30)), damaged(batch(minutes(5, first_seq=71)), 4), b"no batch")
        sources = Sources(bench.reader, bench.registry, SystemClock(), _health, lambda: b"")
        yield schemathesis.openapi.from_asgi("/openapi.json", make_app(sources))


def phone() -> Any:
    """Return the schema of the simulated SMS provider."""
    schema = schemathesis.openapi.from_dict(PHONE)
    schema.app = create_app(Phone(SystemClock(), TOKEN), "")
    return schema


def _health() -> Health:
    return Health(
        status="ok",
        problems=[],
        warnings=[],
        broker_connected=True,
        ingest_lag_s=0.0,
        store_writable=True,
        set_aside=1,
        disk_free_bytes=1 << 30,
    )


def operations(schema: Any) -> dict[str, Any]:
    """Return the operations of a service by name."""
    found = [result.ok() for result in schema.get_all_operations()]
    return {operation.label: operation for operation in found}


def ask(case: Any) -> None:
    """Ask once; raises when the answer is not what the service's own description says."""
    case.headers = {**(case.headers or {}), "Authorization": f"Bearer {TOKEN}"}
    case.validate_response(case.call(), checks=CHECKS)
