"""The bounds of one layer on one accelerator in plain Python.

The slow oracle of `arraysmith.search.physical_bounds`.
"""

from __future__ import annotations

from arraysmith.hardware import Dataflow
from arraysmith.simulation.physical.array import MICROARCHITECTURES, fold_terms, on_array
from arraysmith.workload import ceil_div


def cycles_at_least(layer, accelerator):
    """Cycles that no mapping of a layer goes below."""
    array = min(_folds_alone(layer, accelerator, each) for each in accelerator.microarchitectures)
    channel = -(-least_dram_bytes(layer, accelerator) // accelerator.dram_rate)
    # Something is loaded before the first step, and something stored after the last.
    return max(array + 2, int(channel))


def least_dram_bytes(layer, accelerator):
    """Each word of ifmap and filter once, and the outputs."""
    sizes = layer.loops
    ifmap = _covered(sizes.rows, sizes.filter_rows, sizes.stride)
    ifmap *= _covered(sizes.cols, sizes.filter_cols, sizes.stride) * sizes.in_channels
    filter_ = sizes.out_channels * sizes.in_channels * sizes.taps
    outputs = sizes.rows * sizes.cols * sizes.out_channels
    operands = sizes.images * ifmap + filter_
    stored = sizes.images * outputs * accelerator.output_bytes
    return sizes.groups * (operands * accelerator.operand_bytes + stored)


def _folds_alone(layer, accelerator, microarchitecture):
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


def _groups_at_once(sizes, accelerator, microarchitecture):
    if microarchitecture.dataflow is not Dataflow.WS or sizes.groups == 1:
        return 1
    fit = min(
        accelerator.rows // (sizes.in_channels * sizes.taps),
        accelerator.cols // sizes.out_channels,
    )
    return max(1, min(fit, sizes.groups))


def _covered(pixels, filter_size, stride):
    """Lines of the ifmap that windows cover."""
    if stride < filter_size:
        return (pixels - 1) * stride + filter_size
    return pixels * filter_size
