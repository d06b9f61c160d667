"""A bench for somebody's own instruments: their files, the values they shall show, one station that has them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from station_config.instruments import FOLDER_VARIABLE, load_instruments

STATION, GATEWAY = "bench", "gw-go-cong"
_NETWORK = """name = "Bench"
timezone = "Asia/Ho_Chi_Minh"

[[gateways]]
id = "gw-go-cong"

[[gateways]]
id = "gw-earlier"

[[stations]]
id = "bench"
name_vi = "Bàn thử"
name_en = "Bench"
latitude = 10.2903
longitude = 106.5924
river = "Cửa Tiểu"
river_km = 20.0
gateway = "gw-go-cong"
address = 11
sample_interval_s = 20
record_interval_s = 60
"""


@dataclass(frozen=True)
class OwnInstrument:
    """An instrument by its file (see station_config/README.md), its address on the Modbus line, what it shall show."""

    file: Path
    address: int
    shows: Mapping[str, float]


def write_network(path: Path, instruments: Sequence[OwnInstrument]) -> None:
    """Write the network of one station with these instruments, numbered from 1."""
    text = _NETWORK
    for number, one in enumerate(instruments, 1):
        text += f'\n[[stations.sensors]]\nnumber = {number}\ninstrument = "{one.file.stem}"\naddress = {one.address}\n'
    path.write_text(text, encoding="utf-8")


def shown(instruments: Sequence[OwnInstrument]) -> tuple[dict[str, Any], ...]:
    """Return them as `tram-sim world` reads them."""
    return tuple(
        {"sensor": number, "model": one.file.stem, "address": one.address, "values": dict(one.shows)}
        for number, one in enumerate(instruments, 1)
    )


@contextmanager
def known(instruments: Sequence[OwnInstrument], folder: Path) -> Iterator[None]:
    """Let all programs of a bench know these instruments, which are copied into the folder."""
    if not instruments:
        yield
        return
    folder.mkdir(parents=True)
    for one in instruments:
        shutil.copyfile(one.file, folder / one.file.name)
    before = os.environ.get(FOLDER_VARIABLE)
    os.environ[FOLDER_VARIABLE] = str(folder)
    load_instruments.cache_clear()
    try:
        yield
    finally:
        if before is None:
            del os.environ[FOLDER_VARIABLE]
        else:
            os.environ[FOLDER_VARIABLE] = before
        load_instruments.cache_clear()
