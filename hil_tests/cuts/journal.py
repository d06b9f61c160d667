"""The journal under power cuts: the real firmware.journal on real littlefs, cut at every flash operation of a life.

The life is a chain of stages. Each begins with a start of the board and leaves its flash to the next one; a cut is
tried on a copy of the flash that its stage began with. After a cut the board starts again, reads everything, and goes
on appending; what it then says is held against all that a gateway could have seen before (witness.py).
"""

from __future__ import annotations

import copy
import shutil
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hil_tests.cuts.orders import DEADLINE_S, OrderedBoard, OrderFailed, PowerGone
from hil_tests.cuts.table import DECLARED, Cut, Outcome
from hil_tests.cuts.witness import DUPLICATED, LOST, UNREADABLE, Witness
from simulators.board import BoardSettings, VirtualBoard
from station_config.console import Board
from station_config.flash import compile_firmware

FLASH_BYTES = 256 * 1024
PROGRAM = Path(__file__).with_name("journal_on_board.py")
MODULES = ("__init__", "errors", "record", "lazy", "recovery", "journal")
FORMAT = "flash format"
TORN = (0, 50, 100)  # percent of the operation that is done
SECOND_CUTS = 2  # of those there could be behind each operation
_INSTALLING = threading.Lock()

Order = tuple[str, *tuple[int, ...]]
SMALL: Order = ("open", 128, 4 * 128 * 18, 1001)  # segments of one block, a ring of four

# What the board does, stage by stage. `acknowledge n` leaves the newest n records unsent.
STAGES: dict[str, tuple[Order, ...]] = {
    "first start": (SMALL, ("append", 13)),
    "append": (SMALL, ("append", 1), *(("append", 13),) * 4),
    "rotation": (SMALL, ("append", 50), ("append", 13), ("append", 130)),
    "acknowledge": (
        SMALL,
        ("acknowledge", 100),
        ("append", 13),
        ("acknowledge", 5),
        ("append", 13),
        ("acknowledge", 0),
    ),
    "overwrite": (SMALL, *(("append", 140),) * 4, ("acknowledge", 200), ("append", 100), ("append", 100)),
    "configuration": (
        SMALL,
        ("append", 13),
        ("configure", 2002),
        ("open", 512, 4 * 512 * 18, 2002),  # segments of three blocks
        *(("append", 125),) * 4,
        ("append", 60),
        ("configure", 3003),
        ("open", 32, 5 * 32 * 18, 3003),  # so small that littlefs keeps them in the directory; the ring shrinks
        ("append", 40),
        ("append", 40),
    ),
}


@dataclass(frozen=True)
class Start:
    """What a stage begins with."""

    flash: Path
    witness: Witness


class JournalCuts:
    """The table."""

    name = "journal"
    counts: tuple[str, ...] = (LOST, DUPLICATED, UNREADABLE, DECLARED)

    def __init__(self, firmware: Path | None = None) -> None:
        self._firmware = firmware  # another folder than the real one
        self._starts: dict[str, Start] = {}
        self._files: dict[str, bytes] = {}

    def cuts(self, folder: Path) -> list[Cut]:
        """Run the whole life once, undisturbed, and count its flash operations."""
        self._files = board_files(self._firmware)
        blank = folder / "blank.flash"
        _erase(blank)
        formatting = _format_operations(folder)
        flash = folder / "life.flash"
        shutil.copy(blank, flash)
        install(flash, self._files)
        self._starts[FORMAT] = Start(blank, Witness())
        cuts = [Cut(FORMAT, operation, torn) for torn in TORN for operation in range(1, formatting + 1)]
        witness = Witness()
        for stage in STAGES:
            start = folder / f"{stage}.flash".replace(" ", "-")
            shutil.copy(flash, start)
            self._starts[stage] = Start(start, copy.deepcopy(witness))
            operations, recovery = _count_operations(flash, witness, stage, folder)
            every = range(1, operations + 1)
            cuts += [Cut(stage, operation, torn) for torn in TORN for operation in every]
            cuts += [Cut(stage, n, then=1 + (7 * n + i) % recovery) for i in range(SECOND_CUTS) for n in every]
        return cuts

    def try_cut(self, cut: Cut, folder: Path) -> Outcome:
        """Cut, perhaps twice, start again, judge, go on appending, judge."""
        start = self._starts[cut.row]
        flash = folder / "board.flash"
        shutil.copy(start.flash, flash)
        witness = copy.deepcopy(start.witness)
        try:
            if cut.row == FORMAT:
                return self._cut_format(cut, flash)
            opening = _run_until_cut(_settings(flash, cut.operation, cut.torn_percent), STAGES[cut.row], witness)
            if cut.then is not None:
                _run_until_cut(_settings(flash, cut.then), _recovery(opening), witness)
            with VirtualBoard(_settings(flash)) as board:
                counts = _judge(OrderedBoard(board), _recovery(opening), witness)
        except (OrderFailed, PowerGone) as error:
            return Outcome(Counter({UNREADABLE: 1}), (*witness.faults, f"after the cut: {error}"))
        return Outcome(counts, tuple(witness.faults))

    def _cut_format(self, cut: Cut, flash: Path) -> Outcome:
        """A board that lost power while it formatted its flash must take the firmware and keep a journal."""
        with VirtualBoard(_settings(flash, cut.operation, cut.torn_percent)) as board:
            board.wait_off(DEADLINE_S)
        install(flash, self._files)
        witness = Witness()
        with VirtualBoard(_settings(flash)) as board:
            return Outcome(_judge(OrderedBoard(board), STAGES["append"], witness), tuple(witness.faults))


