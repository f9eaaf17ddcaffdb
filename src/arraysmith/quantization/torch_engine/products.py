"""Convolutions, linear layers and matrix products of integers in torch.

The products of (2) run through a float matrix product where that is proven exact: with every
partial sum an integer below 2^24 float32 never rounds, below 2^53 float64 never does, whatever the
order of the additions. Beyond, int64 is used. Convolutions are unfolded and multiplied as matrices,
for a library's fast convolution (Winograd, FFT) computes with fractions and is not exact.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from arraysmith.learning.float_graph import aligned
from arraysmith.quantization.torch_engine.moves import padded
from arraysmith.quantization.torch_engine.rescaling import Rescale, centred, product_dtype, tensor

if TYPE_CHECKING:
    from arraysmith.quantization.operations import IntegerMatMul
    from arraysmith.quantization.products import (
        Activation,
        IntegerConvolution,
        IntegerLinear,
        WeightedLayer,
    )

Shape = tuple[int, ...]
FEW_POSITIONS = 32
MOST_WORDS = 1 << 22
"""Of unfolded images at a time: a larger batch goes in parts, for memory and cache."""


class _Weighted(nn.Module):
    """What a convolution and a linear layer share: all of an accumulator's way but its product."""

    matrix: torch.Tensor
    bias: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, layer: WeightedLayer, groups: int, axes: int) -> None:
        """Accumulators are (…, channels, *axes) with so many spatial axes."""
        super().__init__()
        self.zero_point = layer.input.zero_point
        self.product_dtype = product_dtype(layer.magnitude_bound)
        behind = (-1, *(1,) * axes)  # broadcasts along the channels
        matrix = layer.centred_weight.reshape(groups, len(layer.weight) // groups, -1)
        self.register_buffer("matrix", tensor(matrix, self.product_dtype), persistent=False)
        bias = tensor(layer.bias, self.product_dtype).view(behind)
        self.register_buffer("bias", bias, persistent=False)
        self.clamped: tuple[bool, bool] = (False, False)
        self.pool = 1
        self.rescale: Rescale | None = None
        if layer.output is None or layer.requantization is None:
            return
        m, n = layer.requantization.multiplier, layer.requantization.right_shift
        extra = np.zeros(1, np.int64)
        if layer.activation:
            self._clamp(layer.activation, layer.magnitude_bound, behind)
            extra = layer.activation.bias * layer.pooled  # behind the sum instead of before it
        self.rescale = Rescale(
            layer.output,
            m.reshape(behind),
            n.reshape(behind),
            (extra * m).reshape(behind),
            bound=layer.magnitude_bound,
            ends=(layer.low, layer.high),
        )

    def _clamp(self, activation: Activation, bound: int, behind: Shape) -> None:
        # No accumulator passes the bound, so a clamp there does nothing and fits the float.
        ends = [np.clip(each, -bound, bound) for each in (activation.low, activation.high)]
        self.clamped = (bool((ends[0] > -bound).any()), bool((ends[1] < bound).any()))
        for name, end in zip(("low", "high"), ends, strict=True):
            same = tensor(end[:1] if (end == end[0]).all() else end, self.product_dtype)
            self.register_buffer(name, same.view(behind), persistent=False)

    def finish(self, acc: torch.Tensor) -> torch.Tensor:
        """Activation, (4) and (3) of accumulators, which may be overwritten."""
        if self.rescale is None:
            return acc.to(torch.int32)
        if self.clamped[0]:
            torch.maximum(acc, self.low, out=acc)
        if self.clamped[1]:
            torch.minimum(acc, self.high, out=acc)
        y: torch.Tensor = self.rescale(_pool_sum(acc, self.pool))
        return y


class QuantConvolution(_Weighted):
    """An `IntegerConvolution`: (batch, in, spatial…) to (batch, out, positions…)."""

    rows: torch.Tensor

    def __init__(self, layer: IntegerConvolution) -> None:
        """Take all constants from the record."""
        axes = len(layer.windows.size)
        super().__init__(layer, layer.groups, axes)
        self.windows, self.groups, self.pool = layer.windows, layer.groups, layer.pool
        # One product an image and row of the window, where windows lie in adjacent rows.
        self.by_row = layer.groups == 1 and axes == 2 and layer.windows.strides[0] == 1
        if self.by_row:
            out, depth = layer.weight.shape[:2]
            taps = self.matrix.view(out, depth, *layer.windows.size)
            rows = taps.permute(2, 0, 1, 3).reshape(layer.windows.size[0], out, -1)
            self.register_buffer("rows", rows, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(2), (4) and (3), of as many members of the batch at a time as memory is good for."""
        positions = self.windows.positions(tuple(x.shape[2:]))
        words = prod(positions) * max(x.shape[1] * self.windows.area, self.bias.numel())
        parts = [self._part(part, positions) for part in x.split(max(1, MOST_WORDS // words))]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _part(self, x: torch.Tensor, positions: Shape) -> torch.Tensor:
        windows = self.windows
        wide = centred(x, self.zero_point, self.product_dtype)
        image = padded(wide, windows.before, windows.after, 0)  # a padded zx is a padded 0
        if self.groups > 1 and self.groups == x.shape[1]:
            acc = self._depthwise(image, positions)
        elif self.groups == 1 and prod(positions) < FEW_POSITIONS:
            acc = self._at_once(image, positions)
        elif self.by_row:
            acc = self._row_by_row(image, positions)
        else:
            acc = self._image_by_image(image, positions)
        return self.finish(acc.add_(self.bias))

    def _at_once(self, image: torch.Tensor, positions: Shape) -> torch.Tensor:
        """One product for all: with few positions an image is too little for one of its own."""
        words = self._unfolded(image, positions, last=False)
        found = words.reshape(len(image) * prod(positions), -1) @ self.matrix[0].T
        return found.view(len(image), *positions, -1).movedim(-1, 1)

    def _image_by_image(self, image: torch.Tensor, positions: Shape) -> torch.Tensor:
        """A product for every image and group."""
        columns = self._unfolded(image, positions, last=True)
        columns = columns.reshape(len(image) * self.groups, self.matrix.shape[2], -1)
        matrix = self.matrix.repeat(len(image), 1, 1) if self.groups > 1 else self.matrix[0]
        return (matrix @ columns).view(len(image), -1, *positions)

    def _row_by_row(self, image: torch.Tensor, positions: Shape) -> torch.Tensor:
        """A product for every image and row of the window, summed up.

        Words are unfolded along one axis only: what one row of the window sees at all positions
        lies together already.
        """
        windows, (batch, channels, height, _) = self.windows, image.shape
        first, channel, down, across = image.stride()
        words = image.as_strided(
            (batch, channels, windows.size[1], height, positions[1]),
            (first, channel, across * windows.dilations[1], down, across * windows.strides[1]),
            image.storage_offset(),
        ).reshape(batch, channels * windows.size[1], -1)
        acc = torch.empty(0)
        for tap, row in enumerate(self.rows):
            start = tap * windows.dilations[0] * positions[1]
            seen = words.narrow(2, start, prod(positions))
            factor = row.expand(batch, -1, -1)
            acc = acc.baddbmm_(factor, seen) if tap else torch.bmm(factor, seen)
        return acc.view(batch, -1, *positions)

    def _unfolded(self, image: torch.Tensor, positions: Shape, *, last: bool) -> torch.Tensor:
        """The words under every window, as a view.

        (batch, groups, in / groups, *taps, *positions), or with the positions not `last` but first
        behind the batch.
        """
        windows, depth = self.windows, image.shape[1] // self.groups
        first, channel, *steps = image.stride()
        words = (self.groups, depth, *windows.size)
        taps = (s * d for s, d in zip(steps, windows.dilations, strict=True))
        jumps = (channel * depth, channel, *taps)
        along = tuple(s * d for s, d in zip(steps, windows.strides, strict=True))
        shape = (*words, *positions) if last else (*positions, *words)
        order = (*jumps, *along) if last else (*along, *jumps)
        return image.as_strided((len(image), *shape), (first, *order), image.storage_offset())

    def _depthwise(self, image: torch.Tensor, positions: Shape) -> torch.Tensor:
        """A sum over taps: matrices of one row would be mostly overhead."""
        windows = self.windows
        behind = (1,) * len(positions)
        weight = self.matrix.view(self.groups, -1, windows.area, *behind)
        acc: torch.Tensor | None = None
        for tap, place in enumerate(product(*map(range, windows.size))):
            starts = [i * d for i, d in zip(place, windows.dilations, strict=True)]
            places = tuple(
                slice(start, start + (many - 1) * stride + 1, stride)
                for start, many, stride in zip(starts, positions, windows.strides, strict=True)
            )
            seen = image[(slice(None), slice(None), *places)].unsqueeze(2)
            term = weight[:, :, tap]
            acc = seen * term if acc is None else acc.addcmul_(seen, term)
        assert acc is not None  # noqa: S101 (a window has a tap)
        return acc.view(len(image), -1, *positions)


class QuantLinear(_Weighted):
    """An `IntegerLinear`: (batch, …, in) to (batch, …, out)."""

    def __init__(self, layer: IntegerLinear) -> None:
        """Take all constants from the record."""
        super().__init__(layer, 1, 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(2) and (3)."""
        rows = centred(x, self.zero_point, self.product_dtype)
        return self.finish((rows @ self.matrix[0].T).add_(self.bias))


class QuantMatMul(nn.Module):
    """An `IntegerMatMul`: (batch, …, M, K) and (batch, …, K, N) to (batch, …, M, N)."""

    def __init__(self, layer: IntegerMatMul, left: Shape) -> None:
        """`left` is the shape of the first factor."""
        super().__init__()
        bound = layer.magnitude_bound(left[-1])
        self.product_dtype = product_dtype(bound)
        self.zero_points = (layer.left.zero_point, layer.right.zero_point)
        m, n = layer.requantization.multiplier, layer.requantization.right_shift
        self.rescale = Rescale(layer.output, m, n, bound=bound)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """The product and (3)."""
        factors = (
            centred(x, zero_point, self.product_dtype)
            for x, zero_point in zip((left, right), self.zero_points, strict=True)
        )
        y: torch.Tensor = self.rescale(torch.matmul(*aligned(*factors)))
        return y


def _pool_sum(acc: torch.Tensor, pool: int) -> torch.Tensor:
    """(4): sums over windows without overlap, one axis after the other; a rest is cut."""
    for axis in range(2, acc.ndim) if pool > 1 else ():
        whole = acc.narrow(axis, 0, acc.shape[axis] // pool * pool)
        before = (slice(None),) * axis
        total = whole[(*before, slice(0, None, pool))]
        for tap in range(1, pool):
            total = total + whole[(*before, slice(tap, None, pool))]
        acc = total
    return acc
