"""The verbs from float to integers: quantize, compare schemes, evaluate, export."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from arraysmith.errors import InputFileError, InvalidNetworkError
from arraysmith.files import read_bytes
from arraysmith.flow.back_ends import has_exact_qdq
from arraysmith.flow.sources import (
    as_pixels,
    calibration_samples,
    model_of,
    read_source,
    samples_of,
    takes_mnist,
)
from arraysmith.metrics import (
    ChangedImage,
    Evaluation,
    OutputComparison,
    Quantization,
    SampleEvaluation,
    SchemeResult,
    compare,
    sqnr_db,
)
from arraysmith.progress import silent
from arraysmith.store import RunFolder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from arraysmith.flow.sources import Given, Model
    from arraysmith.metrics import LayerSensitivity
    from arraysmith.networks.graph import FloatGraph
    from arraysmith.progress import Progress
    from arraysmith.quantization.network import IntegerNetwork
    from arraysmith.quantization.quantize import Quantized
    from arraysmith.quantization.samples import Samples
    from arraysmith.quantization.scheme import LayerOverride, Scheme

    Format = Literal["text", "onnx", "qdq"]

CLASSES = 10
SENSITIVITY_SAMPLES = 200


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
        layers=assess_layers(quantized, calibration, progress),
        islands=tuple(layer.name for layer in quantized.network.islands),
        sensitivity=_sensitivity(quantized, calibration, progress) if sensitivity else (),
        seconds=time.perf_counter() - start,
    )
    before = run.facts("quantization", Quantization)
    outdated = ["evaluation", "sample_evaluation", "verification"]
    if before and (before.model, before.model_sha256) != (facts.model, facts.model_sha256):
        outdated.append("schemes")
    model_file.save_float(run.float_model, source.graph)
    model_file.save(run.model("quant"), quantized.network)
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
    training = _pixels(graph, dataset.train_images[:training_images])
    test = _pixels(graph, dataset.test_images)
    on_training = _only(float_outputs(graph, training))
    on_test = _only(float_outputs(graph, test))
    results: list[SchemeResult] = []
    with progress("quantization schemes", len(SCHEMES)) as advance:
        for name, scheme in SCHEMES.items():
            network = quantize_network(graph, calibration, scheme).network
            found = _only(integer_outputs(network, training))
            found_on_test = _only(integer_outputs(network, test))
            results.append(
                SchemeResult(
                    scheme=name,
                    training=compare(on_training.argmax(1), found.argmax(1), labels),
                    test=compare(on_test.argmax(1), found_on_test.argmax(1), dataset.test_labels),
                    logits_sqnr_db=_sqnr(on_training, found),
                    accumulator_bits=max(
                        layer.accumulator_bits for layer in network.weighted_layers
                    ),
                )
            )
            advance(1, name)
    run.record("schemes", results, command)
    return tuple(results)


@overload
def evaluate(
    output: Path,
    samples: None = None,
    labels: None = None,
    *,
    data: Path | None = None,
    verify: bool = True,
    command: str = ...,
    progress: Progress = ...,
) -> Evaluation: ...


@overload
def evaluate(
    output: Path,
    samples: Given,
    labels: Path | NDArray[Any] | None = None,
    *,
    command: str = ...,
    progress: Progress = ...,
) -> SampleEvaluation: ...


def evaluate(
    output: Path,
    samples: Given | None = None,
    labels: Path | NDArray[Any] | None = None,
    *,
    data: Path | None = None,
    verify: bool = True,
    command: str = "arraysmith.evaluate()",
    progress: Progress = silent,
) -> Evaluation | SampleEvaluation:
    """Compare the float and the integer network of a run: on samples, or on MNIST's test images.

    Writes the sample_evaluation section of metrics.json; without samples the evaluation section and
    figs/test_quant_model.png.

    Args:
        output: the run folder that `quantize` wrote.
        samples: as in `quantize`; by default MNIST's 10,000 test images, for a network of its
            pixels.
        labels: (samples,) classes of the first output, or an .npy of them.
        data: the folder of MNIST.
        verify: on MNIST, also compare the NumPy and the torch engine on every integer.
        command: what to record as the origin.
        progress: shows samples.

    Raises:
        InputFileError: samples or labels do not fit the network.
        InvalidNetworkError: no samples were given for a network of something else than MNIST.
    """
    run = RunFolder(output)
    if samples is not None:
        facts = _evaluate_samples(run, samples, labels, progress)
        run.record("sample_evaluation", facts, command)
        return facts
    return _evaluate_mnist(run, data, verify=verify, command=command, progress=progress)


def _evaluate_mnist(
    run: RunFolder, data: Path | None, *, verify: bool, command: str, progress: Progress
) -> Evaluation:
    from arraysmith.flow.verification import compare_torch
    from arraysmith.learning import mnist
    from arraysmith.quantization.assessment import float_outputs, integer_outputs
    from arraysmith.reporting import png

    graph, network = _both(run)
    if not takes_mnist(network.inputs) or network.shapes[network.outputs[0]] != (CLASSES,):
        raise InvalidNetworkError(
            f"{run.model('quant')} reads no pixels of MNIST for {CLASSES} classes; give samples "
            "to evaluate it on: --samples FOLDER, .npz or .npy"
        )
    dataset = mnist.load(data)
    images = _pixels(graph, dataset.test_images)
    real = _only(float_outputs(graph, images)).argmax(1)
    integer = _only(integer_outputs(network, images)).argmax(1)
    compared, different = 0, 0
    if verify:
        compared, different = compare_torch(network, images, progress)
    confusion = np.zeros((CLASSES, CLASSES), np.int64)
    np.add.at(confusion, (dataset.test_labels, integer), 1)
    comparison = compare(real, integer, dataset.test_labels)
    facts = Evaluation(
        comparison=comparison,
        p_value=comparison.p_value,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        changed_images=tuple(
            ChangedImage(
                index=index,
                label=int(dataset.test_labels[index]),
                float_prediction=int(real[index]),
                int8_prediction=int(integer[index]),
            )
            for index in np.flatnonzero(real != integer).tolist()
        ),
        integers_compared=compared,
        integers_different=different,
    )
    png.quantization_test(run.figure("test_quant_model"), facts, dataset.test_images)
    run.record("evaluation", facts, command)
    if different:
        raise InvalidNetworkError(
            f"the NumPy and the torch engine differ in {different:,} of {compared:,} integers; "
            "this is a bug in Arraysmith, please report it with quant_model.pth"
        )
    return facts


def _evaluate_samples(
    run: RunFolder, samples: Given, labels: Path | NDArray[Any] | None, progress: Progress
) -> SampleEvaluation:
    from arraysmith.quantization.assessment import float_outputs, integer_outputs

    graph, network = _both(run)
    given = samples_of(graph.inputs, samples)
    real = list(float_outputs(graph, given, progress).values())
    found = list(integer_outputs(network, given, progress).values())
    comparison = None
    if labels is not None:
        classes = _labels(labels, len(given), real[0].shape)
        comparison = compare(real[0].argmax(-1), found[0].argmax(-1), classes)
    return SampleEvaluation(
        network=network.name,
        samples=len(given),
        outputs=tuple(
            OutputComparison(
                name=name,
                sqnr_db=_sqnr(one, other),
                largest_error=float(np.abs(one - other).max()),
                changed=int(
                    (one.argmax(-1) != other.argmax(-1)).reshape(len(given), -1).any(1).sum()
                ),
            )
            for name, one, other in zip(graph.outputs, real, found, strict=True)
        ),
        comparison=comparison,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written, and where."""

    folder: str
    """Of the text files; where none were asked for, of the models."""
    files: int
    models: tuple[str, ...] = ()
    """The ONNX files."""


