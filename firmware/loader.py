# Installed as /main.py by tram-station, and never changed by an update: chooses the slot whose application runs.
#
#   /a/firmware/*.mpy, /b/firmware/*.mpy   the two slots
#   /slots                                 8 bytes, replaced whole: active slot, candidate slot or "-", starts of the
#                                          candidate so far, what became of the last one; a checksum
#   /maintenance                           keeps the application, and with it the watchdog, from starting once
#
# A candidate gets TRIES starts to confirm itself (firmware.trial); then the active slot runs again. A slot that cannot
# be imported gives way to the other. Everything is tried under the watchdog, so whatever hangs or fails starts again.
import gc
import hashlib
import os
import sys

STATE = "/slots"
LOG = "/log.txt"  # of firmware.log, which the gateway can read
LOG_LIMIT = 4096
TRIES = 3
WATCHDOG_MS = 8000  # the RP2040's longest is 8.3 s


def seal(text):
    # The file's bytes for four characters.
    raw = text.encode()
    return raw + hashlib.sha256(raw).digest()[:4]


def read_state(path=STATE):
    # Without a readable state slot a runs; if there is nothing in it, b.
    try:
        with open(path, "rb") as file:
            raw = file.read(16)
        text = raw[:4].decode()
        return text if len(text) == 4 and text[2].isdigit() and seal(text) == raw else "a-0-"
    except (OSError, ValueError):
        return "a-0-"


def write_state(text, path=STATE):
    with open(path + ".new", "wb") as file:
        file.write(seal(text))
    os.rename(path + ".new", path)


def other(slot):
    return "b" if slot == "a" else "a"


def choose(path=STATE):
    # The slots in the order to try them. A candidate's start is counted before it is made.
    active, candidate, starts, outcome = read_state(path)
    if candidate == "-":
        return active, other(active)
    try:
        if int(starts) < TRIES:
            write_state(active + candidate + str(int(starts) + 1) + outcome, path)
            return candidate, active
        write_state(active + "-0R", path)
    except OSError as error:  # a start that cannot be counted is not made
        print("tram loader: %s cannot be written: %s" % (path, error))
    return active, other(active)


def wanted_for_maintenance():
    try:
        os.remove("/maintenance")
    except OSError:
        return False
    return True


def note(text, error, path=LOG):
    # What went wrong, on the console and in the log. A start that fails again and again fills the log once.
    print("tram loader: " + text)
    sys.print_exception(error)
    line = "0 loader: %s: %s: %s\n" % (text, type(error).__name__, str(error).replace("\n", " "))
    try:
        with open(path, "a") as file:
            if file.seek(0, 2) + len(line) <= LOG_LIMIT:
                file.write(line)
    except OSError as unwritten:
        print("tram loader: %s cannot be written: %s" % (path, unwritten))


def load(slots):
    # The start function of the first slot that can be imported, or None.
    for slot in slots:
        sys.path.insert(0, "/" + slot)
        try:
            from firmware.main import start

            return start
        except Exception as error:  # whatever is wrong with it, the other one may be whole
            note("slot %s cannot be used" % slot, error)
        sys.path.pop(0)
        for name in list(sys.modules):
            if name.split(".")[0] == "firmware":
                del sys.modules[name]
        gc.collect()
    return None


if __name__ == "__main__":
    if wanted_for_maintenance():
        print("tram maintenance: the application was not started, reset to start it")
    else:
        import asyncio

        import machine

        machine.WDT(timeout=WATCHDOG_MS)
        gc.threshold(4096)  # what importing leaves behind is not left to lie between the modules
        start = load(choose())
        if start is None:
            print("tram loader: no slot can be used: flash the station")
        else:
            try:
                application = start()
            except Exception as error:  # the watchdog starts the station again
                note("the application did not start", error)
                raise
            del start, load, choose, note, wanted_for_maintenance, write_state, read_state, seal, other
            gc.collect()
            asyncio.run(application)
