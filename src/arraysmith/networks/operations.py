"""The operations of a float network: frozen records that hold their trained numbers as float32.

Each makes one tensor of its own name. Shapes leave the batch out, which every tensor but a constant
has as its first axis; axes count from 0 behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.networks.moves import (
    Concat,
    Expand,
    MaxPool,
    Move,
    Pad,
    Reshape,
    Stretch,
    Take,
    Transpose,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.networks.functions import Step
    from arraysmith.networks.windows import Windows

Shape = tuple[int, ...]


class Operation(Move):
    """An operation that computes."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Convolution(Operation):
    """A convolution over one or two axes, with a bias: (in, spatial…) to (out, positions…)."""

    weight: NDArray[np.float32]
    """(out, in / groups, *windows.size)."""
    bias: NDArray[np.float32]
    """(out,)."""
    windows: Windows
    groups: int = 1

    def __post_init__(self) -> None:
        """Weights, window, bias and groups fit."""
        out = len(self.weight)
        if self.weight.shape[2:] != self.windows.size or self.bias.shape != (out,):
            raise self.refuse(
                f"weights of shape {self.weight.shape} and a bias of shape {self.bias.shape} do "
                f"not fit a window of {self.windows.size}"
            )
        if self.groups < 1 or out % self.groups:
            raise self.refuse(f"{out} output channels in {self.groups} groups")

    def output_shape(self, shape: Shape) -> Shape:
        """(in, spatial…) to (out, positions…)."""
        return convolved_shape(self, self.weight.shape, self.windows, self.groups, shape)


