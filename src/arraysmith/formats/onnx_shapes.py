"""Shapes of all tensors of an ONNX graph, without looking at weights.

They are inferred on a model whose weights have become inputs, so that a tensor costs as much as its
file holds and not what it claims.
"""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto

from arraysmith.errors import InputFileError
from arraysmith.workload import MAX_DIMENSION, ceil_div

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

    Shape = tuple[int | None, ...]
    Shapes = Mapping[str, Sequence[int]]

KEPT_ELEMENTS = 1024
"""Of a constant that shape inference may look into: shapes, axes, scales."""
_MISSING_BITS = {"FLOAT": 32, "DOUBLE": 64, "BOOL": 8}
_NAMELESS = ("", "?", "*", "None")
"""What exporters call sizes that have nothing to do with each other."""
_TYPED_FIELDS = (
    "float_data",
    "int32_data",
    "string_data",
    "int64_data",
    "double_data",
    "uint64_data",
)


def printable(text: str) -> str:
    """A text from a file that cannot break a line or steer a terminal."""
    return "".join(each if each.isprintable() else "_" for each in text)


def without_weights(path: Path, graph: GraphProto) -> dict[str, tuple[int, ...]]:
    """Make all but small constants inputs, and return the shapes of all initializers.

    Raises:
        InputFileError: one holds another amount of data than its shape says.
    """
    inputs = {value.name: value for value in graph.input}
    shapes: dict[str, tuple[int, ...]] = {}

    def is_kept(name: str, tensor: TensorProto) -> bool:
        holds = holds_data(path, name, tensor)
        if holds and prod(tensor.dims) <= KEPT_ELEMENTS:
            return True
        value = inputs[name] if name in inputs else graph.input.add(name=name)
        value.type.CopyFrom(onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims))
        return False

    kept = []
    for tensor in graph.initializer:
        shapes[tensor.name] = tuple(tensor.dims)
        if is_kept(tensor.name, tensor):
            kept.append(tensor)
    nodes = [node for node in graph.node if all(is_kept(*each) for each in _constant(node))]
    _keep(graph.initializer, kept)
    _keep(graph.node, nodes)
    for sparse in graph.sparse_initializer:
        shapes[sparse.values.name] = tuple(sparse.dims)
    return shapes


def _constant(node: NodeProto) -> list[tuple[str, TensorProto]]:
    """Name and value of what a Constant makes."""
    if node.op_type != "Constant" or not node.output:
        return []
    return [(node.output[0], each.t) for each in node.attribute if each.HasField("t")]


def _keep(field: Any, those: list[Any]) -> None:  # noqa: ANN401 (a repeated field of protobuf)
    copies = [type(each).FromString(each.SerializeToString()) for each in those]
    del field[:]
    field.extend(copies)


def holds_data(path: Path, name: str, tensor: TensorProto) -> bool:
    """Whether a tensor's data is in the file; none is fine, for a workload needs no weights.

    Raises:
        InputFileError: there is another amount of it than the shape says.
    """
    if tensor.data_type not in TensorProto.DataType.values() or not tensor.data_type:
        raise InputFileError(
            f"{path}: tensor {name!r} has the unknown type {tensor.data_type}; export it again"
        )
    kind = TensorProto.DataType.Name(tensor.data_type)
    digits = re.search(r"\d+", kind)  # INT64, BFLOAT16, FLOAT8E4M3FN
    bits = int(digits[0]) if digits else _MISSING_BITS.get(kind, 8)
    count = prod(tensor.dims)
    typed = sum(len(getattr(tensor, field)) for field in _TYPED_FIELDS)
    if kind.startswith("COMPLEX"):
        words = 2 * count
    else:
        words = count if bits >= 8 else ceil_div(count * bits, 8)
    found = [(len(tensor.raw_data), ceil_div(count * bits, 8), "bytes"), (typed, words, "elements")]
    for held, needed, unit in found:
        if min(tensor.dims, default=0) < 0 or held not in {0, needed}:
            raise InputFileError(
                f"{path}: tensor {name!r} of shape {list(tensor.dims[:8])} holds {held:,} {unit}, "
                f"not {needed:,}; it is damaged, export it again"
            )
    return any(held for held, _, _ in found) and tensor.data_location != TensorProto.EXTERNAL


