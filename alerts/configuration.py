"""rules.toml: the rules, the persons who follow them, and texts of one's own. Read once, every fault named at once.

[[rule]]
id = "rice"
parameter = "salinity"
threshold = "rice"            # levels and crop names from the dated thresholds, or: set_level, clear_level
stations = ["xuan-hoa"]       # left out: every station of the network
set_dwell_s = 600
clear_dwell_s = 1800

[[person]]
name = "Ba Tám"
phone = "0912 345 678"
rules = ["rice"]              # language = "vi" is the default
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from alerts.rules import Kind, Reason, Rule
from alerts.subscriptions import Subscription, normalise_phone
from alerts.texts import AlertEvent, Quantity, Template, Wording, why_unfit
from station_config.errors import ConfigurationError
from station_config.network import Network
from station_config.parameters import Vocabulary, load_parameters
from station_config.thresholds import Threshold, load_thresholds, thresholds_in_force
from station_config.toml_config import Fault, KeyPath, Several, StrictModel, Table, load, locate, repeated, rows

Id = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
Seconds = Annotated[int, Field(ge=0, le=7 * 86400)]
#: As long as no number is shown in any text: what the SMS is measured with, wider than any real value.
_WIDEST_VALUE = -9999.9
#: What breaks a pending dwell unless the rule says otherwise: this many intervals without data, and this long at least.
_GAP_INTERVALS = 3
_GAP_S = 1800


class _RuleRow(StrictModel):
    id: Id
    parameter: str
    stations: Several[str] | None = None
    sensor: int | None = Field(default=None, ge=0, le=255)
    threshold: str | None = None
    set_level: float | None = None
    clear_level: float | None = None
    set_dwell_s: Seconds = 600
    clear_dwell_s: Seconds = 1800
    stale_after_s: Seconds = 3600
    max_gap_s: Seconds | None = None
    max_ahead_s: Seconds = 900
    severity: Literal["notice", "warning", "severe"] = "warning"
    text: str | None = None


class _PersonRow(StrictModel):
    name: str = Field(min_length=1)
    phone: Annotated[str, AfterValidator(normalise_phone)]
    language: Literal["vi", "en"] = "vi"
    rules: Several[str]


class _TextRow(StrictModel):
    id: Id
    kind: Literal["raised", "cleared"]
    language: Literal["vi", "en"]
    sms: str = Field(min_length=1)
    page: str = Field(min_length=1)
    effective_from: date
    effective_to: date | None = None
    source: str

    def template(self) -> Template:
        return Template(
            self.id, Kind(self.kind), self.language, self.sms, self.page, self.effective_from, self.effective_to
        )


class _Texts(StrictModel):
    text: Several[_TextRow] = ()


class _File(_Texts):
    rule: Several[_RuleRow] = ()
    person: Several[_PersonRow] = ()


@dataclass(frozen=True)
class AlertConfiguration:
    """What `AlertEngine` is made of; `version` names the file's content."""

    rules: tuple[Rule, ...]
    subscriptions: tuple[Subscription, ...]
    wording: Wording
    version: str = ""


def load_alerts(path: Path, network: Network, now: float) -> AlertConfiguration:
    """Return rules.toml checked against the network, with the thresholds in force at `now` (unix seconds UTC).

    Raises ConfigurationError that lists every fault with file and line.
    """
    timezone = ZoneInfo(network.timezone)
    day = datetime.fromtimestamp(now, timezone).date()
    thresholds = {threshold.id: threshold for threshold in thresholds_in_force(load_thresholds(), day)}
    vocabulary = load_parameters()
    file = load(path, _File, check=partial(_find_conflicts, network, thresholds, vocabulary))
    rules = tuple(_rule(row, network, thresholds) for row in file.rule)
    ours = load(Path(__file__).with_name("texts.toml"), _Texts)
    wording = Wording(
        templates=tuple(row.template() for row in (*ours.text, *file.text)),
        stations={station.id: {"vi": station.name_vi, "en": station.name_en} for station in network.stations},
        quantities=_quantities(rules, vocabulary),
        timezone=timezone,
    )
    _refuse_unfit_texts(path, rules, wording, int(now))
    return AlertConfiguration(rules, tuple(_subscription(row) for row in file.person), wording, version_of(path))


