"""What people read: an alert event becomes one short SMS, and a sentence for the page in Vietnamese and English.

Texts are dated rows (texts.toml), never strings in the code. An SMS with Vietnamese diacritics holds 70 characters, one
without holds 160, so SMS texts lose their diacritics; the page keeps them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, tzinfo

from alerts.errors import NoText
from alerts.rules import Kind, Rule

LANGUAGES = ("vi", "en")
SMS_SEPTETS = 160

_GSM7_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM7_EXTENSION = frozenset("^{}\\[~]|€")  # each takes two septets
# Letters and signs that Unicode does not decompose; "°" goes, so that "°C" reads "C".
_PLAIN = str.maketrans(
    {"đ": "d", "Đ": "D", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "…": "...", "°": "", "‰": "g/L"}
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNIT_SIGNS = {"Cel": "°C", "deg": "°", "1": "", "[pH]": "", "{FNU}": "FNU"}
_ANY_CROP = {"vi": "cây trồng", "en": "crops"}
_TEXT_OF_REASON = {"withdrawn": "withdrawn", "reinstated": "reinstated"}  # else the rule's own
_NAME_LENGTHS = (None, 24, 16, 10, 6)


@dataclass(frozen=True)
class AlertEvent:
    """A rule was raised or cleared at a station. `time` is event time, `decided` when we knew (unix seconds UTC)."""

    rule: Rule
    station: str
    kind: Kind
    time: int
    decided: int
    value: float
    reason: str

    @property
    def level(self) -> float:
        """The level that was crossed, in the parameter's unit."""
        return self.rule.set_level if self.kind is Kind.RAISED else self.rule.clear_level


@dataclass(frozen=True)
class Template:
    """One dated text for one kind of event in one language."""

    id: str
    kind: Kind
    language: str
    sms: str
    page: str
    effective_from: date
    effective_to: date | None = None

    def fit(self, day: date) -> tuple[bool, bool, date]:
        """Return how well the row fits a local day, to compare rows: in force, at least begun, and since when.

        A text out of date still beats an alert without words.
        """
        begun = self.effective_from <= day
        return begun and (self.effective_to is None or day <= self.effective_to), begun, self.effective_from


@dataclass(frozen=True)
class Quantity:
    """How a parameter is called ({"vi", "en"}) and its UCUM unit."""

    name: Mapping[str, str]
    unit: str | None


@dataclass(frozen=True)
class Wording:
    """All that is needed to put an event into words."""

    templates: tuple[Template, ...]
    stations: Mapping[str, Mapping[str, str]]
    quantities: Mapping[str, Quantity]
    timezone: tzinfo

    def sms(self, event: AlertEvent, language: str) -> str:
        """Return the event as one SMS: GSM-7 without diacritics, at most 160 septets; long names are shortened."""
        text = ""
        for length in _NAME_LENGTHS:
            text = self.sms_unbounded(event, language, length)
            if septets(text) <= SMS_SEPTETS:
                return text
        # Loading the configuration refuses such texts; an alert that still gets here is sent cut, not lost.
        while septets(text) > SMS_SEPTETS:
            text = text[:-1]
        return text

    def sms_unbounded(self, event: AlertEvent, language: str, name_length: int | None = None) -> str:
        """Return the SMS text whatever its length, with names cut to `name_length` characters."""
        template = self._template(event, language)
        return to_gsm7(template.sms.format(**self._names(event, language, name_length)))

    def page(self, event: AlertEvent) -> dict[str, str]:
        """Return the event as a sentence for the page, by language."""
        return {
            language: self._template(event, language).page.format(**self._names(event, language, None))
            for language in LANGUAGES
        }

    def _template(self, event: AlertEvent, language: str) -> Template:
        name = _TEXT_OF_REASON.get(event.reason, event.rule.text)
        wanted = (name, event.kind, language)
        rows = [row for row in self.templates if (row.id, row.kind, row.language) == wanted]
        if not rows:
            raise NoText(f"no text {name!r} for {event.kind} in {language!r}: add a [[text]] row")
        day = datetime.fromtimestamp(event.time, self.timezone).date()
        # Later rows win among equal dates: rules.toml comes after our own texts.
        return max(reversed(rows), key=lambda row: row.fit(day))

    def _names(self, event: AlertEvent, language: str, length: int | None) -> dict[str, str]:
        quantity = self.quantities[event.rule.parameter]
        crop = event.rule.crop.get(language, _ANY_CROP[language])
        level = number(event.level, language, 2)
        return {
            "station": _shorten(self.stations[event.station][language], length),
            "crop": _shorten(crop, length),
            "quantity": quantity.name[language],
            "unit": _UNIT_SIGNS.get(quantity.unit or "", quantity.unit or ""),
            "value": number(event.value, language, decimals_beside(event.value, event.level)),
            "level": level,
            "time": local_time(event.time, self.timezone, language),
        }


