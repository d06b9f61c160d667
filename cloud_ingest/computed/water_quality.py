"""The water quality index VN_WQI of hours, days, months: sub-indices of the means, and what they come to together.

It is partial as long as no station measures what the decision wants; every answer says so and names what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from cloud_ingest.aggregates import DIGITS
from cloud_ingest.columns import SeriesKey
from cloud_ingest.computed.answer import LEAST_PERCENT, Class, Computed, Question, Value, allow, lack, refuse
from cloud_ingest.errors import QuestionRefused
from cloud_ingest.local_time import By, end_of
from cloud_ingest.queries import Aggregate
from station_config.water_quality_index import (
    Index,
    index_in_force,
    load_indices,
    oxygen_saturation_of_the_decision,
)

NAME = "water_quality_index"
_OXYGEN = ("dissolved_oxygen", "dissolved_oxygen_computed")
_USES = {
    "ph": "mean",
    "ammonium_nitrogen": "mean",
    "water_temperature": "mean, for the decision's own per cent of saturation",
}


def water_quality_index(question: Question) -> Computed:
    """Return the partial index of each span that has any of its inputs. Raises QuestionRefused."""
    allow(question, NAME, By.HOUR, By.DAY, By.MONTH)
    index = _index(question)
    keys = _series(question)
    measured = _measured(keys)
    refuse(NAME, question.station.id, [] if measured & {"oxygen_saturation", "ammonium_nitrogen"} else [
        "dissolved_oxygen with water_temperature, or ammonium_nitrogen (group IV of the index)"
    ])  # fmt: skip
    confirmed = "" if index.confirmed else "; taken from a published table of the decision, not from its text"
    return Computed(
        station=question.station.id,
        quantity=NAME,
        unit="1",
        by=question.by,
        timezone=question.registry.zone.key,
        method="of the span's means: pH's sub-index times the mean of group IV's; groups not measured count as 100",
        source=f"{index.source}, in force from {index.effective_from}{confirmed}",
        demands=f"each input has {LEAST_PERCENT:g} % of the span's rows usable",
        inputs=tuple(
            question.input(key, _USES.get(name, "mean, as the decision's own per cent of saturation"))
            for name, key in keys.items()
        ),
        values=list(_values(question, index, keys)),
        partial=index.is_partial(measured),
        missing=index.missing(measured),
    )


def _index(question: Question) -> Index:
    first, last = (datetime.fromtimestamp(moment, question.registry.zone).date() for moment in question.whole)
    index = index_in_force(load_indices(), first)
    if index is None:
        raise QuestionRefused(f"no water quality index was in force on {first} that water_quality_index.toml knows")
    if index_in_force(load_indices(), last) != index:
        raise QuestionRefused(
            f"the water quality index changed between {first} and {last}: ask for each part by itself"
        )
    return index


def _series(question: Question) -> dict[str, SeriesKey]:
    """Return the series that serve: pH, ammonium, and oxygen where the same station knows the water's temperature."""
    found = {name: question.key(name) for name in ("ph", "ammonium_nitrogen")}
    oxygen = next((name for name in _OXYGEN if question.key(name)), None)
    if oxygen is not None and (key := question.key(oxygen)) is not None:
        temperature = question.key("water_temperature", key.sensor)
        found |= {oxygen: key, "water_temperature": temperature} if temperature else {}
    return {name: key for name, key in found.items() if key is not None}


def _measured(names: Mapping[str, object]) -> set[str]:
    """Return what of the index the inputs amount to."""
    measured = {name for name in ("ph", "ammonium_nitrogen") if name in names}
    return measured | ({"oxygen_saturation"} if any(name in names for name in _OXYGEN) else set())


def _values(question: Question, index: Index, keys: Mapping[str, SeriesKey]) -> Iterator[Value]:
    sums = {name: question.sums_of(key, question.by, question.whole) for name, key in keys.items()}
    for start in sorted(set().union(*sums.values())):
        spans = {name: one.get(start) for name, one in sums.items()}
        end = end_of(start, question.by, question.registry.zone)
        reasons = (lack(name, one, question.sums.now_s) for name, one in spans.items())
        reason = next((one for one in reasons if one is not None), None)
        yield Value(start, end, reason=reason) if reason else _judged(index, start, end, spans)


def _judged(index: Index, start: int, end: int, spans: Mapping[str, Aggregate | None]) -> Value:
    means = {name: one.mean for name, one in spans.items() if one is not None and one.mean is not None}
    scored: dict[str, float] = {name: means[name] for name in ("ph", "ammonium_nitrogen") if name in means}
    for name in _OXYGEN:
        if name in means:
            percent = oxygen_saturation_of_the_decision(means[name], means["water_temperature"])
            scored["oxygen_saturation"] = round(float(percent), DIGITS)
    partial = index.partial(scored)
    if partial is None:
        return Value(start, end, inputs=means, reason="group IV: no value")
    parts = {name: round(score, 1) for name, score in partial.sub_indices.items()}
    found = index.quality_class(partial.score)
    return Value(start, end, partial.score, parts, means | scored, Class(found.vi, found.en, found.colour))
