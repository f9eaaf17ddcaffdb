"""The integer form of each float operation without trained weights: multipliers, shifts, tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from arraysmith.affine import multiplier_and_shift
from arraysmith.errors import InvalidNetworkError
from arraysmith.learning.float_graph import apply_steps
from arraysmith.networks.operations import (
    Add,
    AveragePool,
    ChannelAffine,
    Constant,
    Elementwise,
    Island,
    LayerNorm,
    Lookup,
    MatMul,
    Mean,
    Mul,
    PRelu,
)
from arraysmith.quantization.norms import FRACTION, IntegerLayerNorm
from arraysmith.quantization.operations import (
    FloatIsland,
    IntegerAdd,
    IntegerAveragePool,
    IntegerConstant,
    IntegerLookup,
    IntegerMatMul,
    IntegerMean,
    IntegerMul,
    IntegerTable,
)
from arraysmith.quantization.plan import factor
from arraysmith.quantization.scheme import Scales
from arraysmith.quantization.weighted import clamp_ends
from arraysmith.quantization.weights import constants

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from arraysmith.affine import Affine
    from arraysmith.networks.windows import Shape
    from arraysmith.quantization.operations import IntegerLayer
    from arraysmith.quantization.plan import Group
    from arraysmith.quantization.scheme import Scheme

GAIN_BITS = 16
"""Of the widest gain of a layer normalization."""
BIAS_BITS = 60
"""Of the widest bias of a layer normalization."""
MAX_TABLE_WORDS = 1 << 24
"""Of all tables of a layer: 128 MiB while they are int64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A group in its place."""

    group: Group
    inputs: tuple[str, ...]
    """The integer tensors it reads."""
    shapes: tuple[Shape, ...]
    """Of its inputs."""
    types: tuple[Affine, ...]
    """Of its inputs."""
    output: Affine
    scheme: Scheme

    @property
    def name(self) -> str:
        """Of the layer."""
        return self.group.name

    @property
    def clamp(self) -> tuple[int | None, int | None]:
        """The ends of a clip that was taken in."""
        return clamp_ends(self.group.clip, self.output)


def integer_form(site: Site) -> IntegerLayer:
    """The layer that stands for a group.

    Raises:
        InvalidNetworkError: there is none, or not under this scheme.
    """
    operation = site.group.first
    form = _FORMS.get(type(operation))
    if form is None:
        raise InvalidNetworkError(
            f"layer {site.name!r}: no integer form for {type(operation).__name__}"
        )
    return form(site, operation)


def _matmul(site: Site, _: MatMul) -> IntegerMatMul:
    behind = site.group.operations[-1]
    more = factor(behind.steps) if isinstance(behind, Elementwise) else None
    left, right = site.types
    real = left.scale * right.scale / site.output.scale * (more or 1.0)
    return IntegerMatMul(
        name=site.name,
        inputs=site.inputs,
        left=left,
        right=right,
        output=site.output,
        requantization=constants(real, site.scheme),
    )


def _add(site: Site, add: Add) -> IntegerAdd:
    """The widest factor takes all bits of the multiplier, all share its shift."""
    factors = [type_.scale / site.output.scale for type_ in site.types]
    bits = 16 if site.scheme.scales is not Scales.FREE else site.scheme.multiplier_bits
    _, shift = multiplier_and_shift(max(factors), bits)
    low, high = site.clamp
    return IntegerAdd(
        name=site.name,
        inputs=site.inputs,
        terms=site.types,
        output=site.output,
        multipliers=tuple(
            sign * math.floor(math.ldexp(each, shift) + 0.5)
            for sign, each in zip(add.signs, factors, strict=True)
        ),
        right_shift=shift,
        multiplier_bits=bits,
        low=low,
        high=high,
    )


def _mul(site: Site, _: Mul) -> IntegerMul:
    left, right = site.types
    low, high = site.clamp
    return IntegerMul(
        name=site.name,
        inputs=site.inputs,
        left=left,
        right=right,
        output=site.output,
        requantization=constants(left.scale * right.scale / site.output.scale, site.scheme),
        low=low,
        high=high,
    )


def _table(site: Site, operation: Elementwise | ChannelAffine | PRelu) -> IntegerTable:
    """The function of every integer, for every channel where they differ."""
    (x,) = site.types
    reals = x.dequantize(np.arange(x.qmin, x.qmax + 1))
    found: NDArray[np.float64]
    match operation:
        case Elementwise():
            found = apply_steps(operation.steps, torch.from_numpy(reals)).numpy()
        case ChannelAffine():
            gain, shift = _channels(site, operation.gain, operation.shift)
            found = gain * reals + shift
        case PRelu():
            (slope,) = _channels(site, operation.slope)
            found = np.where(reals > 0, reals, slope * reals)
    found = np.nan_to_num(found, posinf=1e30, neginf=-1e30)
    return IntegerTable(
        name=site.name,
        inputs=site.inputs,
        table=site.output.quantize(found if found.ndim == 1 or len(found) > 1 else found[0]),
        input=x,
        output=site.output,
    )


def _channels(site: Site, *numbers: NDArray[np.float32]) -> tuple[NDArray[np.float64], ...]:
    """(channels, 1) each, or (1, 1) where all channels are alike."""
    (x,) = site.types
    alike = all((each == each[0]).all() for each in numbers)
    channels = 1 if alike else len(numbers[0])
    if channels << x.bits > MAX_TABLE_WORDS:
        raise InvalidNetworkError(
            f"layer {site.name!r}: {channels} tables of {1 << x.bits} words each; give the tensor "
            f"that it reads ({site.group.first.inputs[0]!r}) fewer bits"
        )
    return tuple(each[:channels, None].astype(np.float64) for each in numbers)


def _average_pool(site: Site, pool: AveragePool) -> IntegerAveragePool:
    (x,) = site.types
    counts = pool.windows.counts(site.shapes[0][1:], pool.counted).ravel()
    counts = counts[:1] if counts.max() == counts.min() else counts
    return IntegerAveragePool(
        name=site.name,
        inputs=site.inputs,
        windows=pool.windows,
        input=x,
        output=site.output,
        requantization=constants(x.scale / site.output.scale / counts, site.scheme),
    )


def _mean(site: Site, mean: Mean) -> IntegerMean:
    (x,) = site.types
    words = math.prod(site.shapes[0][axis] for axis in mean.axes)
    return IntegerMean(
        name=site.name,
        inputs=site.inputs,
        axes=mean.axes,
        input=x,
        output=site.output,
        requantization=constants(x.scale / site.output.scale / words, site.scheme),
    )


def _layer_norm(site: Site, norm: LayerNorm) -> IntegerLayerNorm | FloatIsland:
    """Integers over the last axis; over several, or where int64 is too small, an island."""
    (x,) = site.types
    size = norm.gain.size
    epsilon = math.floor(size**3 * norm.epsilon / x.scale**2 + 0.5)
    squares = size * (size * (x.qmax - x.qmin)) ** 2
    if norm.gain.ndim > 1 or epsilon >= 1 << 62 or squares + epsilon >= 1 << 63:
        return _island(site, norm)
    gain = norm.gain.astype(np.float64) / site.output.scale / (1 << FRACTION)
    bias = norm.shift.astype(np.float64) / site.output.scale
    _, shift = multiplier_and_shift(float(np.abs(gain).max()), GAIN_BITS)
    # A gain of next to nothing needs no more bits than leave room for the bias.
    shift = max(min(shift, BIAS_BITS - math.frexp(float(np.abs(bias).max()))[1]), 1)
    return IntegerLayerNorm(
        name=site.name,
        inputs=site.inputs,
        input=x,
        output=site.output,
        epsilon=epsilon,
        multiplier=np.floor(np.ldexp(gain, shift) + 0.5).astype(np.int64),
        bias=np.floor(np.ldexp(bias, shift) + 0.5).astype(np.int64),
        right_shift=shift,
    )


def _lookup(site: Site, lookup: Lookup) -> IntegerLookup:
    table = site.output.quantize(lookup.table)
    return IntegerLookup(name=site.name, inputs=site.inputs, table=table, output=site.output)


def _constant(site: Site, constant: Constant) -> IntegerConstant:
    value = site.output.quantize(constant.value)
    return IntegerConstant(name=site.name, inputs=(), value=value, output=site.output)


def _island(site: Site, operation: Island | LayerNorm) -> FloatIsland:
    return FloatIsland(
        name=site.name,
        inputs=site.inputs,
        operation=replace(operation, name=site.name, inputs=site.inputs),
        terms=site.types,
        output=site.output,
    )


_FORMS: dict[type, Callable[..., IntegerLayer]] = {
    MatMul: _matmul,
    Add: _add,
    Mul: _mul,
    Elementwise: _table,
    ChannelAffine: _table,
    PRelu: _table,
    AveragePool: _average_pool,
    Mean: _mean,
    LayerNorm: _layer_norm,
    Lookup: _lookup,
    Constant: _constant,
    Island: _island,
}
