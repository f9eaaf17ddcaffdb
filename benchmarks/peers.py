"""Our quantization beside ONNX Runtime's and torchao's: `python benchmarks/peers.py`.

Three networks, each calibrated on the same 1,000 samples by every tool and tested on the same
others. Everything runs in one process, in one thread on one core, so that CPU seconds can be
compared. What is not installed, or cannot be done with a network, is left out and the reason
printed.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import platform
import tempfile
import time
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import torch
from labelled_networks import (
    CLASSIFIER,
    CREPE,
    TEXT_SHAPE,
    crepe_tiny,
    fetched,
    pitch_accuracy,
    text_lines,
    tones,
)
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from arraysmith.errors import DataUnavailableError, InvalidNetworkError
from arraysmith.flow.learning import SHIPPED_CHECKPOINT
from arraysmith.formats.onnx_import import read_network
from arraysmith.learning import checkpoint, mnist
from arraysmith.learning.network import float_network
from arraysmith.learning.torch_import import from_torch
from arraysmith.learning.training import normalised
from arraysmith.metrics import sqnr_db
from arraysmith.quantization.assessment import integer_outputs
from arraysmith.quantization.calibration import tensors_of
from arraysmith.quantization.int8 import quantize_inputs
from arraysmith.quantization.modules import QuantNetwork
from arraysmith.quantization.onnx_integer import integer_model
from arraysmith.quantization.onnx_session import session
from arraysmith.quantization.quantize import quantize
from arraysmith.quantization.samples import Samples
from arraysmith.quantization.scheme import SCHEMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from arraysmith.networks.graph import FloatGraph
    from arraysmith.quantization.network import IntegerNetwork

    Array = NDArray[Any]
    Run = Callable[[Array], Array]

CALIBRATION_SAMPLES, TEST_SAMPLES = 1000, 1000
CALIBRATION_SEED, TEST_SEED = 1, 0
BATCH = 50
"""Samples that a tool is given at a time, where it asks."""
SCHEMES_SHOWN = ("default", "equalized", "mse", "percentile", "pow2")
ROUNDS = 9
MOST_KEPT_BYTES = 1 << 31
"""ONNX Runtime's percentile keeps every tensor of all calibration samples."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A network, and labelled inputs for it."""

    name: str
    module: nn.Module | None
    """Of torch; None where the network is an ONNX file."""
    file: Path | None
    calibration: Array
    inputs: Array
    accuracy: Callable[[Array], float]
    """Of outputs for `inputs`."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A network that a tool quantized."""

    run: Run
    bytes: int | None
    """Of the ONNX file."""
    integers: IntegerNetwork | None = None


def tasks() -> Iterator[Task]:
    """All networks whose data can be had."""
    yield lenet5()
    try:
        yield crepe()
        yield classifier()
    except DataUnavailableError as error:
        print(f"left out: {error}\n")


def lenet5() -> Task:
    """The shipped checkpoint on MNIST's test images."""
    loaded = checkpoint.load(SHIPPED_CHECKPOINT)
    data = mnist.load()
    return Task(
        name="LeNet-5",
        module=float_network(loaded.spec, loaded.parameters).eval(),
        file=None,
        calibration=normalised(data.train_images[:CALIBRATION_SAMPLES]).numpy(),
        inputs=normalised(data.test_images).numpy(),
        accuracy=lambda y: float((y.argmax(1) == data.test_labels).mean()),
    )


def crepe() -> Task:
    """CREPE-tiny on tones."""
    inputs, cents = tones(TEST_SAMPLES, TEST_SEED)
    return Task(
        name="CREPE-tiny",
        module=crepe_tiny(fetched(CREPE)),
        file=None,
        calibration=tones(CALIBRATION_SAMPLES, CALIBRATION_SEED)[0],
        inputs=inputs,
        accuracy=lambda y: pitch_accuracy(y, cents),
    )


def classifier() -> Task:
    """The text-angle classifier on lines of text."""
    inputs, labels = text_lines(TEST_SAMPLES, TEST_SEED)
    return Task(
        name="text-angle classifier",
        module=None,
        file=fetched(CLASSIFIER),
        calibration=text_lines(CALIBRATION_SAMPLES, CALIBRATION_SEED)[0],
        inputs=inputs,
        accuracy=lambda y: float((y.argmax(1) == labels).mean()),
    )


def warming() -> Task:
    """A small one: what a tool loads when it is first used is not part of its time."""
    inputs = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    return Task(
        name="warming",
        module=nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval(),
        file=None,
        calibration=inputs,
        inputs=inputs,
        accuracy=lambda _: 0.0,
    )


def in_batches(run: Run, inputs: Array) -> Array:
    """Outputs of all inputs, some at a time."""
    parts = [run(inputs[i : i + BATCH]) for i in range(0, len(inputs), BATCH)]
    return np.concatenate(parts)


def imported(task: Task) -> FloatGraph:
    """The network as we read it."""
    if task.module is not None:
        return from_torch(task.module, (torch.from_numpy(task.inputs[:2]),), name="network")
    assert task.file is not None  # noqa: S101 (one of the two)
    return read_network(task.file, {"x": (1, *TEXT_SHAPE)})


