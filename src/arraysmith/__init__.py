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
    from arraysmith.flow.designs import explore_physical
    from arraysmith.flow.hardware import explore, read_workload, simulate
    from arraysmith.flow.learning import fetch_mnist, train
    from arraysmith.flow.mapping import map_network, simulate_physical
    from arraysmith.flow.quantization import compare_schemes, evaluate, export, quantize
    from arraysmith.flow.report import read_designs, report
    from arraysmith.formats.mappings import read_mappings
    from arraysmith.formats.technology import read_technology
    from arraysmith.hardware import Accelerator, Dataflow, Microarchitecture, PhysicalAccelerator
    from arraysmith.mapping import Mapping, Tile
    from arraysmith.search.mapper import Goal, best_mapping
    from arraysmith.search.space import DesignSpace, Objective
    from arraysmith.simulation.physical.cost import EnergyTable
    from arraysmith.workload import Conv2d, Gemm, Workload

__all__ = [
    "Accelerator",
    "ArraysmithError",
    "Conv2d",
    "Dataflow",
    "DesignSpace",
    "EnergyTable",
    "Gemm",
    "Goal",
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
    "explore_physical",
    "export",
    "fetch_mnist",
    "map_network",
    "quantize",
    "read_designs",
    "read_mappings",
    "read_technology",
    "read_workload",
    "report",
    "simulate",
    "simulate_physical",
    "train",
]

_HOMES = {
    "Accelerator": "hardware",
    "ArraysmithError": "errors",
    "Conv2d": "workload",
    "Dataflow": "hardware",
    "DesignSpace": "search.space",
    "EnergyTable": "simulation.physical.cost",
    "Gemm": "workload",
    "Goal": "search.mapper",
    "Mapping": "mapping",
    "Microarchitecture": "hardware",
    "Objective": "search.space",
    "PhysicalAccelerator": "hardware",
    "Tile": "mapping",
    "Workload": "workload",
    "best_mapping": "search.mapper",
    "compare": "flow.compare",
    "compare_schemes": "flow.quantization",
    "demo": "flow.demo",
    "evaluate": "flow.quantization",
    "explore": "flow.hardware",
    "explore_physical": "flow.designs",
    "export": "flow.quantization",
    "fetch_mnist": "flow.learning",
    "map_network": "flow.mapping",
    "quantize": "flow.quantization",
    "read_designs": "flow.report",
    "read_mappings": "formats.mappings",
    "read_technology": "formats.technology",
    "read_workload": "flow.hardware",
    "report": "flow.report",
    "simulate": "flow.hardware",
    "simulate_physical": "flow.mapping",
    "train": "flow.learning",
}


def __getattr__(name: str) -> object:
    """Load a name of `__all__` from the module where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module 'arraysmith' has no attribute {name!r}")
    return getattr(import_module(f"arraysmith.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """All public names, loaded or not."""
    return sorted(__all__)
