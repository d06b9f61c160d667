"""A GSM modem: makes it ready, asks how it is, sends one text. When, to whom and how often is decided elsewhere.

    modem = GsmModem(settings, pin)
    modem.check()                                          registered, signal; opens the port when it is not open
    modem.send("+84912345678", text, reference=7)

Before each message the modem is asked for its signal, and all that comes before that answer is thrown away. A modem
works off one command after the other, so a late "+CMGS:" of a message given up is never taken for the next one's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from edge_gateway import at_answers as at
from edge_gateway.at_port import AtPort
from edge_gateway.errors import ModemError, ModemNotReady, ModemSilent, ModemUnavailable, SendRefused, SendUnsure
from edge_gateway.sms_pdu import Submit, submits

ANSWER_S = 5.0
SIM_ANSWER_S = 20.0
PROMPT_S = 10.0
SEND_ANSWER_S = 120.0
ATTENTION_TRIES = 4
ATTENTION_S = 1.0
SETTLING_S = 0.3  # answers to what somebody asked before us
ESCAPE, END_OF_MESSAGE = b"\x1b", b"\x1a"


@dataclass(frozen=True)
class ModemSettings:
    """The port, and how long the answer to a message may take (networks allow themselves minutes)."""

    port: str
    baud: int = 115_200
    service_centre: str | None = None
    send_answer_s: float = SEND_ANSWER_S


@dataclass(frozen=True)
class ModemState:
    """How a modem is; `problem` says in words why it cannot send now."""

    signal_dbm: int | None
    problem: str | None = None


class Pin(Protocol):
    """Gives the SIM card's PIN, and is told what became of it."""

    def take(self) -> str | None:
        """Return the PIN to try, None when there is none. Raises ModemNotReady when it must not be tried again."""

    def accepted(self) -> None:
        """Note that the card took it."""


class NoPin:
    """For a card that wants none."""

    def take(self) -> str | None:
        """Return None."""
        return None

    def accepted(self) -> None:
        """Nothing to note."""


