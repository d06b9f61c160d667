# Switched power: a pin feeds one sensor or several, from so long before a sample as the slowest needs to warm up until
# all have been read. Only loaded where a station has such a pin.
from firmware import const
from firmware import ticks as real_ticks
from firmware.errors import BusError

_LOOK_MS = const(200)
_BOOT_S = const(3)  # an instrument that wants an order to start must first listen, and may not hear the first
_TRIES = const(3)


class Supplies:
    # One Supply for each pin the configuration names. open_pin(number) -> a machine.Pin, None when the board has none
    # such: then its sensors stay without power.
    def __init__(self, configuration, instruments, open_pin, ticks=real_ticks):
        self._ticks = ticks
        fed = {}  # type: ignore[var-annotated]
        for sensor, instrument in zip(configuration.sensors, instruments):
            if sensor.power is not None:
                member = instrument, sensor.every, lead_s(sensor), _wants_order(sensor)
                fed.setdefault(sensor.power, []).append(member)
        pins = [(open_pin(number), fed[number]) for number in sorted(fed)]
        self._supplies = [Supply(pin, members, configuration.sample_s) for pin, members in pins if pin is not None]

    async def look(self, left_s, client):
        for supply in self._supplies:
            await supply.look(left_s, client)
        await self._ticks.sleep_ms(_LOOK_MS)

    def release(self, left_s):
        for supply in self._supplies:
            supply.release(left_s)


class Supply:
    # pin: a machine.Pin, out, high is on. members: of all it feeds (instrument, read with each n-th sample, seconds it
    # needs power before that, whether it wants an order to start then).
    # left_s: seconds until the station's next sample.
    def __init__(self, pin, members, sample_s):
        self._pin = pin
        self._members = members
        self._sample_s = sample_s
        self._is_on = False
        self._tries = 0
        self._lingers = False  # it is wanted no more but by a brush that turns
        pin.value(0)

    async def look(self, left_s, client):
        # Switches on in time, and then gives the orders to start.
        if self._is_on:
            if self._lingers:
                self.release(left_s)
            if self._tries < _TRIES:
                self._tries += 1
                await self._order(client)
        elif self._is_wanted(left_s):
            self._is_on = True
            self._tries = 0
            self._pin.value(1)
            for instrument, _, _, _ in self._members:
                instrument.power_came_on()

    async def _order(self, client):
        for instrument, _, _, wants_order in self._members:
            if wants_order and not instrument.started:
                try:
                    await instrument.begin(client)
                except BusError:
                    pass  # tried again, the last time with the sample

    def release(self, left_s):
        # After a sample. It stays on where the next one is so near that it would only have to warm up again.
        if not self._is_on or self._is_wanted(left_s):
            return
        self._lingers = any(member[0].wiper and member[0].wiper.is_busy() for member in self._members)
        if not self._lingers:
            self._is_on = False
            self._pin.value(0)

    def _is_wanted(self, left_s):
        for instrument, every, needed_s, _ in self._members:
            turns_left = -instrument.turn % every
            if left_s + turns_left * self._sample_s <= needed_s:
                return True
        return False


def lead_s(sensor):
    # How long before its sample a sensor needs power. Two seconds more than asked for, because time is in whole ones.
    return (sensor.warmup_ms + 999) // 1000 + 2 + (_BOOT_S if _wants_order(sensor) else 0)


def _wants_order(sensor):
    return sensor.start is not None and not sensor.start.each_sample
