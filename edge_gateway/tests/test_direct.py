"""What a station without a board stands on: its journal in a file, the host's clock, and its configuration's faults."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge_gateway.configuration import load_configuration
from edge_gateway.direct.clock import DirectClock
from edge_gateway.direct.journal import DirectJournal, Entry
from edge_gateway.direct.plans import direct_plans
from firmware.errors import JournalError
from firmware.record import EVENT_CONFIGURATION, EVENT_OVERWRITTEN, SIZE, Record, decode
from station_config.errors import ConfigurationError

NOW = 1_795_300_000
MOST = 200


def entries(number: int, at: int = NOW) -> list[Entry]:
    return [(at, count, 1, 32, 2) for count in range(number)]


def read(journal: DirectJournal, from_seq: int = 0, most: int = 10_000) -> list[Record]:
    raw = journal.read(from_seq or journal.first_seq, most)
    return [decode(raw, at) for at in range(0, len(raw), SIZE)]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[DirectJournal]:
    journal = DirectJournal(tmp_path / "journal.sqlite", MOST, lambda _: b"\x78\x56\x34\x12")
    journal.open()
    yield journal
    journal.close()


def again(journal: DirectJournal, tmp_path: Path) -> DirectJournal:
    journal.close()
    journal.open()
    return journal


def test_records_and_numbers_outlive_a_restart(journal: DirectJournal, tmp_path: Path) -> None:
    journal.append(entries(13))
    before = read(journal)

    reopened = again(journal, tmp_path)

    assert (reopened.id, reopened.next_seq, reopened.append(entries(2))) == (0x12345678, 14, 14)
    assert read(reopened)[:13] == before


def test_a_full_ring_declares_what_it_overwrites_unsent_once(journal: DirectJournal) -> None:
    for _ in range(40):
        journal.append(entries(13))
    declared = sum(record.count for record in read(journal) if record.parameter == EVENT_OVERWRITTEN)
    gone = journal.first_seq - 1

    assert journal.next_seq - journal.first_seq <= MOST
    # Events that have been overwritten themselves told of records before them.
    assert 0 < declared <= gone


def test_what_was_acknowledged_is_overwritten_without_a_word(journal: DirectJournal) -> None:
    for _ in range(40):
        journal.acknowledge(journal.append(entries(13)) + 12)

    assert [record for record in read(journal) if record.parameter == EVENT_OVERWRITTEN] == []


def test_a_change_of_configuration_is_told_until_its_event_is_stored(journal: DirectJournal, tmp_path: Path) -> None:
    assert journal.start_boot(77) == (1, True)
    assert again(journal, tmp_path).start_boot(77) == (2, True)
    journal.append([(NOW, 77, 0, EVENT_CONFIGURATION, 2)])

    assert again(journal, tmp_path).start_boot(77) == (3, False)


def test_a_full_disk_stores_nothing_gives_no_number_and_passes(journal: DirectJournal) -> None:
    journal.append(entries(5))
    sql = journal._opened()
    pages = sql.execute("PRAGMA page_count").fetchone()[0]
    sql.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    with pytest.raises(JournalError, match="not stored"):
        journal.append(entries(64) * 100)
    stored = journal.next_seq

    sql.execute("PRAGMA max_page_count = 1000000").fetchall()

    assert journal.append(entries(1)) == stored
    assert [record.seq for record in read(journal)] == list(range(journal.first_seq, stored + 1))


@pytest.mark.parametrize("garbage", [b"\0" * 8192, b"no database" * 1000])
def test_a_damaged_file_is_set_aside_and_another_journal_begun(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(garbage)
    journal = DirectJournal(path, MOST, lambda _: b"\1\0\0\0")

    journal.open()
    stored = journal.append(entries(3))
    journal.close()

    assert (stored, journal.id) == (1, 1)
    assert [file.read_bytes() for file in tmp_path.glob("journal.damaged-*.sqlite")] == [garbage]


def test_damage_that_shows_while_it_runs_costs_no_record_after_it(journal: DirectJournal, tmp_path: Path) -> None:
    for _ in range(5):
        journal.append(entries(13))
    journal._opened().execute("PRAGMA shrink_memory")
    for ending in ("", "-wal"):
        file = tmp_path / f"journal.sqlite{ending}"
        file.write_bytes(b"\xaa" * file.stat().st_size)

    first = journal.append(entries(3))

    assert (first, len(read(journal))) == (1, 3)


def test_a_file_of_a_newer_version_is_left_alone(journal: DirectJournal, tmp_path: Path) -> None:
    journal.close()
    with sqlite3.connect(tmp_path / "journal.sqlite") as sql:
        sql.execute("PRAGMA user_version = 9")
    sql.close()

    with pytest.raises(JournalError, match="newer version"):
        journal.open()


class JournalMachine(RuleBasedStateMachine):
    """Any order of appending, acknowledging and starting again, against a plain list."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.journal = DirectJournal(Path(self.folder.name) / "j.sqlite", MOST, lambda _: b"\1\2\3\4")
        self.journal.open()
        self.made: dict[int, Record] = {}

    @rule(number=st.integers(1, 64))
    def append(self, number: int) -> None:
        expected = self.journal.next_seq
        first = self.journal.append(entries(number))
        for record in read(self.journal, expected):
            assert record.seq not in self.made
            self.made[record.seq] = record
        assert self.journal.next_seq == first + number
        assert first - expected in (0, 1)  # what declares the overwritten goes first

    @rule(back=st.integers(0, 300))
    def acknowledge(self, back: int) -> None:
        self.journal.acknowledge(self.journal.next_seq - back)

    @rule()
    def start_again(self) -> None:
        self.journal.close()
        self.journal.open()

    @invariant()
    def holds_the_newest_without_a_gap(self) -> None:
        held = read(self.journal)
        assert [record.seq for record in held] == list(range(self.journal.first_seq, self.journal.next_seq))
        assert all(self.made[record.seq] == record for record in held)
        assert len(held) <= MOST
        assert self.journal.stored_through < self.journal.next_seq

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.journal.close()
            self.folder.cleanup()


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)


