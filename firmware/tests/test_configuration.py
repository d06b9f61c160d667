"""station.json is refused as a whole, with every fault named, or used as a whole."""

import hashlib
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.configuration import DEFAULT, Field, Port, Pulse, Start, parse
from firmware.errors import ConfigurationError
from firmware.tests.station_parts import configuration_of, content
from station_config.board import board_configuration, encode
from station_config.network import load_network


def faults(changed):
    with pytest.raises(ConfigurationError) as refused:
        configuration_of(changed)
    return str(refused.value)


def changed_field(**changes):
    probe, wind = content()["sensors"]
    probe["reads"][0]["fields"][0] |= changes
    return content(sensors=[probe, wind])


def changed_sensor(**changes):
    probe, wind = content()["sensors"]
    return content(sensors=[probe | changes, wind])


def changed_status(**changes):
    probe, wind = content()["sensors"]
    probe["reads"][0]["status"] |= changes
    return content(sensors=[probe, wind])


SDI12 = {"command": "MC", "fields": [{"parameter": 36, "at": 0, "decimals": 3}]}
RAIN = {"number": 5, "pin": 14, "parameter": 70, "decimals": 1, "per_pulse": 2000}


def test_pulses_and_sdi12_sensors_are_read():
    sensors = [{"number": 1, "address": 48, "power": 32, "measurements": [SDI12]}]
    sdi12 = {"uart": 1, "baud": 1200, "bits": 7, "parity": 0, "tx": 18, "rx": 19, "de": 23}
    configuration = configuration_of(content(sensors=sensors, pulses=[RAIN | {"record_s": 600}], sdi12=sdi12))
    measurement = configuration.sensors[0].measurements[0]
    assert (measurement.command, [(field.parameter, field.at) for field in measurement.fields]) == ("MC", [(36, 0)])
    assert configuration.sdi12 == Port(1, 1200, 7, 0, 1, 18, 19, 23)
    assert configuration.pulses == (Pulse(5, 14, 70, 1, 2000, 80, 4_000_000, (600, 600)),)


def test_what_a_short_file_leaves_out_is_the_usual():
    read = {"fc": 3, "register": 0, "count": 2, "fields": [{"parameter": 36, "at": 0, "type": "f32", "decimals": 3}]}
    start = {"fc": 16, "register": 1}
    sensor = configuration_of(content(sensors=[{"number": 1, "address": 1, "start": start, "reads": [read]}])).sensors[
        0
    ]
    assert (sensor.every, sensor.wake_ms, sensor.timeout_ms, sensor.retries) == (1, 0, 500, 1)
    assert sensor.start == Start(16, 1, 0, (), False, 0, None, 1)
    assert sensor.reads[0].fields[0] == Field(36, 0, "f32", "ABCD", 1, 0, 3, "mean", None, (), None)


def test_a_good_file_becomes_a_configuration():
    configuration = configuration_of(content())
    field = configuration.sensors[0].reads[0].fields[1]
    assert (configuration.station, configuration.address, len(configuration.sensors)) == ("vam-kenh", 11, 2)
    assert field == Field(34, 4, "f32", "DCBA", 1.0, 0.0, 3, "mean", None, (), None)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (content(version=2), "station.version"),
        (content(address=0), "station.address"),
        (content(address=True), "station.address"),
        (content(station="Vàm Kênh"), "station.station"),
        (content(record_s=65), "multiple of sample_s"),
        (content(sensors=None), "sensors"),
        (content(colour="blue"), "station.colour: is not known"),
        (content(bus=None), "bus"),
        (content(bus=dict(content()["bus"], parity="N")), "bus.parity"),
        (content(sensors=[content()["sensors"][0]] * 2), "same number"),
        (changed_field(at=7), "sensors[0].reads[0].fields[0].at"),
        (changed_field(type="f64"), "fields[0].type"),
        (changed_field(order="AB"), "fields[0].order"),
        (changed_field(scale="1"), "fields[0].scale"),
        (changed_field(parameter=128), "fields[0].parameter"),
        (changed_field(parameter=34), "two fields have the same parameter"),
        (changed_field(statistic="directions"), "fields[0].statistic"),
        (changed_field(statistic="direction", speed=99), "no field has the speed's parameter 99"),
        (changed_field(invalid=[1.5]), "fields[0].invalid"),
        (changed_sensor(every=0), "sensors[0].every"),
        (changed_sensor(wake_ms=60001), "sensors[0].wake_ms"),
        (changed_sensor(start={"fc": 5, "register": 1}), "sensors[0].start.fc"),
        (changed_sensor(start={"fc": 6, "register": 1}), "function 6 writes exactly one"),
        (changed_sensor(start={"fc": 16, "register": 1, "values": [65536]}), "sensors[0].start.values"),
        (changed_sensor(start={"fc": 16, "register": 1, "values": [0] * 17}), "sensors[0].start.values"),
        (changed_sensor(start={"fc": 3, "register": 1, "wait_ms": 60001}), "sensors[0].start.wait_ms"),
        (changed_sensor(start={"fc": 3, "register": 1, "wait_factor": 0.5}), "sensors[0].start.wait_factor"),
        (changed_field(record_s=90), "fields[0]: record_s and average_s must be multiples"),
        (changed_field(record_s=120, average_s=180), "average_s the smaller"),
        (changed_field(statistic="gust"), "a gust of 3 s needs a sample every second"),
        (changed_sensor(burst={"readings": 1}), "sensors[0].burst.readings"),
        (changed_sensor(burst={"readings": 50, "pause_ms": 5000}), "burst: takes longer than 60000 ms"),
        (changed_sensor(power=17), "pin 17: is used twice"),
        (changed_sensor(wiper={"fc": 6, "register": 1, "every_s": 600, "busy_s": 15}), "sensors[0].wiper.values"),
        (changed_sensor(wiper={"fc": 16, "register": 1, "every_s": 60, "busy_s": 60}), "sensors[0].wiper.busy_s"),
        (changed_sensor(reads=[]), "must have reads or measurements"),
        (changed_sensor(measurements=[SDI12]), "has reads (Modbus) and measurements (SDI-12)"),
        (changed_sensor(reads=[], measurements=[SDI12]), "station.sdi12: must be the port of the sensors"),
        (content(sdi12=dict(content()["bus"], tx=14), pulses=[RAIN]), "pin 14: is used twice"),
        (changed_sensor(reads=[], measurements=[SDI12 | {"command": "X"}]), "measurements[0].command"),
        (content(pulses=[RAIN | {"per_pulse": 999}]), "pulses[0].per_pulse"),
        (content(pulses=[RAIN | {"number": 1}]), "same number"),
        (content(pulses=[RAIN, RAIN | {"number": 6}]), "pin 14: is used twice"),
        (content(pulses=[RAIN | {"pin": 16}]), "pin 16: is used twice"),
        (changed_status(scope="station"), "status.scope"),
        (changed_status(type="i16"), "status.type"),
        (changed_status(mask=-1), "status.mask"),
    ],
)
def test_a_fault_is_named_with_its_place(changed, named):
    assert named in faults(changed)


