"""What the commands of tram-station share: printing for people and scripts, and errors as exit codes."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console

from station_config.errors import ConfigurationError, StationConfigError

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for scripts.")]

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(data: dict[str, Any]) -> None:
    """Print one JSON object on a line of its own."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Print our errors for people and leave with the exit code that scripts look at.

    SIGTERM counts as Ctrl-C meanwhile, so that a board we hold is started again before we go.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except StationConfigError as error:
        err.print(f"tram-station: {error}", markup=False, style="red")
        raise typer.Exit(2 if isinstance(error, ConfigurationError) else 1) from None
    except ModuleNotFoundError as error:
        err.print(
            f"tram-station: {error.name} is missing; install the technician's tools: pip install 'tram[technician]'"
        )
        raise typer.Exit(2) from None
    finally:
        signal.signal(signal.SIGTERM, before)
