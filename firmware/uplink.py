# The station as a Modbus RTU server on a line it shares with others.
#
# Server turns a question into an answer and knows no port. Uplink listens on a Line, where it hears everybody else's
# questions and answers as well. A question ends what is on the line, because its sender waits; so whatever ends in
# a sealed question to us is answered at once, and the rest is forgotten when the line falls silent.
import struct

from firmware import const, lazy, registers, rtu
from firmware.errors import ClockRefused, JournalError
from firmware.record import SIZE

_SILENCE_MS = const(50)  # longer than the pauses USB adapters make inside a message
_LISTEN_MS = const(500)
_VENDOR, _PRODUCT = b"Tram", b"station"


class Server:
    # station: what the map's values are found from (firmware.registers), and set_clock()
    # upkeep: firmware.upkeep.Upkeep
    def __init__(self, address, station_id, version_text, station, upkeep):
        self.address = address
        self.upkeep = upkeep
        self._station = station
        self._objects = {0: _VENDOR, 1: _PRODUCT, 2: version_text.encode(), 0x80: station_id.encode()}
        self._image = bytearray(2 * registers.INPUT_END)
        self._out = bytearray(rtu.MAX_FRAME)
        self._answers = {
            rtu.READ_HOLDING: self._read_holding,
            rtu.READ_INPUT: self._read_input,
            rtu.WRITE_MULTIPLE: self._write_holding,
            rtu.READ_FILE: upkeep.answer_file,
            rtu.WRITE_FILE: upkeep.answer_file,
            rtu.READ_WRITE: self._fetch_records,
            rtu.IDENTIFY: self._identify,
        }

    def answer(self, request):
        # request: a sealed frame to us (memoryview). Returns the sealed answer, a view that the next one overwrites.
        out = self._out
        out[0] = self.address
        out[1] = request[1]
        handler = self._answers.get(request[1])
        if handler is None:
            length = -rtu.ILLEGAL_FUNCTION
        elif rtu.request_length(request, 0, len(request)) != len(request):
            length = -rtu.ILLEGAL_VALUE
        else:
            length = handler(request, out)
        if length < 0:
            out[1] = request[1] | rtu.FAILED
            out[2] = -length
            length = 3
        return memoryview(out)[: rtu.seal_into(out, length)]

    # Each handler puts the answer into out and returns its length without the CRC, or minus the exception code.

    def _read_holding(self, request, out):
        first, count = struct.unpack(">HH", request[2:6])
        if not 1 <= count <= 125:
            return -rtu.ILLEGAL_VALUE
        end = first + count
        if end > registers.HOLDING_END and not registers.COMMAND <= first < end <= registers.COMMANDS_END:
            return -rtu.ILLEGAL_ADDRESS
        image = bytearray(2 * registers.COMMANDS_END)
        registers.fill(registers.HOLDING, self._station, image, first, count)
        registers.fill(registers.COMMANDS, self.upkeep, image, first, count)
        return _registers_out(out, image, first, count)

    def _read_input(self, request, out):
        first, count = struct.unpack(">HH", request[2:6])
        if not 1 <= count <= 125:
            return -rtu.ILLEGAL_VALUE
        if first + count <= registers.INPUT_END:
            registers.fill(registers.INPUT, self._station, self._image, first, count)
            return _registers_out(out, self._image, first, count)
        if first >= registers.LIVE and first + count <= registers.LIVE_END:
            return self._read_live(out, first - registers.LIVE, count)
        return -rtu.ILLEGAL_ADDRESS

    def _read_live(self, out, first, count):
        block = bytearray(2 * registers.LIVE_SIZE)
        shown = -1
        for i in range(count):
            channel, part = divmod(first + i, registers.LIVE_SIZE)
            if channel != shown:
                self._live_block(channel, block)
                shown = channel
            out[3 + 2 * i] = block[2 * part]
            out[4 + 2 * i] = block[2 * part + 1]
        out[2] = 2 * count
        return 3 + 2 * count

    def _live_block(self, number, block):
        channels = self._station.channels
        if number >= len(channels):
            struct.pack_into(">HHI", block, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF)
            return
        struct.pack_into(
            ">BBHf",
            block,
            0,
            channels.sensor[number],
            channels.parameter[number],
            channels.live_flag[number],
            channels.live_value(number),
        )

    def _write_holding(self, request, out):
        first, count = struct.unpack(">HH", request[2:6])
        if request[6] != 2 * count or not 1 <= count <= 123:
            return -rtu.ILLEGAL_VALUE
        if first == registers.COMMAND and count == registers.COMMAND_SIZE:
            return self._command(request, out)
        if first != 0 or not 2 <= count <= registers.HOLDING_END:  # both halves of a time are set, or none
            return -rtu.ILLEGAL_ADDRESS
        values = struct.unpack(">IHH", bytes(request[7 : 7 + 2 * count]) + bytes(2 * (registers.HOLDING_END - count)))
        if values[1] > 999:
            return -rtu.ILLEGAL_VALUE
        try:
            self._station.set_clock(*values)
        except ClockRefused:
            return -rtu.ILLEGAL_VALUE
        except JournalError:
            return -rtu.DEVICE_FAILURE
        out[2:6] = request[2:6]
        return 6

    def _command(self, request, out):
        if not self.upkeep.ask(*struct.unpack(">HI", bytes(request[7:13]))):
            return -rtu.BUSY
        out[2:6] = request[2:6]
        return 6

    def _fetch_records(self, request, out):
        read_first, read_count, write_first, write_count = struct.unpack(">HHHH", request[2:10])
        if read_first != registers.FETCH_READ or write_first != registers.FETCH_WRITE:
            return -rtu.ILLEGAL_ADDRESS
        most, rest = divmod(read_count, registers.RECORD_REGISTERS)
        if (
            rest
            or not 1 <= most <= registers.MOST_RECORDS
            or write_count != registers.FETCH_WRITE_COUNT
            or request[10] != 12
        ):
            return -rtu.ILLEGAL_VALUE
        journal_id, from_seq, stored_through = struct.unpack(">III", request[11:23])
        journal = self._station.journal
        if journal_id != journal.id:
            return -rtu.ILLEGAL_VALUE
        try:
            journal.acknowledge(stored_through)
            held = journal.read_into(memoryview(out)[3:], from_seq, most)
        except OSError:
            return -rtu.DEVICE_FAILURE
        for i in range(3 + held * SIZE, 3 + most * SIZE):
            out[i] = 0xFF
        self.upkeep.fetches += 1
        out[2] = most * SIZE
        return 3 + most * SIZE

    def _identify(self, request, out):
        return lazy.borrow("identification").answer(self._objects, request, out)


