"""A float network: inputs, operations in order, outputs; valid from birth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from arraysmith.errors import InvalidNetworkError
from arraysmith.files import is_safe_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from arraysmith.affine import Affine
    from arraysmith.networks.operations import FloatOperation

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What a network is given: a tensor of `shape` for every member of a batch."""

    name: str
    shape: Shape
    type: Affine | None = None
    """Set where the words are integers already, as pixels are: scale 1, zero point 0, uint8."""
    rows: int = 0
    """Of a `Lookup`'s table, where the words are row numbers 0…rows-1; 0 where they are reals."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightType:
    """How a model that came quantized stores the weights of an operation."""

    scale: NDArray[np.float64]
    """(out,) or (1,)."""
    zero_point: NDArray[np.int64]
    bits: int = 8
    signed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FloatGraph:
    """Operations, each after those whose tensors it reads; a tensor has the name of its maker."""

    name: str
    inputs: tuple[Input, ...]
    operations: tuple[FloatOperation, ...]
    outputs: tuple[str, ...]
    types: Mapping[str, Affine] = field(default_factory=dict)
    """Of tensors that the model came quantized with, by name."""
    weight_types: Mapping[str, WeightType] = field(default_factory=dict)
    """Of operations whose weights the model came quantized with, by name."""

    def __post_init__(self) -> None:
        """Names are safe and unique, everything read is there, and shapes chain."""
        _ = inferred_shapes(self.name, self.inputs, self.operations, self.outputs)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of every tensor, without the batch."""
        return inferred_shapes(self.name, self.inputs, self.operations, self.outputs)

    @property
    def readers(self) -> dict[str, tuple[FloatOperation, ...]]:
        """Who reads a tensor, for all tensors."""
        return readers(self.inputs, self.operations)


def _check_names(network: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if not is_safe_name(name):
            raise InvalidNetworkError(
                f"name {name!r}: use letters, digits, dashes, dots and underscores"
            )
        if name in seen:
            raise InvalidNetworkError(f"network {network!r} has two layers named {name!r}")
        seen.add(name)


class Named(Protocol):
    """An operation, whatever its arithmetic."""

    @property
    def name(self) -> str:
        """Its own, and that of the tensor it makes."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tensors it reads."""


class Shaped(Named, Protocol):
    """An operation that knows its output's shape."""

    @property
    def output_shape(self) -> Callable[..., Shape]:
        """Input shapes to output shape."""


def inferred_shapes(
    name: str, inputs: Sequence[Input], operations: Sequence[Shaped], outputs: Sequence[str]
) -> dict[str, Shape]:
    """The shape of every tensor.

    Raises:
        InvalidNetworkError: a name is unsafe or taken twice, a tensor is read before it is there,
            or shapes do not fit.
    """
    shapes: dict[str, Shape] = {}
    _check_names(name, [*(each.name for each in inputs), *(each.name for each in operations)])
    for given in inputs:
        shapes[given.name] = given.shape
    for each in operations:
        missing = [tensor for tensor in each.inputs if tensor not in shapes]
        if missing:
            raise InvalidNetworkError(
                f"layer {each.name!r} reads {missing[0]!r}, which nothing before it makes"
            )
        shapes[each.name] = each.output_shape(*(shapes[tensor] for tensor in each.inputs))
    absent = [tensor for tensor in outputs if tensor not in shapes]
    if absent or not outputs or not operations:
        raise InvalidNetworkError(
            f"network {name!r} gives {', '.join(map(repr, absent)) or 'nothing'}, "
            "which none of its layers makes"
        )
    return shapes


Operation = TypeVar("Operation", bound=Named)


def readers(
    inputs: Sequence[Input], operations: Iterable[Operation]
) -> dict[str, tuple[Operation, ...]]:
    """Who reads a tensor, for all tensors."""
    found: dict[str, tuple[Operation, ...]] = {each.name: () for each in inputs}
    for operation in operations:
        found[operation.name] = ()
        for tensor in dict.fromkeys(operation.inputs):
            found[tensor] = (*found[tensor], operation)
    return found
