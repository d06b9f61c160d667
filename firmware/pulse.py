# A pulse input: the contact of a tipping bucket (or a meter) between a pin and ground. Only loaded where a station has
# one; to the station it is one more instrument, with one channel that holds the running total.
#
# The total is taken up after a restart where the journal's last record of it left it: nothing is written to flash
# besides the record that is written anyway. What tipped after that record is lost with the power, and never more.
from firmware import const
from firmware import ticks as real_ticks
from firmware.record import NO_VALUE, SIZE, decode

# records, newest first: more than an hour of a station with 64 channels a minute; 0.2 s on an ESP32
_SEARCHED = const(4096)
_CHUNK = const(64)
_SENSOR, _PARAMETER, _FLAG = 13, 14, 15  # where they stand in a record


class Contact:
    # Which edges are pulses. A pulse is the first edge after the contact was quiet for debounce_ms, unless it was
    # closed until then (that edge is its opening). So bounces at both ends of a pulse count nothing, however long it
    # lasts; and a handler that comes late, because flash was being written, still counts one that has ended meanwhile.
    def __init__(self, debounce_ms, ticks=real_ticks):
        self.pulses = 0
        self._debounce_ms = debounce_ms
        self._ticks = ticks
        self._closed = False
        self._edge_ms = None

    def attach(self, pin):
        # pin: a machine.Pin, pulled up. A contact that is closed at the start has been so for long.
        self._closed = pin.value() == 0
        pin.irq(self.edge, pin.IRQ_FALLING | pin.IRQ_RISING)

    def edge(self, pin):
        # The pin's handler.
        now_ms = self._ticks.ticks_ms()
        # A difference below 0 is one of more than six days: milliseconds begin again and again.
        quiet = self._edge_ms is None or not 0 <= self._ticks.ticks_diff(now_ms, self._edge_ms) < self._debounce_ms
        if quiet and not self._closed:
            self.pulses += 1
        self._closed = pin.value() == 0
        self._edge_ms = now_ms


class PulseInput:
    # pulse: a configuration.Pulse. per_pulse is in thousandths of a count, so that totals are exact: a bucket of
    # 0.254 mm and one decimal has 2540. At `wrap` counts the total begins again, as a meter's does.
    # contact None: the board has no such pin, and the channel no value.
    # channels: of the station; it gets one.
    def __init__(self, pulse, contact, channels):
        self._channels = channels
        self._row = channels.add(pulse.number, pulse.parameter, pulse.decimals, "last", pulse.rhythm)
        self._pulse = pulse
        self._contact = contact
        self._base = 0  # pulses before this start

    def recover(self, journal):
        # Go on from the last record of this total; returns its count, None when there is none.
        count = last_count(journal, self._pulse.number, self._pulse.parameter)
        if count is not None:
            self._base = pulses_of(count, self._pulse.per_pulse)
        return count

    async def start(self, client):
        pass

    async def sample(self, client):
        if self._contact is None:
            self._channels.sample(self._row, None, True)
            return
        total = count_of(self._base + self._contact.pulses, self._pulse.per_pulse)
        self._channels.sample(self._row, total % self._pulse.wrap, True)


def count_of(pulses, per_pulse):
    return (pulses * per_pulse + 500) // 1000


def pulses_of(count, per_pulse):
    # The pulses a count stands for: exact, because per_pulse is at least one count.
    return (2000 * count + per_pulse) // (2 * per_pulse)


def last_count(journal, sensor, parameter):
    # Of the newest record of this channel that has a value, among the last _SEARCHED records; None when there is none.
    # Raises OSError when the flash cannot be read.
    buffer = bytearray(_CHUNK * SIZE)
    end = journal.next_seq
    oldest = max(journal.first_seq, end - _SEARCHED)
    while end > oldest:
        begin = max(oldest, end - _CHUNK)
        number = journal.read_into(buffer, begin, end - begin)
        for at in range((number - 1) * SIZE, -1, -SIZE):
            if (
                buffer[at + _SENSOR] == sensor
                and buffer[at + _PARAMETER] == parameter
                and buffer[at + _FLAG] != NO_VALUE
            ):
                return decode(buffer, at).count
        end = begin
    return None
