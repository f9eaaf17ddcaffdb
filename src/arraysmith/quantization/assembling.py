"""Building an integer network from parts that nobody has checked: see `parts`.

Every fact is decoded by the declared type of the record's field that it is for, so a new record
needs no code here. The records check what they always check; this module sees to it that what they
get has the types they declare. Nothing is allocated that is not in a given array already.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from arraysmith.affine import MAX_BITS, MIN_BITS, Affine, Requantization, integer_range
from arraysmith.errors import InvalidNetworkError
from arraysmith.files import is_safe_name
from arraysmith.networks.functions import Step
from arraysmith.networks.graph import Input
from arraysmith.networks.operations import FloatOperation
from arraysmith.networks.windows import Windows
from arraysmith.quantization.network import IntegerNetwork
from arraysmith.quantization.operations import IntegerLayer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

TAG = "record"
"""The key of a record's own name."""
MAX_AXES = 31
MAX_SIZE = (1 << 31) - 1
MAX_WORDS = 1 << 40
"""Of one tensor: what a file may ask for, not what fits a machine."""
_WIDEST = 1 << 62
# What the records import for type checkers alone.
_NAMES = {
    "Affine": Affine,
    "Any": Any,
    "FloatOperation": FloatOperation,
    "NDArray": NDArray,
    "Requantization": Requantization,
    "Step": Step,
    "Windows": Windows,
}


def assemble(parts: object, numbers: Mapping[str, NDArray[Any]]) -> IntegerNetwork:
    """Build a network from its structure and its numbers.

    Raises:
        InvalidNetworkError: a fact or a number is missing, unknown or does not fit.
    """
    try:
        network = _network(parts, numbers)
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise InvalidNetworkError(f"parts that make no network ({error})") from error
    for name, shape in network.shapes.items():
        if (
            len(shape) > MAX_AXES
            or min(shape, default=1) < 1
            or max(shape, default=1) > MAX_SIZE
            or math.prod(shape) > MAX_WORDS
        ):
            raise InvalidNetworkError(
                f"tensor {name!r} of shape {_said(shape)}: choose at most {MAX_AXES} sizes of at "
                f"least 1 and 2^{MAX_WORDS.bit_length() - 1} words"
            )
    return network


def tag_of(record: type) -> str:
    """`IntegerLayerNorm` is layer-norm."""
    name = record.__name__.removeprefix("Integer")
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).removeprefix("-")


