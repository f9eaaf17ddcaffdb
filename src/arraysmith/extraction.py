"""The joint of the two wings: an int8 network as a workload.

Convolutions and linear layers are what the array computes; pools, tables and clamps happen where
the accumulators leave it and cost it no cycles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraysmith.quantization.network import IntegerConv2d, IntegerLinear
from arraysmith.workload import Conv2d, Gemm, Workload

if TYPE_CHECKING:
    from arraysmith.quantization.network import IntegerNetwork
    from arraysmith.workload import Layer


def workload(network: IntegerNetwork) -> Workload:
    """The layers of a network that a systolic array computes, for one image."""
    layers: list[Layer] = []
    for layer, shape in zip(network.layers, network.shapes, strict=False):
        if isinstance(layer, IntegerConv2d):
            out, in_channels, filter_rows, filter_cols = layer.weight.shape
            layers.append(
                Conv2d(
                    name=layer.name,
                    ifmap_rows=shape[1],
                    ifmap_cols=shape[2],
                    filter_rows=filter_rows,
                    filter_cols=filter_cols,
                    in_channels=in_channels,
                    out_channels=out,
                    stride=layer.stride,
                    padding=layer.padding,
                )
            )
        elif isinstance(layer, IntegerLinear):
            out, features = layer.weight.shape
            layers.append(Gemm(name=layer.name, M=1, N=out, K=features))
    return Workload(name=network.name, layers=tuple(layers))
