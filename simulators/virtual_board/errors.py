"""What can go wrong with a virtual board.

VirtualBoardError          (a SimulatorError)
├── VirtualBoardMissing   the interpreter is not built, or cannot be: the text says what to install or run
└── BoardFault            a board could not be started, or did not do in time what was waited for
"""

from __future__ import annotations

from simulators.errors import SimulatorError


class VirtualBoardError(SimulatorError):
    """Base of the virtual board's errors."""


class VirtualBoardMissing(VirtualBoardError):
    """There is no interpreter; the text says how to get one."""


class BoardFault(VirtualBoardError):
    """The board could not be started, or did not do in time what was waited for."""
