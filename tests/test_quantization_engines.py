"""The torch engine against the NumPy engine on random integer networks, and what records refuse."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from network_cases import ALL_KINDS, random_inputs, random_network

from arraysmith.affine import Affine, requantization
from arraysmith.errors import InvalidNetworkError
from arraysmith.networks.graph import Input
from arraysmith.networks.moves import Reshape
from arraysmith.networks.windows import Windows
from arraysmith.quantization import int8, modules
from arraysmith.quantization.modules import QuantNetwork, predict, product_dtype
from arraysmith.quantization.network import IntegerNetwork
from arraysmith.quantization.operations import IntegerAveragePool, IntegerTable
from arraysmith.quantization.products import Activation, IntegerConvolution, IntegerLinear
from arraysmith.quantization.torch_engine import functions as torch_functions
from arraysmith.quantization.torch_engine import products as torch_products
from arraysmith.quantization.torch_engine import rescaling as torch_rescaling

PIXELS = Affine(scale=1.0, zero_point=3, qmin=0, qmax=255)
MIDDLE = Affine(scale=0.1, zero_point=-5)


def tensors(inputs):
    """Arrays as tensors."""
    return {name: torch.from_numpy(x) for name, x in inputs.items()}


def assert_engines_agree(network, inputs):
    """torch gives NumPy's integers, layer by layer, all of them legal and in their container."""
    fast = QuantNetwork(network).trace(tensors(inputs))
    types = network.types
    for (layer, slow), (_, x) in zip(int8.trace(network, inputs), fast, strict=True):
        assert np.array_equal(slow, x.numpy()), layer
        assert slow.shape[1:] == network.shapes[layer.name]
        type_ = types[layer.name]
        assert slow.min() >= (-(2**31) if type_ is None else type_.qmin)
        assert slow.max() <= (2**31 - 1 if type_ is None else type_.qmax)
        if type_ is not None:
            assert x.element_size() == (1 if type_.bits <= 8 else 2 if type_.qmax < 2**15 else 4)


def products(network):
    """The type of every product."""
    module = QuantNetwork(network)
    return {layer.product_dtype for layer in module.layers if hasattr(layer, "product_dtype")}


def weighted(kind, name, reads, shape, types, *, rng, **fields):
    """A layer of random weights from one type to another, or to logits."""
    input_, output = types
    out = shape[0]
    spread = 5000 * np.sqrt(np.prod(shape[1:])) * fields.get("pool", 1) ** 2
    factor = rng.uniform(0.5, 1, out) * 80 / spread
    return kind(
        name=name,
        inputs=(reads,),
        weight=rng.integers(-128, 128, shape).astype(np.int16),
        weight_zero_point=rng.integers(-20, 20, out),
        weight_scale=rng.random(out) + 0.1,
        bias=rng.integers(-3000, 3000, out).astype(np.int32),
        input=input_,
        output=output,
        requantization=None if output is None else requantization(factor),
        **fields,
    )


def lenet(seed=0, channels=3):
    """Pixels to conv with ReLU and pool, table, average pool, two linear layers, logits."""
    rng = np.random.default_rng(seed)
    pair = {"strides": (1, 1), "dilations": (1, 1), "before": (1, 0), "after": (0, 1)}
    zero = np.zeros(channels, np.int64)
    relu = Activation(low=zero, high=np.full(channels, 2**31 - 1), bias=zero)
    halved = Windows(size=(2, 2), **(pair | {"strides": (2, 2)}))
    return IntegerNetwork(
        name="lenet",
        inputs=(Input(name="pixels", shape=(1, 17, 17), type=PIXELS),),
        layers=(
            weighted(
                IntegerConvolution,
                "conv",
                "pixels",
                (channels, 1, 3, 3),
                (PIXELS, MIDDLE),
                rng=rng,
                windows=Windows(size=(3, 3), **pair),
                pool=2,
                activation=relu,
                low=-5,
            ),
            IntegerTable(
                name="table",
                inputs=("conv",),
                table=rng.integers(-128, 128, 256),
                input=MIDDLE,
                output=MIDDLE,
            ),
            IntegerAveragePool(
                name="pool",
                inputs=("table",),
                windows=halved,
                input=MIDDLE,
                output=MIDDLE,
                requantization=requantization(0.3),
            ),
            Reshape(name="flat", inputs=("pool",), shape=(channels * 16,)),
            weighted(IntegerLinear, "fc1", "flat", (7, channels * 16), (MIDDLE, MIDDLE), rng=rng),
            weighted(IntegerLinear, "fc2", "fc1", (4, 7), (MIDDLE, None), rng=rng),
        ),
        outputs=("fc2",),
    )


def pixels(seed=0, count=6):
    """Inputs of `lenet`."""
    return {"pixels": np.random.default_rng(seed).integers(0, 256, (count, 1, 17, 17), np.uint8)}


