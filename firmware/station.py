# The station: its loops, and what they share. Everything it needs is handed in, so it runs on any board and in a test.
#
# sample    every sample_s: read each instrument whose turn it is, give each of its channels its sample
# record    every record_s: one record per channel whose interval ends, whatever happened, stored with one sync
# power     switch supplies on ahead of the sample, where pins do that
# uplink    answer the gateway
# watch     feed the watchdog while the other three come round
#
# All run in one thread and give way only while they wait, so none sees another's half-done work.
import gc
from asyncio import gather

from firmware import const
from firmware import ticks as real_ticks
from firmware.errors import JournalError
from firmware.record import EVENT_BOOT, EVENT_CLOCK_SET, EVENT_CONFIGURATION, NOT_EVALUATED
from firmware.schedule import CLOSE, GO_ON, Intervals, Samples, part_of

_LOOK_MS = const(20)  # the wall clock is looked at this often; it may run faster than real time on a bench
_REST_MS = const(1000)  # after a fault
_HUNG_AFTER_MS = const(120_000)  # a loop that has not come round for this long is not healthy
_WATCH_MS = const(1000)
_MOST_WAITING = const(256)  # records that wait for a flash that takes none; beyond that the oldest go
_COLLECT_EVERY = const(2048)  # bytes of garbage: little and often keeps the heap's peak low
_COUNT_MAX = const(0x7FFFFFFF)
_HEALTH_MAX = const(3_999_999)

# Health parameters of the vocabulary, sensor 0
_FREE_HEAP = const(18)
_BUS_TIMEOUTS = const(19)
_BUS_CRC_ERRORS = const(20)
_BUS_LATE_ANSWERS = const(21)
_BUS_QUESTIONS = const(22)
_BUS_QUESTIONS_HELD = const(23)
_BUS_LATENCY_MEDIAN = const(24)
_BUS_LATENCY_P99 = const(25)
_BUS_LATENCY_MAX = const(26)


