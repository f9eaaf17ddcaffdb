"""Operations that move words and compute nothing, the same over reals and over integers.

Like every operation a move has a `name`, which is also that of the tensor it makes, and the names
of its `inputs`. Shapes and axes leave the batch out: axis 0 is the first after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import InvalidNetworkError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.networks.windows import Windows

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A name, and what is read."""

    name: str
    inputs: tuple[str, ...]

    def refuse(self, problem: str) -> InvalidNetworkError:
        """The error that names this operation."""
        return InvalidNetworkError(f"layer {self.name!r}: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshape(Move):
    """The same words, row-major, in another shape."""

    shape: Shape

    def output_shape(self, shape: Shape) -> Shape:
        """Any shape of as many words."""
        if prod(shape) != prod(self.shape) or min(self.shape, default=1) < 1:
            raise self.refuse(f"shape {shape} cannot become {self.shape}")
        return self.shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Transpose(Move):
    """Axis i of the output is axis axes[i] of the input."""

    axes: tuple[int, ...]

    def output_shape(self, shape: Shape) -> Shape:
        """The sizes in another order."""
        if sorted(self.axes) != list(range(len(shape))):
            raise self.refuse(f"axes {self.axes} are no order of those of {shape}")
        return tuple(shape[axis] for axis in self.axes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Take(Move):
    """Words at `indices` of one axis: a slice, a flip, a nearest resize, a gather of constants."""

    axis: int
    indices: NDArray[np.int64]
    """(n,), each at least 0."""

    def output_shape(self, shape: Shape) -> Shape:
        """`axis` has n words."""
        if not 0 <= self.axis < len(shape):
            raise self.refuse(f"axis {self.axis} is none of {shape}")
        if self.indices.ndim != 1 or not self.indices.size:
            raise self.refuse(f"indices of shape {self.indices.shape}, needs a list of some")
        if self.indices.min() < 0 or self.indices.max() >= shape[self.axis]:
            raise self.refuse(
                f"takes {self.indices.min()}…{self.indices.max()} of the {shape[self.axis]} words "
                f"of axis {self.axis}"
            )
        return (*shape[: self.axis], self.indices.size, *shape[self.axis + 1 :])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pad(Move):
    """Words of one value around all axes."""

    before: Shape
    after: Shape
    value: float = 0.0
    """A real in a float graph; in an integer network the integer that stands for it."""

    def output_shape(self, shape: Shape) -> Shape:
        """Every axis longer by what is before and after."""
        if not len(shape) == len(self.before) == len(self.after):
            raise self.refuse(f"padding {self.before} {self.after} does not fit {shape}")
        if min((*self.before, *self.after), default=0) < 0:
            raise self.refuse(f"padding {self.before} {self.after}, needs at least 0")
        sizes = zip(shape, self.before, self.after, strict=True)
        return tuple(size + low + high for size, low, high in sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch(Move):
    """`factors[i] - 1` words of `value` between the words of spatial axis i.

    A transposed convolution is an ordinary one over that.
    """

    factors: Shape
    value: float = 0.0
    """As in `Pad`."""

    def output_shape(self, shape: Shape) -> Shape:
        """(channels, n, …) to (channels, (n - 1)·factor + 1, …)."""
        if len(shape) != len(self.factors) + 1 or min(self.factors) < 1:
            raise self.refuse(f"factors {self.factors} do not fit {shape}")
        sizes = zip(shape[1:], self.factors, strict=True)
        return (shape[0], *((size - 1) * factor + 1 for size, factor in sizes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Expand(Move):
    """Axes of one word repeated, as broadcasting does; a shorter shape gets axes in front."""

    shape: Shape

    def output_shape(self, shape: Shape) -> Shape:
        """`shape`, which the input's broadcasts to."""
        try:
            fits = np.broadcast_shapes(shape, self.shape) == self.shape
        except ValueError:
            fits = False
        if not fits:
            raise self.refuse(f"shape {shape} does not broadcast to {self.shape}")
        return self.shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat(Move):
    """Tensors one after the other along an axis."""

    axis: int

    def output_shape(self, *shapes: Shape) -> Shape:
        """Sizes of `axis` add up, the others are equal."""
        first = shapes[0]
        if not 0 <= self.axis < len(first):
            raise self.refuse(f"axis {self.axis} is none of {first}")
        rests = {(*shape[: self.axis], *shape[self.axis + 1 :]) for shape in shapes}
        if len(rests) > 1 or any(len(shape) != len(first) for shape in shapes):
            raise self.refuse(f"shapes {', '.join(map(str, shapes))} do not join along {self.axis}")
        total = sum(shape[self.axis] for shape in shapes)
        return (*first[: self.axis], total, *first[self.axis + 1 :])


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool(Move):
    """The greatest word of each window, (channels, spatial…); padding is never the greatest."""

    windows: Windows

    def output_shape(self, shape: Shape) -> Shape:
        """(channels, positions…)."""
        if len(shape) != len(self.windows.size) + 1:
            raise self.refuse(f"a window of {self.windows.size} does not slide over {shape}")
        none = (0,) * len(self.windows.size)
        if not self.windows.counts(shape[1:], (none, none)).all():
            raise self.refuse(f"a window over {shape} sees padding alone; give it less padding")
        return (shape[0], *self.windows.positions(shape[1:]))


MOVES = (Reshape, Transpose, Take, Pad, Stretch, Expand, Concat, MaxPool)
