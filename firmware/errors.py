# Everything the station can complain about, by what the caller would do differently:
#
#   StationError
#     ConfigurationError   the file is refused; the station runs on its defaults
#     JournalError         nothing was stored; the same records may be tried again
#     ClockRefused         the given time cannot be right; keep the old one
#     BusError             no usable answer from an instrument
#       NoAnswer             nothing came in time: ask again later
#       BadAnswer            bytes came, none of them a good frame: ask again
#       Refused              the instrument said no (Modbus exception): asking again does not help


class StationError(Exception):
    pass


class ConfigurationError(StationError):
    pass


class JournalError(StationError):
    pass


class ClockRefused(StationError):
    pass


class BusError(StationError):
    pass


class NoAnswer(BusError):
    pass


class BadAnswer(BusError):
    pass


class Refused(BusError):
    def __init__(self, address, code):
        super().__init__("instrument %d refuses with Modbus exception %d" % (address, code))
        self.code = code
