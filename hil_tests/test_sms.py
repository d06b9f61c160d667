"""The gateway's SMS as phones read them, and its modem client on a modem that fails as told."""

from __future__ import annotations

import os
import pty
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_gateway.errors import (
    ModemError,
    ModemNotReady,
    ModemSilent,
    ModemUnavailable,
    SendRefused,
    SendUnsure,
    TextTooLong,
)
from edge_gateway.gsm_modem import GsmModem, ModemSettings, NoPin
from edge_gateway.sms_pdu import is_gsm7, submits
from simulators.modem import SimulatedModem
from simulators.processes import Program, Spawner, command
from simulators.sms_submit import Telephone, read_submit

FARMER = "+84912345678"
TEXT = "Tram Xuan Hoa: do man 2,5 g/L. Khong lay nuoc vao."
LATIN = st.text(st.sampled_from("aAđĐạớ0 €[]{}\\^~|@£_é\n.,:/"), max_size=400)
NUMBERS = st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True)


@given(NUMBERS, st.one_of(LATIN, st.text(max_size=300)), st.integers(0, 255))
def test_a_phone_reads_what_was_written(number: str, text: str, reference: int) -> None:
    try:
        made = submits(number, text, reference=reference, service_centre="+84900000023")
    except TextTooLong:
        assert len(text) > 200
        return
    phone = Telephone()
    for pdu in made:
        read = read_submit(pdu.hex)
        assert (read.to, read.length, read.validity_min) == (number, pdu.length, 120)
        phone.receive(read)
    shown = text.encode("utf-16", "replace").decode("utf-16")  # half of a pair is no character
    assert phone.texts == [{"to": number, "text": shown}]


@given(st.text("abc€{^ABC 0123,.", max_size=160))
def test_a_plain_text_takes_no_more_messages_than_it_must(text: str) -> None:
    septets = len(text) + sum(character in "€{^" for character in text)
    assert is_gsm7(text)
    assert (len(submits(FARMER, text)) == 1) == (septets <= 160)


@pytest.fixture(scope="module")
def modem_program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("modem")
    port, socket, log, spawner = folder / "port", folder / "control.sock", folder / "log", Spawner()
    argv = [command("tram-sim"), "modem", "--port", str(port), "--control", str(socket)]
    program = Program("modem", argv, spawner, log, lambda: b"ready" in log.read_bytes(), dict(os.environ))
    program.start()
    yield port, socket
    program.stop()
    spawner.close()


@pytest.fixture
def phones(modem_program: tuple[Path, Path]) -> SimulatedModem:
    """The modem in good health, and the texts that reach phones from now on."""
    phones = SimulatedModem(modem_program[1])
    phones.become(
        sim="ready",
        network=True,
        signal=20,
        refuse=0,
        lie=0,
        swallow=0,
        silence=0,
        late_s=0.0,
        deaf=False,
        busy=False,
        garbage=False,
        unsolicited=False,
    )
    return phones


@pytest.fixture
def modem(modem_program: tuple[Path, Path]) -> Iterator[GsmModem]:
    modem = GsmModem(ModemSettings(str(modem_program[0]), send_answer_s=1.0))
    yield modem
    modem.close()


def heard(phones: SimulatedModem, text: str) -> int:
    """How many phones show this text."""
    return sum(shown["text"] == text for shown in phones.texts())


def test_a_message_goes_out_and_its_reference_comes_back(modem: GsmModem, phones: SimulatedModem) -> None:
    (reference,) = modem.send(FARMER, TEXT, reference=1)
    assert 0 <= reference <= 255
    assert phones.texts()[-1] == {"to": FARMER, "text": TEXT}


def test_a_long_vietnamese_text_arrives_as_one(modem: GsmModem, phones: SimulatedModem) -> None:
    text = (
        "Trạm Xuân Hòa: độ mặn 2,5 g/L lúc 14:05, đã tới ngưỡng trạm 2 g/L cho lúa. Không lấy nước vào, chờ tin tiếp."
    )
    assert len(modem.send(FARMER, text, reference=9)) == 2
    assert phones.texts()[-1] == {"to": FARMER, "text": text}


def test_a_modem_that_speaks_by_itself_and_makes_noise_is_understood(modem: GsmModem, phones: SimulatedModem) -> None:
    phones.become(unsolicited=True, garbage=True)
    state = modem.check()
    assert (state.signal_dbm, state.problem) == (-73, None)
    modem.send(FARMER, "among noise", reference=2)
    assert heard(phones, "among noise") == 1


def test_a_refusal_is_told_in_words_and_whether_it_is_for_good(modem: GsmModem, phones: SimulatedModem) -> None:
    phones.become(refuse=1, refuse_code=38)
    with pytest.raises(SendRefused, match=r"out of order .*38") as refused:
        modem.send(FARMER, "refused", reference=3)
    assert not refused.value.for_good
    phones.become(refuse=1, refuse_code=1)
    with pytest.raises(SendRefused, match="not in use") as refused:
        modem.send(FARMER, "refused", reference=3)
    assert refused.value.for_good
    modem.send(FARMER, "and the next goes", reference=3)
    assert (heard(phones, "refused"), heard(phones, "and the next goes")) == (0, 1)


