"""The QDQ graph in the making: every tensor as integers, and as the reals that they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray
    from onnx import NodeProto, TensorProto

    from arraysmith.affine import Affine
    from arraysmith.quantization.network import IntegerNetwork

Shape = tuple[int, ...]


def carrier(bits: int, *, signed: bool = True) -> np.dtype[Any]:
    """The narrowest of int8, uint8, int16 and uint16 that holds integers of a width."""
    return np.dtype(f"{'int' if signed else 'uint'}{8 if bits <= 8 else 16}")


def float32(values: object) -> NDArray[np.float32]:
    """As float32, the type of all reals in the graph."""
    return np.asarray(values, np.float32)


class Draft:
    """A graph in the making: `emit` adds a node to the present layer and gives its tensor's name.

    The integers of a layer have its name, its reals `layer/real`. `/` is in no layer's name, so
    what is made on the way, `layer/3.Add`, is nobody else's tensor.
    """

    def __init__(self, network: IntegerNetwork, *, exact: bool) -> None:
        """Nothing but the inputs' shapes and types."""
        self.network = network
        self.exact = exact
        self.shapes = network.shapes
        self.types = network.types
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.single: set[str] = set()
        """Tensors whose batch is 1, for they depend on no input."""
        self.carriers: dict[str, np.dtype[Any]] = {}
        """Of the integers of a layer."""
        self._layer = ""
        self._begin = 0
        self._known: dict[tuple[str, Shape, bytes], str] = {}

    def begin(self, layer: str, inputs: tuple[str, ...] | None = None) -> None:
        """What is emitted from now on belongs to this layer; `inputs` None: it is one itself."""
        self._layer, self._begin = layer, len(self.nodes)
        if inputs is not None and self.single.issuperset(inputs):
            self.single.add(layer)

    def emit(self, operation: str, *inputs: str | NDArray[Any], **attributes: Any) -> str:  # noqa: ANN401
        """Add a node; an array among its inputs becomes a constant of the array's own type."""
        tensor = f"{self._layer}/{len(self.nodes) - self._begin}.{operation}"
        names = [each if isinstance(each, str) else self._constant(each) for each in inputs]
        self.nodes.append(helper.make_node(operation, names, [tensor], name=tensor, **attributes))
        return tensor

    def name_last(self, tensor: str, name: str) -> str:
        """Give what was just emitted a name of its own."""
        if self.nodes[-1].output[0] != tensor or len(self.nodes) == self._begin:
            self.emit("Identity", tensor)
        self.nodes[-1].output[0] = self.nodes[-1].name = name
        return name

    def stored(self, what: str, values: NDArray[Any]) -> str:
        """A constant of the present layer, `layer/what`."""
        name = f"{self._layer}/{what}"
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def cast(self, tensor: str, to: DTypeLike) -> str:
        """The same numbers in another type."""
        return self.emit("Cast", tensor, to=helper.np_dtype_to_tensor_dtype(np.dtype(to)))

    def reshape(self, tensor: str, shape: Shape) -> str:
        """Another shape; the batch is kept."""
        return self.emit("Reshape", tensor, np.array((0, *shape), np.int64))

    def real(self, tensor: str) -> str:
        """The reals of a layer or an input."""
        return f"{tensor}/real"

    def ranked(self, tensor: str, axes: int) -> str:
        """Its reals with axes inserted right behind the batch, up to `axes` in all."""
        missing = axes - len(self.shapes[tensor])
        if missing <= 0:
            return self.real(tensor)
        return self.emit("Unsqueeze", self.real(tensor), np.arange(1, 1 + missing))

    def quantize(
        self, real: str, type_: Affine, low: int | None = None, high: int | None = None
    ) -> str:
        """The present layer's integers of a real tensor, within low…high, and its reals."""
        self.clamp_and_quantize(real, type_, low, high)
        return self.dequantize(type_)

    def clamp_and_quantize(
        self, real: str, type_: Affine, low: int | None = None, high: int | None = None
    ) -> str:
        """The present layer's integers; the clamp stands before the rounding, at whole steps."""
        holds = np.iinfo(carrier(type_.bits, signed=type_.signed))
        least, most = type_.qmin if low is None else low, type_.qmax if high is None else high
        if low == type_.zero_point and most == holds.max:
            real = self.emit("Relu", real)
        elif least > holds.min or most < holds.max:
            ends = float32(type_.dequantize([least, most]))
            real = self.emit("Clip", real, ends[0], ends[1])
        return self.name_last(self.emit("QuantizeLinear", real, *self.grid(type_)), self._layer)

    def dequantize(self, type_: Affine) -> str:
        """The present layer's reals, of its integers."""
        self.carriers[self._layer] = carrier(type_.bits, signed=type_.signed)
        real = self.emit("DequantizeLinear", self._layer, *self.grid(type_))
        return self.name_last(real, self.real(self._layer))

    def grid(self, type_: Affine) -> tuple[NDArray[Any], NDArray[Any]]:
        """Scale and zero point as QuantizeLinear and DequantizeLinear read them."""
        zero_point = np.array(type_.zero_point, carrier(type_.bits, signed=type_.signed))
        return float32(type_.scale), zero_point

    def _constant(self, values: NDArray[Any]) -> str:
        array = np.asarray(values)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            name = f"/{array.dtype}/{len(self._known)}"
            self._known[key] = name
            self.constants[name] = numpy_helper.from_array(array, name)
        return self._known[key]
