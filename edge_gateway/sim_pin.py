"""The PIN of a SIM card from its file, tried so rarely that the card never locks itself.

A card allows three wrong tries. A try is noted on disk before it is made and taken back when it worked; after two that
did not, the PIN is not tried again until its file is changed. A service that restarts all night so uses up no third.
"""

from __future__ import annotations

from pathlib import Path

from edge_gateway.errors import ModemNotReady

TRIES_AT_MOST = 2


class PinFile:
    """The first line of `path`; tries are noted in `note`."""

    def __init__(self, path: Path, note: Path) -> None:
        self._path = path
        self._note = note

    def take(self) -> str:
        """Return the PIN to try. Raises ModemNotReady when it cannot be read, or must not be tried again."""
        try:
            pin = self._path.read_text(encoding="ascii").strip()
            version = self._path.stat().st_mtime_ns
        except (OSError, UnicodeDecodeError) as error:
            raise ModemNotReady(f"{self._path}: cannot be read: {error}") from None
        if not (pin.isdecimal() and 4 <= len(pin) <= 8):
            raise ModemNotReady(f"{self._path}: its first line must be the PIN, 4 to 8 digits")
        tries = self._tries(version)
        if tries >= TRIES_AT_MOST:
            raise ModemNotReady(f"the SIM card refused the PIN twice; write the right one into {self._path}")
        try:
            self._note.parent.mkdir(parents=True, exist_ok=True)
            self._note.write_text(f"{version} {tries + 1}", encoding="ascii")
        except OSError as error:
            raise ModemNotReady(f"{self._note}: {error.strerror}; the PIN is not tried without a note of it") from None
        return pin

    def accepted(self) -> None:
        """Take the note back: the card's own count begins again too."""
        self._note.unlink(missing_ok=True)

    def _tries(self, version: int) -> int:
        try:
            noted, tries = self._note.read_text(encoding="ascii").split()
            return int(tries) if int(noted) == version else 0
        except (OSError, ValueError):
            return 0
