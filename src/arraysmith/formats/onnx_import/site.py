"""One ONNX node as its reader sees it: attributes and inputs, checked when asked for.

Whatever does not fit is refused with the node's name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite, isinf, prod
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import AttributeProto

from arraysmith.errors import InputFileError
from arraysmith.formats.onnx_import.draft import Tensor
from arraysmith.formats.onnx_import.weights import as_reals
from arraysmith.formats.onnx_shapes import printable
from arraysmith.networks.graph import WeightType
from arraysmith.networks.moves import MOVES
from arraysmith.networks.operations import Constant

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from onnx import NodeProto

    from arraysmith.formats.onnx_graph import Node
    from arraysmith.formats.onnx_import.draft import Draft
    from arraysmith.networks.operations import FloatOperation

Shape = tuple[int, ...]
MAX_WORDS = 1 << 31
"""Of one tensor of one member of a batch."""
MAX_NUMBERS = 1 << 16
"""Of a list of sizes, axes or pads."""
_BATCH = "the first axis is the batch and stays so; export the model so that it is"


@dataclass(frozen=True, kw_only=True)
class Site:
    """A node, and the draft that it adds to."""

    draft: Draft
    node: Node
    proto: NodeProto
    base: str
    """What its operation is to be called."""

    def refuse(self, problem: str) -> InputFileError:
        """The error that names this node."""
        return InputFileError(f"{self.draft.path}: {self.node}: {problem}")

    def refuse_batch(self) -> InputFileError:
        """The error of a node that would move or mix the members of a batch."""
        return self.refuse(_BATCH)

    # Attributes

    @cached_property
    def _attributes(self) -> dict[str, AttributeProto]:
        return {each.name: each for each in self.proto.attribute}

    def says(self, name: str) -> bool:
        """Whether an attribute is there."""
        return name in self._attributes

    def _attribute(self, name: str, kind: int, what: str) -> AttributeProto | None:
        found = self._attributes.get(name)
        if found is not None and found.type != kind:
            raise self.refuse(f"attribute {name} is no {what}; export it again")
        return found

    def integer(self, name: str, default: int) -> int:
        """A whole number."""
        found = self._attribute(name, AttributeProto.INT, "whole number")
        return default if found is None else int(found.i)

    def integers(self, name: str, count: int, default: int) -> Shape:
        """`count` whole numbers."""
        found = self._attribute(name, AttributeProto.INTS, "list of whole numbers")
        numbers = (default,) * count if found is None else tuple(int(each) for each in found.ints)
        if len(numbers) != count:
            raise self.refuse(f"attribute {name} is {list(numbers[:8])}, needs {count} numbers")
        return numbers

    def real(self, name: str, default: float) -> float:
        """A number; only an end that is open may be infinite."""
        found = self._attribute(name, AttributeProto.FLOAT, "number")
        number = default if found is None else float(found.f)
        if not isfinite(number) and not isinf(default):
            raise self.refuse(f"attribute {name} is {number}; export it again")
        return number

    def text(self, name: str, default: str) -> str:
        """A word."""
        found = self._attribute(name, AttributeProto.STRING, "text")
        return default if found is None else printable(found.s.decode(errors="replace"))

    def numbers(self, name: str, place: int) -> Shape | None:
        """Whole numbers that older opsets have as an attribute and newer ones as an input."""
        if self.says(name):
            found = self._attribute(name, AttributeProto.INTS, "list of whole numbers")
            numbers = np.array(found.ints if found else (), np.int64)
        elif self.has(place):
            numbers = self.array(place)
        else:
            return None
        if numbers.dtype.kind not in "iu" or numbers.ndim > 1 or numbers.size > MAX_NUMBERS:
            raise self.refuse(f"{name} is no list of at most {MAX_NUMBERS:,} whole numbers")
        return tuple(int(each) for each in numbers.ravel())

    def reals(self, name: str, place: int) -> tuple[float, ...] | None:
        """The same for numbers."""
        if self.says(name):
            found = self._attribute(name, AttributeProto.FLOATS, "list of numbers")
            array = np.array(found.floats if found else (), np.float32)
        elif self.has(place):
            array = self.weight(place)
        else:
            return None
        if array.ndim > 1 or array.size > MAX_NUMBERS or not np.isfinite(array).all():
            raise self.refuse(f"{name} is no list of at most {MAX_NUMBERS:,} finite numbers")
        return tuple(float(each) for each in array.ravel())

    # Inputs

    def has(self, place: int) -> bool:
        """Whether an input is given."""
        return place < len(self.node.inputs) and bool(self.node.inputs[place])

    def _name(self, place: int) -> str:
        if not self.has(place):
            raise self.refuse(f"lacks its input {place}; export it again")
        return self.node.inputs[place]

    def is_constant(self, place: int) -> bool:
        """Whether an input depends on nothing."""
        return self.draft.is_constant(self._name(place))

    def array(self, place: int) -> NDArray[Any]:
        """A constant input."""
        name = self._name(place)
        if not self.draft.is_constant(name):
            raise self.refuse(
                f"its input {place} ({printable(name)!r}) is computed while the network runs, but "
                "has to be constant; export the model with fixed sizes and weights"
            )
        return self.draft.constant(name)

    def weight(self, place: int) -> NDArray[np.float32]:
        """A constant input as finite float32."""
        name = printable(self._name(place))
        array = self.array(place)
        if array.dtype.kind == "b":
            raise self.refuse(f"its input {name!r} holds no numbers; export it again")
        # Each use may hold a copy of its own: one tensor that is read a thousand times is no trick.
        self.draft.spend(str(self.node), 4 * array.size)
        reals = as_reals(f"{self.draft.path}: tensor {name!r}", array)
        return np.ascontiguousarray(reals).reshape(array.shape)

    def number(self, place: int) -> float:
        """A constant input of one word; infinite ones are fine."""
        array = self.array(place)
        if array.size != 1 or array.dtype.kind == "b" or np.isnan(array.astype(np.float64)).any():
            raise self.refuse(f"its input {place} of shape {array.shape} is not one number")
        return float(array.reshape(-1)[0])

    def vector(self, place: int, size: int) -> NDArray[np.float32]:
        """A constant input of `size` words."""
        array = self.weight(place)
        if array.size != size:
            raise self.refuse(f"its input {place} has shape {array.shape}, needs {size} numbers")
        return array.reshape(-1)

    def tensor(self, place: int, *, whole: bool = False, moved: bool = False) -> Tensor:
        """An input that depends on the network's inputs; a constant becomes one.

        Args:
            place: which.
            whole: integers will do.
            moved: its batch may be at another axis.
        """
        name = self._name(place)
        if self.draft.is_constant(name):
            array = self.weight(place)
            return self.constant(self.inner(array, array.ndim))
        found = self.draft.tensors.get(name)
        if found is None:
            raise self.refuse(
                f"reads {printable(name)!r}, an output that is not read here; export the model "
                "without it"
            )
        if found.batch_axis and not moved:
            raise self.refuse_batch()
        if (found.whole or found.type) and not whole:
            raise self.refuse(
                f"computes with the integers of {printable(name)!r}; only QuantizeLinear followed "
                "by DequantizeLinear is read, and row numbers of a Gather"
            )
        return found

    def inner(self, array: NDArray[Any], rank: int) -> NDArray[Any]:
        """A constant for one member of a batch, where the tensors it meets have `rank` axes."""
        if array.ndim < rank:
            return array
        if array.ndim > rank or rank == 0:
            raise self.refuse_batch()
        if len(array) == 1 or (len(array) == self.draft.batch and (array == array[:1]).all()):
            inner: NDArray[Any] = array[0]
            return inner
        raise self.refuse_batch()

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted behind the batch, of a tensor of `rank` axes with it."""
        if not -rank <= axis < rank:
            raise self.refuse(f"axis {axis} is none of {rank}")
        if axis % rank == 0:
            raise self.refuse_batch()
        return axis % rank - 1

    def place(self, axis: int, x: Tensor) -> int:
        """An axis of a tensor counted without the batch, wherever that is."""
        rank = len(x.shape) + 1
        if -rank <= axis < rank and axis % rank == x.batch_axis:
            raise self.refuse_batch()
        if not -rank <= axis < rank:
            raise self.refuse(f"axis {axis} is none of {rank}")
        return axis % rank - (axis % rank > x.batch_axis)

    def axes(self, axes: Iterable[int], rank: int) -> Shape:
        """Several, in order."""
        found = sorted(self.axis(axis, rank) for axis in axes)
        if len(set(found)) != len(found):
            raise self.refuse("an axis is named twice")
        return tuple(found)

    # Outputs

    def constant(self, value: NDArray[Any]) -> Tensor:
        """A constant as an operation of the float graph."""
        return self.add(Constant, role="constant", value=np.asarray(value, np.float32))

    def add(
        self,
        operation_type: type[FloatOperation],
        /,
        *inputs: Tensor,
        role: str = "",
        **fields: Any,  # noqa: ANN401 (those of the record)
    ) -> Tensor:
        """Add an operation; `role` says what it is beside the node's own."""
        name = self.draft.named(f"{self.base}.{role}" if role else self.base)
        make: Any = operation_type
        operation = make(name=name, inputs=tuple(each.name for each in inputs), **fields)
        shape = operation.output_shape(*(each.shape for each in inputs))
        if prod(shape) > MAX_WORDS:
            raise self.refuse(f"makes a tensor of shape {shape}, more than {MAX_WORDS:,} words")
        self.draft.operations.append(operation)
        made = Tensor(name=name, shape=shape)
        if inputs and operation_type in MOVES:
            return replace(made, whole=inputs[0].whole, type=inputs[0].type)
        return made

    def give(self, tensor: Tensor, place: int = 0) -> None:
        """Say what an output is."""
        if place < len(self.node.outputs) and self.node.outputs[place]:
            self.draft.tensors[self.node.outputs[place]] = tensor

    def give_constant(self, array: NDArray[Any], place: int = 0) -> None:
        """Say that an output is known."""
        if place < len(self.node.outputs) and self.node.outputs[place]:
            self.draft.constants[self.node.outputs[place]] = array

    def keep_weight_type(self, operation: str, place: int, out_axis: int) -> None:
        """Remember how the weights of an operation came quantized, if they did."""
        stored = self.draft.stored.get(self.node.inputs[place])
        if stored is None or not (len(stored.scale) == 1 or stored.axis == out_axis):
            return
        self.draft.weight_types[operation] = WeightType(
            scale=stored.scale,
            zero_point=stored.zero_point,
            bits=stored.bits,
            signed=stored.signed,
        )
