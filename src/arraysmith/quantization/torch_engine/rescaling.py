"""Requantization in torch: floats where they are proven exact, int64 beyond.

    y = clamp(zy + ((acc·m + b + 2^(n-1)) >> n), low, high)                         (3)

m / 2^n is a float without rounding. Where |acc·m + b + 2^(n-1) + zy·2^n| stays below 2^53 (2^24),
every product and sum of acc·(m / 2^n) + (b / 2^n + zy + 1/2) is an integer below 2^53 (2^24) times
2^-n, which float64 (float32) holds exactly, and its floor is the shift. int64 is ten times slower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.affine import Affine

FLOAT32_EXACT, FLOAT64_EXACT = 2**24, 2**53


def product_dtype(bound: int) -> torch.dtype:
    """The fastest type whose sums are exact for magnitudes up to `bound`."""
    # Anything but "highest" lets torch round float32 factors to bfloat16 on the way.
    if bound < FLOAT32_EXACT and torch.get_float32_matmul_precision() == "highest":
        return torch.float32
    return torch.float64 if bound < FLOAT64_EXACT else torch.int64


def container(type_: Affine) -> torch.dtype:
    """The narrowest of torch's integers that holds a type: int8, uint8, int16 or int32."""
    if type_.bits <= 8:
        return torch.int8 if type_.signed else torch.uint8
    return torch.int16 if type_.qmax < 1 << 15 else torch.int32


def tensor(array: NDArray[np.generic] | np.generic, dtype: torch.dtype) -> torch.Tensor:
    """A copy: records share their arrays, and torch wants one that it may write to."""
    return torch.from_numpy(np.array(array)).to(dtype)


def centred(x: torch.Tensor, zero_point: int, dtype: torch.dtype) -> torch.Tensor:
    """q - z in the type of a product."""
    wide = x.to(dtype)
    return wide - zero_point if zero_point else wide


class Rescale(nn.Module):
    """(3) on an accumulator, to the container of the output's type."""

    scale: torch.Tensor
    offset: torch.Tensor
    multiplier: torch.Tensor
    bias: torch.Tensor
    right_shift: torch.Tensor

    def __init__(
        self,
        output: Affine,
        m: NDArray[np.int64] | int,
        n: NDArray[np.int64] | int,
        bias: NDArray[np.int64] | int = 0,
        *,
        bound: int,
        ends: tuple[int | None, int | None] = (None, None),
    ) -> None:
        """Choose how to compute.

        Args:
            output: the type that is written.
            m, n, bias: what broadcasts against the accumulator; |acc·m + bias| is below 2^62.
            bound: what |acc| does not exceed.
            ends: tighter ends of the clamp.
        """
        super().__init__()
        self.low, self.high = (
            own if end is None else end
            for own, end in zip((output.qmin, output.qmax), ends, strict=True)
        )
        self.zero_point, self.container = output.zero_point, container(output)
        # Of one axis at least: torch would take the type of what a scalar is multiplied with.
        m, n, bias = (np.atleast_1d(each) for each in np.broadcast_arrays(m, n, bias))
        self.dtype = product_dtype(_reach(m, n, bias, bound=bound, zero_point=output.zero_point))
        arrays: dict[str, NDArray[Any]] = {
            "multiplier": m,
            "right_shift": n,
            "bias": bias + (np.int64(1) << (n - 1)),
        }
        if self.dtype.is_floating_point:
            unit = 2.0**-n
            arrays = {"scale": m * unit, "offset": bias * unit + (output.zero_point + 0.5)}
        for name, array in arrays.items():
            self.register_buffer(name, tensor(array, self.dtype), persistent=False)

    def forward(self, acc: torch.Tensor) -> torch.Tensor:
        """Round once, ties up; clamp."""
        if self.dtype.is_floating_point:
            # The product may be wider than `dtype` (a float64 accumulator), never narrower.
            y = (acc * self.scale).add_(self.offset).floor_()
        else:
            y = (acc.to(torch.int64) * self.multiplier).add_(self.bias)
            y = (y >> self.right_shift).add_(self.zero_point)
        return y.clamp_(self.low, self.high).to(self.container)


def _reach(
    m: NDArray[np.int64],
    n: NDArray[np.int64],
    bias: NDArray[np.int64],
    *,
    bound: int,
    zero_point: int,
) -> int:
    """max |acc·m + bias + 2^(n-1) + zy·2^n|, in Python's integers, which do not overflow."""
    return max(
        bound * abs(factor) + abs(extra) + (1 << (shift - 1)) + (abs(zero_point) << shift)
        for factor, shift, extra in zip(
            m.ravel().tolist(), n.ravel().tolist(), bias.ravel().tolist(), strict=True
        )
    )
