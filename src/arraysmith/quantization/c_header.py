"""An integer network as a C header: every constant a macro, every array `static const`.

For a layer `conv1` all names begin with `conv1_` (arrays) or `CONV1_` (macros): `CONV1_SHAPE` and
`CONV1_SIZE` of what it makes, its fields (`CONV1_GROUPS`, `CONV1_WINDOWS_STRIDES {2, 2}`), and of
every type it reads or writes `CONV1_INPUT_ZERO_POINT`, `_SCALE`, `_QMIN` and `_QMAX`. A tuple is a
macro of an initialiser in braces. `CONV1_LOW` and `CONV1_HIGH` are the ends of the clamp. An input
`pixels` has `PIXELS_SHAPE`, `PIXELS_SIZE` and `PIXELS_TYPE_SCALE` and so on, or `PIXELS_ROWS`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from arraysmith.affine import integer_range
from arraysmith.errors import InvalidNetworkError
from arraysmith.formats.parameters import c_array
from arraysmith.quantization.assembling import TAG
from arraysmith.quantization.parts import layer_arrays, structure, width

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from arraysmith.quantization.network import IntegerNetwork
    from arraysmith.quantization.operations import IntegerLayer

Macros = list[tuple[str, str]]
_TYPES = {8: "int8_t", 16: "int16_t", 32: "int32_t", 64: "int64_t"}
# What hardware keeps in 8 or 16 bits; all other integers have at least 32 in C.
_NARROW = ("weight", "weight_zero_point", "right_shift", "table", "value")


def c_header(network: IntegerNetwork, arithmetic: Mapping[str, str]) -> str:
    """All numbers of a network for C99, with the arithmetic in a comment.

    Raises:
        InvalidNetworkError: names that C could not tell apart.
    """
    guard = f"ARRAYSMITH_{identifier(network.name).upper()}_H"
    blocks = [*_inputs(network), *_layers(network)]
    names = [guard, *(name for _, macros, _ in blocks for name, _ in macros)]
    _refuse_clashes([*names, *(name for _, _, all_ in blocks for name in all_)])
    lines = [
        f"/* {network.name}: integer parameters, written by Arraysmith. All arrays are row-major.",
        *(f" * {key}: {text}" for key, text in arithmetic.items()),
        " */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        "#include <stdint.h>",
        "",
    ]
    for comment, macros, all_ in blocks:
        lines += [comment, *(f"#define {name} {value}" for name, value in macros)]
        lines += [*(c_array(name, array, type_) for name, (array, type_) in all_.items()), ""]
    return "\n".join([*lines, f"#endif /* {guard} */", ""])


def identifier(name: str) -> str:
    """A layer's name as the beginning of C names; C keeps a leading _ to itself."""
    plain = re.sub(r"\W", "_", name)
    return plain if plain[0].isalpha() else f"layer_{plain}"


Block = tuple[str, Macros, dict[str, "tuple[NDArray[Any], str]"]]
"""A comment, the macros, and the arrays with their C types."""


def _inputs(network: IntegerNetwork) -> Iterator[Block]:
    for given in network.inputs:
        macros = _shape(given.shape)
        if given.type is None:
            macros.append(("ROWS", f"({given.rows})"))
        else:
            numbers = {
                "SCALE": float(given.type.scale),
                "ZERO_POINT": int(given.type.zero_point),
                "QMIN": int(given.type.qmin),
                "QMAX": int(given.type.qmax),
            }
            macros += [(f"TYPE_{key}", f"({number!r})") for key, number in numbers.items()]
        prefix = identifier(given.name).upper()
        named = [(f"{prefix}_{key}", value) for key, value in macros]
        yield f"/* {given.name}: an input */", named, {}


def _layers(network: IntegerNetwork) -> Iterator[Block]:
    shapes = network.shapes
    for layer, facts in zip(network.layers, structure(network)["layers"], strict=True):
        prefix = identifier(layer.name)
        numbers = layer_arrays(layer)
        scalars = {key: array for key, array in numbers.items() if _is_scalar(key, array)}
        known = ("name", "inputs", "shape", TAG)  # a reshape's shape is that of what it makes
        own = {key: fact for key, fact in facts.items() if key not in known}
        macros = _shape(shapes[layer.name])
        macros += _constants("", own | _clamp(layer, facts))
        macros += [(key.upper(), f"({array.item()!r})") for key, array in scalars.items()]
        arrays = {
            f"{prefix}_{key}": (array, _c_type(layer, key, array))
            for key, array in numbers.items()
            if key not in scalars
        }
        read = f" of {', '.join(layer.inputs)}" if layer.inputs else ""
        named = [(f"{prefix.upper()}_{key}", value) for key, value in macros]
        yield f"/* {layer.name}: {facts[TAG]}{read} */", named, arrays


def _shape(shape: tuple[int, ...]) -> Macros:
    return [("SHAPE", _braces(shape)), ("SIZE", f"({math.prod(shape)})")]


def _clamp(layer: IntegerLayer, facts: Mapping[str, Any]) -> dict[str, int]:
    """Both ends of the clamp of (3), also where they are those of the type."""
    output = getattr(layer, "output", None)
    if output is None or "low" not in facts:
        return {}
    low, high = facts["low"], facts["high"]
    return {
        "low": int(output.qmin) if low is None else low,
        "high": int(output.qmax) if high is None else high,
    }


def _constants(key: str, fact: Any) -> Macros:  # noqa: ANN401 (JSON)
    """The macros of a fact, named by the way to it."""
    if fact is None:
        return []
    if isinstance(fact, dict) and fact.keys() == {"bits", "signed"}:
        qmin, qmax = integer_range(fact["bits"], signed=fact["signed"])
        return [(f"{key}_QMIN", f"({qmin})"), (f"{key}_QMAX", f"({qmax})")]
    if isinstance(fact, dict):
        parts = fact.items()
    elif isinstance(fact, list) and any(isinstance(each, dict | list) for each in fact):
        parts = {str(index): each for index, each in enumerate(fact)}.items()
    else:
        return [(key, _braces(fact) if isinstance(fact, list) else f"({_literal(fact)})")]
    dash = f"{key}_" if key else ""
    return [macro for name, each in parts for macro in _constants(f"{dash}{name}".upper(), each)]


def _braces(values: tuple[int, ...] | list[Any]) -> str:
    return f"{{{', '.join(map(_literal, values))}}}"


def _literal(fact: Any) -> str:  # noqa: ANN401 (JSON)
    if isinstance(fact, str):
        return {"inf": "1.0 / 0.0", "-inf": "-1.0 / 0.0"}.get(fact, f'"{fact}"')
    return repr(int(fact) if isinstance(fact, bool) else fact)


def _is_scalar(key: str, array: NDArray[Any]) -> bool:
    return array.ndim == 0 and key.endswith(("_scale", "_zero_point"))


def _c_type(layer: IntegerLayer, key: str, array: NDArray[Any]) -> str:
    bits = width(layer, key, array)
    if bits is None:
        return "float" if array.dtype.itemsize == 4 else "double"
    least = next(size for size in _TYPES if size >= max(bits, 8 if key in _NARROW else 32))
    fits = array.max() < 1 << (least - 1)
    return _TYPES[least] if fits else f"u{_TYPES[least]}"


def _refuse_clashes(names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InvalidNetworkError(
            f"two names become the same C name {twice[0]}; rename layers that differ in "
            "punctuation or case only"
        )