def version_of(path: Path) -> str:
    """Return twelve digits that change with the file, so that it can be said by which rules somebody was warned."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _rule(row: _RuleRow, network: Network, thresholds: Mapping[str, Threshold]) -> Rule:
    threshold = thresholds.get(row.threshold or "")
    set_level, clear_level = _levels(row.set_level, row.clear_level, threshold)
    assert set_level is not None
    assert clear_level is not None
    stations = tuple(station.id for station in network.stations) if row.stations is None else row.stations
    longest_s = max((s.record_interval_s for s in network.stations if s.id in stations), default=600)
    return Rule(
        id=row.id,
        parameter=row.parameter,
        stations=stations,
        sensor=row.sensor,
        set_level=set_level,
        clear_level=clear_level,
        set_dwell_s=row.set_dwell_s,
        clear_dwell_s=row.clear_dwell_s,
        stale_after_s=row.stale_after_s,
        max_gap_s=max(_GAP_S, _GAP_INTERVALS * longest_s) if row.max_gap_s is None else row.max_gap_s,
        max_ahead_s=row.max_ahead_s,
        severity=row.severity,
        threshold=row.threshold,
        text=row.text or ("salinity" if row.parameter == "salinity" else "threshold"),
        crop={"vi": _inside(threshold.vi), "en": _inside(threshold.en)} if threshold else {},
    )


def _levels(
    set_level: float | None, clear_level: float | None, threshold: Threshold | None
) -> tuple[float | None, float | None]:
    if threshold is None:
        return set_level, clear_level
    return (
        threshold.level_g_l if set_level is None else set_level,
        threshold.clear_g_l if clear_level is None else clear_level,
    )


def _inside(name: str) -> str:
    """Return a name as it stands inside a sentence; abbreviations such as UV stay."""
    return name if name[1:2].isupper() else name[:1].lower() + name[1:]


def _subscription(row: _PersonRow) -> Subscription:
    return Subscription(row.name, row.phone, row.language, frozenset(row.rules))


def _quantities(rules: tuple[Rule, ...], vocabulary: Vocabulary) -> dict[str, Quantity]:
    known = {rule.parameter: vocabulary.by_name[rule.parameter] for rule in rules}
    return {name: Quantity({"vi": _inside(p.vi), "en": _inside(p.en)}, p.unit) for name, p in known.items()}


def _refuse_unfit_texts(path: Path, rules: tuple[Rule, ...], wording: Wording, now: int) -> None:
    lines = locate(path.read_text(encoding="utf-8"))
    faults = [
        f"{path}:{lines['rule', index]}: rule[{index}]: {fault}"
        for index, rule in enumerate(rules)
        for fault in why_unfit(wording, _widest_events(rule, now))
    ]
    if faults:
        raise ConfigurationError("\n".join(faults))


def _widest_events(rule: Rule, now: int) -> Iterator[AlertEvent]:
    for station in rule.stations:
        for kind in Kind:
            yield AlertEvent(rule, station, kind, now, now, _WIDEST_VALUE, "")
        yield AlertEvent(rule, station, Kind.CLEARED, now, now, _WIDEST_VALUE, Reason.WITHDRAWN)
        yield AlertEvent(rule, station, Kind.RAISED, now, now, _WIDEST_VALUE, Reason.REINSTATED)


def _find_conflicts(
    network: Network, thresholds: Mapping[str, Threshold], vocabulary: Vocabulary, data: Table
) -> Iterator[Fault]:
    """Yield what is wrong between rows and files. The data are unchecked; wrong types are the model's to refuse."""
    rules = list(rows(data, "rule"))
    persons = list(rows(data, "person"))
    yield from repeated((((*path, "id"), row.get("id")) for path, row in rules), "this id")
    yield from repeated((((*path, "name"), row.get("name")) for path, row in persons), "this name")
    stations = {station.id for station in network.stations}
    for path, row in rules:
        yield from _unknown(path, row, "stations", stations, "no such station in the network")
        parameter = vocabulary.by_name.get(str(row.get("parameter")))
        if "parameter" in row and (parameter is None or parameter.kind == "event"):
            yield Fault((*path, "parameter"), "not a measured or derived parameter")
        yield from _wrong_levels(path, row, thresholds)
    ids = {str(row.get("id")) for _, row in rules}
    for path, row in persons:
        yield from _unknown(path, row, "rules", ids, "no rule has this id")


def _unknown(path: KeyPath, row: Table, key: str, known: set[str], text: str) -> Iterator[Fault]:
    values = row.get(key)
    for index, value in enumerate(values if isinstance(values, list) else []):
        if isinstance(value, str) and value not in known:
            yield Fault((*path, key, index), text)


def _wrong_levels(path: KeyPath, row: Table, thresholds: Mapping[str, Threshold]) -> Iterator[Fault]:
    name = row.get("threshold")
    threshold = thresholds.get(name) if isinstance(name, str) else None
    if isinstance(name, str) and threshold is None:
        yield Fault((*path, "threshold"), f"no threshold of this id is in force; there are {', '.join(thresholds)}")
        return
    if threshold is not None and row.get("parameter") != "salinity":
        yield Fault((*path, "threshold"), "crop thresholds are salinities: only for parameter salinity")
    set_level, clear_level = _levels(row.get("set_level"), row.get("clear_level"), threshold)
    if set_level is None or clear_level is None:
        yield Fault(path, "a rule needs set_level and clear_level, or the threshold of a crop")
    elif isinstance(set_level, int | float) and isinstance(clear_level, int | float) and clear_level >= set_level:
        yield Fault((*path, "clear_level"), "must be below the set level, or the alert comes and goes with every wave")
