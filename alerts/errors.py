"""What can go wrong in the alerts, by what the caller would do differently.

    AlertsError
    ├── NoText           add a [[text]] row to rules.toml
    └── DatabaseTooNew   run the newer version that wrote the database, or restore a backup
A rules.toml that cannot be used raises station_config's ConfigurationError, every fault with file and line.
"""

from __future__ import annotations


class AlertsError(Exception):
    """Base of all errors of the alerts."""


class NoText(AlertsError):
    """No text applies to an event."""


class DatabaseTooNew(AlertsError):
    """The database was written by a later version of this program."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            f"the alert tables are at step {found}, this version knows {known}: "
            "run the newer version, or restore a backup"
        )
