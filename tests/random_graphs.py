"""Random small float graphs: branches, residuals, concatenations, moves, several inputs, outputs.

`random_graph(rng)` draws one whose tensors stay in a range where 8 bits mean something: what would
grow or vanish is not drawn.
"""

import numpy as np
from float_graphs import windows

from arraysmith.networks.functions import Function, Step
from arraysmith.networks.graph import FloatGraph, Input
from arraysmith.networks.moves import Concat, MaxPool, Pad, Reshape, Take, Transpose
from arraysmith.networks.operations import (
    Add,
    AveragePool,
    ChannelAffine,
    Constant,
    Convolution,
    Elementwise,
    LayerNorm,
    Linear,
    Mean,
    Mul,
    PRelu,
    Softmax,
)

SIZE = 6


def random_graph(rng, steps=7):
    """A graph of images (2, 6, 6) with branches; what nobody reads is an output, or dead."""
    drawing = _Drawing(rng)
    for _ in range(steps):
        drawing.step()
    return drawing.graph()


class _Drawing:
    """Operations so far, with the shape of every tensor."""

    def __init__(self, rng):
        self.rng = rng
        self.inputs = [
            Input(name=f"in{i}", shape=(2, SIZE, SIZE)) for i in range(rng.integers(1, 3))
        ]
        self.shapes = {each.name: each.shape for each in self.inputs}
        self.operations = []

    def put(self, kind, *reads, **fields):
        """Append an operation; its name."""
        name = f"{kind.__name__.lower()}{len(self.operations)}"
        operation = kind(name=name, inputs=reads, **fields)
        self.shapes[name] = operation.output_shape(*(self.shapes[each] for each in reads))
        self.operations.append(operation)
        return name

    def image(self):
        """A tensor of three axes, rather a late one."""
        names = [name for name, shape in self.shapes.items() if len(shape) == 3]
        return names[-min(int(self.rng.geometric(0.4)), len(names))]

    def numbers(self, *shape, spread=1.0):
        """Normal float32."""
        return self.rng.normal(0, spread, shape).astype(np.float32)

    def convolved(self, x, out, size=3, **window):
        """Weights that keep the variance."""
        channels = self.shapes[x][0]
        weight = self.numbers(out, channels, size, size, spread=(channels * size**2) ** -0.5)
        fields = {"bias": self.numbers(out, spread=0.3), "windows": windows(size, **window)}
        return self.put(Convolution, x, weight=weight, **fields)

    def function(self, x):
        """A table, or what may be taken in."""
        chosen = [
            Step(function=Function.RELU),
            Step(function=Function.CLIP, numbers=(0.0, 1.5)),
            Step(function=Function.TANH),
            Step(function=Function.SILU),
            Step(function=Function.LEAKY_RELU, numbers=(0.1,)),
        ]
        return self.put(Elementwise, x, steps=(chosen[self.rng.integers(len(chosen))],))

    def step(self):  # noqa: C901 (a case a block)
        """One block."""
        x = self.image()
        channels, height, width = self.shapes[x]
        small = min(height, width) < 3
        match int(self.rng.integers(9)):
            case 0 | 1:
                y = self.function(self.convolved(x, int(self.rng.integers(2, 5)), padding=1))
                if self.rng.random() < 0.4:
                    out = self.shapes[y][0]
                    gain, shift = self.numbers(out) + 0.2, self.numbers(out, spread=0.3)
                    y = self.put(ChannelAffine, y, gain=gain, shift=shift)
                if self.rng.random() < 0.4 and not small:
                    pad = ((0, 0), (0, 0))
                    self.put(AveragePool, y, windows=windows(2, stride=2), counted=pad)
            case 2:
                y = self.convolved(x, channels, size=1)
                self.function(self.put(Add, x, y, signs=(1, int(self.rng.choice([1, -1])))))
            case 3:
                y = self.put(Concat, x, self.function(x), self.convolved(x, 2, size=1), axis=0)
                if self.rng.random() < 0.5:
                    self.put(Concat, y, x, axis=0)
            case 4:
                self.put(Transpose, x, axes=(0, 2, 1))
                self.put(MaxPool, x, windows=windows(2, padding=1, stride=1))
            case 5:
                chosen = self.rng.integers(0, channels, 3)
                y = self.put(Take, x, axis=0, indices=chosen)
                self.put(Pad, y, before=(0, 1, 0), after=(0, 0, 1), value=0.25)
            case 6:
                self.put(Mul, x, self.put(Elementwise, x, steps=(Step(function=Function.SIGMOID),)))
            case 7:
                slope = np.abs(self.numbers(channels, spread=0.2))
                y = self.put(PRelu, x, slope=slope)
                value = self.numbers(*self.shapes[y])
                self.put(Add, y, self.put(Constant, value=value), signs=(1, 1))
            case 8:
                gain = self.numbers(width, spread=0.3) + 1
                shift = self.numbers(width, spread=0.3)
                self.put(LayerNorm, x, gain=gain, shift=shift, epsilon=1e-3)

    def head(self):
        """The last layers of a classifier, or none."""
        x = self.image()
        kind = int(self.rng.integers(4))
        if kind == 0:
            return x
        x = self.put(Mean, x, axes=(1, 2))
        channels = self.shapes[x][0]
        x = self.put(Reshape, x, shape=(channels,))
        weight = self.numbers(4, channels, spread=channels**-0.5)
        x = self.put(Linear, x, weight=weight, bias=self.numbers(4, spread=0.3))
        if kind == 2:
            x = self.put(Softmax, x, axis=0)
        return self.put(Reshape, x, shape=(2, 2)) if kind == 3 else x

    def graph(self):
        """The head, something in the middle, sometimes an input; the rest may be dead."""
        outputs = [self.head()]
        while self.rng.random() < 0.5:
            outputs.append(self.operations[self.rng.integers(len(self.operations))].name)
        return FloatGraph(
            name="random",
            inputs=tuple(self.inputs),
            operations=tuple(self.operations),
            outputs=tuple(dict.fromkeys(outputs)),
        )
