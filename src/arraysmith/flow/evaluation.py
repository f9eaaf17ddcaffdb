"""The verb `evaluate`: the float network of a run against its integer form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from arraysmith.errors import InputFileError, InvalidNetworkError
from arraysmith.files import read_bytes
from arraysmith.flow.sources import mnist_samples, quant_model, samples_of, takes_mnist
from arraysmith.metrics import (
    ChangedImage,
    Evaluation,
    OutputComparison,
    SampleEvaluation,
    compare,
    sqnr_db,
)
from arraysmith.progress import silent
from arraysmith.store import RunFolder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from arraysmith.flow.sources import Given
    from arraysmith.networks.graph import FloatGraph
    from arraysmith.progress import Progress
    from arraysmith.quantization.network import IntegerNetwork

CLASSES = 10


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
    images = mnist_samples(graph, dataset.test_images)
    real = only(float_outputs(graph, images)).argmax(1)
    integer = only(integer_outputs(network, images)).argmax(1)
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
                sqnr_db=output_sqnr(one, other),
                largest_error=float(np.abs(one - other).max()),
                changed=int(
                    (one.argmax(-1) != other.argmax(-1)).reshape(len(given), -1).any(1).sum()
                ),
            )
            for name, one, other in zip(graph.outputs, real, found, strict=True)
        ),
        comparison=comparison,
    )


def _both(run: RunFolder) -> tuple[FloatGraph, IntegerNetwork]:
    """The float network of a run and its integer form."""
    from arraysmith.quantization import model_file

    network = model_file.load(quant_model(run))
    if not run.float_model.exists():
        raise InputFileError(
            f"{run.float_model}: not there; run `arraysmith quantize -o {run.path}` again"
        )
    return model_file.load_float(run.float_model), network


def only(outputs: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """The one output of a network that has one."""
    (found,) = outputs.values()
    return found


def output_sqnr(real: NDArray[np.float64], found: NDArray[np.float64]) -> float | None:
    """Of an output, in decibels; None where nothing was lost."""
    return sqnr_db(float((real**2).sum()), float(((real - found) ** 2).sum()))


def _labels(given: Path | NDArray[Any], count: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    from pathlib import Path

    from arraysmith.quantization.sample_files import parse_array

    labels = (
        parse_array(str(given), read_bytes(Path(given)))
        if isinstance(given, Path | str)
        else np.asarray(given)
    )
    origin = f"{given}: " if isinstance(given, Path | str) else ""
    classes = shape[-1]
    if len(shape) != 2 or labels.shape != (count,):
        raise InputFileError(
            f"{origin}labels of shape {labels.shape} for {count} samples with an output of shape "
            f"{shape[1:]}; give one class a sample"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= classes:
        raise InputFileError(f"{origin}labels are not all whole numbers of 0…{classes - 1}")
    return labels.astype(np.int64)
