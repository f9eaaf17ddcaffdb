"""Integer layers with weights: convolutions and linear layers, with their proven accumulators.

acc = Σ (qx - zx)·(qw - zw) + qb                                                  (2)
acc = min(max(acc, low), high) + bias          where the layer has an `Activation`
acc = Σ acc                                    over pool windows, where one is fused (4)
y   = clamp(zy + ((acc·m + 2^(n-1)) >> n), low, high)                             (3)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.affine import MAX_BITS, MIN_BITS, integer_range
from arraysmith.networks.moves import Move
from arraysmith.networks.operations import convolved_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.affine import Affine, Requantization
    from arraysmith.networks.windows import Windows

Shape = tuple[int, ...]
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Activation:
    """What happens to an accumulator before the pool or the requantization, channel by channel.

    A ReLU in front of a fused pool is low 0, high open, bias 0. A batch normalization behind a ReLU
    is its shift in `bias`, on the accumulator's scale; its gain is in the multiplier, and where
    that is negative the weights have been negated and the clamp is from above.
    """

    low: NDArray[np.int64]
    """(out,), int32; INT32_MIN is open."""
    high: NDArray[np.int64]
    """(out,), int32; INT32_MAX is open."""
    bias: NDArray[np.int64]
    """(out,), int32: added behind the clamp."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightedLayer(Move):
    """What a convolution and a linear layer share."""

    weight: NDArray[np.int16]
    """qw: (out, in / groups, *window) or (out, in)."""
    weight_bits: int = 8
    weight_zero_point: NDArray[np.int64]
    """zw: (out,)."""
    weight_scale: NDArray[np.float64]
    """(out,): what one step of |y| is worth; see `Activation` for negated weights."""
    bias: NDArray[np.int32]
    """qb: (out,), on the scale of the accumulator."""
    input: Affine
    output: Affine | None
    """None: the accumulator is the output (logits)."""
    requantization: Requantization | None
    """(out,) or (1,)."""
    activation: Activation | None = None
    low: int | None = None
    """The lower end of the clamp of (3), where it is above qmin: a ReLU's is max(qmin, zy)."""
    high: int | None = None
    """The upper end, where it is below qmax, as that of ReLU6."""

    def __post_init__(self) -> None:
        """Shapes and types fit, and no accumulator can leave int32."""
        out = self.weight.shape[0]
        vectors: list[NDArray[Any]] = [self.weight_zero_point, self.weight_scale, self.bias]
        if self.activation:
            vectors += [self.activation.low, self.activation.high, self.activation.bias]
        shapes = tuple(vector.shape for vector in vectors)
        if any(shape != (out,) for shape in shapes) or not self.weight.size:
            raise self.refuse(
                f"{out} output channels, but zero points, scales and bias of shapes {shapes}"
            )
        if self.weight.dtype != np.int16 or self.bias.dtype != np.int32:
            raise self.refuse(
                f"weights are {self.weight.dtype} and biases {self.bias.dtype}, expected int16 "
                "(of weight_bits) and int32"
            )
        self._check_weights()
        if (self.output is None) != (self.requantization is None):
            raise self.refuse("an output needs a requantization")
        bare = {self.low, self.high, self.activation} == {None} and self.pooled == 1
        if self.output is None and not bare:
            raise self.refuse("logits are the bare accumulator, without ReLU or pool")
        if self.output is not None:
            check_clamp(self, self.output, self.low, self.high)
        if self.requantization and self.requantization.multiplier.shape not in ((out,), (1,)):
            raise self.refuse(
                f"{len(self.requantization.multiplier)} multipliers for {out} output channels"
            )
        low, high = self.accumulator_range
        if low < INT32_MIN or high > INT32_MAX:
            raise self.refuse(
                f"the accumulator can reach {low}…{high}, beyond int32; give the layer fewer bits"
            )

    def _check_weights(self) -> None:
        if not MIN_BITS <= self.weight_bits <= MAX_BITS:
            raise self.refuse(
                f"weights of {self.weight_bits} bits; choose {MIN_BITS} to {MAX_BITS}"
            )
        qmin, qmax = integer_range(self.weight_bits)
        for what, q in (("weights", self.weight), ("weight zero points", self.weight_zero_point)):
            if not qmin <= q.min() <= q.max() <= qmax:
                raise self.refuse(
                    f"{what} {q.min()}…{q.max()} are not int{self.weight_bits} ({qmin}…{qmax})"
                )
        if not (np.isfinite(self.weight_scale) & (self.weight_scale > 0)).all():
            raise self.refuse("a weight scale is not positive")

    @property
    def types(self) -> tuple[Affine | None, ...]:
        """Of its inputs."""
        return (self.input,)

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
    def accumulator_ranges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(out,) lowest and highest of every channel's accumulator, all partial sums included.

        Σ of the most negative (positive) products, each at most 0 (at least 0) because the zero
        point is itself a legal input; the bias counts on the side where it lies. (5), (6).
        """
        w = self.centred_weight.reshape(len(self.weight), -1)
        ends = (self.input.qmin - self.input.zero_point, self.input.qmax - self.input.zero_point)
        low, high = np.minimum(w * ends[0], w * ends[1]), np.maximum(w * ends[0], w * ends[1])
        bias = self.bias.astype(np.int64)
        return low.sum(1) + np.minimum(bias, 0), high.sum(1) + np.maximum(bias, 0)

    @property
    def accumulator_range(self) -> tuple[int, int]:
        """What the accumulator can reach for any input, the activation and the pool included."""
        low, high = self.accumulator_ranges
        ends = [int(low.min()), int(high.max())]
        if self.activation:
            low, high = (
                np.clip(each, self.activation.low, self.activation.high) + self.activation.bias
                for each in (low, high)
            )
        ends += [int(low.min()), int(high.max())]
        ends += [self.pooled * int(low.min()), self.pooled * int(high.max())]
        return min(ends), max(ends)

    @property
    def accumulator_bits(self) -> int:
        """Signed bits that hold `accumulator_range`."""
        return signed_bits(*self.accumulator_range)

    @property
    def magnitude_bound(self) -> int:
        """What no partial sum of any order exceeds.

        That is max over channels of Σ|qw - zw|·max|qx - zx| + |qb|, what the activation's clamp
        and |bias| can make of it, times the pooled outputs.

        Below 2^24 (2^53) every partial sum is an integer that float32 (float64) holds exactly.
        """
        w = np.abs(self.centred_weight.reshape(len(self.weight), -1)).sum(1)
        x = max(self.input.qmax - self.input.zero_point, self.input.zero_point - self.input.qmin)
        bound = w * x + np.abs(self.bias.astype(np.int64))
        if self.activation:
            ends = (np.clip(x, self.activation.low, self.activation.high) for x in (-bound, bound))
            bound = np.maximum.reduce([bound, *map(np.abs, ends)]) + np.abs(self.activation.bias)
        return int(bound.max()) * self.pooled


def signed_bits(low: int, high: int) -> int:
    """Bits of a two's complement that holds low…high."""
    return max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + 1


