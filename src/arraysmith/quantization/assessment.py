"""How good an int8 network is: error by layer, predictions, and engine against engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from arraysmith.metrics import QuantizedLayer, sqnr_db
from arraysmith.progress import silent
from arraysmith.quantization import int8
from arraysmith.quantization.calibration import BATCH
from arraysmith.quantization.modules import PREDICT_BATCH, QuantNetwork, product_dtype
from arraysmith.quantization.network import IntegerFlatten, WeightedLayer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from arraysmith.learning.network import FloatNetwork
    from arraysmith.progress import Progress
    from arraysmith.quantization.network import IntegerLayer, IntegerNetwork
    from arraysmith.quantization.quantize import Quantized


@torch.inference_mode()
def assess_layers(
    quantized: Quantized,
    network: FloatNetwork,
    images: NDArray[np.uint8],
    normalise: Callable[[NDArray[np.uint8]], torch.Tensor],
) -> tuple[QuantizedLayer, ...]:
    """Ranges, SQNR and proven accumulators of every layer, on some images (n, rows, columns)."""
    module = QuantNetwork(quantized.network)
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        reals = {layer.name: x.double() for layer, x in network.trace(normalise(batch))}
        for layer, q in module.trace(torch.from_numpy(batch)):
            real = reals[quantized.float_names[layer.name]].numpy()
            error = real - _reals(layer, q.numpy())
            signal[layer.name] = signal.get(layer.name, 0.0) + float((real**2).sum())
            noise[layer.name] = noise.get(layer.name, 0.0) + float((error**2).sum())
    return tuple(
        _facts(layer, quantized.float_names[layer.name], sqnr_db(signal[name], noise[name]))
        for layer in quantized.network.layers
        for name in (layer.name,)
        if not isinstance(layer, IntegerFlatten)
    )


@torch.inference_mode()
def float_logits(
    network: FloatNetwork,
    images: NDArray[np.uint8],
    normalise: Callable[[NDArray[np.uint8]], torch.Tensor],
) -> NDArray[np.float64]:
    """(n, classes) logits of the float network, a batch at a time."""
    parts = [
        network(normalise(images[start : start + BATCH])).double().numpy()
        for start in range(0, len(images), BATCH)
    ]
    return np.concatenate(parts)


@torch.inference_mode()
def compare_engines(
    network: IntegerNetwork, images: NDArray[np.uint8], progress: Progress = silent
) -> tuple[int, int]:
    """Run NumPy and torch on the same images: integers compared, over all layers, and different."""
    module = QuantNetwork(network)
    compared = different = 0
    with progress("NumPy against torch, every integer", len(images)) as advance:
        for start in range(0, len(images), PREDICT_BATCH):
            batch = images[start : start + PREDICT_BATCH]
            reference = int8.trace(network, batch)
            for (_, slow), (_, fast) in zip(
                reference, module.trace(torch.from_numpy(batch.copy())), strict=True
            ):
                compared += slow.size
                different += int(np.count_nonzero(slow != fast.numpy()))
            advance(len(batch))
    return compared, different


def _reals(layer: IntegerLayer, q: NDArray[Any]) -> NDArray[np.float64]:
    if layer.output is None:
        real: NDArray[np.float64] = q * layer.accumulator_scale
        return real
    return layer.output.dequantize(q)


def _facts(layer: IntegerLayer, ends_with: str, sqnr: float | None) -> QuantizedLayer:
    weighted = layer if isinstance(layer, WeightedLayer) else None
    low, high = weighted.accumulator_range if weighted else (None, None)
    if layer.output is None:
        scale, zero_point = float(layer.accumulator_scale[0]), None
        covered = (scale * layer.accumulator_range[0], scale * layer.accumulator_range[1])
    else:
        scale, zero_point = layer.output.scale, layer.output.zero_point
        ends = layer.output.dequantize([layer.output.qmin, layer.output.qmax])
        covered = (float(ends[0]), float(ends[1]))
    bound = weighted.magnitude_bound if weighted else None
    return QuantizedLayer(
        name=layer.name,
        kind=type(layer).__name__.removeprefix("Integer"),
        ends_with=ends_with,
        output_scale=scale,
        output_zero_point=zero_point,
        output_low=covered[0],
        output_high=covered[1],
        weight_scale_low=float(weighted.weight_scale.min()) if weighted else None,
        weight_scale_high=float(weighted.weight_scale.max()) if weighted else None,
        sqnr_db=sqnr,
        accumulator_low=low,
        accumulator_high=high,
        accumulator_bits=weighted.accumulator_bits if weighted else None,
        magnitude_bound=bound,
        product=None if bound is None else str(product_dtype(bound)).removeprefix("torch."),
    )
