"""ATen normalizations, means, sums and softmaxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraysmith.learning.torch_import.arithmetic import scaled
from arraysmith.learning.torch_import.functions import power_steps, step
from arraysmith.networks.functions import Function
from arraysmith.networks.operations import (
    Add,
    ChannelAffine,
    Island,
    IslandKind,
    LayerNorm,
    Mean,
    Mul,
    Softmax,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from arraysmith.learning.torch_import.site import Operand, Site, Value


def _numbers(
    site: Site, given: Operand | None, like: int | tuple[int, ...], fill: float
) -> np.ndarray:
    if given is None:
        return np.full(like, fill, np.float32)
    return site.numbers(given, "parameter")


def _by_running(
    site: Site,
    x: Value,
    *,
    weight: Operand | None,
    bias: Operand | None,
    mean: Operand | None,
    variance: Operand | None,
    epsilon: float,
) -> Value:
    channels = x.shape[0]
    site.settle(
        mean is not None and variance is not None,
        "has no running statistics; set track_running_stats and train it",
    )
    spread = np.sqrt(site.numbers(variance, "variance").astype(np.float64) + epsilon)
    gain = _numbers(site, weight, channels, 1) / spread
    shift = _numbers(site, bias, channels, 0) - site.numbers(mean, "mean") * gain
    return site.emit(ChannelAffine, x, gain=gain.astype(np.float32), shift=shift.astype(np.float32))


def _batch_norm(
    site: Site,
    *,
    x: Value,
    weight: Operand | None,
    bias: Operand | None,
    running_mean: Operand | None,
    running_var: Operand | None,
    eps: float,
    training: bool = False,
    **_: object,
) -> Value:
    site.settle(not training, "normalises by the batch; leave that out in eval()")
    return _by_running(
        site, x, weight=weight, bias=bias, mean=running_mean, variance=running_var, epsilon=eps
    )


def _batch_norm_first(site: Site, **arguments: object) -> tuple[Value, None, None]:
    return _batch_norm(site, **arguments), None, None  # type: ignore[arg-type]


def _instance_norm(
    site: Site,
    *,
    x: Value,
    weight: Operand | None,
    bias: Operand | None,
    running_mean: Operand | None,
    running_var: Operand | None,
    use_input_stats: bool,
    eps: float,
    **_: object,
) -> Value:
    if not use_input_stats:
        return _by_running(
            site, x, weight=weight, bias=bias, mean=running_mean, variance=running_var, epsilon=eps
        )
    normal = site.emit(Island, x, kind=IslandKind.INSTANCE_NORM, epsilon=float(eps))
    return _channelled(site, normal, weight, bias)


def _channelled(site: Site, x: Value, weight: Operand | None, bias: Operand | None) -> Value:
    if weight is None and bias is None:
        return x
    gain, shift = (
        _numbers(site, weight, x.shape[0], 1),
        _numbers(site, bias, x.shape[0], 0),
    )
    return site.emit(ChannelAffine, x, gain=gain, shift=shift)


def _group_norm(
    site: Site,
    *,
    x: Value,
    num_groups: int,
    weight: Operand | None,
    bias: Operand | None,
    eps: float,
    **_: object,
) -> Value:
    normal = site.emit(
        Island, x, kind=IslandKind.GROUP_NORM, axes=(num_groups,), epsilon=float(eps)
    )
    return _channelled(site, normal, weight, bias)


def _layer_norm(
    site: Site,
    *,
    x: Value,
    normalized_shape: Sequence[int],
    weight: Operand | None,
    bias: Operand | None,
    eps: float,
    **_: object,
) -> Value:
    shape = tuple(normalized_shape)
    site.settle(len(shape) <= len(x.shape), "normalises over the batch; leave it out")
    gain, shift = _numbers(site, weight, shape, 1), _numbers(site, bias, shape, 0)
    return site.emit(LayerNorm, x, gain=gain, shift=shift, epsilon=float(eps))


def _rms_norm(
    site: Site,
    *,
    x: Value,
    normalized_shape: Sequence[int],
    weight: Operand | None,
    eps: float | None,
) -> Value:
    """x/sqrt(mean(x²) + epsilon)·weight."""
    count = len(normalized_shape)
    site.settle(count <= len(x.shape), "normalises over the batch; leave it out")
    epsilon = float(np.finfo(np.float32).eps) if eps is None else eps
    squares = site.steps(x, *power_steps(2))
    axes = tuple(range(len(x.shape) - count, len(x.shape)))
    mean = site.emit(Mean, squares, axes=axes)
    inverse = site.steps(mean, step(Function.ADD, epsilon), *power_steps(-0.5))
    normal = site.emit(Mul, x, inverse)
    return normal if weight is None else scaled(site, normal, site.numbers(weight, "weight"))


def _axes(site: Site, x: Value, dim: int | Sequence[int] | None) -> tuple[int, ...]:
    given = [dim] if isinstance(dim, int) else list(dim or range(x.rank))
    return tuple(sorted(site.axis(each, x.rank) for each in given))


def _mean(site: Site, *, x: Value, dim: int | Sequence[int] | None = None, **_: object) -> Value:
    return site.reshaped(site.emit(Mean, x, axes=_axes(site, x, dim)), site.shape)


def _variance(
    site: Site,
    *,
    x: Value,
    dim: int | Sequence[int] | None = None,
    correction: float | None = 1,
    unbiased: bool | None = None,
    **_: object,
) -> Value:
    """The mean of squared distances to the mean, times n/(n - correction)."""
    axes = _axes(site, x, dim)
    count = int(np.prod([x.shape[axis] for axis in axes]))
    freedom = 1 if correction is None else correction
    freedom = freedom if unbiased is None else int(unbiased)
    site.settle(count > freedom, f"takes the variance of {count} words")
    mean = site.emit(Mean, x, axes=axes)
    apart = site.emit(Add, x, mean, signs=(1, -1))
    squared = site.emit(Mean, site.steps(apart, *power_steps(2)), axes=axes)
    return site.reshaped(scaled(site, squared, count / (count - freedom)), site.shape)


def _reduced(kind: IslandKind) -> Callable[..., Value]:
    def reduce(
        site: Site, *, x: Value, dim: int | Sequence[int] | None = None, **_: object
    ) -> Value:
        return site.reshaped(site.emit(Island, x, kind=kind, axes=_axes(site, x, dim)), site.shape)

    return reduce


def _max(site: Site, *, x: Value, dim: int, keepdim: bool) -> tuple[Value, None]:
    """The greatest along one axis; where it stands is not read."""
    axis = site.axis(dim, x.rank)
    greatest = site.emit(Island, x, kind=IslandKind.MAX, axes=(axis,))
    rest = (*x.shape[:axis], *x.shape[axis + 1 :])
    return greatest if keepdim else site.reshaped(greatest, rest), None


def _softmax(site: Site, *, x: Value, dim: int, **_: object) -> Value:
    return site.emit(Softmax, x, axis=site.axis(dim, x.rank))


def _log_softmax(site: Site, *, x: Value, dim: int, **_: object) -> Value:
    return site.steps(_softmax(site, x=x, dim=dim), step(Function.LOG))


NORMS: dict[str, Callable[..., Value | tuple[Value | None, ...]]] = {
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm_first,
    "instance_norm": _instance_norm,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "mean": _mean,
    "var": _variance,
    "sum": _reduced(IslandKind.SUM),
    "amax": _reduced(IslandKind.MAX),
    "max": _max,
    "softmax": _softmax,
    "_softmax": _softmax,
    "log_softmax": _log_softmax,
    "_log_softmax": _log_softmax,
}
"""By ATen name, what makes operations of a node."""
