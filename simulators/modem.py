"""A GSM modem on a pseudo-terminal, with a SIM card, a network and the phones behind it, that fails as told.

Speaks the commands a gateway uses to send messages in PDU mode (3GPP TS 27.005, 27.007): one command after the other,
as a modem does. What the phones have received is asked for over the control socket: {"status": true}.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import Field, ValidationError

from simulators import control
from simulators.errors import SimulatorError
from simulators.lines import CHUNK_BYTES, terminals
from simulators.sms_submit import PduUnreadable, Telephone, read_submit
from station_config.toml_config import StrictModel

END_OF_MESSAGE, ESCAPE = 0x1A, 0x1B
SIM_ABSENT, SIM_WANTS_PIN, SIM_WANTS_PUK, NO_NETWORK, WRONG_PIN, PDU_INVALID = 310, 311, 316, 331, 16, 304
TRIES_BEFORE_PUK = 3
UNSOLICITED = ("+CREG: 1", "RING", '+CMTI: "SM",3', "^RSSI: 17")


class ModemFaults(StrictModel):
    """The modem's condition. Counts run down with each message: refuse, lie, swallow, silence, in this order."""

    sim: Literal["ready", "pin", "puk", "absent"] = "ready"
    pin: str = "1234"
    network: bool = True
    signal: int = Field(default=20, ge=0, le=99)
    refuse: int = Field(default=0, ge=0)  # +CMS ERROR: refuse_code, not delivered
    refuse_code: int = Field(default=38, ge=0)
    lie: int = Field(default=0, ge=0)  # OK without a reference, not delivered
    swallow: int = Field(default=0, ge=0)  # no answer, not delivered
    silence: int = Field(default=0, ge=0)  # delivered, yet no answer
    late_s: float = Field(default=0.0, ge=0.0, le=600.0)  # delivered at once, answered so much later
    deaf: bool = False  # nothing is answered at all
    busy: bool = False  # everything but AT is answered with ERROR
    garbage: bool = False  # noise between lines
    unsolicited: bool = False  # the modem speaks by itself between lines


