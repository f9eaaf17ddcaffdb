"""Random small integer networks of every record, and inputs for them.

`random_network(rng)` draws a graph; `random_network(rng, kinds=[IntegerAdd])` one of these records
alone. Whatever a record needs and nothing makes yet becomes an input or a constant. Types are of 4
to 16 bits and their zero points lie anywhere; factors are such that most integers do not saturate.
"""

import math

import numpy as np

from arraysmith.affine import Affine, integer_range, requantization
from arraysmith.errors import InvalidNetworkError
from arraysmith.networks.functions import Function, Step
from arraysmith.networks.graph import Input
from arraysmith.networks.moves import (
    MOVES,
    Concat,
    Expand,
    MaxPool,
    Pad,
    Reshape,
    Stretch,
    Take,
    Transpose,
)
from arraysmith.networks.operations import ChannelAffine, Elementwise, Island, IslandKind
from arraysmith.networks.windows import Windows
from arraysmith.quantization.network import IntegerNetwork
from arraysmith.quantization.norms import IntegerLayerNorm, IntegerSoftmax
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
from arraysmith.quantization.products import Activation, IntegerConvolution, IntegerLinear

MOST_WORDS = 1500
"""Of a tensor that may still grow."""


def random_network(rng, layers=8, *, kinds=None, bits=(8, 8, 8, 4, 6, 11, 16)):
    """An `IntegerNetwork` whose layers are drawn from `kinds` (all), with types of `bits`."""
    graph = _Graph(rng, bits)
    kinds = list(ALL_KINDS if kinds is None else kinds)
    for number in range(layers):
        kind = kinds[rng.integers(len(kinds))]
        graph.layers.append(_MAKERS[kind](graph, f"{kind.__name__}-{number}"))
        graph.keep(graph.layers[-1])
    return graph.network()


def random_inputs(network, rng, batch=3):
    """Legal int64 inputs (batch, *shape) by name, the ends of the types among them."""
    return {each.name: _words(rng, each, (batch, *each.shape)) for each in network.inputs}


def _words(rng, given, shape):
    low, high = (given.type.qmin, given.type.qmax) if given.type else (0, given.rows - 1)
    drawn = rng.integers(low, high + 1, shape)
    return np.where(rng.random(shape) < 0.1, rng.choice([low, high], shape), drawn)


