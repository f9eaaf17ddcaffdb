"""An integer network as torch modules: the same integers as the NumPy engine, much sooner.

Integers are held in int8 or uint8 where they have up to 8 bits, else in int16 or int32; logits are
int32. How products and roundings run through floats without losing a bit is stated where they are:
in `torch_engine`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from arraysmith.errors import InvalidNetworkError
from arraysmith.quantization.int8 import (
    check_batches,
    check_input,
    check_names,
    check_values,
    last_readers,
)
from arraysmith.quantization.norms import IntegerLayerNorm, IntegerSoftmax
from arraysmith.quantization.operations import (
    FloatIsland,
    IntegerAdd,
    IntegerAveragePool,
    IntegerConstant,
    IntegerLookup,
    IntegerMatMul,
    IntegerMean,
    IntegerMul,
    IntegerRequantize,
    IntegerTable,
)
from arraysmith.quantization.products import IntegerConvolution, IntegerLinear
from arraysmith.quantization.torch_engine.functions import (
    QuantAdd,
    QuantAveragePool,
    QuantConstant,
    QuantIsland,
    QuantLayerNorm,
    QuantLookup,
    QuantMean,
    QuantMul,
    QuantRequantize,
    QuantSoftmax,
    QuantTable,
)
from arraysmith.quantization.torch_engine.moves import moving
from arraysmith.quantization.torch_engine.products import QuantConvolution, QuantLinear, QuantMatMul
from arraysmith.quantization.torch_engine.rescaling import container, product_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from numpy.typing import NDArray

    from arraysmith.networks.graph import Input
    from arraysmith.quantization.network import IntegerNetwork
    from arraysmith.quantization.operations import IntegerLayer

__all__ = ["PREDICT_BATCH", "QuantNetwork", "predict", "product_dtype", "quantized_module"]

PREDICT_BATCH = 100  # small enough for the unfolded images to stay in a processor's cache
_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16)


class QuantNetwork(nn.Module):
    """An `IntegerNetwork`: integers (batch, *shape) by input to integers by output."""

    def __init__(self, network: IntegerNetwork) -> None:
        """One module a layer, in order."""
        super().__init__()
        self.network = network
        self._last = last_readers(network)
        shapes = network.shapes
        self.layers = nn.ModuleList(
            quantized_module(layer, *(shapes[name] for name in layer.inputs))
            for layer in network.layers
        )

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The outputs by name."""
        wanted = self.network.outputs
        found = {name: x for name, x in inputs.items() if name in wanted}
        found |= {layer.name: x for layer, x in self.trace(inputs) if layer.name in wanted}
        return {name: found[name] for name in wanted}

    def trace(
        self, inputs: Mapping[str, torch.Tensor]
    ) -> Iterator[tuple[IntegerLayer, torch.Tensor]]:
        """Every layer with its output, in order.

        Args:
            inputs: by name (batch, *shape), integers of the input's type, or row numbers.

        Raises:
            InvalidNetworkError: an input is missing or unknown, not of integers, of another shape,
                or holds an integer outside its type.
        """
        known = self._inputs(inputs)
        for place, (layer, module) in enumerate(zip(self.network.layers, self.layers, strict=True)):
            y = module(*(known[name] for name in layer.inputs))
            known[layer.name] = y
            yield layer, y
            for name in {layer.name, *layer.inputs}:
                if self._last.get(name, -1) <= place:
                    del known[name]

    def _inputs(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        check_names(self.network, inputs)
        check_batches({name: len(x) for name, x in inputs.items()})
        return {given.name: _contained(given, inputs[given.name]) for given in self.network.inputs}


def _contained(given: Input, x: torch.Tensor) -> torch.Tensor:
    """An input in its container, when it is what the network takes."""
    dtype = str(x.dtype).removeprefix("torch.")
    check_input(given, tuple(x.shape), dtype, whole=x.dtype in _WHOLE)
    held = torch.int64 if given.type is None else container(given.type)
    full = given.type is not None and given.type.bits == 8 and x.dtype == held
    if x.numel() and not full:  # any int8 is a legal one
        low, high = x.to(torch.int64).aminmax()
        check_values(given, int(low), int(high))
    return x.to(held)


class QuantMove(nn.Module):
    """A move, which has no constants."""

    def __init__(self, move: Callable[..., torch.Tensor]) -> None:
        """Keep the function."""
        super().__init__()
        self.forward = move


def quantized_module(layer: IntegerLayer, *shapes: tuple[int, ...]) -> nn.Module:  # noqa: C901, PLR0911, PLR0912 (a case a record)
    """The torch module that computes an integer layer, for inputs of these shapes."""
    match layer:
        case IntegerConvolution():
            return QuantConvolution(layer)
        case IntegerLinear():
            return QuantLinear(layer)
        case IntegerMatMul():
            return QuantMatMul(layer, shapes[0])
        case IntegerAdd():
            return QuantAdd(layer)
        case IntegerMul():
            return QuantMul(layer)
        case IntegerRequantize():
            return QuantRequantize(layer)
        case IntegerTable():
            return QuantTable(layer)
        case IntegerAveragePool():
            return QuantAveragePool(layer, shapes[0])
        case IntegerMean():
            return QuantMean(layer, shapes[0])
        case IntegerSoftmax():
            return QuantSoftmax(layer, shapes[0])
        case IntegerLayerNorm():
            return QuantLayerNorm(layer)
        case IntegerLookup():
            return QuantLookup(layer)
        case IntegerConstant():
            return QuantConstant(layer)
        case FloatIsland():
            return QuantIsland(layer)
    move = moving(layer)
    if move is None:
        raise InvalidNetworkError(f"no torch module for {layer!r}")
    return QuantMove(move)


@torch.inference_mode()
def predict(
    network: QuantNetwork, inputs: Mapping[str, NDArray[Any]], batch: int = PREDICT_BATCH
) -> dict[str, NDArray[np.int64]]:
    """The outputs (n, *shape) of n inputs by name, a batch at a time."""
    count = max((len(x) for x in inputs.values()), default=1)
    alone = _without_batch(network.network, {name: len(x) for name, x in inputs.items()})
    parts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in network.network.outputs}
    for start in range(0, count, batch):
        taken = {
            name: torch.from_numpy(np.array(x if name in alone else x[start : start + batch]))
            for name, x in inputs.items()
        }
        for name, found in network(taken).items():
            parts[name].append(found.numpy().astype(np.int64))
    return {
        name: found[0] if name in alone else np.concatenate(found) for name, found in parts.items()
    }


def _without_batch(network: IntegerNetwork, batches: Mapping[str, int]) -> set[str]:
    """Tensors with a batch of one whatever the others have."""
    alone = {name for name, size in batches.items() if size == 1}
    for layer in network.layers:
        if alone.issuperset(layer.inputs):
            alone.add(layer.name)
    return alone
