"""The verbs from float to integers: quantize, compare schemes."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from arraysmith.flow.evaluation import only, output_sqnr
from arraysmith.flow.sources import calibration_samples, mnist_samples, model_of, read_source
from arraysmith.metrics import LayerSensitivity, Quantization, SchemeResult, compare
from arraysmith.progress import silent
from arraysmith.store import RunFolder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from arraysmith.flow.sources import Given, Model
    from arraysmith.progress import Progress
    from arraysmith.quantization.quantize import Quantized
    from arraysmith.quantization.samples import Samples
    from arraysmith.quantization.scheme import LayerOverride, Scheme

ASSESSED_SAMPLES, SENSITIVITY_SAMPLES = 1000, 64


def quantize(
    output: Path,
    model: Model | None = None,
    scheme: Scheme | None = None,
    *,
    samples: Given | None = None,
    example: object = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    calibration_images: int | None = None,
    overrides: Sequence[LayerOverride] = (),
    integer_only: bool = False,
    sensitivity: bool = False,
    data: Path | None = None,
    command: str = "arraysmith.quantize()",
    progress: Progress = silent,
) -> Quantization:
    """Quantize a float network to integers into the run folder `output`.

    Writes save_model/quant_model.pth, save_model/float_model.safetensors (the network as it was
    read) and the quantization section of metrics.json.

    Args:
        output: the run folder.
        model: a checkpoint of `arraysmith train`, an .onnx file, a torch module or a graph; by
            default best_model.pth of `output`, else the shipped LeNet-5.
        scheme: the choices; `Scheme()` by default.
        samples: what to calibrate on: a folder of .npy files, an .npz, an .npy, or a Python
            iterable of arrays. MNIST's training images for a network of its pixels.
        example: of a torch module's inputs, batch first.
        shapes: of the inputs of an .onnx file, by name, where it leaves sizes open.
        calibration_images: how many samples to calibrate on, at most; 5,000 of MNIST, else 1,000.
        overrides: other choices for single layers.
        integer_only: refuse what would run in floats.
        sensitivity: also find what each layer costs.
        data: the folder of MNIST.
        command: what to record as the origin.
        progress: shows samples.

    Raises:
        InputFileError: a file is not what it should be, or samples do not fit.
        InvalidNetworkError: a layer has no integer form under the scheme; it is named.
    """
    from arraysmith.quantization import model_file
    from arraysmith.quantization.assessment import assess_layers
    from arraysmith.quantization.quantize import quantize as quantize_network
    from arraysmith.quantization.scheme import Scheme

    start = time.perf_counter()
    run = RunFolder(output)
    source = read_source(model_of(run, model), example=example, shapes=shapes)
    calibration = calibration_samples(source.graph, samples, calibration_images, data)
    quantized = quantize_network(
        source.graph,
        calibration,
        scheme or Scheme(),
        overrides,
        integer_only=integer_only,
        progress=progress,
    )
    facts = Quantization(
        network=source.graph.name,
        model=source.name,
        model_sha256=source.sha256,
        scheme=asdict(quantized.scheme),
        overrides=tuple(each.layer for each in overrides),
        calibration_samples=len(calibration),
        layers=assess_layers(quantized, calibration.spread(ASSESSED_SAMPLES), progress),
        islands=tuple(layer.name for layer in quantized.network.islands),
        sensitivity=_sensitivity(quantized, calibration, progress) if sensitivity else (),
        seconds=time.perf_counter() - start,
    )
    before = run.facts("quantization", Quantization)
    outdated = ["evaluation", "sample_evaluation", "verification"]
    if before and (before.model, before.model_sha256) != (facts.model, facts.model_sha256):
        outdated.append("schemes")
    model_file.save_both(run.float_model, source.graph, run.model("quant"), quantized.network)
    run.record("quantization", facts, command, outdated=tuple(outdated))
    return facts


def _sensitivity(
    quantized: Quantized, samples: Samples, progress: Progress
) -> tuple[LayerSensitivity, ...]:
    from arraysmith.quantization.sensitivity import parts_of, sensitivity

    parts = parts_of(quantized.network, quantized.graph, quantized.float_names)
    return sensitivity(quantized.graph, parts, samples.spread(SENSITIVITY_SAMPLES), progress)


def compare_schemes(
    output: Path,
    model: Model | None = None,
    *,
    data: Path | None = None,
    training_images: int = 10_000,
    calibration_images: int | None = None,
    command: str = "arraysmith.compare_schemes()",
    progress: Progress = silent,
) -> tuple[SchemeResult, ...]:
    """Quantize by every named scheme and compare with the float network, side by side.

    Writes the schemes section of metrics.json. A scheme is chosen by its training column.

    Args:
        output: the run folder.
        model: as in `quantize`, by default what `output` was quantized from; a network of MNIST's
            pixels.
        data: the folder of MNIST.
        training_images: how many training images to compare on (the first ones).
        calibration_images: as in `quantize`.
        command: what to record as the origin.
        progress: shows schemes.
    """
    from arraysmith.learning import mnist
    from arraysmith.quantization import model_file
    from arraysmith.quantization.assessment import float_outputs, integer_outputs
    from arraysmith.quantization.quantize import quantize as quantize_network
    from arraysmith.quantization.scheme import SCHEMES

    run = RunFolder(output)
    if model is None and run.float_model.exists():
        graph = model_file.load_float(run.float_model)
    else:
        graph = read_source(model_of(run, model)).graph
    dataset = mnist.load(data)
    calibration = calibration_samples(graph, None, calibration_images, data)
    labels = dataset.train_labels[:training_images]
    training = mnist_samples(graph, dataset.train_images[:training_images])
    test = mnist_samples(graph, dataset.test_images)
    on_training = only(float_outputs(graph, training))
    on_test = only(float_outputs(graph, test))
    results: list[SchemeResult] = []
    with progress("quantization schemes", len(SCHEMES)) as advance:
        for name, scheme in SCHEMES.items():
            network = quantize_network(graph, calibration, scheme).network
            found = only(integer_outputs(network, training))
            found_on_test = only(integer_outputs(network, test))
            results.append(
                SchemeResult(
                    scheme=name,
                    training=compare(on_training.argmax(1), found.argmax(1), labels),
                    test=compare(on_test.argmax(1), found_on_test.argmax(1), dataset.test_labels),
                    logits_sqnr_db=output_sqnr(on_training, found),
                    accumulator_bits=max(
                        layer.accumulator_bits for layer in network.weighted_layers
                    ),
                )
            )
            advance(1, name)
    run.record("schemes", results, command)
    return tuple(results)