# ---- torch is NumPy


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), layers=st.integers(1, 14), batch=st.integers(1, 4))
def test_torch_equals_numpy_on_random_networks(seed, layers, batch):
    """Graphs of any records, types of 4 to 16 bits."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, layers)
    assert_engines_agree(network, random_inputs(network, rng, batch))


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.__name__)
def test_torch_equals_numpy_on_every_record(kind):
    """Two of a record in a row, forty times."""
    for seed in range(40):
        rng = np.random.default_rng([seed, ALL_KINDS.index(kind)])
        network = random_network(rng, 2, kinds=[kind])
        assert_engines_agree(network, random_inputs(network, rng))


@pytest.mark.parametrize("few", [0, 10**6])
@pytest.mark.parametrize("most", [1, 2**22])
def test_every_way_of_a_convolution_gives_the_same(few, most, monkeypatch):
    """All positions at once, by rows, by images or by taps; whole batches or one at a time."""
    monkeypatch.setattr(torch_products, "FEW_POSITIONS", few)
    monkeypatch.setattr(torch_products, "MOST_WORDS", most)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        network = random_network(rng, 2, kinds=[IntegerConvolution])
        assert_engines_agree(network, random_inputs(network, rng))


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_every_product_type_gives_the_same_integers(dtype, monkeypatch):
    """float64 and int64, forced on networks that do not need them; (3) in int64 as well."""

    def forced(bound):
        proven = product_dtype(bound)
        return torch.int64 if torch.int64 in (dtype, proven) else torch.float64

    for module in (torch_products, torch_rescaling, torch_functions):
        monkeypatch.setattr(module, "product_dtype", forced)
    monkeypatch.setattr(torch_functions, "FLOAT64_EXACT", 0 if dtype == torch.int64 else 2**53)
    assert products(lenet()) == {dtype}
    assert_engines_agree(lenet(), pixels())
    for seed in range(60):
        rng = np.random.default_rng(seed)
        network = random_network(rng, 6)
        assert_engines_agree(network, random_inputs(network, rng))


def test_a_chain_of_8_bits_needs_float32_alone():
    """Its products; sums that may pass 2^24 go through float64, with the same integers."""
    assert products(lenet()) == {torch.float32}
    assert_engines_agree(lenet(), pixels())
    wide = lenet(channels=200)
    assert products(wide) == {torch.float32, torch.float64}
    assert_engines_agree(wide, pixels(count=2))


def test_the_bound_is_what_keeps_float32_exact(monkeypatch):
    """601 products of 255·255 sum to an odd number above 2^25: float32 is wrong, ours is not."""
    layer = IntegerLinear(
        name="fc",
        inputs=("x",),
        weight=np.full((1, 601), 127, np.int16),
        weight_zero_point=np.array([-128]),
        weight_scale=np.ones(1),
        bias=np.zeros(1, np.int32),
        input=Affine(scale=1.0, zero_point=-128),
        output=None,
        requantization=None,
    )
    x = torch.full((1, 601), 127, dtype=torch.int8)
    assert layer.magnitude_bound == 601 * 255 * 255
    assert modules.quantized_module(layer, (601,))(x).item() == 601 * 255 * 255
    monkeypatch.setattr(torch_products, "product_dtype", lambda _: torch.float32)
    assert modules.quantized_module(layer, (601,))(x).item() != 601 * 255 * 255


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


@settings(max_examples=200, deadline=None)
@given(
    m=st.integers(0, 2**31 - 1),
    n=st.integers(1, 62),
    bias=st.integers(-(2**40), 2**40),
    bound=st.integers(1, 2**31 - 1),
    data=st.data(),
)
def test_rescaling_in_floats_is_that_in_integers(m, n, bias, bound, data):
    """Up to the very bound, near ties most of all, in whichever type is chosen."""
    zero_point = data.draw(st.integers(-128, 127))
    output = Affine(scale=1.0, zero_point=zero_point)
    tie = (((2 * data.draw(st.integers(-140, 140)) + 1) << n - 1) - bias) // max(m, 1)
    values = [-bound, bound, 0, *(min(max(tie + i, -bound), bound) for i in (-1, 0, 1))]
    values += data.draw(st.lists(st.integers(-bound, bound), max_size=5))
    module = torch_rescaling.Rescale(output, m, n, bias, bound=bound)
    expected = [
        min(max(zero_point + ((acc * m + bias + (1 << n - 1)) >> n), -128), 127) for acc in values
    ]
    for dtype in (torch.int64, torch.float64, *([torch.float32] if bound < 2**24 else [])):
        assert module(torch.tensor(values).to(dtype)).tolist() == expected


def test_predict_goes_batch_by_batch():
    """Batches change nothing, whatever integers hold the inputs, and constants come once."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        network = random_network(rng, 5)
        inputs, module = random_inputs(network, rng, 7), QuantNetwork(network)
        expected = int8.run(network, inputs)
        for batch in (1, 3, 100):
            found = predict(module, inputs, batch)
            assert found.keys() == expected.keys()
            for name, x in found.items():
                assert x.dtype == np.int64
                assert np.array_equal(x, expected[name]), name


