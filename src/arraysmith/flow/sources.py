"""Where a float network comes from, and the samples that it is calibrated on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.errors import InputFileError, InvalidNetworkError
from arraysmith.files import read_bytes, sha256
from arraysmith.flow.learning import SHIPPED_CHECKPOINT
from arraysmith.networks.graph import FloatGraph, Input

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from arraysmith.learning.mnist import Mnist
    from arraysmith.quantization.samples import Samples
    from arraysmith.store import RunFolder

    Model = Path | str | FloatGraph | nn.Module
    Given = Path | str | Mapping[str, Any] | Iterable[Any]

CALIBRATION_SAMPLES = 1000
CALIBRATION_IMAGES = 5000
CALIBRATION_SEED = 0
MNIST_INPUT = "pixels"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A float network, and what it is known by."""

    graph: FloatGraph
    name: str
    """A file, or the type of a Python object."""
    sha256: str
    """Of the file; empty for a Python object."""


def read_source(
    model: Model,
    *,
    example: object = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Source:
    """The float network that a model is.

    Args:
        model: a checkpoint that `arraysmith train` wrote, an .onnx file, a torch module, or a
            graph.
        example: of a module's inputs, batch first: a tensor, or several.
        shapes: of the inputs of an .onnx file, where it leaves sizes open.

    Raises:
        InputFileError: a file that is none of these, or damaged.
        InvalidNetworkError: a module that cannot be exported; the operation is named.
    """
    if isinstance(model, FloatGraph):
        return Source(graph=model, name=model.name, sha256="")
    if isinstance(model, Path | str):
        path = Path(model)
        graph = _read_onnx(path, shapes) if path.suffix == ".onnx" else _read_checkpoint(path)
        return Source(graph=graph, name=str(path), sha256=sha256(read_bytes(path)))
    from arraysmith.learning.torch_import import from_torch

    if example is None:
        raise InvalidNetworkError(
            f"a {type(model).__name__} needs an example of its inputs, batch first: "
            "example=torch.zeros(1, 3, 224, 224)"
        )
    inputs = tuple(example) if isinstance(example, list | tuple) else (example,)
    name = type(model).__name__.lower()
    return Source(graph=from_torch(model, inputs, name=name), name=type(model).__name__, sha256="")


def _read_onnx(path: Path, shapes: Mapping[str, Sequence[int]] | None) -> FloatGraph:
    from arraysmith.formats.onnx_import import read_network

    return read_network(path, shapes)


def _read_checkpoint(path: Path) -> FloatGraph:
    """LeNet-5 as a graph over pixels."""
    import torch

    from arraysmith.learning.checkpoint import load
    from arraysmith.learning.mnist import MEAN, STD
    from arraysmith.learning.network import float_network
    from arraysmith.learning.pixels import with_pixels
    from arraysmith.learning.torch_import import from_torch

    loaded = load(path)
    network = float_network(loaded.spec, loaded.parameters)
    example = torch.zeros(1, *loaded.spec.input_shape)
    graph = from_torch(network, (example,), name=loaded.spec.name, input_names=(MNIST_INPUT,))
    return with_pixels(graph, MEAN, STD)


def model_of(run: RunFolder, given: Model | None) -> Model:
    """What was given, or the run's own checkpoint, or the shipped one."""
    if given is not None:
        return given
    return run.model("best") if run.model("best").exists() else SHIPPED_CHECKPOINT


def takes_mnist(inputs: tuple[Input, ...]) -> bool:
    """Whether a network reads the pixels of 28×28 grey images."""
    if len(inputs) != 1:
        return False
    from arraysmith.learning.pixels import PIXELS

    return inputs[0].shape == (1, 28, 28) and inputs[0].type == PIXELS


def calibration_samples(
    graph: FloatGraph, given: Given | None, count: int | None, data: Path | None
) -> Samples:
    """What a network is calibrated on: at most `count` of the samples given, evenly spread.

    A network that reads MNIST's pixels is calibrated on training images where none are given.
    """
    from arraysmith.learning import mnist

    if given is None and takes_mnist(graph.inputs):
        images = _calibration_images(mnist.load(data), count or CALIBRATION_IMAGES)
        return mnist_samples(graph, images)
    if given is None:
        names = ", ".join(f"{each.name} {(*each.shape,)}" for each in graph.inputs)
        raise InputFileError(
            f"network {graph.name!r} needs samples to calibrate on: --samples FOLDER, .npz or "
            f".npy (in Python samples=...), an array for each input: {names}"
        )
    samples = samples_of(graph.inputs, given).spread(count or CALIBRATION_SAMPLES)
    samples.check_variation()
    return samples


def samples_of(inputs: tuple[Input, ...], given: Given) -> Samples:
    """Samples from a path or from Python objects."""
    from arraysmith.quantization.samples import read_samples, samples_from

    if isinstance(given, Path | str):
        return read_samples(Path(given), inputs)
    return samples_from(given, inputs)


def as_pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, rows, columns) to (n, 1, rows, columns), the same numbers as reals."""
    return images[:, None].astype(np.float32)


def _calibration_images(dataset: Mnist, count: int) -> NDArray[np.uint8]:
    """A seeded draw from the images that were trained on."""
    from arraysmith.learning.training import VALIDATION_IMAGES

    trained = len(dataset.train_images) - VALIDATION_IMAGES
    if not 1 <= count <= trained:
        raise InvalidNetworkError(f"{count} calibration images: choose 1 to {trained:,}")
    drawn = np.random.default_rng(CALIBRATION_SEED).permutation(trained)[:count]
    return dataset.train_images[np.sort(drawn)]


def mnist_samples(graph: FloatGraph, images: NDArray[np.uint8]) -> Samples:
    """Images (n, 28, 28) as samples of a network that reads their pixels.

    Raises:
        InvalidNetworkError: it reads something else.
    """
    from arraysmith.quantization.samples import Samples

    if not takes_mnist(graph.inputs):
        raise InvalidNetworkError(f"network {graph.name!r} does not read the pixels of MNIST")
    return Samples(inputs=graph.inputs, arrays={graph.inputs[0].name: as_pixels(images)})


def quant_model(run: RunFolder) -> Path:
    """The integer network of a run.

    Raises:
        InputFileError: there is none yet.
    """
    path = run.model("quant")
    if not path.exists():
        raise InputFileError(f"{path}: not there; run `arraysmith quantize -o {run.path}` first")
    return path
