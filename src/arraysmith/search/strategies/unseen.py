"""The designs that a search has not asked for yet, of which some are drawn."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.search.strategies.contract import Designs


class Unseen:
    """A space less the designs that were drawn from it or taken out of it."""

    def __init__(self, sizes: tuple[int, ...], rng: np.random.Generator) -> None:
        """All designs are unseen; `rng` draws."""
        self._sizes = sizes
        self._rng = rng
        self._seen: set[int] = set()

    @property
    def count(self) -> int:
        """Designs that are left."""
        return prod(self._sizes) - len(self._seen)

    def draw(self, count: int) -> Designs:
        """(count, axes): as many distinct ones, evenly and at random; fewer where fewer are left.

        They are seen from now on.
        """
        count = min(count, self.count)
        # To draw until it is a new one is quick while most are, and never ends when none is.
        if count and len(self._seen) + count > self.count:
            return self._draw_from_list(count)
        found: list[int] = []
        while len(found) < count:
            flat = int(self._rng.integers(prod(self._sizes)))
            if flat not in self._seen:
                self._seen.add(flat)
                found.append(flat)
        return self._designs(np.array(found, np.int64))

    def take(self, designs: Designs) -> Designs:
        """Those of some designs that are unseen, each once and in their order; then they are seen.

        Args:
            designs: (n, axes), inside the space.
        """
        new = designs[self.places(designs)]
        self._seen.update(self._flats(new))
        return new

    def places(self, designs: Designs) -> list[int]:
        """Where in some designs those stand that are unseen; where one comes again, the first."""
        first: dict[int, int] = {}
        for place, flat in enumerate(self._flats(designs)):
            first.setdefault(flat, place)
        return [place for flat, place in first.items() if flat not in self._seen]

    def _draw_from_list(self, count: int) -> Designs:
        left = np.ones(prod(self._sizes), np.bool_)
        left[list(self._seen)] = False
        drawn = self._rng.choice(np.flatnonzero(left), count, replace=False)
        self._seen.update(drawn.tolist())
        return self._designs(drawn)

    def _flats(self, designs: Designs) -> list[int]:
        flats: list[int] = np.ravel_multi_index(tuple(designs.T), self._sizes).tolist()
        return flats

    def _designs(self, flats: NDArray[np.int64]) -> Designs:
        return np.stack(np.unravel_index(flats, self._sizes), axis=1).astype(np.int64)
