"""Windows that slide over an image of one or two axes: how many there are, what they cover.

Every field has one entry a spatial axis. `before` and `after` is padding; what a ceiled size needs
beyond it is `overhang`, which a window may cover but nothing counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import InvalidNetworkError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Size, stride, dilation and padding of a sliding window."""

    size: Shape
    strides: Shape
    dilations: Shape
    before: Shape
    after: Shape

    def __post_init__(self) -> None:
        """One or two axes, sizes and strides at least 1, padding at least 0."""
        fields = (self.size, self.strides, self.dilations, self.before, self.after)
        if len({len(each) for each in fields}) != 1 or len(self.size) not in (1, 2):
            raise InvalidNetworkError(
                f"a window of {len(self.size)} axes with strides {self.strides}, dilations "
                f"{self.dilations} and padding {self.before} {self.after}; needs one entry each of "
                "1 or 2 axes"
            )
        if min(*self.size, *self.strides, *self.dilations) < 1 or min(self.before + self.after) < 0:
            raise InvalidNetworkError(
                f"a window of {self.size} with strides {self.strides}, dilations {self.dilations} "
                f"and padding {self.before} {self.after}; needs at least 1, 1, 1 and 0"
            )

    @property
    def extent(self) -> Shape:
        """Words from the first to the last tap."""
        return tuple((n - 1) * d + 1 for n, d in zip(self.size, self.dilations, strict=True))

    @property
    def area(self) -> int:
        """Taps."""
        return int(np.prod(self.size))

    def positions(self, sizes: Shape) -> Shape:
        """How many windows lie along every axis of an image of `sizes`.

        Raises:
            InvalidNetworkError: another number of axes, or not one window fits.
        """
        if len(sizes) != len(self.size):
            raise InvalidNetworkError(f"a window of {self.size} does not slide over {sizes}")
        found = tuple(
            (n + low + high - extent) // stride + 1
            for n, low, high, extent, stride in zip(
                sizes, self.before, self.after, self.extent, self.strides, strict=True
            )
        )
        if min(found) < 1:
            raise InvalidNetworkError(f"a window of {self.extent} is larger than its image {sizes}")
        return found

    def counts(self, sizes: Shape, counted: tuple[Shape, Shape]) -> NDArray[np.int64]:
        """Taps of every window that fall into the image, widened by `counted` (before, after).

        The shape is `positions(sizes)`.
        """
        total = np.ones((), np.int64)
        for axis, positions in enumerate(self.positions(sizes)):
            starts = np.arange(positions) * self.strides[axis] - self.before[axis]
            taps = starts[:, None] + np.arange(self.size[axis]) * self.dilations[axis]
            low, high = -counted[0][axis], sizes[axis] + counted[1][axis]
            inside = ((taps >= low) & (taps < high)).sum(1)
            total = total[..., None] * inside
        return total.astype(np.int64)
