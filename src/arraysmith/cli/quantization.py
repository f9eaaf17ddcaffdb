"""The verbs quantize, evaluate, verify and export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arraysmith.cli.options import (
    data_option,
    json_option,
    model_argument,
    output_option,
    quiet_option,
    shape_option,
)
from arraysmith.cli.terminal import command_line, progress_bars, say, show_json, show_table
from arraysmith.quantization.scheme import SCHEMES, Calibration, Scales
from arraysmith.reporting import quantization_tables, tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from arraysmith.cli.options import Verb
    from arraysmith.metrics import SchemeResult

samples_option = click.option(
    "--samples",
    type=click.Path(path_type=Path),
    default=None,
    help="Inputs: a folder of .npy files, an .npz or an .npy  [default: MNIST, where it fits]",
)
_CHOICES = (
    click.option(
        "--scheme",
        type=click.Choice(list(SCHEMES)),
        default="default",
        show_default=True,
        metavar="NAME",
        help=f"A named scheme: {', '.join(SCHEMES)}. The options below change single choices of "
        "it.",
    ),
    click.option(
        "--per-tensor/--per-channel",
        "per_tensor",
        default=None,
        help="One weight scale a tensor, or one an output channel.",
    ),
    click.option(
        "--symmetric/--asymmetric",
        "symmetric_weights",
        default=None,
        help="Weights with zero point 0, or with one of their own.",
    ),
    click.option(
        "--unsigned/--signed", "unsigned", default=None, help="uint8 or int8 activations."
    ),
    click.option(
        "--activation-bits", type=click.IntRange(4, 16), default=None, help="8 by default."
    ),
    click.option("--weight-bits", type=click.IntRange(4, 16), default=None, help="8 by default."),
    click.option(
        "--calibration",
        type=click.Choice([kind.value for kind in Calibration]),
        default=None,
        help="How activation ranges are chosen.",
    ),
    click.option("--percentile", type=float, default=None, help="For --calibration percentile."),
    click.option(
        "--multiplier-bits",
        type=click.IntRange(8, 31),
        default=None,
        help="Bits of the integer multiplier m.",
    ),
    click.option(
        "--fuse-pool/--separate-pool",
        "fuse_pool",
        default=None,
        help="Pool in the accumulator, or as a layer of its own.",
    ),
    click.option(
        "--bias-correction/--no-bias-correction",
        "bias_correction",
        default=None,
        help="Move biases until channel means are those of the float network.",
    ),
    click.option(
        "--equalize/--no-equalize",
        "equalize",
        default=None,
        help="Even out the weights of neighbouring layers first.",
    ),
    click.option(
        "--scales",
        type=click.Choice([kind.value for kind in Scales]),
        default=None,
        help="Any; activations on powers of two and weights on short multiples, for a QDQ model "
        "that gives the same integers; or shifts only, no multipliers.",
    ),
)


def _choices(verb: Verb) -> Verb:
    """The options that choose a scheme, in order."""
    for option in reversed(_CHOICES):
        verb = option(verb)
    return verb


@click.command()
@output_option
@model_argument
@samples_option
@shape_option
@data_option
@_choices
@click.option(
    "--overrides",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="TOML with other choices for single layers, as in [layer.conv1] weight_bits = 4.",
)
@click.option("--integer-only", is_flag=True, help="Refuse what would run in floats.")
@click.option(
    "--sensitivity", is_flag=True, help="Also find what the outputs lose by each layer alone."
)
@click.option(
    "--calibration-images",
    "--calibration-samples",
    type=click.IntRange(1),
    default=None,
    help="At most so many samples  [default: 5000 of MNIST, else 1000]",
)
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
    model: Path | None,
    samples: Path | None,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    data: Path | None,
    overrides: Path | None,
    calibration_images: int | None,
    compare_images: int,
    *,
    integer_only: bool,
    sensitivity: bool,
    compare_all: bool,
    as_json: bool,
    quiet: bool,
    **choices: Any,  # noqa: ANN401 (what the options of a scheme give)
) -> None:
    """Quantize a network to int8, integers only.

    MODEL is an .onnx file, or a checkpoint that `arraysmith train` wrote  [default: the run's own,
    or the shipped LeNet-5].

    \b
    Example: arraysmith quantize -o runs/lenet5
             arraysmith quantize model.onnx --samples images.npz -o runs/model
    """
    from arraysmith.flow.quantization import compare_schemes
    from arraysmith.flow.quantization import quantize as run_quantization
    from arraysmith.quantization.overrides import read_overrides

    progress = progress_bars(quiet=quiet)
    facts = run_quantization(
        output,
        model,
        _scheme(choices),
        samples=samples,
        shapes=dict(shapes),
        calibration_images=calibration_images,
        overrides=read_overrides(overrides) if overrides else (),
        integer_only=integer_only,
        sensitivity=sensitivity,
        data=data,
        command=command_line(),
        progress=progress,
    )
    results: tuple[SchemeResult, ...] = ()
    if compare_all:
        results = compare_schemes(
            output,
            model,
            data=data,
            training_images=compare_images,
            calibration_images=calibration_images,
            command=command_line(),
            progress=progress,
        )
    if as_json:
        show_json({"quantization": facts, "schemes": results} if compare_all else facts)
        return
    show_table(quantization_tables.quantized_layers(facts))
    if facts.sensitivity:
        show_table(quantization_tables.sensitivity(facts))
    if compare_all:
        show_table(tables.schemes(results))
    for island in facts.islands:
        say(f"Layer {island!r} runs in floats, for want of an integer form")
    say(f"Written to {output} in {facts.seconds:.1f} s")


def _scheme(choices: dict[str, Any]) -> Any:  # noqa: ANN401 (a Scheme, known at run time)
    """The named scheme with what was changed of it."""
    name = choices.pop("scheme")
    per_tensor, unsigned = choices.pop("per_tensor"), choices.pop("unsigned")
    changes = {key: value for key, value in choices.items() if value is not None}
    if per_tensor is not None:
        changes["per_channel"] = not per_tensor
    if unsigned is not None:
        changes["signed_activations"] = not unsigned
    kinds: dict[str, Callable[[str], object]] = {"calibration": Calibration, "scales": Scales}
    changes |= {key: kinds[key](changes[key]) for key in kinds if key in changes}
    if not changes:
        return SCHEMES[name]
    return replace(SCHEMES[name], name=f"{name}, changed", **changes)


@click.command()
@output_option
@samples_option
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="An .npy with the class of every sample.",
)
@data_option
@click.option(
    "--verify/--no-verify",
    default=True,
    show_default=True,
    help="On MNIST, also compare NumPy and torch on every integer of every layer.",
)
@json_option
@quiet_option
def evaluate(
    output: Path,
    samples: Path | None,
    labels: Path | None,
    data: Path | None,
    *,
    verify: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare float and int8: on MNIST's 10,000 test images, or on samples.

    \b
    Example: arraysmith evaluate -o runs/lenet5
             arraysmith evaluate -o runs/model --samples images.npz --labels classes.npy
    """
    from arraysmith.flow.evaluation import evaluate as run_evaluation

    progress = progress_bars(quiet=quiet)
    if samples is not None:
        found = run_evaluation(output, samples, labels, command=command_line(), progress=progress)
        if as_json:
            show_json(found)
            return
        show_table(quantization_tables.outputs(found))
        return
    if labels is not None:
        raise click.UsageError("--labels are of --samples; give both")
    facts = run_evaluation(
        output, data=data, verify=verify, command=command_line(), progress=progress
    )
    if as_json:
        show_json(facts)
        return
    show_table(tables.accuracy(facts))


