"""What an integer network computes beside products, in torch.

Floats stand for integers where that is proven exact, as in `rescaling`. So do quotients: for
integers |a| + b < 2^53 and b > 0, a / b is either whole or at least 1/b away from every whole
number k, which is more than half a step of float64 at k (|k|·b ≤ |a| + b). The rounded quotient
cannot reach k, and its floor is a // b.
"""

from __future__ import annotations

from functools import reduce
from math import isqrt, prod
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from arraysmith.learning.float_graph import aligned
from arraysmith.quantization.islands import run_island
from arraysmith.quantization.norms import FRACTION
from arraysmith.quantization.torch_engine.moves import combined
from arraysmith.quantization.torch_engine.rescaling import (
    FLOAT64_EXACT,
    Rescale,
    centred,
    container,
    product_dtype,
    tensor,
)

if TYPE_CHECKING:
    from arraysmith.affine import Affine
    from arraysmith.quantization.norms import IntegerLayerNorm, IntegerSoftmax
    from arraysmith.quantization.operations import (
        FloatIsland,
        IntegerAdd,
        IntegerAveragePool,
        IntegerConstant,
        IntegerLookup,
        IntegerMean,
        IntegerMul,
        IntegerRequantize,
        IntegerTable,
    )

Tensor = torch.Tensor
Shape = tuple[int, ...]


def reach(type_: Affine) -> int:
    """max |q - z|."""
    return max(type_.qmax - type_.zero_point, type_.zero_point - type_.qmin)


def _indexed(table: Tensor, places: Tensor) -> Tensor:
    """table[places]; ten times sooner than that for int32 `places`."""
    return table.index_select(0, places.flatten()).view(places.shape)


class QuantAdd(nn.Module):
    """An `IntegerAdd`."""

    def __init__(self, layer: IntegerAdd) -> None:
        """Take all constants from the record."""
        super().__init__()
        terms = list(zip(layer.terms, layer.multipliers, strict=True))
        bound = sum(reach(type_) * abs(m) for type_, m in terms)
        self.rescale = Rescale(
            layer.output, 1, layer.right_shift, bound=bound, ends=(layer.low, layer.high)
        )
        self.dtype = product_dtype(bound)
        self.terms = [(type_.zero_point, m) for type_, m in terms]

    def forward(self, *tensors: Tensor) -> Tensor:
        """One rounding for all terms."""
        scaled = [
            centred(x, zero_point, self.dtype) * m
            for x, (zero_point, m) in zip(tensors, self.terms, strict=True)
        ]
        y: Tensor = self.rescale(reduce(torch.add, aligned(*scaled)))
        return y


class QuantMul(nn.Module):
    """An `IntegerMul`."""

    def __init__(self, layer: IntegerMul) -> None:
        """Take all constants from the record."""
        super().__init__()
        bound = reach(layer.left) * reach(layer.right)
        m, n = layer.requantization.multiplier, layer.requantization.right_shift
        self.rescale = Rescale(layer.output, m, n, bound=bound, ends=(layer.low, layer.high))
        self.dtype = product_dtype(bound)
        self.zero_points = (layer.left.zero_point, layer.right.zero_point)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """The product and (3)."""
        a, b = aligned(
            *(
                centred(x, zero_point, self.dtype)
                for x, zero_point in zip((left, right), self.zero_points, strict=True)
            )
        )
        y: Tensor = self.rescale(a * b)
        return y


class QuantRequantize(nn.Module):
    """An `IntegerRequantize`."""

    def __init__(self, layer: IntegerRequantize) -> None:
        """Take all constants from the record."""
        super().__init__()
        self.zero_point = layer.input.zero_point
        m, n = layer.requantization.multiplier, layer.requantization.right_shift
        self.rescale = Rescale(layer.output, m, n, bound=reach(layer.input))

    def forward(self, x: Tensor) -> Tensor:
        """(3)."""
        y: Tensor = self.rescale(centred(x, self.zero_point, torch.int32))
        return y


