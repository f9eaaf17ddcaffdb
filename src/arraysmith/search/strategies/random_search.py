"""Designs at random, none twice: what every other strategy must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraysmith.search.strategies.unseen import Unseen

if TYPE_CHECKING:
    import numpy as np

    from arraysmith.search.strategies.contract import Search

_BATCH = 64


def search(sizes: tuple[int, ...], rng: np.random.Generator) -> Search:
    """Draw evenly from what was not drawn before, until nothing is left."""
    unseen = Unseen(sizes, rng)
    while len(designs := unseen.draw(_BATCH)):
        yield designs
