"""A computed quantity as rows of CSV and as plain data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from cloud_ingest.computed.answer import Computed
from cloud_ingest.csv_answers import Row, times
from cloud_ingest.registry import Registry


def computed_rows(answer: Computed, registry: Registry) -> Iterable[Row]:
    """Yield a heading and a row for each span; every row of a partial one says so, for rows get copied about."""
    parts = _names(one.parts for one in answer.values)
    inputs = _names(one.inputs for one in answer.values)
    classed = any(one.quality_class for one in answer.values)
    yield [
        *("start_local", "start_utc", "end_local", "end_utc", f"value [{answer.unit}]"),
        *(*parts, *(f"input {name}" for name in inputs)),
        *(("class_vi", "class_en") if classed else ()),
        *(("partial", "source") if answer.partial else ()),
        "reason",
    ]
    for one in answer.values:
        of_class = one.quality_class
        yield [
            *(*times(one.start, registry.zone), *times(one.end, registry.zone), one.value),
            *(*(one.parts.get(name) for name in parts), *(one.inputs.get(name) for name in inputs)),
            *(((of_class.vi, of_class.en) if of_class else (None, None)) if classed else ()),
            *((partial_note(answer), answer.source) if answer.partial else ()),
            one.reason,
        ]


def partial_note(answer: Computed) -> str:
    """Return what is missing, in words."""
    missing = "; ".join(f"{group}: {', '.join(names)}" for group, names in answer.missing.items())
    return f"partial, without {missing}"


def as_data(answer: Computed) -> dict[str, object]:
    """Return the answer as JSON has it."""
    data = asdict(answer)
    data["inputs"] = [one._asdict() for one in answer.inputs]
    for row, one in zip(data["values"], answer.values, strict=True):
        row["quality_class"] = one.quality_class._asdict() if one.quality_class else None
    return data


def _names(rows: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(name for one in rows for name in one))
