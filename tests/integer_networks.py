"""Integer networks by hand: one with every record there is, and chains for a plain C engine."""

from __future__ import annotations

from typing import get_args

import numpy as np

from arraysmith.affine import Affine, Requantization
from arraysmith.networks import operations as floats
from arraysmith.networks.functions import Function, Step
from arraysmith.networks.graph import Input
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

BYTE = Affine(scale=1.0, zero_point=0, qmin=0, qmax=255)
WORD = Affine(scale=0.1, zero_point=3)
WIDE = Affine(scale=1e-3, zero_point=-7, qmin=-(2**15), qmax=2**15 - 1)
SHARE = Affine(scale=1 / 256, zero_point=-128)


def constants(*multipliers, shift=20, bits=16):
    """The constants of (3) with one shift."""
    m = np.array(multipliers, np.int64)
    return Requantization(multiplier=m, right_shift=np.full(len(m), shift), bits=bits)


def windows(size, stride=1, padding=0):
    """The same along two axes."""
    return Windows(
        size=(size, size),
        strides=(stride, stride),
        dilations=(1, 1),
        before=(padding, padding),
        after=(padding, padding),
    )


def weighted(name, source, shape, input_, output=WORD, *, bits=8, seed=0, **more):
    """Fields of a layer with random weights; logits where `output` is None."""
    rng, out = np.random.default_rng(seed), shape[0]
    top = 1 << (bits - 1)
    fields = {
        "name": name,
        "inputs": (source,),
        "weight": rng.integers(-top, top, shape).astype(np.int16),
        "weight_bits": bits,
        "weight_zero_point": rng.integers(-3, 4, out),
        "weight_scale": rng.uniform(1e-3, 1e-2, out),
        "bias": rng.integers(-99, 99, out).astype(np.int32),
        "input": input_,
        "output": output,
        "requantization": None,
    }
    if output is not None:
        fields["requantization"] = constants(*rng.integers(500, 9000, out).tolist())
    return fields | more


def island(name, sources, operation, terms=(WORD,)):
    """A float island of an operation's class and fields."""
    kind, more = operation
    return FloatIsland(
        name=name,
        inputs=sources,
        operation=kind(name=name, inputs=sources, **more),
        terms=terms,
        output=WORD,
    )


def ones(*shape):
    """Floats that need all their digits."""
    return (np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32) / np.float32(3)).reshape(shape)


def integer_layers():
    """From pixels (2, 6, 6) on; every integer record and every move."""
    clamp = Activation(
        low=np.array([0, 0, -(2**31), -9]),
        high=np.array([2**31 - 1, 900, 5, 2**31 - 1]),
        bias=np.array([0, -4, 7, 1]),
    )
    softmax = np.floor(2**16 * np.exp(-0.1 * np.arange(256)) + 0.5).astype(np.int64)
    conv = weighted("conv.1", "pixels", (4, 1, 3, 3), BYTE, bits=4, activation=clamp, low=3)
    return (
        IntegerConvolution(**conv, windows=windows(3, padding=1), groups=2, pool=2),
        Pad(name="pad", inputs=("conv.1",), before=(0, 1, 0), after=(0, 0, 1), value=3),
        Stretch(name="stretch", inputs=("pad",), factors=(2, 1), value=3.0),
        MaxPool(name="maxpool", inputs=("stretch",), windows=windows(2, 2)),
        IntegerAveragePool(
            name="avgpool",
            inputs=("maxpool",),
            windows=windows(2, 2, 1),
            input=WORD,
            output=WORD,
            requantization=constants(*range(1, 5), shift=3, bits=8),
        ),
        Transpose(name="turn", inputs=("avgpool",), axes=(1, 2, 0)),
        Take(name="take", inputs=("turn",), axis=1, indices=np.array([1, 0, 1])),
        IntegerTable(name="tanh", inputs=("take",), table=np.arange(256)[::-1] - 128, input=WORD,
                     output=WORD),
        IntegerTable(name="tables", inputs=("tanh",), table=np.arange(512).reshape(2, 256) // 2,
                     input=WORD, output=BYTE),
        IntegerRequantize(name="wide", inputs=("tables",), input=BYTE, output=WIDE,
                          requantization=constants(2**30, bits=31)),
        IntegerLinear(**weighted("fc", "wide", (4, 4), WIDE, bits=6, high=100)),
        IntegerLayerNorm(name="norm", inputs=("fc",), input=WORD, output=WORD, epsilon=2**40 + 1,
                         multiplier=np.array([-(2**23), 5, 0, 2**23]),
                         bias=np.array([-(2**60) - 1, 0, 1, 2**60 + 1]), right_shift=30),
        IntegerSoftmax(name="softmax", inputs=("norm",), axis=2, table=softmax, input=WORD,
                       output=SHARE),
        IntegerMatMul(name="attend", inputs=("softmax", "square"), left=SHARE, right=WORD,
                      output=WORD, requantization=constants(300)),
        IntegerAdd(name="add", inputs=("attend", "norm", "fc"), terms=(WORD,) * 3, output=WORD,
                   multipliers=(2**15, -(2**14), 3), right_shift=16, multiplier_bits=16, low=-9),
        IntegerMul(name="mul", inputs=("add", "softmax"), left=WORD, right=SHARE, output=WORD,
                   requantization=constants(77), high=11),
        Reshape(name="flat", inputs=("mul",), shape=(24,)),
        IntegerLookup(name="rows", inputs=("ids",), table=np.arange(10).reshape(5, 2), output=WORD),
        Reshape(name="column", inputs=("rows",), shape=(6,)),
        Concat(name="join", inputs=("flat", "column"), axis=0),
    )  # fmt: skip