def export(
    output: Path,
    model: Path | None = None,
    folder: Path | None = None,
    *,
    formats: Sequence[Format] = ("text",),
) -> Exported:
    """Write the integer network for hardware and for other tools, and read it back to be sure.

    Args:
        output: the run folder.
        model: the integer network; quant_model.pth of `output` by default.
        folder: where to; `weight/` of `output` by default. With text it is replaced as a whole.
        formats: `text` (text, hex, C, safetensors, manifest), `onnx` (`NAME.onnx`, integer
            operations alone) and `qdq` (`NAME.qdq.onnx`).

    Raises:
        OutputError: the folder cannot be written, or holds something else than an export.
        InvalidNetworkError: the network has float islands, which integers cannot say.
    """
    from arraysmith.quantization import model_file
    from arraysmith.quantization.export import export as export_network
    from arraysmith.quantization.export import read_export
    from arraysmith.quantization.parts import arrays

    run = RunFolder(output)
    network = model_file.load(model or quant_model(run))
    folder = folder or run.weight_folder
    files = 0
    if "text" in formats:
        manifest = export_network(network, folder)
        files = len(manifest.files) + 1
        written, read = arrays(network), arrays(read_export(folder))
        wrong = [name for name in written if not np.array_equal(written[name], read[name])]
        if wrong:
            raise InputFileError(f"{folder}: {wrong[0]} does not read back as it was written")
    models = run.onnx_folder if folder == run.weight_folder else folder
    return Exported(
        folder=str(folder if files else models),
        files=files,
        models=_export_models(network, models, formats),
    )


