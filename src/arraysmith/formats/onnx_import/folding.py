"""What depends on no input is computed while a model is read: sizes, axes, arithmetic on weights.

Single nodes of known types go to onnx's reference evaluator, after a look at how much they make.
"""

from __future__ import annotations

from math import ceil, prod
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from arraysmith.formats.onnx_shapes import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from arraysmith.formats.onnx_import.site import Site

MAX_CONSTANT = 1 << 28
"""Words of a constant that a few numbers make."""
_BROADCAST = frozenset(
    {
        "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Cos", "Div", "Dropout", "Equal", "Erf", "Exp",
        "Flatten", "Floor", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log",
        "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "QuantizeLinear", "Reciprocal",
        "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Relu", "Reshape",
        "Shape", "Sigmoid", "Sign", "Sin", "Size", "Slice", "Softmax", "Split", "Sqrt", "Squeeze",
        "Sub", "Sum", "Tanh", "Transpose", "Trilu", "Unsqueeze", "Where",
    }
)  # fmt: skip
"""They make no more than their inputs broadcast to, or hold."""


def _broadcast(*arrays: NDArray[Any]) -> int:
    try:
        return prod(np.broadcast_shapes(*(each.shape for each in arrays)))
    except ValueError:
        return max((each.size for each in arrays), default=1)


def _expanded(x: NDArray[Any], shape: NDArray[Any]) -> int:
    return max(x.size, 1) * prod(max(int(each), 1) for each in shape.reshape(-1))


def _range(start: NDArray[Any], limit: NDArray[Any], delta: NDArray[Any]) -> int:
    low, high, step = (float(each.reshape(-1)[0]) for each in (start, limit, delta))
    return max(0, ceil((high - low) / step))


def _padded(x: NDArray[Any], pads: NDArray[Any], *_: object) -> int:
    return max(x.size, 1) * prod(1 + abs(int(each)) for each in pads.reshape(-1))


_MADE: dict[str, Callable[..., int]] = {
    "Concat": lambda *arrays: sum(each.size for each in arrays),
    "Expand": _expanded,
    "Gather": lambda x, indices: x.size // max(min(x.shape, default=1), 1) * indices.size,
    "MatMul": lambda a, b: a.size * b.size // max(a.shape[-1] ** 2, 1),
    "NonZero": lambda x: x.size * max(x.ndim, 1),
    "Pad": _padded,
    "Range": _range,
    "Tile": _expanded,
}
"""Words that a node makes at most, of those that make more than they read."""


def is_foldable(op: str) -> bool:
    """Whether nodes of a type are computed when all their inputs are known."""
    return op in _BROADCAST or op in _MADE or op in ("Constant", "ConstantOfShape")


def fold(site: Site) -> None:
    """Compute a node whose inputs are all known.

    Raises:
        InputFileError: it cannot be computed, or makes too much.
    """
    node, draft = site.node, site.draft
    if node.op == "ConstantOfShape":
        _fill(site)
        return
    given = {name: draft.constant(name) for name in node.inputs if name}
    known = [given[name] for name in node.inputs if name]
    try:
        count: Callable[..., int] = _MADE.get(node.op, _broadcast)
        most = count(*known) if known else 0
    except (ArithmeticError, IndexError, TypeError, ValueError):
        raise site.refuse("its constants do not fit together; mend the model") from None
    if most > MAX_CONSTANT:
        raise site.refuse(
            f"makes a constant of up to {most:,} words; at most {MAX_CONSTANT:,} are computed"
        )
    draft.spend(str(node), 8 * most)
    found = _evaluated(site, given)
    made = 0
    places = [place for place, name in enumerate(node.outputs) if name]
    for place, array in zip(places, found, strict=True):
        made += array.nbytes if array.base is None or node.op not in _VIEWS else 0
        site.give_constant(array, place)
        _keep_stored(site, place)
    draft.budget += max(0, 8 * most - made)


_VIEWS = ("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Flatten")


def _evaluated(site: Site, given: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    inputs = [onnx.ValueInfoProto(name=name) for name in given]
    outputs = [onnx.ValueInfoProto(name=name) for name in site.node.outputs if name]
    graph = onnx.GraphProto(name="node", node=[site.proto], input=inputs, output=outputs)
    opset = onnx.OperatorSetIdProto(domain="", version=site.draft.opset)
    model = onnx.ModelProto(graph=graph, opset_import=[opset], ir_version=8)
    evaluator: Any = ReferenceEvaluator
    try:
        with np.errstate(all="ignore"):
            found = evaluator(model).run(None, given)
            arrays = [np.asarray(each) for each in found]
    except Exception as error:  # whatever a damaged node makes of onnx's own code
        reason = printable(" ".join(str(error).split()))[:150]
        raise site.refuse(
            f"cannot be computed ({type(error).__name__}: {reason}); mend the model"
        ) from error
    if any(each.dtype.kind == "O" for each in arrays):
        raise site.refuse("makes no tensor; export the model without sequences")
    return arrays


def _fill(site: Site) -> None:
    """ConstantOfShape: one number repeated, which costs nothing until it is a weight."""
    sizes = [int(each) for each in site.array(0).reshape(-1)]
    value = np.zeros(1, np.float32)
    for each in site.proto.attribute:
        if each.name == "value" and each.HasField("t"):
            value = site.draft.store.array("value", each.t)
    if value.size != 1 or len(sizes) > 8 or min(sizes, default=0) < 0:
        raise site.refuse(f"fills a shape of {sizes[:8]} with {value.size} numbers; mend the model")
    if prod(sizes) > MAX_CONSTANT:
        raise site.refuse(
            f"makes a constant of {prod(sizes):,} words; at most {MAX_CONSTANT:,} are computed"
        )
    site.give_constant(np.broadcast_to(value.reshape(()), sizes))


def constant_value(site: Site) -> None:
    """Constant: its tensor, or a number or list in an attribute."""
    for each in site.proto.attribute:
        if each.name == "value" and each.HasField("t"):
            site.give_constant(site.draft.store.array(printable(site.node.name), each.t))
            return
        if each.name in ("value_float", "value_floats", "value_int", "value_ints"):
            number = onnx.helper.get_attribute_value(each)
            kind = np.float32 if "float" in each.name else np.int64
            site.give_constant(np.array(number, kind))
            return
    raise site.refuse("holds no numbers; export it again")


def _keep_stored(site: Site, place: int) -> None:
    """A dequantized weight that is only transposed is still one."""
    stored = site.draft.stored.get(site.node.inputs[0]) if site.node.inputs else None
    if stored is None or place or site.node.op not in ("Identity", "Transpose"):
        return
    output = site.node.outputs[0]
    axis = stored.axis
    if site.node.op == "Transpose":
        rank = site.draft.constants[output].ndim
        axes = site.integers("perm", rank, 0) if site.says("perm") else tuple(range(rank))[::-1]
        axis = axes.index(axis) if axis in axes else axis
    site.draft.stored[output] = type(stored)(
        scale=stored.scale,
        zero_point=stored.zero_point,
        axis=axis,
        bits=stored.bits,
        signed=stored.signed,
    )
