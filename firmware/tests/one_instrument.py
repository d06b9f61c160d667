"""The configuration of a station that has one instrument."""

import io

from firmware.configuration import parse
from firmware.instruments import decode_field, packed
from station_config.board import board_configuration, encode
from station_config.network import Gateway, Network, Sensor, Station


def station_of(name, definition, address, **more):
    """The configuration as the firmware reads it of a station with this one instrument."""
    sensor = Sensor(number=1, instrument=name, address=address, **more)
    station = Station(
        id="ben-thu",
        name_vi="Bến thử",
        name_en="Test pier",
        latitude=10.3,
        longitude=106.5,
        river="Tiền",
        river_km=1.0,
        gateway="gw",
        address=1,
        sample_interval_s=60,
        record_interval_s=60,
        sensors=(sensor,),
    )
    network = Network(name="Thử", gateways=(Gateway(id="gw"),), stations=(station,))
    return parse(io.BytesIO(encode(board_configuration(network, "ben-thu", {name: definition}))))


def decoded(field, data):
    """The count of a configuration.Field in an answer's data."""
    return decode_field(packed([field]), 0, data, field.decimals, field.invalid)
