"""Integer softmax and layer normalization: exact sums, one division, one rounding each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.networks.moves import Move

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.affine import Affine

Shape = tuple[int, ...]
Types = tuple["Affine | None", ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerSoftmax(Move):
    """e = table[max(qx) - qx];  y = min(qmin + (2·e·levels + Σe) // (2·Σe), qmax), along one axis.

    table[d] = ⌊2^16·exp(-scale·d) + ½⌋, so the zero point of the input does not matter.
    """

    axis: int
    table: NDArray[np.int64]
    """(values,): as many as the input has values, 0…2^16, the first of them 2^16."""
    input: Affine
    output: Affine
    """Scale 1/levels, zero point qmin; levels is 2^bits."""

    def __post_init__(self) -> None:
        """An entry a value; the output's type is the stated one."""
        values = self.input.qmax - self.input.qmin + 1
        if self.table.shape != (values,) or not (
            self.table[0] == 1 << 16 and self.table.min() >= 0 and self.table.max() <= 1 << 16
        ):
            raise self.refuse(f"needs a table of {values} entries of 0…2^16 that begins with 2^16")
        if self.output.scale != 1 / self.levels or self.output.zero_point != self.output.qmin:
            raise self.refuse(f"its output has scale 1/{self.levels} and zero point qmin")

    @property
    def levels(self) -> int:
        """Steps from 0 to 1."""
        return self.output.qmax - self.output.qmin + 1

    @property
    def types(self) -> Types:
        """Of its inputs."""
        return (self.input,)

    def output_shape(self, shape: Shape) -> Shape:
        """That of the input; Σe stays below 2^46, so 2·e·levels + Σe below 2^63."""
        if not 0 <= self.axis < len(shape) or shape[self.axis] >= 1 << 30:
            raise self.refuse(f"axis {self.axis} is none of {shape}, or too long")
        return shape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerLayerNorm(Move):
    """Layer normalization over the last axis of N words, in integers alone.

    d = N·qx - Σ qx                                   (N·(q - mean); the zero point cancels)
    r = isqrt((Σ d² + epsilon) // N)                  (N·deviation; isqrt rounds down), at least 1
    t = (d·2^FRACTION·2 + r) // (2·r)                 (what is normalised, FRACTION bits below 1)
    y = clamp(zy + ((t·m + b + 2^(n-1)) >> n)), m and b by word, m signed
    """

    input: Affine
    output: Affine
    epsilon: int
    """⌊N³·epsilon/scale² + ½⌋, below 2^62."""
    multiplier: NDArray[np.int64]
    """(N,): signed, |m| < 2^24."""
    bias: NDArray[np.int64]
    """(N,): |b| < 2^61, the shift on the scale of t·m."""
    right_shift: int

    def __post_init__(self) -> None:
        """Numbers within the stated bounds."""
        m, b = self.multiplier, self.bias
        if m.shape != b.shape or m.ndim != 1 or not m.size:
            raise self.refuse(f"{m.shape} multipliers and {b.shape} biases")
        if not (
            np.abs(m).max() < 1 << 24
            and np.abs(b).max() < 1 << 61
            and 0 <= self.epsilon < 1 << 62
            and 1 <= self.right_shift <= 62
        ):
            raise self.refuse("a multiplier, bias, shift or epsilon is out of its range")

    @property
    def types(self) -> Types:
        """Of its inputs."""
        return (self.input,)

    def output_shape(self, shape: Shape) -> Shape:
        """That of the input; Σ d² + epsilon stays below 2^63."""
        size = self.multiplier.size
        if shape[-1:] != (size,):
            raise self.refuse(f"normalises {size} words, got {shape}")
        reach = size * (self.input.qmax - self.input.qmin)
        if size * reach**2 + self.epsilon >= 1 << 63:
            raise self.refuse(f"a variance of {size} words can leave int64; give it fewer bits")
        return shape


FRACTION = 14
"""Bits below 1 of what `IntegerLayerNorm` has normalised: |t| < 2^14·√N."""
