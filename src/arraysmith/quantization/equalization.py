"""Cross-layer equalization: neighbouring layers share out their weights' ranges by channel.

Where all between two weighted operations is f with f(x/s) = f(x)/s for s > 0, a channel may be made
1/s as large by the first and s times by the second, and nothing changes. With r1 and r2 the largest
|weight| that makes and that reads the channel, s = √(r1·r2)/r2 makes both √(r1·r2) (Nagel et al.,
ICCV 2019, section 4.1). Chains of pairs are gone over until none moves. Unlike there, no bias grows
beyond the largest of its layer: a channel of tiny weights would otherwise widen the whole tensor.

What a word between them belongs to is followed word by word, so that any reshape or transpose may
stand between.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.networks.functions import Function
from arraysmith.networks.moves import MaxPool, Pad, Reshape, Stretch, Take, Transpose
from arraysmith.networks.operations import (
    AveragePool,
    ChannelAffine,
    Convolution,
    Elementwise,
    Linear,
    Mean,
    PRelu,
)
from arraysmith.quantization.passes import channels_read, reweighted, with_operations

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.networks.functions import Step
    from arraysmith.networks.graph import FloatGraph
    from arraysmith.networks.operations import FloatOperation

MAX_ROUNDS = 100
CONVERGED = 1e-3
"""No scale of a round is farther from 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pair:
    """Two weighted operations with nothing between that would notice a scale."""

    first: str
    second: str
    columns: NDArray[np.int64]
    """The shape of the second's weights without the window: the first's channel behind each."""
    shifts: tuple[tuple[str, NDArray[np.int64]], ...]
    """`ChannelAffine` between, whose shifts are scaled too: the first's channel of each."""


def equalize(graph: FloatGraph) -> FloatGraph:
    """The same function with evened weights; behind the folding of batch normalizations."""
    pairs = find_pairs(graph)
    weighted = {
        each.name: each for each in graph.operations if isinstance(each, Convolution | Linear)
    }
    weights = {name: each.weight.astype(np.float64) for name, each in weighted.items()}
    biases = {name: each.bias.astype(np.float64) for name, each in weighted.items()}
    shifts = {
        each.name: each.shift.astype(np.float64)
        for each in graph.operations
        if isinstance(each, ChannelAffine)
    }
    for _ in range(MAX_ROUNDS):
        farthest = 0.0
        for pair in pairs:
            scales = _scales(weights[pair.first], weights[pair.second], pair.columns)
            scales = np.maximum(scales, _least_scales(biases[pair.first]))
            farthest = max(farthest, float(np.abs(scales - 1).max()))
            weights[pair.first] /= _columned(scales, weights[pair.first])
            biases[pair.first] /= scales
            weights[pair.second] *= _columned(scales[pair.columns], weights[pair.second])
            for name, owners in pair.shifts:
                shifts[name] /= scales[owners]
        if farthest < CONVERGED:
            break
    operations = [_changed(each, weights, biases, shifts) for each in graph.operations]
    return with_operations(graph, operations)


def _changed(
    operation: FloatOperation,
    weights: dict[str, NDArray[np.float64]],
    biases: dict[str, NDArray[np.float64]],
    shifts: dict[str, NDArray[np.float64]],
) -> FloatOperation:
    if isinstance(operation, Convolution | Linear):
        return reweighted(operation, weights[operation.name], biases[operation.name])
    if isinstance(operation, ChannelAffine):
        return replace(operation, shift=shifts[operation.name].astype(np.float32))
    return operation