def check_clamp(layer: Move, output: Affine, low: int | None, high: int | None) -> None:
    """The ends of a clamp are legal outputs, in order."""
    ends = (output.qmin if low is None else low, output.qmax if high is None else high)
    if not output.qmin <= ends[0] <= ends[1] <= output.qmax:
        raise layer.refuse(f"clamps to {ends[0]}…{ends[1]} within {output.qmin}…{output.qmax}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerConvolution(WeightedLayer):
    """A convolution over one or two axes; see the module for its four steps."""

    windows: Windows
    groups: int = 1
    pool: int = 1
    """Side of the fused average pool, on every spatial axis, without overlap; a rest at the border
    is cut. Its 1/pool² (1/pool over one axis) is inside the multiplier."""

    def __post_init__(self) -> None:
        """Weights fit the window and the groups."""
        if self.weight.shape[2:] != self.windows.size:
            raise self.refuse(
                f"weights of shape {self.weight.shape} do not fit a window of {self.windows.size}"
            )
        if self.groups < 1 or self.weight.shape[0] % self.groups or self.pool < 1:
            raise self.refuse(
                f"{self.weight.shape[0]} output channels in {self.groups} groups, pool {self.pool}"
            )
        WeightedLayer.__post_init__(self)

    @property
    def pooled(self) -> int:
        """Accumulators in one output."""
        return int(self.pool ** len(self.windows.size))

    def convolved_shape(self, shape: Shape) -> Shape:
        """(in, spatial…) to (out, positions…) before the fused pool."""
        found = convolved_shape(self, self.weight.shape, self.windows, self.groups, shape)
        if min(found[1:]) < self.pool:
            raise self.refuse(f"input {shape} is too small for a pool of {self.pool}")
        return found

    def output_shape(self, shape: Shape) -> Shape:
        """(in, spatial…) to (out, positions / pool…)."""
        out, *positions = self.convolved_shape(shape)
        return (out, *(size // self.pool for size in positions))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerLinear(WeightedLayer):
    """A product with constant weights over the last axis."""

    def __post_init__(self) -> None:
        """A linear layer has a matrix of weights."""
        if self.weight.ndim != 2:
            raise self.refuse(f"weights of shape {self.weight.shape}, expected (out, in)")
        WeightedLayer.__post_init__(self)

    def output_shape(self, shape: Shape) -> Shape:
        """(…, in) to (…, out)."""
        if shape[-1:] != self.weight.shape[1:]:
            raise self.refuse(f"takes {self.weight.shape[1]} features, got shape {shape}")
        return (*shape[:-1], self.weight.shape[0])
