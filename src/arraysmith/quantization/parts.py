"""An int8 network taken apart, for files: its structure as plain records, its numbers as arrays.

Every file format (`.pth`, text) writes these parts and builds the network from them again, so all
formats hold the same and are checked the same way: by the records' own checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from arraysmith.errors import InvalidNetworkError
from arraysmith.files import is_safe_name
from arraysmith.affine import Affine, Requantization
from arraysmith.quantization.network import (
    IntegerAveragePool,
    IntegerConv2d,
    IntegerFlatten,
    IntegerLinear,
    IntegerNetwork,
    IntegerTable,
    WeightedLayer,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from arraysmith.quantization.network import IntegerLayer

Kind = Literal["conv2d", "linear", "avgpool2d", "table", "flatten"]

_KINDS: dict[type, Kind] = {
    IntegerConv2d: "conv2d",
    IntegerLinear: "linear",
    IntegerAveragePool: "avgpool2d",
    IntegerTable: "table",
    IntegerFlatten: "flatten",
}

INT32, INT64, FLOAT64 = np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStructure:
    """What a layer is, without its numbers; fields that a kind does not have keep their default."""

    kind: Kind
    name: str
    input_signed: bool
    output_signed: bool | None = None
    """None: logits."""
    weight_shape: tuple[int, ...] = ()
    """(out, in, filter, filter) or (out, in)."""
    stride: int = 1
    padding: int = 0
    pool: int = 1
    relu: bool = False
    window: int = 1
    multiplier_bits: int | None = None
    multipliers: int = 0
    """1: per tensor, else one an output channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkStructure:
    """What a network is, without its numbers."""

    name: str
    input_shape: tuple[int, ...]
    layers: tuple[LayerStructure, ...]


def structure(network: IntegerNetwork) -> NetworkStructure:
    """The structure of a network."""
    return NetworkStructure(
        name=network.name,
        input_shape=network.input_shape,
        layers=tuple(_layer_structure(layer) for layer in network.layers),
    )


def arrays(network: IntegerNetwork) -> dict[str, NDArray[Any]]:
    """All numbers of a network, by name: `conv1.weight`, `conv1.bias`, `conv1.input_scale`."""
    found: dict[str, NDArray[Any]] = {"input_table": network.input_table}
    for layer in network.layers:
        found |= {f"{layer.name}.{key}": value for key, value in _numbers(layer).items()}
    return found


def assemble(parts: NetworkStructure, numbers: Mapping[str, NDArray[Any]]) -> IntegerNetwork:
    """Build a network from its parts.

    Raises:
        InvalidNetworkError: a number is missing or does not fit.
    """
    for name in (parts.name, *(layer.name for layer in parts.layers)):
        if not is_safe_name(name):
            raise InvalidNetworkError(
                f"name {name!r}: use letters, digits, dots, dashes and underscores"
            )
    if not parts.layers:
        raise InvalidNetworkError(f"network {parts.name!r} has no layers")
    try:
        return IntegerNetwork(
            name=parts.name,
            input_shape=parts.input_shape,
            input_table=_array(numbers, "input_table", (256,), INT64),
            layers=tuple(_assemble_layer(layer, numbers) for layer in parts.layers),
        )
    except KeyError as error:
        raise InvalidNetworkError(f"array {error.args[0]!r} is missing") from error


