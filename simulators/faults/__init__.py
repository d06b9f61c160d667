"""The fault library: one name for each thing that can go wrong, wherever it is injected.

    kinds.toml ─▶ catalogue.py: Kind ─▶ plan.py: Injection, FaultPlan (seeded, printable) ─▶ parts.py: begin and heal

    plan = draw(seed=7, span_s=600, targets={"bus": ["xuan-hoa"], "gateway": ["gw-go-cong"]})
    print(plan)

`line.py` is what a bad RS-485 line does to bytes. `tram-sim faults` lists the kinds.
"""

from simulators.faults.catalogue import FaultRefused, Kind, Parameter, Scope, kind, kinds
from simulators.faults.plan import FaultPlan, Injection, draw

__all__ = ["FaultPlan", "FaultRefused", "Injection", "Kind", "Parameter", "Scope", "draw", "kind", "kinds"]
