"""The reference engine: runs an integer network in NumPy int64.

It is the slow, plain statement of the arithmetic that every other back end is held to, integer by
integer. Arrays are int64; the batch comes first, and a constant has a batch of one. Equations are
those of `docs/quantization.md`. No result depends on a float but those of a declared `FloatIsland`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import InvalidNetworkError
from arraysmith.quantization.integer_moves import MOVED, aligned, taps
from arraysmith.quantization.islands import run_island
from arraysmith.quantization.norms import FRACTION, IntegerLayerNorm, IntegerSoftmax
from arraysmith.quantization.operations import (
    FloatIsland,
    IntegerAdd,
    IntegerAveragePool,
    IntegerConstant,
    IntegerLookup,
    IntegerMatMul,
    IntegerMean,
    IntegerMul,
    IntegerRequantize,
    IntegerTable,
)
from arraysmith.quantization.products import IntegerConvolution, IntegerLinear

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from numpy.typing import NDArray

    from arraysmith.affine import Affine, Requantization
    from arraysmith.networks.graph import Input
    from arraysmith.quantization.network import IntegerNetwork
    from arraysmith.quantization.operations import IntegerLayer

    Array = NDArray[np.int64]


def run(network: IntegerNetwork, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Array]:
    """The outputs (batch, *shape) by name, of integer inputs as `trace` takes them."""
    known = network_inputs(network, inputs)
    found = {name: x for name, x in known.items() if name in network.outputs}
    for layer, x in trace(network, inputs):
        if layer.name in network.outputs:
            found[layer.name] = x
    return {name: found[name] for name in network.outputs}


def trace(
    network: IntegerNetwork, inputs: Mapping[str, NDArray[Any]]
) -> Iterator[tuple[IntegerLayer, Array]]:
    """Every layer with its output integers, in order.

    Args:
        network: what to run.
        inputs: by name (batch, *shape), integers of the input's type, or row numbers.

    Raises:
        InvalidNetworkError: an input is missing or unknown, not of integers, of another shape, or
            holds an integer outside its type.
    """
    known = network_inputs(network, inputs)
    last = last_readers(network)
    for place, layer in enumerate(network.layers):
        y = run_layer(layer, *(known[tensor] for tensor in layer.inputs))
        known[layer.name] = y
        yield layer, y
        for name in {layer.name, *layer.inputs}:
            if last.get(name, -1) <= place:
                del known[name]


def last_readers(network: IntegerNetwork) -> dict[str, int]:
    """The place of the last layer that reads a tensor, for all that are read."""
    last: dict[str, int] = {}
    for place, layer in enumerate(network.layers):
        last.update(dict.fromkeys(layer.inputs, place))
    return last


def network_inputs(network: IntegerNetwork, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Array]:
    """The inputs as int64, when they are what the network takes."""
    check_names(network, inputs)
    found: dict[str, Array] = {}
    for given in network.inputs:
        x = np.asarray(inputs[given.name])
        check_input(given, x.shape, str(x.dtype), whole=x.dtype.kind in "iu")
        found[given.name] = x.astype(np.int64)
        if x.size:
            check_values(given, int(x.min()), int(x.max()))
    check_batches({name: len(x) for name, x in found.items()})
    return found


def quantize_inputs(network: IntegerNetwork, reals: Mapping[str, NDArray[Any]]) -> dict[str, Array]:
    """Integers of real inputs: the nearest, ties up, clamped; row numbers are rounded alone.

    Raises:
        InvalidNetworkError: an input is missing or unknown, or holds NaN.
    """
    check_names(network, reals)
    found: dict[str, Array] = {}
    for given in network.inputs:
        real = np.asarray(reals[given.name])
        if np.isnan(real).any():
            raise InvalidNetworkError(f"input {given.name!r} holds NaN, which no integer is for")
        if given.type is None:
            found[given.name] = np.floor(real.astype(np.float64) + 0.5).astype(np.int64)
        else:
            found[given.name] = given.type.quantize(real)
    return found


def check_names(network: IntegerNetwork, names: Iterable[str]) -> None:
    """Refuse anything but one array for every input."""
    expected, got = [each.name for each in network.inputs], list(names)
    if sorted(expected) != sorted(got):
        raise InvalidNetworkError(
            f"network {network.name!r} takes inputs {', '.join(expected)}; "
            f"got {', '.join(got) or 'none'}"
        )


def check_input(given: Input, shape: tuple[int, ...], dtype: str, *, whole: bool) -> None:
    """Refuse another shape than (batch, *shape), and what is not `whole` (of integers)."""
    if not shape or tuple(shape[1:]) != given.shape:
        raise InvalidNetworkError(
            f"input {given.name!r} has shape {tuple(shape)}, needs (batch, "
            f"{', '.join(map(str, given.shape))})"
        )
    if not whole:
        raise InvalidNetworkError(
            f"input {given.name!r} is {dtype}, needs integers; quantize_inputs makes them of reals"
        )


def check_values(given: Input, low: int, high: int) -> None:
    """Refuse integers outside the input's type, or rows that its table does not have."""
    least, most = (given.type.qmin, given.type.qmax) if given.type else (0, given.rows - 1)
    if low < least or high > most:
        raise InvalidNetworkError(
            f"input {given.name!r} holds {low}…{high}, needs integers of {least}…{most}"
        )


