# The station's care for itself: commands and files of the gateway, and what is on trial. Only this small part stays in
# memory; what does the work (commands, files, update, image, trial) is borrowed when it is asked for.
from asyncio import create_task

from firmware import lazy
from firmware import ticks as real_ticks
from firmware.record import EVENT_UPDATE_APPLIED, EVENT_UPDATE_ROLLED_BACK, NOT_EVALUATED

_FILES_REST_MS = 30_000  # the code for files goes when nobody has used it for this long
_RESTART_MS = 1000  # the answer has to get out first
_WORKING, _DONE = 1, 2  # of commands.RESULTS
_ON_TRIAL = ("", "firmware", "configuration")


class Upkeep:
    # slots: firmware.slots.Slots. configuration_on_trial: whether the station runs on /candidate.json
    # version: of this application. restart: machine.reset
    def __init__(self, station, slots, configuration_on_trial, version, log, restart, ticks=real_ticks, root=""):
        self.log = log
        self.slots = slots
        self.fetches = 0  # counted by the server
        self._station = station
        self._version = version
        self._restart = restart
        self._ticks = ticks
        self._root = root
        self._command = self._argument = self._result = 0
        self._asked = False
        self._task = None
        self._files = None
        self._files_used_ms = 0
        self._restart_asked = False
        self._on_trial = 1 if slots.on_trial() else 2 if configuration_on_trial else 0
        self._trial = lazy.borrow("trial").Trial() if self._on_trial else None

    # Registers

    def command(self):
        return self._command

    def argument(self):
        return self._argument

    def result(self):
        return self._result

    def slot(self):
        return 1 if self.slots.running == "b" else 0

    def trial(self):
        return self._on_trial

    # Commands and files

    def ask(self, command, argument):
        # Whether it is taken. The same again is the same wish: it is not done twice.
        same = (command, argument) == (self._command, self._argument)
        if self._result == _WORKING or (same and self._result == _DONE):
            return same
        self._command, self._argument, self._result = command, argument, _WORKING
        self._asked = True
        return True

    def answer_file(self, request, out):
        return self.files().answer(request, out)

    def files(self):
        self._files_used_ms = self._ticks.ticks_ms()
        if self._files is None:
            self._files = lazy.borrow("files").Files(self._root)
        return self._files

    def candidate(self):
        return lazy.borrow("candidate").Candidate(self._root)

    def boots(self):
        return self._station.journal.boots & 0xFFFF

    async def rest(self):
        await self._ticks.sleep_ms(0)

    def restart_soon(self):
        self._restart_asked = True

    async def work(self):
        self._result = await lazy.borrow("commands").execute(self, self._command, self._argument)
        if self._restart_asked:
            await self._ticks.sleep_ms(_RESTART_MS)
            self._restart()

    # Round by round

    def come_round(self):
        # Called by the uplink at least twice a second.
        if self._asked:
            self._asked = False
            self._task = create_task(self.work())
        if self._files is not None and self._idle_ms() > _FILES_REST_MS:
            self._files = None
        if self._trial is not None:
            self._judge(self._trial)

    def _idle_ms(self):
        return self._ticks.ticks_diff(self._ticks.ticks_ms(), self._files_used_ms)

    def _judge(self, trial):
        station = self._station
        verdict = trial.look(station.clock.uptime_s(), station.channels, self.fetches, station.journal.stored_through)
        if verdict == "confirmed":
            self._end_trial(trial.why).confirm()
            self._on_trial = 0
            self.tell()
        elif verdict:
            self._fail(trial.why)

    def cannot_be_reached(self):
        # The uplink's port cannot be opened: nobody will ever ask for records.
        if self._trial is not None:
            self._fail("given up: the uplink cannot be opened")

    def _fail(self, why):
        self._end_trial(why).give_up()
        self._restart()

    def _end_trial(self, why):
        # Returns who owns what was tried.
        self._trial = None
        self.log.write("%s on trial: %s" % (_ON_TRIAL[self._on_trial], why))
        return self.slots if self._on_trial == 1 else self.candidate()

    # What became of the last update, for the journal

    def tell(self):
        # Raises JournalError or OSError: then it is told at the next start.
        outcome = self.slots.outcome
        if outcome == "-":
            return
        event, version = EVENT_UPDATE_APPLIED, self._version
        if outcome == "R":
            event, version = EVENT_UPDATE_ROLLED_BACK, self._version_of(self.slots.spare())
        count = version[0] * 10000 + version[1] * 100 + version[2]
        station = self._station
        station.journal.append([(station.clock.now(), count, 0, event, NOT_EVALUATED)])
        self.slots.told()

    def _version_of(self, slot):
        try:
            with open("%s/%s/version" % (self._root, slot)) as file:
                parts = file.read(16).split(".")
            return int(parts[0]), int(parts[1]), int(parts[2])
        except (OSError, ValueError, IndexError):
            return 0, 0, 0

    def settle(self):
        # At the start: a candidate that runs nowhere has failed, and so has an active slot that does not run. Then what
        # became of it is told.
        slots = self.slots
        if slots.running and not slots.on_trial() and (slots.candidate != "-" or slots.active != slots.running):
            self.log.write("slot %s runs, the other one could not be started" % slots.running)
            slots.give_up()
        self.tell()
