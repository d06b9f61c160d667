"""What a check found, and how it is told: in Vietnamese or English, with advice."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple


class Verdict(StrEnum):
    """How bad it is: a failure keeps the gateway from its work, a warning soon will or may."""

    ok = "ok"
    warning = "warning"
    failure = "failure"


class Language(StrEnum):
    """Of the report."""

    vi = "vi"
    en = "en"


CHECKS_IN_VIETNAMESE = {
    "configuration": "cấu hình",
    "clock": "đồng hồ",
    "disk": "đĩa",
    "port": "cổng",
    "station": "trạm",
    "certificate": "chứng chỉ",
    "tls": "TLS",
    "outbox": "hộp thư đi",
}


class Finding(NamedTuple):
    """One thing found. `code` names the text in texts.toml, `subject` what it is about, `values` fill the text."""

    code: str
    subject: str
    values: Mapping[str, Any]


def found(code: str, subject: object, **values: Any) -> Finding:
    """Return a finding."""
    return Finding(code, str(subject), values)


def verdict(finding: Finding) -> Verdict:
    """Return how bad it is."""
    return Verdict(_texts()[finding.code]["verdict"])


def check(finding: Finding, language: Language) -> str:
    """Return the name of the check that found it."""
    name = finding.code.partition("-")[0]
    return CHECKS_IN_VIETNAMESE.get(name, name) if language is Language.vi else name


def words(finding: Finding, language: Language) -> tuple[str, str]:
    """Return what was found and what to do about it ("" where nothing is to be done)."""
    text = _texts()[finding.code]
    values = {"subject": finding.subject, **finding.values}
    return text[language].format(**values), text.get(f"{language}_advice", "").format(**values)


def as_json(finding: Finding, language: Language) -> dict[str, Any]:
    """Return it as JSON-ready data."""
    text, advice = words(finding, language)
    return {
        "check": check(finding, Language.en),
        "code": finding.code,
        "subject": finding.subject,
        "verdict": verdict(finding),
        "text": text,
        "advice": advice,
        "values": dict(finding.values),
    }


def worst(findings: Iterable[Finding]) -> Verdict:
    """Return the worst verdict of all."""
    order = list(Verdict)
    return max((verdict(finding) for finding in findings), key=order.index, default=Verdict.ok)


def language_of(environment: Mapping[str, str]) -> Language:
    """Return the person's language by LC_ALL, LC_MESSAGES, LANG; English where it is not Vietnamese."""
    named = next((environment[key] for key in ("LC_ALL", "LC_MESSAGES", "LANG") if environment.get(key)), "")
    return Language.vi if named.startswith("vi") else Language.en


@cache
def _texts() -> dict[str, dict[str, str]]:
    return tomllib.loads(files("edge_gateway.doctor").joinpath("texts.toml").read_text(encoding="utf-8"))
