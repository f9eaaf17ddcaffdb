"""An integer network computed with Python's unbounded integers, one definition a record.

Slow on purpose: windows are walked tap by tap, nothing can overflow, and no code is shared with
what is tested.
"""

from __future__ import annotations

from itertools import product
from math import isqrt

import numpy as np

from arraysmith.networks.moves import MaxPool


def exact(network, inputs):
    """Every layer's tensor by name, as int64."""
    tensors = {name: np.asarray(words).astype(object) for name, words in inputs.items()}
    for layer in network.layers:
        run = globals()[f"_{type(layer).__name__}"]
        given = [tensors[name] for name in layer.inputs]
        if isinstance(layer, MaxPool):
            type_ = network.types[layer.inputs[0]]
            given.append(-(2**31) if type_ is None else type_.qmin)
        tensors[layer.name] = np.array(run(layer, *given), dtype=object)
    return {layer.name: tensors[layer.name].astype(np.int64) for layer in network.layers}


def _aligned(*arrays):
    """Axes inserted behind the batch, as broadcasting wants it."""
    axes = max(array.ndim for array in arrays)
    return [a.reshape(a.shape[0], *(1,) * (axes - a.ndim), *a.shape[1:]) for a in arrays]


def _step3(total, m, n, output, *, low=None, high=None):
    """(3), word by word; m and n broadcast."""
    low, high = output.qmin if low is None else low, output.qmax if high is None else high

    def one(acc, m, n):
        value = output.zero_point + ((int(acc) * int(m) + (1 << (int(n) - 1))) >> int(n))
        return max(low, min(high, value))

    return np.frompyfunc(one, 3, 1)(total, m, n)


def _windows(x, windows, fill):
    """(batch, channels, positions…, taps): every window's words."""
    border = [(0, 0), (0, 0), *zip(windows.before, windows.after, strict=True)]
    x = np.pad(x, border, constant_values=fill)
    positions = [
        (size - extent) // stride + 1
        for size, extent, stride in zip(x.shape[2:], windows.extent, windows.strides, strict=True)
    ]
    taps = []
    for tap in product(*(range(size) for size in windows.size)):
        cut = tuple(
            slice(t * d, t * d + (p - 1) * s + 1, s)
            for t, d, p, s in zip(tap, windows.dilations, positions, windows.strides, strict=True)
        )
        taps.append(x[(slice(None), slice(None), *cut)])
    return np.stack(taps, axis=-1)


def _IntegerConvolution(layer, x):  # noqa: N802
    cut = _windows(x - layer.input.zero_point, layer.windows, 0)
    out, group = len(layer.weight), x.shape[1] // layer.groups
    w = layer.weight.astype(object) - layer.weight_zero_point.astype(object).reshape(
        -1, *(1,) * (layer.weight.ndim - 1)
    )
    maps = []
    for c in range(out):
        first = c // (out // layer.groups) * group
        seen = cut[:, first : first + group]
        taps = w[c].reshape(group, *(1,) * (seen.ndim - 3), -1)
        acc = (seen * taps).sum(axis=(1, -1)) + int(layer.bias[c])
        maps.append(_activated(layer, acc, c))
    total = np.stack(maps, axis=1)
    for axis in range(2, total.ndim):
        count = total.shape[axis] // layer.pool
        total = np.take(total, np.arange(count * layer.pool), axis)
        total = total.reshape(*total.shape[:axis], count, layer.pool, *total.shape[axis + 1 :])
        total = total.sum(axis=axis + 1)
    return _finished(layer, total, total.ndim - 2)


def _activated(layer, acc, channel):
    if layer.activation is None:
        return acc
    kept = np.maximum(acc, int(layer.activation.low[channel]))
    kept = np.minimum(kept, int(layer.activation.high[channel]))
    return kept + int(layer.activation.bias[channel])


def _finished(layer, total, axes):
    if layer.output is None:
        return total
    m, n = (
        v.reshape(-1, *(1,) * axes)
        for v in (layer.requantization.multiplier, layer.requantization.right_shift)
    )
    return _step3(total, m, n, layer.output, low=layer.low, high=layer.high)


def _IntegerLinear(layer, x):  # noqa: N802
    w = layer.weight.astype(object) - layer.weight_zero_point.astype(object)[:, None]
    total = (x - layer.input.zero_point) @ w.T + layer.bias.astype(object)
    columns = [_activated(layer, total[..., c], c) for c in range(len(w))]
    return _finished(layer, np.stack(columns, axis=-1), 0)


def _constants(layer):
    return layer.requantization.multiplier[0], layer.requantization.right_shift[0]


