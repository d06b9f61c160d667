# The values of the register map, by the names the map gives them: where each is found, from the station on. A table and
# not a method each, because a function costs a hundred bytes of heap before it does anything.
from firmware import registers, version

_PATHS = {
    "journal_id": "journal.id",
    "first_seq": "journal.first_seq",
    "next_seq": "journal.next_seq",
    "stored_through": "journal.stored_through",
    "clock": "clock.now",
    "clock_state": "clock.is_set",
    "uncertainty_ms": "clock.uncertainty_ms",
    "uptime_s": "clock.uptime_s",
    "boots": "journal.boots",
    "reset_cause": "reset_cause",
    "free_heap_kib": "free_heap_kib",
    "configuration_hash": "configuration_hash",
    "bus_polls": "client.polls",
    "bus_timeouts": "client.timeouts",
    "bus_crc_errors": "client.crc_errors",
    "bus_late_answers": "client.late_answers",
    "station_id": "id",
}


class Status:
    magic = registers.MAGIC
    map_version = registers.MAP_VERSION
    milliseconds = 0
    version_major, version_minor, version_patch = version.VERSION

    def __init__(self, station):
        self._station = station

    def __getattr__(self, name):
        path = _PATHS.get(name)
        if path is None:
            raise AttributeError(name)
        value = self._station
        for step in path.split("."):
            value = getattr(value, step)
            if value is None:  # a station without a bus has no client, and so nothing counted
                return 0
        return value
