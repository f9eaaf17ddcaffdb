"""The int8 network: a chain of integer operations as frozen records of NumPy arrays.

These records are what every back end runs (NumPy, torch), what is exported and what is read back.
They hold all integers of the arithmetic, the scales that gave them, and no code that runs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import InvalidNetworkError
from arraysmith.files import is_safe_name
from arraysmith.models import chained_shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.models import Shape
    from arraysmith.quantization.affine import Affine, Requantization

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightedLayer:
    """What a convolution and a linear layer share: weights, bias, accumulator, requantization.

    The accumulator of every output is acc = Σ (qx - zx)·(qw - zw) + qb, equation (2).
    """

    name: str
    weight: NDArray[np.int8]
    """qw: (out, in, filter, filter) or (out, in)."""
    weight_zero_point: NDArray[np.int64]
    """zw: (out,)."""
    weight_scale: NDArray[np.float64]
    """(out,)."""
    bias: NDArray[np.int32]
    """qb: (out,), on the scale of the accumulator."""
    input: Affine
    output: Affine | None
    """None: the accumulator is the output (logits)."""
    requantization: Requantization | None
    relu: bool = False

    def __post_init__(self) -> None:
        """Shapes and types fit, and no accumulator can leave int32."""
        out = self.weight.shape[0]
        shapes = (self.weight_zero_point.shape, self.weight_scale.shape, self.bias.shape)
        if any(shape != (out,) for shape in shapes):
            raise InvalidNetworkError(
                f"layer {self.name!r}: {out} output channels, but zero points, scales and bias "
                f"of shapes {shapes}"
            )
        if self.weight.dtype != np.int8 or self.bias.dtype != np.int32:
            raise InvalidNetworkError(
                f"layer {self.name!r}: weights are {self.weight.dtype} and biases "
                f"{self.bias.dtype}, expected int8 and int32"
            )
        zero_point, scale = self.weight_zero_point, self.weight_scale
        if out and not (-128 <= zero_point.min() <= zero_point.max() <= 127):
            raise InvalidNetworkError(
                f"layer {self.name!r}: weight zero points {zero_point.min()}…{zero_point.max()} "
                "are not int8"
            )
        if not (np.isfinite(scale) & (scale > 0)).all():
            raise InvalidNetworkError(f"layer {self.name!r}: a weight scale is not positive")
        if (self.output is None) != (self.requantization is None):
            raise InvalidNetworkError(f"layer {self.name!r}: an output needs a requantization")
        if self.output is None and (self.relu or self.pooled > 1):
            raise InvalidNetworkError(
                f"layer {self.name!r}: logits are the bare accumulator, without ReLU or pool"
            )
        if self.requantization and self.requantization.multiplier.shape not in ((out,), (1,)):
            raise InvalidNetworkError(
                f"layer {self.name!r}: {len(self.requantization.multiplier)} multipliers for "
                f"{out} output channels"
            )
        low, high = self.accumulator_range
        if low < INT32_MIN or high > INT32_MAX:
            raise InvalidNetworkError(
                f"layer {self.name!r}: the accumulator can reach {low}…{high}, beyond int32"
            )

    @property
    def centred_weight(self) -> NDArray[np.int64]:
        """qw - zw, the shape of `weight`."""
        zero_point = self.weight_zero_point.reshape(-1, *(1,) * (self.weight.ndim - 1))
        return self.weight.astype(np.int64) - zero_point

    @property
    def accumulator_scale(self) -> NDArray[np.float64]:
        """(out,): what one unit of the accumulator is worth."""
        return self.weight_scale * self.input.scale

    @property
    def pooled(self) -> int:
        """How many accumulators one output adds up (a fused pool), 1 without."""
        return 1

    @property
    def accumulator_range(self) -> tuple[int, int]:
        """What the accumulator can reach for any input, with every partial sum in any order.

        Σ of the most negative (positive) products, each at most 0 (at least 0) because the zero
        point is itself a legal input; the bias counts on the side where it lies. (5), (6).
        """
        w = self.centred_weight.reshape(len(self.weight), -1)
        ends = (self.input.qmin - self.input.zero_point, self.input.qmax - self.input.zero_point)
        products = np.stack([w * end for end in ends])
        bias = self.bias.astype(np.int64)
        low = products.min(0).sum(1) + np.minimum(bias, 0)
        high = products.max(0).sum(1) + np.maximum(bias, 0)
        if self.pooled > 1 and self.relu:
            # ReLU stands between the accumulator and the sum: the sum starts at 0.
            return int(low.min()), int(self.pooled * high.max())
        return int(self.pooled * low.min()), int(self.pooled * high.max())

    @property
    def accumulator_bits(self) -> int:
        """Signed bits that hold `accumulator_range`."""
        low, high = self.accumulator_range
        return max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + 1

    @property
    def magnitude_bound(self) -> int:
        """max over channels of Σ|qw - zw|·max|qx - zx| + |qb|, times the pooled outputs.

        Below 2^24 (2^53) every partial sum is an integer that float32 (float64) holds exactly.
        """
        w = np.abs(self.centred_weight.reshape(len(self.weight), -1)).sum(1)
        x = max(self.input.qmax - self.input.zero_point, self.input.zero_point - self.input.qmin)
        return int((w * x + np.abs(self.bias.astype(np.int64))).max()) * self.pooled


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerConv2d(WeightedLayer):
    """A convolution, then ReLU if `relu`, then a sum over pool × pool accumulators, then (3)."""

    stride: int = 1
    padding: int = 0
    pool: int = 1
    """Side of the fused average pool; its 1/pool² is inside the multiplier."""

    def __post_init__(self) -> None:
        """A convolution has four-dimensional square filters."""
        if self.weight.ndim != 4 or self.weight.shape[2] != self.weight.shape[3]:
            raise InvalidNetworkError(
                f"layer {self.name!r}: weights of shape {self.weight.shape}, "
                "expected (out, in, filter, filter)"
            )
        if self.stride < 1 or self.padding < 0 or self.pool < 1:
            raise InvalidNetworkError(
                f"layer {self.name!r}: stride {self.stride}, padding {self.padding}, pool "
                f"{self.pool}; needs at least 1, 0 and 1"
            )
        WeightedLayer.__post_init__(self)

    @property
    def pooled(self) -> int:
        """Accumulators in one output."""
        return self.pool**2

    def convolved_shape(self, shape: Shape) -> Shape:
        """(in, rows, columns) to (out, rows, columns) before the fused pool."""
        if len(shape) != 3 or shape[0] != self.weight.shape[1]:
            raise InvalidNetworkError(
                f"layer {self.name!r} takes {self.weight.shape[1]} channels, got shape {shape}"
            )
        filter_ = self.weight.shape[2]
        rows, cols = ((n + 2 * self.padding - filter_) // self.stride + 1 for n in shape[1:])
        if min(rows, cols) < self.pool:
            raise InvalidNetworkError(f"layer {self.name!r}: input {shape} is too small")
        return (self.weight.shape[0], rows, cols)

    def output_shape(self, shape: Shape) -> Shape:
        """(in, rows, columns) to (out, rows, columns)."""
        out, rows, cols = self.convolved_shape(shape)
        return (out, rows // self.pool, cols // self.pool)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerLinear(WeightedLayer):
    """A fully connected layer, then ReLU if `relu`, then (3) or nothing (logits)."""

    def __post_init__(self) -> None:
        """A linear layer has a matrix of weights."""
        if self.weight.ndim != 2:
            raise InvalidNetworkError(
                f"layer {self.name!r}: weights of shape {self.weight.shape}, expected (out, in)"
            )
        WeightedLayer.__post_init__(self)

    def output_shape(self, shape: Shape) -> Shape:
        """(in,) to (out,)."""
        if shape != (self.weight.shape[1],):
            raise InvalidNetworkError(
                f"layer {self.name!r} takes {self.weight.shape[1]} features, got shape {shape}"
            )
        return (self.weight.shape[0],)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerAveragePool:
    """y = clamp(zy + ((Σ (qx - zx)·m + 2^(n-1)) >> n)), the window's 1/area inside m, n: (8)."""

    name: str
    window: int
    input: Affine
    output: Affine
    requantization: Requantization

    def __post_init__(self) -> None:
        """All channels share one scale."""
        if len(self.requantization.multiplier) != 1:
            raise InvalidNetworkError(
                f"layer {self.name!r}: {len(self.requantization.multiplier)} multipliers for a pool"
            )

    def output_shape(self, shape: Shape) -> Shape:
        """(channels, rows, columns) to (channels, rows // window, columns // window)."""
        if len(shape) != 3 or self.window < 1 or min(shape[1:]) < self.window:
            raise InvalidNetworkError(
                f"layer {self.name!r}: a pool of {self.window} does not fit shape {shape}"
            )
        return (shape[0], shape[1] // self.window, shape[2] // self.window)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerTable:
    """An element-wise function as 256 entries: y = table[qx - qmin]: (9)."""

    name: str
    table: NDArray[np.int64]
    input: Affine
    output: Affine

    def __post_init__(self) -> None:
        """256 entries, all of them legal outputs."""
        if self.table.shape != (256,):
            raise InvalidNetworkError(
                f"layer {self.name!r}: a table of shape {self.table.shape}, expected 256 entries"
            )
        if self.table.min() < self.output.qmin or self.table.max() > self.output.qmax:
            raise InvalidNetworkError(
                f"layer {self.name!r}: entries {self.table.min()}…{self.table.max()} outside "
                f"{self.output.qmin}…{self.output.qmax}"
            )

    def output_shape(self, shape: Shape) -> Shape:
        """The shape of its input."""
        return shape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerFlatten:
    """An image as a vector, row-major."""

    name: str
    input: Affine

    @property
    def output(self) -> Affine:
        """The integers stay what they are."""
        return self.input

    def output_shape(self, shape: Shape) -> Shape:
        """(channels, rows, columns) to (channels·rows·columns,)."""
        return (int(np.prod(shape)),)


IntegerLayer = IntegerConv2d | IntegerLinear | IntegerAveragePool | IntegerTable | IntegerFlatten


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerNetwork:
    """A chain of integer layers, with the table that takes a pixel (0…255) to its integer."""

    name: str
    input_shape: Shape
    input_table: NDArray[np.int64]
    """(256,): the integer of every pixel value."""
    layers: tuple[IntegerLayer, ...]

    def __post_init__(self) -> None:
        """Shapes chain, and every layer reads the scale that the one before wrote."""
        names = [layer.name for layer in self.layers]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled or not names:
            raise InvalidNetworkError(
                f"network {self.name!r} needs layers of different names, got {doubled or 'none'}"
            )
        for name in (self.name, *names):
            if not is_safe_name(name):
                raise InvalidNetworkError(
                    f"name {name!r}: use letters, digits, dashes, dots and underscores"
                )
        first = self.layers[0].input
        if self.input_table.shape != (256,) or not (
            first.qmin <= self.input_table.min() <= self.input_table.max() <= first.qmax
        ):
            raise InvalidNetworkError(
                f"network {self.name!r}: the input table is not 256 integers of "
                f"{first.qmin}…{first.qmax}"
            )
        for before, after in pairwise(self.layers):
            if before.output != after.input:
                raise InvalidNetworkError(
                    f"layer {after.name!r} reads {after.input}, but {before.name!r} writes "
                    f"{before.output}"
                )
        if self.layers[-1].output is not None:
            raise InvalidNetworkError(f"network {self.name!r} does not end in logits")
        _ = self.shapes

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The input shape, then the output shape of every layer."""
        return chained_shapes(self.input_shape, self.layers)

    @property
    def weighted_layers(self) -> tuple[IntegerConv2d | IntegerLinear, ...]:
        """The layers that a systolic array computes."""
        return tuple(layer for layer in self.layers if isinstance(layer, WeightedLayer))
