"""ATen convolutions and pools, which slide windows over one or two axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraysmith.networks.moves import MaxPool, Stretch
from arraysmith.networks.operations import AveragePool, Convolution, Mean
from arraysmith.networks.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable

    from arraysmith.learning.torch_import.site import Operand, Shape, Site, Value

Sizes = int | list[int]


def _each(sizes: Sizes, axes: int) -> Shape:
    """One number an axis: torch writes a single one for all."""
    given = [sizes] if isinstance(sizes, int) else list(sizes)
    return tuple(given * axes if len(given) == 1 else given)


def _image(site: Site, x: Value, axes: int) -> Shape:
    """The spatial sizes; without a batch torch would take the channels for one."""
    site.settle(
        len(x.shape) == axes + 1, f"takes (batch, channels, {axes} axes), got shape {x.shape}"
    )
    return x.shape[1:]


def _bias(site: Site, bias: Operand | None, channels: int) -> np.ndarray:
    if bias is None:
        return np.zeros(channels, np.float32)
    return site.numbers(bias, "bias")


def _convolution(
    site: Site,
    *,
    x: Value,
    weight: Operand,
    bias: Operand | None,
    stride: Sizes,
    padding: Sizes | str,
    dilation: Sizes,
    groups: int,
) -> Value:
    filters = site.numbers(weight, "weight")
    size = filters.shape[2:]
    axes = len(size)
    _image(site, x, axes)
    dilations = _each(dilation, axes)
    if padding == "same":
        total = [(n - 1) * d for n, d in zip(size, dilations, strict=True)]
        before = tuple(n // 2 for n in total)
        after = tuple(n - n // 2 for n in total)
    else:
        before = after = _each(0 if isinstance(padding, str) else padding, axes)
    windows = Windows(
        size=size, strides=_each(stride, axes), dilations=dilations, before=before, after=after
    )
    return site.emit(
        Convolution,
        x,
        weight=filters,
        bias=_bias(site, bias, len(filters)),
        windows=windows,
        groups=groups,
    )


def _transposed_convolution(
    site: Site,
    *,
    x: Value,
    weight: Operand,
    bias: Operand | None,
    stride: Sizes,
    padding: Sizes,
    output_padding: Sizes,
    groups: int,
    dilation: Sizes,
) -> Value:
    """Words stretched by the stride, then an ordinary convolution with the weights turned round."""
    filters = _turned(site.numbers(weight, "weight"), groups)
    size = filters.shape[2:]
    axes = len(size)
    _image(site, x, axes)
    dilations = _each(dilation, axes)
    factors = _each(stride, axes)
    if set(factors) != {1}:
        x = site.emit(Stretch, x, factors=factors)
    before, after = [], []
    for axis, (n, d) in enumerate(zip(size, dilations, strict=True)):
        low = (n - 1) * d - _each(padding, axes)[axis]
        high = low + _each(output_padding, axes)[axis]
        # Padding beyond the filter cuts words off.
        words = x.shape[axis + 1]
        x = site.taken(x, axis + 1, np.arange(max(-low, 0), words - max(-high, 0)))
        before.append(max(low, 0))
        after.append(max(high, 0))
    windows = Windows(
        size=size,
        strides=(1,) * axes,
        dilations=dilations,
        before=tuple(before),
        after=tuple(after),
    )
    return site.emit(
        Convolution,
        x,
        weight=filters,
        bias=_bias(site, bias, len(filters)),
        windows=windows,
        groups=groups,
    )


def _turned(weight: np.ndarray, groups: int) -> np.ndarray:
    """(in, out / groups, size…) to (out, in / groups, size…), every filter back to front."""
    into, out, *size = weight.shape
    grouped = weight.reshape(groups, into // groups, out, *size).swapaxes(1, 2)
    turned = grouped.reshape(groups * out, into // groups, *size)
    return np.ascontiguousarray(np.flip(turned, tuple(range(2, turned.ndim))))


def _pool_windows(
    site: Site,
    x: Value,
    *,
    kernel_size: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes = 1,
) -> Windows:
    """A ceiled size needs words behind the padding: the program says how many windows there are."""
    positions = site.node.meta["val"]
    positions = positions[0] if isinstance(positions, list | tuple) else positions
    axes = len(x.shape) - 1
    sizes = _image(site, x, axes)
    kernel = _each(kernel_size, axes)
    strides = _each(stride, axes) if stride else kernel
    before, dilations = _each(padding, axes), _each(dilation, axes)
    after = []
    for axis, found in enumerate(site.behind_batch(positions.shape)[1:]):
        extent = (kernel[axis] - 1) * dilations[axis] + 1
        needed = (found - 1) * strides[axis] + extent - sizes[axis] - before[axis]
        after.append(max(before[axis], needed))
    return Windows(
        size=kernel, strides=strides, dilations=dilations, before=before, after=tuple(after)
    )


def _max_pool(
    site: Site,
    *,
    x: Value,
    kernel_size: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    ceil_mode: bool,
) -> Value:
    del ceil_mode  # in the size that the program says
    windows = _pool_windows(
        site, x, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation
    )
    return site.emit(MaxPool, x, windows=windows)


def _max_pool_with_indices(site: Site, **arguments: object) -> tuple[Value, None]:
    return _max_pool(site, **arguments), None  # type: ignore[arg-type]


def _average_pool(
    site: Site,
    *,
    x: Value,
    kernel_size: Sizes,
    stride: Sizes,
    padding: Sizes,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None = None,
) -> Value:
    del ceil_mode
    site.settle(divisor_override is None, "overrides the divisor; multiply behind the pool instead")
    windows = _pool_windows(site, x, kernel_size=kernel_size, stride=stride, padding=padding)
    counted = windows.before if count_include_pad else (0,) * len(windows.size)
    return site.emit(AveragePool, x, windows=windows, counted=(counted, counted))


def _even(site: Site, x: Value, output_size: Sizes) -> Windows:
    sizes = x.shape[1:]
    wanted = _each(output_size, len(sizes))
    site.settle(
        not any(n % m for n, m in zip(sizes, wanted, strict=True)),
        f"cannot split {sizes} evenly into {wanted}; choose sizes that divide",
    )
    kernel = tuple(n // m for n, m in zip(sizes, wanted, strict=True))
    zeros = (0,) * len(kernel)
    return Windows(
        size=kernel, strides=kernel, dilations=(1,) * len(kernel), before=zeros, after=zeros
    )


def _adaptive_average_pool(site: Site, *, x: Value, output_size: Sizes) -> Value:
    if set(site.shape[1:]) == {1}:
        return site.emit(Mean, x, axes=tuple(range(1, len(x.shape))))
    windows = _even(site, x, output_size)
    zeros = (0,) * len(windows.size)
    return site.emit(AveragePool, x, windows=windows, counted=(zeros, zeros))


def _adaptive_max_pool(site: Site, *, x: Value, output_size: Sizes) -> tuple[Value, None]:
    return site.emit(MaxPool, x, windows=_even(site, x, output_size)), None


WINDOWS: dict[str, Callable[..., Value | tuple[Value | None, ...]]] = {
    **dict.fromkeys(("conv1d", "conv2d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d"), _transposed_convolution),
    **dict.fromkeys(("max_pool1d", "max_pool2d"), _max_pool),
    **dict.fromkeys(("max_pool1d_with_indices", "max_pool2d_with_indices"), _max_pool_with_indices),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d"), _average_pool),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d"), _adaptive_average_pool),
    **dict.fromkeys(("adaptive_max_pool1d", "adaptive_max_pool2d"), _adaptive_max_pool),
}
"""By ATen name, what makes operations of a node."""
