"""A float graph from an ONNX file: what a network computes, with its trained numbers.

The first axis of every input is the batch; it need not be given. Whatever depends on no input is
computed while the file is read; the rest becomes operations, node by node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto

from arraysmith.affine import Affine
from arraysmith.errors import InputFileError, InvalidNetworkError
from arraysmith.formats.onnx_graph import checked_nodes, parsed
from arraysmith.formats.onnx_import import (
    functions,
    moves,
    products,
    quantized,
    reductions,
    resize,
    windows,
)
from arraysmith.formats.onnx_import.draft import BUDGET_PER_BYTE, Draft, Tensor, human_names
from arraysmith.formats.onnx_import.folding import constant_value, fold, is_foldable
from arraysmith.formats.onnx_import.patterns import composed
from arraysmith.formats.onnx_import.site import MAX_WORDS, Site
from arraysmith.formats.onnx_import.weights import Store
from arraysmith.formats.onnx_shapes import printable, set_inputs
from arraysmith.networks.graph import FloatGraph, Input, inferred_shapes
from arraysmith.networks.moves import Reshape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

    from arraysmith.formats.onnx_graph import Node
    from arraysmith.networks.operations import FloatOperation

OLDEST_OPSET = 6
_BUDGET = 1 << 30
"""Bytes of constants that a small file may make; a large one some times its own size."""
_REALS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
_WHOLES: dict[int, Affine | None] = {
    TensorProto.UINT8: Affine(scale=1.0, zero_point=0, qmin=0, qmax=255),
    TensorProto.INT8: Affine(scale=1.0, zero_point=0, qmin=-128, qmax=127),
    TensorProto.INT16: None,
    TensorProto.INT32: None,
    TensorProto.INT64: None,
}


def read_network(path: Path, shapes: Mapping[str, Sequence[int]] | None = None) -> FloatGraph:
    """Read a network from an ONNX file, with its weights.

    Args:
        path: the file, of opset 6 or newer; floats, or with QuantizeLinear and DequantizeLinear.
        shapes: of inputs, by name and with the batch in front, where the file leaves sizes open.
            The batch alone need not be given.

    Returns:
        The network. Its inputs have the file's order and names made safe; those that nothing reads
        are left out. Types are those of QuantizeLinear nodes, if there are any.

    Raises:
        InputFileError: no ONNX model, damaged, contradictory, of open sizes, or with an operation
            or a number that is not read; the message names file, node or tensor, and the way out.
    """
    model = parsed(path)
    nodes = _needed(model.graph, checked_nodes(path, model))
    draft = _draft(path, model, shapes or {})
    names = human_names(node for node, _ in nodes)
    try:
        for (node, proto), name in zip(nodes, names, strict=True):
            site = Site(draft=draft, node=node, proto=proto, base=name)
            try:
                _read(site)
            except InvalidNetworkError as error:
                raise site.refuse(f"{error}; mend the model") from error
        return _graph(draft, model.graph)
    except InvalidNetworkError as error:
        raise InputFileError(f"{path}: {error}; mend the model") from error


def _needed(graph: GraphProto, nodes: tuple[Node, ...]) -> list[tuple[Node, NodeProto]]:
    """Nodes that an output depends on."""
    wanted = {value.name for value in graph.output}
    found = []
    for node, proto in zip(reversed(nodes), reversed(graph.node), strict=True):
        if wanted.intersection(filter(None, node.outputs)):
            wanted.update(node.inputs)
            found.append((node, proto))
    return found[::-1]


def _draft(path: Path, model: ModelProto, shapes: Mapping[str, Sequence[int]]) -> Draft:
    graph = model.graph
    opset = max(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    if opset < OLDEST_OPSET:
        raise InputFileError(
            f"{path}: has opset {opset}; {OLDEST_OPSET} and newer are read: convert it with "
            "onnx.version_converter, or export it again"
        )
    if graph.sparse_initializer:
        raise InputFileError(f"{path}: has sparse weights; export the model with dense ones")
    batch = _set_batch(path, graph, shapes)
    draft = Draft(
        path=path,
        store=Store(path=path),
        batch=batch,
        opset=opset,
        budget=max(_BUDGET, BUDGET_PER_BYTE * model.ByteSize()),
        initializers={tensor.name: tensor for tensor in graph.initializer},
    )
    read = {name for node in graph.node for name in node.input}
    for value in graph.input:
        if value.name not in draft.initializers and value.name in read:
            _add_input(draft, value)
    return draft


def _set_batch(path: Path, graph: GraphProto, shapes: Mapping[str, Sequence[int]]) -> int:
    """Give all inputs their shapes; the open first size is that of another, else 1."""
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    read = {name for node in graph.node for name in node.input}
    inputs = [value for value in graph.input if value.name not in weights and value.name in read]
    firsts = [sizes[0] for sizes in shapes.values() if sizes]
    for value in inputs:
        dimensions = value.type.tensor_type.shape.dim
        if dimensions and dimensions[0].dim_value > 0:
            firsts.append(dimensions[0].dim_value)
    batch = firsts[0] if firsts else 1
    for value in inputs:
        dimensions = value.type.tensor_type.shape.dim
        if value.name not in shapes and dimensions and dimensions[0].dim_value < 1:
            dimensions[0].dim_value = batch
    set_inputs(path, graph, weights, shapes)
    if any(first != batch for first in firsts):
        raise InputFileError(
            f"{path}: its inputs begin with the sizes {', '.join(map(str, firsts[:8]))}; the first "
            "axis of every input is the batch, give one size"
        )
    return batch


def _add_input(draft: Draft, value: ValueInfoProto) -> None:
    where = f"{draft.path}: input {printable(value.name)!r}"
    kind = value.type.tensor_type.elem_type
    if not value.type.HasField("tensor_type") or kind not in (*_REALS, *_WHOLES):
        raise InputFileError(f"{where} is no tensor of reals or whole numbers; export it otherwise")
    sizes = tuple(each.dim_value for each in value.type.tensor_type.shape.dim)
    if not sizes:
        raise InputFileError(f"{where} is one number; the first axis of every input is the batch")
    if np.prod(sizes, dtype=np.float64) > MAX_WORDS:
        raise InputFileError(f"{where} of shape {list(sizes)} has more than {MAX_WORDS:,} words")
    name = draft.named(value.name.strip("/"))
    draft.inputs[name] = Input(name=name, shape=sizes[1:], type=_WHOLES.get(kind))
    draft.tensors[value.name] = Tensor(name=name, shape=sizes[1:], whole=kind in _WHOLES)


def _read(site: Site) -> None:
    """Compute a node, or add what it is."""
    node, draft = site.node, site.draft
    known = all(draft.is_constant(name) for name in node.inputs if name)
    _check_count(site)
    if node.op == "Constant":
        constant_value(site)
    elif node.op in ("Shape", "Size") and not known:
        _measured(site)
    elif known and is_foldable(node.op):
        fold(site)
    elif node.op in _READ:
        _READ[node.op](site)
    else:
        way = _WAYS.get(node.op, "is not read; export the model with other operations")
        raise site.refuse(f"{way} (docs/onnx.md lists what is)")


def _check_count(site: Site) -> None:
    """Refuse a node of the standard that its opset does not have, or with too many inputs."""
    node, opset = site.node, site.draft.opset
    if ":" in node.op:
        return
    try:
        schema = onnx.defs.get_schema(node.op, opset, "")
    except onnx.defs.SchemaError:
        raise site.refuse(f"is no operation of opset {opset}; export the model again") from None
    if len(node.inputs) > schema.max_input:
        raise site.refuse(
            f"has {len(node.inputs)} inputs, {schema.max_input} at most are known; export it again"
        )


def _measured(site: Site) -> None:
    """Shape and Size of a tensor that is computed."""
    x = site.tensor(0, whole=True, moved=True)
    full = np.array(x.full_shape(site.draft.batch), np.int64)
    if site.node.op == "Size":
        site.give_constant(full.prod())
        return
    start, end = site.integer("start", 0), site.integer("end", len(full))
    site.give_constant(full[start:end])


def _graph(draft: Draft, graph: GraphProto) -> FloatGraph:
    """The records, without what no output needs."""
    operations = {each.name: each for each in draft.operations}
    outputs = [_output(draft, operations, printable(value.name)) for value in graph.output]
    inputs = tuple(draft.inputs.values())
    name = draft.path.stem
    shapes = inferred_shapes(name, inputs, tuple(operations.values()), outputs)
    put, renamed = composed(operations.values(), shapes, {*outputs, *draft.types})
    outputs = [renamed.get(each, each) for each in outputs]
    types = {renamed.get(each, each): affine for each, affine in draft.types.items()}
    read, live = set(outputs), []
    for each in reversed(put):
        if each.name in read:
            live.append(each)
            read.update(each.inputs)
    kept = tuple(each for each in inputs if each.name in read)
    if not kept:
        raise InputFileError(f"{draft.path}: its outputs depend on no input; export it again")
    return FloatGraph(
        name=name,
        inputs=kept,
        operations=tuple(reversed(live)),
        outputs=tuple(outputs),
        types={each: affine for each, affine in types.items() if each in read},
        weight_types={each: kind for each, kind in draft.weight_types.items() if each in read},
    )


def _output(draft: Draft, operations: dict[str, FloatOperation], name: str) -> str:
    """The tensor of an output; what is no operation's becomes one."""
    found = draft.tensors.get(name)
    if found is None and not draft.is_constant(name):
        raise InputFileError(f"{draft.path}: nothing makes its output {name!r}; export it again")
    made: FloatOperation
    if found is None:
        raise InputFileError(
            f"{draft.path}: its output {name!r} depends on no input; export the model without it"
        )
    if found.batch_axis:
        raise InputFileError(
            f"{draft.path}: its output {name!r} has the batch at axis {found.batch_axis}; the "
            "first axis is the batch: transpose it"
        )
    if found.name in operations:
        return found.name
    made = Reshape(name=draft.named(name), inputs=(found.name,), shape=found.shape)
    operations[made.name] = made
    return made.name