def set_inputs(
    path: Path, graph: GraphProto, weights: Mapping[str, tuple[int, ...]], shapes: Shapes
) -> None:
    """Give inputs their shapes; a size given to a named dimension holds wherever the name is.

    Raises:
        InputFileError: a shape of no input, against what the model says, or missing.
    """
    read = {name for node in graph.node for name in node.input}
    inputs = {
        value.name: value
        for value in graph.input
        if value.name not in weights and value.name in read and value.type.HasField("tensor_type")
    }
    for name in shapes:
        if name not in inputs:
            raise InputFileError(
                f"{path}: a shape is given for {name!r}, which is no input; its inputs are "
                f"{', '.join(map(repr, inputs)) or 'none'}"
            )
    named: dict[str, int] = {}
    for name, sizes in shapes.items():
        _set_input(path, inputs[name], tuple(sizes), named)
    for value in (*inputs.values(), *graph.value_info, *graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in named:
                dimension.dim_value = named[dimension.dim_param]
    for value in inputs.values():
        _check_input(path, value)


def _set_input(
    path: Path, value: ValueInfoProto, sizes: tuple[int, ...], named: dict[str, int]
) -> None:
    where = f"{path}: input {value.name!r}"
    for size in sizes:
        if not 1 <= size <= MAX_DIMENSION:
            raise InputFileError(f"{where}: a size of {size:,}, needs 1 to {MAX_DIMENSION:,}")
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        tensor.shape.SetInParent()
        for _ in sizes:
            tensor.shape.dim.add()
    dimensions = tensor.shape.dim
    if len(dimensions) != len(sizes):
        raise InputFileError(
            f"{where} has {len(dimensions)} dimensions, its given shape {len(sizes)}; give all"
        )
    for number, (dimension, size) in enumerate(zip(dimensions, sizes, strict=True)):
        fixed = dimension.dim_value if dimension.dim_value > 0 else size
        if dimension.dim_param not in _NAMELESS:
            fixed = named.setdefault(dimension.dim_param, size)
        if fixed != size:
            raise InputFileError(
                f"{where}: dimension {number} is {fixed}, its given size {size}; give {fixed}, or "
                "export the model for another"
            )
        dimension.dim_value = size


def _check_input(path: Path, value: ValueInfoProto) -> None:
    """Refuse an input of unknown sizes."""
    dimensions = value.type.tensor_type.shape.dim
    example = [max(1, dimension.dim_value) for dimension in dimensions]
    for number, dimension in enumerate(dimensions):
        if dimension.dim_value < 1:
            called = f" ({dimension.dim_param!r})" if dimension.dim_param else ""
            lacks = f"has no size for dimension {number}{called}"
            break
    else:
        if value.type.tensor_type.HasField("shape"):
            return
        lacks, example = "has no shape", [1, 3, 224, 224]
    sizes = ",".join(map(str, example))
    raise InputFileError(
        f"{path}: input {value.name!r} {lacks}; give all, as in "
        f"--shape {printable(value.name)}={sizes} "
        f"(in Python shapes={{{value.name!r}: {tuple(example)}}})"
    )


def inferred_shapes(path: Path, model: ModelProto) -> dict[str, Shape]:
    """Shapes of all tensors whose number of dimensions is known; None is an unknown size.

    onnx would believe what the file says of a tensor between nodes, though it may be left over from
    other inputs. So that only fills what cannot be inferred, and where it fits.

    Raises:
        InputFileError: onnx finds no sense in the model.
    """
    graph = model.graph
    claims = [type(value).FromString(value.SerializeToString()) for value in graph.value_info]
    claims += [type(value).FromString(value.SerializeToString()) for value in graph.output]
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    found = _inferred(path, model)
    fitting = [value for value in claims if _adds(value, found.get(value.name))]
    if not fitting:
        return found
    graph.value_info.extend(fitting)
    return _inferred(path, model)


def _inferred(path: Path, model: ModelProto) -> dict[str, Shape]:
    try:
        found = onnx.shape_inference.infer_shapes(model, strict_mode=False, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        reason = printable(" ".join(str(error).split()))[:200]
        raise InputFileError(
            f"{path}: onnx cannot infer its shapes ({reason}); mend the model"
        ) from error
    values = (*found.input, *found.output, *found.value_info)
    shapes = {value.name: _shape(value) for value in values}
    return {name: shape for name, shape in shapes.items() if shape is not None}


def _adds(claim: ValueInfoProto, found: Shape | None) -> bool:
    """Whether a claim says more of a shape than was found, and nothing against it."""
    claimed = _shape(claim)
    if claimed is None or found is None:
        return claimed is not None
    if len(claimed) != len(found):
        return False
    pairs = list(zip(claimed, found, strict=True))
    more = any(mine is not None and other is None for mine, other in pairs)
    return more and all(None in pair or pair[0] == pair[1] for pair in pairs)


def _shape(value: ValueInfoProto) -> Shape | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(
        each.dim_value if each.HasField("dim_value") and each.dim_value >= 0 else None
        for each in tensor.shape.dim
    )
