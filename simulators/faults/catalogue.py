"""The kinds of faults there are, read from kinds.toml."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, model_validator

from simulators.errors import SimulatorError
from station_config.toml_config import Several, StrictModel, load

KINDS = Path(__file__).with_name("kinds.toml")
Scope = Literal["bus", "instrument", "board", "link", "gateway", "broker", "cloud", "people"]
SCOPES: tuple[Scope, ...] = get_args(Scope)


class FaultRefused(SimulatorError):
    """There is no such kind, parameter or target, or it cannot be done there; the text lists what there is."""


class Parameter(StrictModel):
    """One number a kind takes."""

    name: str
    unit: str
    lowest: float
    highest: float
    usual: float

    @model_validator(mode="after")
    def _in_order(self) -> Parameter:
        if not self.lowest <= self.usual <= self.highest:
            raise ValueError("lowest, usual, highest are not in this order")
        return self


class Kind(StrictModel):
    """One kind of fault. `no_hardware` says why real parts cannot have it; empty where they can."""

    scope: Scope
    name: str = Field(pattern=r"^[a-z]+(-[a-z]+)*$")
    what: str
    leaves: str
    hardware: str = ""
    no_hardware: str = ""
    parameters: Several[Parameter] = ()

    @model_validator(mode="after")
    def _says_which(self) -> Kind:
        if bool(self.hardware) == bool(self.no_hardware):
            raise ValueError("say either how hardware does it, or why it cannot")
        return self

    @property
    def id(self) -> str:
        """The kind's name everywhere: bus.noise."""
        return f"{self.scope}.{self.name}"

    def faults_of(self, given: Mapping[str, float]) -> Iterator[str]:
        """Yield in words what is wrong with these parameters."""
        known = {parameter.name: parameter for parameter in self.parameters}
        for name, value in given.items():
            if name not in known:
                yield f"{self.id} has no parameter {name!r}; it has {', '.join(known) or 'none'}"
            elif isinstance(value, bool) or not isinstance(value, (int, float)):
                yield f"{self.id}: {name} must be a number, not {value!r}"
            elif not known[name].lowest <= value <= known[name].highest:
                one = known[name]
                yield f"{self.id}: {name} must be {one.lowest:g} to {one.highest:g} {one.unit}, not {value:g}"

    def complete(self, given: Mapping[str, float]) -> dict[str, float]:
        """Return all parameters, the usual ones where none is given. Raises FaultRefused with every fault."""
        if faults := list(self.faults_of(given)):
            raise FaultRefused("; ".join(faults))
        return {parameter.name: float(given.get(parameter.name, parameter.usual)) for parameter in self.parameters}


class _Catalogue(StrictModel):
    kind: Several[Kind]


@functools.cache
def kinds() -> Mapping[str, Kind]:
    """Return all kinds by id, in the order of the file."""
    return {one.id: one for one in load(KINDS, _Catalogue).kind}


def kind(name: str) -> Kind:
    """Return the kind of this id. Raises FaultRefused that names those like it."""
    if name not in kinds():
        raise FaultRefused(f"no fault {name!r}; {like(name, kinds())}")
    return kinds()[name]


def like(name: str, known: Mapping[str, object]) -> str:
    """Return in words which of the known names are meant, or all of them."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"perhaps {' or '.join(close)}" if close else f"there are {', '.join(known)}"