def check_batches(batches: Mapping[str, int]) -> None:
    """Refuse batches of different sizes; one of 1 is broadcast."""
    if len(set(batches.values()) - {1}) > 1:
        sizes = ", ".join(f"{name} has {size}" for name, size in batches.items())
        raise InvalidNetworkError(f"inputs of different batches: {sizes}")


def run_layer(layer: IntegerLayer, *arrays: Array) -> Array:
    """The output integers of one layer, of arrays (batch, …)."""
    compute = _COMPUTED.get(type(layer))
    if compute is None:
        raise InvalidNetworkError(f"no integer arithmetic for {layer!r}")
    return compute(layer, *arrays)


def requantize(
    acc: Array,
    m: Array | int,
    n: Array | int,
    output: Affine,
    *,
    low: int | None = None,
    high: int | None = None,
) -> Array:
    """Equation (3); `m` and `n` broadcast against `acc`, `low` and `high` are tighter clamps."""
    half = np.int64(1) << (np.asarray(n, np.int64) - 1)
    scaled = (acc * m + half) >> n  # one rounding, ties up: the shift is arithmetic
    qmin = output.qmin if low is None else low
    qmax = output.qmax if high is None else high
    clamped: Array = np.clip(output.zero_point + scaled, qmin, qmax)
    return clamped


def _single(constants: Requantization) -> tuple[int, int]:
    return constants.multiplier.item(), constants.right_shift.item()