def float_islands():
    """From "mul" (2, 3, 4) on: arrays of every rank, infinities, enums, steps."""
    step = (
        Step(function=Function.CLIP, numbers=(-float("inf"), 6.0)),
        Step(function=Function.ADD, numbers=(0.1,)),
        Step(function=Function.RELU),
    )
    norm = {"gain": ones(3, 4), "shift": ones(3, 4), "epsilon": 1e-5}
    power = {"kind": floats.IslandKind.POWER}
    pool = {"windows": windows(2), "counted": ((0, 0), (1, 1))}
    weights = {"weight": ones(3, 2, 1, 1), "bias": ones(3), "windows": windows(1)}
    return (
        island("steps", ("mul",), (floats.Elementwise, {"steps": step})),
        island("norms", ("steps",), (floats.LayerNorm, norm)),
        island("power", ("norms", "mul"), (floats.Island, power), (WORD, WORD)),
        island("pooled", ("power",), (floats.AveragePool, pool)),
        island("convolved", ("pooled",), (floats.Convolution, weights)),
        island("number", (), (floats.Constant, {"value": ones()}), ()),
    )


def every_record():
    """A network of two inputs and three outputs with every record at least once."""
    network = IntegerNetwork(
        name="every",
        inputs=(
            Input(name="pixels", shape=(2, 6, 6), type=BYTE),
            Input(name="ids", shape=(3,), rows=5),
        ),
        layers=(
            IntegerConstant(
                name="square", inputs=(), value=np.arange(16).reshape(4, 4) - 8, output=WORD
            ),
            *integer_layers(),
            *float_islands(),
            IntegerMean(
                name="mean",
                inputs=("mul",),
                axes=(0, 2),
                input=WORD,
                output=WORD,
                requantization=constants(99),
            ),
            Expand(name="expand", inputs=("mean",), shape=(2, 3, 4)),
            IntegerLinear(**weighted("logits", "expand", (5, 4), WORD, None)),
        ),
        outputs=("logits", "join", "convolved"),
    )
    assert {type(layer) for layer in network.layers} == set(get_args(_all_layers()))
    return network


def _all_layers():
    from arraysmith.quantization.operations import IntegerLayer

    return IntegerLayer


def chain(seed=0, *, activated=False, low=None):
    """What a plain C engine runs: convolutions, pools, a table, linear layers, logits."""
    activation = None
    if activated:
        rng = np.random.default_rng(seed)
        activation = Activation(
            low=rng.integers(-3000, 0, 3),
            high=rng.integers(0, 3000, 3),
            bias=rng.integers(-9, 9, 3),
        )
    conv1 = weighted("conv1", "pixels", (3, 1, 3, 3), BYTE, seed=seed, activation=activation)
    conv2 = weighted("conv2", "pool1", (4, 3, 2, 2), WORD, seed=seed + 1, bits=6, low=low)
    conv2["requantization"] = constants(4321)
    table = np.sort(np.random.default_rng(seed).integers(-128, 128, 256))
    return IntegerNetwork(
        name="chain",
        inputs=(Input(name="pixels", shape=(1, 13, 13), type=BYTE),),
        layers=(
            IntegerConvolution(**conv1, windows=windows(3, padding=1), pool=2),
            IntegerAveragePool(
                name="pool1",
                inputs=("conv1",),
                windows=windows(2, 2, 1),
                input=WORD,
                output=WORD,
                requantization=constants(
                    *np.random.default_rng(seed).integers(9000, 65536, 16).tolist(), shift=17
                ),
            ),
            IntegerConvolution(**conv2, windows=windows(2, 2, 1)),
            IntegerTable(name="tanh", inputs=("conv2",), table=table, input=WORD, output=WORD),
            Reshape(name="flat", inputs=("tanh",), shape=(36,)),
            IntegerLinear(**weighted("fc1", "flat", (8, 36), WORD, seed=seed + 2, low=3)),
            IntegerLinear(**weighted("fc2", "fc1", (5, 8), WORD, None, seed=seed + 3)),
        ),
        outputs=("fc2",),
    )
