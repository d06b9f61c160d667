"""The errors of this package, by what the caller would do differently.

StationConfigError              the base: print its text and stop
├── ConfigurationError          a file is wrong: the text lists every fault as file:line, correct them
├── KeyRefused                  a key cannot be used, or its file not written: take another
├── ImageRefused                a firmware image is damaged, or not signed by the keys given: build it again
└── BoardError                  a board or its port: look at the cable, the port, the power
    ├── PortUnavailable         the port is not there, or another program holds it
    ├── BoardSilent             nothing that speaks MicroPython answers: check power and cable, try again
    ├── BoardStorageFull        the flash has no room: nothing is retried before files are removed
    └── VerificationFailed      what the board reads back is not what was written: try again, then replace the board
"""

from __future__ import annotations


class StationConfigError(Exception):
    """Base of every error of station_config; its text tells the operator what to do."""


class ConfigurationError(StationConfigError):
    """A configuration file is wrong. The text has one line `file:line: key: what is wrong` for every fault."""


class KeyRefused(StationConfigError):
    """A key for signing updates, or its file, cannot be used."""


class ImageRefused(StationConfigError):
    """A firmware image that is not whole, or that no known key has signed."""


class BoardError(StationConfigError):
    """Something between this computer and the board went wrong."""


class PortUnavailable(BoardError):
    """The port does not exist, may not be opened, or is held by another program."""


class BoardSilent(BoardError):
    """No MicroPython prompt, or no start line, within the time allowed."""


class BoardStorageFull(BoardError):
    """The board's flash has no room for a file."""


class VerificationFailed(BoardError):
    """A file read back from the board differs from the one sent."""