def _IntegerMatMul(layer, a, b):  # noqa: N802
    a, b = _aligned(a - layer.left.zero_point, b - layer.right.zero_point)
    return _step3(np.matmul(a, b), *_constants(layer), layer.output)


def _IntegerAdd(layer, *given):  # noqa: N802
    total = sum(
        (x - type_.zero_point) * m
        for x, type_, m in zip(_aligned(*given), layer.terms, layer.multipliers, strict=True)
    )
    return _step3(total, 1, layer.right_shift, layer.output, low=layer.low, high=layer.high)


def _IntegerMul(layer, a, b):  # noqa: N802
    a, b = _aligned(a - layer.left.zero_point, b - layer.right.zero_point)
    return _step3(a * b, *_constants(layer), layer.output, low=layer.low, high=layer.high)


def _IntegerRequantize(layer, x):  # noqa: N802
    return _step3(x - layer.input.zero_point, *_constants(layer), layer.output)


def _IntegerTable(layer, x):  # noqa: N802
    y = np.empty_like(x)
    for place, word in np.ndenumerate(x):
        table = layer.table if layer.table.ndim == 1 else layer.table[place[1]]
        y[place] = int(table[word - layer.input.qmin])
    return y


def _IntegerAveragePool(layer, x):  # noqa: N802
    total = _windows(x - layer.input.zero_point, layer.windows, 0).sum(axis=-1)
    m, n = layer.requantization.multiplier, layer.requantization.right_shift
    shape = total.shape[2:] if len(m) > 1 else (1,)
    return _step3(total, m.reshape(shape), n.reshape(shape), layer.output)


def _IntegerMean(layer, x):  # noqa: N802
    axes = tuple(axis + 1 for axis in layer.axes)
    total = (x - layer.input.zero_point).sum(axis=axes, keepdims=True)
    return _step3(total, *_constants(layer), layer.output)


def _IntegerSoftmax(layer, x):  # noqa: N802
    def row(words):
        e = [int(layer.table[max(words) - word]) for word in words]
        low, high, levels = layer.output.qmin, layer.output.qmax, layer.levels
        y = [min(low + (2 * each * levels + sum(e)) // (2 * sum(e)), high) for each in e]
        return np.array(y, dtype=object)

    return np.apply_along_axis(row, layer.axis + 1, x)


def _IntegerLayerNorm(layer, x):  # noqa: N802
    size = x.shape[-1]

    def row(words):
        d = [size * word - sum(words) for word in words]
        r = max(isqrt((sum(each * each for each in d) + layer.epsilon) // size), 1)
        t = [(each * 2**15 + r) // (2 * r) for each in d]
        sums = [
            a * int(m) + int(b) for a, m, b in zip(t, layer.multiplier, layer.bias, strict=True)
        ]
        return _step3(np.array(sums, dtype=object), 1, layer.right_shift, layer.output)

    return np.apply_along_axis(row, -1, x)


def _IntegerLookup(layer, x):  # noqa: N802
    return layer.table[x.astype(np.int64)]


def _IntegerConstant(layer):  # noqa: N802
    return layer.value[None]


def _Reshape(layer, x):  # noqa: N802
    return x.reshape(x.shape[0], *layer.shape)


def _Transpose(layer, x):  # noqa: N802
    return x.transpose(0, *(axis + 1 for axis in layer.axes))


def _Take(layer, x):  # noqa: N802
    return x.take(layer.indices, axis=layer.axis + 1)


def _Pad(layer, x):  # noqa: N802
    border = [(0, 0), *zip(layer.before, layer.after, strict=True)]
    return np.pad(x, border, constant_values=int(layer.value))


def _Stretch(layer, x):  # noqa: N802
    sizes = [(n - 1) * f + 1 for n, f in zip(x.shape[2:], layer.factors, strict=True)]
    y = np.full((*x.shape[:2], *sizes), int(layer.value), dtype=object)
    y[(slice(None), slice(None), *(slice(None, None, f) for f in layer.factors))] = x
    return y


def _Expand(layer, x):  # noqa: N802
    whole = x.reshape(x.shape[0], *(1,) * (len(layer.shape) - x.ndim + 1), *x.shape[1:])
    return np.broadcast_to(whole, (x.shape[0], *layer.shape))


def _Concat(layer, *given):  # noqa: N802
    batch = max(x.shape[0] for x in given)
    return np.concatenate(
        [np.broadcast_to(x, (batch, *x.shape[1:])) for x in given], axis=layer.axis + 1
    )


def _MaxPool(layer, x, least):  # noqa: N802
    return _windows(x, layer.windows, least).max(axis=-1)