def convolved_shape(
    operation: Move, weight: Shape, windows: Windows, groups: int, shape: Shape
) -> Shape:
    """The output shape of a convolution, or the error that names it."""
    if len(shape) != len(windows.size) + 1 or shape[0] != weight[1] * groups:
        raise operation.refuse(
            f"takes {weight[1] * groups} channels over {len(windows.size)} axes, got {shape}"
        )
    return (weight[0], *windows.positions(shape[1:]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linear(Operation):
    """A product with constant weights over the last axis, with a bias."""

    weight: NDArray[np.float32]
    """(out, in)."""
    bias: NDArray[np.float32]
    """(out,)."""

    def __post_init__(self) -> None:
        """Weights and bias fit."""
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[:1]:
            raise self.refuse(
                f"weights of shape {self.weight.shape}, a bias of shape {self.bias.shape}"
            )

    def output_shape(self, shape: Shape) -> Shape:
        """(…, in) to (…, out)."""
        if shape[-1:] != self.weight.shape[1:]:
            raise self.refuse(f"takes {self.weight.shape[1]} features, got shape {shape}")
        return (*shape[:-1], self.weight.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class MatMul(Operation):
    """The matrix product of two tensors over their last two axes, the others broadcast."""

    def output_shape(self, left: Shape, right: Shape) -> Shape:
        """(…, M, K) and (…, K, N) to (…, M, N)."""
        return multiplied_shape(self, left, right)


def multiplied_shape(operation: Move, left: Shape, right: Shape) -> Shape:
    """The shape of a matrix product, or the error that names the operation."""
    if min(len(left), len(right)) < 2 or left[-1] != right[-2]:
        raise operation.refuse(f"shapes {left} and {right} do not multiply")
    return (*broadcast(operation, left[:-2], right[:-2]), left[-2], right[-1])


def broadcast(operation: Move, *shapes: Shape) -> Shape:
    """The shape that several broadcast to, or the error that names the operation."""
    try:
        return tuple(int(size) for size in np.broadcast_shapes(*shapes))
    except ValueError:
        raise operation.refuse(f"shapes {', '.join(map(str, shapes))} do not broadcast") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Operation):
    """A sum of two tensors or more that broadcast; `signs` are 1 or -1."""

    signs: tuple[int, ...]

    def __post_init__(self) -> None:
        """A sign each."""
        if len(self.signs) != len(self.inputs) or not set(self.signs) <= {1, -1}:
            raise self.refuse(f"signs {self.signs} for {len(self.inputs)} inputs")

    def output_shape(self, *shapes: Shape) -> Shape:
        """What they broadcast to."""
        return broadcast(self, *shapes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mul(Operation):
    """A product of two tensors word by word, broadcast."""

    def output_shape(self, left: Shape, right: Shape) -> Shape:
        """What they broadcast to."""
        return broadcast(self, left, right)


@dataclass(frozen=True, slots=True, kw_only=True)
class Elementwise(Operation):
    """Functions of one tensor, one after the other."""

    steps: tuple[Step, ...]

    def output_shape(self, shape: Shape) -> Shape:
        """That of the input."""
        return shape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChannelAffine(Operation):
    """y = gain·x + shift for every channel (axis 0): a batch normalization in inference."""

    gain: NDArray[np.float32]
    """(channels,)."""
    shift: NDArray[np.float32]
    """(channels,)."""

    def output_shape(self, shape: Shape) -> Shape:
        """That of the input."""
        _check_channels(self, self.gain, shape)
        _check_channels(self, self.shift, shape)
        return shape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PRelu(Operation):
    """x where positive, else slope·x, a slope for every channel (axis 0)."""

    slope: NDArray[np.float32]
    """(channels,)."""

    def output_shape(self, shape: Shape) -> Shape:
        """That of the input."""
        _check_channels(self, self.slope, shape)
        return shape


def _check_channels(operation: Move, numbers: NDArray[np.float32], shape: Shape) -> None:
    if numbers.shape != shape[:1]:
        raise operation.refuse(f"{numbers.size} numbers for the channels of {shape}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragePool(Operation):
    """The mean over each window, (channels, spatial…)."""

    windows: Windows
    """Its padding holds what a ceiled size needs beyond the padding that is asked for."""
    counted: tuple[Shape, Shape]
    """How much padding before and after counts as words: what was asked for with
    count_include_pad, else none."""

    def output_shape(self, shape: Shape) -> Shape:
        """(channels, positions…)."""
        if len(shape) != len(self.windows.size) + 1:
            raise self.refuse(f"a window of {self.windows.size} does not slide over {shape}")
        return (shape[0], *self.windows.positions(shape[1:]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean(Operation):
    """The mean over axes, which then have one word: a global average pool; drop them by Reshape."""

    axes: tuple[int, ...]

    def output_shape(self, shape: Shape) -> Shape:
        """1 at every axis of `axes`."""
        if not self.axes or not set(self.axes) <= set(range(len(shape))):
            raise self.refuse(f"axes {self.axes} are none of {shape}")
        return tuple(1 if axis in self.axes else size for axis, size in enumerate(shape))


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax(Operation):
    """exp(x) over its sum along one axis."""

    axis: int

    def output_shape(self, shape: Shape) -> Shape:
        """That of the input."""
        if not 0 <= self.axis < len(shape):
            raise self.refuse(f"axis {self.axis} is none of {shape}")
        return shape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerNorm(Operation):
    """(x - mean)/sqrt(variance + epsilon)·gain + shift over the last axes."""

    gain: NDArray[np.float32]
    """The shape of the normalised axes."""
    shift: NDArray[np.float32]
    epsilon: float

    def output_shape(self, shape: Shape) -> Shape:
        """That of the input."""
        if self.gain.shape != self.shift.shape or shape[-self.gain.ndim :] != self.gain.shape:
            raise self.refuse(f"normalises axes of {self.gain.shape}, got {shape}")
        return shape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Constant(Operation):
    """A tensor that depends on no input, the same for every member of a batch."""

    value: NDArray[np.float32]

    def output_shape(self) -> Shape:
        """Its own."""
        return tuple(self.value.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lookup(Operation):
    """Rows of a table by integer input: an embedding."""

    table: NDArray[np.float32]
    """(rows, width)."""

    def output_shape(self, shape: Shape) -> Shape:
        """(…) to (…, width)."""
        if self.table.ndim != 2:
            raise self.refuse(f"a table of shape {self.table.shape}, needs rows and columns")
        return (*shape, self.table.shape[1])


class IslandKind(StrEnum):
    """What is computed in floats for want of an integer form."""

    DIVIDE = "divide"
    """Two inputs, broadcast."""
    MAXIMUM = "maximum"
    """Two inputs, broadcast."""
    MINIMUM = "minimum"
    """Two inputs, broadcast."""
    POWER = "power"
    """Two inputs, broadcast."""
    MAX = "max"
    """One input: the greatest over `axes`, which then have one word."""
    SUM = "sum"
    """One input: the sum over `axes`, which then have one word."""
    INSTANCE_NORM = "instance-norm"
    """One input (channels, spatial…): zero mean and unit variance of each channel."""
    GROUP_NORM = "group-norm"
    """One input (channels, spatial…): the same for `axes[0]` groups of channels."""
    RESPONSE_NORM = "response-norm"
    """One input (channels, spatial…): x / (k + alpha/size·Σ x²)^beta over `axes[0]` neighbouring
    channels (Krizhevsky et al., NIPS 2012, section 3.3); `numbers` are alpha, beta, k."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Island(Operation):
    """An operation without an integer form: it runs in floats, and is declared."""

    kind: IslandKind
    axes: tuple[int, ...] = ()
    epsilon: float = 0.0
    numbers: tuple[float, ...] = ()

    def output_shape(self, *shapes: Shape) -> Shape:
        """By kind."""
        pairs = (IslandKind.DIVIDE, IslandKind.MAXIMUM, IslandKind.MINIMUM, IslandKind.POWER)
        if len(self.inputs) != (2 if self.kind in pairs else 1):
            raise self.refuse(f"{self.kind} of {len(self.inputs)} inputs")
        if self.kind in (IslandKind.MAX, IslandKind.SUM):
            if not self.axes or not set(self.axes) <= set(range(len(shapes[0]))):
                raise self.refuse(f"axes {self.axes} are none of {shapes[0]}")
            return tuple(1 if axis in self.axes else n for axis, n in enumerate(shapes[0]))
        return broadcast(self, *shapes)


FloatOperation = (
    Convolution
    | Linear
    | MatMul
    | Add
    | Mul
    | Elementwise
    | ChannelAffine
    | PRelu
    | AveragePool
    | Mean
    | Softmax
    | LayerNorm
    | Constant
    | Lookup
    | Island
    | Reshape
    | Transpose
    | Take
    | Pad
    | Stretch
    | Expand
    | Concat
    | MaxPool
)
