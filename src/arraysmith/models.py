"""What a network is: a name, an input shape and a chain of layers, without any parameters.

Shapes are (channels, rows, columns) for images and (features,) for vectors; batch comes first in
arrays and is left out here. `NetworkSpec` is valid from birth: shapes are inferred at construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from arraysmith.errors import InvalidNetworkError

Shape = tuple[int, ...]


class ActivationKind(StrEnum):
    """The element-wise functions a network may use."""

    RELU = "relu"
    TANH = "tanh"
    SIGMOID = "sigmoid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """A 2-D convolution with a bias; weights are (out_channels, in_channels, filter, filter)."""

    name: str
    in_channels: int
    out_channels: int
    filter: int
    stride: int = 1
    padding: int = 0

    def output_shape(self, shape: Shape) -> Shape:
        """(in_channels, rows, columns) to (out_channels, rows, columns)."""
        if len(shape) != 3 or shape[0] != self.in_channels:
            raise InvalidNetworkError(
                f"layer {self.name!r} takes {self.in_channels} channels of an image, got {shape}"
            )
        rows, cols = (
            (size + 2 * self.padding - self.filter) // self.stride + 1 for size in shape[1:]
        )
        if min(rows, cols) < 1:
            raise InvalidNetworkError(
                f"layer {self.name!r}: filter {self.filter} is larger than its input {shape}"
            )
        return (self.out_channels, rows, cols)

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Names and shapes of the trained tensors."""
        weight = (self.out_channels, self.in_channels, self.filter, self.filter)
        return {f"{self.name}.weight": weight, f"{self.name}.bias": (self.out_channels,)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A fully connected layer with a bias; weights are (out_features, in_features)."""

    name: str
    in_features: int
    out_features: int

    def output_shape(self, shape: Shape) -> Shape:
        """(in_features,) to (out_features,)."""
        if shape != (self.in_features,):
            raise InvalidNetworkError(
                f"layer {self.name!r} takes {self.in_features} features, got shape {shape}"
            )
        return (self.out_features,)

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Names and shapes of the trained tensors."""
        weight = (self.out_features, self.in_features)
        return {f"{self.name}.weight": weight, f"{self.name}.bias": (self.out_features,)}


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragePool:
    """An average over non-overlapping windows of window × window; a rest at the border is cut."""

    name: str
    window: int = 2

    def output_shape(self, shape: Shape) -> Shape:
        """(channels, rows, columns) to (channels, rows // window, columns // window)."""
        if len(shape) != 3 or min(shape[1:]) < self.window:
            raise InvalidNetworkError(
                f"layer {self.name!r} pools {self.window}×{self.window}, got shape {shape}"
            )
        return (shape[0], shape[1] // self.window, shape[2] // self.window)

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Nothing is trained here."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """An element-wise function."""

    name: str
    kind: ActivationKind

    def output_shape(self, shape: Shape) -> Shape:
        """The shape of its input."""
        return shape

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Nothing is trained here."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flatten:
    """An image as a vector, row-major: channel, row, column."""

    name: str

    def output_shape(self, shape: Shape) -> Shape:
        """(channels, rows, columns) to (channels·rows·columns,)."""
        size = 1
        for length in shape:
            size *= length
        return (size,)

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Nothing is trained here."""
        return {}


LayerSpec = Convolution | Linear | AveragePool | Activation | Flatten


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A chain of layers over inputs of `input_shape`."""

    name: str
    input_shape: Shape
    layers: tuple[LayerSpec, ...]

    def __post_init__(self) -> None:
        """Infer all shapes once, so that a network that cannot run cannot be."""
        names = [layer.name for layer in self.layers]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled or not names:
            raise InvalidNetworkError(
                f"network {self.name!r} needs layers of different names, got {doubled or 'none'}"
            )
        _ = self.shapes

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The input shape, then the output shape of every layer."""
        shapes = [self.input_shape]
        for layer in self.layers:
            shapes.append(layer.output_shape(shapes[-1]))
        return tuple(shapes)

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Names and shapes of all trained tensors, in order."""
        return {
            name: shape for layer in self.layers for name, shape in layer.parameter_shapes.items()
        }


def lenet5(activation: ActivationKind = ActivationKind.RELU) -> NetworkSpec:
    """LeNet-5 (LeCun et al., Proc. IEEE 1998, section II.B) for 28×28 MNIST images.

    As is usual today every map of the third layer sees all maps of the second, and the last layer
    is linear. conv3 covers its whole input, so it equals a linear layer from 400 to 120.
    """
    return NetworkSpec(
        name="lenet5",
        input_shape=(1, 28, 28),
        layers=(
            Convolution(name="conv1", in_channels=1, out_channels=6, filter=5, padding=2),
            Activation(name="act1", kind=activation),
            AveragePool(name="pool1"),
            Convolution(name="conv2", in_channels=6, out_channels=16, filter=5),
            Activation(name="act2", kind=activation),
            AveragePool(name="pool2"),
            Convolution(name="conv3", in_channels=16, out_channels=120, filter=5),
            Activation(name="act3", kind=activation),
            Flatten(name="flatten"),
            Linear(name="fc1", in_features=120, out_features=84),
            Activation(name="act4", kind=activation),
            Linear(name="fc2", in_features=84, out_features=10),
        ),
    )