def ours(task: Task, scheme: str) -> Made:
    """Import, calibration, bias correction."""
    graph = imported(task)
    name = graph.inputs[0].name
    samples = Samples(inputs=graph.inputs, arrays={name: task.calibration})
    network = quantize(graph, samples, SCHEMES[scheme]).network

    def run(inputs: Array) -> Array:
        given = Samples(inputs=graph.inputs, arrays={name: inputs})
        return next(iter(integer_outputs(network, given).values()))

    return Made(run=run, bytes=None, integers=network)


def onnx_file(task: Task, folder: Path) -> Path:
    """The network as ONNX Runtime's quantizer takes it: operation set 17, an open batch."""
    path = folder / "float.onnx"
    if task.module is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                task.module,
                (torch.from_numpy(task.inputs[:2]),),
                str(path),
                dynamo=False,
                opset_version=17,
                input_names=["x"],
                output_names=["y"],
                dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
            )
        return path
    model = onnx.version_converter.convert_version(onnx.load(str(task.file)), 17)
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    sizes[0].dim_param = "batch"
    for size, number in zip(islice(sizes, 1, None), TEXT_SHAPE, strict=True):
        size.dim_value = number
    onnx.save(model, str(path))
    return path


class Reader(CalibrationDataReader):  # type: ignore[misc]  # it has no types
    """Batches of the calibration samples, by the name of the input."""

    def __init__(self, name: str, inputs: Array) -> None:
        """From the first."""
        self.left = ({name: inputs[i : i + BATCH]} for i in range(0, len(inputs), BATCH))

    def get_next(self) -> dict[str, Array] | None:
        """The next, or None behind the last."""
        return next(self.left, None)


def onnx_runtime(task: Task, method: CalibrationMethod) -> Made:
    """Export, its own pre-processing, calibration; QDQ, per channel, its default types."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = onnx_file(task, folder)
        given = onnx.load(str(path), load_external_data=False).graph.input[0].name
        ready, made = folder / "ready.onnx", folder / "quantized.onnx"
        # Its symbolic shape inference fails on the classifier.
        quant_pre_process(path, ready, skip_symbolic_shape=task.module is None)
        with contextlib.redirect_stdout(None):  # it prints
            quantize_static(
                ready,
                made,
                Reader(given, task.calibration),
                per_channel=True,
                calibrate_method=method,
            )
        return Made(run=in_session(made), bytes=made.stat().st_size)


def in_session(path: Path) -> Run:
    """An ONNX file in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    loaded = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = loaded.get_inputs()[0].name

    def run(inputs: Array) -> Array:
        found: Array = loaded.run(None, {given: inputs})[0]
        return found

    return run


def torchao(task: Task) -> Made:
    """Its PT2E quantization with the quantizer for x86; the result still computes in floats."""
    try:
        from torchao.quantization.pt2e.quantize_pt2e import (  # type: ignore[import-not-found]  # noqa: PLC0415
            convert_pt2e,
            prepare_pt2e,
        )
        from torchao.quantization.pt2e.quantizer import (  # type: ignore[import-not-found]  # noqa: PLC0415
            x86_inductor_quantizer as x86,
        )
    except ModuleNotFoundError as error:
        raise DataUnavailableError("torchao is not installed") from error
    if task.module is None:
        raise DataUnavailableError("torchao takes torch modules, and this is an ONNX file")
    shapes = ({0: torch.export.Dim("batch")},)
    example = (torch.from_numpy(task.inputs[:4]),)
    program = torch.export.export(task.module, example, dynamic_shapes=shapes).module()
    chosen = x86.X86InductorQuantizer()
    chosen.set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(program, chosen)
    with torch.inference_mode():
        for batch in torch.from_numpy(task.calibration).split(BATCH):
            prepared(batch)
    return Made(run=in_torch(convert_pt2e(prepared)), bytes=None)


def in_torch(module: Callable[[torch.Tensor], torch.Tensor]) -> Run:
    """A torch module of floats."""

    @torch.inference_mode()
    def run(inputs: Array) -> Array:
        found: Array = module(torch.from_numpy(inputs)).numpy()
        return found

    return run


def tools() -> dict[str, Callable[[Task], Made]]:
    """By the name of the row."""

    def percentile(task: Task) -> Made:
        kept = sum(map(prod, imported(task).shapes.values())) * 4 * len(task.calibration)
        if kept > MOST_KEPT_BYTES:
            raise DataUnavailableError(
                f"it keeps every tensor of all samples at once, here {kept / 1e9:.0f} GB"
            )
        return onnx_runtime(task, CalibrationMethod.Percentile)

    def by(scheme: str) -> Callable[[Task], Made]:
        return lambda task: ours(task, scheme)

    return {
        **{f"Arraysmith, {scheme}": by(scheme) for scheme in SCHEMES_SHOWN},
        "ONNX Runtime, MinMax": lambda task: onnx_runtime(task, CalibrationMethod.MinMax),
        "ONNX Runtime, Percentile": percentile,
        "torchao, PT2E for x86": torchao,
    }