@pytest.mark.parametrize("fault", ["lie", "swallow", "silence"])
def test_without_a_reference_nothing_is_believed(modem: GsmModem, phones: SimulatedModem, fault: str) -> None:
    phones.become(**{fault: 1})
    with pytest.raises(SendUnsure):
        modem.send(FARMER, f"unsure {fault}", reference=4)
    modem.send(FARMER, f"after {fault}", reference=4)
    assert heard(phones, f"after {fault}") == 1


def test_a_late_answer_is_not_taken_for_the_next_messages(modem: GsmModem, phones: SimulatedModem) -> None:
    phones.become(late_s=2.0)
    with pytest.raises(SendUnsure, match="no answer"):
        modem.send(FARMER, "given up", reference=5)
    phones.become(late_s=0.0, refuse=1)
    with pytest.raises(SendRefused):  # and not the late +CMGS: of the one before
        modem.send(FARMER, "refused behind a late answer", reference=6)
    assert heard(phones, "refused behind a late answer") == 0


def test_no_network_is_said_before_anything_is_sent(modem: GsmModem, phones: SimulatedModem) -> None:
    phones.become(network=False, signal=99)
    state = modem.check()
    assert state.signal_dbm is None
    assert "aerial" in (state.problem or "")
    with pytest.raises(ModemNotReady, match="no network"):
        modem.send(FARMER, "no network", reference=1)
    assert heard(phones, "no network") == 0


@pytest.mark.parametrize(("sim", "words"), [("absent", "no SIM card"), ("puk", "SIM PUK"), ("pin", "wants its PIN")])
def test_what_is_wrong_with_the_sim_card_is_said(modem: GsmModem, phones: SimulatedModem, sim: str, words: str) -> None:
    phones.become(sim=sim)
    with pytest.raises(ModemNotReady, match=words):
        modem.check()


def test_a_sim_card_taken_out_between_two_messages(modem: GsmModem, phones: SimulatedModem) -> None:
    modem.send(FARMER, "with card", reference=1)
    phones.become(sim="absent")
    with pytest.raises(ModemError):
        modem.send(FARMER, "without card", reference=1)
    phones.become(sim="ready")
    modem.send(FARMER, "card is back", reference=1)
    assert (heard(phones, "without card"), heard(phones, "card is back")) == (0, 1)


class OnePin(NoPin):
    def __init__(self, pin: str) -> None:
        self.pin, self.worked = pin, False

    def take(self) -> str:
        return self.pin

    def accepted(self) -> None:
        self.worked = True


def test_the_pin_unlocks_the_card(modem_program: tuple[Path, Path], phones: SimulatedModem) -> None:
    phones.become(sim="pin", pin="4711")
    pin = OnePin("4711")
    modem = GsmModem(ModemSettings(str(modem_program[0])), pin)
    modem.send(FARMER, "unlocked", reference=1)
    modem.close()
    assert pin.worked
    assert heard(phones, "unlocked") == 1


def test_a_wrong_pin_is_said_and_not_sent_on(modem_program: tuple[Path, Path], phones: SimulatedModem) -> None:
    phones.become(sim="pin", pin="4711")
    pin = OnePin("0000")
    modem = GsmModem(ModemSettings(str(modem_program[0])), pin)
    with pytest.raises(ModemNotReady, match="PIN is wrong") as said:
        modem.check()
    modem.close()
    assert "0000" not in str(said.value)
    assert not pin.worked


def test_a_busy_modem_and_a_deaf_one(modem: GsmModem, phones: SimulatedModem) -> None:
    phones.become(busy=True)
    with pytest.raises(ModemError):
        modem.check()
    phones.become(busy=False, deaf=True)
    with pytest.raises(ModemSilent, match="no modem answers"):
        modem.check()
    phones.become(deaf=False)
    assert modem.check().problem is None


def test_a_restarted_modem_is_made_ready_again(modem: GsmModem, phones: SimulatedModem) -> None:
    resets = phones.status()["resets"]
    modem.check()
    modem.reset()
    assert phones.status()["resets"] == resets + 1
    modem.send(FARMER, "after a reset", reference=1)
    assert heard(phones, "after a reset") == 1


def test_a_port_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModemUnavailable, match="plugged in"):
        GsmModem(ModemSettings(str(tmp_path / "nothing"))).check()


def test_a_port_that_goes_while_a_message_is_handed_over() -> None:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    modem = GsmModem(ModemSettings(os.ttyname(theirs)))
    os.close(theirs)
    os.close(ours)
    with pytest.raises(ModemUnavailable):
        modem.check()
