"""Every error of the gateway, by what the caller does about it.

GatewayError
├── LinkError            the station side; the question may be asked again
│   ├── LineUnavailable  the port cannot be opened or has gone: wait for it, all its stations are away
│   ├── NoAnswer         this station is silent: back off from it
│   │   └── ConnectionLost  the TCP connection ended in the middle of a question: the next one makes a new one
│   ├── WrongAnswer      something answered that was not asked for: nothing of it is used
│   ├── StationRefused   the station answered with a Modbus exception
│   └── NotOurStation    another station, or none of ours, is at this address: a person has to look
├── OutboxError
│   ├── OutboxUnavailable  disk full, read-only or locked: nothing is acknowledged, try again later
│   │   └── OutboxRefused  a newer program's file, or another gateway runs on it: a person has to look
│   ├── OutboxDamaged      the file is corrupt: set it aside and begin a new one
│   ├── OutboxClosed       the gateway is stopping
│   ├── SliceRefused       this slice does not join what is stored: a fault of the caller
│   └── MessageInvalid     this message could never be sent: a fault of the caller
├── CommandError         a command from the cloud; the text is its result
│   ├── JobFailed        it could not be done
│   └── JobExpired       its time was over before it had an effect
├── InstallationRefused  the service cannot be installed: no rights, or somebody else's file in the way
├── UplinkError
│   ├── BrokerUnreachable  no connection: try again with back-off
│   ├── BrokerRefused      the broker does not let us in: a person has to look, try again slowly
│   └── BrokerUseless      it takes batches and no commits come: try the next broker
└── WarningError           warning people without the cloud
    ├── ModemError
    │   ├── ModemUnavailable  the modem's port cannot be opened or has gone: wait for it
    │   ├── ModemSilent       no answer in time to a question that sends nothing: open again, reset
    │   ├── ModemNotReady     SIM, PIN or network: a person has to look; nothing was sent, try again slowly
    │   ├── SendRefused       the modem or the network said no: nothing was sent; the text says whether ever
    │   └── SendUnsure        handed over, and no answer: it may have been sent
    ├── TextTooLong           more messages than anybody reads
    └── RelayError            the siren's relay does not do as told: say so, try again
"""

from __future__ import annotations

from collections.abc import Mapping


class GatewayError(Exception):
    """Base of all errors of the gateway."""


class LinkError(GatewayError):
    """A question to a station did not end in a usable answer."""


class LineUnavailable(LinkError):
    """The serial port of a line cannot be used."""


class NoAnswer(LinkError):
    """No complete answer came within the time limit."""


class ConnectionLost(NoAnswer):
    """The TCP connection ended before the answer came."""


class WrongAnswer(LinkError):
    """An answer came that does not belong to the question."""


class StationRefused(LinkError):
    """The station answered with a Modbus exception code."""

    def __init__(self, text: str, exception_code: int) -> None:
        super().__init__(text)
        self.exception_code = exception_code


class NotOurStation(LinkError):
    """The device at this address is not the station the configuration names."""


class OutboxError(GatewayError):
    """The outbox did not do what was asked; nothing of it was stored."""


class OutboxUnavailable(OutboxError):
    """The outbox cannot be written now (disk full, read-only, locked)."""


class OutboxRefused(OutboxUnavailable):
    """The outbox's file belongs to a newer program, or to another gateway that runs; it is left as it is."""


class OutboxDamaged(OutboxError):
    """The outbox's file is corrupt."""


class OutboxClosed(OutboxError):
    """The outbox has been closed."""


class SliceRefused(OutboxError):
    """A slice does not join what is stored of its journal."""


class MessageInvalid(OutboxError):
    """A message for the cloud has an unknown kind, or a body that cannot be sent."""


class InstallationRefused(GatewayError):
    """The service could not be written to the system."""


class CommandError(GatewayError):
    """A command was not carried out."""

    def __init__(self, text: str, details: Mapping[str, object] | None = None) -> None:
        super().__init__(text)
        self.details = dict(details or {})


class JobFailed(CommandError):
    """What was asked for could not be done; `details` say how far it came."""


class JobExpired(CommandError):
    """The command expired before it had a lasting effect."""


class UplinkError(GatewayError):
    """The connection to the broker failed."""


class BrokerUnreachable(UplinkError):
    """There is no connection to the broker."""


class BrokerUseless(UplinkError):
    """The broker takes batches, and no commits come by it."""


class BrokerRefused(UplinkError):
    """The broker refused the connection or the subscription."""


class WarningError(GatewayError):
    """A person or a siren could not be reached by the gateway itself."""


class ModemError(WarningError):
    """The GSM modem did not do what was asked."""


class ModemUnavailable(ModemError):
    """The modem's port cannot be used."""


class ModemSilent(ModemError):
    """The modem did not answer in time; nothing was handed over."""


class ModemNotReady(ModemError):
    """The modem answers, and cannot send: no SIM, a PIN, no network."""


class SendRefused(ModemError):
    """The message was not sent; `for_good` says that it never will be, to this number or in this form."""

    def __init__(self, text: str, *, for_good: bool = False) -> None:
        super().__init__(text)
        self.for_good = for_good


class SendUnsure(ModemError):
    """The message was handed to the modem and no usable answer came: it may have been sent."""


class TextTooLong(WarningError):
    """A text does not fit into the messages that may be sent."""


class RelayError(WarningError):
    """The relay could not be switched."""