def float_run(task: Task) -> tuple[Run, int]:
    """The float network in the runtime it comes from, and the bytes of its ONNX file."""
    with tempfile.TemporaryDirectory() as name:
        path = onnx_file(task, Path(name))
        size = path.stat().st_size
        if task.module is not None:
            return in_torch(task.module), size
        return in_session(path), size


def compare(task: Task) -> IntegerNetwork | None:
    """Print a row a tool; returns our network of the default scheme."""
    run, size = float_run(task)
    real = in_batches(run, task.inputs).astype(np.float64)
    print(f"| {task.name} | float32 | {task.accuracy(real):.2%} | | | | | {size / 1e3:,.0f} |")
    kept = None
    for name, tool in tools().items():
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            made = tool(task)
        except (DataUnavailableError, InvalidNetworkError) as error:
            print(f"| | {name} | – | | | | | {error} |", flush=True)
            continue
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        found = in_batches(made.run, task.inputs).astype(np.float64)
        changed = int((found.argmax(1) != real.argmax(1)).sum())
        sqnr = sqnr_db(float((real**2).sum()), float(((real - found) ** 2).sum()))
        held = made.bytes
        if made.integers is not None:
            held = integer_model(made.integers).ByteSize()
            kept = kept or made.integers
        print(
            f"| | {name} | {task.accuracy(found):.2%} | {changed:,} of {len(found):,} "
            f"| {sqnr or 0:.1f} | {wall:.1f} | {cpu:.1f} "
            f"| {f'{held / 1e3:,.0f}' if held else '–'} |",
            flush=True,
        )
    return kept


def rates(rows: dict[str, tuple[Run, Array]]) -> dict[str, float]:
    """Samples a CPU second: the fastest of several rounds, in each of which every engine runs."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(ROUNDS):
        for name, (run, inputs) in rows.items():
            start = time.process_time()
            in_batches(run, inputs)
            seconds[name].append((time.process_time() - start) / len(inputs))
    return {name: 1 / min(times) for name, times in seconds.items()}


def inference(task: Task, network: IntegerNetwork) -> None:
    """Print a row an engine: how fast each runs the network."""
    graph = imported(task)
    given = graph.inputs[0].name
    inputs = task.inputs[: 4 * BATCH]
    if task.module is None:
        from arraysmith.learning import float_graph  # noqa: PLC0415

        floats = in_torch(lambda x: next(iter(float_graph.run(graph, {given: x}).values())))
    else:
        floats = in_torch(task.module)
    module = QuantNetwork(network)
    integers = quantize_inputs(network, {given: inputs})[given]
    in_onnx = session(integer_model(network), "all")

    @torch.inference_mode()
    def engine(q: Array) -> Array:
        found: Array = next(iter(module(tensors_of({given: q})).values())).numpy()
        return found

    with tempfile.TemporaryDirectory() as name:
        float_session = in_session(onnx_file(task, Path(name)))
    quantized = onnx_runtime(task, CalibrationMethod.MinMax)
    rows: dict[str, tuple[Run, Array]] = {
        "float32, torch": (floats, inputs),
        "our integers, torch": (engine, integers),
        "our integers, ONNX Runtime": (
            lambda q: next(iter(in_onnx({given: q}).values())),
            integers,
        ),
        "float32, ONNX Runtime": (float_session, inputs),
        "ONNX Runtime's own QDQ": (quantized.run, inputs),
    }
    measured = rates(rows)
    base = measured["float32, torch"]
    for place, (name, found) in enumerate(measured.items()):
        shown = "" if place else task.name
        print(f"| {shown} | {name} | {found:,.0f} | {found / base:.2f} |", flush=True)


def on_one_core() -> None:
    """This process and every thread that it will start; ONNX Runtime's quantizer offers no way."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    original = onnxruntime.SessionOptions

    def single() -> Any:  # noqa: ANN401 (it has no types)
        options = original()
        options.intra_op_num_threads = 1
        return options

    onnxruntime.SessionOptions = single


def main() -> None:
    """Print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", help="only networks whose names hold this")
    wanted = (parser.parse_args().network or "").lower()
    on_one_core()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")  # of the other tools, about themselves
    for tool in tools().values():
        try:
            tool(warming())
        except DataUnavailableError:
            continue
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", "numpy"))
    print(f"Python {platform.python_version()}, {packages}; one thread;")
    print(f"{CALIBRATION_SAMPLES:,} calibration samples; load {os.getloadavg()[0]:.1f}.\n")
    print("| network | quantized by | accuracy | changed | SQNR, dB | wall, s | CPU, s | kB |")
    print("|---|---|---|---|---|---|---|---|")
    networks = [(task, compare(task)) for task in tasks() if wanted in task.name.lower()]
    print("\n| network | run by | samples a CPU second | of torch float32 |\n|---|---|---|---|")
    for task, network in networks:
        if network is not None:
            inference(task, network)


if __name__ == "__main__":
    main()
