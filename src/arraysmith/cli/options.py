"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Verb = TypeVar("Verb", bound=Callable[..., Any])

output_option = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="runs/lenet5",
    show_default=True,
    help="Run folder to write into.",
)
data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=None,
    metavar="DIR",
    help="Folder of the MNIST files  [default: $ARRAYSMITH_DATA or the cache]",
)
model_argument = click.argument("model", type=click.Path(path_type=Path), required=False)
json_option = click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress bars.")
kind_option = click.option(
    "-i",
    "--input-type",
    type=click.Choice(["conv", "gemm"]),
    default="conv",
    show_default=True,
    help="What the rows of the topology are.",
)
topology_option = click.option(
    "-t", "--topology", type=click.Path(path_type=Path), help="SCALE-Sim topology file."
)


def _as_shapes(
    context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """`input=1,3,224,224`, each."""
    found = {}
    for text in given:
        name, _, sizes = text.rpartition("=")
        cells = sizes.split(",")
        if not name or not all(cell.isdecimal() and len(cell) < 20 for cell in cells):
            raise click.BadParameter(
                f"{text!r} is no shape; give NAME=SIZES, as in input=1,3,224,224",
                ctx=context,
                param=parameter,
            )
        if name in found:
            raise click.BadParameter(f"{name!r} has two shapes", ctx=context, param=parameter)
        found[name] = tuple(map(int, cells))
    return tuple(found.items())


shape_option = click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="NAME=SIZES",
    callback=_as_shapes,
    help="Shape of an input that an .onnx MODEL leaves open, as in input=1,3,224,224.",
)
bandwidth_option = click.option(
    "--bandwidth",
    type=float,
    default=None,
    help="DRAM words a cycle; what a design needs beyond it is marked.",
)


def workload_options(verb: Verb) -> Verb:
    """MODEL or a topology, and how it is read."""
    for option in (shape_option, kind_option, topology_option, model_argument):
        verb = option(verb)
    return verb


def buffer_option(operand: str) -> Callable[[Verb], Verb]:
    """--ifmap-kib, --filter-kib or --ofmap-kib."""
    default = 128 if operand == "filter" else 64
    return click.option(
        f"--{operand}-kib",
        type=int,
        default=None,
        help=f"KiB of the {operand} buffer  [default: {default}, or the config's]",
    )
