"""A float network becomes an int8 network: ranges, integers, and the bias correction.

The chain is walked once. A weighted layer takes a ReLU behind it into its clamp, and the average
pool behind that into its accumulator where the scheme fuses pools; other activations become tables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from arraysmith.errors import InvalidNetworkError
from arraysmith.models import Activation, ActivationKind, AveragePool, Convolution, Flatten, Linear
from arraysmith.affine import Affine, affine_from_range, requantization
from arraysmith.quantization.calibration import calibrated_range, observe
from arraysmith.quantization.modules import quantized_module
from arraysmith.quantization.network import (
    INT32_MAX,
    INT32_MIN,
    IntegerAveragePool,
    IntegerConv2d,
    IntegerFlatten,
    IntegerLinear,
    IntegerNetwork,
    IntegerTable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from arraysmith.learning.network import FloatNetwork
    from arraysmith.models import LayerSpec
    from arraysmith.affine import Requantization
    from arraysmith.quantization.calibration import Observation
    from arraysmith.quantization.network import IntegerLayer
    from arraysmith.quantization.scheme import Scheme

_FUNCTIONS: dict[ActivationKind, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    ActivationKind.RELU: lambda x: np.maximum(x, 0),
    ActivationKind.TANH: np.tanh,
    ActivationKind.SIGMOID: lambda x: 1 / (1 + np.exp(-x)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """An int8 network, and which float layer each of its layers ends with."""

    network: IntegerNetwork
    scheme: Scheme
    float_names: dict[str, str]
    """Integer layer to the last float layer inside it."""


def quantize(
    network: FloatNetwork,
    images: NDArray[np.uint8],
    normalise: Callable[[NDArray[np.uint8]], torch.Tensor],
    scheme: Scheme,
    observed: dict[str, Observation] | None = None,
) -> Quantized:
    """Quantize a float network.

    Args:
        network: the float network, in evaluation mode.
        images: calibration images (n, rows, columns), uint8, taken from the training images.
        normalise: pixels to the float network's input.
        scheme: the choices.
        observed: what `observe` saw on these images, if it was asked before.

    Raises:
        InvalidNetworkError: the network has no integer form under this scheme, or gives NaN.
    """
    observed = observed or observe(network, normalise(images))
    chain = _Chain(network, scheme, observed)
    layers, float_names = chain.walk()
    pixels = np.arange(256, dtype=np.uint8).reshape(256, 1, 1)
    table = chain.affine("input").quantize(normalise(pixels).reshape(256).numpy())
    integer_network = IntegerNetwork(
        name=network.spec.name,
        input_shape=network.spec.input_shape,
        input_table=table,
        layers=tuple(layers),
    )
    if scheme.bias_correction:
        integer_network = _correct_biases(integer_network, images, observed)
    return Quantized(network=integer_network, scheme=scheme, float_names=float_names)


class _Chain:
    """Walks the layers of a spec and writes their integer forms."""

    def __init__(
        self, network: FloatNetwork, scheme: Scheme, observed: dict[str, Observation]
    ) -> None:
        self.spec, self.scheme, self.observed = network.spec, scheme, observed
        self.parameters = {
            name: tensor.detach().double().numpy() for name, tensor in network.state_dict().items()
        }

    def affine(self, name: str) -> Affine:
        """The calibrated `Affine` of a float layer's output."""
        low, high = calibrated_range(self.observed[name], self.scheme)
        return affine_from_range(
            low,
            high,
            signed=self.scheme.signed_activations,
            power_of_two=self.scheme.power_of_two,
        )

    def walk(self) -> tuple[list[IntegerLayer], dict[str, str]]:
        """All integer layers, and the last float layer inside each."""
        rest = list(self.spec.layers)
        x = self.affine("input")
        layers: list[IntegerLayer] = []
        names: dict[str, str] = {}
        while rest:
            layer = rest.pop(0)
            made, last = self._layer(layer, rest, x)
            layers.append(made)
            names[made.name] = last.name
            if made.output is not None:
                x = made.output
        return layers, names

    def _layer(
        self, layer: LayerSpec, rest: list[LayerSpec], x: Affine
    ) -> tuple[IntegerLayer, LayerSpec]:
        match layer:
            case Convolution() | Linear():
                return self._weighted(layer, rest, x)
            case AveragePool():
                y = self.affine(layer.name)
                constants = self._requantization(x.scale / y.scale / layer.window**2)
                pool = IntegerAveragePool(
                    name=layer.name,
                    window=layer.window,
                    input=x,
                    output=y,
                    requantization=constants,
                )
                return pool, layer
            case Activation():
                y = self.affine(layer.name)
                reals = x.dequantize(np.arange(x.qmin, x.qmax + 1))
                table = y.quantize(_FUNCTIONS[layer.kind](reals))
                return IntegerTable(name=layer.name, table=table, input=x, output=y), layer
            case Flatten():
                return IntegerFlatten(name=layer.name, input=x), layer
        raise InvalidNetworkError(f"no integer form for {layer!r}")

    def _weighted(
        self, layer: Convolution | Linear, rest: list[LayerSpec], x: Affine
    ) -> tuple[IntegerLayer, LayerSpec]:
        """A convolution or linear layer with what it takes in: ReLU, then the average pool."""
        last: LayerSpec = layer
        relu = bool(rest) and isinstance(rest[0], Activation) and rest[0].kind == "relu"
        if relu and len(rest) == 1:
            raise InvalidNetworkError(
                f"network {self.spec.name!r} ends in {rest[0].name!r}; "
                "end it in the layer that gives the logits"
            )
        if relu:
            last = rest.pop(0)
        pool = 1
        if (
            self.scheme.fuse_pool
            and isinstance(layer, Convolution)
            and len(rest) > 1
            and isinstance(rest[0], AveragePool)
        ):
            pool, last = rest[0].window, rest.pop(0)
        y = self.affine(last.name) if rest else None
        weights = self._weights(layer.name, per_channel=self.scheme.per_channel and y is not None)
        scale = np.array([w.scale for w in weights])
        zero_point = np.array([w.zero_point for w in weights], np.int64)
        real = self.parameters[f"{layer.name}.weight"]
        q = np.stack([w.quantize(channel) for w, channel in zip(weights, real, strict=True)])
        factor = None if y is None else x.scale * scale / y.scale / pool**2
        if factor is not None and not self.scheme.per_channel:
            factor = factor[:1]
        common: dict[str, Any] = {
            "name": layer.name,
            "weight": q.astype(np.int8),
            "weight_zero_point": zero_point,
            "weight_scale": scale,
            "bias": _bias(layer.name, self.parameters[f"{layer.name}.bias"], x.scale * scale),
            "input": x,
            "output": y,
            "requantization": None if factor is None else self._requantization(factor),
            "relu": relu,
        }
        if isinstance(layer, Linear):
            return IntegerLinear(**common), last
        return (
            IntegerConv2d(**common, stride=layer.stride, padding=layer.padding, pool=pool),
            last,
        )

    def _weights(self, name: str, *, per_channel: bool) -> list[Affine]:
        """One `Affine` an output channel. Logits share one, or they could not be compared."""
        real = self.parameters[f"{name}.weight"]
        channels = real.reshape(len(real), -1)
        groups = channels if per_channel else channels.reshape(1, -1)
        found = [
            affine_from_range(
                group.min(),
                group.max(),
                symmetric=self.scheme.symmetric_weights,
                power_of_two=self.scheme.power_of_two,
            )
            for group in groups
        ]
        return found if per_channel else found * len(real)

    def _requantization(self, factor: NDArray[np.float64] | float) -> Requantization:
        return requantization(
            factor, self.scheme.multiplier_bits, shift_only=self.scheme.power_of_two
        )