_READ: dict[str, Callable[[Site], None]] = {
    **dict.fromkeys(functions.FUNCTIONS, functions.function),
    "Add": functions.total,
    "AveragePool": windows.pool,
    "BatchNormalization": functions.batch_normalization,
    "Cast": moves.cast,
    "Concat": moves.concat,
    "Conv": windows.convolution,
    "ConvTranspose": windows.transposed_convolution,
    "DepthToSpace": moves.depth_to_space,
    "DequantizeLinear": quantized.dequantize,
    "Div": functions.quotient,
    "Dropout": moves.same,
    "Expand": moves.expand,
    "Flatten": moves.flatten,
    "Gather": products.gather,
    "Gemm": products.gemm,
    "GlobalAveragePool": windows.global_pool,
    "GlobalMaxPool": windows.global_pool,
    "GroupNormalization": reductions.image_normalization,
    "Identity": moves.same,
    "InstanceNormalization": reductions.image_normalization,
    "LRN": reductions.response_normalization,
    "LayerNormalization": reductions.layer_normalization,
    "LogSoftmax": reductions.softmax,
    "MatMul": products.matmul,
    "Max": functions.extreme,
    "MaxPool": windows.pool,
    "Mean": functions.mean_of_tensors,
    "Min": functions.extreme,
    "Mul": functions.product,
    "PRelu": functions.prelu,
    "Pad": moves.pad,
    "Pow": functions.power,
    "QuantizeLinear": quantized.quantize,
    "ReduceMax": reductions.reduction,
    "ReduceMean": reductions.reduction,
    "ReduceSum": reductions.reduction,
    "Reshape": moves.reshape,
    "Resize": resize.resize,
    "Slice": moves.slice_,
    "Softmax": reductions.softmax,
    "SpaceToDepth": moves.depth_to_space,
    "Split": moves.split,
    "Squeeze": moves.squeeze,
    "Sub": functions.total,
    "Sum": functions.total,
    "Tile": moves.tile,
    "Transpose": moves.transpose,
    "Unsqueeze": moves.unsqueeze,
    "Upsample": resize.resize,
}
"""How a node is read, by its type."""

_QOPERATOR = "is of the QOperator form; quantize the model in the QDQ form"
_RECURRENT = "computes step by step; export the model unrolled, as MatMul nodes"
_WAYS = {
    "ConvInteger": _QOPERATOR,
    "GRU": _RECURRENT,
    "LSTM": _RECURRENT,
    "MatMulInteger": _QOPERATOR,
    "QLinearAdd": _QOPERATOR,
    "QLinearConv": _QOPERATOR,
    "QLinearMatMul": _QOPERATOR,
    "RNN": _RECURRENT,
}
