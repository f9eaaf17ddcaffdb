"""A network of normalised images as one of pixels: integers from 0 to 255, as cameras give them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from arraysmith.affine import Affine
from arraysmith.errors import InvalidNetworkError
from arraysmith.networks.functions import Function, Step
from arraysmith.networks.operations import Elementwise

if TYPE_CHECKING:
    from arraysmith.networks.graph import FloatGraph

PIXELS = Affine(scale=1.0, zero_point=0, qmin=0, qmax=255)
"""A pixel stands for its own value."""
NORMALISE = "normalise"


def with_pixels(graph: FloatGraph, mean: float, deviation: float) -> FloatGraph:
    """Put (pixel/255 - mean)/deviation in front of a graph of one input.

    Quantized it is a table of 256 entries. The input keeps its name.
    """
    if len(graph.inputs) != 1:
        raise InvalidNetworkError(f"network {graph.name!r} has {len(graph.inputs)} inputs, not one")
    given = graph.inputs[0]
    steps = ((Function.MUL, 1 / 255), (Function.ADD, -mean), (Function.MUL, 1 / deviation))
    first = Elementwise(
        name=NORMALISE,
        inputs=(given.name,),
        steps=tuple(Step(function=function, numbers=(number,)) for function, number in steps),
    )
    rest = (
        replace(
            each,
            inputs=tuple(NORMALISE if name == given.name else name for name in each.inputs),
        )
        for each in graph.operations
    )
    return replace(graph, inputs=(replace(given, type=PIXELS),), operations=(first, *rest))
