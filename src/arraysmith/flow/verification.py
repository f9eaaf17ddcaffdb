"""The verb `verify`: one input set through every back end, compared integer by integer."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.errors import InputFileError, InvalidNetworkError
from arraysmith.flow.back_ends import back_ends, torch_back_end
from arraysmith.flow.sources import as_pixels, quant_model, samples_of, takes_mnist
from arraysmith.metrics import Verification
from arraysmith.progress import silent
from arraysmith.store import RunFolder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.flow.sources import Given
    from arraysmith.progress import Progress
    from arraysmith.quantization.network import IntegerNetwork
    from arraysmith.quantization.samples import Samples

SAMPLES = 100


def verify(
    output: Path,
    samples: Given | None = None,
    *,
    count: int = SAMPLES,
    data: Path | None = None,
    command: str = "arraysmith.verify()",
    progress: Progress = silent,
) -> Verification:
    """Compare every back end that is there with the NumPy reference, on raw integers.

    That is torch, ONNX Runtime at every optimisation level, the QDQ model where it is proven to be
    exact, and the text files read back. Writes the verification section of metrics.json.

    Args:
        output: the run folder that `quantize` wrote.
        samples: as in `quantize`; by default MNIST's test images for a network of its pixels, else
            random integers from the whole range of the inputs.
        count: how many samples, at most.
        data: the folder of MNIST.
        command: what to record as the origin.
        progress: shows samples.

    Raises:
        InvalidNetworkError: a back end gives another integer; it, the first layer and the index
            are named.
        InputFileError: the run's text files are damaged, or of another network.
    """
    from arraysmith.quantization import model_file
    from arraysmith.quantization.export import MANIFEST
    from arraysmith.quantization.export import export as export_network
    from arraysmith.quantization.verifying import REFERENCE, verify_back_ends

    run = RunFolder(output)
    network = model_file.load(quant_model(run))
    given, inputs = _inputs(network, samples, count, data)
    with tempfile.TemporaryDirectory() as folder:
        text = run.weight_folder
        if (text / MANIFEST).exists():
            _check_same(text, network, run)
        else:
            text = Path(folder) / "weight"
            export_network(network, text)
        found, absent = verify_back_ends(network, inputs, back_ends(network, text), progress)
    facts = Verification(
        network=network.name,
        samples=len(next(iter(inputs.values()))),
        given=given,
        reference=REFERENCE,
        back_ends=found,
        absent=absent,
    )
    run.record("verification", facts, command)
    for each in found:
        if each.different:
            raise InvalidNetworkError(
                f"{each.name} differs in {each.different:,} of {each.integers:,} integers, first "
                f"in {each.first_difference}"
            )
    return facts


def _check_same(folder: Path, network: IntegerNetwork, run: RunFolder) -> None:
    """Refuse the export of an earlier network: it would differ, and be no fault of the files."""
    from arraysmith.quantization.export import read_export
    from arraysmith.quantization.parts import take_apart

    (structure, numbers), (found, read) = take_apart(network), take_apart(read_export(folder))
    if structure != found or any(
        not np.array_equal(array, read[name]) for name, array in numbers.items()
    ):
        raise InputFileError(
            f"{folder}: an export of another network than {run.model('quant')}; run "
            f"`arraysmith export -o {run.path}` again"
        )


def compare_torch(
    network: IntegerNetwork, samples: Samples, progress: Progress = silent
) -> tuple[int, int]:
    """NumPy against torch alone: integers compared, over all layers, and different."""
    from arraysmith.quantization.int8 import quantize_inputs
    from arraysmith.quantization.verifying import verify_back_ends

    inputs = quantize_inputs(network, samples.arrays)
    found, _ = verify_back_ends(network, inputs, (torch_back_end(network),), progress)
    return found[0].integers, found[0].different


def _inputs(
    network: IntegerNetwork, given: Given | None, count: int, data: Path | None
) -> tuple[str, dict[str, NDArray[Any]]]:
    """What is run, and where it is from."""
    from arraysmith.learning import mnist
    from arraysmith.quantization.int8 import quantize_inputs
    from arraysmith.quantization.verifying import random_inputs

    if given is None and takes_mnist(network.inputs):
        images = as_pixels(mnist.load(data).test_images[:count])
        name = network.inputs[0].name
        return "MNIST's test images", quantize_inputs(network, {name: images})
    if given is None:
        return "random integers", random_inputs(network, count)
    samples = samples_of(network.inputs, given).spread(count)
    return "given samples", quantize_inputs(network, samples.arrays)
