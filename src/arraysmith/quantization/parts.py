"""A network taken apart, for files: its structure as plain JSON, its numbers as arrays.

Every file format writes these parts and builds the network from them again, so all formats hold the
same and are checked the same way. Parts are made from the fields of the records, whatever record it
is: an array is the number `layer.field`; an `Affine` is the numbers `layer.input_scale` and
`layer.input_zero_point` with its bits and sign in the structure; the constants of a requantization
are `layer.multiplier` and `layer.right_shift`; everything else is in the structure.
"""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.affine import Affine, integer_range
from arraysmith.errors import InvalidNetworkError
from arraysmith.networks.moves import Move
from arraysmith.quantization import assembling
from arraysmith.quantization.assembling import TAG, WEIGHT_TYPE, prefix_of, tag_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from arraysmith.networks.graph import FloatGraph, Input
    from arraysmith.networks.operations import FloatOperation
    from arraysmith.quantization.network import IntegerNetwork
    from arraysmith.quantization.operations import IntegerLayer

Structure = dict[str, Any]
"""JSON: objects, lists, strings, numbers; infinities are the strings inf and -inf."""
Numbers = dict[str, "NDArray[Any]"]


def structure(network: IntegerNetwork) -> Structure:
    """What a network is, without its numbers."""
    for island in network.islands:
        if (island.operation.name, island.operation.inputs) != (island.name, island.inputs):
            raise island.refuse("its operation has another name or other inputs")
    return _graph_facts(network, network.layers)


def arrays(network: IntegerNetwork) -> Numbers:
    """All numbers of a network, by name: `conv1.weight`, `conv1.bias`, `conv1.input_scale`."""
    return {
        f"{layer.name}.{key}": array
        for layer in network.layers
        for key, array in layer_arrays(layer).items()
    }


def layer_arrays(layer: IntegerLayer) -> Numbers:
    """The numbers of one layer: `weight`, `bias`, `input_scale`."""
    return dict(_field_numbers(layer, ""))


def take_apart(network: IntegerNetwork) -> tuple[Structure, Numbers]:
    """Structure and numbers, made sure to give the network back.

    Raises:
        InvalidNetworkError: a number that no file could hold, such as NaN.
    """
    whole = assemble(structure(network), arrays(network))
    return structure(whole), arrays(whole)


def assemble(parts: object, numbers: Mapping[str, NDArray[Any]]) -> IntegerNetwork:
    """Build a network from its parts, which nobody has checked; every number must have its place.

    Raises:
        InvalidNetworkError: a fact or a number is missing, unknown or does not fit.
    """
    network = assembling.assemble(parts, numbers)
    _check_used(numbers, arrays(network))
    return network


def graph_structure(graph: FloatGraph) -> Structure:
    """What a float graph is, without its numbers."""
    return {
        **_graph_facts(graph, graph.operations),
        "types": {tensor: _whole_affine(type_) for tensor, type_ in graph.types.items()},
        "weight_types": {name: _facts(type_) for name, type_ in graph.weight_types.items()},
    }


def graph_arrays(graph: FloatGraph) -> Numbers:
    """All numbers of a float graph, by name: `conv1.weight`, `conv1.weight_type_scale`."""
    found = {
        f"{each.name}.{key}": array
        for each in graph.operations
        for key, array in _field_numbers(each, "")
    }
    for name, type_ in graph.weight_types.items():
        for key, array in _field_numbers(type_, WEIGHT_TYPE):
            found[f"{name}.{key}"] = array
    return found


def assemble_graph(parts: object, numbers: Mapping[str, NDArray[Any]]) -> FloatGraph:
    """Build a float graph from its parts, which nobody has checked.

    Raises:
        InvalidNetworkError: a fact or a number is missing, unknown or does not fit.
    """
    graph = assembling.assemble_graph(parts, numbers)
    _check_used(numbers, graph_arrays(graph))
    return graph