@dataclass
class Modem:
    """The modem's side of the conversation. `write` sends to the gateway."""

    write: Callable[[bytes], None]
    chance: random.Random
    faults: ModemFaults = field(default_factory=ModemFaults)
    telephone: Telephone = field(default_factory=Telephone)
    echo: bool = True
    commands: list[str] = field(default_factory=list)
    pdus: list[str] = field(default_factory=list)
    pin_tries: int = 0
    resets: int = 0
    _reference: int = 0
    _expects_pdu: int | None = None
    _buffer: bytearray = field(default_factory=bytearray)

    async def hear(self, data: bytes) -> None:
        """Take bytes from the gateway and answer what is complete."""
        for octet in data:
            if self.echo and octet not in (ESCAPE, END_OF_MESSAGE) and not self.faults.deaf:
                self.write(bytes((octet,)))
            await self._hear_one(octet)

    async def _hear_one(self, octet: int) -> None:
        if octet == ESCAPE:
            self._buffer.clear()
            if self._expects_pdu is not None:
                self._expects_pdu = None
                self._say("OK")
        elif self._expects_pdu is not None:
            if octet == END_OF_MESSAGE:
                await self._take_pdu(self._taken(), self._expects_pdu)
            else:
                self._buffer.append(octet)
        elif octet in b"\r\n":
            if command := self._taken().strip():
                self._answer(command)
        else:
            self._buffer.append(octet)

    def _taken(self) -> str:
        text = self._buffer.decode("ascii", "replace")
        self._buffer.clear()
        return text

    def _answer(self, command: str) -> None:
        self.commands.append(command)
        del self.commands[:-200]
        if not command.upper().startswith("AT"):
            return
        word = command[2:].upper()
        if self.faults.busy and word:
            self._say("ERROR")
        elif word.startswith("+CMGS="):
            self._ask_for_pdu(word.removeprefix("+CMGS="))
        elif word.startswith("+CPIN"):
            self._sim(command[2:])
        else:
            self._say(*self._plain_answer(word))

    def _plain_answer(self, word: str) -> tuple[str, ...]:
        if word in ("E0", "E1"):
            self.echo = word == "E1"
        if word == "+CFUN=1,1":
            self.resets, self.echo = self.resets + 1, True
        answers = {
            "+CSQ": (f"+CSQ: {self.faults.signal},99", "OK"),
            "+CREG?": (f"+CREG: 0,{1 if self._online else 2}", "OK"),
        }
        known = {"", "E0", "E1", "+CMEE=1", "+CREG=0", "+CMGF=0", "+CFUN=1,1"}
        return answers.get(word, ("OK",) if word in known else ("ERROR",))

    @property
    def _online(self) -> bool:
        return self.faults.network and self.faults.sim == "ready"

    def _sim(self, word: str) -> None:
        sim = self.faults.sim
        if sim == "absent":
            self._say("+CME ERROR: 10")
        elif word == "+CPIN?":
            self._say(f"+CPIN: { {'ready': 'READY', 'pin': 'SIM PIN', 'puk': 'SIM PUK'}[sim] }", "OK")
        elif sim != "pin" or word == f'+CPIN="{self.faults.pin}"':
            self.pin_tries = 0
            self._change(sim="ready" if sim == "pin" else sim)
            self._say("OK")
        else:
            self.pin_tries += 1
            if self.pin_tries >= TRIES_BEFORE_PUK:
                self._change(sim="puk")
            self._say(f"+CME ERROR: {WRONG_PIN}")

    def _ask_for_pdu(self, length: str) -> None:
        codes = {"absent": SIM_ABSENT, "pin": SIM_WANTS_PIN, "puk": SIM_WANTS_PUK}
        if self.faults.sim in codes:
            self._say(f"+CMS ERROR: {codes[self.faults.sim]}")
        elif not length.isdecimal():
            self._say(f"+CMS ERROR: {PDU_INVALID}")
        else:
            self._expects_pdu = int(length)
            self._send(b"\r\n> ")

    async def _take_pdu(self, text: str, length: int) -> None:
        self._expects_pdu = None
        self.pdus.append(text)
        try:
            pdu = read_submit(text)
        except PduUnreadable:
            pdu = None
        if pdu is None or pdu.length != length:
            self._say(f"+CMS ERROR: {PDU_INVALID}")
        elif not self._online:
            self._say(f"+CMS ERROR: {NO_NETWORK}")
        elif (fault := self._take_fault()) == "refuse":
            self._say(f"+CMS ERROR: {self.faults.refuse_code}")
        elif fault == "lie":
            self._say("OK")
        elif fault != "swallow":
            self.telephone.receive(pdu)
            self._reference = (self._reference + 1) % 256
            await asyncio.sleep(self.faults.late_s)
            if fault != "silence":
                self._say(f"+CMGS: {self._reference}", "OK")

    def _take_fault(self) -> str | None:
        for name in ("refuse", "lie", "swallow", "silence"):
            if left := getattr(self.faults, name):
                self._change(**{name: left - 1})
                return name
        return None

    def _change(self, **changes: Any) -> None:
        self.faults = self.faults.model_copy(update=changes)

    def _say(self, *lines: str) -> None:
        for line in lines:
            if self.faults.garbage:
                self._send(bytes(self.chance.choice(b"\xff\x00\x7f\xfe") for _ in range(3)) + b"\r\n")
            if self.faults.unsolicited:
                self._send(f"\r\n{self.chance.choice(UNSOLICITED)}\r\n".encode())
            self._send(f"\r\n{line}\r\n".encode())

    def _send(self, data: bytes) -> None:
        if not self.faults.deaf:
            self.write(data)

    async def change(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out a request of the control socket; return the status. Raises SimulatorError."""
        if request != {"status": True}:
            try:
                self.faults = ModemFaults.model_validate(self.faults.model_dump() | request)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                raise SimulatorError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        return {
            **self.faults.model_dump(),
            "texts": self.telephone.texts,
            "pdus": len(self.pdus),
            "commands": len(self.commands),
            "resets": self.resets,
            "pin_tries": self.pin_tries,
        }


async def run(port: Path, control_socket: Path, seed: int) -> None:
    """Be a modem at `port` until SIGTERM or SIGINT. Raises ControlError, OSError."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with ExitStack() as stack:
        ours = stack.enter_context(terminals(port.parent, [port.name]))[port.name]
        heard: asyncio.Queue[bytes] = asyncio.Queue()
        modem = Modem(lambda data: _write(ours, data), random.Random(seed))  # noqa: S311  noise
        loop.add_reader(ours, lambda: heard.put_nowait(os.read(ours, CHUNK_BYTES)))
        stack.callback(loop.remove_reader, ours)
        listening = asyncio.create_task(_listen(modem, heard))
        async with control.serve(control_socket, modem.change):
            typer.echo(json.dumps({"ready": True, "port": str(port)}))
            await asyncio.wait({asyncio.create_task(stop.wait()), listening}, return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        await asyncio.wait({listening})


async def _listen(modem: Modem, heard: asyncio.Queue[bytes]) -> None:
    while True:
        await modem.hear(await heard.get())


def _write(terminal: int, data: bytes) -> None:
    try:
        os.write(terminal, data)
    except BlockingIOError:
        return  # nobody reads at the other end


class SimulatedModem:
    """A running `tram-sim modem`, from outside. Raises ControlError when it cannot be reached."""

    def __init__(self, control_socket: Path) -> None:
        self._control_socket = control_socket

    def become(self, **faults: object) -> None:
        """Change the modem's condition: any field of ModemFaults."""
        control.ask(self._control_socket, faults)

    def status(self) -> dict[str, Any]:
        """Return the condition, the texts the phones received, and what was counted."""
        return control.ask(self._control_socket, {"status": True})

    def texts(self) -> list[dict[str, str]]:
        """Return the texts the phones have received: [{"to", "text"}]."""
        texts: list[dict[str, str]] = self.status()["texts"]
        return texts


def command(
    port: Annotated[Path, typer.Option(help="Path of the serial port to make.")],
    control_socket: Annotated[Path, typer.Option("--control", help="Unix socket to control it by.")],
    seed: Annotated[int, typer.Option(help="Seed of what the modem says by itself.")] = 1,
) -> None:
    """Be a GSM modem on a pseudo-terminal, with the phones behind it.

    Prints {"ready":true} when it answers. Example: tram-sim modem --port run/modem --control run/modem.sock
    """
    try:
        asyncio.run(run(port, control_socket, seed))
    except (SimulatorError, OSError) as error:
        typer.echo(f"tram-sim modem: {error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(command)
