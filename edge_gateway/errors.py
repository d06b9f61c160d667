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
│   ├── OutboxDamaged      the file is corrupt: set it aside and begin a new one
│   ├── OutboxClosed       the gateway is stopping
│   ├── SliceRefused       this slice does not join what is stored: a fault of the caller
│   └── MessageInvalid     this message could never be sent: a fault of the caller
└── UplinkError
    ├── BrokerUnreachable  no connection: try again with back-off
    └── BrokerRefused      the broker does not let us in: a person has to look, try again slowly
"""

from __future__ import annotations


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


class OutboxDamaged(OutboxError):
    """The outbox's file is corrupt."""


class OutboxClosed(OutboxError):
    """The outbox has been closed."""


class SliceRefused(OutboxError):
    """A slice does not join what is stored of its journal."""


class MessageInvalid(OutboxError):
    """A message for the cloud has an unknown kind, or a body that cannot be sent."""


class UplinkError(GatewayError):
    """The connection to the broker failed."""


class BrokerUnreachable(UplinkError):
    """There is no connection to the broker."""


class BrokerRefused(UplinkError):
    """The broker refused the connection or the subscription."""
