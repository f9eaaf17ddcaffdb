"""Small float graphs with drawn weights, and how to run them."""

import numpy as np
import torch

from arraysmith.learning.float_graph import run
from arraysmith.networks.functions import Function, Step
from arraysmith.networks.graph import FloatGraph, Input
from arraysmith.networks.operations import (
    ChannelAffine,
    Convolution,
    Elementwise,
    Linear,
)
from arraysmith.networks.windows import Windows
from arraysmith.quantization.samples import Samples

RELU = (Step(function=Function.RELU),)


def windows(size=3, padding=0, stride=1, axes=2):
    """A square window."""
    return Windows(
        size=(size,) * axes,
        strides=(stride,) * axes,
        dilations=(1,) * axes,
        before=(padding,) * axes,
        after=(padding,) * axes,
    )


def draw(seed, *shape):
    """Normal float32."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def convolution(name, reads, channels, out, *, seed=0, groups=1, **window):
    """With drawn weights and biases."""
    window = windows(**window)
    return Convolution(
        name=name,
        inputs=(reads,),
        weight=draw(seed, out, channels // groups, *window.size),
        bias=draw(seed + 1, out),
        windows=window,
        groups=groups,
    )


def linear(name, reads, features, out, *, seed=0):
    """With drawn weights and biases."""
    return Linear(
        name=name, inputs=(reads,), weight=draw(seed, out, features), bias=draw(seed + 1, out)
    )


def relu(name, reads):
    """A ReLU."""
    return Elementwise(name=name, inputs=(reads,), steps=RELU)


def affine(name, reads, channels, *, seed=0):
    """A batch normalization of drawn gains of both signs."""
    return ChannelAffine(
        name=name, inputs=(reads,), gain=draw(seed, channels), shift=draw(seed + 1, channels)
    )


def graph_of(*operations, shape=(3, 8, 8), outputs=None, **fields):
    """A graph of one input `x`; its output is that of the last operation by default."""
    return FloatGraph(
        name="net",
        inputs=(Input(name="x", shape=shape),),
        operations=operations,
        outputs=outputs or (operations[-1].name,),
        **fields,
    )


def samples_of(graph, count=5, seed=0):
    """Drawn samples for every input."""
    arrays = {each.name: draw(seed + i, count, *each.shape) for i, each in enumerate(graph.inputs)}
    return Samples(inputs=graph.inputs, arrays=arrays)


def outputs_of(graph, samples):
    """In float64, by name."""
    given = {name: torch.from_numpy(array).double() for name, array in samples.arrays.items()}
    return {name: x.numpy() for name, x in run(graph, given).items()}


def assert_same_function(before, after, tolerance=1e-5):
    """Two graphs give the same outputs, up to the rounding of float32 weights."""
    samples = samples_of(before)
    wanted, found = outputs_of(before, samples), outputs_of(after, samples)
    assert wanted.keys() == found.keys()
    for name, reals in wanted.items():
        assert np.abs(reals - found[name]).max() <= tolerance * np.abs(reals).max(), name
