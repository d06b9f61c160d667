# Power on to running station. The one file that touches the board's hardware; everything else is handed what it needs.
# The loader imports it from a slot and runs what start() returns; this file is not kept in memory meanwhile.
#
# What is needed only for a while follows one another, so that the heap is not fuller at the start than later: the
# configuration, the instruments made from it, what is on trial, the uplink.
import gc
import os
import sys
import time

import machine

import firmware
from firmware import const, lazy, version
from firmware.bus import Client
from firmware.clock import Clock
from firmware.errors import ConfigurationError, JournalError
from firmware.instruments import Instrument
from firmware.journal import Journal
from firmware.line import Line
from firmware.log import Log
from firmware.sampler import Channels

WATCHDOG_MS = 8000  # the RP2040's longest is 8.3 s
_COLLECT_EVERY = const(1024)  # bytes of garbage while it starts

# These are imported again when the configuration has gone. That they can be is seen here, where the loader can still
# turn to the other slot.
for _later in ("station", "upkeep", "uplink"):
    lazy.borrow(_later)


def start():
    # Returns the coroutine that is the station. It never ends.
    watchdog = machine.WDT(timeout=WATCHDOG_MS)
    gc.threshold(_COLLECT_EVERY)
    clock = Clock(time, machine.RTC())
    log = Log("/log.txt", clock)
    configuration, on_trial = _load_configuration(log)
    journal = _open_journal(configuration, log)
    station, uplink = _assemble(configuration, on_trial, clock, journal, log)
    _say_start(station.id, journal)
    sys.modules.pop("firmware.main")
    delattr(firmware, "main")
    return station.run(uplink, watchdog)


def _load_configuration(log):
    # (configuration, whether it is on trial). The checking code is needed once; its memory is given back afterwards.
    parse = lazy.borrow("configuration").parse
    candidate = lazy.borrow("candidate").Candidate()
    try:
        if candidate.is_there():
            if candidate.count_start():
                return _parse_file(parse, candidate.path), True
            log.write("configuration on trial: given up after its last start")
            candidate.give_up()
    except ConfigurationError as error:
        log.fault("new configuration refused, the old one stays", error)
        candidate.give_up()
    except OSError as error:
        log.fault("new configuration not tried", error)
    return _load_confirmed(parse, log), False


def _load_confirmed(parse, log):
    try:
        return _parse_file(parse, "/station.json")
    except OSError:
        log.write("no /station.json: flash the station; until then it answers at address 247")
    except ConfigurationError as error:
        log.fault("configuration refused, answering at address 247", error)
    return lazy.borrow("configuration").DEFAULT


def _parse_file(parse, path):
    with open(path, "rb") as file:
        return parse(file)


def _open_journal(configuration, log):
    size = configuration.journal
    journal = Journal("/journal", size.segment_records, size.max_bytes, os.urandom)
    try:
        for repair in journal.open():
            log.write("journal: " + repair)
    except OSError as error:
        log.fault("journal cannot be opened, it is tried again with each record", error)
    return journal


def _assemble(configuration, on_trial, clock, journal, log):
    channels = Channels()
    client, instruments = _instruments(configuration, channels, clock, log)
    supplies = _supplies(configuration, instruments, log)
    configuration.sensors.clear()  # the instruments have taken over what they need of them
    sampled = [] if client is None else instruments
    sampled += _pulse_inputs(configuration, channels, journal, log)
    from firmware.station import Station
    from firmware.upkeep import Upkeep

    station = Station(configuration, clock, journal, log, client, channels, sampled, supplies=supplies)
    _note_start(station, log)
    upkeep = Upkeep(station, firmware.__path__[1:2], log, machine.reset)  # from "/a/firmware" or "/b/firmware"
    _begin_trial(upkeep, on_trial, log)
    return station, _uplink(configuration, station, upkeep, log)


def _uplink(configuration, station, upkeep, log):
    line = _open_line(configuration.uplink, log, "uplink")
    if line is None:
        if upkeep.on_trial is not None:
            upkeep.on_trial.fail("given up: the uplink cannot be opened")
        return None
    from firmware.uplink import Server, Uplink

    return Uplink(line, Server(configuration.address, configuration.station, version.TEXT, station, upkeep))


