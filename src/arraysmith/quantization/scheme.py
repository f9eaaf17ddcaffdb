"""The choices a quantization makes, as one frozen record, and the named ones that are compared."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from arraysmith.errors import InvalidNetworkError
from arraysmith.affine import MAX_MULTIPLIER_BITS, MIN_MULTIPLIER_BITS


class Calibration(StrEnum):
    """How the range of an activation is chosen from what calibration images show."""

    MIN_MAX = "minmax"
    PERCENTILE = "percentile"
    MSE = "mse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """Linear asymmetric int8; why these defaults is in `docs/quantization.md`."""

    name: str = "default"
    per_channel: bool = True
    """One weight scale and multiplier an output channel, else one a tensor."""
    symmetric_weights: bool = False
    signed_activations: bool = True
    """int8, else uint8."""
    calibration: Calibration = Calibration.MIN_MAX
    percentile: float = 99.99
    """For `Calibration.PERCENTILE`: this share of the values on either side is inside."""
    multiplier_bits: int = 16
    fuse_pool: bool = True
    """Add a pool's window up in the accumulator, and round once."""
    bias_correction: bool = True
    """Move the int32 bias until per-channel means on the calibration images match the float."""
    power_of_two: bool = False
    """All scales powers of two: the requantization is a shift alone."""

    def __post_init__(self) -> None:
        """Refuse what the arithmetic has no form for."""
        if not MIN_MULTIPLIER_BITS <= self.multiplier_bits <= MAX_MULTIPLIER_BITS:
            raise InvalidNetworkError(
                f"multiplier of {self.multiplier_bits} bits: choose {MIN_MULTIPLIER_BITS} to "
                f"{MAX_MULTIPLIER_BITS}"
            )
        if not 50 < self.percentile <= 100:
            raise InvalidNetworkError(f"percentile {self.percentile}: choose above 50, to 100")


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
        Scheme(name="shift-only", power_of_two=True),
    )
}
