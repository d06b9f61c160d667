"""The steps that errands to a station are made of: asking with patience, giving a command, restarting once.

An errand may be begun again after the gateway was cut off in the middle. What it must know then it has put down before,
by `Errand.note`; everything else it asks the station. So each command has its effect once: most because doing it again
changes nothing, a restart because it names the boot number that it is to end.

A command's end counts until its first lasting effect. From then on it is carried through: an update that has been
unpacked starts at the station's next power cycle anyway.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from edge_gateway.errors import JobExpired, JobFailed, LinkError, NotOurStation, StationRefused
from edge_gateway.line_jobs import Steps
from edge_gateway.station_link import StationLink
from edge_gateway.station_upkeep import CareResult, StationCommand, StationFacts

Answer = TypeVar("Answer")
Details = dict[str, Any]

PATIENCE_S = 60.0  # with a station that does not answer
RESTART_PATIENCE_S = 300.0
RETRY_MIN_S, RETRY_MAX_S = 0.5, 15.0
COMMAND_DEADLINE_S = 180.0  # unpacking an image on a slow board, with a margin
LOOK_EVERY_S = 0.25
BUSY = 6


@dataclass
class Errand:
    """What a job knows of its command. `remember` returns when it is on disk; `progress` is what was remembered."""

    station: str
    now: Callable[[], float]
    expires_at: float
    remember: Callable[[Mapping[str, object]], None] = lambda _progress: None
    progress: dict[str, Any] = field(default_factory=dict)

    def note(self, **progress: object) -> None:
        """Put down how far it is, durably, before the next step."""
        self.progress = self.progress | progress
        self.remember(self.progress)

    def check_time(self) -> None:
        """Raise JobExpired when the command's time is over."""
        if self.now() >= self.expires_at:
            raise JobExpired("expired before it had any effect")


def patiently(question: Callable[[], Answer], patience_s: float = PATIENCE_S) -> Steps[Answer]:
    """Ask until there is an answer. Raises StationRefused, NotOurStation, JobFailed after `patience_s` of silence."""
    gives_up_at, pause_s = time.monotonic() + patience_s, RETRY_MIN_S
    while True:
        try:
            answer = question()
        except (StationRefused, NotOurStation):
            raise
        except LinkError as error:
            if time.monotonic() > gives_up_at:
                raise JobFailed(f"no answer for {patience_s:.0f} s: {error}") from None
            yield pause_s
            pause_s = min(RETRY_MAX_S, 2 * pause_s)
            continue
        yield 0.0
        return answer


def identify(link: StationLink, address: int, station: str) -> Steps[None]:
    """Make sure who is at the address. Raises JobFailed."""
    found = yield from patiently(lambda: link.read_station_id(address))
    if found != station:
        raise JobFailed(f"address {address} answers as station {found!r}, not {station!r}; nothing was done")


def give(link: StationLink, address: int, command: StationCommand, argument: int) -> Steps[None]:
    """Have the station do something and wait until it has. Raises JobFailed with the station's own reason."""
    gives_up_at = time.monotonic() + COMMAND_DEADLINE_S
    asked = False
    while time.monotonic() < gives_up_at:
        if not asked:
            asked = yield from _ask_to(link, address, command, argument)
            continue
        care = yield from patiently(lambda: link.read_care(address))
        if (care.command, care.argument) != (command, argument):
            asked = False  # it restarted and has forgotten; the same command again is not done twice
        elif care.result == CareResult.DONE:
            return
        elif care.result != CareResult.WORKING:
            raise JobFailed(f"the station refuses: {_in_words(care.result)}", {"result": care.result})
        yield LOOK_EVERY_S
    raise JobFailed(f"the station has not finished within {COMMAND_DEADLINE_S:.0f} s")


def restart(link: StationLink, address: int, boot: int, patience_s: float = RESTART_PATIENCE_S) -> Steps[StationFacts]:
    """Restart a station that runs boot number `boot`, once, and return its facts after it. Raises JobFailed."""
    facts = yield from patiently(lambda: link.read_facts(address), patience_s)
    asked = False
    gives_up_at = time.monotonic() + patience_s
    while facts.boot == boot:
        if time.monotonic() > gives_up_at:
            raise JobFailed(f"the station has not restarted within {patience_s:.0f} s")
        if not asked:
            asked = yield from _ask_to(link, address, StationCommand.RESTART, boot)
        yield LOOK_EVERY_S
        facts = yield from patiently(lambda: link.read_facts(address), patience_s)
    return facts


def version_text(facts: StationFacts) -> str:
    """Return the version as people write it."""
    return ".".join(map(str, facts.version))


def _ask_to(link: StationLink, address: int, command: StationCommand, argument: int) -> Steps[bool]:
    """Give a command; return whether it was taken, False while the station is busy with another."""
    try:
        yield from patiently(lambda: link.command(address, command, argument))
    except StationRefused as refusal:
        if refusal.exception_code != BUSY:
            raise JobFailed(f"the station refuses the command: {refusal}") from None
        yield 1.0
        return False
    return True


def _in_words(result: int) -> str:
    try:
        return CareResult(result).in_words
    except ValueError:
        return f"result {result}"
