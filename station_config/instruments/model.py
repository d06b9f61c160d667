"""The schema of an instrument's file."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import model_validator

from station_config.parameters import load_parameters
from station_config.toml_config import Several, StrictModel

_U8 = Annotated[int, pydantic.Field(ge=0, le=0xFF)]
_U16 = Annotated[int, pydantic.Field(ge=0, le=0xFFFF)]
_U32 = Annotated[int, pydantic.Field(ge=0, le=0xFFFFFFFF)]
_Register = Annotated[int, pydantic.Field(ge=0, le=0xFFFF, alias="register")]
_Milliseconds = Annotated[int, pydantic.Field(ge=0, le=3_600_000)]
_Address = Annotated[int, pydantic.Field(ge=1, le=247)]

Type = Literal["u8", "u16", "i16", "u32", "i32", "f32"]
Order = Literal["AB", "BA", "ABCD", "BADC", "CDAB", "DCBA"]
Statistic = Literal["mean", "max", "min", "last", "direction"]

SIZES: dict[str, int] = {"u8": 1, "u16": 2, "i16": 2, "u32": 4, "i32": 4, "f32": 4}
_ORDERS: dict[int, tuple[Order, ...]] = {1: (), 2: ("AB", "BA"), 4: ("ABCD", "BADC", "CDAB", "DCBA")}
_STATISTIC_OF_KIND: dict[str, Statistic] = {
    "gauge": "mean",
    "health": "last",
    "counter": "last",
    "direction": "direction",
}


class SerialSettings(StrictModel):
    """A line's settings; 9600 8N1 unless said otherwise."""

    baud: Literal[1200, 2400, 4800, 9600, 14400, 19200, 38400, 57600, 115200] = 9600
    bits: Literal[7, 8] = 8
    parity: Literal["N", "E", "O"] = "N"
    stop: Literal[1, 2] = 1

    def __str__(self) -> str:
        return f"{self.baud} {self.bits}{self.parity}{self.stop}"


class Timing(StrictModel):
    """When an instrument may be asked, and how long to wait for it."""

    warmup_ms: _Milliseconds = 0  # from power on (or start) to the first value worth keeping
    timeout_ms: Annotated[int, pydantic.Field(ge=20, le=10_000)] = 500
    retries: Annotated[int, pydantic.Field(ge=0, le=5)] = 1
    minimum_interval_ms: _Milliseconds = 0  # asked more often it answers with the same value, or not at all
    wake_ms: _Milliseconds | None = None  # its first message only wakes it and is lost; ask again after this
    boot_noise: bool = False  # it sends text when powered on: empty the receiver before the first question


class Wait(StrictModel):
    """How long a started measurement takes: fixed, or read from the instrument."""

    fixed_ms: _Milliseconds | None = None
    register_ms: _U16 | None = None  # a register that holds the milliseconds
    factor: Annotated[float, pydantic.Field(ge=1.0, le=10.0)] = 1.0

    @model_validator(mode="after")
    def _one_of_two(self) -> Wait:
        if (self.fixed_ms is None) == (self.register_ms is None):
            raise ValueError("give fixed_ms or register_ms, one of them")
        return self


class Start(StrictModel):
    """The command that starts a measurement; no values at all is a write of zero registers."""

    fc: Literal[3, 6, 16]
    first_register: _Register
    values: Several[_U16] = ()
    count: _U16 = 0  # for fc 3: how many registers the starting question asks for
    each_sample: bool = False  # otherwise once, after power on
    wait: Wait | None = None

    @model_validator(mode="after")
    def _fits_function(self) -> Start:
        if self.fc == 6 and len(self.values) != 1:
            raise ValueError("function 6 writes exactly one value")
        if self.fc == 3 and self.values:
            raise ValueError("function 3 reads: it takes count, not values")
        return self


class Wiper(StrictModel):
    """A brush: how to set it going, and how long nothing may be read meanwhile."""

    fc: Literal[6, 16]
    first_register: _Register
    values: Several[_U16] = ()
    busy_ms: _Milliseconds
    interval_register: _U16 | None = None
    interval_min: _U16 | None = None
    interval_lost_at_power_off: bool = False


class Compensation(StrictModel):
    """How the instrument brings conductivity to a reference temperature, which we undo to compute salinity."""

    kind: Literal["none", "linear", "nlf"]
    alpha: Annotated[float, pydantic.Field(ge=0.01, le=0.03)] | None = None  # 1/K
    reference_c: float = 25.0

    @model_validator(mode="after")
    def _alpha_of_linear(self) -> Compensation:
        if (self.kind == "linear") != (self.alpha is not None):
            raise ValueError('alpha belongs to kind = "linear", and only there')
        return self


