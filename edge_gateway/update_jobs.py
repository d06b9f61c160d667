"""A new configuration or a new firmware for a station: staged, applied, started, and waited for until it has proved
itself or was given up (firmware/README.md, Updates).

The polling goes on meanwhile, and has to: the proof is that the gateway stored records which the new one sent.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_gateway.errands import Details, Errand, give, identify, patiently, restart, version_text
from edge_gateway.errors import JobFailed, LinkError
from edge_gateway.line_jobs import Steps
from edge_gateway.station_files import read_station_file, send_station_file
from edge_gateway.station_link import StationLink
from edge_gateway.station_upkeep import (
    CareResult,
    StationCommand,
    StationFacts,
    StationFile,
    configuration_hash,
    file_argument,
)

OUTCOME_PATIENCE_S = 2400.0  # a trial lasts 15 minutes, in which a station may be out of reach; it has three starts
LOOK_AT_TRIAL_EVERY_S = 2.0
LOG_LINES_TOLD = 5
_IMAGE_HEAD = struct.Struct("<4sHB3B")  # magic, length of the header, bytecode, version (station_config/image.py)


@dataclass(frozen=True)
class Update:
    """What is to be put on a station, and how it shows that it runs."""

    file: StationFile
    command: StationCommand
    data: bytes
    wanted: str
    is_in_force: Callable[[StationFacts], bool]


def configuration_update(content: bytes) -> Update:
    """Return the update of a station.json."""
    wanted = configuration_hash(content)
    return Update(
        StationFile.CONFIGURATION,
        StationCommand.APPLY_CONFIGURATION,
        content,
        f"configuration {wanted}",
        lambda facts: facts.configuration_hash == wanted,
    )


def firmware_update(image: bytes) -> Update:
    """Return the update of a firmware image. Raises JobFailed when it is none; the board checks all of it."""
    if len(image) < _IMAGE_HEAD.size or image[:4] != b"TRF1":
        raise JobFailed("this is no firmware image; tram-station image makes one")
    version = _IMAGE_HEAD.unpack_from(image)[3:]
    return Update(
        StationFile.FIRMWARE,
        StationCommand.APPLY_UPDATE,
        image,
        f"firmware {'.'.join(map(str, version))}",
        lambda facts: facts.version == version,
    )


def update(link: StationLink, address: int, errand: Errand, what: Update) -> Steps[Details]:
    """Put it on the station and return what was there before and after, and how long it took.

    Raises JobFailed with the station's reason when it refuses it or goes back to what it had.
    """
    yield from identify(link, address, errand.station)
    facts = yield from patiently(lambda: link.read_facts(address))
    if "boot" not in errand.progress:
        care = yield from patiently(lambda: link.read_care(address))
        if what.is_in_force(facts) and not care.trial:
            return {"before": errand.progress.get("before", _shown(facts)), "after": _shown(facts), "already": True}
    if "before" not in errand.progress:
        errand.check_time()
        errand.note(before=_shown(facts), began_at=errand.now())
    if "boot" not in errand.progress:
        yield from _apply(link, address, errand, what)
    facts = yield from restart(link, address, int(errand.progress["boot"]), OUTCOME_PATIENCE_S)
    yield from _await_end_of_trial(link, address)
    facts = yield from patiently(lambda: link.read_facts(address), OUTCOME_PATIENCE_S)
    told = {
        "before": errand.progress["before"],
        "after": _shown(facts),
        "bytes": len(what.data),
        "sending_s": errand.progress.get("sending_s"),
        "took_s": round(errand.now() - float(errand.progress["began_at"]), 1),
    }
    if not what.is_in_force(facts):
        told["log"] = yield from _last_words(link, address)
        raise JobFailed(f"the station has gone back: {what.wanted} did not prove itself", told)
    return told


def _apply(link: StationLink, address: int, errand: Errand, what: Update) -> Steps[None]:
    """Get it staged and applied, and put down which boot is to end with the restart."""
    if "applying" not in errand.progress or not (yield from _has_arrived(link, address, what)):
        yield from _await_end_of_trial(link, address)  # of somebody else's update
        began_at = errand.now()
        yield from send_station_file(link, address, what.file, what.data, errand)
        errand.check_time()
        facts = yield from patiently(lambda: link.read_facts(address))
        errand.note(applying=facts.boot, sending_s=round(errand.now() - began_at, 1))
        try:
            yield from give(link, address, what.command, file_argument(what.data))
        except JobFailed as failure:
            yield from _forget(link, address, what.file)
            raise JobFailed(str(failure), {**failure.details, "before": errand.progress["before"]}) from None
    errand.note(boot=errand.progress["applying"])


def _has_arrived(link: StationLink, address: int, what: Update) -> Steps[bool]:
    """Return whether the station took it before this gateway was cut off; what it was still working on is waited for.

    A station forgets the command with a restart, which it may have made by itself: then it runs the new one.
    """
    care = yield from patiently(lambda: link.read_care(address))
    if (care.command, care.argument) != (what.command, file_argument(what.data)):
        facts = yield from patiently(lambda: link.read_facts(address))
        return what.is_in_force(facts)
    if care.result not in (CareResult.DONE, CareResult.WORKING):
        return False
    yield from give(link, address, what.command, file_argument(what.data))
    return True


def _await_end_of_trial(link: StationLink, address: int) -> Steps[None]:
    gives_up_at = time.monotonic() + OUTCOME_PATIENCE_S
    while (yield from patiently(lambda: link.read_care(address), OUTCOME_PATIENCE_S)).trial:
        if time.monotonic() > gives_up_at:
            raise JobFailed(f"the station's trial has not ended within {OUTCOME_PATIENCE_S:.0f} s")
        yield LOOK_AT_TRIAL_EVERY_S


def _forget(link: StationLink, address: int, file: StationFile) -> Steps[None]:
    """Give the station its flash back. That it cannot be done changes nothing: the next file takes its place."""
    try:
        yield from give(link, address, StationCommand.FORGET, file)
    except (JobFailed, LinkError):
        return


def _last_words(link: StationLink, address: int) -> Steps[str]:
    """Return the end of the station's log, which says why."""
    log = yield from read_station_file(link, address, StationFile.LOG)
    return "\n".join(log.decode("utf-8", "replace").splitlines()[-LOG_LINES_TOLD:])


def _shown(facts: StationFacts) -> Details:
    return {"version": version_text(facts), "configuration_hash": facts.configuration_hash, "boot": facts.boot}
