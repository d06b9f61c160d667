"""Runs a script on a bench: injects what is due, watches, takes the account, and hands over what happened."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from simulators.faults.parts import Happened, Injector, Parts
from simulators.timeline.script import Script
from simulators.timeline.verdict import Account, Message, RunLog, Value

POLL_S = 0.1
LOOK_S = 0.5
GRACE_S = 1.0  # of the wall

Report = Callable[[str], None]


class Rig(Protocol):
    """A bench as a timeline sees it. Moments are unix seconds of the bench's clock."""

    parts: Parts
    speed: float

    def now(self) -> float:
        """Return the bench's time."""

    def wait_for_first_record(self) -> None:
        """Return when every station has a record in the store. Raises BenchError."""

    def messages(self) -> Sequence[Message]:
        """Return all texts that reached a telephone, `at_s` in bench time."""

    def values(self, station: str, parameter: str, first: float, last: float) -> Sequence[Value]:
        """Return stored values with the truth where it is known, `at_s` in bench time."""

    def accounts(self) -> Sequence[Account]:
        """Read every journal from its board, give the chain time to store it, and compare."""


def drive(script: Script, rig: Rig, report: Report = lambda _: None) -> RunLog:
    """Run a script and return what happened, in field seconds from the first record on. Raises SimulatorError."""
    rig.wait_for_first_record()
    run = _Run(script, rig, report)
    run.until_the_end()
    return run.log()


class _Run:
    def __init__(self, script: Script, rig: Rig, report: Report) -> None:
        self._script, self._rig, self._report = script, rig, report
        self._began = rig.now()
        self._last = 0.0
        self._before = len(rig.messages())
        self._told = self._before
        self._injector = Injector(rig.parts, script.plan, self._tell, GRACE_S * rig.speed)

    def _tell(self, happened: Happened) -> None:
        self._report(str(happened))

    def elapsed_s(self) -> float:
        """Return field seconds since the beginning."""
        self._last = self._rig.now() - self._began
        return self._last

    def until_the_end(self) -> None:
        """Do what is due until the end, and heal what is in force then."""
        pause, looked = threading.Event(), 0
        try:
            while self.elapsed_s() < self._script.end_s:
                self._injector.tick(self.elapsed_s())
                looked += 1
                if looked % round(LOOK_S / POLL_S) == 0:
                    self._tell_messages()
                pause.wait(POLL_S)
            self._injector.tick(self._script.end_s)
        finally:
            self._injector.heal_all(self._last)
        self._tell_messages()

    def _tell_messages(self) -> None:
        messages = self._rig.messages()
        for one in messages[self._told :]:
            self._report(f"{one.at_s - self._began:7.1f} s  SMS to {one.to}: {one.text}")
        self._told = len(messages)

    def log(self) -> RunLog:
        """Take the account and gather all that was looked at."""
        seconds = self.elapsed_s()
        self._report(f"{seconds:7.1f} s  the account is taken")
        accounts = tuple(self._rig.accounts())
        messages = tuple(self._since(one) for one in self._rig.messages()[self._before :])
        values = tuple(
            value for station, parameter in self._script.values for value in self._values(station, parameter)
        )
        return RunLog(tuple(self._injector.log), messages, values, accounts, seconds)

    def _since(self, one: Message) -> Message:
        return Message(one.at_s - self._began, one.to, one.text)

    def _values(self, station: str, parameter: str) -> list[Value]:
        found = self._rig.values(station, parameter, self._began, self._began + self._script.end_s)
        return [
            Value(one.at_s - self._began, one.station, one.parameter, one.value, one.flag, one.truth) for one in found
        ]