def _registers_out(out, image, first, count):
    out[2] = 2 * count
    out[3 : 3 + 2 * count] = memoryview(image)[2 * first : 2 * (first + count)]
    return 3 + 2 * count


class Uplink:
    # A Server on a Line.
    def __init__(self, line, server):
        self._line = line
        self._server = server
        self._heard = bytearray(2 * rtu.MAX_FRAME)
        self._held = 0
        self._echo = b""  # what was sent last, until it is known whether the transceiver hears itself

    async def serve_once(self):
        # Listen for a moment; answer the question if one came. Returns whether one did.
        self._server.upkeep.come_round()
        if self._held == len(self._heard):  # others talk without a pause: keep what may be the beginning of a question
            self._held = rtu.MAX_FRAME
            self._heard[: self._held] = self._heard[-self._held :]
        number = await self._line.receive(self._heard, self._held, _SILENCE_MS if self._held else _LISTEN_MS)
        if not number:
            self._held = 0
            self._echo = b""
            return False
        self._held += number
        if self._echo:
            self._drop_echo()
        start = rtu.find_request(self._heard, self._held, self._server.address)
        if start < 0:
            return False
        answer = self._server.answer(memoryview(self._heard)[start : self._held])
        self._held = 0
        await self._line.pause()
        await self._line.send(answer)
        self._echo = answer
        return True

    def _drop_echo(self):
        # Answers to a file's questions look like questions: a board that hears itself must not answer them.
        heard, echo = self._heard, self._echo
        number = min(self._held, len(echo))
        for at in range(number):
            if heard[at] != echo[at]:
                self._echo = b""
                return
        if number == len(echo):
            self._echo = b""
            self._held -= number
            heard[: self._held] = heard[number : number + self._held]
