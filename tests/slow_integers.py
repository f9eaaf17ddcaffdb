"""Every record of an integer network, word by word in Python's integers and exact fractions.

It shares no code with the engines. `oracle(layer, *arrays)` is what `int8.run_layer` must give.
"""

import math
from fractions import Fraction
from itertools import product

import numpy as np

from arraysmith.networks.moves import (
    Concat,
    Expand,
    MaxPool,
    Pad,
    Reshape,
    Stretch,
    Take,
    Transpose,
)
from arraysmith.networks.operations import ChannelAffine, Elementwise, IslandKind
from arraysmith.quantization.operations import (
    FloatIsland,
    IntegerAdd,
    IntegerAveragePool,
    IntegerConstant,
    IntegerLayerNorm,
    IntegerLookup,
    IntegerMatMul,
    IntegerMean,
    IntegerMul,
    IntegerRequantize,
    IntegerSoftmax,
    IntegerTable,
)
from arraysmith.quantization.products import IntegerConvolution, IntegerLinear


def nearest(x):
    """The integer nearest to an exact number, ties up."""
    return math.floor(Fraction(x) + Fraction(1, 2))


def exact_output(acc, m, n, affine, low=None, high=None):  # noqa: PLR0917 (as in (3))
    """Equation (3) in exact fractions."""
    y = affine.zero_point + nearest(Fraction(int(acc) * int(m), 2 ** int(n)))
    y = max(y, affine.qmin if low is None else low)
    return min(y, affine.qmax if high is None else high)


def oracle(layer, *arrays):
    """The output (batch, *shape) of one layer."""
    shape = layer.output_shape(*(x.shape[1:] for x in arrays))
    batch = max((len(x) for x in arrays), default=1)
    y = np.zeros((batch, *shape), object)
    word = _WORDS[type(layer)]
    for member in range(batch):
        own = [x[member if len(x) > 1 else 0] for x in arrays]
        for place in np.ndindex(*shape):
            y[(member, *place)] = word(layer, place, *own)
    return y.astype(np.int64)


def at(x, place):
    """The word of a broadcast array at a place of the result."""
    places = place[len(place) - x.ndim :]
    return int(x[tuple(0 if n == 1 else i for i, n in zip(places, x.shape, strict=True))])


def seen(windows, x, channel, position):
    """(tap, word) of all that lies under a window inside the image."""
    for tap in product(*map(range, windows.size)):
        place = tuple(
            p * stride + t * dilation - before
            for p, stride, t, dilation, before in zip(
                position, windows.strides, tap, windows.dilations, windows.before, strict=True
            )
        )
        if all(0 <= i < n for i, n in zip(place, x.shape[1:], strict=True)):
            yield tap, int(x[(channel, *place)])


def _single(layer):
    constants = layer.requantization
    return constants.multiplier[0], constants.right_shift[0]


def _finish(layer, out, accumulators):
    """Activation, pool and (3) of the accumulators of one output."""
    if layer.output is None:
        (acc,) = accumulators
        return acc
    if layer.activation:
        low, high, bias = (
            int(each[out])
            for each in (layer.activation.low, layer.activation.high, layer.activation.bias)
        )
        accumulators = [min(max(acc, low), high) + bias for acc in accumulators]
    many = len(layer.requantization.multiplier)
    m, n = (
        each[out % many]
        for each in (layer.requantization.multiplier, layer.requantization.right_shift)
    )
    return exact_output(sum(accumulators), m, n, layer.output, layer.low, layer.high)


def _convolution(layer, place, x):
    out, *position = place
    depth, zw = layer.weight.shape[1], int(layer.weight_zero_point[out])
    first = out // (layer.weight.shape[0] // layer.groups) * depth
    accumulators = []
    for inside in product(range(layer.pool), repeat=len(position)):
        spot = [p * layer.pool + i for p, i in zip(position, inside, strict=True)]
        acc = int(layer.bias[out])
        for i in range(depth):
            for tap, q in seen(layer.windows, x, first + i, spot):
                acc += (q - layer.input.zero_point) * (int(layer.weight[(out, i, *tap)]) - zw)
        accumulators.append(acc)
    return _finish(layer, out, accumulators)


def _linear(layer, place, x):
    *row, out = place
    zw, acc = int(layer.weight_zero_point[out]), int(layer.bias[out])
    for i, q in enumerate(x[tuple(row)].tolist()):
        acc += (q - layer.input.zero_point) * (int(layer.weight[out, i]) - zw)
    return _finish(layer, out, [acc])


def _matmul(layer, place, left, right):
    *outer, row, column = place
    acc = sum(
        (at(left, (*outer, row, k)) - layer.left.zero_point)
        * (at(right, (*outer, k, column)) - layer.right.zero_point)
        for k in range(left.shape[-1])
    )
    return exact_output(acc, *_single(layer), layer.output)


def _add(layer, place, *arrays):
    total = sum(
        (at(x, place) - type_.zero_point) * m
        for x, type_, m in zip(arrays, layer.terms, layer.multipliers, strict=True)
    )
    return exact_output(total, 1, layer.right_shift, layer.output, layer.low, layer.high)


def _mul(layer, place, left, right):
    both = (at(left, place) - layer.left.zero_point) * (at(right, place) - layer.right.zero_point)
    return exact_output(both, *_single(layer), layer.output, layer.low, layer.high)


def _requantize(layer, place, x):
    return exact_output(int(x[place]) - layer.input.zero_point, *_single(layer), layer.output)


