"""Which quality tests each parameter gets: the defaults of quality.toml, and what a station says instead.

The tests themselves are the cloud's (cloud_ingest.qartod); here are their thresholds, checked and typed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, RootModel, model_validator

from station_config.parameters import load_parameters
from station_config.toml_config import Fault, Several, StrictModel, Table, load

Bounds = Annotated[tuple[float, float], Field(strict=False)]


class Thresholds(StrictModel):
    """Two levels of one measure; strictly above counts. At least one is given, suspect below fail."""

    suspect: float | None = Field(default=None, gt=0)
    fail: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> Thresholds:
        if self.suspect is None and self.fail is None:
            raise ValueError("give suspect, fail or both")
        if self.suspect is not None and self.fail is not None and not self.suspect < self.fail:
            raise ValueError("suspect must be below fail")
        return self


class Step(Thresholds):
    """The largest believable change within `within_s`."""

    within_s: float = Field(gt=0)


class FlatLine(StrictModel):
    """How long a signal may stay within `tolerance`; only judged where its values lie above/below these."""

    tolerance: float = Field(gt=0)
    suspect_s: float | None = Field(default=None, gt=0)
    fail_s: float | None = Field(default=None, gt=0)
    above: float | None = None
    below: float | None = None


class Attenuated(StrictModel):
    """The least life a signal has over `period_s`, as its range."""

    period_s: float = Field(gt=0)
    suspect: float | None = Field(default=None, gt=0)
    fail: float | None = Field(default=None, gt=0)


class GrossRange(StrictModel):
    """Narrower than the vocabulary's limits."""

    suspect: Bounds | None = None
    fail: Bounds | None = None


class Season(StrictModel):
    """Months (1..12, local calendar) and what is usual (suspect outside) and possible (fail outside) in them."""

    months: Several[int]
    suspect: Bounds | None = None
    fail: Bounds | None = None


class LevelShift(StrictModel):
    """How far the mean of a tidal day may be from the month before it, and for how long (a storm surge passes)."""

    suspect: float = Field(gt=0)
    lasting_s: float = Field(gt=0)


class WideSpike(Thresholds):
    """How far a value may be from the median of `within_s` before and after it."""

    within_s: float = Field(gt=0, le=3600)  # what comes later than that no longer has a review soon after ingest


class Noise(StrictModel):
    """From which difference between neighbours a signal without any connection between them is noise."""

    suspect: float = Field(gt=0)


class Stillness(StrictModel):
    """A signal that usually moves by `steps` of its resolution within `period_s` must not stand still as long."""

    period_s: float = Field(gt=0)
    steps: float = Field(ge=3)


class VisitStep(StrictModel):
    """What may change over a visit and back again at the end of the time that it began: `pair`, at both ends."""

    pair: float = Field(gt=0)


class VisitDrift(StrictModel):
    """What a sensor may have been off by the measure of the next visit: `beyond`, or `share` of the right value.

    A share counts where the right value is more than `above`.
    """

    beyond: float | None = Field(default=None, gt=0)
    share: float | None = Field(default=None, gt=0)
    above: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _one_of_them(self) -> VisitDrift:
        if self.beyond is None and self.share is None:
            raise ValueError("give beyond, share or both")
        return self


class VisitFouling(StrictModel):
    """By how much the lowest values of a tidal day may fall over a visit, for a window that was cleaned."""

    least: float = Field(gt=0)


class ParameterTests(StrictModel):
    """The tests of one parameter; None: not made."""

    gross_range: GrossRange | None = None
    climatology: Several[Season] = ()
    spike: Thresholds | None = None
    rate_of_change: Step | None = None
    flat_line: FlatLine | None = None
    attenuated: Attenuated | None = None
    level_shift: LevelShift | None = None
    visit_step: VisitStep | None = None
    visit_drift: VisitDrift | None = None
    visit_fouling: VisitFouling | None = None
    wide_spike: WideSpike | None = None
    noise: Noise | None = None
    stillness: Stillness | None = None
    gap_s: float | None = Field(default=None, gt=0)
    needs: Several[str] = ()
    doubts: Several[str] = ()
    in_water: bool = False

    def changed(self, other: ParameterTests) -> ParameterTests:
        """Return these tests with those that `other` names in their place."""
        return self.model_copy(update={name: getattr(other, name) for name in other.model_fields_set})


class _Tests(RootModel[dict[str, ParameterTests]]):
    pass


NO_TESTS = ParameterTests()


@cache
def default_tests() -> Mapping[str, ParameterTests]:
    """Return the defaults by parameter name. Raises ConfigurationError."""
    return read_tests(Path(__file__).with_name("quality.toml"))


def read_tests(path: Path) -> Mapping[str, ParameterTests]:
    """Return the tests of a file by parameter name. Raises ConfigurationError with every fault."""
    return load(path, _Tests, check=_unknown).root


def configured_tests(parameter: str, own: Mapping[str, ParameterTests]) -> ParameterTests:
    """Return the tests of a parameter: the defaults, changed by what a station says of its own."""
    default = default_tests().get(parameter, NO_TESTS)
    return default.changed(own[parameter]) if parameter in own else default


def _unknown(data: Table) -> Iterator[Fault]:
    names = load_parameters().by_name
    for name, row in data.items():
        if name not in names:
            yield Fault((name,), "no parameter of this name in parameters.toml")
        for others in ("needs", "doubts"):
            listed = row.get(others) if isinstance(row, dict) else None
            for other in listed if isinstance(listed, list) else ():
                if isinstance(other, str) and other not in names:
                    yield Fault((name, others), f"no parameter {other!r} in parameters.toml")
