"""What can go wrong in the simulated world.

SimulatorError
├── BenchError          a program of the bench did not start, answer or end
└── (each simulator's own: PlanError, ReplayError, VirtualBoardError, …)
"""

from __future__ import annotations


class SimulatorError(Exception):
    """Base of all errors of the simulators; the text tells the operator what to do."""
