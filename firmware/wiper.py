# The brush of an instrument, driven by the station: ordered after a sample when its time has come; until it is parked
# again nothing is read. Only loaded where a sensor has one.
from firmware.errors import BusError, Refused


class Wiper:
    # wiper: a configuration.Wiper. request: its order. clock: counted on its uptime, as warm-up is.
    def __init__(self, wiper, request, clock):
        self._every_s = wiper.every_s
        self._busy_s = wiper.busy_s
        self._request = request
        self._clock = clock
        self._ordered_s = None  # by uptime
        self._is_fresh = False  # it has turned by the clock, and nothing was read since

    def is_busy(self):
        return self._ordered_s is not None and self._clock.uptime_s() - self._ordered_s <= self._busy_s

    async def look(self, client, patience, good):
        # After a sample; good: the instrument vouched for it. One that does not right after a turn has perhaps parked
        # its brush in the light: it turns once more.
        now_s = self._clock.uptime_s()
        is_due = self._ordered_s is None or now_s - self._ordered_s >= self._every_s
        again = self._is_fresh and not good
        self._is_fresh = False
        if not is_due and not again:
            return
        try:
            await client.ask(self._request, patience)
        except Refused:
            pass  # it has none, or will not now
        except BusError:
            return  # tried again after the next sample
        self._ordered_s = now_s
        self._is_fresh = is_due
