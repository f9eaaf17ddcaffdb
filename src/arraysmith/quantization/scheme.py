"""The choices a quantization makes, as one frozen record, and the named ones that are compared.

A `LayerOverride` makes other choices for the layers whose names it matches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from arraysmith.affine import MAX_BITS, MAX_MULTIPLIER_BITS, MIN_BITS, MIN_MULTIPLIER_BITS
from arraysmith.errors import InvalidNetworkError

if TYPE_CHECKING:
    from collections.abc import Iterable


class Calibration(StrEnum):
    """How the range of an activation is chosen from what calibration samples show."""

    MIN_MAX = "minmax"
    PERCENTILE = "percentile"
    MSE = "mse"


class Scales(StrEnum):
    """Which scales are allowed."""

    FREE = "free"
    """Any: a multiplier and a shift behind every accumulator."""
    POW2 = "pow2"
    """Activations: powers of two. Weights: 8 bits times a power of two, so m has 8 bits, exact."""
    SHIFT = "shift"
    """All powers of two: the requantization is a shift alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """Linear asymmetric integers; why these defaults is in `docs/quantization.md`."""

    name: str = "default"
    per_channel: bool = True
    """One weight scale and multiplier an output channel, else one a tensor."""
    symmetric_weights: bool = False
    signed_activations: bool = True
    """int8, else uint8."""
    activation_bits: int = 8
    weight_bits: int = 8
    calibration: Calibration = Calibration.MIN_MAX
    percentile: float = 99.99
    """For `Calibration.PERCENTILE`: this share of the values on either side is inside."""
    multiplier_bits: int = 16
    fuse_pool: bool = True
    """Add a pool's window up in the accumulator, and round once."""
    bias_correction: bool = True
    """Move the int32 bias until per-channel means on the calibration samples match the float."""
    equalize: bool = False
    """Even out the weights of the channels of neighbouring layers before all else."""
    scales: Scales = Scales.FREE

    def __post_init__(self) -> None:
        """Refuse what the arithmetic has no form for."""
        if not MIN_MULTIPLIER_BITS <= self.multiplier_bits <= MAX_MULTIPLIER_BITS:
            raise InvalidNetworkError(
                f"multiplier of {self.multiplier_bits} bits: choose {MIN_MULTIPLIER_BITS} to "
                f"{MAX_MULTIPLIER_BITS}"
            )
        _check_bits("activations", self.activation_bits)
        _check_bits("weights", self.weight_bits)
        _check_percentile(self.percentile)

    def for_layer(self, name: str, overrides: Iterable[LayerOverride] = ()) -> Scheme:
        """This scheme with what the overrides that match a layer's name say, later ones last."""
        changed: dict[str, int | float | Calibration] = {}
        for override in overrides:
            if override.matches(name):
                changed |= override.choices
        return replace(self, **changed) if changed else self  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerOverride:
    """Other choices for the layers of one name or pattern; None leaves the scheme's."""

    layer: str
    """A name, or a pattern as `block?.conv*`."""
    activation_bits: int | None = None
    """Of the tensor that the layer makes."""
    weight_bits: int | None = None
    calibration: Calibration | None = None
    percentile: float | None = None
    range: tuple[float, float] | None = None
    """Low and high of the tensor that the layer makes, in place of what was observed."""

    def __post_init__(self) -> None:
        """Refuse what no scheme could hold, and an override of nothing."""
        if self.activation_bits is not None:
            _check_bits("activations", self.activation_bits)
        if self.weight_bits is not None:
            _check_bits("weights", self.weight_bits)
        if self.percentile is not None:
            _check_percentile(self.percentile)
        if self.range is not None:
            low, high = self.range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise InvalidNetworkError(
                    f"range {low}…{high}: give a finite low and a finite high above it"
                )
        if not self.choices and self.range is None:
            raise InvalidNetworkError(f"the override of {self.layer!r} changes nothing")

    def matches(self, name: str) -> bool:
        """Whether it is about this layer."""
        return name == self.layer or fnmatchcase(name, self.layer)

    @property
    def choices(self) -> dict[str, int | float | Calibration]:
        """What replaces fields of the scheme, by their names."""
        fields = {
            "activation_bits": self.activation_bits,
            "weight_bits": self.weight_bits,
            "calibration": self.calibration,
            "percentile": self.percentile,
        }
        return {name: value for name, value in fields.items() if value is not None}


def given_range(name: str, overrides: Iterable[LayerOverride]) -> tuple[float, float] | None:
    """The range that the overrides give a layer's tensor, the last one's where several do."""
    ranges = [each.range for each in overrides if each.range is not None and each.matches(name)]
    return ranges[-1] if ranges else None


def _check_bits(what: str, bits: int) -> None:
    if not MIN_BITS <= bits <= MAX_BITS:
        raise InvalidNetworkError(f"{what} of {bits} bits: choose {MIN_BITS} to {MAX_BITS}")


def _check_percentile(percentile: float) -> None:
    if not 50 < percentile <= 100:
        raise InvalidNetworkError(f"percentile {percentile}: choose above 50, to 100")


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme(),
        Scheme(
            name="textbook",
            per_channel=False,
            multiplier_bits=31,
            fuse_pool=False,
            bias_correction=False,
        ),
        Scheme(name="per-tensor", per_channel=False),
        Scheme(name="symmetric-weights", symmetric_weights=True),
        Scheme(name="unsigned", signed_activations=False),
        Scheme(name="percentile", calibration=Calibration.PERCENTILE),
        Scheme(name="mse", calibration=Calibration.MSE),
        Scheme(name="separate-pool", fuse_pool=False),
        Scheme(name="no-bias-correction", bias_correction=False),
        Scheme(name="multiplier-8", multiplier_bits=8),
        Scheme(name="multiplier-31", multiplier_bits=31),
        Scheme(name="equalized", equalize=True),
        Scheme(name="pow2", scales=Scales.POW2),
        Scheme(name="shift-only", scales=Scales.SHIFT),
    )
}
