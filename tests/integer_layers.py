"""Random integer layers: of every record, every width, with numbers at the ends of their ranges."""

from __future__ import annotations

import numpy as np

from arraysmith.affine import Affine, Requantization, integer_range
from arraysmith.networks import moves
from arraysmith.networks.graph import Input
from arraysmith.networks.windows import Windows
from arraysmith.quantization import operations
from arraysmith.quantization.network import IntegerNetwork
from arraysmith.quantization.products import Activation, IntegerConvolution, IntegerLinear


def affine(rng, bits=None, *, signed=None, scale=0.1):
    """A type of 4 to 16 bits; its zero point is an end of the range every other time."""
    bits = int(rng.integers(4, 17)) if bits is None else bits
    signed = bool(rng.integers(2)) if signed is None else signed
    qmin, qmax = integer_range(bits, signed=signed)
    zero = int(rng.choice([qmin, qmax, int(rng.integers(qmin, qmax + 1))]))
    return Affine(scale=scale, zero_point=zero, qmin=qmin, qmax=qmax)


def words(rng, type_, *shape):
    """Integers of a type, many of them its ends."""
    inside = rng.integers(type_.qmin, type_.qmax + 1, shape)
    ends = rng.choice([type_.qmin, type_.qmax], shape)
    return np.where(rng.random(shape) < 0.3, ends, inside)


def factor(rng, reach, output, count=1):
    """Constants of (3) that spread about ±reach over the output's range.

    m has 8 to 31 bits; one layer in eight has a shift of 1 or 62 instead of a fitting one.
    """
    real = (output.qmax - output.qmin) / max(reach, 1) * rng.uniform(0.3, 2, count)
    bits = int(rng.integers(8, 32))
    shifts = np.clip(bits - np.frexp(real)[1], 1, 62)
    if rng.integers(8) == 0:
        shifts = rng.choice([1, 62], count)
    m = np.clip(np.floor(real * 2.0**shifts + 0.5), 1, 2**31 - 1).astype(np.int64)
    return Requantization(multiplier=m, right_shift=shifts.astype(np.int64), bits=31)


def windows(rng, axes, *, size=3, dilated=True):
    """A window of up to `size` taps an axis, padded on any side."""
    draw = lambda low, high: tuple(rng.integers(low, high + 1, axes).tolist())  # noqa: E731
    return Windows(
        size=draw(1, size),
        strides=draw(1, 3),
        dilations=draw(1, 2) if dilated else (1,) * axes,
        before=draw(0, 2),
        after=draw(0, 2),
    )


def network(layer, given, batch):
    """A network of one layer whose inputs are named a, b, …; and words for them."""
    rng = np.random.default_rng(7)
    inputs = tuple(
        Input(name=name, shape=shape, type=type_, rows=0)
        for name, (type_, shape) in zip(layer.inputs, given, strict=True)
    )
    fed = {each.name: words(rng, each.type, batch, *each.shape) for each in inputs}
    return IntegerNetwork(name="net", inputs=inputs, layers=(layer,), outputs=(layer.name,)), fed


def weights(rng, shape, input_, bits):
    """The fields that weighted layers share; weights are ends of their range half of the time."""
    qmin, qmax = integer_range(bits)
    out = shape[0]
    zeros = rng.integers(qmin, qmax + 1, out) if rng.integers(2) else np.full(out, 0)
    inside = rng.integers(qmin, qmax + 1, shape)
    q = np.where(rng.random(shape) < 0.5, rng.choice([qmin, qmax], shape), inside)
    reach = max(input_.qmax - input_.zero_point, input_.zero_point - input_.qmin)
    bound = int(np.sqrt(np.prod(shape[1:])) * reach * (qmax - qmin + 1)) // 2
    return bound, {
        "weight": q.astype(np.int16),
        "weight_bits": bits,
        "weight_zero_point": zeros.astype(np.int64),
        "weight_scale": np.ones(out),
        "bias": rng.integers(-(1 << 20), 1 << 20, out).astype(np.int32),
        "input": input_,
    }


