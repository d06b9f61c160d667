# Power on to running station. The one file that touches the board's hardware; everything else is handed what it needs.
import asyncio
import gc
import os
import sys
import time

import machine

import firmware
from firmware import version
from firmware.bus import Client
from firmware.clock import Clock
from firmware.errors import ConfigurationError, JournalError
from firmware.instruments import Instrument
from firmware.journal import Journal
from firmware.line import Line
from firmware.log import Log
from firmware.station import Station
from firmware.uplink import Server, Uplink

WATCHDOG_MS = 8000  # the RP2040's longest is 8.3 s


def run():
    watchdog = machine.WDT(timeout=WATCHDOG_MS)
    clock = Clock(time, machine.RTC())
    log = Log("/log.txt", clock)
    configuration = _load_configuration(log)
    journal = _open_journal(configuration, log)
    station, uplink = _assemble(configuration, clock, journal, log)
    _note_start(station, log)
    _say_start(configuration, journal)
    asyncio.run(station.run(uplink, watchdog))


def _load_configuration(log):
    # The checking code is needed once; its memory is given back afterwards.
    from firmware import configuration as station_file

    del sys.modules["firmware.configuration"]
    delattr(firmware, "configuration")
    try:
        with open("/station.json", "rb") as file:
            return station_file.parse(file.read())
    except OSError:
        log.write("no /station.json: flash the station; until then it answers at address 247")
    except ConfigurationError as error:
        log.fault("configuration refused, answering at address 247", error)
    return station_file.DEFAULT


def _open_journal(configuration, log):
    size = configuration.journal
    journal = Journal("/journal", size.segment_records, size.max_bytes, os.urandom)
    try:
        for repair in journal.open():
            log.write("journal: " + repair)
    except OSError as error:
        log.fault("journal cannot be opened, it is tried again with each record", error)
    return journal


def _assemble(configuration, clock, journal, log):
    bus = _open_line(configuration.bus, log, "bus") if configuration.sensors else None
    uplink_line = _open_line(configuration.uplink, log, "uplink")
    instruments = [Instrument(sensor, clock) for sensor in configuration.sensors]
    station = Station(configuration, clock, journal, log, Client(bus) if bus else None, instruments)
    server = Server(configuration.address, configuration.station, version.TEXT, station)
    return station, Uplink(uplink_line, server) if uplink_line else None


def _open_line(port, log, name):
    # A port this board does not have is a fault of the configuration, and the station does without it.
    pins = {"tx": port.tx, "rx": port.rx}
    wiring = {key: machine.Pin(pin) for key, pin in pins.items() if pin is not None}
    try:
        uart = machine.UART(
            port.uart,
            baudrate=port.baud,
            bits=port.bits,
            parity=port.parity,
            stop=port.stop,
            rxbuf=512,
            **wiring,  # type: ignore[call-overload]
        )
        de = None if port.de is None else machine.Pin(port.de, machine.Pin.OUT, value=0)
    except (ValueError, OSError) as error:
        log.fault("%s: UART %d cannot be opened, check station.json" % (name, port.uart), error)
        return None
    return Line(uart, port.baud, de)


def _note_start(station, log):
    try:
        station.note_start(machine.reset_cause())
    except (OSError, JournalError) as error:
        log.fault("start not noted", error)


def _say_start(configuration, journal):
    gc.collect()
    print(
        "tram station=%s journal=%08x next_seq=%d version=%s"
        % (configuration.station, journal.id, journal.next_seq, version.TEXT)
    )
