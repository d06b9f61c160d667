"""An outbox as the first gateway left it, and what happens to files."""

from __future__ import annotations

import time
from pathlib import Path

from edge_gateway.slices import Series
from edge_gateway.tests.first_schema import write_first_outbox
from hil_tests.cuts.gateway_life import JOURNAL, STATION

AGE_S = 86_400


def write_first_schema(file: Path, made: int) -> Path:
    """Write an outbox of the first gateway with records 1..made of the station, none committed."""
    return write_first_outbox(file, Series(STATION, JOURNAL), made, int(time.time()) - AGE_S)


def spoil(file: Path, first_page: int = 2, pages: int = 2, page_size: int = 4096) -> None:
    """Turn over the bits of some pages in the middle."""
    raw = bytearray(file.read_bytes())
    begin, end = (first_page - 1) * page_size, (first_page - 1 + pages) * page_size
    raw[begin:end] = bytes(255 - byte for byte in raw[begin:end])
    file.write_bytes(raw)