class _Graph:
    """Layers so far, with shape and type of every tensor."""

    def __init__(self, rng, bits):
        self.rng, self.bits = rng, bits
        self.inputs, self.layers = [], []
        self.shapes, self.types = {}, {}
        self.rows = set()

    def keep(self, layer):
        """Note what a layer makes."""
        self.shapes[layer.name] = layer.output_shape(*(self.shapes[each] for each in layer.inputs))
        first = self.types[layer.inputs[0]] if layer.inputs else None
        self.types[layer.name] = first if isinstance(layer, MOVES) else layer.output

    def network(self):
        """All layers; what none reads is an output, and now and then what one does."""
        read = {name for layer in self.layers for name in layer.inputs}
        outputs = [
            each.name for each in self.layers if each.name not in read or self.rng.random() < 0.1
        ]
        return IntegerNetwork(
            name="random",
            inputs=tuple(self.inputs),
            layers=tuple(self.layers),
            outputs=tuple(outputs),
        )

    def affine(self, most=16):
        """Any type of at most so many bits."""
        bits = min(int(self.rng.choice(self.bits)), most)
        low, high = integer_range(bits, signed=bool(self.rng.integers(2)))
        scale = float(10 ** self.rng.uniform(-2.5, -0.3))
        zero_point = int(self.rng.integers(low, high + 1))
        return Affine(scale=scale, zero_point=zero_point, qmin=low, qmax=high)

    def shape(self, rank):
        """A small shape; channels first where there are spatial axes."""
        spatial = [int(size) for size in self.rng.integers(3, 10, max(rank - 1, 0))]
        return (int(self.rng.integers(1, 7)), *spatial)[:rank]

    def tensor(self, ranks=(1, 2, 3), *, typed=True, fits=lambda *_: True):
        """The name of a tensor, one of the last if one fits; else a new input."""
        names = [
            name
            for name, shape in self.shapes.items()
            if len(shape) in ranks
            and math.prod(shape) <= MOST_WORDS
            and (self.types[name] is not None or not typed)
            and fits(shape, self.types[name])
        ]
        if names and self.rng.random() < 0.9:
            return names[-min(int(self.rng.geometric(0.4)), len(names))]
        while True:
            shape, type_ = self.shape(int(self.rng.choice(ranks))), self.affine()
            if fits(shape, type_):
                return self.made(shape, type_)

    def made(self, shape, type_):
        """The name of a new input or constant."""
        if self.rng.random() < 0.3:
            value = self.rng.integers(type_.qmin, type_.qmax + 1, shape)
            name = f"constant-{len(self.layers)}"
            layer = IntegerConstant(name=name, inputs=(), value=value, output=type_)
            self.layers.append(layer)
            self.keep(layer)
            return name
        return self.input(shape, type=type_)

    def input(self, shape, **fields):
        """The name of a new input."""
        name = f"input-{len(self.inputs)}"
        self.inputs.append(Input(name=name, shape=shape, **fields))
        self.shapes[name], self.types[name] = shape, fields.get("type")
        return name

    def partner(self, shape, most=16):
        """The name of a tensor that broadcasts with `shape`."""
        if self.rng.random() < 0.5:
            narrow = [
                name
                for name, other in self.shapes.items()
                if self.types[name] is not None
                and self.types[name].bits <= most
                and _broadcast(shape, other) is not None
                and math.prod(_broadcast(shape, other)) <= MOST_WORDS
            ]
            if narrow:
                return str(self.rng.choice(narrow))
        cut = shape[int(self.rng.integers(0, len(shape) + 1)) :]
        other = tuple(size if self.rng.random() < 0.7 else 1 for size in cut)
        return self.made(other, self.affine(most))

    def factors(self, spread, output, count=1):
        """`Requantization` that takes sums of that spread to most of the output's range."""
        real = _width(output) / 3 / max(spread, 1) * self.rng.uniform(0.3, 1.2, count)
        least = max(8, math.ceil(math.log2(real.max() + 1)) + 1)
        return requantization(real, int(self.rng.integers(least, 32)))

    def ends(self, output):
        """Low and high of a clamp: none, a ReLU's, or any."""
        low, high = sorted(self.rng.integers(output.qmin, output.qmax + 1, 2).tolist())
        relu = max(output.qmin, output.zero_point)
        choice = self.rng.integers(4)
        return {"low": (None, relu, low, None)[choice], "high": (None, None, high, high)[choice]}

    def windows(self, sizes):
        """Windows of which at least one fits."""
        while True:
            drawn = (
                self.rng.integers(1, 4, (3, len(sizes))),
                self.rng.integers(0, 3, (2, len(sizes))),
            )
            size, strides, dilations = (tuple(row) for row in drawn[0].tolist())
            before, after = (tuple(row) for row in drawn[1].tolist())
            try:
                windows = Windows(
                    size=size, strides=strides, dilations=dilations, before=before, after=after
                )
                windows.positions(sizes)
            except InvalidNetworkError:
                continue
            return windows


def _broadcast(*shapes):
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None


def _width(type_):
    return type_.qmax - type_.qmin


# ---- layers with weights