class GsmModem:
    """One modem, for one thread."""

    def __init__(self, settings: ModemSettings, pin: Pin | None = None) -> None:
        self.ignored_lines = 0
        self._settings = settings
        self._pin: Pin = pin or NoPin()
        self._ready = False
        self._port = AtPort(settings.port, settings.baud)

    def check(self) -> ModemState:
        """Return how the modem is. Raises ModemError when it cannot be asked, or its SIM card needs a person."""
        with self._closing_when_lost():
            self._make_ready()
            registered = self._is_registered()
            signal = self._signal_dbm()
        return ModemState(
            signal, None if registered else "the modem has no network: look at aerial, SIM card and place"
        )

    def send(self, number: str, text: str, *, reference: int, validity_min: int = 120) -> list[int]:
        """Send a text; return the modem's reference of each part.

        Raises SendUnsure when something may have been sent; another ModemError when nothing was; TextTooLong and
        ValueError when the text or the number can never be sent.
        """
        pdus = submits(
            number,
            text,
            reference=reference,
            validity_min=validity_min,
            service_centre=self._settings.service_centre,
        )
        state = self.check()
        if state.problem is not None:
            raise ModemNotReady(state.problem)
        references: list[int] = []
        for pdu in pdus:
            try:
                with self._closing_when_lost():
                    references.append(self._send_one(pdu))
            except SendUnsure:
                raise
            except ModemError as error:
                if not references:
                    raise
                # The phone waits for the rest of a text: the whole goes again.
                raise SendUnsure(f"part {len(references) + 1} of {len(pdus)}: {error}") from error
        return references

    def reset(self) -> None:
        """Restart the modem and let go of its port. The next question opens it again."""
        with suppress(ModemError):
            if not self._port.is_open:
                self._port.open()
            self._port.write(ESCAPE + b"\r")
            self._ask("AT+CFUN=1,1")
        self.close()

    def stop_when(self, stopping: Callable[[], bool]) -> None:
        """Ask this while waiting for the modem; once it is true, waits are short."""
        self._port.stop_when(stopping)

    def close(self) -> None:
        """Let go of the port."""
        self._ready = False
        self._port.close()

    def _make_ready(self) -> None:
        """Bring modem and SIM card to where a message can be sent. Raises ModemError."""
        if self._port.is_open and self._ready:
            return
        self.close()
        self._port.open()
        self._get_attention()
        self._ask("ATE0")
        for command in ("AT+CMEE=1", "AT+CREG=0"):  # good to have: refusals by number, no news in between
            with suppress(SendRefused):
                self._ask(command)
        self._unlock_sim()
        self._ask("AT+CMGF=0")
        self._ready = True

    def _get_attention(self) -> None:
        """Have the modem answer AT. Whoever spoke to it last may have left it at the prompt, or at another speed."""
        self._port.write(ESCAPE + b"\r")
        for _ in range(ATTENTION_TRIES):
            with suppress(ModemSilent, SendRefused):
                self._ask("AT", within_s=ATTENTION_S)
                self.ignored_lines += sum(1 for _ in self._port.lines(SETTLING_S))
                return
        raise ModemSilent(f"{self._port.name}: no modem answers at {self._settings.baud} baud; check power and port")

    def _unlock_sim(self) -> None:
        state = self._sim_state()
        if state == "SIM PIN":
            pin = self._pin.take()
            if pin is None:
                raise ModemNotReady("the SIM card wants its PIN: name a pin_file, or take the PIN off the card")
            self._sim_ask(f'AT+CPIN="{pin}"')
            self._pin.accepted()
        elif state != "READY":
            raise ModemNotReady(f"the SIM card wants {state}: put it into a phone and unlock it there")

    def _sim_state(self) -> str:
        for line in self._sim_ask("AT+CPIN?"):
            if line.startswith("+CPIN:"):
                return line.removeprefix("+CPIN:").strip()
        raise ModemNotReady("the modem does not say how its SIM card is; take it out and put it in again")

    def _sim_ask(self, command: str) -> list[str]:
        try:
            return self._ask(command, within_s=SIM_ANSWER_S)
        except SendRefused as error:
            raise ModemNotReady(str(error)) from None

    def _is_registered(self) -> bool:
        # A modem for LTE alone knows no +CREG, and one for GSM alone no +CEREG.
        for command in ("AT+CREG?", "AT+CEREG?"):
            with suppress(SendRefused):
                if any(at.is_registered(at.registration(line)) for line in self._ask(command)):
                    return True
        return False

    def _signal_dbm(self) -> int | None:
        answer = self._ask("AT+CSQ", until=lambda line: line.startswith("+CSQ:"))
        return next((dbm for line in answer if (dbm := at.signal_dbm(line)) is not None), None)

    def _send_one(self, pdu: Submit) -> int:
        self._signal_dbm()  # whatever belongs to an earlier command has come when this answer is here
        self._await_prompt(pdu)
        try:
            self._port.write(pdu.hex.encode() + END_OF_MESSAGE)
            return self._await_reference()
        except ModemUnavailable as error:
            raise SendUnsure(f"the port was lost while a message was handed over: {error}") from error

    def _await_prompt(self, pdu: Submit) -> None:
        """Ask to send. Raises SendRefused, or ModemSilent; nothing is handed over then."""
        self._port.write(f"AT+CMGS={pdu.length}\r".encode())
        for line in self._port.lines(PROMPT_S):
            if line == at.PROMPT:
                return
            self._raise_if_refused(line)
        self._port.write(ESCAPE)
        raise ModemSilent(f"{self._port.name}: the modem does not ask for the message")

    def _await_reference(self) -> int:
        """Return the reference. What is not an error and gives no reference is no promise that anything was sent."""
        found: int | None = None
        for line in self._port.lines(self._settings.send_answer_s):
            if (number := at.reference(line)) is not None:
                found = number
            elif line == at.OK:
                if found is None:
                    raise SendUnsure("the modem said OK and gave no reference")
                return found
            else:
                self._raise_if_refused(line)
        if found is not None:  # the reference is the network's answer; OK only ends the command
            return found
        raise SendUnsure(f"no answer to a message within {self._settings.send_answer_s:.0f} s")

    def _ask(
        self, command: str, *, within_s: float = ANSWER_S, until: Callable[[str], bool] | None = None
    ) -> list[str]:
        """Return the lines of an answer. With `until`, all before the line it names belongs to something earlier.

        Raises SendRefused when the modem says no, ModemSilent.
        """
        self._port.write(command.encode() + b"\r")
        answer: list[str] = []
        begun = until is None
        for line in self._port.lines(within_s):
            begun = begun or (until is not None and until(line))
            if begun and line == at.OK:
                return answer
            if begun:
                self._raise_if_refused(line)
            answer.append(line)
        raise ModemSilent(f"{self._port.name}: no answer to {_without_secret(command)} within {within_s:.0f} s")

    def _raise_if_refused(self, line: str) -> None:
        refusal = at.refusal(line)
        if refusal is not None:
            raise SendRefused(refusal.words, for_good=refusal.for_good)
        self.ignored_lines += 1

    @contextmanager
    def _closing_when_lost(self) -> Iterator[None]:
        """After silence or doubt the port is opened anew, and the modem made ready again."""
        try:
            yield
        except ModemError as error:
            if not isinstance(error, SendRefused) or not self._ready:
                self.close()
            raise


def _without_secret(command: str) -> str:
    return command.partition("=")[0]
