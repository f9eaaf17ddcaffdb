"""Bias correction: the mean error of rounded weights and inputs goes into the int32 biases.

Every accumulator's channel means on calibration samples are made those of the float network (Nagel
et al., ICCV 2019, section 4.2, with measured means). Layers are corrected in order, each on what
the corrected ones before it give. Accumulators are linear, so the mean of one comes from the summed
input integers; only what feeds such layers is computed, and held in its smallest type. What a
sigmoid or softmax alone reads is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch

from arraysmith.learning.float_graph import evaluate, trace
from arraysmith.networks.functions import Function, Step
from arraysmith.networks.graph import Input
from arraysmith.networks.operations import Convolution, Elementwise, Linear, Softmax
from arraysmith.progress import silent
from arraysmith.quantization.calibration import batch_size, tensors_of
from arraysmith.quantization.modules import QuantNetwork
from arraysmith.quantization.network import IntegerNetwork
from arraysmith.quantization.products import (
    INT32_MAX,
    INT32_MIN,
    IntegerConvolution,
    IntegerLinear,
    WeightedLayer,
)
from arraysmith.quantization.signs import channel_signs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from arraysmith.affine import Affine
    from arraysmith.networks.graph import FloatGraph
    from arraysmith.networks.operations import FloatOperation
    from arraysmith.progress import Progress
    from arraysmith.quantization.operations import IntegerLayer
    from arraysmith.quantization.samples import Samples

MAX_SAMPLES = 256
"""More move no mean by what matters, and cost more than the observation of all."""
MAX_BYTES = 1 << 28
"""Of the integers that are held at a time, for all samples together."""


def correct_biases(
    network: IntegerNetwork,
    graph: FloatGraph,
    samples: Samples,
    *,
    means: ChannelMeans | None = None,
    signs: Mapping[str, NDArray[np.int64]] | None = None,
    progress: Progress = silent,
) -> IntegerNetwork:
    """The network with biases that keep the float network's means.

    Args:
        network: the integer network.
        graph: the float network that it was lowered from; a weighted layer has the name of its
            convolution or linear operation.
        samples: reals; as many of them, evenly spread, as can be held.
        means: what the float network gives on all the samples, where it is known already.
        signs: (out,) 1 or -1 by layer, -1 where the weights were negated; as the weights of the two
            networks show by default.
        progress: shows weighted layers.

    Raises:
        InvalidNetworkError: a corrected bias or accumulator does not fit int32.
    """
    plan = _planned(network)
    drawn = samples.spread(min(MAX_SAMPLES, max(MAX_BYTES // plan.peak_bytes, 1)))
    if means is None or len(drawn) < len(samples):
        means = float_means(graph, drawn)
    operations = {each.name: each for each in graph.operations}
    saturated = _saturated(graph)
    size = batch_size(graph)
    held: dict[str, list[torch.Tensor]] = {
        given.name: [
            _compact(torch.from_numpy(_quantized(given, batch[given.name])), given.type)
            for batch in drawn.batches(size)
        ]
        for given in network.inputs
    }
    layers: list[IntegerLayer] = []
    with progress("bias correction", len(network.weighted_layers)) as advance:
        for place, layer in enumerate(network.layers):
            corrected = layer
            operation = operations.get(layer.name)
            if isinstance(layer, IntegerConvolution | IntegerLinear):
                if isinstance(operation, Convolution | Linear) and layer.name not in saturated:
                    sign = (signs or {}).get(layer.name, channel_signs(layer, operation))
                    corrected = _corrected(
                        layer, held[layer.inputs[0]], sign * means.of(layer.name)
                    )
                advance()
            layers.append(corrected)
            if layer.name in plan.needed:
                held[layer.name] = plan.run(corrected, held)
            for name in plan.dropped[place]:
                held.pop(name, None)
    return replace(network, layers=tuple(layers))


def _saturated(graph: FloatGraph) -> frozenset[str]:
    """Tensors that go into a sigmoid or softmax alone.

    Their means are those of words far out, where it does not matter; correcting them moved the few
    that matter away (measured on CREPE-tiny: 32 dB in place of 38 behind the sigmoid).
    """
    return frozenset(
        name
        for name, readers in graph.readers.items()
        if readers and name not in graph.outputs and all(map(_saturates, readers))
    )


def _saturates(operation: FloatOperation) -> bool:
    if isinstance(operation, Elementwise):
        return operation.steps[:1] == (Step(function=Function.SIGMOID),)
    return isinstance(operation, Softmax)


class ChannelMeans:
    """The channel means of every weighted operation, over the batches it is shown."""

    def __init__(self, graph: FloatGraph) -> None:
        """Of nothing yet."""
        self._axes = {
            each.name: 1 if isinstance(each, Convolution) else -1
            for each in graph.operations
            if isinstance(each, Convolution | Linear)
        }
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._words: dict[str, int] = {}

    def add(self, name: str, x: torch.Tensor) -> None:
        """One batch of a tensor; what no weighted operation makes is ignored."""
        if name not in self._axes:
            return
        channels = x.movedim(self._axes[name], 1)
        of_sample = channels.reshape(*channels.shape[:2], -1).sum(2)
        total = of_sample.double().sum(0).numpy()
        self._sums[name] = self._sums.get(name, 0.0) + total
        self._words[name] = self._words.get(name, 0) + x.numel() // channels.shape[1]

    def of(self, name: str) -> NDArray[np.float64]:
        """(out,): over samples and positions."""
        return self._sums[name] / self._words[name]


def float_means(graph: FloatGraph, samples: Samples) -> ChannelMeans:
    """What the float network gives on some samples."""
    means = ChannelMeans(graph)
    for batch in samples.batches(batch_size(graph)):
        for name, x in trace(graph, tensors_of(batch)):
            means.add(name, x)
    return means


def _corrected(
    layer: IntegerConvolution | IntegerLinear,
    inputs: list[torch.Tensor],
    wanted: NDArray[np.float64],
) -> IntegerConvolution | IntegerLinear:
    """The layer with its accumulator's means moved to `wanted` reals, nearest, ties up."""
    found = _product_means(layer, inputs)
    bias = np.floor(wanted / layer.accumulator_scale - found + 0.5)
    if not ((bias >= INT32_MIN) & (bias <= INT32_MAX)).all():
        raise layer.refuse(
            f"a corrected bias of {bias[np.abs(bias).argmax()]:g} does not fit int32; give the "
            "layer fewer bits, or correct no biases"
        )
    corrected: IntegerConvolution | IntegerLinear = replace(layer, bias=bias.astype(np.int32))
    return corrected


