# What the gateway can have done. Borrowed when a command comes, and let go when it is done.
import gc
import struct

from firmware import const, lazy, version
from firmware.errors import CommandRefused, ConfigurationError
from firmware.record import EVENT_CALIBRATION_MODE, NOT_EVALUATED

APPLY_CONFIGURATION = 1
APPLY_UPDATE = 2
REBOOT = 3
FORGET = 4
CALIBRATION = 5

COMMANDS = {
    APPLY_CONFIGURATION: "apply the staged configuration (file 5); argument: first 4 bytes of its SHA-256",
    APPLY_UPDATE: "put the staged firmware image (file 3) into the spare slot; argument: first 4 bytes of its SHA-256",
    REBOOT: "restart; argument: the boot number in input register 15, so that a late repetition does nothing",
    FORGET: "forget a staged file; argument: its number",
    CALIBRATION: "note in the journal that a sensor is being calibrated; argument: 256 sensor + 1, + 0 at the end",
}
NONE, WORKING, DONE = 0, 1, 2
RESULTS = {
    "none": NONE,
    "working": WORKING,
    "done": DONE,
    "unknown command": 10,
    "nothing staged": 11,
    "no key": 12,
    "bad signature": 13,
    "bad image": 14,
    "not newer": 15,
    "other bytecode": 16,
    "flash full": 17,
    "on trial": 18,
    "bad configuration": 19,
    "flash failed": 20,
    "bad argument": 21,
    "fault": 22,
}
_IMAGE, _CONFIGURATION = 3, 5  # the staged files (firmware.files)
# times the file's size, plus the module: what checking a configuration needs while the station runs
_PARSE_HEAP = const(6)
_PARSE_MODULE = const(20480)


async def execute(upkeep, command, argument):
    # Returns a result code; never raises. upkeep: firmware.upkeep.Upkeep
    try:
        if command == APPLY_CONFIGURATION:
            _apply_configuration(upkeep, argument)
        elif command == APPLY_UPDATE:
            await _apply_update(upkeep, argument)
        elif command == REBOOT:
            if argument != upkeep.station.journal.boots & 0xFFFF:
                raise CommandRefused("bad argument", "restart refused: it was meant for boot %d" % argument)
            upkeep.restart_soon()
        elif command == FORGET:
            _forget(upkeep, argument)
        elif command == CALIBRATION:
            _note_calibration(upkeep.station, argument >> 8, argument & 0xFF)
        else:
            raise CommandRefused("unknown command", "command %d is not known" % command)
    except CommandRefused as refusal:
        upkeep.log.write("command %d: %s" % (command, refusal))
        return RESULTS[refusal.result]
    except OSError as error:
        upkeep.log.fault("command %d: flash" % command, error)
        return RESULTS["flash failed"]
    except Exception as error:  # the gateway's edge: whatever it was, it is told and logged, and the station goes on
        upkeep.log.fault("command %d" % command, error)
        return RESULTS["fault"]
    return DONE


def _staged(upkeep, number, argument):
    if upkeep.trial() or upkeep.slots().candidate != "-" or upkeep.candidate().is_there():
        raise CommandRefused("on trial", "one thing at a time: something is applied and not yet proved")
    path = upkeep.files().whole(number, struct.pack(">I", argument))
    if path is None:
        raise CommandRefused("nothing staged", "no whole file %d with that hash is staged" % number)
    return path


def _apply_configuration(upkeep, argument):
    path = _staged(upkeep, _CONFIGURATION, argument)
    with open(path, "rb") as file:
        _check_configuration(upkeep, file)
    upkeep.candidate().propose(path)
    upkeep.files().forget(_CONFIGURATION)


def _check_configuration(upkeep, file):
    # The next start checks it whatever happens here; where there is memory enough for it now, the answer comes now.
    gc.collect()
    if hasattr(gc, "mem_free") and gc.mem_free() < _PARSE_HEAP * file.seek(0, 2) + _PARSE_MODULE:
        return
    file.seek(0)
    try:
        lazy.borrow("configuration").parse(file)
    except ConfigurationError as error:
        raise CommandRefused("bad configuration", str(error))
    except MemoryError:
        upkeep.log.write("configuration: not enough memory to check it now; the next start does")


async def _apply_update(upkeep, argument):
    path = _staged(upkeep, _IMAGE, argument)
    updater = lazy.borrow("update").Updater(upkeep.slots(), version.VERSION, upkeep.rest)
    upkeep.log.write("firmware %d.%d.%d is in the spare slot" % await updater.apply(path))
    upkeep.files().forget(_IMAGE)


def _forget(upkeep, number):
    if number not in (_IMAGE, _CONFIGURATION):
        raise CommandRefused("bad argument", "file %d is never staged" % number)
    upkeep.files().forget(number)


def _note_calibration(station, sensor, on):
    # MicroPython has no `in` for a number in a bytearray.
    if on > 1 or not any(known == sensor for known in station.channels.sensor):
        raise CommandRefused("bad argument", "calibration mode %d of sensor %d: there is none" % (on, sensor))
    station.journal.append([(station.clock.now(), on, sensor, EVENT_CALIBRATION_MODE, NOT_EVALUATED)])
