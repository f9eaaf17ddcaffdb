"""Ranges of activations from what the float network does on calibration images.

Three ways: the extremes themselves; a percentile, which leaves rare values out; or the range whose
8-bit grid has the least mean squared error over a histogram of the values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from arraysmith.errors import InvalidNetworkError
from arraysmith.models import Convolution, Linear
from arraysmith.affine import affine_from_range
from arraysmith.quantization.scheme import Calibration

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from arraysmith.learning.network import FloatNetwork
    from arraysmith.models import LayerSpec
    from arraysmith.quantization.scheme import Scheme

BATCH = 500
HISTOGRAM_BINS = 4096
MSE_CANDIDATES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one tensor of the float network did over the calibration images."""

    low: float
    high: float
    counts: NDArray[np.int64]
    """(bins,): a histogram between low and high."""
    channel_means: NDArray[np.float64]
    """(channels,): for weighted layers, over images and positions; empty for others."""


def observe(network: FloatNetwork, images: torch.Tensor) -> dict[str, Observation]:
    """Watch every layer's output; the network's input is under the name "input".

    Args:
        network: the float network.
        images: (n, *input_shape) float32, normalised as in training.
    """
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
    sums: dict[str, NDArray[np.float64]] = {}

    def ranges(name: str, layer: LayerSpec | None, x: torch.Tensor) -> None:
        lows[name] = min(lows.get(name, np.inf), float(x.min()))
        highs[name] = max(highs.get(name, -np.inf), float(x.max()))
        if isinstance(layer, Convolution | Linear):
            over = tuple(axis for axis in range(x.ndim) if axis != 1)
            mean = x.double().sum(over).numpy() * (x.shape[1] / x.numel())
            sums[name] = sums.get(name, 0.0) + mean * (len(x) / len(images))

    counts: dict[str, NDArray[np.int64]] = {}

    def histogram(name: str, _: LayerSpec | None, x: torch.Tensor) -> None:
        edges = (lows[name], highs[name] if highs[name] > lows[name] else lows[name] + 1)
        found = np.histogram(x.numpy(), HISTOGRAM_BINS, edges)[0]
        counts[name] = counts.get(name, 0) + found

    for visit in (ranges, histogram):
        _watch(network, images, visit)
        broken = [name for name in lows if not np.isfinite(lows[name] + highs[name])]
        if broken:
            raise InvalidNetworkError(
                f"layer {broken[0]!r} gives NaN or infinity on the calibration images; "
                "train again or check the images"
            )
    return {
        name: Observation(
            low=lows[name],
            high=highs[name],
            counts=counts[name],
            channel_means=sums.get(name, np.zeros(0)),
        )
        for name in lows
    }


def calibrated_range(observation: Observation, scheme: Scheme) -> tuple[float, float]:
    """The range of the reals that the integers shall cover."""
    match scheme.calibration:
        case Calibration.MIN_MAX:
            return observation.low, observation.high
        case Calibration.PERCENTILE:
            return _percentile_range(observation, scheme.percentile)
        case Calibration.MSE:
            return _mse_range(observation, scheme)


def _percentile_range(observation: Observation, percentile: float) -> tuple[float, float]:
    edges = np.linspace(observation.low, observation.high, HISTOGRAM_BINS + 1)
    below = np.cumsum(observation.counts) / observation.counts.sum()
    outside = 1 - percentile / 100
    first = int(np.searchsorted(below, outside, side="right"))
    last = int(np.searchsorted(below, 1 - outside)) + 1
    low, high = edges[first], edges[min(last, HISTOGRAM_BINS)]
    return float(low), float(high)


def _mse_range(observation: Observation, scheme: Scheme) -> tuple[float, float]:
    """Shrink the range step by step; keep the one of least squared error over the histogram."""
    edges = np.linspace(observation.low, observation.high, HISTOGRAM_BINS + 1)
    centres = (edges[:-1] + edges[1:]) / 2

    def error(shrink: float) -> float:
        affine = affine_from_range(
            shrink * observation.low,
            shrink * observation.high,
            signed=scheme.signed_activations,
            power_of_two=scheme.power_of_two,
        )
        rounded = affine.dequantize(affine.quantize(centres))
        return float((observation.counts * (centres - rounded) ** 2).sum())

    best = min(np.linspace(1, 0.3, MSE_CANDIDATES).tolist(), key=error)
    return best * observation.low, best * observation.high


@torch.inference_mode()
def _watch(
    network: FloatNetwork,
    images: torch.Tensor,
    visit: Callable[[str, LayerSpec | None, torch.Tensor], None],
) -> None:
    for batch in images.split(BATCH):
        visit("input", None, batch)
        for layer, x in network.trace(batch):
            visit(layer.name, layer, x)
