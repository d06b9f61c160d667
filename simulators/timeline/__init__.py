"""Scenarios that read like the field.

    timeline.at(30).cut("link")
    timeline.at(45).restore("link")
    timeline.during("10 min", "20 min").fault("bus.noise", chance=0.2)
    timeline.between(35, 60).expect_sms("vượt")
    timeline.by("90 min").expect_records(lost=0, twice=0)
    timeline.run()

    writer.py: Timeline ─▶ compiler.py: Script, checked as a whole ─▶ driver.py: RunLog ─▶ verdict.py: Verdict

Moments are field seconds from the first record on, or text such as "35 min"; a bench runs them at its own speed.
Script and verdict are pure; only the driver touches a bench.
"""

from simulators.timeline.driver import Rig, drive
from simulators.timeline.script import Script, TimelineRefused
from simulators.timeline.verdict import Account, Judged, Message, RunLog, Value, Verdict, judge
from simulators.timeline.writer import Timeline

__all__ = [
    "Account",
    "Judged",
    "Message",
    "Rig",
    "RunLog",
    "Script",
    "Timeline",
    "TimelineRefused",
    "Value",
    "Verdict",
    "drive",
    "judge",
]
