"""Attention masks: constants of huge negative numbers that a softmax is to see as nothing.

A range that held them would leave no step for the scores beside them. A masked word needs to lie
only so far below the least score that its entry in the softmax's table is 0: 2^16·exp(-d) < ½ for
d > 17·ln 2. So the sum of scores and mask gets the range of the scores with that much below, where
masked words saturate, and the mask the range that takes every score there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.networks.operations import Add, Constant, Softmax

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from arraysmith.networks.graph import FloatGraph
    from arraysmith.quantization.plan import Plan

Range = tuple[float, float]

MASKED = -1000.0
"""No score is below it, every mask is."""
BEYOND = 12.0
"""Below the least score: a little more than 17·ln 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sum:
    """Scores and a mask, which a softmax alone reads."""

    tensor: str
    scores: str
    mask: str
    """The constant."""


def unmasked_ranges(
    graph: FloatGraph, planned: Plan, ranges: Mapping[str, Range]
) -> dict[str, Range]:
    """New ranges for masks and for what they are added to; all else is left out.

    Args:
        graph: the float network.
        planned: its groups.
        ranges: low and high of the tensors that have no type of their own.
    """
    constants = {each.name: each for each in graph.operations if isinstance(each, Constant)}
    found: dict[str, Range] = {}
    for each in _sums(graph, planned, constants):
        if not {each.tensor, each.scores, each.mask} <= ranges.keys():
            continue  # a type or range was given: it holds
        low, high = ranges[each.scores]
        seen = _seen(constants[each.mask].value)
        low, high = low + seen[0] - BEYOND, high + seen[1]
        found[each.tensor] = (low, high)
        deepest = min(low - high, found.get(each.mask, (0.0, 0.0))[0])
        found[each.mask] = (deepest, seen[1])
    return found


def _sums(graph: FloatGraph, planned: Plan, constants: Mapping[str, Constant]) -> Iterator[_Sum]:
    readers = graph.readers
    for add in graph.operations:
        if not isinstance(add, Add) or add.signs != (1, 1) or add.name in graph.outputs:
            continue
        if not readers[add.name] or not all(
            isinstance(each, Softmax) for each in readers[add.name]
        ):
            continue
        owners = [planned.owners.get(name, "") for name in add.inputs]
        for mask, scores in (owners, owners[::-1]):
            if mask in constants and constants[mask].value.min() <= MASKED:
                yield _Sum(tensor=add.name, scores=scores, mask=mask)


def _seen(mask: NDArray[np.float32]) -> Range:
    """Least and greatest of what a mask lets through."""
    through = mask[mask > MASKED].astype(np.float64)
    return (float(through.min()), float(through.max())) if through.size else (0.0, 0.0)
