# Who a station is, by FC 43/14. A gateway asks that when it first meets a station, so the server borrows this.
import struct

from firmware import rtu


def answer(objects, request, out):
    # objects: number: text. Puts the answer into out; returns its length without the CRC, or minus the exception code.
    code, first = request[3], request[4]
    if request[2] != rtu.IDENTIFY_MEI:
        return -rtu.ILLEGAL_FUNCTION
    if code not in (1, 2, 3, 4):
        return -rtu.ILLEGAL_VALUE
    if code == 4:
        chosen = [first] if first in objects else []
    else:
        chosen = [number for number in sorted(objects) if number >= first and (code == 3 or number < 0x80)]
    if not chosen:
        return -rtu.ILLEGAL_ADDRESS
    struct.pack_into(">BBBBBB", out, 2, rtu.IDENTIFY_MEI, code, 0x83, 0, 0, len(chosen))
    at = 8
    for number in chosen:
        text = objects[number]
        out[at] = number
        out[at + 1] = len(text)
        out[at + 2 : at + 2 + len(text)] = text
        at += 2 + len(text)
    return at
