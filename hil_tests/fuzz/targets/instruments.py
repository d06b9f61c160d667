"""Instruments: their files, what their bytes mean on the board and at the office, SDI-12 answers."""

from __future__ import annotations

import io
import json
import math
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import station_config.instruments as shipped
from firmware import configuration as board
from firmware import sdi12, sdi12_line
from firmware.clock import Clock
from firmware.errors import BadAnswer, BusError
from firmware.errors import ConfigurationError as BoardConfigurationError
from firmware.instruments import Instrument as BoardInstrument
from firmware.instruments import decode_field, packed, status_is_ok
from firmware.line import Line
from firmware.sampler import Channels, to_count
from firmware.tests.station_parts import Wall, content
from firmware.tests.wire import Ticks, Uart
from hil_tests.fuzz.graft import json_of, seeds_of, toml_of
from hil_tests.fuzz.steps import finished
from hil_tests.fuzz.target import Target
from station_config.board import board_configuration, encode
from station_config.errors import ConfigurationError
from station_config.instruments import Instrument, frames, load_instruments, sdi12_frames
from station_config.instruments.model import SIZES
from station_config.network import Network
from station_config.toml_config import parse

FOLDER = Path(shipped.__file__).parent
SEEDS = ("yosemitech-y520", "ecowitt-wn90lp", "keller-acculevel")
NETWORK = Path(__file__).parents[3] / "simulators" / "demo_network.toml"


@cache
def _files() -> tuple[dict[str, Any], ...]:
    return tuple(tomllib.loads((FOLDER / f"{name}.toml").read_text()) for name in _names())


@cache
def _names() -> tuple[str, ...]:
    return tuple(sorted(load_instruments()))


@cache
def _network() -> Network:
    return parse(NETWORK.read_text(), Network, "network.toml")


def _instrument(data: bytes) -> None:
    """Read an instrument's file; what is accepted a board can be told, and takes."""
    which = data[0] % len(_names()) if data else 0
    text = toml_of(_files()[which], data[1:]).decode("utf-8", "strict" if data[1:2] != b"\xff" else "replace")
    instrument = parse(text, Instrument, "instrument.toml")
    known = {**load_instruments(), "yosemitech-y520": instrument}
    station = encode(board_configuration(_network(), "vam-kenh", known))
    _on_the_board(station)


def _on_the_board(station: bytes) -> Any:
    """Parse station.json as a board does and make its instruments."""
    parsed = board.parse(io.BytesIO(station))
    clock, channels = Clock(Wall(), Wall()), Channels()
    for sensor in parsed.sensors:
        if sensor.reads:
            BoardInstrument(sensor, clock, channels)
    return parsed


def _station_json(data: bytes) -> None:
    _on_the_board(json_of(_content(), data))


@cache
def _content() -> dict[str, Any]:
    full = json.loads(encode(board_configuration(_network(), "vam-kenh")))
    return {**content(), **full}


def _meaning(data: bytes) -> None:
    """The board's counts of an answer's bytes are the office's values, as near as a single float is."""
    instruments = [one for one in load_instruments().values() if one.reads]
    instrument = instruments[data[0] % len(instruments)] if data else instruments[0]
    raw = data[1:].ljust(256, b"\0")
    for read in instrument.reads:
        for field in read.fields:
            number = frames.decode(field, raw)
            spec = {"at": field.at, "type": field.type, "order": field.effective_order or "A",
                    "scale": field.scale, "offset": field.offset}  # fmt: skip
            entry = board.Field(**{**dict.fromkeys(board.Field._fields), **spec})
            count = decode_field(packed([entry]), 0, raw, 2, tuple(field.invalid))
            expected = None if number is None else to_count(number, 2)
            if count is not None and expected is not None:
                assert math.isclose(count, expected, rel_tol=1e-5, abs_tol=1.01), (field, count, expected)
            else:
                assert count == expected or _is_at_the_limit(number), (field, count, number)
        if read.status is not None:
            spec = read.status.model_dump()
            status = board.Status(**{name: spec.get(name) for name in board.Status._fields})
            if status.order is None:
                status = status._replace(order={1: "A", 2: "AB", 4: "ABCD"}[SIZES[status.type]])
            assert status_is_ok(status, raw) == frames.is_ok(read.status, raw)


def _is_at_the_limit(number: float | None) -> bool:
    """Whether a single and a double float may disagree on which side of a count's limit it lies."""
    return number is not None and (not math.isfinite(number) or math.isclose(abs(number * 100), 4e6, rel_tol=1e-4))


def _sdi12_line(data: bytes) -> None:
    """Take an answer apart, on the board and by the office's own codec."""
    found = sdi12.find_line(data, ord("0"))
    if found is None:
        return
    line, end = found
    assert 0 < end <= len(data)
    for text in ("M", "CC1", "R0", "MC"):
        measurement = sdi12.Measurement(text)
        try:
            seconds, number = sdi12.parse_start(line, measurement)
            assert 0 <= seconds <= 999
            assert 0 <= number <= 99
        except BadAnswer:
            pass
        body = line + (sdi12.crc(line) if measurement.with_crc else b"")
        try:
            values = sdi12.parse_values(body, measurement.with_crc)
        except BadAnswer:
            continue
        assert b"".join(values) == line[1:]
        assert all(math.isfinite(float(value)) for value in values)
        if measurement.with_crc:
            assert sdi12_frames.crc(line.decode("ascii")).encode() == body[-3:]


def _sdi12_answers(data: bytes) -> None:
    """Have a sensor answer a whole measurement with these lines."""
    answers = data.split(b"\x00")

    def said(_question: bytes) -> list[tuple[int, bytes]]:
        return [(5, answers.pop(0) + b"\r\n")] if answers else []

    ticks = Ticks()
    uart = Uart(ticks, said)
    finished(_measure(uart, ticks))


async def _measure(uart: Any, ticks: Any) -> None:
    client = sdi12_line.Client(Line(uart, 1200, ticks=ticks), ticks)
    for text in ("M", "C", "R0", "MC1"):
        try:
            values = await client.measure(ord("0"), sdi12.Measurement(text), 5000)
        except BusError:
            continue
        assert all(math.isfinite(float(value)) for value in values)


def _instrument_seeds() -> Iterator[bytes]:
    for number, name in enumerate(_names()):
        yield bytes((number,)) + (FOLDER / f"{name}.toml").read_bytes()
        for way in range(8):
            yield bytes((number, 0xFF, way, 0, 17 * way, way))


def targets() -> list[Target]:
    """Return the targets of this module."""
    values = [bytes((number,)) + bytes(range(number, number + 120)) for number in range(12)]
    lines = [b"00015\r\n", b"0+3.14-2.2\r\n", b"\x00\x7f0M!00012\r\n0\r\n", b"0+1+2+3HqZ\r\n", b"1+1\r\n000102\r\n"]
    answers = [b"00012\x000+1\x000-2.5", b"0003\r\n0\x000+1+2-3", b"000000\x000", b"00001\x00\x00\x000+7"]
    return [
        Target("instrument-file", _instrument, (ConfigurationError, UnicodeDecodeError), _instrument_seeds, 3000),
        Target("station-json", _station_json, (BoardConfigurationError,),
               lambda: seeds_of(_content(), json.dumps(content()).encode()), 3000),
        Target("instrument-bytes", _meaning, (), lambda: values, 260),
        Target("sdi12-line", _sdi12_line, (), lambda: lines, 120),
        Target("sdi12-answers", _sdi12_answers, (), lambda: answers, 300),
    ]  # fmt: skip
