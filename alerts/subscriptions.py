"""Who is told what: persons, their telephone numbers, and the rules they follow."""

from __future__ import annotations

import re
from dataclasses import dataclass

COUNTRY_CODE = "84"  # numbers without a country are Vietnamese

_E164 = re.compile(r"\+[1-9]\d{7,14}")
_SPACING = re.compile(r"[\s.()-]+")


@dataclass(frozen=True)
class Subscription:
    """A person who gets one message per event of each rule in `rules`; `phone` is E.164, never printed whole."""

    person: str
    phone: str
    language: str
    rules: frozenset[str]

    def __repr__(self) -> str:
        return f"Subscription({self.person!r}, {mask_phone(self.phone)!r}, {self.language!r}, {sorted(self.rules)})"


def normalise_phone(text: str) -> str:
    """Return a number in E.164; a Vietnamese 0912 345 678 becomes +84912345678. Raises ValueError."""
    compact = _SPACING.sub("", text)
    if compact.startswith("00"):
        compact = "+" + compact[2:]
    elif compact.startswith("0"):
        compact = f"+{COUNTRY_CODE}{compact[1:]}"
    if not _E164.fullmatch(compact):
        raise ValueError("not a telephone number: write +84912345678 or 0912345678")
    if compact.startswith(f"+{COUNTRY_CODE}") and not 9 <= len(compact) - 3 <= 10:
        raise ValueError("a Vietnamese number has 9 or 10 digits after the 0 or +84")
    return compact


def mask_phone(phone: str) -> str:
    """Return the number with all but the country's first digits and the last three hidden."""
    return f"{phone[:3]}{'*' * max(len(phone) - 6, 3)}{phone[-3:]}"
