"""Building a network from parts that nobody has checked: see `parts`.

Every fact is decoded by the declared type of the record's field that it is for, so a new record
needs no code here. The records check what they always check; this module sees to it that what they
get has the types they declare. Nothing is allocated that is not in a given array already.
"""

from __future__ import annotations

import contextlib
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
from arraysmith.networks.graph import FloatGraph, Input, WeightType
from arraysmith.networks.operations import FloatOperation
from arraysmith.networks.windows import Windows
from arraysmith.quantization.network import IntegerNetwork
from arraysmith.quantization.operations import IntegerLayer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

TAG = "record"
"""The key of a record's own name."""
WEIGHT_TYPE = "weight_type_"
"""Before the numbers of a weight's type."""
MAX_AXES = 31
MAX_SIZE = (1 << 31) - 1
MAX_WORDS = 1 << 40
"""Of one tensor: what a file may ask for, not what fits a machine."""
_WIDEST = 1 << 62
_KEYS = frozenset({"name", "inputs", "layers", "outputs"})
# What the records import for type checkers alone.
_NAMES = {
    "Affine": Affine,
    "Any": Any,
    "FloatOperation": FloatOperation,
    "NDArray": NDArray,
    "Requantization": Requantization,
    "Step": Step,
    "Windows": Windows,
    "np": np,
}


def assemble(parts: object, numbers: Mapping[str, NDArray[Any]]) -> IntegerNetwork:
    """Build a network from its structure and its numbers.

    Raises:
        InvalidNetworkError: a fact or a number is missing, unknown or does not fit.
    """
    with _refusing():
        found = _object(parts, _KEYS, "the network")
        network = IntegerNetwork(
            name=_name(found["name"]),
            inputs=_inputs(found),
            layers=tuple(_layers(found, get_args(IntegerLayer), numbers)),
            outputs=_names(found["outputs"], "the outputs"),
        )
    _check_sizes(network.shapes)
    return network


def assemble_graph(parts: object, numbers: Mapping[str, NDArray[Any]]) -> FloatGraph:
    """Build a float graph from its structure and its numbers, which may be infinite.

    Raises:
        InvalidNetworkError: a fact or a number is missing, unknown or does not fit.
    """
    with _refusing():
        found = _object(parts, _KEYS | {"types", "weight_types"}, "the network")
        types = _object(found["types"], None, "the types")
        weights = _object(found["weight_types"], None, "the types of weights")
        sources = {each: _Source(name=_name(each), inputs=(), numbers=numbers) for each in weights}
        graph = FloatGraph(
            name=_name(found["name"]),
            inputs=_inputs(found),
            operations=tuple(_layers(found, get_args(FloatOperation), numbers, infinite=True)),
            outputs=_names(found["outputs"], "the outputs"),
            types={_name(tensor): _whole_affine(fact, tensor) for tensor, fact in types.items()},
            weight_types={
                each: _record(WeightType, fact, WEIGHT_TYPE, sources[each], {})
                for each, fact in weights.items()
            },
        )
    _check_sizes(graph.shapes)
    unknown = sorted((types.keys() | weights.keys()) - graph.shapes.keys())
    if unknown:
        raise InvalidNetworkError(f"a type for {unknown[0]!r}, which is no tensor")
    return graph


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Whatever crafted parts provoke inside a record is one clear error."""
    try:
        yield
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise InvalidNetworkError(f"parts that make no network ({error})") from error


def _check_sizes(shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
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
    infinite: bool = False
    """Whether reals may be infinite, as the mask of an attention is."""

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
        open_ = self.infinite and dtype.kind == "f"
        if not (~np.isnan(array) if open_ else np.isfinite(array)).all():
            raise InvalidNetworkError(f"array {name!r} holds NaN{'' if open_ else ' or infinity'}")
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
    if array.dtype.kind == "f":
        array = array.astype(np.float64, copy=False)  # the limits are beyond float16
        if (array != np.floor(array)).any():
            return False
    return bool(((array >= low) & (array <= high)).all())


def _inputs(network: Mapping[str, Any]) -> tuple[Input, ...]:
    return tuple(_input(each) for each in _list(network["inputs"], "the inputs"))


def _input(part: object) -> Input:
    found = _object(part, {"name", "shape", "type", "rows"}, "an input")
    source = _Source(name=_name(found["name"]), inputs=(), numbers={})
    fact = found["type"]
    rows = _plain(int, found["rows"], "rows", source)
    if rows < 0:
        raise source.refuse(f"field 'rows' is {rows}, needs at least 0")
    return Input(
        name=source.name,
        shape=_tuple(tuple[int, ...], found["shape"], "shape", source),
        type=None if fact is None else _whole_affine(fact, source.name),
        rows=rows,
    )


def _whole_affine(part: object, tensor: str) -> Affine:
    """A type that has its numbers with it."""
    source = _Source(name=tensor, inputs=(), numbers={})
    facts = _object(part, {"scale", "zero_point", "bits", "signed"}, f"the type of {tensor!r}")
    scale = _plain(float, facts["scale"], "scale", source)
    zero_point = _plain(int, facts["zero_point"], "zero_point", source)
    kind = {"bits": facts["bits"], "signed": facts["signed"]}
    return _affine(kind, scale, zero_point, "type", source)


def _layers(
    network: Mapping[str, Any],
    records: Sequence[type],
    numbers: Mapping[str, NDArray[Any]],
    *,
    infinite: bool = False,
) -> Iterator[Any]:
    for part in _list(network["layers"], "the layers"):
        found = _object(part, None, "a layer")
        name = _name(found.get("name"))
        inputs = _names(found.get("inputs"), f"the inputs of layer {name!r}")
        source = _Source(name=name, inputs=inputs, numbers=numbers, infinite=infinite)
        rest = {key: value for key, value in found.items() if key not in ("name", "inputs")}
        yield _tagged(records, rest, "", source)


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


def _object(part: object, keys: AbstractSet[str] | None, what: str) -> dict[str, Any]:
    """A dictionary, of exactly these keys where they are given."""
    if not isinstance(part, dict):
        raise InvalidNetworkError(f"{what}: {_said(part)}, expected an object")
    if keys is None:
        return part
    for problem, found in (("unknown", part.keys() - keys), ("no", keys - part.keys())):
        if found:
            raise InvalidNetworkError(f"{what}: {problem} field {_said(min(found, key=str))}")
    return part


def _said(part: object) -> str:
    return f"{part!r:.60}"


@cache
def _hints(record: type) -> dict[str, Any]:
    return get_type_hints(record, localns=_NAMES)