def _run_until_cut(settings: BoardSettings, orders: tuple[Order, ...], witness: Witness) -> Order:
    """Carry out orders until the power goes (or to their end); return the last opening among them."""
    opening = orders[0]
    with VirtualBoard(settings) as board:
        try:
            ordered = OrderedBoard(board)
            for order in orders:
                opening = order if order[0] == "open" else opening
                _carry_out(ordered, order, witness)
        except PowerGone as gone:
            witness.note(gone.answer)
    return opening


def _carry_out(board: OrderedBoard, order: Order, witness: Witness) -> None:
    name, *numbers = order
    if name == "append":
        numbers.append(witness.made)
        witness.made += numbers[0]
    elif name == "acknowledge":
        witness.acknowledged = max(witness.acknowledged, max(witness.seen) - numbers[0])
        numbers = [witness.acknowledged]
    answer = board.ask(name, *numbers)
    if name in ("open", "append"):
        witness.promise(answer)
    else:
        witness.note(answer)


def _recovery(opening: Order) -> tuple[Order, ...]:
    return (opening, ("read",), ("append", 3), ("append", 13))


def _judge(board: OrderedBoard, orders: tuple[Order, ...], witness: Witness) -> Counter[str]:
    """Open, look, go on appending, look again; return the counts of the last look and what was wrong at the first."""
    _carry_out(board, orders[0], witness)
    first = witness.judge(board.ask("read"), board.ask("files"))
    newest = max(witness.seen)
    for order in orders[1:]:
        _carry_out(board, order, witness)
    last = witness.judge(board.ask("read"), board.ask("files"))
    if max(witness.seen) < newest + sum(sum(numbers) for name, *numbers in orders if name == "append"):
        last[UNREADABLE] = 1
        witness.faults.append("what was appended after the cut cannot be read")
    return Counter({name: max(first[name], last[name]) for name in JournalCuts.counts})


def _count_operations(flash: Path, witness: Witness, stage: str, folder: Path) -> tuple[int, int]:
    """Run a stage undisturbed. Return its flash operations, and those of the recovery behind it (on a copy)."""
    with VirtualBoard(_settings(flash)) as board:
        ordered = OrderedBoard(board)
        for order in STAGES[stage]:
            _carry_out(ordered, order, witness)
        operations = _operations(ordered)
    again = folder / "recovery.flash"
    shutil.copy(flash, again)
    with VirtualBoard(_settings(again)) as board:
        ordered, scratch = OrderedBoard(board), copy.deepcopy(witness)
        for order in _recovery([order for order in STAGES[stage] if order[0] == "open"][-1]):
            _carry_out(ordered, order, scratch)
        return operations, _operations(ordered)


def _operations(board: OrderedBoard) -> int:
    return int(board.ask("operations")[0][1])


def _format_operations(folder: Path) -> int:
    """Return how many flash operations the very first power-on takes, asked at the prompt."""
    flash = folder / "new.flash"
    _erase(flash)
    with VirtualBoard(_settings(flash)) as board:
        board.console.wait_for(">>> ", DEADLINE_S)
        board.console.write(b"import _vboard\r")
        board.console.wait_for(">>> ", DEADLINE_S)
        board.console.write(
            b"_, _, programs, _, erases = _vboard.flash_counts(); print('==', programs + erases, '.')\r"
        )
        board.console.wait_for("\n== ", DEADLINE_S)
        return int(board.console.wait_for(".").strip(" ."))


def board_files(firmware: Path | None = None) -> dict[str, bytes]:
    """Return what belongs on a board that takes orders: the journal's modules, of another folder if given."""
    compiled = {Path(path).stem: code for path, code in compile_firmware(firmware).items()}
    modules = {f"/firmware/{name}.mpy": compiled[name] for name in MODULES}
    return modules | {"/main.py": PROGRAM.read_bytes()}


def install(flash: Path, files: dict[str, bytes], size_bytes: int = FLASH_BYTES) -> None:
    """Put the program on a board, as a technician does: one at a time, because that takes the process's stdout."""
    settings = BoardSettings(flash=flash, size_bytes=size_bytes)
    with _INSTALLING, VirtualBoard(settings) as board, Board(str(board.console_path)) as link:
        link.enter_repl()
        link.run("import os\nos.mkdir('/firmware')")
        for path, data in files.items():
            link.write_file(path, data)


def _erase(flash: Path) -> None:
    flash.write_bytes(b"\xff" * FLASH_BYTES)


def _settings(flash: Path, cut_at: int = 0, torn_percent: int = 50) -> BoardSettings:
    return BoardSettings(flash=flash, size_bytes=FLASH_BYTES, cut_at_operation=cut_at, torn_percent=torn_percent)
