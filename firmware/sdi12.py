# SDI-12 1.4: commands, answers and their CRC. Pure; firmware.sdi12_line carries them.
#
#   aM!   measure: "atttn", n values in at most ttt seconds; the sensor says "a" when it is ready sooner. Nobody else
#         may be asked meanwhile
#   aC!   measure while others are asked: "atttnn", no word when it is ready
#   aR0!  values at once, of a sensor that always measures
#   aD0!  the values, then aD1! ... while some are missing: "a+3.14-2.2"
#
# aMC!, aCC!, aRC0! are the same with a CRC behind the values. An address is one character: 0-9, a-z, A-Z.
from firmware import const
from firmware.errors import BadAnswer

_CRC_POLYNOMIAL = const(0xA001)
_END = b"\r\n"
_NOISE = b"\x00\x7f"  # what a break and a spike leave
_DATA_COMMANDS = const(10)
_DIGITS = b"0123456789"


class Measurement:
    # A command as the configuration has it ("M", "MC1", "C", "CC2", "R0", "RC3") taken apart.
    def __init__(self, text):
        self.text = text
        self.with_crc = text[1:2] == "C"
        self.is_concurrent = text[0] == "C"
        self.is_continuous = text[0] == "R"
        if not is_command(text):
            raise ValueError("%r is no SDI-12 measurement" % (text,))


def is_command(text):
    # M C with nothing or 1..9 behind, R with 0..9; each may have a C in between.
    kind, number = text[:1], text[1:]
    if number[:1] == "C":
        number = number[1:]
    if kind == "R":
        return len(number) == 1 and number in "0123456789"
    return kind in ("M", "C") and (number == "" or (len(number) == 1 and number in "123456789"))


def question(address, command):
    # address: the character's code, as configuration.Sensor has it
    return bytes((address,)) + command.encode() + b"!"


def crc(data):
    # The three characters for these bytes (address and values).
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ _CRC_POLYNOMIAL if value & 1 else value >> 1
    return bytes((0x40 | value >> 12, 0x40 | value >> 6 & 0x3F, 0x40 | value & 0x3F))


def find_line(data, address):
    # (line, where it ends) of the first whole line of this sensor among received bytes, or None. What stands before it
    # (our own question heard back, a break, noise) is passed over.
    begin = 0
    while True:
        end = data.find(_END, begin)
        if end < 0:
            return None
        line = data[begin:end]
        line = line[line.rfind(b"!") + 1 :].lstrip(_NOISE)
        begin = end + len(_END)
        if line[:1] == bytes((address,)):
            return line, begin


def parse_start(line, measurement):
    # (seconds until the values are there, how many they are) of the answer to M or C. Raises BadAnswer.
    length = 6 if measurement.is_concurrent else 5
    if len(line) != length or not _all_digits(line[1:]):
        raise BadAnswer("SDI-12 %r: not a start of %s" % (line, measurement.text))
    return int(line[1:4]), int(line[4:])


def parse_values(line, with_crc):
    # The values in an answer to D or R, as texts such as b"+3.14". Raises BadAnswer when one of them, or the CRC, is
    # wrong: then none is believed.
    if with_crc:
        if len(line) < 4 or crc(line[:-3]) != line[-3:]:
            raise BadAnswer("SDI-12 %r: CRC does not match" % (line,))
        line = line[:-3]
    values = []
    begin = 1
    for at in range(2, len(line) + 1):
        if at == len(line) or line[at : at + 1] in (b"+", b"-"):
            values.append(_checked(line[begin:at], line))
            begin = at
    return values


def _checked(text, line):
    # A sign, then one to seven digits with at most one point among them.
    digits = text[1:].replace(b".", b"", 1)
    if text[:1] not in (b"+", b"-") or not 1 <= len(digits) <= 7 or not _all_digits(digits):
        raise BadAnswer("SDI-12 %r: not values" % (line,))
    return bytes(text)


def _all_digits(text):
    return len(text) > 0 and all(byte in _DIGITS for byte in text)


class Collection:
    # The values of one measurement, gathered from as many data commands as it takes.
    def __init__(self, number):
        self.values = []
        self._number = number
        self._asked = 0

    def next_command(self):
        # "D0", "D1", ... or None when all are there.
        if len(self.values) >= self._number or self._asked == _DATA_COMMANDS:
            return None
        self._asked += 1
        return "D%d" % (self._asked - 1)

    def add(self, values):
        # Raises BadAnswer: an answer without values says that the measurement was broken off.
        if not values:
            raise BadAnswer("SDI-12: no values; the measurement was broken off")
        self.values += values

    def is_complete(self):
        return len(self.values) >= self._number
