"""A float graph made simpler before it is quantized; what it computes stays the same.

Batch normalizations disappear into the weights beside them, in float64, zeros around an image into
the padding of its convolution, and chains of element-wise functions become one. Tensors and weights
that the model came quantized with (`FloatGraph.types`, `weight_types`) are left alone, and so are
the names of outputs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.networks.moves import Pad
from arraysmith.networks.operations import (
    Add,
    ChannelAffine,
    Convolution,
    Elementwise,
    Linear,
    Mul,
)
from arraysmith.quantization.plan import clipped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from arraysmith.networks.graph import FloatGraph
    from arraysmith.networks.operations import FloatOperation

    Readers = Mapping[str, tuple[FloatOperation, ...]]


def simplified(graph: FloatGraph) -> FloatGraph:
    """All passes, one after the other."""
    return fuse_steps(fold_padding(fold_batch_norms(graph)))


def fold_batch_norms(graph: FloatGraph) -> FloatGraph:
    """`ChannelAffine` folded into the convolution or linear layer behind or in front of it.

    Behind one, if nobody else reads what is between: the weighted operation keeps its name, unless
    the other's is an output's. In front of a convolution, where padding holds no shifted zeros, if
    no weighted operation makes what it reads: there it costs nothing, and evens the channels out.
    """
    changed = True
    while changed:
        graph, changed = _fold_one(graph)
    return graph


def _fold_one(graph: FloatGraph) -> tuple[FloatGraph, bool]:
    made = {each.name: each for each in graph.operations}
    readers = graph.readers
    for affine in graph.operations:
        if not isinstance(affine, ChannelAffine):
            continue
        before = made.get(affine.inputs[0])
        if before is not None and _folds_behind(graph, readers, before):
            kept = affine.name if affine.name in graph.outputs else before.name
            merged = replace(_behind(before, affine), name=kept)
            return _merged(graph, before, affine, merged), True
        if _folds_ahead(graph, readers, made, affine):
            (after,) = readers[affine.name]
            return _merged(graph, affine, after, _ahead(affine, after)), True
    return graph, False


def _alone(graph: FloatGraph, readers: Readers, tensor: str) -> bool:
    """Whether one operation reads a tensor and nothing else holds on to it."""
    held = tensor in graph.outputs or tensor in graph.types
    return not held and len(readers[tensor]) == 1


def _folds_behind(graph: FloatGraph, readers: Readers, before: FloatOperation) -> bool:
    weighted = isinstance(before, Convolution) or (
        isinstance(before, Linear) and len(graph.shapes[before.name]) == 1
    )
    typed = before.name in graph.weight_types
    return weighted and not typed and _alone(graph, readers, before.name)


def _folds_ahead(
    graph: FloatGraph, readers: Readers, made: Mapping[str, FloatOperation], affine: ChannelAffine
) -> bool:
    if not _alone(graph, readers, affine.name):
        return False
    (after,) = readers[affine.name]
    maker = made.get(affine.inputs[0])
    while isinstance(maker, Elementwise):
        maker = made.get(maker.inputs[0])
    if isinstance(after, Convolution):
        fits = not any(after.windows.before + after.windows.after) or not affine.shift.any()
    else:
        fits = isinstance(after, Linear) and len(graph.shapes[affine.name]) == 1
    return (
        fits
        and not isinstance(maker, Convolution | Linear)
        and after.name not in graph.weight_types
    )


def _behind(before: FloatOperation, affine: ChannelAffine) -> Convolution | Linear:
    """gain·(W·x + b) + shift as one weighted operation."""
    assert isinstance(before, Convolution | Linear)  # noqa: S101 (asked before)
    gain, bias = affine.gain.astype(np.float64), before.bias.astype(np.float64)
    weight = before.weight * gain.reshape(-1, *(1,) * (before.weight.ndim - 1))
    return reweighted(before, weight, bias * gain + affine.shift)


def _ahead(affine: ChannelAffine, after: FloatOperation) -> Convolution | Linear:
    """W·(gain·x + shift) + b as one weighted operation."""
    assert isinstance(after, Convolution | Linear)  # noqa: S101 (asked before)
    gain, shift = (each[channels_read(after)] for each in (affine.gain, affine.shift))
    spatial = (1,) * (after.weight.ndim - 2)
    weight = gain.reshape(*gain.shape, *spatial).astype(np.float64) * after.weight
    added = after.weight * shift.reshape(*shift.shape, *spatial).astype(np.float64)
    bias = after.bias.astype(np.float64) + added.reshape(len(added), -1).sum(1)
    scaled = reweighted(after, weight, bias)
    return replace(scaled, inputs=affine.inputs)


def channels_read(operation: Convolution | Linear) -> NDArray[np.int64]:
    """(out, in / groups) or (out, in): which channel of the input each column of weights reads."""
    out, columns = operation.weight.shape[:2]
    groups = operation.groups if isinstance(operation, Convolution) else 1
    group = np.arange(out) // (out // groups)
    read: NDArray[np.int64] = group[:, None] * columns + np.arange(columns)
    return read


def reweighted(
    operation: Convolution | Linear, weight: NDArray[np.float64], bias: NDArray[np.float64]
) -> Convolution | Linear:
    """The operation with other numbers, rounded to float32."""
    changed: Convolution | Linear = replace(
        operation, weight=weight.astype(np.float32), bias=bias.astype(np.float32)
    )
    return changed


def _merged(
    graph: FloatGraph, first: FloatOperation, second: FloatOperation, merged: FloatOperation
) -> FloatGraph:
    """`merged` where the second of two neighbours stood; who reads the second now reads it."""
    operations: list[FloatOperation] = []
    for each in graph.operations:
        if each is second:
            operations.append(merged)
        elif each is not first:
            operations.append(_renamed(each, second.name, merged.name))
    types = {merged.name if name == second.name else name: t for name, t in graph.types.items()}
    return replace(graph, operations=tuple(operations), types=types)


def _renamed(operation: FloatOperation, old: str, new: str) -> FloatOperation:
    if old == new or old not in operation.inputs:
        return operation
    inputs = tuple(new if name == old else name for name in operation.inputs)
    return replace(operation, inputs=inputs)


def fuse_steps(graph: FloatGraph) -> FloatGraph:
    """Element-wise functions that nobody else reads between become one, by the last one's name.

    A clip of sums stays by itself: the layer that makes them takes it into its clamp.
    """
    made: dict[str, FloatOperation] = {}
    readers = graph.readers
    for operation in graph.operations:
        fused = operation
        if isinstance(operation, Elementwise):
            before = made.get(operation.inputs[0])
            if (
                isinstance(before, Elementwise)
                and _alone(graph, readers, before.name)
                and not _clips(made, before)
            ):
                steps = (*before.steps, *operation.steps)
                fused = replace(operation, inputs=before.inputs, steps=steps)
                del made[before.name]
        made[fused.name] = fused
    return with_operations(graph, made.values())


def _clips(made: Mapping[str, FloatOperation], function: Elementwise) -> bool:
    maker = made.get(function.inputs[0])
    summing = isinstance(maker, Convolution | Linear | Add | Mul)
    return summing and clipped(function.steps) is not None


def fold_padding(graph: FloatGraph) -> FloatGraph:
    """Zeros around an image become the padding of the convolution that alone reads them."""
    made: dict[str, FloatOperation] = {}
    readers = graph.readers
    for operation in graph.operations:
        folded = operation
        if isinstance(operation, Convolution):
            pad = made.get(operation.inputs[0])
            if isinstance(pad, Pad) and _alone(graph, readers, pad.name) and _is_padding(pad):
                windows = replace(
                    operation.windows,
                    before=_summed(operation.windows.before, pad.before[1:]),
                    after=_summed(operation.windows.after, pad.after[1:]),
                )
                folded = replace(operation, inputs=pad.inputs, windows=windows)
                del made[pad.name]
        made[folded.name] = folded
    return with_operations(graph, made.values())


def _is_padding(pad: Pad) -> bool:
    """Zeros, and no channels of them."""
    return pad.value == 0 and pad.before[0] == pad.after[0] == 0


def _summed(one: Iterable[int], other: Iterable[int]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def with_operations(graph: FloatGraph, operations: Iterable[FloatOperation]) -> FloatGraph:
    """The graph with other operations of the same names, or fewer of them."""
    return replace(graph, operations=tuple(operations))
