"""The integer layers as torch modules: the same integers as the NumPy engine, much sooner.

The products of (2) run through a float matrix product where that is proven exact: with every
partial sum an integer below 2^24 float32 never rounds, below 2^53 float64 never does, whatever the
order of the additions. Beyond, int64 is used. Convolutions are unfolded and multiplied as matrices,
for a library's fast convolution (Winograd, FFT) computes with fractions and is not exact.
Requantization is int64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from arraysmith.errors import InvalidNetworkError
from arraysmith.quantization.network import (
    IntegerAveragePool,
    IntegerConv2d,
    IntegerFlatten,
    IntegerLayer,
    IntegerLinear,
    IntegerTable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from arraysmith.affine import Affine, Requantization
    from arraysmith.quantization.network import IntegerNetwork

FLOAT32_EXACT, FLOAT64_EXACT = 2**24, 2**53
FEW_POSITIONS = 32
PREDICT_BATCH = 100  # small enough for the unfolded images to stay in a processor's cache


def product_dtype(bound: int) -> torch.dtype:
    """The fastest type whose sums are exact for magnitudes up to `bound`."""
    # Anything but "highest" lets torch round float32 factors to bfloat16 on the way.
    if bound < FLOAT32_EXACT and torch.get_float32_matmul_precision() == "highest":
        return torch.float32
    return torch.float64 if bound < FLOAT64_EXACT else torch.int64


class _Requantize(nn.Module):
    """Equation (3) on an accumulator (batch, channels, …), to int8 or uint8."""

    multiplier: torch.Tensor
    right_shift: torch.Tensor

    def __init__(self, constants: Requantization, output: Affine, *, relu: bool = False) -> None:
        super().__init__()
        self.register_buffer("multiplier", torch.from_numpy(constants.multiplier))
        self.register_buffer("right_shift", torch.from_numpy(constants.right_shift))
        self.zero_point = output.zero_point
        self.low = max(output.qmin, output.zero_point) if relu else output.qmin
        self.high = output.qmax
        self.dtype = torch.int8 if output.qmin < 0 else torch.uint8

    def forward(self, acc: torch.Tensor) -> torch.Tensor:
        """Round once, ties up; clamp."""
        shape = (1, -1, *(1,) * (acc.ndim - 2))
        m, n = self.multiplier.view(shape), self.right_shift.view(shape)
        half = torch.ones_like(n) << (n - 1)
        scaled = (acc.to(torch.int64) * m + half) >> n
        return (scaled + self.zero_point).clamp(self.low, self.high).to(self.dtype)


class _Weighted(nn.Module):
    """What a convolution and a linear layer share."""

    weight: torch.Tensor
    weight_zero_point: torch.Tensor
    bias: torch.Tensor

    def __init__(self, layer: IntegerConv2d | IntegerLinear) -> None:
        super().__init__()
        self.register_buffer("weight", torch.from_numpy(layer.weight))
        self.register_buffer("weight_zero_point", torch.from_numpy(layer.weight_zero_point))
        self.register_buffer("bias", torch.from_numpy(layer.bias))
        self.input_zero_point = layer.input.zero_point
        self.relu = layer.relu
        self.product_dtype = product_dtype(layer.magnitude_bound)
        centred = torch.from_numpy(layer.centred_weight).to(self.product_dtype)
        self.register_buffer("_matrix", centred.flatten(1), persistent=False)
        self.register_buffer("_bias", self.bias.to(self.product_dtype), persistent=False)
        self.requantize: nn.Module = nn.Identity()
        if layer.requantization and layer.output:
            self.requantize = _Requantize(layer.requantization, layer.output, relu=layer.relu)

    _matrix: torch.Tensor
    _bias: torch.Tensor

    def centred(self, x: torch.Tensor) -> torch.Tensor:
        """qx - zx in the type of the product."""
        return x.to(self.product_dtype) - self.input_zero_point


class QuantConv2d(_Weighted):
    """An `IntegerConv2d`: int8 (batch, in, rows, columns) to int8 (batch, out, rows, columns)."""

    def __init__(self, layer: IntegerConv2d) -> None:
        """Take all constants from the record."""
        super().__init__(layer)
        self.filter = layer.weight.shape[2]
        self.stride, self.padding, self.pool = layer.stride, layer.padding, layer.pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Equations (2), (4) and (3)."""
        pad = (self.padding,) * 4
        windows = nn.functional.pad(self.centred(x), pad)
        windows = windows.unfold(2, self.filter, self.stride).unfold(3, self.filter, self.stride)
        batch, _, rows, cols = windows.shape[:4]
        columns = windows.permute(0, 1, 4, 5, 2, 3).reshape(batch, -1, rows * cols)
        # With few positions an image is too little for a product of its own: all at once instead.
        if rows * cols < FEW_POSITIONS:
            acc = (columns.transpose(1, 2).flatten(0, 1) @ self._matrix.T + self._bias).view(
                batch, rows, cols, -1
            )
            acc = acc.permute(0, 3, 1, 2)
        else:
            acc = (self._matrix @ columns + self._bias[:, None]).view(batch, -1, rows, cols)
        if self.pool > 1:
            acc = _window_sum(acc.clamp(min=0) if self.relu else acc, self.pool)
        return _integers(self.requantize(acc))


