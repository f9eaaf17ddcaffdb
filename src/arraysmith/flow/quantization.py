"""The verbs from float to integers: quantize, compare schemes, evaluate, export."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import InputFileError, InvalidNetworkError
from arraysmith.files import read_bytes, sha256
from arraysmith.flow.learning import SHIPPED_CHECKPOINT
from arraysmith.metrics import (
    ChangedImage,
    Evaluation,
    Quantization,
    SchemeResult,
    compare,
    sqnr_db,
)
from arraysmith.progress import silent
from arraysmith.store import RunFolder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.learning.mnist import Mnist
    from arraysmith.progress import Progress
    from arraysmith.quantization.scheme import Scheme

CALIBRATION_IMAGES = 5000
CALIBRATION_SEED = 0
MNIST_SHAPE, CLASSES = (1, 28, 28), 10


def quantize(
    output: Path,
    checkpoint: Path | None = None,
    scheme: Scheme | None = None,
    *,
    data: Path | None = None,
    calibration_images: int = CALIBRATION_IMAGES,
    command: str = "arraysmith.quantize()",
) -> Quantization:
    """Quantize a float checkpoint to int8 into the run folder `output`.

    Writes save_model/quant_model.pth and the quantization section of metrics.json.

    Args:
        output: the run folder.
        checkpoint: the float checkpoint; by default best_model.pth of `output`, else the shipped.
        scheme: the choices; `Scheme()` by default.
        data: the folder of MNIST.
        calibration_images: how many training images to calibrate on.
        command: what to record as the origin.
    """
    from arraysmith.learning import mnist
    from arraysmith.learning.checkpoint import load
    from arraysmith.learning.network import float_network
    from arraysmith.learning.training import normalised
    from arraysmith.quantization import model_file
    from arraysmith.quantization.assessment import assess_layers
    from arraysmith.quantization.quantize import quantize as quantize_network
    from arraysmith.quantization.scheme import Scheme

    start = time.perf_counter()
    run = RunFolder(output)
    path = _float_checkpoint(run, checkpoint)
    loaded = load(path)
    network = float_network(loaded.spec, loaded.parameters)
    images = _calibration_images(mnist.load(data), calibration_images)
    quantized = quantize_network(network, images, normalised, scheme or Scheme())
    facts = Quantization(
        network=loaded.spec.name,
        activation=loaded.activation.value,
        checkpoint=str(path),
        checkpoint_sha256=sha256(read_bytes(path)),
        scheme=asdict(quantized.scheme),
        calibration_images=len(images),
        layers=assess_layers(quantized, network, images, normalised),
        seconds=time.perf_counter() - start,
    )
    before = run.facts("quantization", Quantization)
    outdated = ["evaluation"]
    if before and before.checkpoint_sha256 != facts.checkpoint_sha256:
        outdated.append("schemes")
    model_file.save(run.model("quant"), quantized.network)
    run.record("quantization", facts, command, outdated=tuple(outdated))
    return facts


def compare_schemes(
    output: Path,
    checkpoint: Path | None = None,
    *,
    data: Path | None = None,
    training_images: int = 10_000,
    calibration_images: int = CALIBRATION_IMAGES,
    command: str = "arraysmith.compare_schemes()",
    progress: Progress = silent,
) -> tuple[SchemeResult, ...]:
    """Quantize by every named scheme and compare with the float network, side by side.

    Writes the schemes section of metrics.json. A scheme is chosen by its training column.

    Args:
        output: the run folder.
        checkpoint: as in `quantize`.
        data: the folder of MNIST.
        training_images: how many training images to compare on (the first ones).
        calibration_images: as in `quantize`.
        command: what to record as the origin.
        progress: shows schemes.
    """
    from arraysmith.learning import mnist
    from arraysmith.learning.checkpoint import load
    from arraysmith.learning.network import float_network
    from arraysmith.learning.training import normalised
    from arraysmith.quantization.assessment import float_logits
    from arraysmith.quantization.calibration import observe
    from arraysmith.quantization.modules import QuantNetwork, predict
    from arraysmith.quantization.quantize import quantize as quantize_network
    from arraysmith.quantization.scheme import SCHEMES

    run = RunFolder(output)
    loaded = load(_float_checkpoint(run, checkpoint))
    network = float_network(loaded.spec, loaded.parameters)
    dataset = mnist.load(data)
    calibration = _calibration_images(dataset, calibration_images)
    observed = observe(network, normalised(calibration))
    images = dataset.train_images[:training_images]
    on_training = float_logits(network, images, normalised)
    on_test = float_logits(network, dataset.test_images, normalised)
    results: list[SchemeResult] = []
    with progress("quantization schemes", len(SCHEMES)) as advance:
        for name, scheme in SCHEMES.items():
            quantized = quantize_network(network, calibration, normalised, scheme, observed)
            module = QuantNetwork(quantized.network)
            training = predict(module, images)
            test = predict(module, dataset.test_images)
            layers = quantized.network.weighted_layers
            error = on_training - training * layers[-1].accumulator_scale
            results.append(
                SchemeResult(
                    scheme=name,
                    training=compare(
                        on_training.argmax(1),
                        training.argmax(1),
                        dataset.train_labels[:training_images],
                    ),
                    test=compare(on_test.argmax(1), test.argmax(1), dataset.test_labels),
                    logits_sqnr_db=sqnr_db(float((on_training**2).sum()), float((error**2).sum())),
                    accumulator_bits=max(layer.accumulator_bits for layer in layers),
                )
            )
            advance(1, name)
    run.record("schemes", results, command)
    return tuple(results)


def evaluate(
    output: Path,
    checkpoint: Path | None = None,
    *,
    data: Path | None = None,
    verify: bool = True,
    command: str = "arraysmith.evaluate()",
    progress: Progress = silent,
) -> Evaluation:
    """Compare the float and the int8 network on the 10,000 test images.

    Writes figs/test_quant_model.png and the evaluation section of metrics.json.

    Args:
        output: the run folder with quant_model.pth.
        checkpoint: the float checkpoint that was quantized; as recorded by default.
        data: the folder of MNIST.
        verify: also compare the NumPy and the torch engine on every integer of every layer.
        command: what to record as the origin.
        progress: shows images.
    """
    from arraysmith.learning import mnist
    from arraysmith.learning.checkpoint import load
    from arraysmith.learning.network import float_network
    from arraysmith.learning.training import normalised
    from arraysmith.quantization import model_file
    from arraysmith.quantization.assessment import compare_engines, float_logits
    from arraysmith.quantization.modules import QuantNetwork, predict
    from arraysmith.reporting import png

    run = RunFolder(output)
    network = model_file.load(_quant_model(run))
    if network.input_shape != MNIST_SHAPE or network.shapes[-1] != (CLASSES,):
        raise InvalidNetworkError(
            f"{run.model('quant')} takes {network.input_shape} and gives {network.shapes[-1]}; "
            f"MNIST has images of {MNIST_SHAPE} and {CLASSES} classes"
        )
    loaded = load(_quantized_checkpoint(run, checkpoint))
    dataset = mnist.load(data)
    float_network_ = float_network(loaded.spec, loaded.parameters)
    real = float_logits(float_network_, dataset.test_images, normalised).argmax(1)
    integer = predict(QuantNetwork(network), dataset.test_images).argmax(1)
    compared, different = 0, 0
    if verify:
        compared, different = compare_engines(network, dataset.test_images, progress)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written for hardware, and where."""

    folder: str
    files: int


