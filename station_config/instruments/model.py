"""The schema of an instrument's file."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import pydantic
from pydantic import model_validator

from station_config.parameters import load_parameters
from station_config.toml_config import Several, StrictModel

_U8 = Annotated[int, pydantic.Field(ge=0, le=0xFF)]
_U16 = Annotated[int, pydantic.Field(ge=0, le=0xFFFF)]
_U32 = Annotated[int, pydantic.Field(ge=0, le=0xFFFFFFFF)]
_Register = Annotated[int, pydantic.Field(ge=0, le=0xFFFF, alias="register")]
_Raw = Annotated[int, pydantic.Field(ge=-0x80000000, le=0xFFFFFFFF)]
_Milliseconds = Annotated[int, pydantic.Field(ge=0, le=3_600_000)]
_ShortMilliseconds = Annotated[int, pydantic.Field(ge=0, le=60_000)]  # a station waits this long between two questions


def check_address(address: object) -> int | str:
    """Return the address of an instrument: of Modbus a number, of SDI-12 a character. Raises ValueError."""
    if isinstance(address, int) and not isinstance(address, bool) and 1 <= address <= 247:
        return address
    if isinstance(address, str) and re.fullmatch("[0-9A-Za-z]", address):
        return address
    raise ValueError('of Modbus a number 1 to 247, of SDI-12 one character 0-9, A-Z, a-z in quotes, such as "0"')


BusAddress = Annotated[int | str, pydantic.PlainValidator(check_address)]

Type = Literal["u8", "u16", "i16", "u32", "i32", "f32"]
ByteOrder = Literal["AB", "BA", "ABCD", "BADC", "CDAB", "DCBA"]
Statistic = Literal["mean", "max", "min", "last", "direction"]

SIZES: dict[str, int] = {"u8": 1, "u16": 2, "i16": 2, "u32": 4, "i32": 4, "f32": 4}
_ORDERS: dict[int, tuple[ByteOrder, ...]] = {1: (), 2: ("AB", "BA"), 4: ("ABCD", "BADC", "CDAB", "DCBA")}
_STATISTIC_OF_KIND: dict[str, Statistic] = {
    "gauge": "mean",
    "health": "last",
    "counter": "last",
    "direction": "direction",
}


_OF_MODBUS = {"serial", "start", "stop", "wiper", "discovery", "service"}
_TIMING_OF_MODBUS = {"timeout_ms", "retries", "wake_ms", "boot_noise"}


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
    wake_ms: _ShortMilliseconds | None = None  # its first message only wakes it and is lost; ask again after this
    boot_noise: bool = False  # it sends text when powered on: let it finish (warmup_ms) before the first question


class Wait(StrictModel):
    """How long a started measurement takes: fixed, or read from the instrument."""

    fixed_ms: _ShortMilliseconds | None = None
    register_ms: _U16 | None = None  # a holding register with the milliseconds; more than 60 s is not believed
    factor: Annotated[float, pydantic.Field(ge=1.0, le=10.0)] = 1.0

    @model_validator(mode="after")
    def _one_of_two(self) -> Wait:
        if (self.fixed_ms is None) == (self.register_ms is None):
            raise ValueError("give fixed_ms or register_ms, one of them")
        if self.fixed_ms is not None and self.factor != 1.0:
            raise ValueError("factor belongs to register_ms; put the whole time into fixed_ms")
        return self


class Order(StrictModel):
    """An order to the instrument; no values at all is a write of zero registers, and a question may be an order."""

    fc: Literal[3, 6, 16]
    first_register: _Register
    values: Annotated[Several[_U16], pydantic.Field(max_length=16)] = ()
    count: Annotated[int, pydantic.Field(ge=0, le=125)] = 0  # for fc 3: how many registers the question asks for

    @model_validator(mode="after")
    def _fits_function(self) -> Order:
        if self.fc == 6 and len(self.values) != 1:
            raise ValueError("function 6 writes exactly one value")
        if self.fc == 3 and self.values:
            raise ValueError("function 3 reads: it takes count, not values")
        if self.fc != 3 and self.count:
            raise ValueError("count belongs to function 3; a write has as many registers as values")
        return self


class Start(Order):
    """The order that starts a measurement: once after power on, or before each sample."""

    each_sample: bool = False
    wait: Wait | None = None  # then nothing is read for this long


class Wiper(Order):
    """A brush that turns by itself: how to set it going besides, and how long nothing may be read meanwhile."""

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
    """A number beside the values that says whether they are valid: (raw & mask) must be one of `ok`.

    It speaks for the values of its own read, or for all of the instrument's.
    """

    at: _U8
    type: Literal["u8", "u16", "u32"]
    order: ByteOrder | None = None
    ok: Several[_U32]
    mask: _U32 = 0xFFFFFFFF
    scope: Literal["read", "instrument"] = "read"

    @model_validator(mode="after")
    def _order_fits(self) -> Status:
        _check_order(self.type, self.order)
        return self


class Quantity(StrictModel):
    """What one number of an answer is: which parameter, in which unit, and how it is taken over an interval."""

    parameter: str
    scale: float = 1.0
    offset: float = 0.0
    invalid: Several[_Raw] = ()  # codes that mean "no value", as the manual has them
    statistic: Statistic | None = None
    speed: str | None = None  # direction: weighted with this parameter of the same instrument
    compensation: Compensation | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Quantity:
        parameter = load_parameters().by_name.get(self.parameter)
        if parameter is None or parameter.kind not in _STATISTIC_OF_KIND:
            raise ValueError(f"{self.parameter!r} is no observed parameter of parameters.toml")
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


class Field(Quantity):
    """One value within a read: where it stands and how it is coded. Its codes for "no value" are bits or numbers."""

    at: _U8  # byte offset in the answer's data
    type: Type
    order: ByteOrder | None = None

    @model_validator(mode="after")
    def _order_fits(self) -> Field:
        _check_order(self.type, self.order)
        return self

    @property
    def effective_order(self) -> ByteOrder:
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
        if not self.fields and self.status is not None and self.status.scope == "read":
            raise ValueError('a status without fields beside it speaks for nobody: scope = "instrument"')
        return self


class Value(Quantity):
    """One of the values an SDI-12 measurement brings."""

    at: Annotated[int, pydantic.Field(ge=0, le=98)]  # which of them, from 0


class Measurement(StrictModel):
    """One SDI-12 measurement: its command behind the address, how many values it brings, and what they are."""

    command: Annotated[str, pydantic.Field(pattern="^([MC][1-9]?|R[0-9])$")]  # M, M1 … M9; C, C1 … C9; R0 … R9
    crc: bool = False  # ask for a CRC behind the values: MC, CC, RC0 and their kin (SDI-12 1.3)
    count: Annotated[int, pydantic.Field(ge=1, le=99)]  # how many values the sensor says it has
    fields: Annotated[Several[Value], pydantic.Field(min_length=1)]

    @model_validator(mode="after")
    def _everything_inside(self) -> Measurement:
        places = [field.at for field in self.fields]
        if max(places) >= self.count:
            raise ValueError(f"at = {max(places)}: the measurement brings values 0 to {self.count - 1}")
        if len(set(places)) < len(places):
            raise ValueError("one value is taken for two parameters")
        return self

    @property
    def full_command(self) -> str:
        """The command as it is sent, without address and exclamation mark."""
        return self.command[0] + ("C" if self.crc else "") + self.command[1:]


class Discovery(StrictModel):
    """How to ask an instrument for its address when it is alone on the line."""

    address: _U8  # the address it always answers to
    fc: Literal[3, 4]
    first_register: _Register


class Service(StrictModel):
    """A question or a setting for the technician at the bench; a station never uses it."""

    fc: Literal[3, 4, 6, 16]
    first_register: _Register
    count: Annotated[int, pydantic.Field(ge=0, le=125)] = 1
    type: Type | None = None  # how its numbers are coded; none: bytes, such as a serial number
    order: ByteOrder | None = None

    @model_validator(mode="after")
    def _order_fits(self) -> Service:
        if self.fc == 6 and self.count != 1:
            raise ValueError("function 6 writes one register")
        if self.type is None and self.order is not None:
            raise ValueError("order needs a type")
        if self.type is not None:
            _check_order(self.type, self.order)
        return self


class Instrument(StrictModel):
    """A model of instrument: its register map or its SDI-12 measurements, timing and quirks."""

    vendor: str
    model: str
    source: str  # the document or public source the map was seen in
    from_memory: Several[str]  # which facts of this file were not seen there; none: all were
    confirmed_on_device: bool  # somebody saw it work on a real one
    protocol: Literal["modbus", "sdi12"] = "modbus"
    default_address: BusAddress
    serial: SerialSettings = SerialSettings()  # of Modbus; SDI-12 has but one
    timing: Timing = Timing()
    start: Start | None = None
    stop: Order | None = None
    wiper: Wiper | None = None
    discovery: Discovery | None = None
    service: dict[str, Service] = pydantic.Field(default_factory=dict)
    reads: Annotated[Several[Read], pydantic.Field(max_length=16)] = ()  # of Modbus
    measurements: Annotated[Several[Measurement], pydantic.Field(max_length=8)] = ()  # of SDI-12

    @model_validator(mode="after")
    def _one_protocol(self) -> Instrument:
        if self.protocol == "modbus":
            if not self.reads or self.measurements:
                raise ValueError("a Modbus instrument has reads, and no measurements")
            if not isinstance(self.default_address, int):
                raise ValueError("default_address: of Modbus a number 1 to 247")
            return self
        if not self.measurements or self.reads:
            raise ValueError("an SDI-12 instrument has measurements, and no reads")
        if not isinstance(self.default_address, str):
            raise ValueError('default_address: of SDI-12 one character in quotes, such as "0"')  # noqa: TRY004
        foreign = _OF_MODBUS & self.model_fields_set
        foreign |= {f"timing.{name}" for name in _TIMING_OF_MODBUS & self.timing.model_fields_set}
        if foreign:
            raise ValueError(f"{', '.join(sorted(foreign))}: of Modbus only; SDI-12 has its own rules for it")
        return self

    @model_validator(mode="after")
    def _parameters_once(self) -> Instrument:
        names = self.parameters
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)}: a parameter may come from one field only")
        lost = [f.speed for f in self.quantities if f.speed and f.speed not in names]
        if lost:
            raise ValueError(f"speed = {lost[0]!r}: not a parameter of this instrument")
        if not names:
            raise ValueError("an instrument without fields measures nothing")
        return self

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """What it measures, in the order of its file, whatever its protocol."""
        of_modbus = tuple(field for read in self.reads for field in read.fields)
        return of_modbus or tuple(field for measurement in self.measurements for field in measurement.fields)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of what it measures, in the order of its file."""
        return tuple(field.parameter for field in self.quantities)

    @property
    def mark(self) -> Literal["verified", "partly from memory"]:
        """How sure the register map is: seen in its source as a whole, or not."""
        return "partly from memory" if self.from_memory else "verified"

    @property
    def compensation(self) -> Compensation | None:
        """How its conductivity is compensated; None when it measures none or the uncompensated one."""
        return next((field.compensation for field in self.quantities if field.compensation), None)


def _check_order(kind: str, order: str | None) -> None:
    allowed = _ORDERS[SIZES[kind]]
    if order is not None and order not in allowed:
        raise ValueError(f"order of {kind}: one of {', '.join(allowed)}" if allowed else f"{kind} has no byte order")