def _instruments(configuration, channels, clock, log):
    # (the client whose health is told or None, one instrument per sensor). What a station does not have is not loaded.
    sensors = configuration.sensors
    line = client = None
    if not all(sensor.measurements for sensor in sensors):
        line = _open_line(configuration.bus, log, "bus")
        client = Client(line) if line else None
    if not any(sensor.measurements for sensor in sensors):
        return client, [Instrument(sensor, clock, channels) for sensor in sensors]
    from firmware import sdi12_sensor

    sdi12_client = _sdi12_client(configuration, line, client, log)
    return client or sdi12_client, [
        sdi12_sensor.Sensor(sensor, clock, sdi12_client, channels)
        if sensor.measurements
        else Instrument(sensor, clock, channels)
        for sensor in sensors
    ]


def _sdi12_client(configuration, bus_line, bus_client, log):
    # With the UART of the bus: both have it in turn.
    from firmware import sdi12_line

    port, bus = configuration.sdi12, configuration.bus
    if bus_client is None or port.uart != bus.uart:
        line = _open_line(port, log, "sdi12")
        return sdi12_line.Client(line, counts=bus_client) if line else None
    try:
        turns = sdi12_line.Turns(bus_client.lock, bus_line.uart, _settings(port), _settings(bus))
        line = Line(bus_line.uart, port.baud, _open_de(port))
    except ValueError as error:
        log.fault("sdi12: its pins cannot be used, check station.json", error)
        return None
    return sdi12_line.Client(line, turns=turns, counts=bus_client)


def _pulse_inputs(configuration, channels, journal, log):
    if not configuration.pulses:
        return []
    from firmware.pulse import Contact, PulseInput

    inputs = []
    for pulse in configuration.pulses:
        pin = _open_pin(pulse.pin, machine.Pin.IN, machine.Pin.PULL_UP, log)
        contact = None if pin is None else Contact(pulse.debounce_ms)
        if contact is not None:
            contact.attach(pin)
        inputs.append(PulseInput(pulse, contact, channels))
        try:
            if inputs[-1].recover(journal) is None:
                log.write("sensor %d: no total in the journal, it begins at 0" % pulse.number)
        except OSError as error:
            log.fault("sensor %d: total not found, it begins at 0" % pulse.number, error)
    return inputs


def _supplies(configuration, instruments, log):
    if not any(sensor.power is not None for sensor in configuration.sensors):
        return None
    from firmware.power import Supplies

    return Supplies(configuration, instruments, lambda number: _open_pin(number, machine.Pin.OUT, None, log))


def _open_pin(number, mode, pull, log):
    try:
        return machine.Pin(number, mode) if pull is None else machine.Pin(number, mode, pull)
    except ValueError as error:
        log.fault("pin %d cannot be used, check station.json" % number, error)
        return None


def _begin_trial(upkeep, configuration_on_trial, log):
    try:
        lazy.borrow("trial").begin(upkeep, configuration_on_trial)
    except (OSError, JournalError) as error:
        log.fault("last update not noted, it is tried again at the next start", error)


def _open_line(port, log, name):
    # A port this board does not have is a fault of the configuration, and the station does without it.
    try:
        uart = machine.UART(port.uart, **_settings(port))
        de = _open_de(port)
    except (ValueError, OSError) as error:
        log.fault("%s: UART %d cannot be opened, check station.json" % (name, port.uart), error)
        return None
    return Line(uart, port.baud, de)


def _open_de(port):
    return None if port.de is None else machine.Pin(port.de, machine.Pin.OUT, value=0)


def _settings(port):
    # What UART() and UART.init() are told.
    settings = {"baudrate": port.baud, "bits": port.bits, "parity": port.parity, "stop": port.stop, "rxbuf": 512}
    for key, number in (("tx", port.tx), ("rx", port.rx)):
        if number is not None:
            settings[key] = machine.Pin(number)
    return settings


def _note_start(station, log):
    if machine.reset_cause() == machine.WDT_RESET:  # on an RP2040 a restart by order too
        log.write("started again by the watchdog")
    try:
        station.note_start(machine.reset_cause())
    except (OSError, JournalError) as error:
        log.fault("start not noted", error)


def _say_start(station, journal):
    gc.collect()
    print("tram station=%s journal=%08x next_seq=%d version=%s" % (station, journal.id, journal.next_seq, version.TEXT))
