"""The instruments we know: one TOML file each, read into an `Instrument`.

Registers are wire addresses counted from 0 (a manual's "40001" is 0). A field's value in its parameter's unit is
raw * scale + offset. The schema holds what documented instruments were seen to need, and a station's firmware does all
of it but what is marked as the technician's (service, discovery, stop).
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from types import MappingProxyType

from station_config.errors import ConfigurationError
from station_config.instruments.model import (
    Compensation,
    Field,
    Instrument,
    Measurement,
    Order,
    Quantity,
    Read,
    SerialSettings,
    Service,
    Start,
    Status,
    Value,
    Wait,
    Wiper,
)
from station_config.toml_config import load

__all__ = [
    "Compensation",
    "Field",
    "Instrument",
    "Measurement",
    "Order",
    "Quantity",
    "Read",
    "SerialSettings",
    "Service",
    "Start",
    "Status",
    "Value",
    "Wait",
    "Wiper",
    "load_instruments",
    "read_instruments",
]


FOLDER_VARIABLE = "TRAM_INSTRUMENTS"


@cache
def load_instruments() -> MappingProxyType[str, Instrument]:
    """Return the shipped instruments by id, the name of their file, and those of the folder TRAM_INSTRUMENTS names.

    Raises ConfigurationError, also when one of the folder's has the id of a shipped one.
    """
    shipped = read_instruments(Path(__file__).parent)
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder and not Path(folder).is_dir():
        raise ConfigurationError(
            f"{FOLDER_VARIABLE}={folder}: no such folder; name one with instrument files, or unset it"
        )
    own = read_instruments(Path(folder)) if folder else {}
    if twice := sorted(shipped.keys() & own.keys()):
        raise ConfigurationError(f"{folder}: {', '.join(twice)}: shipped under this name already; give it another")
    return MappingProxyType(shipped | own)


def read_instruments(folder: Path) -> dict[str, Instrument]:
    """Return the instruments of a folder by id. Raises ConfigurationError with the faults of all its files."""
    instruments, faults = {}, []
    for path in sorted(folder.glob("*.toml")):
        try:
            instruments[path.stem] = load(path, Instrument)
        except ConfigurationError as error:
            faults.append(str(error))
    if faults:
        raise ConfigurationError("\n".join(faults))
    return instruments
