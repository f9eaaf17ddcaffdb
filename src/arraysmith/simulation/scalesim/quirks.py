"""Which of SCALE-Sim's habits changed a figure, and what the array would really do.

The numbers Q… are those of the table in `docs/scalesim.md`. The physical value is given where it
has a closed form or a walk without the habit; None where it depends on a memory that SCALE-Sim does
not model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arraysmith.hardware import Dataflow
from arraysmith.simulation.scalesim.geometry import im2col
from arraysmith.simulation.scalesim.model import stalls_counted_once
from arraysmith.workload import Conv2d

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arraysmith.hardware import Accelerator, StreamBandwidths
    from arraysmith.performance import LayerMetrics
    from arraysmith.workload import Layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirk:
    """One figure of one layer that a habit of SCALE-Sim changed."""

    layer: str
    quirk: str
    figure: str
    scalesim: float
    physical: float | None
    why: str


Note = tuple[str, str, float, float | None, str]
"""Quirk, figure, SCALE-Sim's value, the right one, why."""


def quirks(
    layer: Layer,
    found: LayerMetrics,
    accelerator: Accelerator,
    bandwidths: StreamBandwidths | None,
    *,
    physical: bool = True,
) -> list[Quirk]:
    """What differs from the physical value in the figures of a layer.

    Args:
        layer, found, accelerator, bandwidths: what was simulated and what came of it.
        physical: give the right value even where it takes another walk.
    """
    notes = [*_of_the_array(layer, found, accelerator), *_of_the_memory(layer, found, accelerator)]
    if bandwidths is not None:
        notes += _of_user_mode(layer, found)
        if found.stall_cycles:
            once = stalls_counted_once(layer, accelerator, bandwidths) if physical else None
            notes.append(
                ("Q1", "Stall Cycles", found.stall_cycles, once, "a late read is waited for twice")
            )
    return [
        Quirk(
            layer=layer.name, quirk=quirk, figure=figure, scalesim=theirs, physical=right, why=why
        )
        for quirk, figure, theirs, right, why in notes
        if right is None or right != theirs
    ]


def _of_the_array(layer: Layer, found: LayerMetrics, accelerator: Accelerator) -> Iterator[Note]:
    fold = 2 * accelerator.rows + accelerator.cols + found.T - 2
    compute = found.total_cycles - found.stall_cycles
    figure, why = "Total Cycles without stalls", "the index of the last cycle is counted"
    if accelerator.dataflow is Dataflow.OS:
        why += ", and results leave before they are complete"
        yield "Q2, Q3", figure, compute, found.folds * fold, why
    else:
        yield "Q2", figure, compute, found.folds * fold, why
        right = 100 * found.compute_utilization * (fold + accelerator.cols - 1) / fold
        why = "the cycles of a fold are taken as 2R + 2C + T - 3"
        yield "Q5", "Compute Util %", 100 * found.compute_utilization, right, why
    pixels = im2col(layer).px
    if isinstance(layer, Conv2d):
        why = "windows that hang over the edge are computed"
        yield "Q16", "output pixels", pixels, layer.gemm.M, why


def _of_the_memory(layer: Layer, found: LayerMetrics, accelerator: Accelerator) -> Iterator[Note]:
    matrix = im2col(layer)
    results = asked = matrix.px * matrix.filters
    if accelerator.dataflow is Dataflow.OS:
        quirk, why = "Q4", "each fold writes R + C words too many"
    else:
        asked = results * found.folds_along_rows(accelerator.rows)
        quirk, why = "Q15", "partial sums are written once a fold along the rows, never read back"
    yield quirk, "SRAM OFMAP Writes", found.ofmap.sram_words, results, why
    if found.ofmap.dram_words is not None:
        why = "rows that a drain closed half-full are counted as full"
        yield "Q13", "DRAM OFMAP Writes", found.ofmap.dram_words, asked, why


def _of_user_mode(layer: Layer, found: LayerMetrics) -> Iterator[Note]:
    matrix = im2col(layer)
    for name, stream, distinct in (
        ("IFMAP", found.ifmap, matrix.distinct_ifmap_words),
        ("Filter", found.filter, matrix.win * matrix.filters),
    ):
        if stream.dram_words is not None:
            why = "whole requests with duplicates and empty places are counted; at least"
            yield "Q8", f"DRAM {name} Reads", stream.dram_words, distinct, why