def _table(layer, place, x):
    entry = int(x[place]) - layer.input.qmin
    return int(layer.table[entry] if layer.table.ndim == 1 else layer.table[place[0], entry])


def _average_pool(layer, place, x):
    channel, *position = place
    words = [q - layer.input.zero_point for _, q in seen(layer.windows, x, channel, position)]
    number = 0  # of the position, row-major
    for i, size in zip(position, layer.windows.positions(x.shape[1:]), strict=True):
        number = number * size + i
    many = len(layer.requantization.multiplier)
    m = layer.requantization.multiplier[number % many if many > 1 else 0]
    n = layer.requantization.right_shift[number % many if many > 1 else 0]
    return exact_output(sum(words), m, n, layer.output)


def _mean(layer, place, x):
    ranges = [range(n) if axis in layer.axes else [i] for axis, (i, n) in _axes(place, x)]
    total = sum(int(x[where]) - layer.input.zero_point for where in product(*ranges))
    return exact_output(total, *_single(layer), layer.output)


def _axes(place, x):
    return enumerate(zip(place, x.shape, strict=True))


def _softmax(layer, place, x):
    line = [
        int(x[(*place[: layer.axis], i, *place[layer.axis + 1 :])])
        for i in range(x.shape[layer.axis])
    ]
    powers = [int(layer.table[max(line) - q]) for q in line]
    share = Fraction(powers[place[layer.axis]], sum(powers))
    levels = layer.output.qmax - layer.output.qmin + 1
    return min(layer.output.qmin + nearest(share * levels), layer.output.qmax)


def _layer_norm(layer, place, x):
    line, size = x[place[:-1]].tolist(), x.shape[-1]
    d = [size * q - sum(line) for q in line]
    r = max(math.isqrt((sum(each**2 for each in d) + layer.epsilon) // size), 1)
    i = place[-1]
    t = nearest(Fraction(d[i] * 2**14, r))
    total = t * int(layer.multiplier[i]) + int(layer.bias[i])
    return exact_output(total, 1, layer.right_shift, layer.output)


def _island(layer, place, *arrays):
    operation = layer.operation
    first, channel = layer.terms[0], place[0]
    if isinstance(operation, Elementwise):  # a tanh alone
        real = math.tanh(first.scale * (int(arrays[0][place]) - first.zero_point))
    elif isinstance(operation, ChannelAffine):
        gain, shift = float(operation.gain[channel]), float(operation.shift[channel])
        real = gain * first.scale * (int(arrays[0][place]) - first.zero_point) + shift
    elif operation.kind is IslandKind.SUM:  # over axis 0
        words = arrays[0][(slice(None), *place[1:])].ravel().tolist()
        real = sum(first.scale * (q - first.zero_point) for q in words)
    else:
        a, b = (
            np.float64(type_.scale * (at(x, place) - type_.zero_point))
            for x, type_ in zip(arrays, layer.terms, strict=True)
        )
        with np.errstate(all="ignore"):
            real = {
                IslandKind.DIVIDE: lambda: a / b,
                IslandKind.MAXIMUM: lambda: max(a, b),
                IslandKind.MINIMUM: lambda: min(a, b),
                IslandKind.POWER: lambda: a**b,
            }[operation.kind]()
    output = layer.output
    if math.isnan(real):
        return output.zero_point
    if math.isinf(real):
        return output.qmax if real > 0 else output.qmin
    y = output.zero_point + math.floor(real / output.scale + 0.5)
    return min(max(y, output.qmin), output.qmax)


def _reshape(layer, place, x):
    number = 0
    for i, size in zip(place, layer.shape, strict=True):
        number = number * size + i
    return x.ravel().tolist()[number]


def _transpose(layer, place, x):
    source = dict(zip(layer.axes, place, strict=True))
    return int(x[tuple(source[axis] for axis in range(x.ndim))])


def _take(layer, place, x):
    axis = layer.axis
    return int(x[(*place[:axis], layer.indices[place[axis]], *place[axis + 1 :])])


def _pad(layer, place, x):
    source = tuple(i - low for i, low in zip(place, layer.before, strict=True))
    inside = all(0 <= i < n for i, n in zip(source, x.shape, strict=True))
    return int(x[source]) if inside else int(layer.value)


def _stretch(layer, place, x):
    channel, *position = place
    pairs = list(zip(position, layer.factors, strict=True))
    if any(i % factor for i, factor in pairs):
        return int(layer.value)
    return int(x[(channel, *(i // factor for i, factor in pairs))])


def _concat(layer, place, *arrays):
    i = place[layer.axis]
    for x in arrays:
        if i < x.shape[layer.axis]:
            return int(x[(*place[: layer.axis], i, *place[layer.axis + 1 :])])
        i -= x.shape[layer.axis]
    raise AssertionError(place)


_WORDS = {
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
    IntegerLookup: lambda layer, place, x: int(layer.table[int(x[place[:-1]]), place[-1]]),
    IntegerConstant: lambda layer, place: int(layer.value[place]),
    FloatIsland: _island,
    Reshape: _reshape,
    Transpose: _transpose,
    Take: _take,
    Pad: _pad,
    Stretch: _stretch,
    Expand: lambda _, place, x: at(x, place),
    Concat: _concat,
    MaxPool: lambda layer, place, x: max(q for _, q in seen(layer.windows, x, place[0], place[1:])),
}