class Station:
    # client: of the instruments' line; None when it could not be opened, or there is none.
    # channels: sampler.Channels; sampled: instruments and pulse inputs, which fill them; supplies: of firmware.power.
    def __init__(self, configuration, clock, journal, log, client, channels, sampled, ticks=real_ticks, supplies=None):
        self.id = configuration.station
        self.configuration_hash = configuration.hash
        self.clock = clock
        self.journal = journal
        self.client = client
        self.reset_cause = 0
        self.channels = channels
        self._log = log
        self._sampled = sampled
        self._supplies = supplies
        self._ticks = ticks
        self._samples = Samples(configuration.sample_s)
        self._intervals = Intervals(configuration.record_s)
        self._health_every = configuration.health_every
        self._steps = 0
        self._interval_number = 0
        self._waiting = []  # records made and not stored yet
        self._has_closed = False  # intervals, since records were stored last
        self._came_round_ms = {}  # loop: when it last did

    async def run(self, uplink, watchdog):
        # Never returns. uplink may be None when its port could not be opened.
        loops = [self._loop("record", self._record_once), self._watch(watchdog)]
        if self._sampled:
            loops.append(self._loop("sample", self._sample_once))
        if self._supplies is not None:
            loops.append(self._loop("power", self._power_once))
        if uplink is not None:
            loops.append(self._loop("uplink", uplink.serve_once))
        if hasattr(gc, "mem_free"):  # MicroPython: CPython's threshold is another thing
            gc.threshold(_COLLECT_EVERY)
        await gather(*loops)

    async def _loop(self, name, once):
        self._came_round_ms[name] = self._ticks.ticks_ms()
        while True:
            try:
                await once()
                self._came_round_ms[name] = self._ticks.ticks_ms()
            except Exception as error:  # the edge of a loop: whatever it was, the station goes on and the log names it
                self._log.fault(name, error)
                await self._ticks.sleep_ms(_REST_MS)

    async def _watch(self, watchdog):
        while True:
            if self._is_healthy():
                watchdog.feed()
            await self._ticks.sleep_ms(_WATCH_MS)

    def _is_healthy(self):
        now_ms = self._ticks.ticks_ms()
        return all(self._ticks.ticks_diff(now_ms, at) < _HUNG_AFTER_MS for at in self._came_round_ms.values())

    # What happened at the start

    def note_start(self, reset_cause):
        self.reset_cause = reset_cause
        newest_s = self.journal.newest_time()
        if newest_s is not None and self.clock.doubt(newest_s):
            self._log.write("clock: what it shows does not fit the newest record; it waits to be set")
        boots, changed = self.journal.start_boot(self.configuration_hash)
        events = [self._event(EVENT_BOOT, boots)]
        if changed:
            events.append(self._event(EVENT_CONFIGURATION, self.configuration_hash))
        self._store(events)

    def _event(self, parameter, count, time=None):
        now = self.clock.now() if time is None else time
        return now, max(-_COUNT_MAX, min(_COUNT_MAX, count)), 0, parameter, NOT_EVALUATED

    # Samples and records

    async def _sample_once(self):
        if not self._samples.is_due(self.clock.now()):
            await self._ticks.sleep_ms(_LOOK_MS)
            return
        for instrument in self._sampled:
            await instrument.start(self.client)
        for instrument in self._sampled:
            await instrument.sample(self.client)
            self._came_round_ms["sample"] = self._ticks.ticks_ms()
        if self._supplies is not None:
            self._supplies.release(self._samples.left_s(self.clock.now()))

    async def _power_once(self):
        await self._supplies.look(self._samples.left_s(self.clock.now()), self.client)

    def _look_at_clock(self):
        # A clock that jumps by itself goes on where it was. The event tells by how much it was set back.
        jump_s = self.clock.jumped()
        if not jump_s:
            return
        self._log.write("clock: it jumped by %d s by itself" % jump_s)
        if self.clock.is_set:
            now = self.clock.now() - jump_s
            self.clock.set(now, 0, self.clock.uncertainty_ms)
            self._store([self._event(EVENT_CLOCK_SET, -jump_s)])

    async def _record_once(self):
        self._close_ended()
        if not self._has_closed:
            await self._ticks.sleep_ms(_LOOK_MS)
            return
        self._has_closed = False
        try:
            self._store([])
        finally:
            self._close_ended()  # ends that passed while a slow flash wrote: what is sampled next is none of theirs
        gc.collect()
        await self._ticks.sleep_ms(0)  # nor must a flash slower than the interval keep the others waiting for ever

    def _close_ended(self):
        # Give every interval that has ended its records, as long as few enough wait to be stored.
        self._look_at_clock()
        if self._steps != self.clock.steps:
            self._steps = self.clock.steps
            self._intervals.clock_moved(self.clock.now())
        while len(self._waiting) <= _MOST_WAITING:
            end = self._intervals.due(self.clock.now())
            if end is None:
                return
            self._waiting = self._waiting + self._close_interval(end)
            self._has_closed = True

    def _close_interval(self, end):
        entries = []
        channels = self.channels
        for row in range(len(channels)):
            part = part_of(end, channels.rhythm(row))
            if part == GO_ON:
                continue
            count, flag = channels.close(row)
            if part == CLOSE:
                entries.append((end, count, channels.sensor[row], channels.parameter[row], flag))
        self._interval_number += 1
        if self._health_every and self._interval_number % self._health_every == 0:
            entries += self._health(end)
        return entries

    def _health(self, time):
        gc.collect()
        heap = free_heap()
        values = [(_FREE_HEAP, heap * 10 // 1024)] if heap else []  # a station on a gateway has none to tell of
        if self.client is not None:
            values += _bus_health(self.client)
        return [(time, min(value, _HEALTH_MAX), 0, parameter, NOT_EVALUATED) for parameter, value in values]

    def _store(self, entries):
        # Records that cannot be stored now wait for the next interval.
        self._waiting = self._waiting + entries
        if not self._waiting:
            return
        try:
            self.journal.append(self._waiting)
        except JournalError as error:
            self._keep_waiting(self._waiting[error.stored :])
            raise
        self._waiting = []

    def _keep_waiting(self, entries):
        if len(entries) > _MOST_WAITING:
            self._log.write("flash takes no records: %d lost" % (len(entries) - _MOST_WAITING))
        self._waiting = entries[-_MOST_WAITING:]

    def free_heap_kib(self):
        return free_heap() // 1024

    # The gateway's wish

    def set_clock(self, unix_s, milliseconds, uncertainty_ms):
        # Raises ClockRefused or JournalError. The event goes first: it is what readers restamp earlier records by.
        step_s = self.clock.step_to(unix_s, uncertainty_ms)
        if step_s is None:
            return
        if self.clock.is_premature_leap(unix_s, step_s):
            self._log.write("clock: the gateway's is more than a day away; taken if it says so again in a minute")
            return
        self.journal.append([self._event(EVENT_CLOCK_SET, step_s, unix_s)])
        self.clock.set(unix_s, milliseconds, uncertainty_ms)


def _bus_health(client):
    # Counters run from the start of the board; latencies are those since the last time, and none when nothing answered.
    values = [
        (_BUS_TIMEOUTS, client.timeouts),
        (_BUS_CRC_ERRORS, client.crc_errors),
        (_BUS_LATE_ANSWERS, client.late_answers),
        (_BUS_QUESTIONS, client.polls),
        (_BUS_QUESTIONS_HELD, client.held),
    ]
    latencies = client.take_latencies()
    median_ms = latencies.percentile(50)
    if median_ms is not None:
        values.append((_BUS_LATENCY_MEDIAN, median_ms))
        values.append((_BUS_LATENCY_P99, latencies.percentile(99)))
        values.append((_BUS_LATENCY_MAX, latencies.longest_ms))
    return values


def free_heap():
    # Bytes; 0 on CPython, which does not say.
    return gc.mem_free() if hasattr(gc, "mem_free") else 0
