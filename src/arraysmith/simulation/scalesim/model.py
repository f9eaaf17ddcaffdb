"""SCALE-Sim's two modes for whole networks: closed forms where they answer, else the walk."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from arraysmith.progress import silent
from arraysmith.simulation.scalesim import closed_form
from arraysmith.simulation.scalesim.geometry import im2col
from arraysmith.simulation.scalesim.parallel import run_all
from arraysmith.simulation.scalesim.walk import Walk

if TYPE_CHECKING:
    from arraysmith.hardware import Accelerator, StreamBandwidths
    from arraysmith.performance import LayerMetrics, NetworkMetrics
    from arraysmith.progress import Progress
    from arraysmith.simulation.scalesim.geometry import Im2col
    from arraysmith.workload import Layer, Workload

CALC, USER = closed_form.MODEL, "scalesim USER"


def simulate(
    workload: Workload,
    accelerator: Accelerator,
    bandwidths: StreamBandwidths | None = None,
    *,
    progress: Progress = silent,
) -> NetworkMetrics:
    """All layers of a workload on one accelerator, one after the other.

    Layers of equal dimensions are simulated once; those that have to be walked, on all cores.

    Args:
        workload: the layers.
        accelerator: the array and its buffers.
        bandwidths: of USER mode; None is CALC mode, which is stall-free.
        progress: shows cycles of the layers that have to be walked through.

    Raises:
        InvalidWorkloadError: a layer for which SCALE-Sim has no answer; the message says why.
    """
    shapes = [im2col(layer) for layer in workload.layers]
    found: dict[Im2col, LayerMetrics] = {}
    walks: dict[Im2col, Walk] = {}
    for layer, shape in zip(workload.layers, shapes, strict=True):
        if shape in found:
            continue
        found[shape] = closed = closed_form.simulate_layer(layer, accelerator, shape)
        if bandwidths is not None or closed.dram_words is None:
            walks[shape] = Walk(layer, accelerator, bandwidths, closed, matrix=shape)
    found |= zip(walks, run_all(list(walks.values()), progress), strict=True)
    layers = tuple(
        metrics if metrics.name == layer.name else replace(metrics, name=layer.name)
        for layer, metrics in zip(workload.layers, (found[shape] for shape in shapes), strict=True)
    )
    mode = CALC if bandwidths is None else USER
    return closed_form.network_metrics(workload, accelerator, mode, layers)


def stalls_counted_once(
    layer: Layer, accelerator: Accelerator, bandwidths: StreamBandwidths
) -> int:
    """Stall cycles of USER mode if a late read were waited for once (Q1)."""
    closed = closed_form.simulate_layer(layer, accelerator)
    once = Walk(layer, accelerator, bandwidths, closed, once=True)
    (found,) = run_all([once], silent)
    return found.stall_cycles