def prefix_of(record: type, key: str) -> str:
    """A layer has one requantization at most, so its constants need no prefix."""
    return "" if record is Requantization else f"{key}_"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Where the numbers of one layer are, and how its errors begin."""

    name: str
    inputs: tuple[str, ...]
    numbers: Mapping[str, NDArray[Any]]

    def refuse(self, problem: str) -> InvalidNetworkError:
        return InvalidNetworkError(f"layer {self.name!r}: {problem}")

    def array(
        self, key: str, dtype: np.dtype[Any], shape: tuple[int, ...] | None = None
    ) -> NDArray[Any]:
        """An array whose values all fit the type, of this shape where one is due."""
        name = f"{self.name}.{key}"
        try:
            array = self.numbers[name]
        except KeyError:
            raise InvalidNetworkError(f"array {name!r} is missing") from None
        if array.dtype.kind not in "iuf" or (shape is not None and array.shape != shape):
            expected = dtype if shape is None else f"{shape} of {dtype}"
            raise InvalidNetworkError(
                f"array {name!r} has shape {array.shape} of {array.dtype}, expected {expected}"
            )
        if not array.size:
            raise InvalidNetworkError(f"array {name!r} is empty")
        if not np.isfinite(array).all():
            raise InvalidNetworkError(f"array {name!r} holds NaN or infinity")
        if not _fits(array, dtype):
            raise InvalidNetworkError(f"array {name!r} holds values that are no {dtype}")
        return array.astype(dtype, copy=False)


def _fits(array: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return bool((array.astype(dtype, copy=False) == array).all())
    limits = np.iinfo(dtype)
    # 2^63 is the first float beyond int64, and -2^63 has no magnitude: both stay out.
    low, high = max(limits.min, -_WIDEST), min(limits.max, _WIDEST)
    whole = array.dtype.kind != "f" or bool((array == np.floor(array)).all())
    return whole and bool(((array >= low) & (array <= high)).all())


def _network(parts: object, numbers: Mapping[str, NDArray[Any]]) -> IntegerNetwork:
    found = _object(parts, {"name", "inputs", "layers", "outputs"}, "the network")
    return IntegerNetwork(
        name=_name(found["name"]),
        inputs=tuple(_input(each) for each in _list(found["inputs"], "the inputs")),
        layers=tuple(_layer(each, numbers) for each in _list(found["layers"], "the layers")),
        outputs=_names(found["outputs"], "the outputs"),
    )


def _input(part: object) -> Input:
    found = _object(part, {"name", "shape", "type", "rows"}, "an input")
    source = _Source(name=_name(found["name"]), inputs=(), numbers={})
    type_ = found["type"]
    if type_ is not None:
        facts = _object(type_, {"scale", "zero_point", "bits", "signed"}, "an input's type")
        scale = _plain(float, facts["scale"], "scale", source)
        zero_point = _plain(int, facts["zero_point"], "zero_point", source)
        kind = {"bits": facts["bits"], "signed": facts["signed"]}
        type_ = _affine(kind, scale, zero_point, "type", source)
    shape = _tuple(tuple[int, ...], found["shape"], "shape", source)
    rows = _plain(int, found["rows"], "rows", source)
    if rows < 0:
        raise source.refuse(f"field 'rows' is {rows}, needs at least 0")
    return Input(name=source.name, shape=shape, type=type_, rows=rows)


def _layer(part: object, numbers: Mapping[str, NDArray[Any]]) -> IntegerLayer:
    if not isinstance(part, dict):
        raise InvalidNetworkError(f"a layer is {_said(part)}, expected an object")
    name = _name(part.get("name"))
    inputs = _names(part.get("inputs"), f"the inputs of layer {name!r}")
    source = _Source(name=name, inputs=inputs, numbers=numbers)
    rest = {key: value for key, value in part.items() if key not in ("name", "inputs")}
    layer: IntegerLayer = _tagged(get_args(IntegerLayer), rest, "", source)
    return layer


def _tagged(records: Sequence[type], part: object, prefix: str, source: _Source) -> Any:  # noqa: ANN401
    """A layer, or the operation of an island, by its tag."""
    tag = part.get(TAG) if isinstance(part, dict) else None
    record = {tag_of(each): each for each in records}.get(tag if isinstance(tag, str) else "")
    if record is None or not isinstance(part, dict):
        raise source.refuse(f"unknown record {_said(tag)}; a newer Arraysmith may read it")
    rest = {key: value for key, value in part.items() if key != TAG}
    return _record(record, rest, prefix, source, {"name": source.name, "inputs": source.inputs})


def _record(
    record: type, part: object, prefix: str, source: _Source, given: Mapping[str, object]
) -> Any:  # noqa: ANN401
    """Any record from its own fields and its arrays."""
    hints = _hints(record)
    kept = {key: hint for key, hint in hints.items() if get_origin(hint) is np.ndarray}
    facts = _object(
        part, hints.keys() - kept.keys() - given.keys(), f"layer {source.name!r}: {tag_of(record)}"
    )
    values = {
        key: source.array(prefix + key, np.dtype(get_args(get_args(hint)[1])[0]))
        for key, hint in kept.items()
    }
    values |= {key: _value(hints[key], fact, prefix + key, source) for key, fact in facts.items()}
    return record(**given, **values)


def _value(hint: Any, part: object, key: str, source: _Source) -> Any:  # noqa: ANN401
    """A field by its declared type."""
    options: tuple[Any, ...] = (hint,)
    if get_origin(hint) in (UnionType, Union):
        options = get_args(hint)
        if part is None and NoneType in options:
            return None
        options = tuple(option for option in options if option is not NoneType)
    if len(options) > 1:
        return _tagged(options, part, f"{key}_", source)
    kind: Any = options[0]
    if get_origin(kind) is tuple:
        return _tuple(kind, part, key, source)
    if kind is Affine:
        scale = source.array(f"{key}_scale", np.dtype(np.float64), ())
        zero_point = source.array(f"{key}_zero_point", np.dtype(np.int64), ())
        return _affine(part, float(scale), int(zero_point), key, source)
    if isinstance(kind, type) and is_dataclass(kind):
        return _record(kind, part, prefix_of(kind, key), source, {})
    return _plain(kind, part, key, source)


def _affine(part: object, scale: float, zero_point: int, key: str, source: _Source) -> Affine:
    found = _object(part, {"bits", "signed"}, f"layer {source.name!r}: field {key!r}")
    bits = _plain(int, found["bits"], f"{key}.bits", source)
    signed = _plain(bool, found["signed"], f"{key}.signed", source)
    if not MIN_BITS <= bits <= MAX_BITS:
        raise source.refuse(f"field {key!r} has {bits} bits; choose {MIN_BITS} to {MAX_BITS}")
    qmin, qmax = integer_range(bits, signed=signed)
    return Affine(scale=scale, zero_point=zero_point, qmin=qmin, qmax=qmax)


def _tuple(hint: Any, part: object, key: str, source: _Source) -> tuple[Any, ...]:  # noqa: ANN401
    found = _list(part, f"layer {source.name!r}: field {key!r}")
    kinds = get_args(hint)
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(found)
    if len(kinds) != len(found):
        raise source.refuse(f"field {key!r} has {len(found)} entries, expected {len(kinds)}")
    if kinds and kinds[0] is Affine:
        shape = (len(found),)
        scales = source.array(f"{key}_scale", np.dtype(np.float64), shape).tolist()
        zeros = source.array(f"{key}_zero_point", np.dtype(np.int64), shape).tolist()
        each = zip(found, scales, zeros, strict=True)
        return tuple(_affine(fact, scale, zero, key, source) for fact, scale, zero in each)
    values = tuple(_value(kind, fact, key, source) for kind, fact in zip(kinds, found, strict=True))
    if any(isinstance(value, int) and abs(value) > MAX_SIZE for value in values):
        raise source.refuse(f"field {key!r} is {_said(found)}; entries are at most {MAX_SIZE}")
    return values


def _plain(kind: Any, part: object, key: str, source: _Source) -> Any:  # noqa: ANN401
    """A word, an integer, a real: nothing is converted but an integer to a real."""
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        if isinstance(part, str) and part in set(kind):
            return kind(part)
    elif kind is float and not isinstance(part, bool):
        if isinstance(part, int | float) or part in ("inf", "-inf"):
            return float(part)
    elif type(part) is kind and not (isinstance(part, int) and abs(part) > _WIDEST):
        return part
    expected = kind.__name__ if isinstance(kind, type) else kind
    raise source.refuse(f"field {key!r} is {_said(part)}, expected {expected}")


def _name(part: object) -> str:
    if not isinstance(part, str) or not is_safe_name(part):
        raise InvalidNetworkError(
            f"name {_said(part)}: use letters, digits, dashes, dots and underscores"
        )
    return part


def _names(part: object, what: str) -> tuple[str, ...]:
    return tuple(_name(each) for each in _list(part, what))


def _list(part: object, what: str) -> list[Any]:
    if not isinstance(part, list):
        raise InvalidNetworkError(f"{what}: {_said(part)}, expected a list")
    return part


def _object(part: object, keys: AbstractSet[str], what: str) -> dict[str, Any]:
    """A dictionary of exactly these keys."""
    if not isinstance(part, dict):
        raise InvalidNetworkError(f"{what}: {_said(part)}, expected an object")
    for problem, found in (("unknown", part.keys() - keys), ("no", keys - part.keys())):
        if found:
            raise InvalidNetworkError(f"{what}: {problem} field {_said(min(found, key=str))}")
    return part


def _said(part: object) -> str:
    return f"{part!r:.60}"


@cache
def _hints(record: type) -> dict[str, Any]:
    return get_type_hints(record, localns=_NAMES)