def _bias(name: str, real: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.int32]:
    """Biases on the scale of the accumulator, nearest, ties up."""
    q = np.floor(real / scale + 0.5)
    if not ((q >= INT32_MIN) & (q <= INT32_MAX)).all():
        raise InvalidNetworkError(
            f"layer {name!r}: a bias of {real[np.abs(q).argmax()]:g} does not fit int32 at a "
            "scale of its accumulator; give the layer's weights a wider range"
        )
    return q.astype(np.int32)


@torch.inference_mode()
def _correct_biases(
    network: IntegerNetwork, images: NDArray[np.uint8], observed: dict[str, Observation]
) -> IntegerNetwork:
    """Shift every int32 bias so that the accumulator's channel means match the float network's.

    Layers are corrected in order, each on what the corrected ones before it give (Nagel et al.,
    ICCV 2019, section 4.2, with measured means). The mean of an accumulator is linear in its
    inputs, so it comes from the sum of the input integers over all images.
    """
    x = torch.from_numpy(network.input_table[images].reshape(-1, *network.input_shape))
    layers: list[IntegerLayer] = []
    for layer in network.layers:
        corrected = layer
        if isinstance(layer, IntegerConv2d | IntegerLinear):
            found = _accumulator_means(layer, x) * layer.accumulator_scale
            missing = observed[layer.name].channel_means - found
            real = layer.bias * layer.accumulator_scale + missing
            bias = _bias(layer.name, real, layer.accumulator_scale)
            corrected = replace(layer, bias=bias)
        layers.append(corrected)
        module = quantized_module(corrected)
        x = torch.cat([module(batch) for batch in x.split(500)])
    return replace(network, layers=tuple(layers))


def _accumulator_means(
    layer: IntegerConv2d | IntegerLinear, x: torch.Tensor
) -> NDArray[np.float64]:
    """(out,): mean of acc over images and positions."""
    total = (x.to(torch.int64) - layer.input.zero_point).sum(0, keepdim=True)
    weight = torch.from_numpy(layer.centred_weight)
    if isinstance(layer, IntegerConv2d):
        total = torch.nn.functional.conv2d(
            total.double(), weight.double(), stride=layer.stride, padding=layer.padding
        ).mean((2, 3))
    else:
        total = total.double() @ weight.double().T
    means: NDArray[np.float64] = total[0].numpy() / len(x) + layer.bias
    return means
