# The board's parsers, asked with bytes: the same file runs on a board, as /main.py, and is imported on the host. What a
# parser makes of bytes is put into words, and both are compared; of a refusal only that it is one.
#
#   PARSER HEX      answers: what the parser said
import io
import sys
from binascii import hexlify, unhexlify

from firmware import image, rtu, sdi12
from firmware.errors import StationError
from firmware.record import RecordError, decode, split_batch

REFUSED = "refused"


def record(data):
    return list(decode(data))


def batch(data):
    journal, records = split_batch(data)
    return [journal, hexlify(records).decode()]


def request(data):
    return [rtu.find_request(data, len(data), 11), rtu.count_answers(data, 0, len(data))]


def answer(data):
    question = rtu.read_request(11, 3, 0x2600, 4)
    return [
        rtu.find_answer(question, data, 0, len(data)),
        rtu.find_answer(rtu.identify_request(11), data, 0, len(data)),
    ]


def line(data):
    found = sdi12.find_line(data, 48)
    if found is None:
        return None
    said = [found[1]]
    for text in ("M", "CC1", "R0"):
        measurement = sdi12.Measurement(text)
        said.append(_or_refused(lambda m=measurement: list(sdi12.parse_start(found[0], m))))
        said.append(_or_refused(lambda: [hexlify(value).decode() for value in sdi12.parse_values(found[0], False)]))
    return said


def update(data):
    header = image.read_header(io.BytesIO(data))
    about = image.parse_header(header)
    return [about.bytecode, list(about.version), list(about.replaces), [[one.name, one.size] for one in about.files]]


def station(data):
    # Which faults: their places, for Python and MicroPython print a wrong value each in its own way.
    from firmware import configuration
    from firmware.errors import ConfigurationError

    try:
        parsed = configuration.parse(io.BytesIO(data))
    except ConfigurationError as error:
        return [part.split(": ")[0] for part in str(error).split("; ")][:2]
    return [parsed.station, parsed.address, parsed.record_s, len(parsed.sensors), parsed.hash]


def _or_refused(parse):
    try:
        return parse()
    except (RecordError, StationError):
        return REFUSED


PARSERS = {
    "record": record,
    "batch": batch,
    "request": request,
    "answer": answer,
    "line": line,
    "update": update,
    "station": station,
}


def said(name, data):
    # In one line of text. An error that is not the parser's own is told as such: the board must not know any.
    try:
        return repr(_or_refused(lambda: PARSERS[name](data))).replace(" ", "")
    except Exception as error:
        return "crash:" + type(error).__name__


def serve():
    print("== ready")
    while True:
        order = sys.stdin.readline().split()
        if order:
            print("said", said(order[0], unhexlify(order[1]) if len(order) > 1 else b""))
            print("== ok")


if __name__ == "__main__":
    serve()
