"""Frames of an instrument as test vectors: frames/<id>.csv beside its file.

    what                  read 0, read 1 … (the file's reads in order), start, stop, wiper, discovery, service <name>
    request, answer       bytes in hex with their CRC; an answer may be left out
    values                what the answer holds: parameter=value …; of a service its numbers, read or written
    status                ok or failed, as the read's status decides; empty when it has none
    origin                documented (the answer, or a question that stands alone, was seen in the file's source) or
                          computed (worked out from the map)

Rows of SDI-12 are text: see sdi12_frames. They are checked against the file by a codec of this module, which shares
nothing with the firmware's: what is asked, for how many registers, and that the answer decodes to the values. The
firmware's codec is held against the same rows.
"""

from __future__ import annotations

import csv
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from firmware.record import crc16
from station_config.instruments import sdi12_frames
from station_config.instruments.model import SIZES, Field, Instrument, Order, Read, Service, Status

FRAMES = Path(__file__).with_name("frames")  # of the shipped instruments; an installation may come without them
_COLUMNS = ("what", "request", "answer", "values", "status", "origin")
_FORMATS = {"u8": ">B", "u16": ">H", "i16": ">h", "u32": ">I", "i32": ">i", "f32": ">f"}
_RELATIVE = 1e-6  # of a single float, so many digits are written down


@dataclass(frozen=True)
class Frame:
    """One row: a question, its answer and what they mean."""

    line: int
    what: str
    request: bytes
    answer: bytes
    values: str
    status: str
    origin: str
    is_sdi12: bool = False

    @cached_property
    def named(self) -> dict[str, float]:
        """The values by parameter. Raises ValueError."""
        pairs = (entry.partition("=") for entry in self.values.split())
        return {name: float(value) for name, _, value in pairs}

    @cached_property
    def numbers(self) -> tuple[float, ...]:
        """The values of a service. Raises ValueError."""
        return tuple(float(value) for value in self.values.split())


def find_frame_faults(folder: Path, instruments: Mapping[str, Instrument]) -> list[str]:
    """Return in words all that is wrong with the frames in a folder, each fault with its file and line.

    A folder that is not there has no faults: frames are for those who write instruments' files.
    """
    if not folder.is_dir():
        return []
    faults = [
        f"{path}: frames of an instrument that has no file {path.stem}.toml"
        for path in sorted(folder.glob("*.csv"))
        if path.stem not in instruments
    ]
    for name, instrument in instruments.items():
        path = folder / f"{name}.csv"
        faults += [f"{path}{text}" for text in _faults_of_file(path, instrument)]
    return faults


def read_frames(path: Path) -> tuple[Frame, ...]:
    """Return the frames of a file. Raises OSError, ValueError."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if tuple(rows.fieldnames or ()) != _COLUMNS:
            raise ValueError(f":1: the columns must be {', '.join(_COLUMNS)}")
        return tuple(_frame(rows.line_num, row) for row in rows)


def _frame(line: int, row: Mapping[str, str | None]) -> Frame:
    texts = [(row.get(column) or "").strip() for column in _COLUMNS]
    if sdi12_frames.is_sdi12(texts[1]):
        sent, came = texts[1].encode(), texts[2].encode()
        return Frame(line, texts[0], sent, came, texts[3], texts[4], texts[5], is_sdi12=True)
    try:
        request, answer = bytes.fromhex(texts[1]), bytes.fromhex(texts[2])
    except ValueError:
        raise ValueError(f":{line}: request and answer are bytes in hex") from None
    return Frame(line, texts[0], request, answer, texts[3], texts[4], texts[5])


def _faults_of_file(path: Path, instrument: Instrument) -> Iterator[str]:
    try:
        frames = read_frames(path)
    except OSError:
        yield ": is missing; write a question and an answer for each read"
        return
    except ValueError as error:
        yield str(error)
        return
    for frame in frames:
        yield from (f":{frame.line}: {frame.what}: {text}" for text in _faults_of_frame(frame, instrument))
    told = {frame.what for frame in frames if frame.answer}
    for wanted in _wanted_rows(instrument):
        if wanted not in told:
            yield f": {wanted} has no answer"


def _wanted_rows(instrument: Instrument) -> Iterator[str]:
    """Yield which rows must be there with an answer."""
    yield from (f"read {index}" for index in range(len(instrument.reads)))
    for index, measurement in enumerate(instrument.measurements):
        if measurement.command[0] != "R":
            yield f"measurement {index}"
        yield f"data {index}"


def _faults_of_frame(frame: Frame, instrument: Instrument) -> Iterator[str]:
    if frame.origin not in ("documented", "computed"):
        yield "origin is documented or computed"
    if frame.is_sdi12 != (instrument.protocol == "sdi12"):
        yield f"is not a row of {'SDI-12' if instrument.protocol == 'sdi12' else 'Modbus'}, which the file is of"
    elif instrument.protocol == "sdi12":
        yield from _faults_of_sdi12(frame, instrument)
    else:
        yield from _faults_of_modbus(frame, instrument)


def _faults_of_sdi12(frame: Frame, instrument: Instrument) -> Iterator[str]:
    try:
        yield from sdi12_frames.find_faults(frame, instrument)
        if frame.what.startswith("data"):
            measurement = sdi12_frames.measurement_of(frame, instrument)
            values = sdi12_frames.whole_values(frame, measurement)
            yield from _value_faults(
                frame.named, {field.parameter: sdi12_frames.decode(field, values) for field in measurement.fields}
            )
    except (LookupError, ValueError) as error:
        yield f"cannot be understood: {error}"


def _faults_of_modbus(frame: Frame, instrument: Instrument) -> Iterator[str]:
    for name, sealed in (("request", frame.request), ("answer", frame.answer)):
        if sealed and (len(sealed) < 4 or crc16(sealed)):
            yield f"the CRC of the {name} is wrong"
    try:
        wanted = _expected_request(frame, instrument)
        if frame.request[1:-2] != wanted:
            yield f"by the file the request is {wanted.hex(' ').upper()} behind the address"
        if frame.answer:
            yield from _answer_faults(frame, instrument)
    except (LookupError, ValueError, struct.error) as error:
        yield f"cannot be understood: {error}"


def _expected_request(frame: Frame, instrument: Instrument) -> bytes:
    """Return a request without address and CRC. Raises LookupError for what the file does not have."""
    part = part_of(frame, instrument)
    if isinstance(part, Read):
        return struct.pack(">BHH", part.fc, part.first_register, part.count)
    if isinstance(part, Service):
        return _service_request(part, frame)
    if part.fc == 3:
        return struct.pack(">BHH", part.fc, part.first_register, part.count)
    return _write(part.fc, part.first_register, struct.pack(f">{len(part.values)}H", *part.values))


def part_of(frame: Frame, instrument: Instrument) -> Read | Order | Service:
    """Return the part of the instrument's file that a frame belongs to. Raises LookupError, ValueError."""
    kind, _, which = frame.what.partition(" ")
    if kind == "read":
        return instrument.reads[int(which)]
    if kind == "service":
        return instrument.service[which]
    if kind == "discovery" and instrument.discovery is not None:
        found = instrument.discovery
        return Service.model_validate({"fc": found.fc, "register": found.first_register})
    orders: dict[str, Order | None] = {"start": instrument.start, "stop": instrument.stop, "wiper": instrument.wiper}
    order = orders.get(frame.what)
    if order is None:
        raise LookupError(f"the file has no {frame.what!r}")
    return order


