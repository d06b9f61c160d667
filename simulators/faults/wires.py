"""Faults of what carries bytes and of what stands at its ends: bus, instruments, link, telephones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from simulators import control
from simulators.errors import SimulatorError
from simulators.faults.parts import Begin, Heal
from simulators.link import Link

SetFault = Callable[[str, bool | float], None]
_CHANCES = {"noise": "noise", "drop": "drop", "damage": "corrupt", "double": "double", "wrong-slave": "wrong_slave"}
_SWITCHES = ("echo", "stuck", "cut")
_INSTRUMENT = {
    "silent": None, "drift": "rate", "stuck": None, "fouling": "rate", "dry": None, "restart": None,
    "wiper-parked-wrong": "turns",
}  # fmt: skip  # the kind's name is the instrument's; the parameter that says how much
_ANSWER_S = 5.0


@dataclass(frozen=True)
class Bus:
    """An RS-485 line. `set_fault` is Lines.set_fault of that line, or changes the faults of a line of one's own."""

    set_fault: SetFault

    def faults(self) -> Mapping[str, Begin]:
        """Return how each begins."""
        chances = {name: self._by("chance", field) for name, field in _CHANCES.items()}
        switches: dict[str, Begin] = {name: self._switch(name) for name in _SWITCHES}
        return {**chances, **switches, "delay": self._by("delay", "delay_ms")}

    def _by(self, parameter: str, field: str) -> Begin:
        return lambda given: self._set(field, given[parameter])

    def _switch(self, field: str) -> Begin:
        return lambda _: self._set(field, True)

    def _set(self, field: str, value: bool | float) -> Heal:
        self.set_fault(field, value)
        return lambda: self.set_fault(field, False)


@dataclass(frozen=True)
class InstrumentPart:
    """One instrument of a running `tram-sim world`."""

    world: Path
    station: str
    sensor: int

    def faults(self) -> Mapping[str, Begin]:
        """Return how each begins; the instrument itself refuses what it cannot have."""
        return {name: self._begin(name, parameter) for name, parameter in _INSTRUMENT.items()}

    def _begin(self, fault: str, parameter: str | None) -> Begin:
        def begin(given: Mapping[str, float]) -> Heal:
            self._ask(fault, True, given[parameter] if parameter else 0.0)
            return lambda: self._ask(fault, False, 0.0)

        return begin

    def _ask(self, fault: str, on: bool, amount: float) -> None:
        asked = {"station": self.station, "sensor": self.sensor, "fault": fault, "on": on, "amount": amount}
        control.ask(self.world, asked)


@dataclass(frozen=True)
class LinkPart:
    """A running `tram-sim link`, between a gateway and its broker."""

    link: Link

    def faults(self) -> Mapping[str, Begin]:
        """Return how each begins."""
        return {"cut": self._cut, "lost-route": self._lost_route, "bit-errors": self._errors, "latency": self._latency}

    def _cut(self, _: Mapping[str, float]) -> Heal:
        self.link.cut(True)
        return lambda: self.link.cut(False)

    def _lost_route(self, _: Mapping[str, float]) -> Heal:
        self.link.blackhole(True)
        return lambda: self.link.blackhole(False)

    def _errors(self, given: Mapping[str, float]) -> Heal:
        self.link.bit_errors(given["rate"])
        return lambda: self.link.bit_errors(0.0)

    def _latency(self, given: Mapping[str, float]) -> Heal:
        self.link.delay(given["delay"])
        return lambda: self.link.delay(0.0)


class Channel(Protocol):
    """What takes messages to people, from outside: a provider over HTTP, a modem on a serial port."""

    def set(self, faults: Mapping[str, Any]) -> None:
        """Let these be the faults from now on."""


@dataclass(frozen=True)
class ProviderChannel:
    """A running `tram-sim phone`: the provider's HTTP interface."""

    url: str

    def set(self, faults: Mapping[str, Any]) -> None:
        """Let these be the faults from now on. Raises SimulatorError when the phone does not take them."""
        try:
            httpx.post(f"{self.url}/faults", json=dict(faults), timeout=_ANSWER_S).raise_for_status()
        except httpx.HTTPError as error:
            raise SimulatorError(f"{self.url}: the telephone does not take faults: {error}") from error


@dataclass(frozen=True)
class ModemChannel:
    """A running `tram-sim modem`."""

    socket: Path

    def set(self, faults: Mapping[str, Any]) -> None:
        """Let these be the faults from now on. Raises ControlError."""
        control.ask(self.socket, {"refuse": 0, "silence": 0, **faults})


@dataclass(frozen=True)
class PeoplePart:
    """A channel to people. Its faults count messages: what has not met one when the fault ends is forgiven."""

    channel: Channel

    def faults(self) -> Mapping[str, Begin]:
        """Return how each begins; a modem has no way to deliver and say it failed."""
        names = {"refuse": "refuse", "timeout": "silence"}
        if not isinstance(self.channel, ModemChannel):
            names["duplicate"] = "lie"
        return {name: self._begin(field) for name, field in names.items()}

    def _begin(self, field: str) -> Begin:
        def begin(given: Mapping[str, float]) -> Heal:
            self.channel.set({field: int(given["messages"])})
            return lambda: self.channel.set({})

        return begin
