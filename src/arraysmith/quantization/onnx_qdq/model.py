"""An integer network as the QDQ ONNX model that other tools read: floats between integers.

Every tensor is rounded by QuantizeLinear and read back by DequantizeLinear; weights are stored as
integers, behind a DequantizeLinear with one scale a channel. Ordinary models are close to the
integer network; exact ones give its integers bit for bit (`exactness`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper

from arraysmith.errors import InvalidNetworkError
from arraysmith.files import write_bytes
from arraysmith.networks.moves import (
    MOVES,
    Concat,
    Expand,
    MaxPool,
    Move,
    Reshape,
    Stretch,
    Take,
    Transpose,
)
from arraysmith.quantization.norms import IntegerLayerNorm, IntegerSoftmax
from arraysmith.quantization.onnx_integer import elements
from arraysmith.quantization.onnx_integer import moves as integer_moves
from arraysmith.quantization.onnx_integer.draft import carrier
from arraysmith.quantization.onnx_qdq import functions, products
from arraysmith.quantization.onnx_qdq.draft import QdqDraft, float32
from arraysmith.quantization.onnx_qdq.exactness import power_of_two
from arraysmith.quantization.onnx_qdq.islands import island
from arraysmith.quantization.onnx_qdq.moves import move
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
from arraysmith.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onnx import ModelProto, NodeProto, ValueInfoProto

    from arraysmith.networks.graph import Input
    from arraysmith.quantization.network import IntegerNetwork
    from arraysmith.quantization.operations import IntegerLayer

OPSET, IR_VERSION = 21, 10

_IN_FLOATS: dict[type, Callable[[QdqDraft, Any], None]] = {
    IntegerConvolution: products.convolution,
    IntegerLinear: products.linear,
    IntegerMatMul: products.matmul,
    IntegerAdd: products.add,
    IntegerMul: products.mul,
    IntegerRequantize: products.requantize,
    IntegerMean: products.mean,
    IntegerAveragePool: functions.average_pool,
    IntegerSoftmax: functions.softmax,
    IntegerLayerNorm: functions.layer_norm,
    FloatIsland: island,
}
_IN_INTEGERS: dict[type, Callable[[QdqDraft, Any], str]] = {
    IntegerTable: elements.table,
    IntegerLookup: elements.lookup,
    IntegerConstant: elements.constant,
}
_EXACT_IN_INTEGERS: dict[type, Callable[[QdqDraft, Any], str]] = {
    IntegerSoftmax: elements.softmax,
    IntegerLayerNorm: elements.layer_norm,
}
_OF_ACCUMULATORS: dict[type, Callable[[QdqDraft, Any], str]] = {
    Reshape: integer_moves.reshape,
    Transpose: integer_moves.transpose,
    Take: integer_moves.take,
    Expand: integer_moves.expand,
    Concat: integer_moves.concat,
    MaxPool: integer_moves.max_pool,
}
_DOCUMENT = """\
A quantized network: QuantizeLinear and DequantizeLinear around float operations.
real = scale * (q - zero_point); a weight's scale is one a channel, a bias has scale sx * sw.
"""
_EXACT = """\
Its floats are exact: all sums are below 2^24 units, and a nudge of half a unit leaves no ties.
"""


def qdq_model(
    network: IntegerNetwork, *, exact: bool = False, batch: int | None = None, every: bool = False
) -> ModelProto:
    """The network as QDQ operators, opset 21.

    Its inputs are the reals, float32 (batch, *shape), which it quantizes itself, pixels (scale 1)
    included; row numbers are int64. Its outputs are reals, too, named as the network's.

    Args:
        network: any; what it computes in floats (`FloatIsland`) is float operators here.
        exact: every integer is that of the network, at every level of optimization.
        batch: a fixed batch; None leaves it to who runs the model.
        every: the outputs are the integers of every layer, by its name, for verification.

    Raises:
        InvalidNetworkError: `exact`, and an activation's scale is no power of two, a sum is too
            large or a multiplier too long for float32, or an operation runs in floats; or an output
            is an input.
    """
    given = {each.name for each in network.inputs}
    if not every and given.intersection(network.outputs):
        raise InvalidNetworkError(
            f"network {network.name!r} gives its input {min(given & set(network.outputs))!r} back; "
            "remove that output"
        )
    draft = QdqDraft(network, exact=exact)
    for each in network.inputs:
        _input(draft, each)
    for layer in network.layers:
        draft.begin(layer.name)
        _layer(draft, layer)
    names = [layer.name for layer in network.layers] if every else [*dict.fromkeys(network.outputs)]
    return _model(network, draft, names, "batch" if batch is None else batch, every=every)


def export_qdq(network: IntegerNetwork, path: Path, *, exact: bool = False) -> None:
    """Write `qdq_model` to `path`, whole or not at all.

    Raises:
        InvalidNetworkError: as in `qdq_model`.
        OutputError: the file cannot be written.
    """
    write_bytes(path, qdq_model(network, exact=exact).SerializeToString(deterministic=True))


def _input(draft: QdqDraft, given: Input) -> None:
    """Reals to integers; in exact mode with ties up, as `Affine.quantize` rounds.

    ⌊2v⌋/2 + 1/4 of v = real/scale is never a tie, and nearest to the integer ⌊v + 1/2⌋.
    """
    draft.begin(given.name)
    if given.type is None:
        return
    real = _outside(given.name)
    if draft.exact:
        power_of_two(Move(name=given.name, inputs=()), "reals", given.type.scale)
        half = float32(given.type.scale / 2)
        real = draft.emit("Floor", draft.emit("Mul", real, float32(2 / given.type.scale)))
        real = draft.emit("Add", draft.emit("Mul", real, half), float32(half / 2))
    draft.quantize(real, (given.name,), given.type)


def _outside(name: str) -> str:
    return f"{name}/given"


def _layer(draft: QdqDraft, layer: IntegerLayer) -> None:
    """Integers and reals of one layer."""
    if isinstance(layer, MOVES):
        _move(draft, layer)
        return
    if draft.exact and isinstance(layer, FloatIsland):
        raise layer.refuse(
            "it runs in floats, so no model gives its integers exactly; export without exact"
        )
    in_integers = _IN_INTEGERS | (_EXACT_IN_INTEGERS if draft.exact else {})
    if type(layer) not in in_integers:
        _IN_FLOATS[type(layer)](draft, layer)
        return
    type_ = draft.types[layer.name]
    assert type_ is not None  # noqa: S101 (only weighted layers and moves have none)
    draft.end(in_integers[type(layer)](draft, layer), layer.inputs, carrier(type_))
    draft.dequantize(type_)


def _move(draft: QdqDraft, layer: Any) -> None:  # noqa: ANN401 (any of the moves)
    """Between QDQ pairs; a stretch, of several operators, on integers.

    Accumulators are moved as reals, and as the integers that they are, side by side.
    """
    type_ = draft.types[layer.name]
    if isinstance(layer, Stretch) and type_ is not None:
        draft.end(integer_moves.stretch(draft, layer), layer.inputs, carrier(type_))
        draft.dequantize(type_)
        return
    if type_ is not None:
        draft.quantize_within(move(draft, layer), layer.inputs, type_)
        return
    home = np.result_type(*(draft.carriers[name] for name in layer.inputs))
    if home != np.int64:  # row numbers stand for no reals
        draft.name_real(move(draft, layer))
    draft.end(_OF_ACCUMULATORS[type(layer)](draft, layer), layer.inputs, home)


def _model(
    network: IntegerNetwork, draft: QdqDraft, names: list[str], size: str | int, *, every: bool
) -> ModelProto:
    """The model that gives the integers of `names` (`every`), or their reals."""
    has_reals = {node.output[0] for node in draft.nodes}
    sources = {
        name: name if every or draft.real(name) not in has_reals else draft.real(name)
        for name in names
    }
    nodes = _needed(draft.nodes, set(sources.values()))
    given = {each.name: each.type for each in network.inputs}
    new = {_outside(name): name for name, type_ in given.items() if type_}
    new |= {name: f"{name}/integers" for name, type_ in given.items() if type_}
    if not every:
        new |= {name: f"{name}/integers" for name in names} | {
            source: name for name, source in sources.items()
        }
    _rename(nodes, new)
    read = {name for node in nodes for name in node.input}
    constants = [*draft.stored_constants.values(), *draft.constants.values()]
    graph = helper.make_graph(
        nodes,
        network.name,
        [_tensor(draft, name, size, real=type_ is not None) for name, type_ in given.items()],
        [_tensor(draft, name, size, real=source != name) for name, source in sources.items()],
        [tensor for tensor in constants if tensor.name in read],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="arraysmith",
        producer_version=__version__,
        doc_string=_DOCUMENT + (_EXACT if draft.exact else ""),
    )
    helper.set_model_props(model, {"arithmetic": "exact" if draft.exact else "ordinary"})
    return model


def _needed(nodes: list[NodeProto], wanted: set[str]) -> list[NodeProto]:
    """Those that the wanted tensors depend on, in order."""
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted |= set(node.input)
            kept.append(node)
    return kept[::-1]


def _rename(nodes: list[NodeProto], new: dict[str, str]) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            names[:] = [new.get(name, name) for name in names]


def _tensor(draft: QdqDraft, name: str, size: str | int, *, real: bool) -> ValueInfoProto:
    type_ = np.dtype(np.float32) if real else draft.carriers[name]
    batch = 1 if name in draft.single else size
    kind = helper.np_dtype_to_tensor_dtype(type_)
    return helper.make_tensor_value_info(name, kind, (batch, *draft.shapes[name]))
