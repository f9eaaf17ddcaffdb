"""What came of learning: the figures of a training, a quantization, an evaluation, as records.

Accuracies are fractions.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One pass over the training images."""

    number: int
    """1 for the first."""
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingHistory:
    """How a float network came to be."""

    seed: int
    batch_size: int
    learning_rate: float
    momentum: float
    threads: int
    train_images: int
    val_images: int
    command: str
    versions: dict[str, str]
    epochs: tuple[Epoch, ...] = ()

    @property
    def best(self) -> Epoch:
        """The epoch of highest validation accuracy; of equals the one of lowest validation loss."""
        return max(self.epochs, key=lambda epoch: (epoch.val_accuracy, -epoch.val_loss))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The float and the int8 network on the same labelled images."""

    images: int
    float_correct: int
    int8_correct: int
    changed: int
    """Predictions that differ, right or wrong."""
    fixed: int
    """Wrong in float, right in int8."""
    broken: int
    """Right in float, wrong in int8."""

    def __post_init__(self) -> None:
        """There was something to compare."""
        if self.images < 1:
            raise ValueError(f"a comparison of {self.images} images")

    @property
    def float_accuracy(self) -> float:
        """A fraction."""
        return self.float_correct / self.images

    @property
    def int8_accuracy(self) -> float:
        """A fraction."""
        return self.int8_correct / self.images

    @property
    def agreement(self) -> float:
        """The fraction of equal predictions."""
        return 1 - self.changed / self.images

    @property
    def p_value(self) -> float:
        """Exact McNemar test of `fixed` against `broken`."""
        return mcnemar_p_value(self.fixed, self.broken)


def compare(
    float_predictions: NDArray[Any], int8_predictions: NDArray[Any], labels: NDArray[Any]
) -> Comparison:
    """Count what quantization changed; three arrays of classes, (images,) each."""
    float_right = float_predictions == labels
    int8_right = int8_predictions == labels
    return Comparison(
        images=len(labels),
        float_correct=int(np.count_nonzero(float_right)),
        int8_correct=int(np.count_nonzero(int8_right)),
        changed=int(np.count_nonzero(float_predictions != int8_predictions)),
        fixed=int(np.count_nonzero(~float_right & int8_right)),
        broken=int(np.count_nonzero(float_right & ~int8_right)),
    )


def mcnemar_p_value(fixed: int, broken: int) -> float:
    """Two-sided exact McNemar test: how likely so uneven a split is if both are equally good.

    p = min(1, 2 Σ_{k ≤ min(b, c)} C(b + c, k) / 2^(b + c)), b and c the discordant counts
    (McNemar, Psychometrika 1947, in its exact binomial form). Computed in exact fractions.
    """
    discordant = fixed + broken
    tail = term = 1
    for k in range(min(fixed, broken)):
        term = term * (discordant - k) // (k + 1)
        tail += term
    return float(min(Fraction(1), Fraction(2 * tail, 2**discordant)))


def sqnr_db(signal_power: float, noise_power: float) -> float | None:
    """Signal to quantization noise, 10·log10(Σ x² / Σ (x - x̂)²), in decibels; None without noise.

    A signal of nothing but zeros counts as one of the least positive power.
    """
    if noise_power == 0:
        return None
    signal_power = max(signal_power, sys.float_info.min)
    return 10 * math.log10(signal_power / noise_power)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedLayer:
    """What quantization made of one layer."""

    name: str
    kind: str
    ends_with: str
    """The last float layer inside it."""
    output_scale: float
    output_zero_point: int | None
    """None: logits."""
    output_low: float
    """The reals that the integers cover."""
    output_high: float
    output_bits: int
    weight_bits: int | None
    weight_scale_low: float | None
    weight_scale_high: float | None
    sqnr_db: float | None
    """Of the layer's output against the float network's, all layers before it being int8 too; None
    where nothing was lost."""
    accumulator_low: int | None
    """What the accumulator can reach for any input, proven from the weights."""
    accumulator_high: int | None
    accumulator_bits: int | None
    magnitude_bound: int | None
    """Σ|w|·max|x| + |b|."""
    product: str | None
    """The type whose sums are proven exact: float32 below 2^24, float64 below 2^53, else int64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSensitivity:
    """What the outputs lose if one layer alone is quantized."""

    name: str
    """Of the integer layer, or of an input."""
    ends_with: str
    """The float tensor that is quantized: the last one inside the layer."""
    weight_bits: int | None
    """None: no weights."""
    activation_bits: int | None
    """None: logits."""
    sqnr_db: float | None
    """Of the worst output against the float network's; None where nothing was lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How a float network became integers."""

    network: str
    model: str
    """The float network's file, or the type of the Python object."""
    model_sha256: str
    """Of the file; empty for a Python object."""
    scheme: dict[str, str | int | float | bool]
    overrides: tuple[str, ...] = ()
    """Layers, or patterns of them, that a file of overrides chose otherwise for."""
    calibration_samples: int
    layers: tuple[QuantizedLayer, ...]
    islands: tuple[str, ...] = ()
    """Layers that run in floats, for want of an integer form."""
    sensitivity: tuple[LayerSensitivity, ...] = ()
    """What each layer costs, worst first; empty where it was not asked for."""
    seconds: float

    def __post_init__(self) -> None:
        """A network has layers."""
        if not self.layers:
            raise ValueError("a quantization without layers")

    @property
    def accumulator_bits(self) -> int:
        """Signed bits that suffice for every accumulator."""
        return max(layer.accumulator_bits or 0 for layer in self.layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeResult:
    """One quantization scheme against the float network."""

    scheme: str
    training: Comparison
    """On training images: what a scheme is chosen by."""
    test: Comparison
    """On test images: what is reported."""
    logits_sqnr_db: float | None
    """On the training images; None where nothing was lost."""
    accumulator_bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedImage:
    """A test image that float and int8 classify differently."""

    index: int
    label: int
    float_prediction: int
    int8_prediction: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Float and int8 on the test images."""

    comparison: Comparison
    p_value: float
    """Exact McNemar."""
    confusion: tuple[tuple[int, ...], ...]
    """Of the int8 network: rows are labels, columns predictions."""
    changed_images: tuple[ChangedImage, ...]
    integers_compared: int
    """Outputs of every layer that the NumPy and the torch engine were compared on; 0: not asked."""
    integers_different: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputComparison:
    """One output of a float network and of its integer form, on the same samples."""

    name: str
    sqnr_db: float | None
    """None where nothing was lost."""
    largest_error: float
    changed: int
    """Samples whose greatest word, along the last axis, is another one anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleEvaluation:
    """A float network and its integer form on samples that a user gave."""

    network: str
    samples: int
    outputs: tuple[OutputComparison, ...]
    comparison: Comparison | None = None
    """Of the first output's classes, where labels were given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackEnd:
    """One back end against the NumPy reference."""

    name: str
    integers: int
    """How many were compared, over all layers."""
    different: int
    first_difference: str | None = None
    """The first layer and index that differ, with both integers."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Every back end that is there, on one input set."""

    network: str
    samples: int
    given: str
    """Where the samples are from."""
    reference: str
    back_ends: tuple[BackEnd, ...]
    absent: dict[str, str]
    """Back ends that could not run, and why."""

    @property
    def different(self) -> int:
        """Integers that differ, over all back ends."""
        return sum(each.different for each in self.back_ends)
