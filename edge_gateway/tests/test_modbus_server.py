"""SCADA at the gateway: pymodbus's client reads the registers of stations, and can write nothing."""

from __future__ import annotations

import math
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pymodbus.client import ModbusTcpClient

from edge_gateway.configuration import GatewayConfiguration
from edge_gateway.contacts import ContactBook
from edge_gateway.modbus_works import modbus_works
from edge_gateway.outbox import Outbox, open_outbox
from edge_gateway.outbox_store import Limits
from edge_gateway.slices import Series, Slice
from edge_gateway.tests.conftest import wait_for
from firmware import record
from firmware.record import EVENT_BOOT, MISSING, NO_VALUE, NOT_EVALUATED, Record
from station_config.clock import SystemClock
from station_config.free_ports import free_port
from station_config.parameters import load_parameters

JOURNAL = 0x1234ABCD
CONDUCTIVITY = load_parameters().by_name["conductivity_25"]
TEMPERATURE = load_parameters().by_name["water_temperature"]
NETWORK = """
name = "Thử"
[[gateways]]
id = "gw-test"
[[stations]]
id = "xuan-hoa"
name_vi = "Xuân Hòa"
name_en = "Xuan Hoa"
latitude = 10.36
longitude = 106.42
river = "Tiền"
river_km = 43.0
gateway = "gw-test"
address = 11
sample_interval_s = 10
record_interval_s = 60
sensors = [{ number = 1, instrument = "yosemitech-y520", address = 1 }]
"""


class Scada:
    """The gateway's server over an outbox, and a client that asks it."""

    def __init__(self, folder: Path, network: bool, connections: int = 8) -> None:
        self.outbox = open_outbox(folder / "outbox.sqlite", Limits(1 << 28, 1e9), SystemClock())
        self.port = free_port()
        (folder / "network.toml").write_text(NETWORK)
        configuration = GatewayConfiguration.model_validate(
            {
                "id": "gw-test",
                "state_dir": folder,
                "modbus_server": {"port": self.port, "connections": connections, "units": {"my-tho": 40}},
                "line": [
                    {"name": "a", "port": "/dev/null", "station": [{"id": "xuan-hoa", "address": 11}]},
                    {"name": "b", "port": "/dev/zero", "station": [{"id": "my-tho", "address": 11}]},
                ],
                **({"network": folder / "network.toml"} if network else {}),
            }
        )
        self.contacts = ContactBook(configuration.station_ids)
        (work,) = modbus_works(configuration, self.outbox, self.contacts, SystemClock()).values()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=work, args=(self.stop,))
        self.thread.start()
        self.client: Any = ModbusTcpClient("127.0.0.1", port=self.port, timeout=30)
        wait_for(self.client.connect, "the server")

    def close(self) -> None:
        self.client.close()
        self.stop.set()
        self.thread.join(60)
        self.outbox.close()

    def record(self, seq: int, parameter: int, count: int, *, sensor: int = 1, flag: int = 2, age_s: int = 0) -> None:
        time = int(SystemClock().now()) - age_s
        raw = record.encode(Record(seq, time, count, sensor, parameter, flag))
        self.outbox.write(
            lambda store: store.append_anywhere(Slice(Series("xuan-hoa", JOURNAL), seq, raw), 1, float(time))
        )

    def live(self, unit: int = 11, channels: int = 4) -> list[tuple[Any, ...]]:
        registers = self.client.read_input_registers(100, count=4 * channels, device_id=unit).registers
        raw = struct.pack(f">{4 * channels}H", *registers)
        return [block for block in struct.iter_unpack(">BBHf", raw) if block[0] != 0xFF]


@pytest.fixture
def scada(tmp_path: Path) -> Iterator[Scada]:
    scada = Scada(tmp_path, network=True)
    yield scada
    scada.close()


def test_live_values_stand_where_the_station_itself_has_them(scada: Scada) -> None:
    scada.record(1, CONDUCTIVITY.code, 27_075)
    scada.record(2, TEMPERATURE.code, 2_840)

    # As in station.json: the probe's temperature, then its conductivity.
    assert scada.live() == [
        (1, TEMPERATURE.code, NOT_EVALUATED, pytest.approx(28.40)),
        (1, CONDUCTIVITY.code, NOT_EVALUATED, pytest.approx(27.075)),
    ]


def test_the_newest_record_stands_whatever_comes_later_of_the_backlog(scada: Scada) -> None:
    scada.record(500, CONDUCTIVITY.code, 3_000)
    scada.record(7, CONDUCTIVITY.code, 1_000, age_s=60)

    assert scada.live()[1][3] == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("count", "flag", "age_s"),
    [pytest.param(MISSING, NO_VALUE, 0, id="missing"), pytest.param(3_000, 2, 3600, id="an hour old")],
)
def test_what_is_no_value_or_old_is_none(scada: Scada, count: int, flag: int, age_s: int) -> None:
    scada.record(1, CONDUCTIVITY.code, count, flag=flag, age_s=age_s)

    _, _, shown_flag, value = scada.live()[1]

    assert (shown_flag, math.isnan(value)) == (NO_VALUE, True)


