"""The QDQ graph in the making: every tensor as integers, and as the reals that they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import numpy_helper

from arraysmith.quantization.onnx_integer.draft import Draft, carrier

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import TensorProto

    from arraysmith.affine import Affine
    from arraysmith.quantization.network import IntegerNetwork


def float32(values: object) -> NDArray[np.float32]:
    """As float32, the type of all reals in the graph."""
    return np.asarray(values, np.float32)


class QdqDraft(Draft):
    """The integers of a layer have its name, its reals are `layer/real`."""

    def __init__(self, network: IntegerNetwork, *, exact: bool) -> None:
        """Nothing but the inputs' shapes and types."""
        super().__init__(network)
        self.exact = exact
        self.stored_constants: dict[str, TensorProto] = {}

    def stored(self, what: str, values: NDArray[Any]) -> str:
        """A constant of the present layer, `layer/what`."""
        name = f"{self._layer}/{what}"
        tensor = numpy_helper.from_array(np.ascontiguousarray(values), name)
        self.stored_constants[name] = tensor
        return name

    def real(self, tensor: str) -> str:
        """The reals of a layer or an input."""
        return f"{tensor}/real"

    def ranked_real(self, tensor: str, axes: int) -> str:
        """Its reals with axes inserted right behind the batch, up to `axes` in all."""
        missing = axes - len(self.shapes[tensor])
        if missing <= 0:
            return self.real(tensor)
        return self.reshaped_real(tensor, (*(1,) * missing, *self.shapes[tensor]))

    def reshaped_real(self, tensor: str, shape: tuple[int, ...]) -> str:
        """Its reals in another shape; -1 in front of it takes the batch in.

        The integers are reshaped. Between DequantizeLinear and an operation ONNX Runtime 1.32 puts
        a QDQ pair of its own behind a Reshape, and gets the type of uint8 wrong.
        """
        whole = shape if shape[:1] == (-1,) else (0, *shape)
        type_ = self.types[tensor]
        if type_ is None:
            return self.emit("Reshape", self.real(tensor), np.array(whole, np.int64))
        integers = self.emit("Reshape", tensor, np.array(whole, np.int64))
        return self.emit("DequantizeLinear", integers, *grid(type_))

    def name_real(self, tensor: str) -> None:
        """What was just emitted becomes the present layer's reals."""
        if len(self.nodes) == self._begin or self.nodes[-1].output[0] != tensor:
            self.emit("Identity", tensor)
        self.nodes[-1].output[0] = self.nodes[-1].name = self.real(self._layer)

    def quantize(
        self,
        real: str,
        inputs: tuple[str, ...],
        type_: Affine,
        low: int | None = None,
        high: int | None = None,
    ) -> None:
        """The present layer's integers of a real tensor, and their reals.

        The clamp to low…high stands before the rounding: its ends are whole steps, so that comes to
        the same.
        """
        holds = np.iinfo(carrier(type_))
        least, most = type_.qmin if low is None else low, type_.qmax if high is None else high
        if low == type_.zero_point and most == holds.max:
            real = self.emit("Relu", real)
        elif least > holds.min or most < holds.max:
            ends = float32(type_.dequantize([least, most]))
            real = self.emit("Clip", real, ends[0], ends[1])
        self.quantize_within(real, inputs, type_)

    def quantize_within(self, real: str, inputs: tuple[str, ...], type_: Affine) -> None:
        """As `quantize`, of reals that stand for integers of the type already."""
        self.end(self.emit("QuantizeLinear", real, *grid(type_)), inputs, carrier(type_))
        self.dequantize(type_)

    def dequantize(self, type_: Affine) -> None:
        """The present layer's reals, of its integers."""
        self.name_real(self.emit("DequantizeLinear", self._layer, *grid(type_)))


def grid(type_: Affine) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scale and zero point as QuantizeLinear and DequantizeLinear read them."""
    return float32(type_.scale), np.asarray(type_.zero_point, carrier(type_))
