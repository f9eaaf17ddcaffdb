"""What is observed, against NumPy; the ranges chosen from it, against brute force."""

import numpy as np
import pytest
import torch
from float_graphs import convolution, draw, graph_of, linear, relu, samples_of, windows

from arraysmith.affine import affine_from_range
from arraysmith.errors import InputFileError, InvalidNetworkError
from arraysmith.learning.float_graph import trace
from arraysmith.networks.functions import Function, Step
from arraysmith.networks.graph import FloatGraph, Input
from arraysmith.networks.moves import MaxPool, Reshape
from arraysmith.networks.operations import Constant, Elementwise, Lookup, Mul
from arraysmith.quantization import calibration
from arraysmith.quantization.calibration import (
    HISTOGRAM_BINS,
    Observation,
    batch_size,
    calibrated_range,
    needs_histogram,
    observe,
)
from arraysmith.quantization.samples import samples_from
from arraysmith.quantization.scheme import Calibration, Scales, Scheme


def network():
    """A convolution, a pool and a linear layer."""
    return graph_of(
        convolution("conv", "x", 3, 4),
        relu("act", "conv"),
        MaxPool(name="pool", inputs=("act",), windows=windows(2, stride=2)),
        Reshape(name="flat", inputs=("pool",), shape=(36,)),
        linear("fc", "flat", 36, 5),
    )


def tensors(graph, samples):
    """Every tensor over all samples at once."""
    given = {name: torch.from_numpy(array) for name, array in samples.arrays.items()}
    return {name: x.numpy() for name, x in trace(graph, given)}


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_observes_the_extremes_of_every_tensor(batch, monkeypatch):
    """Over all batches; the input is a tensor too."""
    graph = network()
    samples = samples_of(graph, 10)
    monkeypatch.setattr(calibration, "MAX_BATCH", batch)
    found = observe(graph, samples)
    assert list(found) == ["x", "conv", "act", "pool", "flat", "fc"]
    for name, x in tensors(graph, samples).items():
        # A convolution of another batch size may add in another order.
        assert found[name].low == pytest.approx(x.min(), rel=1e-5)
        assert found[name].high == pytest.approx(x.max(), rel=1e-5)
        assert found[name].counts is None


def test_observes_only_what_is_asked_for():
    """A histogram where one is wanted, nothing of other tensors."""
    graph = network()
    found = observe(graph, samples_of(graph), ["act"], histograms=["fc"])
    assert found.keys() == {"act", "fc"}
    assert found["act"].counts is None
    assert found["fc"].counts is not None


def test_histograms_are_those_of_numpy():
    """All words counted, in NumPy's bins up to the rounding of float32 at an edge."""
    graph = network()
    samples = samples_of(graph, 50)
    found = observe(graph, samples, histograms=["x", "act", "fc"])
    for name, x in tensors(graph, samples).items():
        counts = found[name].counts
        if counts is None:
            continue
        edges = (found[name].low, found[name].high)
        wanted = np.histogram(x.astype(np.float64), HISTOGRAM_BINS, edges)[0]
        assert counts.sum() == x.size
        assert np.abs(np.cumsum(counts) - np.cumsum(wanted)).max() <= x.size / 1000


def test_row_numbers_have_no_range_and_constants_do():
    """What is looked up has; batches of one are a constant's."""
    graph = FloatGraph(
        name="net",
        inputs=(Input(name="words", shape=(6,), rows=10),),
        operations=(
            Lookup(name="embed", inputs=("words",), table=draw(0, 10, 4)),
            Constant(name="half", inputs=(), value=np.full((6, 4), 0.5, np.float32)),
            Mul(name="mul", inputs=("embed", "half")),
        ),
        outputs=("mul",),
    )
    samples = samples_from(np.random.default_rng(0).integers(0, 10, (5, 6)), graph.inputs)
    found = observe(graph, samples, histograms=["embed", "half"])
    assert found.keys() == {"embed", "half", "mul"}
    assert (found["half"].low, found["half"].high) == (0.5, 0.5)
    assert found["mul"].high == found["embed"].high / 2


@pytest.mark.parametrize("function", [Function.LOG, Function.EXP])
def test_names_the_layer_that_gives_nan_or_infinity(function):
    """The first one, in the order of the graph."""
    steps = (Step(function=Function.MUL, numbers=(1e4,)), Step(function=function))
    graph = graph_of(relu("act", "x"), Elementwise(name="bad", inputs=("x",), steps=steps))
    with pytest.raises(InvalidNetworkError) as caught:
        observe(graph, samples_of(graph))
    assert str(caught.value) == (
        "layer 'bad' gives NaN or infinity on the calibration samples; check the samples, or the "
        "network's weights"
    )