class Status(StrictModel):
    """A number beside the values that says whether they are valid: (raw & mask) must be one of `ok`."""

    at: _U8
    type: Literal["u8", "u16", "u32"]
    order: Order | None = None
    ok: Several[_U32]
    mask: _U32 = 0xFFFFFFFF
    scope: Literal["read", "instrument"] = "read"

    @model_validator(mode="after")
    def _order_fits(self) -> Status:
        _check_order(self.type, self.order)
        return self


class Field(StrictModel):
    """One value within a read: where, how coded, and which parameter it is."""

    parameter: str
    at: _U8  # byte offset in the answer's data
    type: Type
    order: Order | None = None
    scale: float = 1.0
    offset: float = 0.0
    invalid: Several[_U32] = ()  # raw codes that mean "no value"; NaN always does
    statistic: Statistic | None = None
    speed: str | None = None  # direction: weighted with this parameter of the same instrument
    compensation: Compensation | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Field:
        parameter = load_parameters().by_name.get(self.parameter)
        if parameter is None or parameter.kind not in _STATISTIC_OF_KIND:
            raise ValueError(f"{self.parameter!r} is no observed parameter of parameters.toml")
        _check_order(self.type, self.order)
        if self.scale == 0.0:
            raise ValueError("scale 0 makes every value 0")
        if (self.parameter == "conductivity_25") != (
            self.compensation is not None and self.compensation.kind != "none"
        ):
            raise ValueError("conductivity_25 needs its compensation (linear or nlf), conductivity has none")
        if self.compensation is not None and self.compensation.reference_c != 25.0:
            raise ValueError("conductivity_25 is compensated to 25 °C, so reference_c is 25.0")
        if (parameter.kind == "direction") != (self.effective_statistic == "direction"):
            raise ValueError('statistic "direction" belongs to directions, and they to it')
        return self

    @property
    def effective_statistic(self) -> Statistic:
        """The statistic over the record interval: as given, else by the parameter's kind."""
        return self.statistic or _STATISTIC_OF_KIND[load_parameters().by_name[self.parameter].kind]

    @property
    def effective_order(self) -> Order:
        """The byte order: as given, else high byte first."""
        return self.order or ("ABCD" if SIZES[self.type] == 4 else "AB")


class Read(StrictModel):
    """One question to the instrument and what its answer holds."""

    fc: Literal[3, 4]
    first_register: _Register
    count: Annotated[int, pydantic.Field(ge=1, le=125)]
    status: Status | None = None
    fields: Several[Field] = ()

    @model_validator(mode="after")
    def _everything_inside(self) -> Read:
        parts: list[Field | Status] = [*self.fields, *([self.status] if self.status else [])]
        if not parts:
            raise ValueError("a read without fields and status asks for nothing")
        outside = [str(part.at) for part in parts if part.at + SIZES[part.type] > 2 * self.count]
        if outside:
            raise ValueError(
                f"at = {', '.join(outside)}: lies beyond the {2 * self.count} bytes of {self.count} registers"
            )
        return self


class Discovery(StrictModel):
    """How to ask an instrument for its address when it is alone on the line."""

    address: _U8  # the address it always answers to
    fc: Literal[3, 4]
    first_register: _Register


class Instrument(StrictModel):
    """A model of instrument: its register map, timing and quirks."""

    vendor: str
    model: str
    source: str  # where the map is from
    confirmed_on_device: bool  # somebody saw it work on a real one
    default_address: _Address
    serial: SerialSettings = SerialSettings()
    timing: Timing = Timing()
    start: Start | None = None
    stop: Start | None = None
    wiper: Wiper | None = None
    discovery: Discovery | None = None
    address_register: _U16 | None = None
    reads: Several[Read]

    @model_validator(mode="after")
    def _parameters_once(self) -> Instrument:
        names = self.parameters
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)}: a parameter may come from one field only")
        lost = [f.speed for r in self.reads for f in r.fields if f.speed and f.speed not in names]
        if lost:
            raise ValueError(f"speed = {lost[0]!r}: not a parameter of this instrument")
        if not names:
            raise ValueError("an instrument without fields measures nothing")
        return self

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of what it measures, in the order of its file."""
        return tuple(field.parameter for read in self.reads for field in read.fields)

    @property
    def compensation(self) -> Compensation | None:
        """How its conductivity is compensated; None when it measures none or the uncompensated one."""
        return next((f.compensation for r in self.reads for f in r.fields if f.compensation), None)


def _check_order(kind: str, order: str | None) -> None:
    allowed = _ORDERS[SIZES[kind]]
    if order is not None and order not in allowed:
        raise ValueError(f"order of {kind}: one of {', '.join(allowed)}" if allowed else f"{kind} has no byte order")