def _scales(
    first: NDArray[np.float64], second: NDArray[np.float64], columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(channels,): √(r1/r2); 1 for a channel that one of them does not have."""
    r1 = np.abs(first).reshape(len(first), -1).max(1)
    r2 = np.zeros(len(first))
    largest = np.abs(second).reshape(*columns.shape, -1).max(2)
    np.maximum.at(r2, columns.ravel(), largest.ravel())
    both = (r1 > 0) & (r2 > 0)
    scales = np.ones(len(first))
    scales[both] = np.sqrt(r1[both] / r2[both])
    return scales


def _least_scales(biases: NDArray[np.float64]) -> NDArray[np.float64]:
    """(channels,): what keeps every bias within the largest one, 1 at most."""
    magnitudes = np.abs(biases)
    return magnitudes / max(float(magnitudes.max()), float(np.finfo(np.float64).tiny))


def _columned(scales: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Against weights: axes of one word behind."""
    return scales.reshape(*scales.shape, *(1,) * (weight.ndim - scales.ndim))


def find_pairs(graph: FloatGraph) -> tuple[Pair, ...]:
    """All pairs that may be equalized, in the order of the graph."""
    shapes, readers = graph.shapes, graph.readers
    found: list[Pair] = []
    for first in graph.operations:
        if not isinstance(first, Convolution | Linear) or first.name in graph.weight_types:
            continue
        axis = 0 if isinstance(first, Convolution) else len(shapes[first.name]) - 1
        owners = _along(np.arange(len(first.weight)), axis, shapes[first.name])
        tensor = first.name
        shifts: list[tuple[str, NDArray[np.int64]]] = []
        while (
            len(readers[tensor]) == 1 and tensor not in graph.outputs and tensor not in graph.types
        ):
            (reader,) = readers[tensor]
            if isinstance(reader, Convolution | Linear):
                columns = _columns_read(reader, owners)
                if columns is not None and reader.name not in graph.weight_types:
                    found.append(
                        Pair(
                            first=first.name,
                            second=reader.name,
                            columns=columns,
                            shifts=tuple(shifts),
                        )
                    )
                break
            behind = _passed(reader, owners, shapes[reader.name])
            if behind is None:
                break
            if isinstance(reader, ChannelAffine):
                shifts.append((reader.name, _only_axis(owners, 0)))  # type: ignore[arg-type]
            owners, tensor = behind, reader.name
    return tuple(found)


def _columns_read(
    reader: Convolution | Linear, owners: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    axis = 0 if isinstance(reader, Convolution) else owners.ndim - 1
    channels = _only_axis(owners, axis)
    return None if channels is None else channels[channels_read(reader)]


def _passed(
    operation: FloatOperation, owners: NDArray[np.int64], shape: tuple[int, ...]
) -> NDArray[np.int64] | None:
    """Owners of what an operation makes of a tensor; None where a scale does not pass."""
    if not _lets_pass(operation):
        return None
    match operation:
        case Reshape():
            return owners.reshape(operation.shape)
        case Transpose():
            return owners.transpose(operation.axes)
        case Take():
            return owners.take(operation.indices, operation.axis)
        case Elementwise() | PRelu():
            return owners
    channels = _only_axis(owners, 0)
    return None if channels is None else _along(channels, 0, shape)


def _lets_pass(operation: FloatOperation) -> bool:
    """Whether f(x/s) = f(x)/s, for a scale s > 0 of each channel, and axis 0 stays as it is."""
    match operation:
        case Elementwise():
            return all(map(_homogeneous, operation.steps))
        case Pad():
            return not (operation.value or operation.before[0] or operation.after[0])
        case Stretch():
            return not operation.value
        case Mean():
            return 0 not in operation.axes
    passing = (Reshape, Transpose, Take, PRelu, ChannelAffine, MaxPool, AveragePool)
    return isinstance(operation, passing)


def _homogeneous(step: Step) -> bool:
    """Whether f(x/s) = f(x)/s for every s > 0."""
    match step.function:
        case Function.RELU | Function.LEAKY_RELU | Function.ABS | Function.MUL:
            return True
        case Function.CLIP:
            return all(number == 0 or not np.isfinite(number) for number in step.numbers)
    return False


def _along(channels: NDArray[np.int64], axis: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Owners that depend on one axis alone."""
    spread = channels.reshape(-1, *(1,) * (len(shape) - axis - 1))
    return np.broadcast_to(spread, shape)


def _only_axis(owners: NDArray[np.int64], axis: int) -> NDArray[np.int64] | None:
    """The owners along one axis, where they depend on no other."""
    channels = np.moveaxis(owners, axis, 0).reshape(owners.shape[axis], -1)[:, 0]
    return channels if (owners == _along(channels, axis, owners.shape)).all() else None