def _export_models(
    network: IntegerNetwork, folder: Path, formats: Sequence[Format]
) -> tuple[str, ...]:
    from arraysmith.quantization.onnx_integer import export_integer
    from arraysmith.quantization.onnx_qdq import export_qdq

    written = []
    if "onnx" in formats:
        written.append(folder / f"{network.name}.onnx")
        export_integer(network, written[-1])
    if "qdq" in formats:
        written.append(folder / f"{network.name}.qdq.onnx")
        export_qdq(network, written[-1], exact=has_exact_qdq(network))
    return tuple(str(path) for path in written)


def quant_model(run: RunFolder) -> Path:
    """The integer network of a run.

    Raises:
        InputFileError: there is none yet.
    """
    path = run.model("quant")
    if not path.exists():
        raise InputFileError(f"{path}: not there; run `arraysmith quantize -o {run.path}` first")
    return path


def _both(run: RunFolder) -> tuple[FloatGraph, IntegerNetwork]:
    """The float network of a run and its integer form."""
    from arraysmith.quantization import model_file

    network = model_file.load(quant_model(run))
    return model_file.load_float(run.float_model), network


def _pixels(graph: FloatGraph, images: NDArray[np.uint8]) -> Samples:
    from arraysmith.quantization.samples import Samples

    if not takes_mnist(graph.inputs):
        raise InvalidNetworkError(f"network {graph.name!r} does not read the pixels of MNIST")
    return Samples(inputs=graph.inputs, arrays={graph.inputs[0].name: as_pixels(images)})


def _only(outputs: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    (found,) = outputs.values()
    return found


def _sqnr(real: NDArray[np.float64], found: NDArray[np.float64]) -> float | None:
    return sqnr_db(float((real**2).sum()), float(((real - found) ** 2).sum()))


def _labels(given: Path | NDArray[Any], count: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    from pathlib import Path

    from arraysmith.quantization.sample_files import parse_array

    labels = (
        parse_array(str(given), read_bytes(Path(given)))
        if isinstance(given, Path | str)
        else np.asarray(given)
    )
    classes = shape[-1]
    if len(shape) != 2 or labels.shape != (count,):
        raise InputFileError(
            f"labels of shape {labels.shape} for {count} samples with an output of shape "
            f"{shape[1:]}; give one class a sample"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= classes:
        raise InputFileError(f"labels are not all whole numbers of 0…{classes - 1}")
    return labels.astype(np.int64)
