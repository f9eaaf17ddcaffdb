"""Back end against back end, on raw integers, layer by layer.

The NumPy engine is the reference: the plain statement of the arithmetic. Every other back end gives
the integers of all layers for a batch of inputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.errors import InvalidNetworkError, MissingExtraError
from arraysmith.metrics import BackEnd
from arraysmith.progress import silent
from arraysmith.quantization import int8

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from arraysmith.progress import Progress
    from arraysmith.quantization.network import IntegerNetwork

Arrays = Mapping[str, "NDArray[Any]"]
Runner = Callable[[Arrays], Arrays]
"""Integers of the inputs, (batch, *shape) by name, to those of every layer."""

REFERENCE = "NumPy"
WORDS_AT_ONCE = 1 << 23
"""Of all tensors of a batch together."""
MOST_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A back end that is there, not yet loaded."""

    name: str
    load: Callable[[], Runner]


def verify_back_ends(
    network: IntegerNetwork,
    inputs: Arrays,
    waiting: tuple[Waiting, ...],
    progress: Progress = silent,
) -> tuple[tuple[BackEnd, ...], dict[str, str]]:
    """Run all back ends on the same inputs.

    Returns:
        What came of each, and of those that could not run the reason.
    """
    runners: dict[str, Runner] = {}
    absent: dict[str, str] = {}
    for each in waiting:
        try:
            runners[each.name] = each.load()
        except (MissingExtraError, InvalidNetworkError) as error:
            absent[each.name] = str(error)
    tallies = {name: _Tally() for name in runners}
    count = len(next(iter(inputs.values())))
    with progress("every back end, every integer", count) as advance:
        for batch in _batches(network, inputs):
            reference = {layer.name: found for layer, found in int8.trace(network, batch)}
            done = advance_of(batch)
            for name, runner in runners.items():
                start = time.perf_counter()
                found = runner(batch)
                tallies[name].seconds += time.perf_counter() - start
                tallies[name].compare(reference, found)
            advance(done)
    results = tuple(tally.result(name) for name, tally in tallies.items())
    return results, absent


def advance_of(batch: Arrays) -> int:
    """Samples in a batch."""
    return len(next(iter(batch.values())))


class _Tally:
    """Counts what was compared with one back end."""

    def __init__(self) -> None:
        self.integers = self.different = self.samples = 0
        self.first: str | None = None
        self.seconds = 0.0

    def compare(self, reference: Arrays, found: Arrays) -> None:
        """Every layer of one batch, in order."""
        for name, expected in reference.items():
            other = found.get(name)
            if other is None or other.shape != expected.shape:
                shape = None if other is None else other.shape
                raise InvalidNetworkError(
                    f"layer {name!r}: {shape} where the reference has {expected.shape}; this is a "
                    "bug in Arraysmith, please report it"
                )
            wrong = other.astype(np.int64) != expected
            self.integers += expected.size
            self.different += int(wrong.sum())
            if self.first is None and wrong.any():
                sample, *place = (int(each) for each in np.argwhere(wrong)[0])
                at = (sample, *place)
                self.first = (
                    f"layer {name!r}, sample {self.samples + sample}, index {tuple(place)}: "
                    f"{int(other[at])}, {REFERENCE} has {int(expected[at])}"
                )
        self.samples += max(len(array) for array in reference.values())

    def result(self, name: str) -> BackEnd:
        """What came of it."""
        return BackEnd(
            name=name,
            integers=self.integers,
            different=self.different,
            first_difference=self.first,
            seconds=self.seconds,
        )


def _batches(network: IntegerNetwork, inputs: Arrays) -> Iterator[dict[str, NDArray[Any]]]:
    """As many at a time as their tensors leave room for."""
    words = sum(prod(shape) for shape in network.shapes.values())
    size = max(1, min(MOST_AT_ONCE, WORDS_AT_ONCE // words))
    count = len(next(iter(inputs.values())))
    for start in range(0, count, size):
        yield {name: array[start : start + size] for name, array in inputs.items()}


def random_inputs(network: IntegerNetwork, count: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Integers from the whole range of every input, all as likely."""
    generator = np.random.default_rng(seed)
    found = {}
    for each in network.inputs:
        low, high = (0, each.rows - 1) if each.type is None else (each.type.qmin, each.type.qmax)
        found[each.name] = generator.integers(low, high, (count, *each.shape), endpoint=True)
    return found
