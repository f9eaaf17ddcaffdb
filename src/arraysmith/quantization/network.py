"""The integer network: a graph of integer operations as frozen records of NumPy arrays.

These records are what every back end runs (NumPy, torch, ONNX Runtime), what is exported and what
is read back. They hold all integers of the arithmetic, the scales that gave them, and no code that
runs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arraysmith.errors import InvalidNetworkError
from arraysmith.networks.graph import inferred_shapes, readers
from arraysmith.networks.moves import MOVES, Pad, Stretch
from arraysmith.quantization.operations import FloatIsland
from arraysmith.quantization.products import WeightedLayer

if TYPE_CHECKING:
    from arraysmith.affine import Affine
    from arraysmith.networks.graph import Input
    from arraysmith.quantization.operations import IntegerLayer

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerNetwork:
    """Layers, each after those whose tensors it reads; a tensor has the name of its maker."""

    name: str
    inputs: tuple[Input, ...]
    """Each with its type, or with the rows of the table that it looks up."""
    layers: tuple[IntegerLayer, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        """Shapes chain, and every layer reads the type that the one before wrote."""
        _ = self.shapes, self.types

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of every tensor, without the batch."""
        return inferred_shapes(self.name, self.inputs, self.layers, self.outputs)

    @property
    def types(self) -> dict[str, Affine | None]:
        """Of every tensor; None is an accumulator (logits), or row numbers.

        Raises:
            InvalidNetworkError: a layer reads another type than was written.
        """
        types: dict[str, Affine | None] = {}
        for given in self.inputs:
            if (given.type is None) != (given.rows > 0):
                raise InvalidNetworkError(
                    f"input {given.name!r} needs a type, or the rows of a table"
                )
            types[given.name] = given.type
        accumulators = {layer.name for layer in self.weighted_layers if layer.output is None}
        for layer in self.layers:
            found = tuple(types[tensor] for tensor in layer.inputs)
            if accumulators.intersection(layer.inputs) and not isinstance(layer, MOVES):
                raise InvalidNetworkError(
                    f"layer {layer.name!r} reads logits, which are accumulators on no 8-bit scale"
                )
            if isinstance(layer, MOVES):
                types[layer.name] = _moved_type(layer, found)
                continue
            if found != layer.types:
                raise InvalidNetworkError(
                    f"layer {layer.name!r} reads {layer.types}, but {', '.join(layer.inputs)} "
                    f"writes {found}"
                )
            types[layer.name] = layer.output
        return types

    @property
    def readers(self) -> dict[str, tuple[IntegerLayer, ...]]:
        """Who reads a tensor, for all tensors."""
        return readers(self.inputs, self.layers)

    @property
    def weighted_layers(self) -> tuple[WeightedLayer, ...]:
        """The convolutions and linear layers."""
        return tuple(layer for layer in self.layers if isinstance(layer, WeightedLayer))

    @property
    def islands(self) -> tuple[FloatIsland, ...]:
        """What runs in floats."""
        return tuple(layer for layer in self.layers if isinstance(layer, FloatIsland))


def _moved_type(layer: IntegerLayer, found: tuple[Affine | None, ...]) -> Affine | None:
    """The one type of all inputs; what is filled in must belong to it."""
    if any(each != found[0] for each in found):
        raise InvalidNetworkError(
            f"layer {layer.name!r} joins integers of different scales: {', '.join(layer.inputs)}"
        )
    if isinstance(layer, Pad | Stretch):
        type_ = found[0]
        whole = layer.value == int(layer.value)
        if not whole or type_ is None or not type_.qmin <= layer.value <= type_.qmax:
            raise InvalidNetworkError(
                f"layer {layer.name!r} fills in {layer.value}, which is no {type_}"
            )
    return found[0]
