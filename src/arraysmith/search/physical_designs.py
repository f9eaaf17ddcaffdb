"""The best array for a network under the model `physical`, proven without visiting all of them.

For each design there is a bound that no mapping goes below: a layer takes at least the cycles of
all its folds as if it were one tile, and at least what the channel needs to move each word once.
Designs are visited in the order of their bounds; when the next bound is above the best that was
found, so are all others.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from arraysmith.errors import DesignSpaceError
from arraysmith.hardware import Dataflow
from arraysmith.progress import silent
from arraysmith.search.mapper import map_workload
from arraysmith.simulation.physical.array import MICROARCHITECTURES, fold_terms, on_array
from arraysmith.simulation.physical.model import network_metrics
from arraysmith.workload import ceil_div

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from arraysmith.formats.technology import Technology
    from arraysmith.hardware import Microarchitecture, PhysicalAccelerator
    from arraysmith.physical_performance import PhysicalNetworkMetrics
    from arraysmith.progress import Progress
    from arraysmith.workload import Layer, LoopSizes, Workload

MAX_DESIGNS = 200_000
"""Whose bounds are computed."""
MAX_SECONDS = 3600
"""That a search may take, as far as can be told."""
_TRIED = 3
"""Designs after which it is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visited:
    """A design whose best mappings were found."""

    accelerator: PhysicalAccelerator
    cycles_at_least: int
    metrics: PhysicalNetworkMetrics


def explore_arrays(
    workload: Workload,
    accelerators: Sequence[PhysicalAccelerator],
    technology: Technology,
    *,
    progress: Progress = silent,
    most_seconds: float = MAX_SECONDS,
) -> tuple[Visited, ...]:
    """The array that takes the fewest cycles, first of those that had to be visited.

    Ties go to fewer PEs, then to fewer rows, then to the order given.

    Args:
        workload: the layers.
        accelerators: the designs.
        technology: what accesses cost; it changes which of two mappings of equal cycles is taken.
        progress: shows how many designs are done or ruled out, and the best so far.
        most_seconds: when this may take longer, it is refused.

    Raises:
        DesignSpaceError: too many designs, or a search of hours.
        InvalidHardwareError: a buffer holds no tile of a layer.
    """
    if not accelerators or len(accelerators) > MAX_DESIGNS:
        raise DesignSpaceError(
            f"{len(accelerators):,} designs, from 1 to {MAX_DESIGNS:,} can be searched; give "
            "--rows and --cols a step, or --max-pes"
        )
    order = _ordered(workload, accelerators)
    found: list[Visited] = []
    start = time.perf_counter()
    with progress("exploring", len(order)) as advance:
        for place, (bound, accelerator) in enumerate(order):
            best = min((each.metrics.total_cycles for each in found), default=None)
            if best is not None and bound > best:
                advance(len(order) - place)
                break
            mapped = map_workload(workload, accelerator, technology)
            layers = tuple(layer.best for layer in mapped)
            metrics = network_metrics(workload, accelerator, layers, technology)
            found.append(Visited(accelerator=accelerator, cycles_at_least=bound, metrics=metrics))
            best = min(best or metrics.total_cycles, metrics.total_cycles)
            advance(1, f"best {best:,} cycles")
            if place + 1 == _TRIED:
                _check_time(order, best, (time.perf_counter() - start) / _TRIED, most_seconds)
    return tuple(sorted(found, key=_rank))


def cycles_at_least(layer: Layer, accelerator: PhysicalAccelerator) -> int:
    """Cycles that no mapping of a layer goes below."""
    array = min(_folds_alone(layer, accelerator, each) for each in accelerator.microarchitectures)
    channel = -(-least_dram_bytes(layer, accelerator) // accelerator.dram_rate)
    # Something is loaded before the first step, and something stored after the last.
    return max(array + 2, int(channel))


def least_dram_bytes(layer: Layer, accelerator: PhysicalAccelerator) -> int:
    """Each word of ifmap and filter once, and the outputs."""
    sizes = layer.loops
    ifmap = _covered(sizes.rows, sizes.filter_rows, sizes.stride)
    ifmap *= _covered(sizes.cols, sizes.filter_cols, sizes.stride) * sizes.in_channels
    filter_ = sizes.out_channels * sizes.in_channels * sizes.taps
    outputs = sizes.rows * sizes.cols * sizes.out_channels
    operands = sizes.images * ifmap + filter_
    stored = sizes.images * outputs * accelerator.output_bytes
    return sizes.groups * (operands * accelerator.operand_bytes + stored)


def _folds_alone(
    layer: Layer, accelerator: PhysicalAccelerator, microarchitecture: Microarchitecture
) -> int:
    """An image and a pack of groups as one tile: cutting it adds folds, fills and drains."""
    sizes = layer.loops
    micro = MICROARCHITECTURES.index(microarchitecture)
    together = _groups_at_once(sizes, accelerator, microarchitecture)
    k = sizes.in_channels * sizes.taps
    S_R, S_C, T = on_array(micro, sizes.rows * sizes.cols, sizes.out_channels, k)
    # Packed groups fit the array whole.
    along_rows = 1 if together > 1 else ceil_div(S_R, accelerator.rows)
    along_cols = 1 if together > 1 else ceil_div(S_C, accelerator.cols)
    a, b = fold_terms(micro, T, accelerator.rows, accelerator.cols)
    return int(ceil_div(sizes.groups, together) * sizes.images * (along_rows * along_cols * a + b))


def _groups_at_once(
    sizes: LoopSizes, accelerator: PhysicalAccelerator, microarchitecture: Microarchitecture
) -> int:
    if microarchitecture.dataflow is not Dataflow.WS or sizes.groups == 1:
        return 1
    fit = min(
        accelerator.rows // (sizes.in_channels * sizes.taps),
        accelerator.cols // sizes.out_channels,
    )
    return max(1, min(fit, sizes.groups))


def _covered(pixels: int, filter_size: int, stride: int) -> int:
    """Lines of the ifmap that windows cover."""
    if stride < filter_size:
        return (pixels - 1) * stride + filter_size
    return pixels * filter_size


def _ordered(
    workload: Workload, accelerators: Iterable[PhysicalAccelerator]
) -> list[tuple[int, PhysicalAccelerator]]:
    """Designs with their bounds, the lowest first; of equal ones the smallest."""
    times: dict[Layer, int] = {}
    for layer in workload.layers:
        shape = replace(layer, name="")
        times[shape] = times.get(shape, 0) + 1
    bounds = [
        (sum(count * cycles_at_least(shape, each) for shape, count in times.items()), each)
        for each in accelerators
    ]
    return sorted(bounds, key=lambda pair: (pair[0], pair[1].pes, pair[1].rows))


def _check_time(
    order: list[tuple[int, PhysicalAccelerator]], best: int, seconds: float, most_seconds: float
) -> None:
    left = sum(bound <= best for bound, _ in order)
    if left * seconds > most_seconds:
        raise DesignSpaceError(
            f"up to {left:,} of {len(order):,} designs would have to be visited, "
            f"{left * seconds / 3600:.1f} hours at {seconds:.2f} s each; narrow --rows, --cols or "
            "--microarchitecture, or give them a step"
        )


def _rank(found: Visited) -> tuple[int, int, int]:
    return found.metrics.total_cycles, found.accelerator.pes, found.accelerator.rows
