"""The float network: a torch module made from a `NetworkSpec`, and its parameters in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from arraysmith.errors import InvalidNetworkError
from arraysmith.models import (
    Activation,
    ActivationKind,
    AveragePool,
    Convolution,
    Flatten,
    LayerSpec,
    Linear,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from arraysmith.models import NetworkSpec

_ACTIVATIONS: dict[ActivationKind, type[nn.Module]] = {
    ActivationKind.RELU: nn.ReLU,
    ActivationKind.TANH: nn.Tanh,
    ActivationKind.SIGMOID: nn.Sigmoid,
}

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

Parameters = dict[str, torch.Tensor]


class FloatNetwork(nn.Module):
    """The layers of a spec, one torch module each, in order; parameters named `layer.weight`."""

    def __init__(self, spec: NetworkSpec) -> None:
        """Build the modules with torch's default initialisation."""
        super().__init__()
        self.spec = spec
        for layer in spec.layers:
            self.add_module(layer.name, _module(layer))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, *input_shape) float32 to logits (batch, classes)."""
        for _, output in self.trace(x):
            x = output
        return x

    def trace(self, x: torch.Tensor) -> Iterator[tuple[LayerSpec, torch.Tensor]]:
        """Every layer with its output, in order."""
        for layer in self.spec.layers:
            x = self.get_submodule(layer.name)(x)
            yield layer, x


def float_network(spec: NetworkSpec, parameters: Mapping[str, torch.Tensor]) -> FloatNetwork:
    """A network with given parameters, ready for inference.

    Raises:
        InvalidNetworkError: a tensor is missing, too many, of another shape, or not finite.
    """
    check_parameters(spec, parameters)
    network = FloatNetwork(spec)
    network.load_state_dict({name: tensor.float() for name, tensor in parameters.items()})
    return network.eval()


def check_parameters(spec: NetworkSpec, parameters: Mapping[str, torch.Tensor]) -> None:
    """Compare names, shapes and values of `parameters` with what `spec` needs."""
    expected = spec.parameter_shapes
    missing = [name for name in expected if name not in parameters]
    extra = [name for name in parameters if name not in expected]
    if missing or extra:
        raise InvalidNetworkError(
            f"parameters do not fit {spec.name!r}: "
            f"missing {', '.join(missing) or 'none'}; "
            f"not in the network {', '.join(extra) or 'none'}"
        )
    for name, shape in expected.items():
        tensor = parameters[name]
        if tensor.dtype not in _FLOATS or tensor.layout != torch.strided or tensor.is_nested:
            kind = tensor.dtype if tensor.dtype not in _FLOATS else "not a dense tensor"
            raise InvalidNetworkError(f"tensor {name!r} is {kind}, expected floats")
        if tensor.device.type != "cpu":
            raise InvalidNetworkError(f"tensor {name!r} has no values (device {tensor.device})")
        if tuple(tensor.shape) != shape:
            raise InvalidNetworkError(
                f"tensor {name!r} has shape {tuple(tensor.shape)}, {spec.name!r} needs {shape}"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise InvalidNetworkError(f"tensor {name!r} holds NaN or infinity; train it again")


def _module(layer: LayerSpec) -> nn.Module:
    match layer:
        case Convolution():
            return nn.Conv2d(
                layer.in_channels,
                layer.out_channels,
                layer.filter,
                stride=layer.stride,
                padding=layer.padding,
            )
        case Linear():
            return nn.Linear(layer.in_features, layer.out_features)
        case AveragePool():
            return nn.AvgPool2d(layer.window)
        case Flatten():
            return nn.Flatten()
        case Activation():
            return _ACTIVATIONS[layer.kind]()
    raise InvalidNetworkError(f"no torch module for {layer!r}")