def test_inputs_may_be_outputs_and_the_state_is_empty():
    """An output that is an input comes back; constants are no parameters to be saved."""
    network = replace(lenet(), outputs=("fc2", "pixels"))
    module = QuantNetwork(network)
    found, expected = module(tensors(pixels())), int8.run(network, pixels())
    assert list(found) == list(expected) == ["fc2", "pixels"]
    assert all(np.array_equal(found[name].numpy(), x) for name, x in expected.items())
    assert not module.state_dict()


# ---- what a network refuses


def change(network, index, **fields):
    """The network with one layer changed."""
    layers = list(network.layers)
    layers[index] = replace(layers[index], **fields)
    return replace(network, layers=tuple(layers))


BAD_LAYERS = [
    (
        0,
        {"weight": np.zeros((3, 1, 3, 2), np.int16)},
        "layer 'conv': weights of shape (3, 1, 3, 2) do not fit a window of (3, 3)",
    ),
    (0, {"pool": 0}, "layer 'conv': 3 output channels in 1 groups, pool 0"),
    (0, {"groups": 2}, "layer 'conv': 3 output channels in 2 groups, pool 2"),
    (
        0,
        {"bias": np.zeros(3)},
        (
            "layer 'conv': weights are int16 and biases float64, expected int16 (of weight_bits) "
            "and int32"
        ),
    ),
    (
        0,
        {"bias": np.zeros(2, np.int32)},
        (
            "layer 'conv': 3 output channels, but zero points, scales and bias of shapes "
            "((3,), (3,), (2,), (3,), (3,), (3,))"
        ),
    ),
    (
        0,
        {"weight": np.full((3, 1, 3, 3), 8, np.int16), "weight_bits": 4},
        "layer 'conv': weights 8…8 are not int4 (-8…7)",
    ),
    (0, {"output": None}, "layer 'conv': an output needs a requantization"),
    (0, {"low": 9, "high": 8}, "layer 'conv': clamps to 9…8 within -128…127"),
    (
        0,
        {"output": None, "requantization": None},
        "layer 'conv': logits are the bare accumulator, without ReLU or pool",
    ),
    (
        0,
        {"requantization": requantization([0.1, 0.1])},
        "layer 'conv': 2 multipliers for 3 output channels",
    ),
    (0, {"pool": 20}, "layer 'conv': input (1, 17, 17) is too small for a pool of 20"),
    (
        0,
        {"weight": np.zeros((3, 2, 3, 3), np.int16)},
        "layer 'conv': takes 2 channels over 2 axes, got (1, 17, 17)",
    ),
    (
        1,
        {"table": np.zeros(255, np.int64)},
        "layer 'table': a table of shape (255,), expected 256 entries",
    ),
    (1, {"table": np.full(256, 300)}, "layer 'table': entries 300…300 outside -128…127"),
    (
        2,
        {"requantization": requantization([0.1] * 3)},
        "layer 'pool': 3 multipliers for (4, 4) positions",
    ),
    (3, {"shape": (5,)}, "layer 'flat': shape (3, 4, 4) cannot become (5,)"),
    (
        4,
        {"weight": np.zeros((7, 5), np.int16)},
        "layer 'fc1': takes 5 features, got shape (48,)",
    ),
    (
        4,
        {"weight": np.zeros((7, 5, 1), np.int16)},
        "layer 'fc1': weights of shape (7, 5, 1), expected (out, in)",
    ),
    (
        5,
        {"input": replace(MIDDLE, scale=2.0)},
        (f"layer 'fc2' reads {(replace(MIDDLE, scale=2.0),)}, but fc1 writes {(MIDDLE,)}"),
    ),
    (5, {"inputs": ("fc3",)}, "layer 'fc2' reads 'fc3', which nothing before it makes"),
]


@pytest.mark.parametrize(("index", "fields", "message"), BAD_LAYERS)
def test_network_refuses_layers_that_do_not_fit(index, fields, message):
    """Each layer is checked at birth and the graph with it; the layer is named."""
    with pytest.raises(InvalidNetworkError) as caught:
        change(lenet(), index, **fields)
    assert str(caught.value) == message


def test_network_refuses_what_reads_logits():
    """They are on no scale that a layer could read."""
    network, rng = lenet(), np.random.default_rng(0)
    last = weighted(IntegerLinear, "fc3", "fc2", (2, 4), (MIDDLE, None), rng=rng)
    with pytest.raises(InvalidNetworkError) as caught:
        replace(network, layers=(*network.layers, last), outputs=("fc3",))
    assert str(caught.value) == (
        "layer 'fc3' reads logits, which are accumulators on no 8-bit scale"
    )
