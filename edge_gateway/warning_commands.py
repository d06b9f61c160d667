"""`tram-gateway warning test`: one message through the modem, one sound of the siren, and what to do when it fails."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from alerts.subscriptions import mask_phone, normalise_phone
from edge_gateway.configuration import GatewayConfiguration, load_configuration
from edge_gateway.errors import ModemUnavailable, SendUnsure, WarningError
from edge_gateway.gsm_modem import GsmModem
from edge_gateway.relays import make_relay
from edge_gateway.warning_configuration import RelayConfiguration, WarningConfiguration
from edge_gateway.warning_sender import make_modem
from edge_gateway.warning_works import read_warning_setup
from station_config.clock import clock_from_environment
from station_config.errors import ConfigurationError

EXIT_FAILED, EXIT_CONFIGURATION = 1, 2
PORT_WAIT_S = 10.0
TEST_TEXT = "Tram {gateway}: tin thu, khong can lam gi. Test message, nothing to do."

app = typer.Typer(no_args_is_help=True, help="Warning without the cloud: try the modem and the siren.")


@app.callback()
def warning() -> None:
    """Warning without the cloud: try the modem and the siren."""


@app.command("test")
def try_out(
    config: Annotated[Path, typer.Option("--config", help="gateway.toml", metavar="FILE")] = Path("gateway.toml"),
    to: Annotated[str | None, typer.Option("--to", help="Send a test SMS to this number.", metavar="NUMBER")] = None,
    siren: Annotated[bool, typer.Option("--siren", help="Sound the siren once.")] = False,
    text: Annotated[str | None, typer.Option("--text", help="Another text than the usual one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for scripts")] = False,
) -> None:
    """Send a test SMS, sound the siren, or both; works beside a running gateway, but for a siren at a GPIO.

    Example: tram-gateway warning test --config /etc/tram/gateway.toml --to 0912345678 --siren
    """
    configuration, settings, number = _prepare(config, to, siren=siren)
    done: dict[str, Any] = {}
    try:
        if number is not None and settings.modem is not None:
            modem = make_modem(settings.modem, configuration.state_dir)
            done["sms"] = _send(modem, number, text or TEST_TEXT.format(gateway=configuration.id))
        if siren and settings.relay is not None:
            done["siren"] = _sound(settings.relay)
    except WarningError as error:
        typer.echo(json.dumps({**done, "error": str(error)}) if as_json else _failure(error), err=not as_json)
        raise typer.Exit(EXIT_FAILED) from None
    typer.echo(json.dumps(done) if as_json else "\n".join(f"{name}: {_in_words(one)}" for name, one in done.items()))


def _prepare(
    config: Path, to: str | None, *, siren: bool
) -> tuple[GatewayConfiguration, WarningConfiguration, str | None]:
    try:
        configuration = load_configuration(config)
        read_warning_setup(configuration, clock_from_environment(os.environ).now())
        number = None if to is None else normalise_phone(to)
    except (ConfigurationError, ValueError) as error:
        raise _wrong(str(error)) from None
    settings = configuration.warning
    if settings is None:
        raise _wrong(f"{config}: there is no [warning] table; see edge_gateway/README.md")
    if number is None and not siren:
        raise _wrong("say what to try: --to NUMBER, --siren, or both")
    if number is not None and settings.modem is None:
        raise _wrong(f"{config}: there is no [warning.modem] to send with")
    if siren and settings.relay is None:
        raise _wrong(f"{config}: there is no [warning.relay] to sound")
    return configuration, settings, number


def _wrong(text: str) -> typer.Exit:
    typer.echo(text, err=True)
    return typer.Exit(EXIT_CONFIGURATION)


def _send(modem: GsmModem, number: str, text: str) -> dict[str, Any]:
    """Send one message, waiting a little for a running gateway to let go of the port. Raises WarningError."""
    ends_at = time.monotonic() + PORT_WAIT_S
    try:
        while True:
            try:
                state = modem.check()
                references = modem.send(number, text, reference=0)
                return {"to": mask_phone(number), "signal_dbm": state.signal_dbm, "references": references}
            except ModemUnavailable:
                if time.monotonic() >= ends_at:
                    raise
                time.sleep(1.0)
    finally:
        modem.close()


def _sound(configuration: RelayConfiguration) -> dict[str, Any]:
    relay = make_relay(configuration)
    try:
        relay.on(configuration.on_s)
        try:
            time.sleep(configuration.on_s)
        finally:
            relay.off()
    finally:
        relay.close()
    return {"on_s": configuration.on_s}


def _in_words(done: dict[str, Any]) -> str:
    if "to" in done:
        signal = "unknown" if done["signal_dbm"] is None else f"{done['signal_dbm']} dBm"
        return f"sent to {done['to']}, signal {signal}; look whether it arrives"
    return f"sounded for {done['on_s']:g} s; if nobody heard it, look at its supply and the relay's contact"


def _failure(error: WarningError) -> str:
    doubt = "\nIt may have been sent: look at the phone before trying again." if isinstance(error, SendUnsure) else ""
    return f"{error}{doubt}"
