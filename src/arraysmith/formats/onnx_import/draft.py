"""A float graph in the making: what is known of every tensor of an ONNX graph so far.

A tensor is either a constant, held as an array with all its axes, or it depends on the inputs: then
it has the batch as its first axis, which stays there, and its shape leaves the batch out.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from arraysmith.errors import InputFileError
from arraysmith.formats.onnx_shapes import printable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from onnx import TensorProto

    from arraysmith.affine import Affine
    from arraysmith.formats.onnx_graph import Node
    from arraysmith.formats.onnx_import.weights import Store
    from arraysmith.networks.graph import Input, WeightType
    from arraysmith.networks.operations import FloatOperation

Shape = tuple[int, ...]
NAME_LENGTH = 100
"""Characters of a name, before its role and what makes it unique."""
BUDGET_PER_BYTE = 16
"""Of a file: int4 weights become float32, and are transposed."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor that depends on the inputs."""

    name: str
    """In the float graph."""
    shape: Shape
    """Without the batch."""
    whole: bool = False
    """Its words are whole numbers that were given so, as row numbers and pixels are."""
    type: Affine | None = None
    """Set between QuantizeLinear and DequantizeLinear."""
    batch_axis: int = 0
    """Where the ONNX graph has the batch at the moment; only moves may know another place than 0.

    In the float graph the batch is in front all the time: exports of attention bring it elsewhere
    only to cut the axis in front of it.
    """

    def full_shape(self, batch: int) -> Shape:
        """The shape in the ONNX graph."""
        return (*self.shape[: self.batch_axis], batch, *self.shape[self.batch_axis :])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stored:
    """How a constant was quantized that DequantizeLinear made."""

    scale: NDArray[np.float64]
    """(1,), or one for every place along `axis`."""
    zero_point: NDArray[np.int64]
    axis: int
    bits: int
    signed: bool


@dataclass(slots=True, kw_only=True)
class Draft:
    """What is known so far."""

    path: Path
    store: Store
    batch: int
    opset: int
    budget: int
    """Bytes that may still be made of constants: a few numbers can claim any amount."""
    initializers: dict[str, TensorProto]
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, Input] = field(default_factory=dict)
    """By name in the float graph."""
    operations: list[FloatOperation] = field(default_factory=list)
    types: dict[str, Affine] = field(default_factory=dict)
    weight_types: dict[str, WeightType] = field(default_factory=dict)
    stored: dict[str, Stored] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is known already."""
        return name in self.constants or name in self.initializers

    def constant(self, name: str) -> NDArray[Any]:
        """A constant; those of the file are read when first asked for."""
        if name not in self.constants:
            before = self.store.bytes_read
            self.constants[name] = self.store.array(printable(name), self.initializers[name])
            self.budget += BUDGET_PER_BYTE * (self.store.bytes_read - before)
        return self.constants[name]

    def spend(self, what: str, amount: int) -> None:
        """Take bytes from the budget.

        Raises:
            InputFileError: it has no more of them.
        """
        if amount > self.budget:
            raise InputFileError(
                f"{self.path}: {what} makes {amount:,} bytes of constants, {self.budget:,} are "
                "left; export the model with its constants folded"
            )
        self.budget -= amount

    def named(self, wanted: str) -> str:
        """A safe name that nothing has yet."""
        safe = _UNSAFE.sub("_", wanted).lstrip(".-")[:NAME_LENGTH] or "unnamed"
        name = safe
        while self.taken[name]:
            self.taken[safe] += 1
            name = f"{safe}_{self.taken[safe]}"
        self.taken[name] = 1
        return name


def human_names(nodes: Iterable[Node]) -> list[str]:
    """What people call the nodes: `layer1.0.conv1` for `/layer1/layer1.0/conv1/Conv`.

    The type is left out where the rest says enough: if no other node, or none with weights, has it.
    """
    names = [_paths(node) for node in nodes]
    alone = Counter(short for short, _, _ in names)
    weighted = Counter(short for short, _, weights in names if weights)
    return [
        short if alone[short] == 1 or (weights and weighted[short] == 1) else long
        for short, long, weights in names
    ]


def _paths(node: Node) -> tuple[str, str, bool]:
    """A name without its type, with it, and whether the node has weights."""
    parts = [part for part in node.name.split("/") if part] or [node.op]
    kept = [
        part
        for part, inner in zip(parts, [*parts[1:], ""], strict=True)
        if not inner.startswith(f"{part}.")
    ]
    last = re.escape(node.op)
    typed = len(kept) > 1 and re.fullmatch(rf"{last}(_\d+)?", kept[-1]) is not None
    long = ".".join(kept)
    if long.isdigit():
        long = f"{node.op}_{long}"
    return (".".join(kept[:-1]) if typed else long), long, node.op in _WEIGHTED