def _product_means(
    layer: IntegerConvolution | IntegerLinear, inputs: list[torch.Tensor]
) -> NDArray[np.float64]:
    """(out,): the mean of the accumulator without its bias, exact, from the summed inputs."""
    words = sum(len(x) for x in inputs)
    summed = torch.stack([x.to(torch.int64).sum(0) for x in inputs]).sum(0)
    total = (summed - words * layer.input.zero_point)[None].double()
    weight = layer.centred_weight.astype(np.float32)  # at most 17 bits
    bias = np.zeros(len(weight), np.float32)
    if isinstance(layer, IntegerConvolution):
        product = evaluate(
            Convolution(
                name=layer.name,
                inputs=layer.inputs,
                weight=weight,
                bias=bias,
                windows=layer.windows,
                groups=layer.groups,
            ),
            total,
        )
        product = product.flatten(2).mean(2)
    else:
        linear = Linear(name=layer.name, inputs=layer.inputs, weight=weight, bias=bias)
        product = evaluate(linear, total).flatten(0, -2).mean(0, keepdim=True)
    means: NDArray[np.float64] = product[0].numpy() / words
    return means


def _quantized(given: Input, reals: NDArray[np.float32]) -> NDArray[np.int64]:
    return reals.astype(np.int64) if given.type is None else given.type.quantize(reals)


def _compact(x: torch.Tensor, type_: Affine | None) -> torch.Tensor:
    """Integers in the smallest type that holds them."""
    if type_ is None:
        return x
    for dtype in (torch.int8, torch.uint8, torch.int16, torch.int32):
        limits = torch.iinfo(dtype)
        if limits.min <= type_.qmin and type_.qmax <= limits.max:
            return x.to(dtype)
    return x


def _batch(batches: list[torch.Tensor], number: int) -> torch.Tensor:
    """A batch; a constant is the same in all."""
    return batches[number if len(batches) > 1 else 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Which tensors lead to a weighted layer, and when each has had its last reader."""

    network: IntegerNetwork
    types: Mapping[str, Affine | None]
    shapes: Mapping[str, tuple[int, ...]]
    needed: frozenset[str]
    dropped: tuple[tuple[str, ...], ...]
    """By layer."""

    @property
    def peak_bytes(self) -> int:
        """The most that one sample's live tensors take."""
        held = {given.name: self._bytes(given.name) for given in self.network.inputs}
        peak = sum(held.values())
        for layer, dropped in zip(self.network.layers, self.dropped, strict=True):
            if layer.name in self.needed:
                held[layer.name] = self._bytes(layer.name)
            peak = max(peak, sum(held.values()))
            for name in dropped:
                held.pop(name, None)
        return max(peak, 1)

    def _bytes(self, name: str) -> int:
        type_ = self.types[name]
        return prod(self.shapes[name]) * (8 if type_ is None else -(-type_.bits // 8))

    def run(
        self, layer: IntegerLayer, held: Mapping[str, list[torch.Tensor]]
    ) -> list[torch.Tensor]:
        """What one layer makes of every batch."""
        tensors = tuple(dict.fromkeys(layer.inputs))
        rows = {given.name: given.rows for given in self.network.inputs}
        alone = IntegerNetwork(
            name=self.network.name,
            inputs=tuple(
                Input(
                    name=name,
                    shape=self.shapes[name],
                    type=self.types[name],
                    rows=rows.get(name, 0),
                )
                for name in tensors
            ),
            layers=(layer,),
            outputs=(layer.name,),
        )
        module = QuantNetwork(alone)
        type_ = self.types[layer.name]
        batches = max((len(held[name]) for name in tensors), default=1)
        return [
            _compact(module({name: _batch(held[name], i) for name in tensors})[layer.name], type_)
            for i in range(batches)
        ]


def _planned(network: IntegerNetwork) -> _Plan:
    last: dict[str, int] = {}
    for place, layer in reversed(list(enumerate(network.layers))):
        if isinstance(layer, WeightedLayer) or layer.name in last:
            for name in layer.inputs:
                last.setdefault(name, place)
    dropped: list[list[str]] = [[] for _ in network.layers]
    for name, place in last.items():
        dropped[place].append(name)
    return _Plan(
        network=network,
        types=network.types,
        shapes=network.shapes,
        needed=frozenset(last),
        dropped=tuple(map(tuple, dropped)),
    )
