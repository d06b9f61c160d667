"""The rows of frames/<id>.csv that speak SDI-12, as text: questions with "!", answers without the end of their lines.

    what             measurement 0, measurement 1 … (the file's, in order): its start; data 0 …: what it brought
    request          0CC!      of data as many as it took, with spaces between: 0D0! 0D1!
    answer           000102    of data as many lines: 0+1+2 0+3
    values           of data what they hold: parameter=value …

A measurement with R has no start: its rows are "data". Checked by a codec of this module, which shares nothing with the
firmware's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from station_config.instruments.model import Instrument, Measurement, Value

if TYPE_CHECKING:
    from station_config.instruments.frames import Frame

_VALUE = re.compile(r"[+-][0-9.]+")
_CRC_POLYNOMIAL = 0xA001


def crc(text: str) -> str:
    """Return the three characters behind the values (SDI-12 1.3, 4.4.12): CRC-16 of 0xA001 from 0, six bits each."""
    rest = 0
    for byte in text.encode("ascii"):
        rest ^= byte
        for _ in range(8):
            rest = rest >> 1 ^ _CRC_POLYNOMIAL * (rest & 1)
    return "".join(chr(0x40 | rest >> shift & 0x3F) for shift in (12, 6, 0))


def is_sdi12(request: str) -> bool:
    """Say whether a row's request is text of SDI-12; one of Modbus is hex."""
    return "!" in request


def measurement_of(frame: Frame, instrument: Instrument) -> Measurement:
    """Return the measurement a row belongs to. Raises LookupError, ValueError."""
    return instrument.measurements[int(frame.what.split()[1])]


def whole_values(frame: Frame, measurement: Measurement) -> list[str]:
    """Return the values of a data row as sent, from all its lines. Raises ValueError that says what is wrong."""
    values: list[str] = []
    for line in frame.answer.decode("ascii").split():
        address, body = line[:1], line[1:]
        if measurement.crc:
            body, seal = body[:-3], body[-3:]
            if crc(address + body) != seal:
                raise ValueError("the CRC of the answer is wrong")
        found = _VALUE.findall(body)
        if "".join(found) != body or not found:
            raise ValueError(f"{line}: values are numbers with their signs")
        values += found
    return values


def decode(value: Value, values: Sequence[str]) -> float | None:
    """Return a value in its parameter's unit; None when the sensor says it has none, or gave fewer."""
    if value.at >= len(values):
        return None
    number = float(values[value.at])
    return None if number in value.invalid else number * value.scale + value.offset


def find_faults(frame: Frame, instrument: Instrument) -> Iterator[str]:
    """Yield what is wrong with a row, but for its values. Raises LookupError, ValueError."""
    kind, _, _ = frame.what.partition(" ")
    if kind not in ("measurement", "data"):
        yield "of an SDI-12 instrument a row is measurement or data, with its number"
        return
    measurement = measurement_of(frame, instrument)
    request, answer = frame.request.decode("ascii"), frame.answer.decode("ascii")
    wanted = _wanted_request(kind, request[:1], measurement, len(answer.split()))
    if request != wanted:
        yield f"by the file the request is {wanted}"
    if any(line[:1] != request[:1] for line in answer.split()):
        yield "the answer is another sensor's"
    if kind == "measurement":
        digits = 2 if measurement.command[0] == "C" else 1
        if not re.fullmatch(rf".\d{{3}}{measurement.count:0{digits}d}", answer):
            yield f"by the file the answer is address, three digits and {measurement.count:0{digits}d}"
    elif len(whole_values(frame, measurement)) != measurement.count:
        yield f"by the file there are {measurement.count} values"


def _wanted_request(kind: str, address: str, measurement: Measurement, lines: int) -> str:
    if kind == "measurement" or measurement.command[0] == "R":
        return f"{address}{measurement.full_command}!"
    return " ".join(f"{address}D{number}!" for number in range(lines))