def _service_request(service: Service, frame: Frame) -> bytes:
    if service.fc in (3, 4):
        return struct.pack(">BHH", service.fc, service.first_register, service.count)
    return _write(service.fc, service.first_register, _encode(service, frame.numbers))


def _write(function: int, register: int, data: bytes) -> bytes:
    if function == 6:
        return struct.pack(">BH", function, register) + data
    return struct.pack(">BHHB", function, register, len(data) // 2, len(data)) + data


def _encode(service: Service, numbers: Sequence[float]) -> bytes:
    kind = service.type or "u16"
    order = service.order or ("ABCD" if SIZES[kind] == 4 else "AB")
    return b"".join(_in_order(_pack(kind, number), order) for number in numbers)


def _pack(kind: str, number: float) -> bytes:
    return struct.pack(_FORMATS[kind], number if kind == "f32" else int(number))


def _in_order(data: bytes, order: str) -> bytes:
    """Return bytes, most significant first, as they stand on the wire, or back again: each order is its own inverse."""
    return bytes(data["ABCD".index(letter)] for letter in order)


def _answer_faults(frame: Frame, instrument: Instrument) -> Iterator[str]:
    part = part_of(frame, instrument)
    if isinstance(part, Read):
        data = frame.answer[3:-2]
        if len(data) != 2 * part.count:
            yield f"the answer has {len(data)} bytes of data, the read asks for {2 * part.count}"
            return
        yield from _value_faults(frame.named, {field.parameter: decode(field, data) for field in part.fields})
        status = "" if part.status is None else "ok" if is_ok(part.status, data) else "failed"
        if frame.status != status:
            yield f"by the file the status is {status or 'none'}, the row says {frame.status or 'none'}"
    elif isinstance(part, Service) and part.fc in (3, 4) and part.type is not None:
        data, size = frame.answer[3:-2], SIZES[part.type]
        numbers = [_number(part.type, part.order, data, at) for at in range(0, size * len(frame.numbers), size)]
        yield from _value_faults(_numbered(frame.numbers), _numbered(numbers))


def _numbered(numbers: Sequence[float]) -> dict[str, float]:
    return {str(index): number for index, number in enumerate(numbers)}


def _value_faults(told: Mapping[str, float], held: Mapping[str, float | None]) -> Iterator[str]:
    """Yield where the values of a row and of its bytes differ. A value that is none is not told."""
    present = {name: value for name, value in held.items() if value is not None}
    for name in sorted({*told, *present}):
        if name not in present:
            yield f"{name}: the bytes hold no such value"
        elif name not in told:
            yield f"{name}: the bytes hold {present[name]:.7g}, the row does not say so"
        elif abs(told[name] - present[name]) > _RELATIVE * max(1.0, abs(told[name])):
            yield f"{name}: the bytes hold {present[name]:.7g}, the row says {told[name]:.7g}"


def decode(field: Field, data: bytes) -> float | None:
    """Return a field's value in its parameter's unit; None when the instrument says it has none."""
    number = _number(field.type, field.effective_order, data, field.at)
    bits = int.from_bytes(_in_order_at(field.type, field.effective_order, data, field.at), "big")
    if number != number or number in field.invalid or bits in field.invalid:
        return None
    return number * field.scale + field.offset


def is_ok(status: Status, data: bytes) -> bool:
    """Say whether a status vouches for the values."""
    raw = int.from_bytes(_in_order_at(status.type, status.order, data, status.at), "big")
    return raw & status.mask in status.ok


def _in_order_at(kind: str, order: str | None, data: bytes, at: int) -> bytes:
    size = SIZES[kind]
    return _in_order(data[at : at + size], order or "ABCD"[:size])


def _number(kind: str, order: str | None, data: bytes, at: int) -> float:
    order = None if SIZES[kind] == 1 else order
    number: float = struct.unpack(_FORMATS[kind], _in_order_at(kind, order, data, at))[0]
    return number
