# Everything the station can complain about, by what the caller would do differently:
#
#   StationError
#     ConfigurationError   the file is refused; the station runs on its defaults
#     JournalError         not all records were stored; the rest may be tried again
#     ClockRefused         the given time cannot be right; keep the old one
#     CommandRefused       what the gateway asked for was not done; result names why (firmware.commands.RESULTS)
#       ImageRefused         a firmware image that is not one of ours, or not for this board
#     BusError             no usable answer from an instrument
#       NoAnswer             nothing came in time: ask again later
#       BadAnswer            bytes came, none of them a good frame: ask again
#       Refused              the instrument said no (Modbus exception): asking again does not help


class StationError(Exception):
    pass


class ConfigurationError(StationError):
    pass


class JournalError(StationError):
    # stored: how many of the records given were stored before it happened
    def __init__(self, text, stored=0):
        super().__init__(text)
        self.stored = stored


class ClockRefused(StationError):
    pass


class CommandRefused(StationError):
    def __init__(self, result, text):
        super().__init__(text)
        self.result = result


class ImageRefused(CommandRefused):
    def __init__(self, text):
        super().__init__("bad image", "image refused: " + text)


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
