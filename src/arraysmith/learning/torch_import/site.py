"""Where one node of an exported torch program becomes operations: its shapes, errors and records.

A torch tensor that depends on an input is a `Value`; one that does not stays a torch tensor until
an operation reads it. The batch is the first axis of every `Value`, always.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from arraysmith.errors import InvalidNetworkError
from arraysmith.networks.functions import Function, Step
from arraysmith.networks.moves import Reshape, Take, Transpose
from arraysmith.networks.operations import Constant, Elementwise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from arraysmith.networks.operations import FloatOperation

Shape = tuple[int, ...]

MASKED = -1e4
"""What a score that softmax must not see is set to: exp of it is 0 in float32, and it is finite."""

NEVER = -1e9
"""Scores a softmax reads that are no greater are masks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A tensor of the graph under construction."""

    name: str
    shape: Shape
    """Without the batch."""
    rows_of: str | None = None
    """The input whose row numbers it holds, if it holds integers."""

    @property
    def rank(self) -> int:
        """Axes, with the batch."""
        return len(self.shape) + 1


Operand = Value | torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recorded:
    """An operation with what its final name is made of."""

    operation: FloatOperation
    module: str
    """The path of the module that the node belongs to."""
    call: str
    """Which of the module's calls."""
    label: str
    """What it does."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """What grows while a program is read."""

    operations: list[Recorded] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    """By input: rows of the smallest table that it picks from."""
    reals: set[str] = field(default_factory=set)
    """Inputs of integers that are read as reals."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Site:
    """One node: what it is called, and what it gives."""

    recording: Recording
    node: torch.fx.Node
    target: str
    """The ATen operation."""
    module: str
    """Path of the module that called it, empty at the root."""
    call: str
    """Which of that module's calls."""
    batch: int
    """Of the example."""

    def refuse(self, problem: str) -> InvalidNetworkError:
        """The error that names node, ATen operation and module."""
        place = f"module {self.module!r}" if self.module else "the module itself"
        return InvalidNetworkError(f"node {self.node.name!r} ({self.target} in {place}): {problem}")

    @property
    def shape(self) -> Shape:
        """Of what the node gives, without the batch."""
        return self.behind_batch(self.node.meta["val"].shape)

    def behind_batch(self, shape: Sequence[int | torch.SymInt]) -> Shape:
        """A shape without its batch.

        Raises:
            InvalidNetworkError: the first axis is not the batch, or another depends on it.
        """
        if not shape or not self._is_batch(shape[0]) or not all(type(n) is int for n in shape[1:]):
            sizes = ", ".join(map(str, shape))
            raise self.refuse(
                f"gives shape ({sizes}), which moves or mixes the batch or depends on data; keep "
                "the batch as the first axis, alone, and sizes fixed"
            )
        return tuple(int(size) for size in shape[1:])

    def _is_batch(self, size: int | torch.SymInt) -> bool:
        if isinstance(size, torch.SymInt):
            return bool(size.node.expr.is_Symbol)
        return size == self.batch

    def axis(self, dim: int, rank: int) -> int:
        """A torch dimension as an axis behind the batch."""
        if dim % rank == 0:
            raise self.refuse(f"works along axis {dim}, the batch; only later axes can be")
        return dim % rank - 1

    def emit(self, kind: type[Any], /, *values: Value, **fields: object) -> Value:
        """Record an operation and give its tensor."""
        for each in fields.values():
            if isinstance(each, np.ndarray | float) and not np.isfinite(each).all():
                raise self.refuse("has constants that are NaN or infinite; make them finite")
        recorded = self.recording.operations
        name = f"%{len(recorded)}"  # no safe name, so that it never meets an input's
        try:
            operation = kind(name=name, inputs=tuple(each.name for each in values), **fields)
            shape = operation.output_shape(*(each.shape for each in values))
        except InvalidNetworkError as error:
            raise self.refuse(str(error)) from error
        recorded.append(
            Recorded(
                operation=operation,
                module=self.module,
                call=self.call,
                label=kind.__name__.lower(),
            )
        )
        moved = values and kind in (Reshape, Transpose, Take)
        return Value(name=name, shape=shape, rows_of=values[0].rows_of if moved else None)

    def title(self, made: object, start: int, label: str) -> None:
        """Call the operations that give what was made by the ATen name, and check their shapes."""
        results = made if isinstance(made, tuple) else (made,)
        expected = self.node.meta["val"]
        expected = expected if isinstance(expected, list | tuple) else (expected,)
        recorded = self.recording.operations
        for value, tensor in zip(results, expected, strict=True):
            if not isinstance(value, Value):
                continue
            shape = self.behind_batch(tensor.shape)
            self.settle(value.shape == shape, f"gives shape {shape}, was read as {value.shape}")
            place = int(value.name[1:]) if value.name.startswith("%") else -1
            if place >= start:
                recorded[place] = replace(recorded[place], label=label.strip("_"))

    def steps(self, x: Value, *steps: Step) -> Value:
        """Functions of a tensor; none of them gives the tensor."""
        return self.emit(Elementwise, x, steps=steps) if steps else x

    def apply(self, x: Value, function: Function, *numbers: float) -> Value:
        """One function of a tensor."""
        return self.steps(x, Step(function=function, numbers=tuple(map(float, numbers))))

    def reshaped(self, x: Value, shape: Shape) -> Value:
        """The same words in another shape."""
        return x if x.shape == shape else self.emit(Reshape, x, shape=shape)

    def transposed(self, x: Value, axes: Sequence[int]) -> Value:
        """Axes in another order."""
        if tuple(axes) == tuple(range(len(x.shape))):
            return x
        return self.emit(Transpose, x, axes=tuple(axes))

    def taken(self, x: Value, axis: int, indices: NDArray[np.int64]) -> Value:
        """Words at indices of an axis."""
        if np.array_equal(indices, np.arange(x.shape[axis])):
            return x
        return self.emit(Take, x, axis=axis, indices=indices)

    def fixed(self, x: object, what: str) -> torch.Tensor:
        """A constant, or the error that names what has to be one."""
        if not isinstance(x, torch.Tensor):
            raise self.refuse(f"has a {what} that depends on an input; it needs to be a constant")
        return x

    def numbers(self, x: object, what: str) -> NDArray[np.float32]:
        """A constant as float32 of its own."""
        return np.array(self.fixed(x, what).detach().to(torch.float32).numpy(), order="C")

    def rest(self, x: torch.Tensor, rank: int) -> torch.Tensor:
        """A constant without the batch, where it meets tensors of `rank` axes."""
        if x.ndim > rank or (x.ndim == rank and not bool((x == x[:1]).all())):
            raise self.refuse(
                f"has a constant of shape {tuple(x.shape)} that differs from member to member of "
                "the batch; make it the same for all"
            )
        return x[0] if x.ndim == rank else x

    def value(self, x: object, rank: int) -> Value:
        """A tensor as one of the graph; a constant becomes an operation."""
        if isinstance(x, Value):
            if x.rank != rank:
                raise self.refuse(
                    f"reads tensors of {x.rank} and {rank} axes, which mixes the batch; give them "
                    "as many"
                )
            return x
        if not isinstance(x, torch.Tensor):
            raise self.refuse(f"reads {x!r}, needs a tensor")
        return self.emit(Constant, value=self.numbers(self.rest(x, rank), "constant"))

    def settle(self, condition: object, problem: str) -> None:
        """Refuse unless a condition holds."""
        if not condition:
            raise self.refuse(problem)

    @property
    def feeds_softmax(self) -> bool:
        """Whether nothing but softmaxes read what it gives."""
        return _feeds_softmax(self.node)


def _feeds_softmax(node: torch.fx.Node) -> bool:
    return bool(node.users) and all(
        "softmax" in str(user.target)
        or (str(user.target).split(".")[1:2] in _PASSING and _feeds_softmax(user))
        for user in node.users
    )


_PASSING = (["to"], ["_to_copy"], ["clone"], ["dropout"])


def rank_of(*operands: object) -> int:
    """Axes of the tensors of the graph among operands."""
    return max(each.rank for each in operands if isinstance(each, Value))