def _convolution(layer: IntegerConvolution, x: Array) -> Array:
    """(batch, in, spatial…) to (batch, out, positions…)."""
    groups, (out, depth) = layer.groups, layer.weight.shape[:2]
    weight = layer.centred_weight.reshape(groups, out // groups, depth, -1)
    acc = _along(layer.bias.astype(np.int64), x.ndim, 1)
    # A padded zx is a padded 0 once the zero point is gone.
    for tap, seen in enumerate(taps(x - layer.input.zero_point, layer.windows, 0)):
        batch, positions = len(x), seen.shape[2:]
        columns = seen.reshape(batch, groups, depth, -1)
        products = np.einsum("goi,bgip->bgop", weight[..., tap], columns)
        acc = acc + products.reshape(batch, out, *positions)  # (2)
    return _finish(layer, acc, axis=1, pool=layer.pool)


def _linear(layer: IntegerLinear, x: Array) -> Array:
    """(batch, …, in) to (batch, …, out)."""
    acc = (x - layer.input.zero_point) @ layer.centred_weight.T + layer.bias  # (2)
    return _finish(layer, acc, axis=x.ndim - 1)


def _along(vector: Array, ndim: int, axis: int) -> Array:
    """A vector that broadcasts along one axis of `ndim`."""
    return vector.reshape(*(-1 if i == axis else 1 for i in range(ndim)))


def _finish(
    layer: IntegerConvolution | IntegerLinear, acc: Array, *, axis: int, pool: int = 1
) -> Array:
    """Activation, fused pool and requantization of an accumulator with its channels at `axis`."""
    if layer.output is None or layer.requantization is None:
        return acc
    if layer.activation:
        low, high, bias = (
            _along(each, acc.ndim, axis)
            for each in (layer.activation.low, layer.activation.high, layer.activation.bias)
        )
        acc = np.clip(acc, low, high) + bias
    acc = _pool_sum(acc, pool)
    m = _along(layer.requantization.multiplier, acc.ndim, axis)
    n = _along(layer.requantization.right_shift, acc.ndim, axis)
    return requantize(acc, m, n, layer.output, low=layer.low, high=layer.high)  # (3)


def _pool_sum(acc: Array, pool: int) -> Array:
    """(4): sums over non-overlapping windows of all spatial axes; a rest at the border is cut."""
    for axis in range(2, acc.ndim) if pool > 1 else ():
        many = acc.shape[axis] // pool
        whole = np.moveaxis(acc, axis, -1)[..., : many * pool]
        summed = whole.reshape(*whole.shape[:-1], many, pool).sum(-1)
        acc = np.moveaxis(summed, -1, axis)
    return acc


def _matmul(layer: IntegerMatMul, left: Array, right: Array) -> Array:
    left, right = aligned(left - layer.left.zero_point, right - layer.right.zero_point)
    return requantize(left @ right, *_single(layer.requantization), layer.output)


def _add(layer: IntegerAdd, *arrays: Array) -> Array:
    terms = zip(aligned(*arrays), layer.terms, layer.multipliers, strict=True)
    total: Array = sum(
        ((x - type_.zero_point) * m for x, type_, m in terms), np.zeros((), np.int64)
    )
    return requantize(total, 1, layer.right_shift, layer.output, low=layer.low, high=layer.high)


def _mul(layer: IntegerMul, left: Array, right: Array) -> Array:
    left, right = aligned(left - layer.left.zero_point, right - layer.right.zero_point)
    m, n = _single(layer.requantization)
    return requantize(left * right, m, n, layer.output, low=layer.low, high=layer.high)


def _requantize(layer: IntegerRequantize, x: Array) -> Array:
    return requantize(x - layer.input.zero_point, *_single(layer.requantization), layer.output)


def _table(layer: IntegerTable, x: Array) -> Array:
    places = x - layer.input.qmin
    if layer.table.ndim == 1:
        return layer.table[places]  # (9)
    return layer.table[_along(np.arange(len(layer.table)), x.ndim, 1), places]


def _average_pool(layer: IntegerAveragePool, x: Array) -> Array:
    centred = x - layer.input.zero_point
    total: Array = sum(taps(centred, layer.windows, 0), np.zeros((), np.int64))
    constants, positions = layer.requantization, total.shape[2:]
    if len(constants.multiplier) == 1:
        return requantize(total, *_single(constants), layer.output)
    m, n = constants.multiplier.reshape(positions), constants.right_shift.reshape(positions)
    return requantize(total, m, n, layer.output)  # (8)


def _mean(layer: IntegerMean, x: Array) -> Array:
    axes = tuple(axis + 1 for axis in layer.axes)
    total = (x - layer.input.zero_point).sum(axes, keepdims=True)
    return requantize(total, *_single(layer.requantization), layer.output)


def _softmax(layer: IntegerSoftmax, x: Array) -> Array:
    axis = layer.axis + 1
    e = layer.table[x.max(axis, keepdims=True) - x]
    total = e.sum(axis, keepdims=True)
    y: Array = (2 * e * layer.levels + total) // (2 * total)
    return np.minimum(layer.output.qmin + y, layer.output.qmax)


def _layer_norm(layer: IntegerLayerNorm, x: Array) -> Array:
    size = x.shape[-1]
    d = size * x - x.sum(-1, keepdims=True)
    r = np.maximum(isqrt(((d**2).sum(-1, keepdims=True) + layer.epsilon) // size), 1)
    t = (d * (2 << FRACTION) + r) // (2 * r)
    return requantize(t * layer.multiplier + layer.bias, 1, layer.right_shift, layer.output)


def isqrt(x: Array) -> Array:
    """⌊√x⌋ of integers 0…2^62, exact."""
    # A float64 root of what is below 2^62 is off by far less than 1; floored, by at most 1, which
    # integers mend.
    root = np.floor(np.sqrt(x.astype(np.float64))).astype(np.int64)
    root = np.where(root * root > x, root - 1, root)
    return np.where((root + 1) * (root + 1) <= x, root + 1, root)


def _lookup(layer: IntegerLookup, x: Array) -> Array:
    return layer.table[x]


def _constant(layer: IntegerConstant) -> Array:
    return layer.value[None]


_COMPUTED: dict[type, Callable[..., Array]] = {
    IntegerConvolution: _convolution,
    IntegerLinear: _linear,
    IntegerMatMul: _matmul,
    IntegerAdd: _add,
    IntegerMul: _mul,
    IntegerRequantize: _requantize,
    IntegerTable: _table,
    IntegerAveragePool: _average_pool,
    IntegerMean: _mean,
    IntegerSoftmax: _softmax,
    IntegerLayerNorm: _layer_norm,
    IntegerLookup: _lookup,
    IntegerConstant: _constant,
    FloatIsland: run_island,
    **MOVED,
}