def test_the_status_block_is_that_of_a_station(scada: Scada) -> None:
    scada.contacts.update("xuan-hoa", journal=JOURNAL, first_seq=3, next_seq=70_001, acknowledged=70_000)
    scada.record(1, EVENT_BOOT, 12, sensor=0)

    registers = scada.client.read_input_registers(0, count=56, device_id=11).registers

    assert (registers[0], registers[1]) == (0x5452, 1)
    assert [registers[at] << 16 | registers[at + 1] for at in (2, 4, 6, 8)] == [JOURNAL, 3, 70_001, 70_000]
    assert abs((registers[10] << 16 | registers[11]) - SystemClock().now()) < 5
    assert (registers[12], registers[15]) == (1, 12)
    assert struct.pack(">16H", *registers[40:56]).rstrip(b"\0") == b"xuan-hoa"


def test_it_says_who_it_is(scada: Scada) -> None:
    basic = scada.client.read_device_information(device_id=11)
    own = scada.client.read_device_information(read_code=4, object_id=0x80, device_id=40)

    assert (basic.information[0], basic.information[1]) == (b"Tram", b"station")
    assert own.information == {0x80: b"my-tho"}


def test_nothing_can_be_written(scada: Scada) -> None:
    refused = [
        scada.client.write_register(0, 1, device_id=11),
        scada.client.write_registers(0, [1, 2, 3, 4], device_id=11),
        scada.client.write_registers(10, [3, 0, 1], device_id=11),
        scada.client.write_coil(0, True, device_id=11),
        scada.client.readwrite_registers(
            read_address=0x200, read_count=9, write_address=0x100, values=[0] * 6, device_id=11
        ),
        scada.client.read_coils(0, count=1, device_id=11),
    ]

    assert [answer.exception_code for answer in refused] == [1] * len(refused)


@pytest.mark.parametrize(("address", "count"), [(56, 1), (50, 10), (90, 20), (350, 10), (400, 1)])
def test_registers_that_are_none_are_refused(scada: Scada, address: int, count: int) -> None:
    assert scada.client.read_input_registers(address, count=count, device_id=11).exception_code == 2


def test_a_unit_that_is_no_station_is_refused(scada: Scada) -> None:
    assert scada.client.read_input_registers(0, count=2, device_id=99).exception_code == 10


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\n\r\n", b"\0\1\0\0\0\0\1", b"\0\1\0\0\xff\xff\1\4", b"\0\1\0\0\0\6\1\4\0", b""],
)
def test_nonsense_ends_its_own_connection_and_nobody_elses(scada: Scada, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", scada.port), 60) as stranger:
        stranger.sendall(said)
        stranger.shutdown(socket.SHUT_WR)
        stranger.settimeout(60)
        with suppress(ConnectionResetError):
            assert stranger.recv(100) == b""

    assert scada.client.read_input_registers(0, count=1, device_id=11).registers == [0x5452]


def test_connections_are_bounded_and_one_that_ends_makes_room(tmp_path: Path) -> None:
    scada = Scada(tmp_path, network=False, connections=2)
    second: Any = ModbusTcpClient("127.0.0.1", port=scada.port, timeout=30, retries=0)
    third: Any = ModbusTcpClient("127.0.0.1", port=scada.port, timeout=1, retries=0)
    second.connect()
    assert second.read_input_registers(0, count=1, device_id=11).registers == [0x5452]
    with socket.create_connection(("127.0.0.1", scada.port), 60) as too_many:
        too_many.settimeout(60)
        with suppress(ConnectionResetError):
            assert too_many.recv(1) == b""
    second.close()

    def third_is_served() -> bool:
        third.connect()
        try:
            return not third.read_input_registers(0, count=1, device_id=11).isError()
        except Exception:  # noqa: BLE001  pymodbus has several for a connection that was closed
            return False

    wait_for(third_is_served)
    third.close()
    scada.close()


def test_without_a_network_file_channels_stand_by_their_numbers(tmp_path: Path) -> None:
    scada = Scada(tmp_path, network=False)
    scada.record(1, CONDUCTIVITY.code, 2_000, sensor=2)
    scada.record(2, TEMPERATURE.code, 2_840, sensor=1)
    shown = [block[:2] for block in scada.live()]
    scada.close()

    assert shown == [(1, TEMPERATURE.code), (2, CONDUCTIVITY.code)]


def test_what_was_last_heard_before_a_start_is_shown_after_it(tmp_path: Path) -> None:
    before = open_outbox(tmp_path / "outbox.sqlite", Limits(1 << 28, 1e9), SystemClock())
    raw = record.encode(Record(1, int(SystemClock().now()), 2_000, 1, CONDUCTIVITY.code, 2))
    before.append(Slice(Series("xuan-hoa", JOURNAL), 1, raw))
    before.close()
    scada = Scada(tmp_path, network=True)
    shown = scada.live()
    scada.close()

    assert shown[1][3] == pytest.approx(2.0)
    assert isinstance(scada.outbox, Outbox)
