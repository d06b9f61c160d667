"""Calibration as a layer: what an instrument said is kept for ever, and records of calibration say what it meant.

    value = c0 + c1 x + c2 x² + …        from `valid_from` until `valid_to`, where it has one
    value = (1 - w) p(x) + w q(x)        a drift found at a visit, prorated in time: w grows from 0 at the last good
                                         service to 1 at the visit (USGS Techniques and Methods 1-D3)

Of the records in force at a time the one that began last counts; of two that began together the one entered later.
Pure: the same records and values give the same results at ingest, in a recompute and on a technician's laptop. `as_of`
leaves out what was entered after that date.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from station_config.toml_config import Several, StrictModel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Times = npt.NDArray[np.int64]
    Values = npt.NDArray[np.float64]

Time = Annotated[int, Field(ge=0, le=0xFFFFFFFF)]  # a record can have no other
Coefficient = Annotated[float, Field(ge=-1e12, le=1e12)]  # beyond, a value would not be a number any more
Coefficients = Annotated[Several[Coefficient], Field(min_length=1, max_length=6)]


class Calibration(StrictModel):
    """One record. Coefficients from the constant up, in the parameter's unit: [offset, gain] is a straight line.

    Times are unix seconds UTC. `drift_to` are the coefficients at `valid_to`, where a drift was found.
    """

    id: int = Field(ge=1, le=1 << 53)
    station: str
    sensor: int = Field(ge=0, le=255)
    parameter: str
    valid_from: Time
    valid_to: Time | None = None
    coefficients: Coefficients
    drift_to: Coefficients | None = None
    entered_at: Time
    entered_by: str = Field(min_length=1)
    withdrawn_at: Time | None = None
    note: str = ""

    @model_validator(mode="after")
    def _whole(self) -> Calibration:
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be after valid_from")
        if self.drift_to is not None and self.valid_to is None:
            raise ValueError("a drift is prorated until valid_to: give it")
        return self


@dataclass(frozen=True)
class Applied:
    """Calibrated values, and the id of the record that made each (0: none was in force, the value is as it was)."""

    values: Values
    calibrations: npt.NDArray[np.int64]


def in_order(records: Iterable[Calibration], as_of: int | None = None) -> list[Calibration]:
    """Return the records of one series as they take over from each other; `as_of`: as known at that time."""
    known = (record for record in records if _is_known(record, as_of))
    return sorted(known, key=lambda record: (record.valid_from, record.entered_at, record.id))


def _is_known(record: Calibration, as_of: int | None) -> bool:
    if as_of is None:
        return record.withdrawn_at is None
    return record.entered_at <= as_of and (record.withdrawn_at is None or record.withdrawn_at > as_of)


def apply(records: Sequence[Calibration], times: Times, values: Values) -> Applied:
    """Return the calibrated values of one series; `records` as `in_order` gives them. NaN stays NaN."""
    import numpy as np

    result, ids = values.astype(np.float64), np.zeros(len(values), np.int64)
    for record in records:
        inside = times >= record.valid_from
        if record.valid_to is not None:
            inside &= times < record.valid_to
        if inside.any():
            result[inside] = _corrected(record, times[inside], values[inside])
            ids[inside] = record.id
    return Applied(result, ids)


def _corrected(record: Calibration, times: Times, values: Values) -> Values:
    import numpy as np

    begin: Values = np.polynomial.polynomial.polyval(values, np.array(record.coefficients))
    if record.drift_to is None or record.valid_to is None:
        return begin
    end: Values = np.polynomial.polynomial.polyval(values, np.array(record.drift_to))
    weight = (times - record.valid_from) / (record.valid_to - record.valid_from)
    drifted: Values = begin + weight * (end - begin)
    return drifted
