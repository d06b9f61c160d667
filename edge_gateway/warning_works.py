"""Warning without the cloud, put together: what its configuration leads to, and its threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from edge_gateway.configuration import GatewayConfiguration
from edge_gateway.outbox import Outbox
from edge_gateway.relays import make_relay
from edge_gateway.siren import Siren
from edge_gateway.warning_configuration import WarningSetup, load_warning
from edge_gateway.warning_sender import WarningSender, make_modem
from edge_gateway.warning_watch import WarningWatch
from station_config.clock import Clock

Work = Callable[[threading.Event], None]


def read_warning_setup(configuration: GatewayConfiguration, now: float) -> WarningSetup | None:
    """Return what [warning] leads to; None without it. Raises ConfigurationError with every fault."""
    if configuration.warning is None or configuration.network is None:
        return None
    stations = frozenset(configuration.station_ids)
    return load_warning(configuration.warning, configuration.network, stations, now)


def warning_works(
    setup: WarningSetup | None,
    state_dir: Path,
    outbox: Outbox,
    clock: Clock,
    doubt: Callable[[], str | None] = lambda: None,
) -> dict[str, Work]:
    """Return the threads' work by name: the watch, and what it warns with. Nothing without a setup."""
    if setup is None:
        return {}
    works: dict[str, Work] = {}
    wake: Callable[[], None] = lambda: None  # noqa: E731  replaced where there is a modem to wake
    if setup.configuration.modem is not None:
        sender = WarningSender(setup, outbox, clock, make_modem(setup.configuration.modem, state_dir))
        works["modem"], wake = sender.run, sender.wake
    if setup.configuration.relay is not None:
        relay = make_relay(setup.configuration.relay)
        works["siren"] = Siren(setup.configuration.relay, setup, outbox, clock, relay).run
    watch = WarningWatch(setup, outbox, clock, wake, doubt)
    outbox.on_stored(watch.follow)
    return {"warning": watch.run, **works}