@click.command()
@output_option
@samples_option
@click.option(
    "--count", type=click.IntRange(1), default=100, show_default=True, help="At most so many."
)
@data_option
@json_option
@quiet_option
def verify(
    output: Path,
    samples: Path | None,
    count: int,
    data: Path | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare all back ends on every integer of every layer.

    NumPy is the reference; torch, ONNX Runtime at every optimisation level and the text files read
    back are held to it. Without samples MNIST's test images are run where they fit, else random
    integers from the whole range of the inputs.

    \b
    Example: arraysmith verify -o runs/lenet5
    """
    from arraysmith.flow.verification import verify as run_verification

    facts = run_verification(
        output,
        samples,
        count=count,
        data=data,
        command=command_line(),
        progress=progress_bars(quiet=quiet),
    )
    if as_json:
        show_json(facts)
        return
    show_table(quantization_tables.verification(facts))


@click.command()
@output_option
@model_argument
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Where to write  [default: weight/ of the run folder]; with text it is replaced as a "
    "whole.",
)
@click.option(
    "--format",
    "formats",
    type=click.Choice(["text", "onnx", "qdq"]),
    multiple=True,
    default=("text",),
    show_default=True,
    help="Text, hex, C and safetensors; an ONNX model of integer operations; a QDQ model. May be "
    "given several times.",
)
@json_option
def export(
    output: Path,
    model: Path | None,
    folder: Path | None,
    formats: tuple[Any, ...],
    *,
    as_json: bool,
) -> None:
    """Write the int8 network as text, hex and C for hardware, and as ONNX for other tools.

    \b
    Example: arraysmith export -o runs/lenet5
             arraysmith export -o runs/lenet5 --format onnx --format qdq
    """
    from arraysmith.flow.exporting import export as run_export

    exported = run_export(output, model, folder, formats=formats)
    if as_json:
        show_json(exported)
        return
    if exported.files:
        say(
            f"{exported.files} files in {exported.folder}; the text reads back as the same integers"
        )
    for path in exported.models:
        say(f"Written: {path}")


VERBS = (quantize, evaluate, verify, export)