def finish(rng, bound, out, *, pooled=1):
    """Output, constants, clamp and activation."""
    output = affine(rng)
    zero = output.zero_point
    activation = None
    if rng.integers(2):
        low = np.where(rng.random(out) < 0.5, -(2**31), rng.integers(-bound // 4 - 1, 1, out))
        high = np.where(rng.random(out) < 0.5, 2**31 - 1, rng.integers(0, bound // 4 + 1, out))
        activation = Activation(low=low, high=high, bias=rng.integers(-(1 << 18), 1 << 18, out))
    return {
        "output": output,
        "requantization": factor(rng, bound * pooled, output, int(rng.choice([1, out]))),
        "activation": activation,
        "low": zero if zero < output.qmax and rng.integers(2) else None,
        "high": output.qmax - 3 if zero < output.qmin + 5 and rng.integers(2) else None,
    }


def narrow(rng):
    """Bits of input and weights whose products fit int32, though sums may be of many."""
    return [(8, 8), (4, 8), (8, 4), (12, 8), (8, 12), (16, 4), (5, 16), (10, 9)][rng.integers(8)]


def convolution(rng):
    """Over one or two axes, in groups, with a pool."""
    axes, groups = int(rng.integers(1, 3)), int(rng.choice([1, 2, 3]))
    input_bits, weight_bits = narrow(rng)
    input_ = affine(rng, input_bits)
    window = windows(rng, axes)
    channels, out = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 4))
    shape = (out, channels // groups, *window.size)
    bound, fields = weights(rng, shape, input_, weight_bits)
    logits = rng.integers(4) == 0
    pool = 1 if logits else int(rng.choice([1, 1, 2]))
    ending = (
        {"output": None, "requantization": None}
        if logits
        else finish(rng, bound, out, pooled=pool**axes)
    )
    layer = IntegerConvolution(
        name="conv", inputs=("a",), windows=window, groups=groups, pool=pool, **fields, **ending
    )
    return layer, [(input_, (channels, *rng.integers(11, 14, axes).tolist()))]


def linear(rng):
    """Over the last of one to three axes."""
    input_bits, weight_bits = narrow(rng)
    input_ = affine(rng, input_bits)
    out, features = int(rng.integers(1, 6)), int(rng.integers(1, 40))
    bound, fields = weights(rng, (out, features), input_, weight_bits)
    logits = rng.integers(4) == 0
    ending = {"output": None, "requantization": None} if logits else finish(rng, bound, out)
    layer = IntegerLinear(name="linear", inputs=("a",), **fields, **ending)
    return layer, [(input_, (*rng.integers(1, 4, rng.integers(3)).tolist(), features))]


def matmul(rng):
    """Of tensors of different numbers of axes."""
    bits = [(8, 8), (16, 8), (8, 16), (13, 13), (4, 8)][rng.integers(5)]
    left, right = affine(rng, bits[0]), affine(rng, bits[1])
    m, k, n = rng.integers(1, 6, 3).tolist()
    output = affine(rng)
    reach = int(k**0.5) << (sum(bits) - 1)
    layer = operations.IntegerMatMul(
        name="matmul",
        inputs=("a", "b"),
        left=left,
        right=right,
        output=output,
        requantization=factor(rng, reach, output),
    )
    front = [((), ()), ((3,), (3,)), ((), (2,)), ((2, 1), (3,))][rng.integers(4)]
    return layer, [(left, (*front[0], m, k)), (right, (*front[1], k, n))]


def add(rng):
    """Of one to three terms that broadcast."""
    shapes = [((4, 5),), ((4, 5), (5,)), ((3, 1, 5), (4, 1), (5,))][rng.integers(3)]
    terms = tuple(affine(rng) for _ in shapes)
    output = affine(rng)
    fitting = 31 + max(type_.bits for type_ in terms) - output.bits + int(rng.integers(-2, 2))
    layer = operations.IntegerAdd(
        name="add",
        inputs=tuple("abc"[: len(shapes)]),
        terms=terms,
        output=output,
        multipliers=tuple(rng.integers(-(2**31) + 1, 2**31, len(shapes)).tolist()),
        right_shift=int(rng.choice([1, 62, *(fitting,) * 8])),
        multiplier_bits=31,
        low=output.qmin + 1 if rng.integers(2) else None,
    )
    return layer, list(zip(terms, shapes, strict=True))


def mul(rng):
    """Of two that broadcast."""
    left, right = affine(rng, int(rng.integers(4, 16))), affine(rng, int(rng.integers(4, 16)))
    output = affine(rng)
    layer = operations.IntegerMul(
        name="mul",
        inputs=("a", "b"),
        left=left,
        right=right,
        output=output,
        requantization=factor(rng, 1 << (left.bits + right.bits), output),
        high=output.qmax - 1,
    )
    return layer, [(left, (3, 4, 1)), (right, (4, 5))]


def requantize(rng):
    """From one width to another."""
    input_, output = affine(rng), affine(rng)
    layer = operations.IntegerRequantize(
        name="requantize",
        inputs=("a",),
        input=input_,
        output=output,
        requantization=factor(rng, 1 << input_.bits, output),
    )
    return layer, [(input_, (6, 5))]


def table(rng):
    """One for all, or one a channel."""
    input_, output = affine(rng, int(rng.integers(4, 13))), affine(rng)
    values = input_.qmax - input_.qmin + 1
    shape = (values,) if rng.integers(2) else (3, values)
    layer = operations.IntegerTable(
        name="table", inputs=("a",), input=input_, output=output, table=words(rng, output, *shape)
    )
    return layer, [(input_, (3, *rng.integers(1, 6, rng.integers(3)).tolist()))]


def average_pool(rng):
    """With constants for the whole tensor or for every position."""
    axes = int(rng.integers(1, 3))
    input_, output, window = affine(rng), affine(rng), windows(rng, axes)
    sizes = tuple(rng.integers(8, 11, axes).tolist())
    count = int(np.prod(window.positions(sizes))) if rng.integers(2) else 1
    layer = operations.IntegerAveragePool(
        name="average",
        inputs=("a",),
        windows=window,
        input=input_,
        output=output,
        requantization=factor(rng, window.area << input_.bits, output, count),
    )
    return layer, [(input_, (3, *sizes))]


def mean(rng):
    """Over some axes."""
    input_, output = affine(rng), affine(rng)
    axes = [(0,), (1, 2), (2,), (0, 1, 2), (0, 2)][rng.integers(5)]
    layer = operations.IntegerMean(
        name="mean",
        inputs=("a",),
        axes=axes,
        input=input_,
        output=output,
        requantization=factor(rng, 60 << input_.bits, output),
    )
    return layer, [(input_, (3, 4, 5))]


def softmax(rng):
    """Along any axis."""
    input_ = affine(rng, int(rng.integers(4, 13)))
    low, high = integer_range(int(rng.choice([4, 8, 16])), signed=bool(rng.integers(2)))
    output = Affine(scale=1 / (high - low + 1), zero_point=low, qmin=low, qmax=high)
    values = np.arange(input_.qmax - input_.qmin + 1)
    layer = operations.IntegerSoftmax(
        name="softmax",
        inputs=("a",),
        axis=int(rng.integers(3)),
        input=input_,
        output=output,
        table=np.floor(2**16 * np.exp(-float(rng.choice([1e-4, 0.05, 0.4])) * values) + 0.5).astype(
            np.int64
        ),
    )
    return layer, [(input_, (3, 4, 5))]


def layer_norm(rng):
    """With signed multipliers; sometimes of one word, or of words that are all equal."""
    input_, output = affine(rng), affine(rng)
    size = int(rng.choice([1, 2, 7, 33]))
    bits = int(rng.integers(4, 25))
    shift = max(14 + bits - output.bits, 1)
    reach = 1 << (shift + output.bits - 2)
    layer = operations.IntegerLayerNorm(
        name="norm",
        inputs=("a",),
        input=input_,
        output=output,
        epsilon=int(rng.choice([0, 1, size**3, 2**40])),
        multiplier=rng.integers(-(2**bits) + 1, 2**bits, size),
        bias=rng.integers(-reach, reach, size),
        right_shift=shift,
    )
    return layer, [(input_, (4, size))]


def move(rng, kind):
    """A move of one of `MOVE_KINDS` kinds."""
    type_ = affine(rng)
    fill = int(words(rng, type_, 1)[0])
    axes = int(rng.integers(1, 3))
    image = (2, *rng.integers(7, 10, axes).tolist())
    window = windows(rng, axes)
    while not window.counts(image[1:], ((0,) * axes, (0,) * axes)).all():
        window = windows(rng, axes)  # a greatest of padding alone is refused
    a = {"name": "move", "inputs": ("a",)}
    return [
        (moves.Reshape(**a, shape=(5, 2, 6)), [(type_, (3, 4, 5))]),
        (moves.Reshape(**a, shape=()), [(type_, (1,))]),
        (moves.Transpose(**a, axes=(2, 0, 1)), [(type_, (3, 4, 5))]),
        (moves.Take(**a, axis=1, indices=np.array([3, 0, 0, 2])), [(type_, (3, 4, 5))]),
        (moves.Pad(**a, before=(1, 0), after=(2, 3), value=fill), [(type_, (3, 4))]),
        (moves.Stretch(**a, factors=(3, 2)[:axes], value=fill), [(type_, image)]),
        (moves.Expand(**a, shape=(2, 3, 5)), [(type_, (3, 1))]),
        (
            moves.Concat(name="move", inputs=("a", "b"), axis=1),
            [(type_, (3, 4)), (type_, (3, 2))],
        ),
        (moves.MaxPool(**a, windows=window), [(type_, image)]),
    ][kind]


MAKERS = (
    convolution,
    linear,
    matmul,
    add,
    mul,
    requantize,
    table,
    average_pool,
    mean,
    softmax,
    layer_norm,
)
MOVE_KINDS = 9
