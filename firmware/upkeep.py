# The station's care for itself: commands and files of the gateway, and what is on trial. Only this small part stays in
# memory; what does the work (commands, files, update, image, slots, trial) is borrowed when it is needed.
from asyncio import create_task

from firmware import const, lazy
from firmware import ticks as real_ticks

_FILES_REST_MS = const(30_000)  # the code for files goes when nobody has used it for this long
_RESTART_MS = const(1000)  # the answer has to get out first
_WORKING = const(1)  # of commands.RESULTS
_DONE = const(2)


class Upkeep:
    # running: the slot this application was imported from. restart: machine.reset
    def __init__(self, station, running, log, restart, ticks=real_ticks, root=""):
        self.station = station
        self.running = running
        self.log = log
        self.restart = restart
        self.root = root
        self.fetches = 0  # counted by the server
        self.on_trial = None  # a trial.Trial
        self._ticks = ticks
        self._command = self._argument = self._result = 0
        self._asked = False
        self._task = None
        self._files = None
        self._files_used_ms = 0
        self._restart_asked = False

    # Registers

    def command(self):
        return self._command

    def argument(self):
        return self._argument

    def result(self):
        return self._result

    def slot(self):
        return 1 if self.running == "b" else 0

    def trial(self):
        return 0 if self.on_trial is None else self.on_trial.kind

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
            self._files = lazy.borrow("files").Files(self.root)
        return self._files

    def slots(self):
        return lazy.borrow("slots").Slots(self.running, self.root + "/slots")

    def candidate(self):
        return lazy.borrow("candidate").Candidate(self.root)

    async def rest(self):
        await self._ticks.sleep_ms(0)

    def restart_soon(self):
        self._restart_asked = True

    async def work(self):
        self._result = await lazy.borrow("commands").execute(self, self._command, self._argument)
        if self._restart_asked:
            await self._ticks.sleep_ms(_RESTART_MS)
            self.restart()

    # Round by round

    def come_round(self):
        # Called by the uplink at least twice a second.
        if self._asked:
            self._asked = False
            self._task = create_task(self.work())
        if self._files is not None and self._idle_ms() > _FILES_REST_MS:
            self._files = None
        if self.on_trial is not None:
            self.on_trial.come_round()

    def _idle_ms(self):
        return self._ticks.ticks_diff(self._ticks.ticks_ms(), self._files_used_ms)
