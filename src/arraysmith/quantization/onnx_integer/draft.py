"""ONNX nodes of one layer after another, with the constants they read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper

from arraysmith.files import sha256

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray
    from onnx import NodeProto, TensorProto

    from arraysmith.affine import Affine
    from arraysmith.networks.graph import Input
    from arraysmith.quantization.network import IntegerNetwork

    Integers = NDArray[Any] | np.integer[Any]

Shape = tuple[int, ...]


def carrier(type_: Affine) -> np.dtype[Any]:
    """The narrowest of int8, uint8, int16 and uint16 that holds a tensor's integers."""
    width = 8 if type_.bits <= 8 else 16
    return np.dtype(f"{'int' if type_.signed else 'uint'}{width}")


def vector(values: object, axes: int) -> NDArray[np.int64]:
    """(channels,) as (channels, 1, …) with `axes` ones, so that it broadcasts over an image."""
    array = np.asarray(values, np.int64)
    return array.reshape(-1, *(1,) * axes)


class Draft:
    """A graph in the making: `emit` adds a node to the present layer and gives its tensor's name.

    `/` is in no layer's name, so `layer/3.Add` is nobody else's tensor.
    """

    def __init__(self, network: IntegerNetwork) -> None:
        """Nothing but the inputs."""
        self.shapes = network.shapes
        self.types = network.types
        self.nodes: list[NodeProto] = []
        self.constants: dict[tuple[str, Shape, str], TensorProto] = {}
        self.carriers = {each.name: input_carrier(each) for each in network.inputs}
        self.single: set[str] = set()
        """Tensors whose batch is 1, for they depend on no input."""
        self._layer = ""
        self._begin = 0

    def begin(self, layer: str) -> None:
        """What is emitted from now on belongs to this layer."""
        self._layer, self._begin = layer, len(self.nodes)

    def end(self, tensor: str, inputs: tuple[str, ...], output: np.dtype[Any]) -> None:
        """The layer's last tensor takes its name."""
        if not self.nodes[self._begin :] or self.nodes[-1].output[0] != tensor:
            self.emit("Identity", tensor)
        self.nodes[-1].output[0] = self.nodes[-1].name = self._layer
        self.carriers[self._layer] = output
        if self.single.issuperset(inputs):
            self.single.add(self._layer)

    def emit(self, operation: str, *inputs: str | Integers, **attributes: Any) -> str:  # noqa: ANN401
        """Add a node; an array among its inputs becomes a constant of the array's own type."""
        tensor = f"{self._layer}/{len(self.nodes) - self._begin}.{operation}"
        names = [each if isinstance(each, str) else self._constant(each) for each in inputs]
        self.nodes.append(helper.make_node(operation, names, [tensor], name=tensor, **attributes))
        return tensor

    def cast(self, tensor: str, to: DTypeLike) -> str:
        """The same integers in another container; ONNX keeps the low bits where they do not fit."""
        return self.emit("Cast", tensor, to=helper.np_dtype_to_tensor_dtype(np.dtype(to)))

    def centred(self, tensor: str, type_: Affine, to: DTypeLike = np.int64) -> str:
        """q - zero point, in a container that holds it."""
        wide = self.cast(tensor, to)
        zero = np.asarray(type_.zero_point, to)
        return self.emit("Sub", wide, zero) if type_.zero_point else wide

    def reshape(self, tensor: str, shape: Shape) -> str:
        """Another shape; 0 keeps the batch."""
        return self.emit("Reshape", tensor, np.array((0, *shape), np.int64))

    def ranked(self, tensor: str, axes: int) -> str:
        """A layer's tensor with axes inserted right behind the batch, up to `axes` in all."""
        missing = axes - len(self.shapes[tensor])
        if not missing:
            return tensor
        return self.emit("Unsqueeze", tensor, np.arange(1, 1 + missing))

    def _constant(self, values: Integers) -> str:
        array: NDArray[Any] = np.asarray(values)
        key = (array.dtype.str, array.shape, sha256(array.tobytes()))
        if key not in self.constants:
            name = f"/{array.dtype}/{len(self.constants)}"
            self.constants[key] = numpy_helper.from_array(array, name)
        return self.constants[key].name


def input_carrier(given: Input) -> np.dtype[Any]:
    """Of what a network is given; row numbers are int64."""
    return np.dtype(np.int64) if given.type is None else carrier(given.type)
