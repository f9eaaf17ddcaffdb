"""The joint of the two wings: a network as a workload.

Convolutions, linear layers and matrix products are what the array computes; pools, tables, norms
and clamps happen where the accumulators leave it and cost it no cycles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraysmith.formats.layers import (
    Axis,
    apart,
    convolution_layer,
    product_layer,
    uniquely_named,
)
from arraysmith.networks.operations import Convolution, Linear, MatMul
from arraysmith.quantization.operations import IntegerMatMul
from arraysmith.quantization.products import IntegerConvolution, IntegerLinear
from arraysmith.workload import Gemm, Workload

if TYPE_CHECKING:
    from arraysmith.networks.graph import FloatGraph
    from arraysmith.quantization.network import IntegerNetwork
    from arraysmith.workload import Layer

    Shape = tuple[int, ...]


def workload(network: IntegerNetwork | FloatGraph, *, grouped: bool = False) -> Workload:
    """The layers of a network that a systolic array computes, for one input.

    Args:
        network: integers or floats.
        grouped: groups and independent products stay one layer, as the model `physical` takes
            them; else each becomes a layer, for SCALE-Sim knows neither.
    """
    shapes = network.shapes
    operations = network.layers if hasattr(network, "layers") else network.operations
    layers: list[Layer] = []
    for operation in operations:
        read = [shapes[name] for name in operation.inputs]
        if isinstance(operation, Convolution | IntegerConvolution):
            layers.append(_convolution(operation, read[0]))
        elif isinstance(operation, Linear | IntegerLinear):
            out, features = operation.weight.shape
            rows = 1
            for size in read[0][:-1]:
                rows *= size
            layers.append(Gemm(name=operation.name, M=rows, N=out, K=features))
        elif isinstance(operation, MatMul | IntegerMatMul):
            layers.append(product_layer(operation.name, *read))
    if not grouped:
        layers = [each for layer in layers for each in apart(layer)]
    return Workload(name=network.name, layers=uniquely_named(layers))


def _convolution(operation: Convolution | IntegerConvolution, ifmap: Shape) -> Layer:
    windows = operation.windows
    fields = zip(
        ifmap[1:],
        windows.before,
        windows.after,
        windows.size,
        windows.strides,
        windows.dilations,
        strict=True,
    )
    return convolution_layer(
        operation.name,
        images=1,
        channels=(ifmap[0], operation.weight.shape[0]),
        groups=operation.groups,
        axes=tuple(
            Axis(size=size, before=low, after=high, taps=taps, stride=stride, dilation=dilation)
            for size, low, high, taps, stride, dilation in fields
        ),
    )
