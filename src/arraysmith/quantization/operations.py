"""The operations of an integer network beside its weighted layers, as frozen records.

Each states its arithmetic in one line; `>>` is the arithmetic shift, `//` rounds down, and clamp is
to `low`…`high` of the output's range. Moves (`networks.moves`) are the same as over reals: what
they give has the type of what they read.
"""

from __future__ import annotations

from dataclasses import dataclass
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
from arraysmith.networks.operations import broadcast, multiplied_shape
from arraysmith.quantization.norms import IntegerLayerNorm, IntegerSoftmax
from arraysmith.quantization.products import IntegerConvolution, IntegerLinear, check_clamp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.affine import Affine, Requantization
    from arraysmith.networks.operations import FloatOperation
    from arraysmith.networks.windows import Windows

Shape = tuple[int, ...]
Types = tuple["Affine | None", ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerMatMul(Move):
    """y = clamp(zy + ((Σ (qa - za)·(qb - zb)·m + 2^(n-1)) >> n)), over the last two axes."""

    left: Affine
    right: Affine
    output: Affine
    requantization: Requantization

    @property
    def types(self) -> Types:
        """Of its inputs."""
        return (self.left, self.right)

    def output_shape(self, left: Shape, right: Shape) -> Shape:
        """(…, M, K) and (…, K, N) to (…, M, N); the accumulator cannot leave int32."""
        _single(self, self.requantization)
        shape = multiplied_shape(self, left, right)
        if self.magnitude_bound(left[-1]) >= 1 << 31:
            raise self.refuse(
                f"an accumulator of {left[-1]} products can leave int32; give it fewer bits"
            )
        return shape

    def magnitude_bound(self, depth: int) -> int:
        """What no partial sum of `depth` products exceeds."""
        return depth * _reach(self.left) * _reach(self.right)


def _reach(type_: Affine) -> int:
    """max |q - z|."""
    return max(type_.qmax - type_.zero_point, type_.zero_point - type_.qmin)


def _single(layer: Move, constants: Requantization) -> None:
    if len(constants.multiplier) != 1:
        raise layer.refuse(f"{len(constants.multiplier)} multipliers, needs one")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerAdd(Move):
    """y = clamp(zy + ((Σ (qi - zi)·mi + 2^(n-1)) >> n)): one rounding, whatever the scales."""

    terms: tuple[Affine, ...]
    output: Affine
    multipliers: tuple[int, ...]
    """One a term; a subtracted one's is negative. |m| < 2^multiplier_bits."""
    right_shift: int
    multiplier_bits: int
    low: int | None = None
    high: int | None = None

    def __post_init__(self) -> None:
        """A multiplier a term, a shift of 1…62, no sum beyond 63 bits."""
        widest = max((abs(m) for m in self.multipliers), default=0)
        if not (
            len(self.terms) == len(self.multipliers) == len(self.inputs)
            and 1 <= self.right_shift <= 62
            and 1 <= self.multiplier_bits <= 31
            and widest < 1 << self.multiplier_bits
        ):
            raise self.refuse(
                f"multipliers {self.multipliers} of {self.multiplier_bits} bits and shift "
                f"{self.right_shift} do not fit {len(self.inputs)} terms"
            )
        check_clamp(self, self.output, self.low, self.high)

    @property
    def types(self) -> Types:
        """Of its inputs."""
        return self.terms

    def output_shape(self, *shapes: Shape) -> Shape:
        """What they broadcast to."""
        return broadcast(self, *shapes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerMul(Move):
    """y = clamp(zy + (((qa - za)·(qb - zb)·m + 2^(n-1)) >> n)), word by word, broadcast."""

    left: Affine
    right: Affine
    output: Affine
    requantization: Requantization
    low: int | None = None
    high: int | None = None

    def __post_init__(self) -> None:
        """One multiplier, a legal clamp, a product within int32."""
        _single(self, self.requantization)
        check_clamp(self, self.output, self.low, self.high)
        if _reach(self.left) * _reach(self.right) >= 1 << 31:
            raise self.refuse("a product can leave int32; give it fewer bits")

    @property
    def types(self) -> Types:
        """Of its inputs."""
        return (self.left, self.right)

    def output_shape(self, left: Shape, right: Shape) -> Shape:
        """What they broadcast to."""
        return broadcast(self, left, right)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerRequantize(Move):
    """y = clamp(zy + (((qx - zx)·m + 2^(n-1)) >> n)): the same reals on another scale."""

    input: Affine
    output: Affine
    requantization: Requantization

    @property
    def types(self) -> Types:
        """Of its inputs."""
        return (self.input,)

    def output_shape(self, shape: Shape) -> Shape:
        """That of the input."""
        _single(self, self.requantization)
        return shape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerTable(Move):
    """y = table[qx - qmin]: (9); with a table for every channel (axis 0), y = table[c, qx - qmin].

    As many entries as the input has values: 256 for 8 bits.
    """

    table: NDArray[np.int64]
    """(values,) or (channels, values)."""
    input: Affine
    output: Affine

    def __post_init__(self) -> None:
        """An entry a value, all of them legal outputs."""
        values = self.input.qmax - self.input.qmin + 1
        if self.table.ndim not in (1, 2) or self.table.shape[-1] != values or not self.table.size:
            raise self.refuse(f"a table of shape {self.table.shape}, expected {values} entries")
        if self.table.min() < self.output.qmin or self.table.max() > self.output.qmax:
            raise self.refuse(
                f"entries {self.table.min()}…{self.table.max()} outside "
                f"{self.output.qmin}…{self.output.qmax}"
            )

    @property
    def types(self) -> Types:
        """Of its inputs."""
        return (self.input,)

    def output_shape(self, shape: Shape) -> Shape:
        """That of the input."""
        if self.table.ndim == 2 and shape[:1] != self.table.shape[:1]:
            raise self.refuse(f"{len(self.table)} tables for the channels of {shape}")
        return shape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerAveragePool(Move):
    """y = clamp(zy + ((Σ (qx - zx)·m + 2^(n-1)) >> n)), 1/count inside m and n: (8)."""

    windows: Windows
    input: Affine
    output: Affine
    requantization: Requantization
    """(1,), or one a position, row-major, where padding makes counts differ."""

    @property
    def types(self) -> Types:
        """Of its inputs."""
        return (self.input,)

    def output_shape(self, shape: Shape) -> Shape:
        """(channels, spatial…) to (channels, positions…)."""
        if len(shape) != len(self.windows.size) + 1:
            raise self.refuse(f"a window of {self.windows.size} does not slide over {shape}")
        positions = self.windows.positions(shape[1:])
        if len(self.requantization.multiplier) not in (1, int(np.prod(positions))):
            raise self.refuse(
                f"{len(self.requantization.multiplier)} multipliers for {positions} positions"
            )
        return (shape[0], *positions)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerMean(Move):
    """y = clamp(zy + ((Σ (qx - zx)·m + 2^(n-1)) >> n)) over axes, which then have one word."""

    axes: tuple[int, ...]
    input: Affine
    output: Affine
    requantization: Requantization

    @property
    def types(self) -> Types:
        """Of its inputs."""
        return (self.input,)

    def output_shape(self, shape: Shape) -> Shape:
        """1 at every axis of `axes`; the sum cannot leave int32."""
        _single(self, self.requantization)
        if not self.axes or not set(self.axes) <= set(range(len(shape))):
            raise self.refuse(f"axes {self.axes} are none of {shape}")
        words = int(np.prod([shape[axis] for axis in self.axes]))
        if words * _reach(self.input) >= 1 << 31:
            raise self.refuse(f"a sum of {words} words can leave int32")
        return tuple(1 if axis in self.axes else size for axis, size in enumerate(shape))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerLookup(Move):
    """y = table[x], a row for every integer input, which are row numbers and have no type."""

    table: NDArray[np.int64]
    """(rows, width)."""
    output: Affine

    def __post_init__(self) -> None:
        """Legal outputs only."""
        if self.table.ndim != 2 or not self.table.size:
            raise self.refuse(f"a table of shape {self.table.shape}, needs rows and columns")
        check_clamp(self, self.output, int(self.table.min()), int(self.table.max()))

    @property
    def types(self) -> Types:
        """Of its inputs."""
        return (None,)

    def output_shape(self, shape: Shape) -> Shape:
        """(…) to (…, width)."""
        return (*shape, self.table.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerConstant(Move):
    """A tensor that depends on no input; without the batch."""

    value: NDArray[np.int64]
    output: Affine

    def __post_init__(self) -> None:
        """Legal integers only."""
        if not self.value.size:
            raise self.refuse("an empty tensor")
        check_clamp(self, self.output, int(self.value.min()), int(self.value.max()))

    @property
    def types(self) -> Types:
        """It has no inputs."""
        return ()

    def output_shape(self) -> Shape:
        """Its own."""
        return tuple(self.value.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FloatIsland(Move):
    """y = quantize(f(dequantize(x)…)) in float64: declared, and refused with `--integer-only`."""

    operation: FloatOperation
    """Of the same name and inputs."""
    terms: tuple[Affine, ...]
    output: Affine

    @property
    def types(self) -> Types:
        """Of its inputs."""
        return self.terms

    def output_shape(self, *shapes: Shape) -> Shape:
        """That of the operation."""
        found: Shape = self.operation.output_shape(*shapes)
        return found


IntegerLayer = (
    IntegerConvolution
    | IntegerLinear
    | IntegerMatMul
    | IntegerAdd
    | IntegerMul
    | IntegerRequantize
    | IntegerTable
    | IntegerAveragePool
    | IntegerMean
    | IntegerSoftmax
    | IntegerLayerNorm
    | IntegerLookup
    | IntegerConstant
    | FloatIsland
    | Reshape
    | Transpose
    | Take
    | Pad
    | Stretch
    | Expand
    | Concat
    | MaxPool
)