class QuantTable(nn.Module):
    """An `IntegerTable`: any function as an entry a value."""

    table: Tensor
    starts: Tensor

    def __init__(self, layer: IntegerTable) -> None:
        """Take the table from the record."""
        super().__init__()
        table = tensor(layer.table, container(layer.output))
        self.register_buffer("table", table.flatten(), persistent=False)
        channels = 1 if layer.table.ndim == 1 else len(layer.table)
        starts = np.arange(channels) * layer.table.shape[-1] - layer.input.qmin
        self.register_buffer("starts", tensor(starts, torch.int32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(9)."""
        starts = self.starts.view(-1, *(1,) * (x.ndim - 2))
        return _indexed(self.table, x.to(torch.int32) + starts)


class QuantAveragePool(nn.Module):
    """An `IntegerAveragePool`: an integer sum whose 1/count is inside the multiplier."""

    def __init__(self, layer: IntegerAveragePool, shape: Shape) -> None:
        """`shape` is that of the input."""
        super().__init__()
        self.windows, self.zero_point = layer.windows, layer.input.zero_point
        bound = layer.windows.area * reach(layer.input)
        self.dtype = product_dtype(bound)
        m, n = layer.requantization.multiplier, layer.requantization.right_shift
        if m.size > 1:
            positions = layer.windows.positions(shape[1:])
            m, n = m.reshape(positions), n.reshape(positions)
        self.rescale = Rescale(layer.output, m, n, bound=bound)

    def forward(self, x: Tensor) -> Tensor:
        """(8)."""
        total = combined(centred(x, self.zero_point, self.dtype), self.windows, torch.add, 0)
        y: Tensor = self.rescale(total)
        return y


class QuantMean(nn.Module):
    """An `IntegerMean`."""

    def __init__(self, layer: IntegerMean, shape: Shape) -> None:
        """`shape` is that of the input."""
        super().__init__()
        self.axes = [axis + 1 for axis in layer.axes]
        self.zero_point = layer.input.zero_point
        bound = prod(shape[axis] for axis in layer.axes) * reach(layer.input)
        self.dtype = product_dtype(bound)
        m, n = layer.requantization.multiplier, layer.requantization.right_shift
        self.rescale = Rescale(layer.output, m, n, bound=bound)

    def forward(self, x: Tensor) -> Tensor:
        """The sum and (3)."""
        total = centred(x, self.zero_point, self.dtype).sum(self.axes, keepdim=True)
        y: Tensor = self.rescale(total)
        return y


class QuantSoftmax(nn.Module):
    """An `IntegerSoftmax`."""

    table: Tensor

    def __init__(self, layer: IntegerSoftmax, shape: Shape) -> None:
        """`shape` is that of the input."""
        super().__init__()
        self.axis, self.levels = layer.axis + 1, layer.levels
        self.least, self.greatest = layer.output.qmin, layer.output.qmax
        self.container = container(layer.output)
        # Of 2·e·levels + Σe and 2·Σe together: what a quotient in floats needs.
        bound = (2 * layer.levels + 3 * shape[layer.axis]) << 16
        self.dtype = torch.float64 if bound < FLOAT64_EXACT else torch.int64
        self.register_buffer("table", tensor(layer.table, self.dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Powers by table, one quotient."""
        wide = x.to(torch.int32)
        e = _indexed(self.table, wide.amax(self.axis, keepdim=True) - wide)
        total = e.sum(self.axis, keepdim=True)
        y = _quotient(2 * self.levels * e + total, 2 * total) + self.least
        return y.clamp_(max=self.greatest).to(self.container)


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    """a // b, of integers; in floats where |a| + b < 2^53."""
    if a.dtype.is_floating_point:
        return (a / b).floor_()
    return torch.div(a, b, rounding_mode="floor")


class QuantLayerNorm(nn.Module):
    """An `IntegerLayerNorm`."""

    def __init__(self, layer: IntegerLayerNorm) -> None:
        """Take all constants from the record."""
        super().__init__()
        size = layer.multiplier.size
        self.size, self.epsilon = size, layer.epsilon
        furthest = size * (layer.input.qmax - layer.input.qmin)  # |d|; r is no greater, or √epsilon
        root = furthest + isqrt(layer.epsilon) + 1
        exact = max(size * furthest**2 + layer.epsilon, (furthest << FRACTION + 1) + 3 * root)
        self.dtype = torch.float64 if exact < FLOAT64_EXACT else torch.int64
        # Let s = √((Σ d² + epsilon) / N), so |d| ≤ √N·s. Where s < 2, |d| / r < 2·√N for r ≥ 1;
        # elsewhere r > s - 1 ≥ s / 2 and |d| / r < 2·√N again.
        bound = (isqrt(size) + 1 << FRACTION + 1) + 1
        self.rescale = Rescale(
            layer.output, layer.multiplier, layer.right_shift, layer.bias, bound=bound
        )

    def forward(self, x: Tensor) -> Tensor:
        """Deviation, quotient, (3)."""
        wide = x.to(self.dtype)
        d = wide * self.size - wide.sum(-1, keepdim=True)
        variance = (d * d).sum(-1, keepdim=True).to(torch.int64) + self.epsilon
        r = _root(torch.div(variance, self.size, rounding_mode="floor")).clamp_(min=1)
        r = r.to(self.dtype)
        y: Tensor = self.rescale(_quotient(d * (2 << FRACTION) + r, 2 * r))
        return y


def _root(x: Tensor) -> Tensor:
    """⌊√x⌋ of int64 0…2^62, exact: the float root is off by at most 1."""
    root = x.to(torch.float64).sqrt_().floor_().to(torch.int64)
    root -= (root * root > x).to(torch.int64)
    return root + ((root + 1) * (root + 1) <= x).to(torch.int64)


class QuantLookup(nn.Module):
    """An `IntegerLookup`: rows of a table."""

    table: Tensor

    def __init__(self, layer: IntegerLookup) -> None:
        """Take the table from the record."""
        super().__init__()
        table = tensor(layer.table, container(layer.output))
        self.register_buffer("table", table, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """A row each."""
        return self.table.index_select(0, x.flatten()).view(*x.shape, -1)


class QuantConstant(nn.Module):
    """An `IntegerConstant`, with a batch of one."""

    value: Tensor

    def __init__(self, layer: IntegerConstant) -> None:
        """Take the tensor from the record."""
        super().__init__()
        value = tensor(layer.value, container(layer.output)).unsqueeze(0)
        self.register_buffer("value", value, persistent=False)

    def forward(self) -> Tensor:
        """Itself."""
        return self.value


class QuantIsland(nn.Module):
    """A `FloatIsland`, by the very function of the NumPy engine."""

    def __init__(self, layer: FloatIsland) -> None:
        """Keep the record."""
        super().__init__()
        self.layer, self.container = layer, container(layer.output)

    def forward(self, *tensors: Tensor) -> Tensor:
        """Floats, and back."""
        arrays = (x.to(torch.int64).numpy() for x in tensors)
        return torch.from_numpy(run_island(self.layer, *arrays)).to(self.container)
