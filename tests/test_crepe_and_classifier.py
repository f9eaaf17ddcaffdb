"""Two networks that people use, from file to integers: nothing lost, all back ends equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import labelled_networks
import numpy as np
import pytest
import torch

import arraysmith
from arraysmith.errors import DataUnavailableError
from arraysmith.formats.onnx_import import read_network
from arraysmith.learning import float_graph
from arraysmith.learning.torch_import import from_torch
from arraysmith.metrics import compare
from arraysmith.quantization import model_file
from arraysmith.quantization.assessment import float_outputs, integer_outputs
from arraysmith.quantization.quantize import quantize
from arraysmith.quantization.samples import Samples
from arraysmith.quantization.scheme import Scheme
from arraysmith.store import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

    from arraysmith.networks.graph import FloatGraph
    from arraysmith.quantization.quantize import Quantized

COUNT = 1000
CALIBRATION, TEST = 1, 0
"""Seeds: what is tested was not calibrated on."""


@dataclass(frozen=True)
class Real:
    """A network quantized on samples of its own kind, and what it is tested on."""

    graph: FloatGraph
    quantized: Quantized
    run: Path
    inputs: Any
    labels: Any

    @property
    def samples(self) -> Samples:
        """The inputs by name."""
        return samples_of(self.graph, self.inputs)

    def outputs(self):
        """Of the float network and of the integers."""
        (real,) = float_outputs(self.graph, self.samples).values()
        (found,) = integer_outputs(self.quantized.network, self.samples).values()
        return real, found


def samples_of(graph, inputs):
    """An array for the only input."""
    return Samples(inputs=graph.inputs, arrays={graph.inputs[0].name: inputs})


def fetched(network):
    """The file, or a test that is skipped with the reason."""
    try:
        return labelled_networks.fetched(network)
    except DataUnavailableError as error:
        return pytest.skip(str(error))


def quantized_run(graph, make, folder):
    """A run folder as `quantize` leaves it, by the default scheme."""
    quantized = quantize(graph, samples_of(graph, make(COUNT, CALIBRATION)[0]), Scheme())
    run = RunFolder(folder)
    model_file.save(run.model("quant"), quantized.network)
    return Real(graph, quantized, folder, *make(COUNT, TEST))


@pytest.fixture(scope="module")
def crepe_module():
    """The module with its trained numbers."""
    return labelled_networks.crepe_tiny(fetched(labelled_networks.CREPE))


@pytest.fixture(scope="module")
def crepe(crepe_module, tmp_path_factory):
    """CREPE-tiny out of torch, on tones."""
    graph = from_torch(crepe_module, (torch.zeros(2, labelled_networks.FRAME),), name="crepe-tiny")
    return quantized_run(graph, labelled_networks.tones, tmp_path_factory.mktemp("crepe"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """The text-angle classifier out of ONNX, on lines of text."""
    shapes = {"x": (1, *labelled_networks.TEXT_SHAPE)}
    graph = read_network(fetched(labelled_networks.CLASSIFIER), shapes)
    return quantized_run(graph, labelled_networks.text_lines, tmp_path_factory.mktemp("classifier"))


@pytest.fixture(params=["crepe", "classifier"])
def real(request):
    """Either."""
    return request.getfixturevalue(request.param)


def test_crepe_from_torch_is_the_module(crepe_module, crepe):
    """Probabilities of pitches, as torch computes them itself."""
    frames = torch.from_numpy(crepe.inputs[:50])
    (found,) = float_graph.run(crepe.graph, {crepe.graph.inputs[0].name: frames}).values()
    with torch.inference_mode():
        wanted = crepe_module(frames)
    assert found.numpy() == pytest.approx(wanted.numpy(), rel=1e-4, abs=1e-6)


def test_classifier_from_onnx_is_what_onnx_runtime_computes(classifier):
    """Probabilities of both ways up."""
    onnxruntime = pytest.importorskip("onnxruntime")
    path = fetched(labelled_networks.CLASSIFIER)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    few = classifier.samples.spread(20)
    (wanted,) = session.run(None, few.arrays)
    (found,) = float_outputs(classifier.graph, few).values()
    assert found == pytest.approx(wanted, rel=1e-3, abs=1e-5)


def test_crepe_keeps_its_raw_pitch_accuracy(crepe):
    """On 1,000 tones of known pitch, no pitch more is missed than in floats."""
    real, found = crepe.outputs()
    of_floats = labelled_networks.pitch_accuracy(real, crepe.labels)
    assert of_floats > 0.99  # the network is the trained one, and hears these tones
    assert labelled_networks.pitch_accuracy(found, crepe.labels) >= of_floats


def test_classifier_keeps_its_accuracy(classifier):
    """On 1,000 lines of text: few predictions change, for the better as often as for the worse.

    Which ones is decided by the last bit of a range, which is another on another processor, so one
    line more or less is no loss; one that is not chance is.
    """
    real, found = classifier.outputs()
    comparison = compare(real.argmax(1), found.argmax(1), classifier.labels)
    assert comparison.float_accuracy > 0.98
    assert (real.argmax(1) != found.argmax(1)).sum() <= COUNT // 50
    kept = (found.argmax(1) == classifier.labels).mean() >= comparison.float_accuracy
    assert kept or comparison.p_value > 0.05


def test_nothing_runs_in_floats(real):
    """Every layer has an integer form."""
    assert not real.quantized.network.islands


def test_every_back_end_gives_the_same_integers(real):
    """torch, ONNX Runtime at four levels and the text files read back, of every layer."""
    facts = arraysmith.verify(real.run, real.inputs[:3])
    names = {each.name for each in facts.back_ends}
    levels = ("disabled", "basic", "extended", "all")
    assert {"torch", "text files", *(f"ONNX Runtime, optimisations {x}" for x in levels)} <= names
    assert not facts.absent
    shapes = real.quantized.network.shapes
    words = sum(np.prod(shapes[layer.name]) for layer in real.quantized.network.layers)
    for each in facts.back_ends:
        assert (each.integers, each.different) == (3 * words, 0), each.name


def test_a_systolic_array_runs_it(real):
    """The same layers and products as the integer network has, and cycles for each."""
    workload = arraysmith.read_workload(real.run)
    assert len(workload.layers) >= len(real.quantized.network.weighted_layers)
    accelerator = arraysmith.Accelerator(rows=32, cols=32, dataflow=arraysmith.Dataflow.WS)
    (found,) = arraysmith.simulate(workload, (accelerator,))
    assert len(found.layers) == len(workload.layers)
    assert found.total_cycles * 32 * 32 >= sum(layer.macs for layer in workload.layers)