def test_all_faults_are_named_at_once():
    text = faults(content(address=300, sample_s=0, station=""))
    assert all(name in text for name in ("station.address", "station.sample_s", "station.station"))


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"[]", b"null", b"3", b'"x"'])
def test_what_is_no_table_is_refused(raw):
    with pytest.raises(ConfigurationError):
        parse(io.BytesIO(raw))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=4)))
def test_any_value_in_any_place_is_refused_or_used(value):
    for key in content():
        try:
            configuration_of(content(**{key: value}))
        except ConfigurationError:
            continue


def test_the_hash_is_that_of_the_bytes_and_fits_a_record():
    raw = json.dumps(content()).encode()
    assert parse(io.BytesIO(raw)).hash == int.from_bytes(hashlib.sha256(raw).digest()[:4], "big") >> 1


def test_the_default_answers_at_247_without_sensors():
    assert (DEFAULT.address, DEFAULT.sensors) == (247, [])


def test_what_station_config_writes_is_accepted(tmp_path):
    network = tmp_path / "network.toml"
    network.write_text(NETWORK)
    raw = encode(board_configuration(load_network(network), "hoa-binh"))
    assert [sensor.number for sensor in parse(io.BytesIO(raw)).sensors] == [1, 2, 3]


def test_rhythms_power_bursts_and_pulses_that_station_config_writes_are_accepted(tmp_path):
    network = tmp_path / "network.toml"
    more = 'power = 32\nburst = { readings = 5 }\nstatistics = { conductivity_25 = ["min", "max"] }\n'
    text = NETWORK.replace('instrument = "yosemitech-y520"\n', 'instrument = "yosemitech-y520"\n' + more)
    text = text.replace("record_interval_s = 60\n", "record_interval_s = 600\n" + TIPPING_BUCKET)
    network.write_text(text)
    configuration = parse(io.BytesIO(encode(board_configuration(load_network(network), "hoa-binh"))))
    fields = [field for sensor in configuration.sensors for read in sensor.reads for field in read.fields]
    assert configuration.record_s == 60
    assert {field.parameter: field.rhythm for field in fields if field.parameter in (34, 64, 98)} == {
        34: (600, 600),
        64: (600, 60),
        98: (600, 600),
    }
    assert (configuration.sensors[0].power, configuration.pulses[0].rhythm) == (32, (600, 600))


TIPPING_BUCKET = "pulses = [{ number = 9, pin = 14, per_pulse = 0.2 }]\n"
NETWORK = """\
name = "Thử"
timezone = "Asia/Ho_Chi_Minh"
[[gateways]]
id = "gw-1"
[[stations]]
id = "hoa-binh"
name_vi = "Hòa Bình"
name_en = "Hoa Binh"
latitude = 10.29
longitude = 106.59
river = "Cửa Tiểu"
river_km = 20.0
gateway = "gw-1"
address = 12
sample_interval_s = 10
record_interval_s = 60
[[stations.sensors]]
number = 1
instrument = "yosemitech-y520"
address = 1
[[stations.sensors]]
number = 2
instrument = "keller-acculevel"
address = 2
elevation_m = -3.0
[[stations.sensors]]
number = 3
instrument = "ecowitt-wn90lp"
address = 144
"""
