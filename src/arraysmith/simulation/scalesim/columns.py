"""The columns of SCALE-Sim's three report files, as the doubles it prints.

Percentages and bandwidths are computed in SCALE-Sim's own order of operations, so that they are
equal as doubles and not just close. A column that the closed form does not cover is None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arraysmith.performance import LayerMetrics, NetworkMetrics, StreamMetrics

Value = int | float | None

COMPUTE = (
    "Total Cycles (incl. prefetch)",
    "Total Cycles",
    "Stall Cycles",
    "Overall Util %",
    "Mapping Efficiency %",
    "Compute Util %",
)
_OPERANDS = ("IFMAP", "FILTER", "OFMAP")
BANDWIDTH = tuple(f"Avg {name} {place} BW" for place in ("SRAM", "DRAM") for name in _OPERANDS)


def columns(layer: LayerMetrics) -> dict[str, Value]:
    """All 30 columns of one layer, in the order of the three reports."""
    with_prefetch = layer.total_cycles_with_prefetch
    values: list[Value] = [
        with_prefetch,
        layer.total_cycles,
        layer.stall_cycles,
        layer.macs * 100 / (layer.total_cycles * layer.pes),
        layer.mapping_efficiency * 100,
        layer.compute_utilization * 100,
    ]
    found = dict(zip(COMPUTE, values, strict=True))
    for name, stream in zip(_OPERANDS, layer.streams, strict=True):
        found[f"Avg {name} SRAM BW"] = stream.sram_words / layer.total_cycles
    for name, stream in zip(_OPERANDS, layer.streams, strict=True):
        found[f"Avg {name} DRAM BW"] = stream.dram_words_per_cycle
    for place in ("SRAM", "DRAM"):
        for name, stream in zip(("IFMAP", "Filter", "OFMAP"), layer.streams, strict=True):
            found |= _accesses(place, name, stream)
    return found


def network_facts(found: NetworkMetrics) -> dict[str, object]:
    """Totals of a network and all columns of its layers, for machines."""
    names = (
        "model",
        "workload",
        "rows",
        "cols",
        "dataflow",
        "total_cycles",
        "stall_cycles",
        "macs",
        "overall_utilization",
        "mapping_efficiency",
        "compute_utilization",
        "sram_words",
        "dram_words",
        "peak_dram_words_per_cycle",
    )
    layers = [{"name": layer.name, **columns(layer)} for layer in found.layers]
    return {**{name: getattr(found, name) for name in names}, "layers": layers}


def _accesses(place: str, name: str, stream: StreamMetrics) -> dict[str, Value]:
    kind = "Writes" if name == "OFMAP" else "Reads"
    prefix = f"{place} {name}"
    start: int | None = stream.sram_start_cycle
    stop: int | None = stream.sram_stop_cycle
    words: int | None = stream.sram_words
    if place == "DRAM":
        start, stop, words = stream.dram_start_cycle, stream.dram_stop_cycle, stream.dram_words
    # SCALE-Sim prints these cycles as floats (Q17).
    found: tuple[Value, Value, Value] = (
        None if start is None else float(start),
        None if stop is None else float(stop),
        words,
    )
    return dict(
        zip(
            (f"{prefix} Start Cycle", f"{prefix} Stop Cycle", f"{prefix} {kind}"),
            found,
            strict=True,
        )
    )
