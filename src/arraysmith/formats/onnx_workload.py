"""A workload from an ONNX graph: what an array computes of it, and what happens beside.

Convolutions and matrix products become layers, everything else is counted by its type. A
convolution that `Conv2d` cannot say (dilated, strides that differ, 3-D) becomes the product that
im2col makes of it: its MACs are exact, its overlapping windows are words of their own then.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from arraysmith.errors import InputFileError, InvalidWorkloadError
from arraysmith.formats.layers import (
    Axis,
    apart,
    convolution_layer,
    product_layer,
    uniquely_named,
)
from arraysmith.formats.onnx_graph import read_graph
from arraysmith.formats.onnx_shapes import printable
from arraysmith.formats.topology import MAX_LAYERS
from arraysmith.workload import Gemm, Workload, ceil_div

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from arraysmith.formats.onnx_graph import Graph, Node
    from arraysmith.formats.onnx_shapes import Shapes
    from arraysmith.workload import Layer

    Shape = tuple[int, ...]

NAME_LENGTH = 120
"""Characters of a layer's name, before what makes it unique."""
_NOT_READ = frozenset(
    {
        "Attention",
        "DeformConv",
        "Einsum",
        "GRU",
        "LSTM",
        "RNN",
        "com.microsoft:Attention",
        "com.microsoft:DynamicQuantizeMatMul",
        "com.microsoft:FusedConv",
        "com.microsoft:FusedGemm",
        "com.microsoft:FusedMatMul",
        "com.microsoft:GroupQueryAttention",
        "com.microsoft:MatMulIntegerToFloat",
        "com.microsoft:MatMulNBits",
        "com.microsoft:MultiHeadAttention",
        "com.microsoft:NhwcConv",
        "com.microsoft:QAttention",
        "com.microsoft:QGemm",
    }
)
"""Operations that hold matrix products; without them a workload would be too small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxWorkload:
    """What a file holds for an array."""

    workload: Workload
    beside: dict[str, int]
    """How many operations of each other type happen beside the array, most first."""


def read_onnx(path: Path, shapes: Shapes | None = None, *, grouped: bool = False) -> OnnxWorkload:
    """Read the layers of an ONNX file; its weights are not needed.

    Args:
        path: the file.
        shapes: of inputs, by name, where the file leaves sizes open.
        grouped: groups and independent products stay one layer, as the model `physical` takes
            them; else each becomes a layer, for SCALE-Sim knows neither.

    Raises:
        InputFileError: not an ONNX model, damaged, contradictory, of unknown shapes, or with matrix
            products that are not read here; the message names file, node and way out.
    """
    graph = read_graph(path, shapes)
    layers: list[Layer] = []
    beside: Counter[str] = Counter()
    for node in graph.nodes:
        if node.op in _LAYERS and not graph.constants.issuperset(node.outputs):
            layers.append(_layer(graph, node))
        elif node.op in _NOT_READ:
            raise InputFileError(
                f"{path}: {node} holds matrix products that are not read here; export it as MatMul "
                "or Conv nodes"
            )
        else:
            beside[node.op] += 1
    if not layers:
        raise InputFileError(f"{path}: holds no convolution and no matrix product")
    if not grouped:
        if sum(layer.loops.groups for layer in layers) > MAX_LAYERS:
            raise InputFileError(
                f"{path}: its groups become more than {MAX_LAYERS:,} layers; use --model physical"
            )
        layers = [each for layer in layers for each in apart(layer)]
    return OnnxWorkload(
        workload=Workload(name=_plain(path.stem), layers=uniquely_named(layers)),
        beside=dict(beside.most_common()),
    )


def _layer(graph: Graph, node: Node) -> Layer:
    lower, left, right = _LAYERS[node.op]
    shapes = graph.shape(node, left), graph.shape(node, right)
    try:
        layer = lower(node, *shapes)
    except InvalidWorkloadError as error:
        raise InputFileError(f"{graph.path}: {error}") from error
    constant = [node.inputs[place] in graph.constants for place in (left, right)]
    if isinstance(layer, Gemm) and lower is not _convolution and constant == [True, False]:
        # (A·B)ᵀ = Bᵀ·Aᵀ: the weights on the left become the filter.
        return replace(layer, M=layer.N, N=layer.M)
    return layer


def _convolution(node: Node, ifmap: Shape, filter_: Shape) -> Layer:
    """Conv, ConvInteger, QLinearConv: (N, C, …) by (filters, C / groups, …)."""
    axes = _axes(node, ifmap, filter_)
    groups = _numbers(node, "group", 1, 1)[0]
    if ifmap[1] != filter_[1] * groups or groups < 1 or filter_[0] % groups:
        raise _mismatch(node, ifmap, filter_)
    return _convolved(node, ifmap[:2], filter_[0], groups, axes)


def _transposed(node: Node, ifmap: Shape, filter_: Shape) -> Layer:
    """ConvTranspose, by (C, filters / groups, …): a convolution of the ifmap stretched with zeros.

    Its stride is 1, and it makes as many outputs as it has windows; zeros are computed like words.
    """
    axes = _axes(node, ifmap, filter_)
    groups = _numbers(node, "group", 1, 1)[0]
    if ifmap[1] != filter_[0] or groups < 1 or filter_[0] % groups:
        raise _mismatch(node, ifmap, filter_)
    grown = _numbers(node, "output_padding", len(axes), 0)
    outputs: tuple[int, ...] = tuple(
        (axis.size - 1) * axis.stride + axis.reach - axis.before - axis.after + more
        for axis, more in zip(axes, grown, strict=True)
    )
    if "output_shape" in node.attributes:
        outputs = _numbers(node, "output_shape", len(axes), 0)
    elif str(node.attributes.get("auto_pad")).startswith("SAME"):
        outputs = tuple(axis.size * axis.stride for axis in axes)
    stretched = tuple(
        Axis(size=count + axis.reach - 1, taps=axis.taps, stride=1, dilation=axis.dilation)
        for axis, count in zip(axes, outputs, strict=True)
    )
    return _convolved(node, ifmap[:2], filter_[1] * groups, groups, stretched)


def _convolved(
    node: Node, ifmap: Shape, out_channels: int, groups: int, axes: tuple[Axis, ...]
) -> Layer:
    if min(axis.outputs for axis in axes) < 1:
        raise InvalidWorkloadError(f"{node}: its filter is larger than its padded ifmap")
    name = _plain(node.name)
    return convolution_layer(
        name, images=ifmap[0], channels=(ifmap[1], out_channels), groups=groups, axes=axes
    )


def _axes(node: Node, ifmap: Shape, filter_: Shape) -> tuple[Axis, ...]:
    """How the filter moves, as attributes say it."""
    count = len(ifmap) - 2
    if count < 1 or len(filter_) != len(ifmap) or not all((*ifmap, *filter_)):
        raise _mismatch(node, ifmap, filter_)
    if (
        _numbers(node, "kernel_shape", count, 1) != filter_[2:]
        and "kernel_shape" in node.attributes
    ):
        raise _mismatch(node, ifmap, filter_)
    strides = _numbers(node, "strides", count, 1)
    dilations = _numbers(node, "dilations", count, 1)
    pads = _numbers(node, "pads", 2 * count, 0)
    if min(*strides, *dilations) < 1 or min(pads) < 0:
        raise InvalidWorkloadError(
            f"{node}: strides {strides}, dilations {dilations}, pads {pads}: they need at least "
            "1, 1 and 0"
        )
    automatic = node.attributes.get("auto_pad", "NOTSET")
    if automatic not in {"NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"}:
        raise InvalidWorkloadError(f"{node}: auto_pad {automatic!r} is unknown")
    axes = []
    for place in range(count):
        axis = Axis(
            size=ifmap[2 + place],
            before=pads[place] if automatic == "NOTSET" else 0,
            after=pads[count + place] if automatic == "NOTSET" else 0,
            taps=filter_[2 + place],
            stride=strides[place],
            dilation=dilations[place],
        )
        if str(automatic).startswith("SAME"):
            windows = ceil_div(axis.size, axis.stride)
            zeros = max((windows - 1) * axis.stride + axis.reach - axis.size, 0)
            axis = replace(axis, before=zeros // 2, after=zeros - zeros // 2)
        axes.append(axis)
    return tuple(axes)


def _gemm(node: Node, left: Shape, right: Shape) -> Gemm:
    """Gemm: two matrices, either of them transposed."""
    if len(left) != 2 or len(right) != 2:
        raise _mismatch(node, left, right)
    ordered = [
        shape[::-1] if _numbers(node, name, 1, 0)[0] else shape
        for name, shape in (("transA", left), ("transB", right))
    ]
    return _product(node, *ordered)


def _product(node: Node, left: Shape, right: Shape) -> Gemm:
    """MatMul, MatMulInteger, QLinearMatMul: stacks of matrices that are broadcast.

    Matrices that share the right operand are more rows, those that share the left one more columns.
    """
    try:
        return product_layer(_plain(node.name), left, right)
    except InvalidWorkloadError:
        raise _mismatch(node, left, right) from None


def _plain(name: str) -> str:
    """A name that can be shown and that a topology can hold."""
    shown = printable(name).replace(",", "_").replace('"', "_")
    return shown[:NAME_LENGTH].strip() or "unnamed"


def _numbers(node: Node, name: str, count: int, default: int) -> Shape:
    """An attribute of `count` whole numbers."""
    value = node.attributes.get(name, (default,) * count)
    numbers = (value,) if isinstance(value, int) else value
    if not isinstance(numbers, tuple) or len(numbers) != count:
        raise InvalidWorkloadError(
            f"{node}: attribute {name} is {value!r}, needs {count} whole number(s)"
        )
    return numbers


def _mismatch(node: Node, left: Shape, right: Shape) -> InvalidWorkloadError:
    return InvalidWorkloadError(
        f"{node}: operands of shapes {list(left)} and {list(right)} do not fit together; mend the "
        "model"
    )


_LAYERS: dict[str, tuple[Callable[[Node, Shape, Shape], Layer], int, int]] = {
    "Conv": (_convolution, 0, 1),
    "ConvInteger": (_convolution, 0, 1),
    "QLinearConv": (_convolution, 0, 3),
    "ConvTranspose": (_transposed, 0, 1),
    "Gemm": (_gemm, 0, 1),
    "MatMul": (_product, 0, 1),
    "MatMulInteger": (_product, 0, 1),
    "QLinearMatMul": (_product, 0, 3),
}
"""How a node becomes a layer, and which of its inputs are the operands."""
