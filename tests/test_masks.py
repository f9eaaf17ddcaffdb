"""Masks in front of a softmax: what is masked is nothing, what is not keeps its steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from arraysmith.learning import float_graph
from arraysmith.learning.torch_import import from_torch
from arraysmith.metrics import sqnr_db
from arraysmith.networks.graph import FloatGraph, Input
from arraysmith.networks.operations import Add, Constant, Softmax
from arraysmith.quantization import int8
from arraysmith.quantization.assessment import float_outputs, integer_outputs
from arraysmith.quantization.quantize import quantize
from arraysmith.quantization.samples import samples_from
from arraysmith.quantization.scheme import LayerOverride, Scheme

WORDS = 6


def masked(hidden):
    """Scores, a mask that hides what comes later, a softmax."""
    mask = np.triu(np.full((WORDS, WORDS), hidden, np.float32), 1)
    return FloatGraph(
        name="masked",
        inputs=(Input(name="scores", shape=(2, WORDS, WORDS)),),
        operations=(
            Constant(name="mask", inputs=(), value=mask),
            Add(name="sum", inputs=("scores", "mask"), signs=(1, 1)),
            Softmax(name="shares", inputs=("sum",), axis=2),
        ),
        outputs=("shares",),
    )


def sqnr(graph, network, samples):
    """Of the only output, in decibels."""
    (real,) = float_outputs(graph, samples).values()
    (found,) = integer_outputs(network, samples).values()
    return sqnr_db(float((real**2).sum()), float(((real - found) ** 2).sum()))


@pytest.mark.parametrize("hidden", [-1e4, -1e9, float(np.finfo(np.float32).min)])
def test_what_is_masked_is_nothing(hidden):
    """Exactly 0, however deep the mask is; the rest is as near as without one."""
    graph = masked(hidden)
    x = np.random.default_rng(0).normal(size=(64, 2, WORDS, WORDS)).astype(np.float32) * 3
    samples = samples_from(x, graph.inputs)
    network = quantize(graph, samples, Scheme()).network
    shares = int8.run(network, int8.quantize_inputs(network, {"scores": x}))["shares"]
    later = np.triu(np.ones((WORDS, WORDS), bool), 1)
    assert (shares[:, :, later] == -128).all()
    assert sqnr(graph, network, samples) > 36  # measured 37.4, and 3.3 with the mask in the range
    plain = quantize(masked(0.0), samples, Scheme()).network
    assert sqnr(graph, network, samples) > sqnr(masked(0.0), plain, samples) - 3


def test_a_range_that_was_given_holds():
    """An override is not overridden."""
    graph = masked(-1e4)
    x = np.random.default_rng(0).normal(size=(8, 2, WORDS, WORDS)).astype(np.float32)
    given = (LayerOverride(layer="sum", range=(-40.0, 5.0)),)
    network = quantize(graph, samples_from(x, graph.inputs), Scheme(), given).network
    assert network.types["sum"].scale == 45 / 255


class Causal(nn.Module):
    """Attention that sees nothing of what comes later."""

    def __init__(self):
        """One layer for queries, keys and values."""
        super().__init__()
        self.cut = nn.Linear(16, 48)

    def forward(self, x):
        """(batch, words, 16) to the same."""
        q, k, v = self.cut(x).chunk(3, -1)
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def test_causal_attention_of_torch():
    """From the module: the mask is a constant of the import."""
    torch.manual_seed(0)
    module = Causal().eval()
    graph = from_torch(module, (torch.zeros(1, WORDS, 16),), name="causal")
    x = np.random.default_rng(0).normal(size=(64, WORDS, 16)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(x))
    (found,) = float_graph.run(graph, {graph.inputs[0].name: torch.from_numpy(x)}).values()
    assert torch.allclose(found, expected, atol=1e-5)
    samples = samples_from(x, graph.inputs)
    network = quantize(graph, samples, Scheme(), integer_only=True).network
    assert sqnr(graph, network, samples) > 32  # measured 33.7, and 13.4 with the mask in the range
