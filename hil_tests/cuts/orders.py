"""A board that takes orders over its console, one a line. Every answer ends in a line "== ok" or "== failed why"."""

from __future__ import annotations

from simulators.board import VirtualBoard
from simulators.virtual_board.errors import BoardFault

DEADLINE_S = 60.0
_END = "== "

Answer = list[list[str]]  # lines of words


class PowerGone(Exception):
    """The power went before the order was answered; `answer` is what was said until then, since power-on."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("the power went")
        self.answer = answer


class OrderFailed(Exception):
    """The board says that it could not do it, or says nothing."""


class OrderedBoard:
    """A board that was just started with such a program as its /main.py. Raises PowerGone, OrderFailed."""

    def __init__(self, board: VirtualBoard, deadline_s: float = DEADLINE_S) -> None:
        self._board = board
        self._deadline_s = deadline_s
        self._answer()

    def ask(self, *order: object) -> Answer:
        """Give one order; return what was answered."""
        self._board.console.write((" ".join(map(str, order)) + "\n").encode())
        return self._answer()

    def _answer(self) -> Answer:
        console = self._board.console
        try:
            said = console.wait_for(_END, self._deadline_s)
            end = console.wait_for("\n", DEADLINE_S).strip()
        except BoardFault as fault:
            if not console.wait_disconnected(0):
                raise OrderFailed(str(fault)) from None
            self._board.wait_off(DEADLINE_S)
            raise PowerGone(_lines(console.text())) from None
        if end.startswith("failed"):
            raise OrderFailed(end)
        return _lines(said)


def _lines(text: str) -> Answer:
    whole = text.replace("\r", "").split("\n")[:-1]  # the last one may have been broken off
    return [words for line in whole if (words := line.split())]
