"""Files of a station over its line: read whole, or staged in pieces, going on where a break came."""

from __future__ import annotations

import hashlib

from edge_gateway.errands import Errand, patiently
from edge_gateway.errors import JobFailed, StationRefused
from edge_gateway.line_jobs import Steps
from edge_gateway.station_link import StationLink
from edge_gateway.station_upkeep import CHUNK_BYTES, PART_BYTES, StationFile

READ_TRIES = 3
SURVEYS_AT_MOST = 50  # looks at what the station holds of a file; each follows a chunk that did not fit
BEYOND_WHAT_IS_HELD, NOT_SO_LONG, NO_ROOM = 2, 3, 4


def read_station_file(link: StationLink, address: int, file: StationFile) -> Steps[bytes]:
    """Return a whole file, b"" when there is none. Raises JobFailed when it changes each time while it is read."""
    for _ in range(READ_TRIES):
        description = yield from patiently(lambda: link.describe_file(address, file))
        data = yield from _read_parts(link, address, file, description.held)
        if not description.held or hashlib.sha256(data).digest() == description.sha256:
            return data
    raise JobFailed(f"file {file} of the station changed each time while it was read")


def send_station_file(link: StationLink, address: int, file: StationFile, data: bytes, errand: Errand) -> Steps[None]:
    """Stage a file. Raises JobFailed, JobExpired."""
    try:
        yield from patiently(lambda: link.declare_file(address, file, data))
    except StationRefused as refusal:
        reasons = {NOT_SO_LONG: f"takes no file of {len(data)} bytes", NO_ROOM: "has no room for it on its flash"}
        raise JobFailed(f"the station {reasons.get(refusal.exception_code, f'refuses the file: {refusal}')}") from None
    for _ in range(SURVEYS_AT_MOST):
        description = yield from patiently(lambda: link.describe_file(address, file))
        if (description.length, description.sha256) != (len(data), hashlib.sha256(data).digest()):
            raise JobFailed("another file was staged at the station meanwhile")
        if description.held == len(data):
            return
        yield from _send_chunks(link, address, file, data, description.held - description.held % 2, errand)
    raise JobFailed("the station does not keep what it is sent")


def _read_parts(link: StationLink, address: int, file: StationFile, held: int) -> Steps[bytes]:
    data = b""
    while len(data) < held:
        start, size = len(data), min(PART_BYTES, held - len(data))
        try:
            data += yield from patiently(lambda: link.read_file(address, file, start, size))  # noqa: B023  asked at once
        except StationRefused:  # it became shorter
            return data
    return data


def _send_chunks(
    link: StationLink, address: int, file: StationFile, data: bytes, start: int, errand: Errand
) -> Steps[None]:
    """Write chunks from `start` on, up to the end or to one that does not join what the station holds."""
    while start < len(data):
        errand.check_time()
        chunk = data[start : start + CHUNK_BYTES]
        try:
            yield from patiently(lambda: link.write_file(address, file, start, chunk))  # noqa: B023  asked at once
        except StationRefused as refusal:
            if refusal.exception_code != BEYOND_WHAT_IS_HELD:
                raise JobFailed(f"the station refuses a chunk of the file: {refusal}") from None
            return
        start += len(chunk)
