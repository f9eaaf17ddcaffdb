"""How good an integer network is: the error of every layer, and of what it gives out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from arraysmith.learning import float_graph
from arraysmith.metrics import QuantizedLayer, sqnr_db
from arraysmith.networks.moves import MOVES
from arraysmith.progress import silent
from arraysmith.quantization.calibration import tensors_of
from arraysmith.quantization.int8 import quantize_inputs
from arraysmith.quantization.modules import QuantNetwork, product_dtype
from arraysmith.quantization.operations import FloatIsland
from arraysmith.quantization.products import WeightedLayer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.networks.graph import FloatGraph
    from arraysmith.progress import Progress
    from arraysmith.quantization.network import IntegerNetwork
    from arraysmith.quantization.operations import IntegerLayer
    from arraysmith.quantization.quantize import Quantized
    from arraysmith.quantization.samples import Samples

Reals = dict[str, "NDArray[np.float64]"]


@torch.inference_mode()
def assess_layers(
    quantized: Quantized, samples: Samples, progress: Progress = silent
) -> tuple[QuantizedLayer, ...]:
    """Ranges, SQNR and proven accumulators of every layer that computes, on some samples."""
    network, graph = quantized.network, quantized.graph
    module = QuantNetwork(network)
    wanted = set(quantized.float_names.values())
    layers = [layer for layer in network.layers if not isinstance(layer, MOVES)]
    signal, noise = (
        dict.fromkeys(quantized.float_names, 0.0),
        dict.fromkeys(quantized.float_names, 0.0),
    )
    with progress("error of every layer", len(samples)) as advance:
        for batch in samples.batches():
            tensors = tensors_of(batch)
            reals = {
                name: x.double().numpy()
                for name, x in float_graph.trace(graph, tensors)
                if name in wanted
            }
            for layer, q in module.trace(tensors_of(quantize_inputs(network, batch))):
                if isinstance(layer, MOVES):
                    continue
                real = reals[quantized.float_names[layer.name]]
                error = real - dequantized(network, layer.name, q.numpy())
                signal[layer.name] += float((real**2).sum())
                noise[layer.name] += float((error**2).sum())
            advance(len(next(iter(batch.values()))))
    return tuple(
        _facts(
            layer,
            quantized.float_names[layer.name],
            sqnr_db(signal[layer.name], noise[layer.name]),
        )
        for layer in layers
    )


@torch.inference_mode()
def float_outputs(graph: FloatGraph, samples: Samples, progress: Progress = silent) -> Reals:
    """What the float network gives, by output, (samples, *shape)."""
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in graph.outputs}
    with progress("float network", len(samples)) as advance:
        for batch in samples.batches():
            for name, x in float_graph.run(graph, tensors_of(batch)).items():
                parts[name].append(x.double().numpy())
            advance(len(next(iter(batch.values()))))
    return {name: np.concatenate(found) for name, found in parts.items()}


@torch.inference_mode()
def integer_outputs(
    network: IntegerNetwork, samples: Samples, progress: Progress = silent
) -> Reals:
    """What the integer network gives, by output, as reals (samples, *shape)."""
    module = QuantNetwork(network)
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in network.outputs}
    with progress("integer network", len(samples)) as advance:
        for batch in samples.batches():
            for name, q in module(tensors_of(quantize_inputs(network, batch))).items():
                parts[name].append(dequantized(network, name, q.numpy()))
            advance(len(next(iter(batch.values()))))
    return {name: np.concatenate(found) for name, found in parts.items()}


def dequantized(network: IntegerNetwork, tensor: str, q: NDArray[Any]) -> NDArray[np.float64]:
    """Reals of a tensor's integers; accumulators on the scale of the layer that made them."""
    makers = {layer.name: layer for layer in network.layers}
    while tensor in makers and isinstance(makers[tensor], MOVES):
        tensor = makers[tensor].inputs[0]
    maker = makers.get(tensor)
    if isinstance(maker, WeightedLayer) and maker.output is None:
        # Logits share one scale, so a move may have put them in any order.
        real: NDArray[np.float64] = q * maker.accumulator_scale[0]
        return real
    given = {each.name: each.type for each in network.inputs}
    type_ = given[tensor] if maker is None else maker.output  # type: ignore[union-attr]
    if type_ is None:
        return q.astype(np.float64)
    return type_.dequantize(q)


def _facts(layer: IntegerLayer, ends_with: str, sqnr: float | None) -> QuantizedLayer:
    weighted = layer if isinstance(layer, WeightedLayer) else None
    low, high = weighted.accumulator_range if weighted else (None, None)
    output = None if isinstance(layer, MOVES) else layer.output
    if output is None:
        assert weighted is not None  # noqa: S101 (only logits have no type)
        scale, zero_point = float(weighted.accumulator_scale[0]), None
        covered = (
            scale * weighted.accumulator_range[0],
            scale * weighted.accumulator_range[1],
        )
    else:
        scale, zero_point = output.scale, output.zero_point
        ends = output.dequantize([output.qmin, output.qmax])
        covered = (float(ends[0]), float(ends[1]))
    bound = weighted.magnitude_bound if weighted else None
    return QuantizedLayer(
        name=layer.name,
        kind=_kind(layer),
        ends_with=ends_with,
        output_scale=scale,
        output_zero_point=zero_point,
        output_low=covered[0],
        output_high=covered[1],
        output_bits=32 if output is None else output.bits,
        weight_bits=weighted.weight_bits if weighted else None,
        weight_scale_low=float(weighted.weight_scale.min()) if weighted else None,
        weight_scale_high=float(weighted.weight_scale.max()) if weighted else None,
        sqnr_db=sqnr,
        accumulator_low=low,
        accumulator_high=high,
        accumulator_bits=weighted.accumulator_bits if weighted else None,
        magnitude_bound=bound,
        product=None if bound is None else str(product_dtype(bound)).removeprefix("torch."),
    )


def _kind(layer: IntegerLayer) -> str:
    if isinstance(layer, FloatIsland):
        kind = getattr(layer.operation, "kind", type(layer.operation).__name__)
        return f"float island: {kind}"
    return type(layer).__name__.removeprefix("Integer")