class QuantLinear(_Weighted):
    """An `IntegerLinear`: int8 (batch, in) to int8 (batch, out), or to int32 logits."""

    def __init__(self, layer: IntegerLinear) -> None:
        """Take all constants from the record."""
        super().__init__(layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Equations (2) and (3)."""
        return _integers(self.requantize(self.centred(x) @ self._matrix.T + self._bias))


class QuantAvgPool2d(nn.Module):
    """An `IntegerAveragePool`: an integer sum whose 1/area is inside the multiplier."""

    def __init__(self, layer: IntegerAveragePool) -> None:
        """Take all constants from the record."""
        super().__init__()
        self.window, self.input_zero_point = layer.window, layer.input.zero_point
        self.requantize = _Requantize(layer.requantization, layer.output)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Equation (8)."""
        total = _window_sum(x.to(torch.int64) - self.input_zero_point, self.window)
        return _integers(self.requantize(total))


class QuantTable(nn.Module):
    """An `IntegerTable`: tanh or sigmoid as 256 entries."""

    table: torch.Tensor

    def __init__(self, layer: IntegerTable) -> None:
        """Take the table from the record."""
        super().__init__()
        dtype = torch.int8 if layer.output.qmin < 0 else torch.uint8
        self.register_buffer("table", torch.from_numpy(layer.table).to(dtype))
        self.qmin = layer.input.qmin

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Equation (9)."""
        return self.table[x.long() - self.qmin]


class QuantNetwork(nn.Module):
    """An `IntegerNetwork`: uint8 pixels (batch, rows, columns) to int32 logits (batch, classes)."""

    input_table: torch.Tensor

    def __init__(self, network: IntegerNetwork) -> None:
        """One module a layer, in order."""
        super().__init__()
        self.network = network
        first = network.layers[0].input
        dtype = torch.int8 if first.qmin < 0 else torch.uint8
        self.register_buffer("input_table", torch.from_numpy(network.input_table).to(dtype))
        self.layers = nn.ModuleList(quantized_module(layer) for layer in network.layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Pixels to logits."""
        for _, x in self.trace(images):  # noqa: B007 (the last output is the result)
            pass
        return x

    def trace(self, images: torch.Tensor) -> Iterator[tuple[IntegerLayer, torch.Tensor]]:
        """Every layer with its output, in order."""
        x = self.input_table[images.long()].view(len(images), *self.network.input_shape)
        for layer, module in zip(self.network.layers, self.layers, strict=True):
            x = module(x)
            yield layer, x


def quantized_module(layer: IntegerLayer) -> nn.Module:
    """The torch module that computes an integer layer."""
    match layer:
        case IntegerConv2d():
            return QuantConv2d(layer)
        case IntegerLinear():
            return QuantLinear(layer)
        case IntegerAveragePool():
            return QuantAvgPool2d(layer)
        case IntegerTable():
            return QuantTable(layer)
        case IntegerFlatten():
            return nn.Flatten()
    raise InvalidNetworkError(f"no torch module for {layer!r}")


@torch.inference_mode()
def predict(
    network: QuantNetwork, images: NDArray[np.uint8], batch: int = PREDICT_BATCH
) -> NDArray[np.int64]:
    """Logits (n, classes) of n images, a batch at a time."""
    parts = torch.from_numpy(images.copy()).split(batch)
    return np.concatenate([network(part).numpy() for part in parts]).astype(np.int64)


def _window_sum(x: torch.Tensor, window: int) -> torch.Tensor:
    """Sums over non-overlapping windows of the last two axes; a rest at the border is cut."""
    rows, cols = (size // window * window for size in x.shape[2:])
    cut = x[:, :, :rows, :cols]
    total = cut[:, :, ::window, ::window]
    for tap in range(1, window**2):
        total = total + cut[:, :, tap // window :: window, tap % window :: window]
    return total


def _integers(x: torch.Tensor) -> torch.Tensor:
    # Logits leave a float product as floats that hold integers.
    return x if x.dtype in (torch.int8, torch.uint8) else x.to(torch.int32)