def test_refuses_samples_that_do_not_vary():
    """They would give every tensor a range of one number."""
    graph = network()
    with pytest.raises(InputFileError) as caught:
        observe(graph, samples_from(np.ones((5, 3, 8, 8)), graph.inputs))
    assert str(caught.value) == (
        "every value of 'x' is 1; give samples that vary, as real data does"
    )


def test_progress_counts_the_samples_of_every_pass():
    """One pass for ranges, another for histograms."""
    graph = network()
    told = []

    class Bar:
        def __init__(self, name, total):
            told.append((name, total))

        def __enter__(self):
            return lambda steps=1: told.append(steps)

        def __exit__(self, *_):
            """Nothing to close."""

    observe(graph, samples_of(graph, 7), histograms=["fc"], progress=Bar)
    assert told[0] == ("calibration samples", 14)
    assert sum(told[1:]) == 14


def test_batches_are_smaller_for_larger_tensors():
    """At least one sample, however large."""
    graph = graph_of(relu("act", "x"), shape=(3, 100, 100))
    assert batch_size(graph, 90_000) == 3
    assert batch_size(graph, 100) == 1


# ---- ranges


def observation(values):
    """What `observe` would see."""
    counts = np.histogram(values, HISTOGRAM_BINS)[0]
    return Observation(low=float(values.min()), high=float(values.max()), counts=counts)


def test_minmax_takes_the_ends():
    """And needs no histogram."""
    scheme = Scheme()
    assert not needs_histogram(scheme)
    assert calibrated_range(Observation(low=-1.0, high=3.0), scheme) == (-1.0, 3.0)


@pytest.mark.parametrize("percentile", [90, 99, 99.9, 100])
def test_percentile_is_numpys_up_to_a_bin(percentile):
    """The same share outside on either side."""
    values = np.random.default_rng(0).standard_t(3, 100_000)
    scheme = Scheme(calibration=Calibration.PERCENTILE, percentile=percentile)
    assert needs_histogram(scheme)
    low, high = calibrated_range(observation(values), scheme)
    step = (values.max() - values.min()) / HISTOGRAM_BINS
    shares = [100 - percentile, percentile]
    below = np.percentile(values, shares, method="lower")
    above = np.percentile(values, shares, method="higher")
    assert below[0] - 1.001 * step <= low <= above[0]
    assert below[1] <= high <= above[1] + 1.001 * step


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("scales", [Scales.FREE, Scales.POW2])
def test_mse_is_the_best_of_all_that_were_tried(bits, scales):
    """Brute force over the values themselves finds nothing clearly better among the same."""
    values = np.random.default_rng(0).standard_t(4, 20_000)
    scheme = Scheme(calibration=Calibration.MSE, activation_bits=bits, scales=scales)
    found = calibrated_range(observation(values), scheme)

    def error(low, high):
        affine = affine_from_range(low, high, power_of_two=scales is not Scales.FREE, bits=bits)
        return np.mean((affine.dequantize(affine.quantize(values)) - values) ** 2)

    tried = [error(s * values.min(), s * values.max()) for s in np.linspace(1, 0.3, 100)]
    assert error(*found) <= 1.01 * min(tried)
    assert error(*found) <= error(values.min(), values.max())


@pytest.mark.parametrize("calibration", [Calibration.PERCENTILE, Calibration.MSE])
def test_a_range_that_needs_a_histogram_says_so(calibration):
    """A caller's mistake, not a user's."""
    with pytest.raises(ValueError, match="need the tensor's histogram"):
        calibrated_range(Observation(low=0.0, high=1.0), Scheme(calibration=calibration))


def test_a_constant_tensor_has_a_range_under_every_calibration():
    """Of one number."""
    graph = graph_of(
        relu("act", "x"),
        Elementwise(
            name="flat", inputs=("act",), steps=(Step(function=Function.CLIP, numbers=(2.0, 2.0)),)
        ),
    )
    found = observe(graph, samples_of(graph), histograms=["flat"])["flat"]
    for calibration_ in Calibration:
        low, high = calibrated_range(found, Scheme(calibration=calibration_))
        assert 0 <= low <= high <= 2.001
