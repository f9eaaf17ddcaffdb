"""The verb that shows everything: demo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from arraysmith.cli.options import data_option, json_option, output_option, quiet_option
from arraysmith.cli.terminal import command_line, progress_bars, say, show_json, show_table
from arraysmith.reporting import (
    exploration_tables,
    physical_tables,
    quantization_tables,
    tables,
)

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@output_option
@data_option
@click.option("--train", is_flag=True, help="Train instead of using the shipped checkpoint.")
@json_option
@quiet_option
def demo(output: Path, data: Path | None, *, train: bool, as_json: bool, quiet: bool) -> None:
    """The whole flow on LeNet-5 and MNIST: int8, cycles, the best array, a report.

    \b
    Example: arraysmith demo -o runs/lenet5
    """
    from arraysmith.flow.demo import demo as run_demo

    found = run_demo(
        output, train=train, data=data, command=command_line(), progress=progress_bars(quiet=quiet)
    )
    if as_json:
        show_json(found)
        return
    show_table(tables.accuracy(found.evaluation))
    show_table(quantization_tables.quantized_layers(found.quantization))
    show_table(tables.schemes(found.schemes))
    show_table(tables.simulated_networks(found.simulation))
    show_table(
        exploration_tables.designs(
            f"Best designs by {found.exploration.objectives[0]}",
            found.exploration.ranking,
            found.exploration,
        )
    )
    show_table(physical_tables.networks([each.metrics for each in found.mapped]))
    show_table(tables.results(found.evaluation, found.quantization, found.exploration))
    say(f"{found.exported.files} files for hardware in {found.exported.folder}")
    say(f"Report: {found.report_path}")


VERBS = (demo,)
