"""Which layers cost most: each is quantized alone, and the outputs are compared with the floats.

Weights and output of one layer are rounded to their integers and back while all others stay float;
only what reads them is computed anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch

from arraysmith.learning.float_graph import evaluate, trace
from arraysmith.metrics import LayerSensitivity, sqnr_db
from arraysmith.networks.moves import MOVES
from arraysmith.networks.operations import Convolution, Linear
from arraysmith.progress import silent
from arraysmith.quantization.calibration import BATCH_WORDS, MAX_BATCH, tensors_of
from arraysmith.quantization.products import WeightedLayer
from arraysmith.quantization.signs import channel_signs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from arraysmith.affine import Affine
    from arraysmith.networks.graph import FloatGraph
    from arraysmith.networks.operations import FloatOperation
    from arraysmith.progress import Progress
    from arraysmith.quantization.network import IntegerNetwork
    from arraysmith.quantization.samples import Samples

HELD_WORDS = 8 * BATCH_WORDS
"""Of all tensors of a batch together, about."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """What is quantized together: a layer's weights and what it makes."""

    name: str
    """The layer, and the float operation that has the weights."""
    tensor: str
    """The float tensor that `type` is of."""
    type: Affine | None = None
    """None: only the weights are quantized."""
    weight: NDArray[np.float64] | None = None
    """The reals that the integer weights stand for; None: the layer has none."""
    weight_bits: int | None = None


def parts_of(
    network: IntegerNetwork, graph: FloatGraph, float_names: Mapping[str, str]
) -> tuple[Part, ...]:
    """The inputs and layers of an integer network; moves, which lose nothing, are left out.

    Args:
        network: the integer network.
        graph: the float network that it was lowered from.
        float_names: integer layer to the last float tensor inside it.
    """
    operations = {each.name: each for each in graph.operations}
    parts = [
        Part(name=given.name, tensor=given.name, type=given.type)
        for given in network.inputs
        if given.type
    ]
    types = network.types
    for layer in network.layers:
        if isinstance(layer, MOVES):
            continue
        operation = operations.get(layer.name)
        weight: NDArray[np.float64] | None = None
        bits = None
        if isinstance(layer, WeightedLayer) and isinstance(operation, Convolution | Linear):
            scale = layer.weight_scale * channel_signs(layer, operation)
            weight = layer.centred_weight * scale.reshape(-1, *(1,) * (layer.weight.ndim - 1))
            bits = layer.weight_bits
        parts.append(
            Part(
                name=layer.name,
                tensor=float_names.get(layer.name, layer.name),
                type=types[layer.name],
                weight=weight,
                weight_bits=bits,
            )
        )
    return tuple(parts)


@torch.inference_mode()
def sensitivity(
    graph: FloatGraph, parts: Sequence[Part], samples: Samples, progress: Progress = silent
) -> tuple[LayerSensitivity, ...]:
    """The outputs' signal-to-noise ratio with one part at a time quantized, worst part first.

    Args:
        graph: the float network.
        parts: what may be quantized, as `parts_of` gives it.
        samples: for its inputs.
        progress: shows samples.

    Raises:
        InvalidNetworkError: an input does not fit.
    """
    signal = np.zeros(len(graph.outputs))
    noise = np.zeros((len(parts), len(graph.outputs)))
    held_words = sum(prod(shape) for shape in graph.shapes.values())
    size = min(max(HELD_WORDS // max(held_words, 1), 1), MAX_BATCH)
    with progress("sensitivity of layers", len(samples)) as advance:
        for batch in samples.batches(size):
            held = dict(trace(graph, tensors_of(batch)))
            signal += [_power(held[name]) for name in graph.outputs]
            for row, part in zip(noise, parts, strict=True):
                changed = _with_part(graph, part, held)
                row += [
                    _power(held[name] - changed[name]) if name in changed else 0.0
                    for name in graph.outputs
                ]
            advance(len(batch[graph.inputs[0].name]))
    found = [_facts(part, signal, row) for part, row in zip(parts, noise, strict=True)]
    return tuple(sorted(found, key=lambda each: _order(each.sqnr_db)))


def _with_part(
    graph: FloatGraph, part: Part, held: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Every tensor that is another one with a part quantized."""
    changed: dict[str, torch.Tensor] = {}
    if part.tensor in (given.name for given in graph.inputs):
        changed[part.tensor] = _rounded(held[part.tensor], part.type)
    for operation in graph.operations:
        reweighted = operation.name == part.name and part.weight is not None
        touched = reweighted or any(name in changed for name in operation.inputs)
        if not touched and operation.name != part.tensor:
            continue
        y = held[operation.name]
        if touched:
            used = _reweighted(operation, part) if reweighted else operation
            y = evaluate(used, *(changed.get(name, held[name]) for name in operation.inputs))
        changed[operation.name] = _rounded(y, part.type) if operation.name == part.tensor else y
    return changed


def _reweighted(operation: FloatOperation, part: Part) -> FloatOperation:
    assert isinstance(operation, Convolution | Linear)  # noqa: S101 (a part's weights are of one)
    assert part.weight is not None  # noqa: S101 (asked before)
    return replace(operation, weight=part.weight.astype(np.float32))


def _rounded(x: torch.Tensor, type_: Affine | None) -> torch.Tensor:
    """Reals to the nearest integers, ties up, and back."""
    if type_ is None or not x.is_floating_point():
        return x
    q = torch.floor(x / type_.scale + 0.5).clamp(
        type_.qmin - type_.zero_point, type_.qmax - type_.zero_point
    )
    return q * type_.scale


def _power(x: torch.Tensor) -> float:
    return float(x.double().square().sum())


def _facts(part: Part, signal: NDArray[np.float64], noise: NDArray[np.float64]) -> LayerSensitivity:
    ratios = [sqnr_db(*powers) for powers in zip(signal.tolist(), noise.tolist(), strict=True)]
    return LayerSensitivity(
        name=part.name,
        ends_with=part.tensor,
        weight_bits=part.weight_bits,
        activation_bits=part.type.bits if part.type else None,
        sqnr_db=min(ratios, key=_order),
    )


def _order(ratio: float | None) -> float:
    return math.inf if ratio is None else ratio
