# Whether a new application or a new configuration has proved itself: an instrument was read with it, and the gateway
# has stored records that it sent. In memory only while something is on trial.
#
# A trial ends by confirming or giving up what was tried. What became of an update stands in the loader's state until it
# is in the journal, so a power cut in between tells it a second time rather than never.
from firmware import const, version
from firmware.record import EVENT_UPDATE_APPLIED, EVENT_UPDATE_ROLLED_BACK, NOT_EVALUATED

_LASTS_S = const(900)

GOING_ON, CONFIRMED, FAILED = "", "confirmed", "failed"

_FIRMWARE = const(1)
_CONFIGURATION = const(2)
_NAMES = ("", "firmware", "configuration")


class Proof:
    def __init__(self):
        self.why = ""
        self._read = False
        self._mark = None  # the highest seq the gateway had when it first asked

    def look(self, uptime_s, channels, fetches, stored_through):
        # Call it every few seconds; returns one of the three, and why says the reason.
        # channels: sampler.Channels. fetches: how often the gateway asked for records. stored_through: of the journal.
        if not len(channels) or any(flag == NOT_EVALUATED for flag in channels.live_flag):
            self._read = True
        if fetches and self._mark is None:
            self._mark = stored_through
        if self._read and self._mark is not None and stored_through > self._mark:
            self.why = "confirmed: instruments were read and the gateway stored records"
            return CONFIRMED
        if uptime_s < _LASTS_S:
            return GOING_ON
        self.why = "given up: %s in %d s" % (
            "the gateway stored no record" if self._read else "no instrument was read",
            _LASTS_S,
        )
        return FAILED


class Trial:
    # owner: of what is tried, slots.Slots or candidate.Candidate
    def __init__(self, upkeep, kind, owner):
        self.kind = kind
        self._upkeep = upkeep
        self._owner = owner
        self._proof = Proof()

    def come_round(self):
        upkeep = self._upkeep
        station = upkeep.station
        verdict = self._proof.look(
            station.clock.uptime_s(), station.channels, upkeep.fetches, station.journal.stored_through
        )
        if verdict == CONFIRMED:
            self._end(self._proof.why)
            self._owner.confirm()
            if self.kind == _FIRMWARE:
                tell(upkeep, self._owner)
        elif verdict == FAILED:
            self.fail(self._proof.why)

    def fail(self, why):
        self._end(why)
        self._owner.give_up()
        self._upkeep.restart()

    def _end(self, why):
        self._upkeep.on_trial = None
        self._upkeep.log.write("%s on trial: %s" % (_NAMES[self.kind], why))


def begin(upkeep, configuration_on_trial):
    # At the start: what is on trial, after the last update's end was told. Raises JournalError or OSError.
    slots = upkeep.slots()
    if slots.on_trial():
        upkeep.on_trial = Trial(upkeep, _FIRMWARE, slots)
    elif configuration_on_trial:
        upkeep.on_trial = Trial(upkeep, _CONFIGURATION, upkeep.candidate())
    if slots.running and not slots.on_trial() and (slots.candidate != "-" or slots.active != slots.running):
        # a candidate that does not run has failed, and so has an active slot that does not
        upkeep.log.write("slot %s runs, the other one could not be started" % slots.running)
        slots.give_up()
    tell(upkeep, slots)


def tell(upkeep, slots):
    # Put what became of the last update into the journal.
    if slots.outcome == "-":
        return
    event, number = EVENT_UPDATE_APPLIED, version.VERSION
    if slots.outcome == "R":
        event, number = EVENT_UPDATE_ROLLED_BACK, _version_of(upkeep.root + "/" + slots.spare())
    count = number[0] * 10000 + number[1] * 100 + number[2]
    station = upkeep.station
    station.journal.append([(station.clock.now(), count, 0, event, NOT_EVALUATED)])
    slots.told()


def _version_of(slot):
    # 0.0.0 when the slot does not say.
    try:
        with open(slot + "/version") as file:
            parts = file.read(16).split(".")
        return int(parts[0]), int(parts[1]), int(parts[2])
    except (OSError, ValueError, IndexError):
        return 0, 0, 0