def _weighted(graph, kind, shape, input_, fields):
    """A convolution or linear layer; its weights get fewer bits until no sum leaves int32."""
    rng, out = graph.rng, shape[0]
    output = None if fields.pop("bare") else graph.affine()
    for bits in range(int(rng.choice([4, 8, 8, 8, 12])), 3, -1):
        low, high = integer_range(bits)
        spread = math.sqrt(np.prod(shape[1:])) * _width(input_) / 3 * (high - low) / 3
        bias = rng.normal(0, spread / 4, out).clip(-(2**30), 2**30)
        common = {
            "weight": rng.integers(low, high + 1, shape).astype(np.int16),
            "weight_bits": bits,
            "weight_zero_point": rng.integers(low // 4, high // 4 + 1, out),
            "weight_scale": rng.random(out) + 0.1,
            "bias": bias.astype(np.int32),
            "input": input_,
            "output": output,
            "requantization": None,
        }
        if output is not None:
            spread *= fields.get("pool", 1) ** len(shape[2:])
            many = out if rng.random() < 0.7 else 1
            common["requantization"] = graph.factors(spread, output, many)
            common["activation"] = _activation(rng, out, spread)
            common |= graph.ends(output)
        try:
            return kind(**common, **fields)
        except InvalidNetworkError as error:
            if "beyond int32" not in str(error):
                raise
    raise AssertionError(shape)


def _activation(rng, out, spread):
    """None, a ReLU, or a clamp and a bias of every channel."""
    choice = rng.integers(3)
    low, high = np.full(out, -(2**31)), np.full(out, 2**31 - 1)
    if choice == 0:
        return None
    if choice == 1:
        return Activation(low=np.zeros(out, np.int64), high=high, bias=np.zeros(out, np.int64))
    low = np.where(rng.random(out) < 0.5, low, rng.normal(0, spread / 2, out).astype(np.int64))
    high = np.where(rng.random(out) < 0.5, high, low.clip(0) + int(spread / 2))
    return Activation(low=low, high=high, bias=rng.normal(0, spread / 2, out).astype(np.int64))


def _convolution(graph, name):
    rng = graph.rng
    x = graph.tensor((2, 3))
    channels, *sizes = graph.shapes[x]
    windows = graph.windows(tuple(sizes))
    divisors = [n for n in range(1, channels + 1) if channels % n == 0]
    groups = int(rng.choice(divisors))
    out = groups * int(rng.integers(1, 4))
    bare = bool(rng.random() < 0.15)
    most = 1 if bare else min(3, *windows.positions(tuple(sizes)))
    fields = {
        "name": name,
        "inputs": (x,),
        "windows": windows,
        "groups": groups,
        "pool": int(rng.integers(1, most + 1)),
        "bare": bare,
    }
    shape = (out, channels // groups, *windows.size)
    return _weighted(graph, IntegerConvolution, shape, graph.types[x], fields)


def _linear(graph, name):
    x = graph.tensor()
    shape = (int(graph.rng.integers(1, 7)), graph.shapes[x][-1])
    fields = {"name": name, "inputs": (x,), "bare": bool(graph.rng.random() < 0.15)}
    return _weighted(graph, IntegerLinear, shape, graph.types[x], fields)


# ---- other arithmetic


def _matmul(graph, name):
    rng = graph.rng
    left = graph.tensor((2, 3))
    *outer, _, depth = graph.shapes[left]
    most = 8 if graph.types[left].bits > 8 else 12
    outer = outer[int(rng.integers(0, len(outer) + 1)) :]
    shape = (*(size if rng.random() < 0.7 else 1 for size in outer), depth, int(rng.integers(1, 6)))
    right = graph.made(shape, graph.affine(most))
    types, output = (graph.types[left], graph.types[right]), graph.affine()
    spread = math.sqrt(depth) * math.prod(_width(each) / 3 for each in types)
    return IntegerMatMul(
        name=name,
        inputs=(left, right),
        left=types[0],
        right=types[1],
        output=output,
        requantization=graph.factors(spread, output),
    )


def _mul(graph, name):
    left = graph.tensor()
    right = graph.partner(graph.shapes[left], 8 if graph.types[left].bits > 8 else 12)
    inputs = (left, right) if graph.rng.random() < 0.5 else (right, left)
    types, output = [graph.types[each] for each in inputs], graph.affine()
    return IntegerMul(
        name=name,
        inputs=inputs,
        left=types[0],
        right=types[1],
        output=output,
        requantization=graph.factors(math.prod(_width(each) / 3 for each in types), output),
        **graph.ends(output),
    )


def _add(graph, name):
    rng = graph.rng
    names = [graph.tensor()]
    shape = graph.shapes[names[0]]
    for _ in range(int(rng.integers(0, 4))):
        other = graph.partner(shape)
        shape = _broadcast(shape, graph.shapes[other])
        names.append(other)
    rng.shuffle(names)
    terms = tuple(graph.types[each] for each in names)
    output, shift = graph.affine(), int(rng.integers(6, 18))
    real = [_width(output) / _width(each) * rng.uniform(-1, 1) / len(names) for each in terms]
    multipliers = tuple(round(each * 2**shift) for each in real)
    return IntegerAdd(
        name=name,
        inputs=tuple(names),
        terms=terms,
        output=output,
        multipliers=multipliers,
        right_shift=shift,
        multiplier_bits=max(1, *(abs(m).bit_length() for m in multipliers)),
        **graph.ends(output),
    )


def _requantize(graph, name):
    x = graph.tensor()
    input_, output = graph.types[x], graph.affine()
    return IntegerRequantize(
        name=name,
        inputs=(x,),
        input=input_,
        output=output,
        requantization=graph.factors(_width(input_) / 3, output),
    )


def _table(graph, name):
    x = graph.tensor()
    input_, output = graph.types[x], graph.affine()
    channels = graph.shapes[x][:1] if graph.rng.random() < 0.3 else ()
    shape = (*channels, _width(input_) + 1)
    table = graph.rng.integers(output.qmin, output.qmax + 1, shape)
    return IntegerTable(name=name, inputs=(x,), table=table, input=input_, output=output)


def _average_pool(graph, name):
    x = graph.tensor((2, 3))
    input_, output = graph.types[x], graph.affine()
    sizes = graph.shapes[x][1:]
    windows = graph.windows(sizes)
    many = math.prod(windows.positions(sizes)) if graph.rng.random() < 0.5 else 1
    spread = math.sqrt(windows.area) * _width(input_) / 3
    return IntegerAveragePool(
        name=name,
        inputs=(x,),
        windows=windows,
        input=input_,
        output=output,
        requantization=graph.factors(spread, output, many),
    )


def _mean(graph, name):
    x = graph.tensor()
    rank = len(graph.shapes[x])
    chosen = graph.rng.permutation(rank)[: int(graph.rng.integers(1, rank + 1))]
    input_, output = graph.types[x], graph.affine()
    words = math.prod(graph.shapes[x][axis] for axis in chosen)
    return IntegerMean(
        name=name,
        inputs=(x,),
        axes=tuple(sorted(chosen.tolist())),
        input=input_,
        output=output,
        requantization=graph.factors(math.sqrt(words) * _width(input_) / 3, output),
    )


def _softmax(graph, name):
    x = graph.tensor()
    input_, grid = graph.types[x], graph.affine()
    scale = 1 / (_width(grid) + 1)
    output = Affine(scale=scale, zero_point=grid.qmin, qmin=grid.qmin, qmax=grid.qmax)
    steps = np.arange(_width(input_) + 1)
    return IntegerSoftmax(
        name=name,
        inputs=(x,),
        axis=int(graph.rng.integers(len(graph.shapes[x]))),
        table=np.floor(2**16 * np.exp(-input_.scale * steps) + 0.5).astype(np.int64),
        input=input_,
        output=output,
    )


def _layer_norm(graph, name):
    rng = graph.rng
    x = graph.tensor()
    size = graph.shapes[x][-1]
    input_, output, shift = graph.types[x], graph.affine(), int(rng.integers(14, 23))
    gain = rng.normal(0, _width(output) / 4, size) * 2.0 ** (shift - 14)
    epsilon = 10 ** rng.uniform(-6, -1)
    return IntegerLayerNorm(
        name=name,
        inputs=(x,),
        input=input_,
        output=output,
        epsilon=math.floor(size**3 * epsilon / input_.scale**2 + 0.5),
        multiplier=gain.clip(1 - 2**24, 2**24 - 1).astype(np.int64),
        bias=(rng.normal(0, _width(output) / 8, size) * 2.0**shift).astype(np.int64),
        right_shift=shift,
    )


def _lookup(graph, name):
    rng, output = graph.rng, graph.affine()
    rows = int(rng.integers(1, 300))
    x = graph.input(graph.shape(int(rng.integers(1, 3))), rows=rows)
    table = rng.integers(output.qmin, output.qmax + 1, (rows, int(rng.integers(1, 6))))
    return IntegerLookup(name=name, inputs=(x,), table=table, output=output)


def _constant(graph, name):
    output = graph.affine()
    value = graph.rng.integers(output.qmin, output.qmax + 1, graph.shape(graph.rng.integers(1, 4)))
    return IntegerConstant(name=name, inputs=(), value=value, output=output)


def _island(graph, name):
    rng = graph.rng
    x = graph.tensor()
    inputs, channels = (x,), graph.shapes[x][0]
    numbers = rng.normal(0, 1, (2, channels)).astype(np.float32)
    operations = [
        Elementwise(name=name, inputs=inputs, steps=(Step(function=Function.TANH),)),
        ChannelAffine(name=name, inputs=inputs, gain=numbers[0], shift=numbers[1]),
        Island(name=name, inputs=inputs, kind=IslandKind.SUM, axes=(0,)),
    ]
    if rng.random() < 0.5:
        inputs = (x, graph.partner(graph.shapes[x]))
        kinds = (IslandKind.DIVIDE, IslandKind.MAXIMUM, IslandKind.MINIMUM, IslandKind.POWER)
        operations = [Island(name=name, inputs=inputs, kind=kind) for kind in kinds]
    return FloatIsland(
        name=name,
        inputs=inputs,
        operation=operations[rng.integers(len(operations))],
        terms=tuple(graph.types[each] for each in inputs),
        output=graph.affine(),
    )


# ---- moves


def _reshape(graph, name):
    x = graph.tensor(typed=False)
    left, sizes = math.prod(graph.shapes[x]), []
    for _ in range(int(graph.rng.integers(0, 3))):
        sizes.append(int(graph.rng.choice([n for n in range(1, left + 1) if left % n == 0])))
        left //= sizes[-1]
    return Reshape(name=name, inputs=(x,), shape=(*sizes, left))


def _transpose(graph, name):
    x = graph.tensor(typed=False)
    axes = graph.rng.permutation(len(graph.shapes[x]))
    return Transpose(name=name, inputs=(x,), axes=tuple(axes.tolist()))


def _take(graph, name):
    x = graph.tensor(typed=False)
    axis = int(graph.rng.integers(len(graph.shapes[x])))
    indices = graph.rng.integers(0, graph.shapes[x][axis], int(graph.rng.integers(1, 9)))
    return Take(name=name, inputs=(x,), axis=axis, indices=indices)


def _pad(graph, name):
    x = graph.tensor()
    before, after = graph.rng.integers(0, 3, (2, len(graph.shapes[x]))).tolist()
    value = graph.rng.integers(graph.types[x].qmin, graph.types[x].qmax + 1)
    return Pad(name=name, inputs=(x,), before=tuple(before), after=tuple(after), value=float(value))


def _stretch(graph, name):
    x = graph.tensor((2, 3))
    factors = tuple(graph.rng.integers(1, 4, len(graph.shapes[x]) - 1).tolist())
    value = float(graph.types[x].zero_point)
    return Stretch(name=name, inputs=(x,), factors=factors, value=value)


def _expand(graph, name):
    x = graph.tensor(typed=False)
    shape = graph.shapes[x]
    grown = [int(graph.rng.integers(1, 4)) if size == 1 else size for size in shape]
    more = graph.rng.integers(1, 4, int(graph.rng.integers(0, max(1, 4 - len(shape)))))
    return Expand(name=name, inputs=(x,), shape=(*more.tolist(), *grown))


def _concat(graph, name):
    x = graph.tensor(typed=False)
    shape, type_ = graph.shapes[x], graph.types[x]
    axis = int(graph.rng.integers(len(shape)))
    names = [x, x] if graph.rng.random() < 0.3 else [x]
    if type_ is not None:
        size = int(graph.rng.integers(1, 5))
        names.append(graph.made((*shape[:axis], size, *shape[axis + 1 :]), type_))
        graph.rng.shuffle(names)
    return Concat(name=name, inputs=tuple(names), axis=axis)


def _max_pool(graph, name):
    x = graph.tensor((2, 3), typed=False)
    while True:
        layer = MaxPool(name=name, inputs=(x,), windows=graph.windows(graph.shapes[x][1:]))
        try:
            layer.output_shape(graph.shapes[x])
        except InvalidNetworkError:  # a window of padding alone
            continue
        return layer


_MAKERS = {
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
    FloatIsland: _island,
    Reshape: _reshape,
    Transpose: _transpose,
    Take: _take,
    Pad: _pad,
    Stretch: _stretch,
    Expand: _expand,
    Concat: _concat,
    MaxPool: _max_pool,
}
ALL_KINDS = tuple(_MAKERS)
"""Every record of an integer network."""
