"""An integer network as an ONNX model of integer operators: the golden file.

Nothing in it is a float, so what a runtime may reorder, fuse or fold gives the same integers. That
is the difference to a model of QuantizeLinear and DequantizeLinear nodes, which states floats.
Tensors between layers are int8, uint8, int16 or uint16, accumulators (logits) int32, row numbers
int64. What runs is (2) and (3) of `docs/quantization.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper

from arraysmith.errors import InvalidNetworkError
from arraysmith.files import write_bytes
from arraysmith.networks.moves import (
    Concat,
    Expand,
    MaxPool,
    Pad,
    Reshape,
    Stretch,
    Take,
    Transpose,
)
from arraysmith.quantization.norms import IntegerLayerNorm, IntegerSoftmax
from arraysmith.quantization.onnx_integer import elements, moves, products
from arraysmith.quantization.onnx_integer.draft import Draft, carrier
from arraysmith.quantization.operations import (
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
from arraysmith.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from onnx import ModelProto, ValueInfoProto

    from arraysmith.quantization.network import IntegerNetwork
    from arraysmith.quantization.operations import IntegerLayer

OPSET, IR_VERSION = 21, 10

_EMITTERS: dict[type, Callable[[Draft, Any], str]] = {
    IntegerConvolution: products.weighted,
    IntegerLinear: products.weighted,
    IntegerMatMul: products.matmul,
    IntegerAdd: elements.add,
    IntegerMul: elements.mul,
    IntegerRequantize: elements.requantize,
    IntegerTable: elements.table,
    IntegerAveragePool: elements.average_pool,
    IntegerMean: elements.mean,
    IntegerSoftmax: elements.softmax,
    IntegerLayerNorm: elements.layer_norm,
    IntegerLookup: elements.lookup,
    IntegerConstant: elements.constant,
    Reshape: moves.reshape,
    Transpose: moves.transpose,
    Take: moves.take,
    Pad: moves.pad,
    Stretch: moves.stretch,
    Expand: moves.expand,
    Concat: moves.concat,
    MaxPool: moves.max_pool,
}

_DOCUMENT = """\
A quantized network in integers alone: real = scale * (q - zero_point), (1).
acc = sum((qx - zx) * (qw - zw)) + qb in int32, (2), by ConvInteger and MatMulInteger on uint8.
y = clamp(zy + ((acc * m + 2^(n-1)) >> n), low, high) in int64, (3): one rounding, ties up.
The scales of inputs and outputs are in the metadata; no tensor of the model is a float.
"""


def integer_model(
    network: IntegerNetwork, *, batch: int | None = None, every: bool = False
) -> ModelProto:
    """The network as integer ONNX operators, opset 21.

    Args:
        network: without float islands.
        batch: a fixed batch; None leaves it to who runs the model.
        every: every layer's tensor is an output, not the network's outputs alone.

    Raises:
        InvalidNetworkError: an operation of the network runs in floats.
    """
    if network.islands:
        island = network.islands[0]
        raise InvalidNetworkError(
            f"layer {island.name!r} runs in floats, which a model of integers cannot hold; export "
            "a QDQ model, or quantize with --integer-only"
        )
    draft = Draft(network)
    for layer in network.layers:
        draft.begin(layer.name)
        tensor = _EMITTERS[type(layer)](draft, layer)
        draft.end(tensor, layer.inputs, _output_carrier(draft, layer))
    names = [layer.name for layer in network.layers] if every else network.outputs
    size = "batch" if batch is None else batch
    graph = helper.make_graph(
        draft.nodes,
        network.name,
        _tensors(draft, (given.name for given in network.inputs), size),
        _tensors(draft, dict.fromkeys(names), size),
        list(draft.constants.values()),
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="arraysmith",
        producer_version=__version__,
        doc_string=_DOCUMENT,
    )
    helper.set_model_props(
        model, _scales(draft, [*network.outputs, *(i.name for i in network.inputs)])
    )
    return model


def export_integer(
    network: IntegerNetwork, path: Path, *, batch: int | None = None, every: bool = False
) -> None:
    """Write `integer_model` to `path`, whole or not at all.

    Raises:
        InvalidNetworkError: an operation of the network runs in floats.
        OutputError: the file cannot be written.
    """
    model = integer_model(network, batch=batch, every=every)
    write_bytes(path, model.SerializeToString(deterministic=True))


def _output_carrier(draft: Draft, layer: IntegerLayer) -> np.dtype[Any]:
    type_ = draft.types[layer.name]
    if type_ is not None:
        return carrier(type_)
    if isinstance(layer, IntegerConvolution | IntegerLinear):
        return np.dtype(np.int32)
    return np.result_type(*(draft.carriers[name] for name in layer.inputs))


def _tensors(draft: Draft, names: Iterable[str], batch: str | int) -> list[ValueInfoProto]:
    return [
        helper.make_tensor_value_info(
            name,
            helper.np_dtype_to_tensor_dtype(draft.carriers[name]),
            (1 if name in draft.single else batch, *draft.shapes[name]),
        )
        for name in names
    ]


def _scales(draft: Draft, names: Iterable[str]) -> dict[str, str]:
    """What the integers of inputs and outputs stand for, in words."""
    found = {}
    for name in names:
        if (type_ := draft.types[name]) is not None:
            found[name] = (
                f"scale {type_.scale!r} zero_point {type_.zero_point} "
                f"qmin {type_.qmin} qmax {type_.qmax}"
            )
    return found
