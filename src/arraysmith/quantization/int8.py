"""The reference engine: runs an int8 network in NumPy int64, with no float anywhere.

It is the slow, plain statement of the arithmetic that every other back end is held to, integer by
integer. Arrays are int64; batch comes first. Equations are those of `docs/quantization.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import InvalidNetworkError
from arraysmith.quantization.network import (
    IntegerAveragePool,
    IntegerConv2d,
    IntegerFlatten,
    IntegerLinear,
    IntegerTable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from arraysmith.affine import Affine, Requantization
    from arraysmith.quantization.network import IntegerLayer, IntegerNetwork


def run(network: IntegerNetwork, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Logits (batch, classes) of images (batch, rows, columns) or (batch, *input_shape), uint8."""
    for _, logits in trace(network, images):  # noqa: B007 (the last output is the result)
        pass
    return logits


def trace(
    network: IntegerNetwork, images: NDArray[np.uint8]
) -> Iterator[tuple[IntegerLayer, NDArray[np.int64]]]:
    """Every layer with its output integers, in order.

    Raises:
        InvalidNetworkError: the images are not uint8 or of another shape.
    """
    x = network_input(network, images)
    for layer in network.layers:
        x = run_layer(layer, x)
        yield layer, x


def network_input(network: IntegerNetwork, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels to the integers of the first layer, (batch, *input_shape)."""
    shape = network.input_shape
    if images.dtype != np.uint8 or images.size != len(images) * int(np.prod(shape)):
        raise InvalidNetworkError(
            f"images of shape {images.shape} and type {images.dtype}; "
            f"{network.name!r} takes uint8 pixels of shape (batch, {', '.join(map(str, shape))})"
        )
    return network.input_table[images].reshape(len(images), *shape)


def run_layer(layer: IntegerLayer, x: NDArray[np.int64]) -> NDArray[np.int64]:
    """The output integers of one layer."""
    match layer:
        case IntegerConv2d():
            return _conv2d(layer, x)
        case IntegerLinear():
            acc = (x - layer.input.zero_point) @ layer.centred_weight.T + layer.bias  # (2)
            return _finish(layer, acc)
        case IntegerAveragePool():
            total = _window_sum(x - layer.input.zero_point, layer.window)
            return requantize(total, layer.requantization, layer.output)  # (8)
        case IntegerTable():
            return layer.table[x - layer.input.qmin]  # (9)
        case IntegerFlatten():
            return x.reshape(len(x), -1)
    raise InvalidNetworkError(f"no integer arithmetic for {layer!r}")


def requantize(
    acc: NDArray[np.int64], constants: Requantization, output: Affine, *, low: int | None = None
) -> NDArray[np.int64]:
    """Equation (3) on accumulators (batch, channels, …); `low` is the clamp's lower end."""
    shape = (1, -1, *(1,) * (acc.ndim - 2))
    m, n = constants.multiplier.reshape(shape), constants.right_shift.reshape(shape)
    scaled = (acc * m + (np.int64(1) << (n - 1))) >> n  # ties up, arithmetic shift
    qmin = output.qmin if low is None else low
    clamped: NDArray[np.int64] = np.clip(scaled + output.zero_point, qmin, output.qmax)
    return clamped


def _conv2d(layer: IntegerConv2d, x: NDArray[np.int64]) -> NDArray[np.int64]:
    """(batch, in, rows, columns) to (batch, out, rows, columns)."""
    out, channels, filter_, _ = layer.weight.shape
    # A padded zx is a padded 0 once the zero point is gone.
    pad = (layer.padding, layer.padding)
    centred = np.pad(x - layer.input.zero_point, ((0, 0), (0, 0), pad, pad))
    windows = np.lib.stride_tricks.sliding_window_view(centred, (filter_, filter_), axis=(2, 3))
    windows = windows[:, :, :: layer.stride, :: layer.stride]  # (batch, in, rows, cols, f, f)
    batch, _, rows, cols = windows.shape[:4]
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, channels * filter_ * filter_)
    acc = columns @ layer.centred_weight.reshape(out, -1).T + layer.bias  # (2)
    return _finish(layer, acc.reshape(batch, rows, cols, out).transpose(0, 3, 1, 2))


def _finish(layer: IntegerConv2d | IntegerLinear, acc: NDArray[np.int64]) -> NDArray[np.int64]:
    """ReLU, fused pool and requantization of an accumulator."""
    if layer.output is None or layer.requantization is None:
        return acc
    pool = layer.pool if isinstance(layer, IntegerConv2d) else 1
    if pool > 1:
        acc = _window_sum(np.maximum(acc, 0) if layer.relu else acc, pool)  # (4)
    low = max(layer.output.qmin, layer.output.zero_point) if layer.relu else None
    return requantize(acc, layer.requantization, layer.output, low=low)


def _window_sum(x: NDArray[np.int64], window: int) -> NDArray[np.int64]:
    """Sums over non-overlapping windows of the last two axes; a rest at the border is cut."""
    batch, channels, rows, cols = x.shape
    rows, cols = rows // window, cols // window
    cut = x[:, :, : rows * window, : cols * window]
    summed: NDArray[np.int64] = cut.reshape(batch, channels, rows, window, cols, window).sum((3, 5))
    return summed
