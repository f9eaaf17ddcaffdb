"""The worked example on real MNIST: every integer of every layer, for all 10,000 test images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from arraysmith.errors import InputFileError
from arraysmith.learning import checkpoint
from arraysmith.quantization import int8, model_file
from arraysmith.quantization.export import read_export
from arraysmith.quantization.modules import QuantNetwork, predict
from arraysmith.quantization.products import WeightedLayer
from arraysmith.store import RunFolder

pytestmark = pytest.mark.mnist

BATCH = 500


@pytest.fixture(scope="module")
def network(run_folder):
    """The shipped LeNet-5 in int8."""
    return model_file.load(RunFolder(run_folder).model("quant"))


def pixels(mnist, start=0, stop=10_000):
    """Test images as the network's only input."""
    return {"pixels": mnist.test_images[start:stop, None].astype(np.int64)}


@pytest.fixture(scope="module")
def reference(network, mnist):
    """NumPy's integers of every layer for all test images: name to array."""
    found = {}
    for start in range(0, len(mnist.test_images), BATCH):
        for layer, x in int8.trace(network, pixels(mnist, start, start + BATCH)):
            found.setdefault(layer.name, []).append(x.astype(np.int32))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def test_torch_equals_numpy_in_every_integer(network, mnist, reference):
    """10,000 images, all layers, not one integer different."""
    module = QuantNetwork(network)
    compared = 0
    for start in range(0, len(mnist.test_images), BATCH):
        batch = torch.from_numpy(pixels(mnist, start, start + BATCH)["pixels"])
        for layer, x in module.trace({"pixels": batch}):
            slow = reference[layer.name][start : start + BATCH]
            assert np.array_equal(x.numpy(), slow), f"{layer.name}, images from {start}"
            compared += slow.size
    assert compared == 10_000 * (28 * 28 + 6 * 14 * 14 + 16 * 5 * 5 + 120 + 120 + 84 + 10)


def test_accumulators_stay_in_the_proven_range(network, mnist):
    """What the accumulators really reach on 1,000 images lies inside the bound; 24 bits suffice."""
    assert max(layer.accumulator_bits for layer in network.weighted_layers) <= 24
    known = pixels(mnist, 0, 1000)
    for layer, x in int8.trace(network, known):
        if isinstance(layer, WeightedLayer):
            bare = _accumulator(layer, known[layer.inputs[0]])
            low, high = layer.accumulator_range
            assert low <= bare.min() <= bare.max() <= high, layer.name
        known[layer.name] = x


def _accumulator(layer, x):
    """(2) for every output, by torch's exact float64 convolution, before ReLU, pool and (3)."""
    weight = torch.from_numpy(layer.centred_weight).double()
    centred = torch.from_numpy(x - layer.input.zero_point).double()
    bias = torch.from_numpy(layer.bias).double()
    if weight.ndim == 2:
        return torch.nn.functional.linear(centred, weight, bias)
    windows = layer.windows
    assert windows.before == windows.after
    return torch.nn.functional.conv2d(
        centred, weight, bias, stride=windows.strides, padding=windows.before
    )


def test_no_accuracy_is_lost(run_folder):
    """Float is above 98.5 %; int8 differs by chance at most (McNemar); few predictions change."""
    import arraysmith

    facts = arraysmith.evaluate(run_folder, verify=False)
    found = facts.comparison
    assert found.images == 10_000
    assert found.float_accuracy > 0.985
    assert facts.p_value > 0.05
    assert found.changed <= 30
    assert sum(map(sum, facts.confusion)) == 10_000
    assert sum(facts.confusion[i][i] for i in range(10)) == found.int8_correct
    assert len(facts.changed_images) == found.changed
    assert RunFolder(run_folder).figure("test_quant_model").stat().st_size > 10_000


def test_the_text_files_alone_give_the_same_logits(run_folder, mnist, reference):
    """Exported, read back from text, run on 10,000 images: 0 different logits."""
    import arraysmith

    exported = arraysmith.export(run_folder)
    folder = RunFolder(run_folder).weight_folder
    assert exported.files == len(list(folder.iterdir()))
    found = predict(QuantNetwork(read_export(folder)), pixels(mnist))
    assert list(found) == ["fc2"]
    assert found["fc2"].shape == (10_000, 10)
    assert np.count_nonzero(found["fc2"] != reference["fc2"]) == 0


def test_exported_text_holds_every_element(run_folder):
    """One integer a line, all of them: the printed tensor with dots in it is the known trap."""
    import arraysmith

    arraysmith.export(run_folder)
    folder = RunFolder(run_folder).weight_folder
    shapes = {"conv1": 150, "conv2": 2400, "conv3": 48000, "fc1": 10080, "fc2": 840}
    for name, count in shapes.items():
        lines = (folder / f"{name}.weight.txt").read_text().splitlines()
        assert len(lines) == count
        assert all(-128 <= int(line) <= 127 for line in lines)


def test_the_model_file_opens_without_pickles(run_folder):
    """quant_model.pth loads with weights_only=True."""
    path = RunFolder(run_folder).model("quant")
    content = torch.load(path, weights_only=True)
    assert content["tensors"]["conv1.weight"].dtype == torch.int16
    assert content["tensors"]["conv1.weight"].abs().max() <= 128


def test_a_float_checkpoint_is_no_int8_model(tmp_path):
    """Giving the wrong file says which one is meant."""
    from arraysmith.flow.learning import SHIPPED_CHECKPOINT

    path = tmp_path / "best_model.pth"
    checkpoint.save(path, checkpoint.load(SHIPPED_CHECKPOINT))
    with pytest.raises(InputFileError, match="give a quant_model"):
        model_file.load(path)


def test_every_scheme_is_compared(run_folder):
    """All named schemes, on a few training images, each close to the float network."""
    import arraysmith
    from arraysmith.quantization.scheme import SCHEMES

    results = arraysmith.compare_schemes(run_folder, training_images=500, calibration_images=500)
    assert [found.scheme for found in results] == list(SCHEMES)
    assert all(found.training.agreement > 0.99 for found in results)
    assert all(found.test.int8_accuracy > 0.98 for found in results)
    assert all(found.logits_sqnr_db > 30 for found in results)


def test_the_workload_is_the_oracles(run_folder):
    """The layers that come out of the network are those SCALE-Sim was run on, padding included."""
    import arraysmith
    from arraysmith.formats.topology import topology_text

    workload = arraysmith.read_workload(run_folder)
    assert topology_text(workload).splitlines()[1:] == [
        "conv1, 32, 32, 5, 5, 1, 6, 1,",
        "conv2, 14, 14, 5, 5, 6, 16, 1,",
        "conv3, 5, 5, 5, 5, 16, 120, 1,",
        "fc1, 1, 1, 1, 1, 120, 84, 1,",
        "fc2, 1, 1, 1, 1, 84, 10, 1,",
    ]
    assert arraysmith.read_workload(RunFolder(run_folder).model("quant")) == workload
