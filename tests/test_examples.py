"""The files in `examples/` are what they say they are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from arraysmith.formats.config import Config, read_config
from arraysmith.formats.topology import read_topology, topology_text
from arraysmith.hardware import Accelerator, Dataflow
from arraysmith.simulation.scalesim.closed_form import simulate

EXAMPLES = Path(__file__).parents[1] / "examples"


def script(name):
    """A script of the folder as a module."""
    spec = importlib.util.spec_from_file_location("made", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_resnet50():
    """What the script derives from the table of stages."""
    return script("make_resnet50").resnet50()


def test_resnet50_is_what_its_script_writes():
    """The file and the script agree, byte for byte, and the file reads back."""
    text = (EXAMPLES / "resnet50.csv").read_bytes().decode()
    assert text == topology_text(made_resnet50())
    assert read_topology(EXAMPLES / "resnet50.csv") == made_resnet50()


def test_resnet50_has_the_known_layers_and_macs():
    """53 convolutions and one fully connected layer; 4 089 184 256 MACs as torchvision has it."""
    workload = read_topology(EXAMPLES / "resnet50.csv")
    assert len(workload.layers) == 54
    assert workload.macs == 4_089_184_256
    filters = [(layer.filter_rows, layer.stride) for layer in workload.layers]
    assert {kind: filters.count(kind) for kind in set(filters)} == {
        (7, 2): 1,
        (3, 1): 13,
        (3, 2): 3,
        (1, 1): 34,
        (1, 2): 3,
    }
    weights = sum(layer.gemm.K * layer.gemm.N for layer in workload.layers)
    assert weights == 25_502_912  # 25 557 032 parameters less 53 120 of batch norm and 1000 biases


def test_resnet50_has_the_same_windows_rounded_up_or_down():
    """SCALE-Sim rounds up, a framework down: no window of this file hangs over the edge."""
    workload = read_topology(EXAMPLES / "resnet50.csv")
    accelerator = Accelerator(rows=128, cols=128, dataflow=Dataflow.WS)
    assert simulate(workload, accelerator).macs == workload.macs
    for layer in workload.layers:
        covered = (layer.ofmap_rows - 1) * layer.stride + layer.filter_rows
        assert layer.ifmap_rows == layer.ifmap_cols == covered


def test_mobilenet_is_what_its_script_writes():
    """The file and the script agree, byte for byte; a depthwise row is a layer a channel."""
    assert (EXAMPLES / "mobilenet.csv").read_bytes().decode() == script("make_mobilenet").text()
    rows = script("make_mobilenet").mobilenet().layers
    assert len(rows) == 28
    found = read_topology(EXAMPLES / "mobilenet.csv").layers
    depthwise = [row for row in rows if row.name.endswith("_dw")]
    assert len(depthwise) == 13
    assert len(found) == 15 + sum(row.in_channels for row in depthwise)


def test_mobilenet_has_the_known_macs_and_weights():
    """568 740 352 MACs; 4 253 864 parameters as Keras counts them."""
    workload = read_topology(EXAMPLES / "mobilenet.csv")
    assert workload.macs == 568_740_352
    weights = sum(layer.gemm.K * layer.gemm.N for layer in workload.layers)
    outputs = sum(layer.out_channels for layer in workload.layers[:-1])
    assert weights + 4 * outputs + 1000 == 4_253_864  # batch norm, and the biases of fc
    for layer in workload.layers:
        covered = (layer.ofmap_rows - 1) * layer.stride + layer.filter_rows
        assert layer.ifmap_rows == layer.ifmap_cols == covered


def test_lenet5_topology_is_the_shipped_network():
    """The shipped checkpoint quantized and extracted gives the file; shapes need no real images."""
    import numpy as np

    from arraysmith.extraction import workload
    from arraysmith.flow.learning import SHIPPED_CHECKPOINT
    from arraysmith.flow.sources import read_source
    from arraysmith.quantization.quantize import quantize
    from arraysmith.quantization.samples import samples_from
    from arraysmith.quantization.scheme import Scheme

    graph = read_source(SHIPPED_CHECKPOINT).graph
    images = np.random.default_rng(0).integers(0, 256, (16, 1, 28, 28), dtype=np.uint8)
    found = workload(quantize(graph, samples_from([images], graph.inputs), Scheme()).network)
    assert (EXAMPLES / "lenet5.csv").read_text(encoding="utf-8") == topology_text(found)


def test_lenet5_config():
    """A CALC run on 16×16, output stationary."""
    assert read_config(EXAMPLES / "lenet5.cfg") == Config(
        run_name="lenet5_16x16_os",
        accelerator=Accelerator(
            rows=16,
            cols=16,
            dataflow=Dataflow.OS,
            ifmap_buffer_kib=64,
            filter_buffer_kib=128,
            ofmap_buffer_kib=64,
        ),
        bandwidths=None,
        offsets=(0, 10_000_000, 20_000_000),
    )