class Hand:
    """A clock by hand, and whether it is trusted."""

    def __init__(self, time_s: float, doubt: str | None = None) -> None:
        self.time_s = time_s
        self.why = doubt

    def now(self) -> float:
        return self.time_s

    def doubt(self) -> str | None:
        return self.why


def clock_of(hand: Hand) -> tuple[DirectClock, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    return DirectClock(hand, lambda now, step: told.append((now, step)), hand.doubt), told


def test_before_the_clock_is_set_records_carry_seconds_since_the_start() -> None:
    hand = Hand(40.0)
    clock, told = clock_of(hand)
    clock.jumped()
    assert (clock.is_set, clock.now(), told) == (False, 0, [])

    hand.time_s = float(NOW)
    clock.jumped()

    assert (clock.is_set, clock.now(), told, clock.steps) == (True, NOW, [(NOW, NOW)], 1)


def test_a_clock_that_nobody_vouches_for_is_not_set_until_somebody_does() -> None:
    hand = Hand(float(NOW), "is not synchronised")
    clock, told = clock_of(hand)
    clock.jumped()
    assert (clock.is_set, told) == (False, [])

    hand.why = None
    clock.jumped()

    assert (clock.is_set, told) == (True, [(NOW, NOW)])


@pytest.mark.parametrize(("moved_s", "steps"), [(0.4, []), (-0.9, []), (90.0, [90]), (-3600.0, [-3600])])
def test_a_step_is_told_and_a_slew_is_not(moved_s: float, steps: list[int]) -> None:
    hand = Hand(float(NOW))
    clock, told = clock_of(hand)
    hand.time_s += moved_s

    clock.jumped()
    clock.jumped()

    assert [step for _, step in told] == steps


def test_a_step_that_could_not_be_kept_is_told_again() -> None:
    hand = Hand(float(NOW))
    full = [True]
    told: list[int] = []

    def keep(_now: int, step: int) -> None:
        if full[0]:
            raise JournalError("the disk is full")
        told.append(step)

    clock = DirectClock(hand, keep)
    hand.time_s += 90
    with pytest.raises(JournalError):
        clock.jumped()
    full[0] = False
    clock.jumped()

    assert (told, clock.steps) == ([90], 1)


@pytest.mark.parametrize(("newest_s", "doubted"), [(NOW - 60, False), (NOW + 2 * 86_400, True), (1_500_000_000, True)])
def test_a_clock_that_does_not_fit_the_newest_record_waits(newest_s: int, doubted: bool) -> None:
    clock, _ = clock_of(Hand(float(NOW)))

    assert clock.doubt(newest_s) is doubted
    assert clock.is_set is not doubted


NETWORK = """
name = "Thử"
[[gateways]]
id = "gw"
[[gateways]]
id = "other"
"""
STATION = """
[[stations]]
id = "{id}"
name_vi = "x"
name_en = "x"
latitude = 10.3
longitude = 106.5
river = "Tiền"
river_km = 12.0
gateway = "{gateway}"
address = {address}
hardware = "{hardware}"
sample_interval_s = 10
record_interval_s = 60
sensors = [{{ number = 1, instrument = "yosemitech-y520", address = {sensor} }}]
"""
GATEWAY = """id = "gw"
state_dir = "state"
network = "network.toml"
[[line]]
name = "bus"
port = "/dev/ttyUSB0"
baud = {baud}
[[line.station]]
id = "xuan-hoa"
address = 11
{direct}
"""


def station(name: str, address: int, *, gateway: str = "gw", hardware: str = "gateway", sensor: int = 1) -> str:
    return STATION.format(id=name, gateway=gateway, address=address, hardware=hardware, sensor=sensor)


def direct(name: str, line: str = "bus") -> str:
    return f'[[direct]]\nstation = "{name}"\nline = "{line}"\n'


def write(folder: Path, network: str, directs: str, baud: int = 9600, extra: str = "") -> Path:
    (folder / "network.toml").write_text(NETWORK + network)
    file = folder / "gateway.toml"
    file.write_text(GATEWAY.format(baud=baud, direct=directs) + extra)
    return file


def test_instruments_may_share_a_line_with_stations(tmp_path: Path) -> None:
    file = write(tmp_path, station("cong-long", 21), direct("cong-long"))

    configuration = load_configuration(file)
    (plan,) = direct_plans(configuration)

    assert (plan.id, plan.line.name, plan.units, plan.board.sample_s) == ("cong-long", "bus", (1,), 10)
    assert configuration.station_ids == ("xuan-hoa", "cong-long")


@pytest.mark.parametrize(
    ("network", "directs", "faults"),
    [
        pytest.param(station("a", 21), direct("b"), ["not a station of network.toml"], id="unknown station"),
        pytest.param(
            station("cong-long", 21),
            direct("cong-long", "radio"),
            ["no [[line]] of this name; there is bus"],
            id="line",
        ),
        pytest.param(
            station("cong-long", 21, gateway="other"), direct("cong-long"), ["has it at gateway other"], id="gateway"
        ),
        pytest.param(
            station("cong-long", 21, hardware="esp32"), direct("cong-long"), ['hardware = "gateway"'], id="a board"
        ),
        pytest.param(
            station("cong-long", 21, sensor=11),
            direct("cong-long"),
            ["address 11 of sensor 1 is station xuan-hoa there"],
            id="address of a station",
        ),
        pytest.param(
            station("cong-long", 21), direct("cong-long") * 2, ["this station is used twice"], id="the same twice"
        ),
        pytest.param(
            station("cong-long", 21) + station("ben-do", 22),
            direct("cong-long") + direct("ben-do") + direct("nowhere"),
            ["address 1 of sensor 1 is sensor 1 of cong-long there", "not a station of network.toml"],
            id="all at once",
        ),
        pytest.param("[[stations]]\nid = 3\n", direct("cong-long"), ["network: ", "network.toml:"], id="bad network"),
    ],
)
def test_faults_are_told_with_file_and_line_all_at_once(
    tmp_path: Path, network: str, directs: str, faults: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_configuration(write(tmp_path, network, directs))

    told = str(refused.value)
    assert all(line.startswith(f"{tmp_path}/gateway.toml:") for line in told.splitlines())
    assert all(fault in told for fault in faults), told


def test_instruments_that_talk_otherwise_than_their_line_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"talks at 19200 8N1; sensor 1 of cong-long at 9600 8N1"):
        load_configuration(write(tmp_path, station("cong-long", 21), direct("cong-long"), baud=19200))


def test_a_line_with_nothing_on_it_and_a_tcp_line_with_a_baud_rate_are_faults(tmp_path: Path) -> None:
    more = '[[line]]\nname = "plc"\nport = "tcp://10.0.0.5"\nbaud = 9600\n'
    with pytest.raises(ConfigurationError) as refused:
        load_configuration(write(tmp_path, station("cong-long", 21), direct("cong-long"), extra=more))

    told = str(refused.value)
    assert "nothing is on this line" in told
    assert "Modbus TCP has none" in told


def test_two_stations_that_would_be_one_unit_are_named(tmp_path: Path) -> None:
    file = write(tmp_path, station("cong-long", 11, sensor=2), direct("cong-long"), extra="[modbus_server]\n")
    with pytest.raises(ConfigurationError, match="xuan-hoa and cong-long would both be unit 11"):
        load_configuration(file)

    file.write_text(file.read_text() + "[modbus_server.units]\ncong-long = 12\n")

    assert load_configuration(file).modbus_server is not None
