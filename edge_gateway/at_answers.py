"""What a GSM modem's lines mean (3GPP TS 27.005 and 27.007): pure functions, no port.

Numbers of errors are asked for (AT+CMEE=1) and put into words here: the words of modems differ from maker to maker.
"""

from __future__ import annotations

import re
from typing import NamedTuple

OK, ERROR = "OK", "ERROR"
PROMPT = ">"
NO_SIGNAL_KNOWN = 99
REGISTERED_HOME, REGISTERED_ROAMING, SMS_ONLY_HOME, SMS_ONLY_ROAMING = 1, 5, 6, 7

#: TS 27.005, 3.2.5 (300 and above), TS 24.011 annex E-2 (below 128): what each means to the person who looks.
CMS_WORDS = {
    1: "the number is not in use",
    8: "the operator bars this SIM from sending",
    10: "calls and messages of this SIM are barred",
    21: "the network rejected the message",
    27: "the phone cannot be reached by the network now",
    28: "the network does not know this SIM",
    29: "the SIM may not send messages",
    30: "the network does not know this number",
    38: "the network is out of order",
    41: "the network failed for a moment",
    42: "the network is congested",
    47: "the network has no resources now",
    50: "sending is not subscribed for this SIM",
    69: "the network does not do this",
    95: "the network found the message invalid",
    96: "the network missed information in the message",
    97: "the network does not know this kind of message",
    98: "the message does not fit the state of the network",
    111: "the network found a protocol error",
    127: "the network did not say why",
    300: "the modem itself failed",
    301: "the modem's message service is taken by something else",
    302: "the modem does not allow it",
    303: "the modem does not support it",
    304: "the modem found the PDU invalid",
    305: "the modem found the text invalid",
    310: "there is no SIM card in the modem",
    311: "the SIM card wants its PIN",
    312: "the SIM card wants its PIN (PH-SIM)",
    313: "the SIM card failed",
    314: "the SIM card is busy",
    315: "the SIM card is the wrong one",
    316: "the SIM card is locked and wants its PUK",
    320: "the modem's memory failed",
    322: "the modem's memory is full",
    330: "the number of the service centre is not known: set service_centre",
    331: "there is no network",
    332: "the network did not answer in time",
    340: "the modem expected no acknowledgement",
    500: "the modem does not know why",
}
#: About this number or this message: the same again would be refused again.
CMS_FOR_GOOD = frozenset({1, 21, 28, 29, 30, 50, 69, 95, 96, 97, 304, 305})
#: TS 27.007, 9.2.
CME_WORDS = {
    3: "the modem does not allow it",
    4: "the modem does not support it",
    10: "there is no SIM card in the modem",
    11: "the SIM card wants its PIN",
    12: "the SIM card is locked and wants its PUK",
    13: "the SIM card failed",
    14: "the SIM card is busy",
    15: "the SIM card is the wrong one",
    16: "the PIN is wrong",
    30: "there is no network",
    31: "the network did not answer in time",
    100: "the modem does not know why",
}

_ERROR_LINE = re.compile(r"\+(CMS|CME) ERROR: *(.*)")
_REGISTRATION = re.compile(r"\+(?:CREG|CEREG|CGREG): *\d+ *, *(\d+)")
_SIGNAL = re.compile(r"\+CSQ: *(\d+) *, *\d+")
_REFERENCE = re.compile(r"\+CMGS: *(\d+)")


class Refusal(NamedTuple):
    """Why a modem said no; `for_good` when the same again would be refused again."""

    words: str
    for_good: bool


def refusal(line: str) -> Refusal | None:
    """Return why, when the line ends an answer with an error; None for every other line."""
    if line == ERROR:
        return Refusal("the modem said ERROR without a reason", for_good=False)
    match = _ERROR_LINE.fullmatch(line)
    if match is None:
        return None
    kind, detail = match[1], match[2].strip()
    if not detail.isdecimal():  # a modem that gives words whatever it is told
        return Refusal(f"+{kind} ERROR: {detail}", for_good=False)
    number = int(detail)
    words = (CMS_WORDS if kind == "CMS" else CME_WORDS).get(number, "see the modem's manual")
    return Refusal(f"{words} (+{kind} ERROR: {number})", kind == "CMS" and number in CMS_FOR_GOOD)


def is_final(line: str) -> bool:
    """Return whether the line ends an answer."""
    return line == OK or refusal(line) is not None


def registration(line: str) -> int | None:
    """Return the state in an answer to AT+CREG? or AT+CEREG?; None for others, unsolicited "+CREG: 1" among them."""
    match = _REGISTRATION.match(line)
    return None if match is None else int(match[1])


def is_registered(state: int | None) -> bool:
    """Return whether a SIM in this state can send messages."""
    return state in (REGISTERED_HOME, REGISTERED_ROAMING, SMS_ONLY_HOME, SMS_ONLY_ROAMING)


def signal_dbm(line: str) -> int | None:
    """Return dBm of an answer to AT+CSQ (-113 to -51); None when it is another line, or the modem does not know."""
    match = _SIGNAL.match(line)
    if match is None or not 0 <= int(match[1]) <= 31:
        return None
    return -113 + 2 * int(match[1])


def reference(line: str) -> int | None:
    """Return the message reference of "+CMGS: n", None for other lines."""
    match = _REFERENCE.match(line)
    return None if match is None else int(match[1])
