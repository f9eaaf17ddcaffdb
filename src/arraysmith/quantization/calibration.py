"""Ranges of tensors from what the float network does on calibration samples.

Three ways: the extremes themselves; a percentile, which leaves rare values out; or the range whose
grid has the least mean squared error over a histogram of the values. Only the last two need the
histogram, and a second pass for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from arraysmith.affine import affine_from_range
from arraysmith.errors import InvalidNetworkError
from arraysmith.learning.float_graph import trace
from arraysmith.progress import silent
from arraysmith.quantization.scheme import Calibration, Scales

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from numpy.typing import NDArray

    from arraysmith.networks.graph import FloatGraph
    from arraysmith.progress import Progress
    from arraysmith.quantization.samples import Samples
    from arraysmith.quantization.scheme import Scheme

HISTOGRAM_BINS = 4096
MSE_CANDIDATES = 100
BATCH_WORDS = 1 << 19
"""Of the largest tensor of a batch: small enough to stay near the processor."""
MAX_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one tensor of the float network did over the calibration samples."""

    low: float
    high: float
    counts: NDArray[np.int64] | None = None
    """(bins,): a histogram between low and high, where one was asked for."""


def observe(
    graph: FloatGraph,
    samples: Samples,
    tensors: Collection[str] | None = None,
    *,
    histograms: Collection[str] = (),
    also: Callable[[str, torch.Tensor], None] | None = None,
    progress: Progress = silent,
) -> dict[str, Observation]:
    """Watch the tensors of a graph, its inputs among them; row numbers have no range.

    Args:
        graph: the float network.
        samples: for its inputs.
        tensors: which ones; all by default.
        histograms: of these tensors; see `needs_histogram`.
        also: is shown every tensor of reals once, by name, a batch at a time.
        progress: shows samples.

    Raises:
        InputFileError: every value of every input is the same.
        InvalidNetworkError: a tensor has NaN or infinity; the message names its layer.
    """
    samples.check_variation()
    watched = set(graph.shapes if tensors is None else tensors) | set(histograms)
    passes = 2 if histograms else 1
    with progress("calibration samples", passes * len(samples)) as advance:
        ranges = _ranges(_shown(_traced(graph, samples, advance), also), watched)
        counts = _histograms(graph, samples, ranges, set(histograms), advance)
    return {
        name: Observation(low=low, high=high, counts=counts.get(name))
        for name, (low, high) in ranges.items()
    }


def needs_histogram(scheme: Scheme) -> bool:
    """Whether `calibrated_range` asks for the histogram of an observation."""
    return scheme.calibration is not Calibration.MIN_MAX


def batch_size(graph: FloatGraph, words: int = BATCH_WORDS) -> int:
    """Samples a batch, so that its largest tensor has about `words`."""
    largest = max(prod(shape) for shape in graph.shapes.values())
    return min(max(words // max(largest, 1), 1), MAX_BATCH)


def tensors_of(batch: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    """Arrays as torch tensors, not copied unless they may not be written to."""
    return {
        name: torch.from_numpy(np.require(array, requirements="W")) for name, array in batch.items()
    }


def _traced(
    graph: FloatGraph, samples: Samples, advance: Callable[[int], None]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of reals, batch after batch."""
    for batch in samples.batches(batch_size(graph)):
        for name, x in trace(graph, tensors_of(batch)):
            if x.is_floating_point():
                yield name, x
        advance(len(batch[graph.inputs[0].name]))


def _shown(
    traced: Iterator[tuple[str, torch.Tensor]], also: Callable[[str, torch.Tensor], None] | None
) -> Iterator[tuple[str, torch.Tensor]]:
    """The same tensors, each shown on its way."""
    for name, x in traced:
        if also is not None:
            also(name, x)
        yield name, x


def _ranges(
    traced: Iterator[tuple[str, torch.Tensor]], watched: set[str]
) -> dict[str, tuple[float, float]]:
    """Least and greatest of every tensor."""
    found: dict[str, tuple[float, float]] = {}
    for name, x in traced:
        if name not in watched:
            continue
        low, high = (float(end) for end in torch.aminmax(x))  # NaN goes through
        if not np.isfinite(high - low):
            raise InvalidNetworkError(
                f"layer {name!r} gives NaN or infinity on the calibration samples; check the "
                "samples, or the network's weights"
            )
        before = found.get(name, (low, high))
        found[name] = (min(before[0], low), max(before[1], high))
    return found


def _histograms(
    graph: FloatGraph,
    samples: Samples,
    ranges: Mapping[str, tuple[float, float]],
    watched: set[str],
    advance: Callable[[int], None],
) -> dict[str, NDArray[np.int64]]:
    """Counts of `HISTOGRAM_BINS` bins between the ends."""
    counts: dict[str, NDArray[np.int64]] = {}
    if not watched:
        return counts
    for name, x in _traced(graph, samples, advance):
        if name in watched:
            counts[name] = counts.get(name, 0) + _counts(x, *ranges[name])
    return counts


def _counts(x: torch.Tensor, low: float, high: float) -> NDArray[np.int64]:
    """(bins,): how many words fall into each."""
    high = high if high > low else low + 1
    total = np.zeros(HISTOGRAM_BINS, np.int64)
    for piece in x.reshape(-1).split(1 << 24):  # histc counts in float32, which stops there
        total += torch.histc(piece, HISTOGRAM_BINS, low, high).numpy().astype(np.int64)
    return total


def calibrated_range(observation: Observation, scheme: Scheme) -> tuple[float, float]:
    """The range of the reals that the integers shall cover."""
    match scheme.calibration:
        case Calibration.MIN_MAX:
            return observation.low, observation.high
        case Calibration.PERCENTILE:
            return _percentile_range(observation, scheme.percentile)
        case Calibration.MSE:
            return _mse_range(observation, scheme)


def _counted(observation: Observation) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(bins,) counts and their (bins + 1,) edges."""
    if observation.counts is None:
        raise ValueError("a percentile and the least error need the tensor's histogram")
    edges = np.linspace(observation.low, observation.high, len(observation.counts) + 1)
    return observation.counts, edges


def _percentile_range(observation: Observation, percentile: float) -> tuple[float, float]:
    counts, edges = _counted(observation)
    below = np.cumsum(counts) / counts.sum()
    outside = 1 - percentile / 100
    first = int(np.searchsorted(below, outside, side="right"))
    last = int(np.searchsorted(below, 1 - outside)) + 1
    low, high = edges[first], edges[min(last, len(counts))]
    return float(low), float(high)


def _mse_range(observation: Observation, scheme: Scheme) -> tuple[float, float]:
    """Shrink the range step by step; keep the one of least squared error over the histogram."""
    counts, edges = _counted(observation)
    centres = (edges[:-1] + edges[1:]) / 2

    def error(shrink: float) -> float:
        affine = affine_from_range(
            shrink * observation.low,
            shrink * observation.high,
            signed=scheme.signed_activations,
            power_of_two=scheme.scales is not Scales.FREE,
            bits=scheme.activation_bits,
        )
        rounded = affine.dequantize(affine.quantize(centres))
        return float((counts * (centres - rounded) ** 2).sum())

    best = min(np.linspace(1, 0.3, MSE_CANDIDATES).tolist(), key=error)
    return best * observation.low, best * observation.high
