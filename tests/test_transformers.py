"""A vision transformer and a BERT encoder, from the module to the same integers everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformer_models import small_bert, small_vit

import arraysmith
from arraysmith.extraction import workload
from arraysmith.learning.float_graph import run
from arraysmith.learning.torch_import import from_torch
from arraysmith.networks.operations import Island, LayerNorm, Lookup, MatMul, Softmax
from arraysmith.quantization.scheme import Scheme

RELATIVE = 2e-6
"""Of the range of an output: some roundings of float32."""
ATTENTIONS = ("sdpa", "eager")
WORDS, VOCABULARY = 12, 100


def vit_graph(attention="sdpa"):
    """Module and graph."""
    torch.manual_seed(7)
    module = small_vit(attention)
    return module, from_torch(module, (torch.randn(1, 3, 32, 32),), name="vit")


def bert_graph(attention="sdpa"):
    """Module and graph."""
    torch.manual_seed(7)
    module = small_bert(attention)
    example = {"input_ids": torch.zeros(1, WORDS, dtype=torch.int64)}
    return module, from_torch(module, example, name="bert")


def assert_same(graph, module, x):
    """A graph gives what the module does, output by output."""
    with torch.no_grad():
        expected = list(module(x).values())
    found = run(graph, {graph.inputs[0].name: x})
    assert len(found) == len(expected)
    for name, want in zip(graph.outputs, expected, strict=True):
        assert found[name].shape == want.shape
        assert float((found[name] - want).abs().max()) <= RELATIVE * float(want.abs().max())


def count(graph, kind):
    """How many operations of a type a graph has."""
    return sum(isinstance(each, kind) for each in graph.operations)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_vit_is_imported(attention):
    """However its attention is written, for any batch."""
    module, graph = vit_graph(attention)
    for batch in (1, 3):
        assert_same(graph, module, torch.randn(batch, 3, 32, 32))
    assert [count(graph, kind) for kind in (LayerNorm, MatMul, Softmax)] == [5, 4, 2]
    assert not count(graph, Island)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_bert_is_imported(attention):
    """Words are row numbers; masks and token types that are not given fold into constants."""
    module, graph = bert_graph(attention)
    assert [(each.name, each.shape, each.rows) for each in graph.inputs] == [
        ("input_ids", (WORDS,), VOCABULARY)
    ]
    assert_same(graph, module, torch.randint(0, VOCABULARY, (3, WORDS)))
    assert [count(graph, kind) for kind in (Lookup, MatMul, Softmax)] == [1, 4, 2]
    assert not count(graph, Island)


def encoder_macs(words, hidden, inner, layers):
    """Of queries, keys, values and output, of scores and contexts, of the two of the MLP."""
    return layers * (4 * words * hidden**2 + 2 * words**2 * hidden + 2 * words * hidden * inner)


def test_the_work_is_counted():
    """Layers and MACs by the formula of an encoder, beside what comes before and behind it."""
    # 16 patches of 8×8×3 and a class token; the pooler reads the class token alone.
    found = workload(vit_graph()[1], grouped=True)
    patches = 16 * (8 * 8 * 3) * 64
    assert sum(layer.macs for layer in found.layers) == patches + 64**2 + encoder_macs(
        17, 64, 128, 2
    )
    assert len(found.layers) == 1 + 2 * (4 + 2 + 2) + 1
    found = workload(bert_graph()[1], grouped=True)
    assert sum(layer.macs for layer in found.layers) == 64**2 + encoder_macs(WORDS, 64, 128, 2)
    apart = workload(bert_graph()[1])  # four heads, each a product of its own
    assert len(apart.layers) == 2 * (4 + 2 * 4 + 2) + 1
    assert sum(layer.macs for layer in apart.layers) == sum(each.macs for each in found.layers)


def errors(graph, scheme, samples, fresh, run_folder):
    """SQNR of every output on fresh samples, in decibels."""
    facts = arraysmith.quantize(run_folder, graph, scheme, samples=samples, integer_only=True)
    assert not facts.islands
    return [each.sqnr_db for each in arraysmith.evaluate(run_folder, fresh).outputs]


def check_integers(graph, x, run_folder, floors):
    """No islands, as close as 8 bits allow, and the same integers in every back end."""
    samples, fresh = x[:48], x[48:]
    found = errors(graph, Scheme(), samples, fresh, run_folder)
    assert all(sqnr > floor for sqnr, floor in zip(found, floors, strict=True)), found
    verified = arraysmith.verify(run_folder, fresh, count=3)
    assert verified.different == 0
    assert not verified.absent
    assert len(verified.back_ends) == 6
    assert arraysmith.read_workload(run_folder).layers
    # Two bits more are 12 dB more where nothing but rounding is lost.
    wider = errors(graph, Scheme(activation_bits=10, weight_bits=10), samples, fresh, run_folder)
    assert all(more > sqnr + 10 for more, sqnr in zip(wider, found, strict=True)), wider


def test_vit_in_integers(tmp_path):
    """Measured 26.6 dB, and 18.1 dB behind the pooler, which reads the small class token alone."""
    images = np.random.default_rng(0).normal(size=(64, 3, 32, 32)).astype(np.float32)
    check_integers(vit_graph()[1], images, tmp_path / "vit", (25, 16.5))


def test_bert_in_integers(tmp_path):
    """Measured 32.5 and 33.3 dB."""
    words = np.random.default_rng(0).integers(0, VOCABULARY, (64, WORDS))
    check_integers(bert_graph()[1], words, tmp_path / "bert", (31, 31.5))