def export(output: Path, model: Path | None = None, folder: Path | None = None) -> Exported:
    """Write the int8 network as files for hardware, and read them back to be sure.

    Args:
        output: the run folder.
        model: the int8 network; quant_model.pth of `output` by default.
        folder: where to; `weight/` of `output` by default. It is replaced as a whole.

    Raises:
        OutputError: the folder cannot be written, or holds something else than an export.
    """
    from arraysmith.quantization import model_file
    from arraysmith.quantization.export import export as export_network
    from arraysmith.quantization.export import read_export
    from arraysmith.quantization.parts import arrays

    run = RunFolder(output)
    network = model_file.load(model or _quant_model(run))
    folder = folder or run.weight_folder
    manifest = export_network(network, folder)
    written, read = arrays(network), arrays(read_export(folder))
    wrong = [name for name in written if not np.array_equal(written[name], read[name])]
    if wrong:
        raise InputFileError(f"{folder}: {wrong[0]} does not read back as it was written")
    return Exported(folder=str(folder), files=len(manifest.files) + 1)


def _quant_model(run: RunFolder) -> Path:
    path = run.model("quant")
    if not path.exists():
        raise InputFileError(f"{path}: not there; run `arraysmith quantize -o {run.path}` first")
    return path


def _quantized_checkpoint(run: RunFolder, given: Path | None) -> Path:
    """The float checkpoint that the int8 network of a run was made from, unchanged."""
    facts = run.facts("quantization", Quantization)
    if facts is None:
        return _float_checkpoint(run, given)
    path = given or Path(facts.checkpoint)
    if sha256(read_bytes(path)) != facts.checkpoint_sha256:
        raise InputFileError(
            f"{path}: not the checkpoint that {run.model('quant')} was quantized from; "
            "run `arraysmith quantize` again, or name the right checkpoint"
        )
    return path


def _float_checkpoint(run: RunFolder, given: Path | None) -> Path:
    if given is not None:
        return given
    return run.model("best") if run.model("best").exists() else SHIPPED_CHECKPOINT


def _calibration_images(dataset: Mnist, count: int) -> NDArray[np.uint8]:
    """A seeded draw from the images that were trained on."""
    from arraysmith.learning.training import VALIDATION_IMAGES

    trained = len(dataset.train_images) - VALIDATION_IMAGES
    if not 1 <= count <= trained:
        raise InvalidNetworkError(f"{count} calibration images: choose 1 to {trained:,}")
    drawn = np.random.default_rng(CALIBRATION_SEED).permutation(trained)[:count]
    return dataset.train_images[np.sort(drawn)]