def number_shapes(layer: LayerStructure) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and type of every array that belongs to a layer."""
    shapes: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
        "input_scale": ((), FLOAT64),
        "input_zero_point": ((), INT64),
    }
    if layer.output_signed is not None and layer.kind != "flatten":
        shapes |= {"output_scale": ((), FLOAT64), "output_zero_point": ((), INT64)}
    if layer.kind in ("conv2d", "linear"):
        out = (layer.weight_shape or (0,))[0]
        shapes |= {
            "weight": (layer.weight_shape, np.dtype(np.int8)),
            "bias": ((out,), INT32),
            "weight_scale": ((out,), FLOAT64),
            "weight_zero_point": ((out,), INT64),
        }
    if layer.kind == "table":
        shapes |= {"table": ((256,), INT64)}
    if layer.multiplier_bits is not None:
        many = (layer.multipliers,)
        shapes |= {"multiplier": (many, INT64), "right_shift": (many, INT64)}
    return shapes


def _layer_structure(layer: IntegerLayer) -> LayerStructure:
    constants = getattr(layer, "requantization", None)
    output = layer.output
    common: dict[str, Any] = {
        "kind": _KINDS[type(layer)],
        "name": layer.name,
        "input_signed": layer.input.qmin < 0,
        "output_signed": None if output is None else output.qmin < 0,
        "multiplier_bits": None if constants is None else constants.bits,
        "multipliers": 0 if constants is None else len(constants.multiplier),
    }
    if isinstance(layer, WeightedLayer):
        common |= {"weight_shape": tuple(layer.weight.shape), "relu": layer.relu}
    if isinstance(layer, IntegerConv2d):
        common |= {"stride": layer.stride, "padding": layer.padding, "pool": layer.pool}
    if isinstance(layer, IntegerAveragePool):
        common |= {"window": layer.window}
    return LayerStructure(**common)


def _numbers(layer: IntegerLayer) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {
        "input_scale": np.array(layer.input.scale),
        "input_zero_point": np.array(layer.input.zero_point),
    }
    if layer.output is not None and not isinstance(layer, IntegerFlatten):
        found["output_scale"] = np.array(layer.output.scale)
        found["output_zero_point"] = np.array(layer.output.zero_point)
    if isinstance(layer, WeightedLayer):
        found["weight"], found["bias"] = layer.weight, layer.bias
        found["weight_scale"] = layer.weight_scale
        found["weight_zero_point"] = layer.weight_zero_point
    if isinstance(layer, IntegerTable):
        found["table"] = layer.table
    constants: Requantization | None = getattr(layer, "requantization", None)
    if constants is not None:
        found["multiplier"], found["right_shift"] = constants.multiplier, constants.right_shift
    return found


def _checked(layer: LayerStructure, numbers: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays of a layer, each of the shape and type it must have."""
    values: dict[str, NDArray[Any]] = {}
    for key, (shape, dtype) in number_shapes(layer).items():
        values[key] = _array(numbers, f"{layer.name}.{key}", shape, dtype)
    return values


def _array(
    numbers: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """An array of exactly this shape whose values all fit the type."""
    array = numbers[name]
    if array.shape != shape or array.dtype.kind not in "iuf":
        raise InvalidNetworkError(
            f"array {name!r} has shape {array.shape} of {array.dtype}, expected {shape} of {dtype}"
        )
    if not np.isfinite(array).all():
        raise InvalidNetworkError(f"array {name!r} holds NaN or infinity")
    if dtype.kind == "i":
        limits = np.iinfo(dtype)
        # 2^63 is the first float beyond int64; the limit itself would round up to it.
        fits = (array >= limits.min) & (array <= min(limits.max, 2**62))
        if not fits.all() or not (array == np.floor(array)).all():
            raise InvalidNetworkError(f"array {name!r} holds values that are no {dtype}")
    return array.astype(dtype)


def _assemble_layer(layer: LayerStructure, numbers: Mapping[str, NDArray[Any]]) -> IntegerLayer:
    values = _checked(layer, numbers)
    x = _affine(values, "input", signed=layer.input_signed)
    y = None
    if "output_scale" in values:
        y = _affine(values, "output", signed=bool(layer.output_signed))
    constants = None
    if layer.multiplier_bits is not None:
        constants = Requantization(
            multiplier=values["multiplier"],
            right_shift=values["right_shift"],
            bits=layer.multiplier_bits,
        )
    if layer.kind == "flatten":
        return IntegerFlatten(name=layer.name, input=x)
    if layer.kind in ("conv2d", "linear"):
        common: dict[str, Any] = {
            "name": layer.name,
            "weight": values["weight"],
            "weight_zero_point": values["weight_zero_point"],
            "weight_scale": values["weight_scale"],
            "bias": values["bias"],
            "input": x,
            "output": y,
            "requantization": constants,
            "relu": layer.relu,
        }
        if layer.kind == "linear":
            return IntegerLinear(**common)
        return IntegerConv2d(**common, stride=layer.stride, padding=layer.padding, pool=layer.pool)
    if y is None:
        raise InvalidNetworkError(f"layer {layer.name!r} has no output")
    if layer.kind == "table":
        return IntegerTable(name=layer.name, table=values["table"], input=x, output=y)
    if constants is None:
        raise InvalidNetworkError(f"layer {layer.name!r} has no requantization")
    return IntegerAveragePool(
        name=layer.name, window=layer.window, input=x, output=y, requantization=constants
    )


def _affine(values: dict[str, NDArray[Any]], side: str, *, signed: bool) -> Affine:
    return Affine(
        scale=float(values[f"{side}_scale"]),
        zero_point=int(values[f"{side}_zero_point"]),
        qmin=-128 if signed else 0,
        qmax=127 if signed else 255,
    )