def decimals_beside(value: float, level: float) -> int:
    """Return how many decimals a value needs beside its level: as fine as the level, so that 0.27 over 0.25 does not
    read 0.3, and fine enough to tell the two apart, so that 0.38 under 0.4 does not read 0.4.
    """
    coarsest = 1 if round(level, 1) == round(level, 2) else 2
    apart = (places for places in (1, 2, 3) if places >= coarsest and round(value, places) != round(level, places))
    return next(apart, coarsest)


def number(value: float, language: str, decimals: int) -> str:
    """Return the value with at least one and at most `decimals` decimals, with a decimal comma in Vietnamese."""
    text = f"{value:.{decimals}f}"
    while text.endswith("0") and len(text.partition(".")[2]) > 1:
        text = text[:-1]
    return text.replace(".", ",") if language == "vi" else text


def local_time(time: int, timezone: tzinfo, language: str) -> str:
    """Return unix seconds as local hour and day, the way people write it in the language."""
    local = datetime.fromtimestamp(time, timezone)
    if language == "vi":
        return f"{local:%H:%M} ngày {local:%d/%m}"
    return f"{local:%H:%M} on {local.day} {_MONTHS[local.month - 1]}"


def without_diacritics(text: str) -> str:
    """Return the text without tone marks and with d for đ: "Đồng Tháp" gives "Dong Thap"."""
    decomposed = unicodedata.normalize("NFD", text.translate(_PLAIN))
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def to_gsm7(text: str) -> str:
    """Return the text without diacritics; what GSM-7 cannot write becomes "?", so that nothing vanishes unseen."""
    plain = " ".join(without_diacritics(text).split())
    plain = plain.replace(" ,", ",").replace(" .", ".")  # where a parameter has no unit
    return "".join(c if c in _GSM7_BASIC or c in _GSM7_EXTENSION else "?" for c in plain)


def septets(text: str) -> int:
    """Return how many of the 160 septets of one SMS a GSM-7 text takes."""
    return sum(2 if character in _GSM7_EXTENSION else 1 for character in text)


def why_unfit(wording: Wording, events: Iterable[AlertEvent]) -> list[str]:
    """Return one sentence per text that cannot be used for these events: missing, unknown name, or too long."""
    faults = []
    for event in events:
        for language in LANGUAGES:
            where = f"station {event.station!r}, {event.kind}, {language}"
            try:
                shortest = wording.sms_unbounded(event, language, _NAME_LENGTHS[-1])
                wording.page(event)
            except NoText as error:
                faults.append(f"{where}: {error}")
            except (KeyError, ValueError, IndexError, AttributeError) as error:
                faults.append(f"{where}: the text cannot be filled in: {error!r}; see texts.toml for the names")
            else:
                if septets(shortest) > SMS_SEPTETS:
                    faults.append(f"{where}: the SMS takes {septets(shortest)} of {SMS_SEPTETS} characters: shorten it")
    return faults


def _shorten(name: str, length: int | None) -> str:
    return name if length is None or len(name) <= length else name[: length - 1].rstrip() + "."
