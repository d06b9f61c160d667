"""The vocabulary: every parameter a record may carry or the cloud derives, from parameters.toml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import Field, RootModel, model_validator

from station_config.toml_config import Fault, StrictModel, Table, load, repeated

COUNT_LIMIT = 4_000_000  # |count| stays below: a board has single floats, exact to 2^24
FIRST_DERIVED_CODE = 128

Kind = Literal["event", "health", "gauge", "direction", "counter", "derived"]


class _Row(StrictModel):
    code: int = Field(ge=1, le=255)
    kind: Kind
    unit: str | None = None
    decimals: int = Field(default=0, ge=0, le=6)
    valid_min: float | None = None
    valid_max: float | None = None
    cf: str | None = None
    vi: str = Field(min_length=1)
    en: str = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> _Row:
        if self.kind == "event":
            return self
        if self.unit is None or self.valid_min is None or self.valid_max is None:
            raise ValueError("unit, valid_min and valid_max are needed for everything that is measured")
        if not self.valid_min < self.valid_max:
            raise ValueError("valid_min must be below valid_max")
        if max(abs(self.valid_min), abs(self.valid_max)) * 10**self.decimals >= COUNT_LIMIT:
            raise ValueError(f"valid_min or valid_max times 10^decimals reaches {COUNT_LIMIT}: fewer decimals")
        return self


class Parameter(_Row):
    """One parameter: a record's count is its value in `unit` times 10^decimals, from valid_min to valid_max."""

    name: str

    def value(self, count: int) -> float:
        """Return the value in `unit` of a record's count (not the "no value" count)."""
        return count / 10.0**self.decimals


class Vocabulary:
    """All parameters, by name and by code."""

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self.by_name: Mapping[str, Parameter] = MappingProxyType(dict(parameters))
        self.by_code: Mapping[int, Parameter] = MappingProxyType({p.code: p for p in parameters.values()})

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.by_name.values())


class _Rows(RootModel[dict[str, _Row]]):
    pass


@cache
def load_parameters() -> Vocabulary:
    """Return the vocabulary of parameters.toml. Raises ConfigurationError."""
    return read_vocabulary(Path(__file__).with_name("parameters.toml"))


def read_vocabulary(path: Path) -> Vocabulary:
    """Return the vocabulary in a file. Raises ConfigurationError."""
    table = load(path, _Rows, check=_find_conflicts).root
    return Vocabulary({name: Parameter(name=name, **row.model_dump()) for name, row in table.items()})


def _find_conflicts(data: Table) -> Iterator[Fault]:
    tables = {name: row for name, row in data.items() if isinstance(row, dict)}
    yield from repeated((((name, "code"), row.get("code")) for name, row in tables.items()), "this code")
    for name, row in tables.items():
        code, kind = row.get("code"), row.get("kind")
        if isinstance(code, int) and (code < 16) != (kind == "event"):
            yield Fault((name, "code"), "codes 1 to 15 are events, and only they")
        elif isinstance(code, int) and (code >= FIRST_DERIVED_CODE) != (kind == "derived"):
            yield Fault((name, "code"), f"codes from {FIRST_DERIVED_CODE} are derived, and only they")
