"""The computed quantities by name, and how one is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from cloud_ingest.columns import SeriesKey
from cloud_ingest.computed import evapotranspiration, rain_intensity, water_quality
from cloud_ingest.computed.answer import Compute, Computed, Question
from cloud_ingest.errors import QuestionRefused
from cloud_ingest.local_time import By
from cloud_ingest.queries import Sums


class Quantity(StrEnum):
    """What can be asked for."""

    EVAPOTRANSPIRATION = evapotranspiration.NAME
    RAIN_INTENSITY = rain_intensity.NAME
    WATER_QUALITY = water_quality.NAME


_COMPUTE: Mapping[Quantity, Compute] = {
    Quantity.EVAPOTRANSPIRATION: evapotranspiration.reference_evapotranspiration,
    Quantity.RAIN_INTENSITY: rain_intensity.rain_intensity_computed,
    Quantity.WATER_QUALITY: water_quality.water_quality_index,
}


def compute(
    sums: Sums,
    numbers: Mapping[SeriesKey, int],
    station: str,
    quantity: Quantity,
    by: By,
    span: tuple[int, int],
    *,
    suspect: bool = False,
) -> Computed:
    """Return a computed quantity of a station of the network. Raises QuestionRefused."""
    known = sums.registry.stations.get(station)
    if known is None:
        raise QuestionRefused(f"no station {station!r} in the network, so nothing is known of where it stands")
    return _COMPUTE[quantity](Question(sums, sums.registry, numbers, known, by, span, suspect))
