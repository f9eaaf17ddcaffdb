"""Arraysmith: from a trained network to the best int8 systolic array for it.

The nouns and the verbs; everything is loaded when it is first asked for, so that
`import arraysmith` is quick and simulation never pulls in torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from arraysmith.version import __version__

if TYPE_CHECKING:
    from arraysmith.errors import ArraysmithError
    from arraysmith.flow.compare import compare
    from arraysmith.flow.demo import demo
    from arraysmith.flow.evaluation import evaluate
    from arraysmith.flow.exploration import explore
    from arraysmith.flow.explored_files import read_designs
    from arraysmith.flow.exporting import export
    from arraysmith.flow.hardware import read_workload, simulate
    from arraysmith.flow.lasting import Lasting
    from arraysmith.flow.learning import fetch_mnist, train
    from arraysmith.flow.mapping import map_network, simulate_physical
    from arraysmith.flow.quantization import compare_schemes, quantize
    from arraysmith.flow.report import report
    from arraysmith.flow.verification import verify
    from arraysmith.formats.mappings import read_mappings
    from arraysmith.formats.technology import read_technology
    from arraysmith.hardware import Accelerator, Dataflow, Microarchitecture, PhysicalAccelerator
    from arraysmith.mapping import Goal, Mapping, Tile
    from arraysmith.quantization.overrides import read_overrides
    from arraysmith.search.mapper import best_mapping
    from arraysmith.simulation.physical.cost import EnergyTable
    from arraysmith.space import Constraints, DesignSpace, Objective
    from arraysmith.workload import Conv2d, Gemm, Workload

__all__ = [
    "Accelerator",
    "ArraysmithError",
    "Constraints",
    "Conv2d",
    "Dataflow",
    "DesignSpace",
    "EnergyTable",
    "Gemm",
    "Goal",
    "Lasting",
    "Mapping",
    "Microarchitecture",
    "Objective",
    "PhysicalAccelerator",
    "Tile",
    "Workload",
    "__version__",
    "best_mapping",
    "compare",
    "compare_schemes",
    "demo",
    "evaluate",
    "explore",
    "export",
    "fetch_mnist",
    "map_network",
    "quantize",
    "read_designs",
    "read_mappings",
    "read_overrides",
    "read_technology",
    "read_workload",
    "report",
    "simulate",
    "simulate_physical",
    "train",
    "verify",
]

_HOMES = {
    "Accelerator": "hardware",
    "ArraysmithError": "errors",
    "Constraints": "space",
    "Conv2d": "workload",
    "Dataflow": "hardware",
    "DesignSpace": "space",
    "EnergyTable": "simulation.physical.cost",
    "Gemm": "workload",
    "Goal": "mapping",
    "Lasting": "flow.lasting",
    "Mapping": "mapping",
    "Microarchitecture": "hardware",
    "Objective": "space",
    "PhysicalAccelerator": "hardware",
    "Tile": "mapping",
    "Workload": "workload",
    "best_mapping": "search.mapper",
    "compare": "flow.compare",
    "compare_schemes": "flow.quantization",
    "demo": "flow.demo",
    "evaluate": "flow.evaluation",
    "explore": "flow.exploration",
    "export": "flow.exporting",
    "fetch_mnist": "flow.learning",
    "map_network": "flow.mapping",
    "quantize": "flow.quantization",
    "read_designs": "flow.explored_files",
    "read_mappings": "formats.mappings",
    "read_overrides": "quantization.overrides",
    "read_technology": "formats.technology",
    "read_workload": "flow.hardware",
    "report": "flow.report",
    "simulate": "flow.hardware",
    "simulate_physical": "flow.mapping",
    "train": "flow.learning",
    "verify": "flow.verification",
}


def __getattr__(name: str) -> object:
    """Load a name of `__all__` from the module where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module 'arraysmith' has no attribute {name!r}")
    return getattr(import_module(f"arraysmith.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """All public names, loaded or not."""
    return sorted(__all__)