def _check_used(numbers: Mapping[str, object], used: Mapping[str, object]) -> None:
    """Every number must have its place."""
    unknown = sorted(set(numbers) - set(used))
    if unknown:
        raise InvalidNetworkError(f"array {unknown[0]!r} belongs to no layer")


def width(layer: IntegerLayer, key: str, array: NDArray[Any]) -> int | None:
    """Bits that hardware keeps a number in; None for floats.

    That is what the layer states (its weights', its output's, its multipliers'), else the least of
    8, 16, 32 and 64 with a sign.
    """
    if array.dtype.kind == "f":
        return None
    output, constants = getattr(layer, "output", None), getattr(layer, "requantization", None)
    stated = {
        "weight": getattr(layer, "weight_bits", 0),
        "weight_zero_point": getattr(layer, "weight_bits", 0),
        "multiplier": constants.bits if constants else 0,
        "right_shift": 8,
        "table": output.bits if output else 0,
        "value": output.bits if output else 0,
        "activation_low": 32,
        "activation_high": 32,
        "activation_bias": 32,
    }.get(key, 32 if array.dtype == np.int32 else 0)
    low, high = int(array.min()), int(array.max())
    signed = integer_range(stated, signed=low < 0) if stated else (0, -1)
    if signed[0] <= low <= high <= signed[1]:
        return stated
    return next(bits for bits in (8, 16, 32, 64) if max(high, -low - 1) < 1 << (bits - 1))


# ---- taking apart


def _graph_facts(
    network: IntegerNetwork | FloatGraph, layers: Iterable[IntegerLayer | FloatOperation]
) -> Structure:
    return {
        "name": network.name,
        "inputs": [_input_facts(given) for given in network.inputs],
        "layers": [
            {"name": layer.name, "inputs": list(layer.inputs), **_facts(layer)} for layer in layers
        ],
        "outputs": list(network.outputs),
    }


def _input_facts(given: Input) -> Structure:
    return {
        "name": given.name,
        "shape": _facts(given.shape),
        "type": None if given.type is None else _whole_affine(given.type),
        "rows": int(given.rows),
    }


def _whole_affine(type_: Affine) -> Structure:
    return {"scale": float(type_.scale), "zero_point": int(type_.zero_point), **_facts(type_)}


def _facts(value: Any) -> Any:  # noqa: ANN401 (a field of any record)
    """What JSON says of a value; arrays say nothing."""
    if isinstance(value, Affine):
        return {"bits": value.bits, "signed": value.signed}
    if isinstance(value, tuple):
        return [_facts(each) for each in value]
    if not is_dataclass(value):
        return _plain_fact(value)
    tag = {TAG: tag_of(type(value))} if isinstance(value, Move) else {}
    own = {each.name: getattr(value, each.name) for each in fields(value)}
    given = ("name", "inputs") if tag else ()
    return tag | {
        key: _facts(each)
        for key, each in own.items()
        if key not in given and not isinstance(each, np.ndarray)
    }


def _plain_fact(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, StrEnum):
        return value.value
    plain = value.item() if isinstance(value, np.generic) else value
    return str(plain) if isinstance(plain, float) and not math.isfinite(plain) else plain


def _field_numbers(record: Any, prefix: str) -> Iterator[tuple[str, NDArray[Any]]]:  # noqa: ANN401
    for each in fields(record):
        yield from _numbers(getattr(record, each.name), prefix + each.name)


def _numbers(value: Any, key: str) -> Iterator[tuple[str, NDArray[Any]]]:  # noqa: ANN401
    """The arrays of a field, by name."""
    if isinstance(value, np.ndarray):
        yield key, value
    elif isinstance(value, Affine):
        yield f"{key}_scale", np.array(value.scale, np.float64)
        yield f"{key}_zero_point", np.array(value.zero_point, np.int64)
    elif isinstance(value, tuple) and value and isinstance(value[0], Affine):
        yield f"{key}_scale", np.array([each.scale for each in value], np.float64)
        yield f"{key}_zero_point", np.array([each.zero_point for each in value], np.int64)
    elif is_dataclass(value):
        yield from _field_numbers(value, prefix_of(type(value), key))
