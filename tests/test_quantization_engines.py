"""The torch engine against the NumPy engine on random integer networks, and what both refuse."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from arraysmith.affine import Affine, requantization
from arraysmith.errors import InvalidNetworkError
from arraysmith.quantization import int8, modules
from arraysmith.quantization.assessment import compare_engines
from arraysmith.quantization.modules import QuantNetwork, predict, product_dtype
from arraysmith.quantization.network import (
    IntegerAveragePool,
    IntegerConv2d,
    IntegerFlatten,
    IntegerLinear,
    IntegerNetwork,
    IntegerTable,
)


def random_images(seed, count=6):
    """(count, 17, 17) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, 17, 17), np.uint8)


def assert_engines_agree(network, images):
    """torch gives NumPy's integers, layer by layer, all of them legal."""
    fast = QuantNetwork(network).trace(torch.from_numpy(images))
    for (layer, slow), (_, x) in zip(int8.trace(network, images), fast, strict=True):
        assert np.array_equal(slow, x.numpy()), layer.name
        assert slow.min() >= (-(2**31) if layer.output is None else layer.output.qmin)
        assert slow.max() <= (2**31 - 1 if layer.output is None else layer.output.qmax)


def random_network(seed, channels=3, window=2):
    """Pixels → conv, ReLU, pool → table → average pool → flatten → linear → linear (logits)."""
    rng = np.random.default_rng(seed)

    def affine(*, signed):
        qmin, qmax = (-128, 127) if signed else (0, 255)
        zero_point = int(rng.integers(qmin + 64, qmax - 64))  # else all would saturate
        return Affine(scale=float(rng.random() + 0.1), zero_point=zero_point, qmin=qmin, qmax=qmax)

    def weighted(kind, name, shape, x, y, **fields):
        out = shape[0]
        layer = {
            "name": name,
            "weight": rng.integers(-128, 128, shape).astype(np.int8),
            "weight_zero_point": rng.integers(-20, 20, out),
            "weight_scale": rng.random(out) + 0.1,
            "bias": rng.integers(-3000, 3000, out).astype(np.int32),
            "input": x,
        }
        spread = 100 * 100 * np.sqrt(np.prod(shape[1:])) * fields.get("pool", 1) ** 2
        factor = rng.uniform(50, 100, out if rng.random() < 0.7 else 1) / spread
        made = None if y is None else requantization(factor, int(rng.integers(8, 32)))
        return kind(**layer, output=y, requantization=made, **fields)

    a, b, c, d, e = (affine(signed=bool(rng.integers(2))) for _ in range(5))
    relu, padding = bool(seed % 2), int(rng.integers(0, 3))
    # Both ways of a convolution: one product an image, and few positions all at once.
    stride = 1 + seed % (2 if window > 2 else 4)
    conv = weighted(
        IntegerConv2d,
        "conv",
        (channels, 1, 3, 3),
        a,
        b,
        relu=relu,
        stride=stride,
        padding=padding,
        pool=window,
    )
    shape = conv.output_shape((1, 17, 17))
    features = channels * (shape[1] // 2) ** 2
    layers = (
        conv,
        IntegerTable(name="table", table=rng.integers(c.qmin, c.qmax + 1, 256), input=b, output=c),
        IntegerAveragePool(
            name="pool", window=2, input=c, output=d, requantization=requantization(0.3)
        ),
        IntegerFlatten(name="flatten", input=d),
        weighted(IntegerLinear, "fc1", (7, features), d, e, relu=relu),
        weighted(IntegerLinear, "fc2", (4, 7), e, None),
    )
    table = rng.integers(a.qmin, a.qmax + 1, 256)
    return IntegerNetwork(name="random", input_shape=(1, 17, 17), input_table=table, layers=layers)


def products(network):
    """The type of every weighted layer's product."""
    module = QuantNetwork(network)
    return {layer.product_dtype for layer in module.layers if hasattr(layer, "product_dtype")}


@pytest.mark.parametrize("seed", range(30))
def test_torch_equals_numpy_on_random_networks(seed):
    """Random layers of every kind, with mixed signs, strides, paddings and pools."""
    network = random_network(seed, window=1 + seed % 3)
    assert products(network) == {torch.float32}
    assert_engines_agree(network, random_images(seed))


@pytest.mark.parametrize("seed", [0, 1, 4, 5])
def test_torch_equals_numpy_beyond_float32(seed):
    """Sums that may pass 2^24 go through float64, with the same integers."""
    network = random_network(seed, channels=600, window=2)
    assert torch.float64 in products(network)
    assert_engines_agree(network, random_images(seed))


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_every_product_type_gives_the_same_integers(dtype, monkeypatch):
    """float64 and int64 products, forced on a network that does not need them."""
    monkeypatch.setattr(modules, "product_dtype", lambda _: dtype)
    for seed in range(6):
        network = random_network(seed)
        assert products(network) == {dtype}
        assert_engines_agree(network, random_images(seed))


def test_the_bound_is_what_keeps_float32_exact(monkeypatch):
    """601 products of 255·255 sum to an odd number above 2^25: float32 is wrong, ours is not."""
    layer = IntegerLinear(
        name="fc",
        weight=np.full((1, 601), 127, np.int8),
        weight_zero_point=np.array([-128]),
        weight_scale=np.ones(1),
        bias=np.zeros(1, np.int32),
        input=Affine(scale=1.0, zero_point=-128),
        output=None,
        requantization=None,
    )
    x = torch.full((1, 601), 127, dtype=torch.int8)
    assert layer.magnitude_bound == 601 * 255 * 255
    assert modules.QuantLinear(layer)(x).item() == 601 * 255 * 255
    monkeypatch.setattr(modules, "product_dtype", lambda _: torch.float32)
    assert modules.QuantLinear(layer)(x).item() != 601 * 255 * 255


def test_product_type_changes_at_its_bounds():
    """float32 below 2^24, float64 below 2^53, int64 beyond; no float32 at reduced precision."""
    ends = [2**24 - 1, 2**24, 2**53 - 1, 2**53]
    expected = [torch.float32, torch.float64, torch.float64, torch.int64]
    assert [product_dtype(bound) for bound in ends] == expected
    torch.set_float32_matmul_precision("medium")
    try:
        assert product_dtype(1) == torch.float64
    finally:
        torch.set_float32_matmul_precision("highest")


def test_predict_and_comparison_go_batch_by_batch():
    """Batches change nothing; a comparison counts every integer of every layer."""
    network, images = random_network(1), random_images(1, 7)
    module = QuantNetwork(network)
    logits = int8.run(network, images)
    for batch in (1, 3, 100):
        assert np.array_equal(predict(module, images, batch), logits)
    count = 7 * sum(int(np.prod(shape)) for shape in network.shapes[1:])
    assert compare_engines(network, images) == (count, 0)


# ---- what a network refuses


def change(network, index, **fields):
    """The network with one layer changed."""
    layers = list(network.layers)
    layers[index] = replace(layers[index], **fields)
    return replace(network, layers=tuple(layers))


BAD_LAYERS = [
    (
        0,
        {"weight": np.zeros((3, 1, 3, 2), np.int8)},
        "layer 'conv': weights of shape (3, 1, 3, 2), expected (out, in, filter, filter)",
    ),
    (0, {"stride": 0}, "layer 'conv': stride 0, padding 0, pool 2; needs at least 1, 0 and 1"),
    (
        0,
        {"bias": np.zeros(3)},
        "layer 'conv': weights are int8 and biases float64, expected int8 and int32",
    ),
    (
        0,
        {"bias": np.zeros(2, np.int32)},
        (
            "layer 'conv': 3 output channels, but zero points, scales and bias of shapes "
            "((3,), (3,), (2,))"
        ),
    ),
    (0, {"output": None}, "layer 'conv': an output needs a requantization"),
    (
        0,
        {"requantization": requantization([0.1, 0.1])},
        "layer 'conv': 2 multipliers for 3 output channels",
    ),
    (0, {"pool": 20}, "layer 'conv': input (1, 17, 17) is too small"),
    (
        0,
        {"weight": np.zeros((3, 2, 3, 3), np.int8)},
        "layer 'conv' takes 2 channels, got shape (1, 17, 17)",
    ),
    (
        1,
        {"table": np.zeros(255, np.int64)},
        "layer 'table': a table of shape (255,), expected 256 entries",
    ),
    (1, {"table": np.full(256, 300)}, "layer 'table': entries 300…300 outside 0…255"),
    (2, {"window": 10}, "layer 'pool': a pool of 10 does not fit shape (3, 7, 7)"),
    (4, {"weight": np.zeros((7, 5), np.int8)}, "layer 'fc1' takes 5 features, got shape (27,)"),
    (
        4,
        {"weight": np.zeros((7, 5, 1), np.int8)},
        "layer 'fc1': weights of shape (7, 5, 1), expected (out, in)",
    ),
]


@pytest.mark.parametrize(("index", "fields", "message"), BAD_LAYERS)
def test_network_refuses_layers_that_do_not_fit(index, fields, message):
    """Each layer is checked at birth and the chain with it; the layer is named."""
    with pytest.raises(InvalidNetworkError) as caught:
        change(random_network(0), index, **fields)
    assert str(caught.value) == message


def test_network_refuses_a_chain_that_breaks():
    """Scales that do not meet, no logits at the end, a bad table, doubtful images."""
    network = random_network(0)
    first, fc1 = network.layers[0].input, network.layers[4].output
    other = replace(fc1, scale=2.0)
    cases = {
        f"layer 'fc2' reads {other}, but 'fc1' writes {fc1}": lambda: change(
            network, 5, input=other
        ),
        "network 'random' does not end in logits": lambda: replace(
            network, layers=network.layers[:-1]
        ),
        f"network 'random': the input table is not 256 integers of {first.qmin}…{first.qmax}": (
            lambda: replace(network, input_table=np.full(256, 999))
        ),
        (
            "images of shape (2, 16, 16) and type uint8; 'random' takes uint8 pixels of shape "
            "(batch, 1, 17, 17)"
        ): lambda: int8.run(network, np.zeros((2, 16, 16), np.uint8)),
        (
            "images of shape (2, 17, 17) and type float64; 'random' takes uint8 pixels of shape "
            "(batch, 1, 17, 17)"
        ): lambda: int8.run(network, np.zeros((2, 17, 17))),
    }
    for message, attempt in cases.items():
        with pytest.raises(InvalidNetworkError) as caught:
            attempt()
        assert str(caught.value) == message
