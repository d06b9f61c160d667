# Whether a new application or a new configuration has proved itself: an instrument was read with it, and the gateway
# has stored records that it sent. In memory only while something is on trial.
from firmware.record import NOT_EVALUATED

LASTS_S = 900

GOING_ON, CONFIRMED, FAILED = "", "confirmed", "failed"


class Trial:
    def __init__(self):
        self.why = ""
        self._read = False
        self._mark = None  # the highest seq the gateway had when it first asked

    def look(self, uptime_s, channels, fetches, stored_through):
        # Call it every few seconds; returns one of the three, and why says the reason.
        # channels: of the station. fetches: how often the gateway asked for records. stored_through: of the journal.
        if not channels or any(channel.live_flag == NOT_EVALUATED for channel in channels):
            self._read = True
        if fetches and self._mark is None:
            self._mark = stored_through
        if self._read and self._mark is not None and stored_through > self._mark:
            self.why = "confirmed: instruments were read and the gateway stored records"
            return CONFIRMED
        if uptime_s < LASTS_S:
            return GOING_ON
        self.why = "given up: %s in %d s" % (
            "the gateway stored no record" if self._read else "no instrument was read",
            LASTS_S,
        )
        return FAILED
