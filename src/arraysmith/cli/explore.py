"""The verbs of the hardware wing: explore, report."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from arraysmith.cli.given import given_workload, run_folder_of
from arraysmith.cli.options import (
    json_option,
    output_option,
    quiet_option,
    workload_options,
)
from arraysmith.cli.physical_options import check_together, model_option, ports_and_technology
from arraysmith.cli.space_options import asked_for, space_options
from arraysmith.cli.terminal import command_line, progress_bars, say, show_json, show_table

if TYPE_CHECKING:
    from arraysmith.flow.explored import Exploration
    from arraysmith.workload import Workload

SHOWN = 20
"""Designs of a front in a terminal."""
_PHYSICAL = (
    "map_for",
    "max_power_w",
    "ifmap_port",
    "filter_port",
    "ofmap_port",
    "output_bytes",
    "whole_buffers",
    "batch",
    "operand_bytes",
)
"""Options that mean nothing to scalesim."""


@click.command()
@model_option
@workload_options
@space_options
@ports_and_technology
@click.option(
    "--microarchitecture",
    metavar="LIST",
    default=None,
    help="How the array is built, in place of --dataflow: os-bus, os-shift, os-overlapped, "
    "ws-serial, ws-double-buffered, is-serial, is-double-buffered; + joins what one array can do.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Run folder to write into; by default MODEL's own, else runs/<topology>.",
)
@click.option(
    "--figures",
    type=click.Choice(["png", "svg", "pdf"]),
    default="png",
    show_default=True,
    help="What the figures are.",
)
@json_option
@quiet_option
def explore(
    model: Path | None,
    topology: Path | None,
    input_type: str,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    output: Path | None,
    figures: str,
    *,
    as_json: bool,
    quiet: bool,
    **given: Any,  # noqa: ANN401 (the options of the space)
) -> None:
    """The best accelerator for a network, or the Pareto front of several objectives.

    Exhaustively the answer is proven: designs are visited in the order of a bound until none of the
    others can be better. Under SCALE-Sim's CALC mode every design is computed. Ties go to fewer
    cycles, then fewer PEs, then fewer rows, then the order of the space. Under --model physical
    each layer has its best mapping. Where a space is too large, --search genetic finds good
    designs, and says how far from the optimum they can be.

    \b
    Examples: arraysmith explore runs/lenet5 --rows 1:64 --cols 1:64 --max-pes 256
              arraysmith explore -t layers.csv --model physical --objective cycles,area \\
                  --rows 8:64:8 --cols 8:64:8 --ifmap-kib 32,64,128 --max-area-mm2 4
              arraysmith explore -t layers.csv --space space.toml --search genetic --budget 2000
    """
    from arraysmith.flow.exploration import explore as run
    from arraysmith.flow.lasting import Lasting

    context = click.get_current_context()
    if given["microarchitecture"] is not None:
        if context.get_parameter_source("arrays") is ParameterSource.COMMANDLINE:
            raise click.UsageError("give either --dataflow or --microarchitecture")
        given["arrays"] = given["microarchitecture"]
    space, question = asked_for(given)
    physical = question["model"] == "physical"
    calc = not physical and question["mode"] == "calc"
    check_together(question["model"], {"physical": _PHYSICAL, "scalesim": ("mode",)})
    if calc and given["dram_bytes_per_cycle"] is not None:
        raise click.UsageError(
            "--bandwidth changes nothing in CALC mode, which never stalls; give --mode user or "
            "--model physical"
        )
    workload = given_workload(
        model,
        topology,
        input_type,
        grouped=physical,
        images=given["batch"] if physical else 1,
        shapes=shapes,
    )
    folder = output or run_folder_of(model) or _folder_for(workload)
    found = run(
        workload,
        space,
        folder,
        **question,
        **_of_hardware(given),
        lasting=Lasting(
            jobs=(os.cpu_count() or 1) if given["jobs"] is None else given["jobs"],
            cluster=given["cluster"],
            resume=given["resume"],
            restart=given["restart"],
        ),
        figures=figures,
        progress=progress_bars(quiet=quiet),
        command=command_line(),
    )
    if as_json:
        show_json(_as_json(found))
    else:
        _show(found, folder)


def _of_hardware(given: dict[str, Any]) -> dict[str, Any]:
    """Ports, output words and technology."""
    from dataclasses import replace

    from arraysmith.cli.physical_options import technology_of
    from arraysmith.flow.question import PORTS

    base = replace(
        PORTS,
        ifmap_port_bytes=given["ifmap_port"],
        filter_port_bytes=given["filter_port"],
        ofmap_port_bytes=given["ofmap_port"],
        output_bytes=given["output_bytes"],
        double_buffered=not given["whole_buffers"],
    )
    return {"base": base, "technology": technology_of(given)}


def _as_json(found: Exploration) -> dict[str, Any]:
    facts = found.facts
    names = (
        "model", "workload", "technology", "clock_mhz", "objectives", "map_for", "search", "seed",
        "budget", "best", "designs", "covered", "evaluated", "ruled_out", "gap", "stopped",
        "ranking", "best_per_dataflow", "front", "front_size", "constraints", "seconds",
    )  # fmt: skip
    shown = {name: getattr(facts, name) for name in names}
    return {**shown, "objective": facts.objectives[0], "proven_optimal": facts.proven}


def _show(found: Exploration, folder: Path) -> None:
    from arraysmith.flow.explored_files import DESIGNS_FILE
    from arraysmith.reporting import exploration_tables as tables
    from arraysmith.reporting.tables import thinned

    facts = found.facts
    if len(facts.objectives) == 1:
        show_table(tables.designs(f"Best designs by {facts.objectives[0]}", facts.ranking, facts))
        if len(facts.best_per_dataflow) > 1:
            show_table(tables.designs("First of each kind", facts.best_per_dataflow, facts))
    else:
        show_table(thinned(tables.front(facts), SHOWN))
    say(tables.verdict(facts))
    say(f"All evaluated designs are in {folder / DESIGNS_FILE}; figures and facts in {folder}")


def _folder_for(workload: Workload) -> Path:
    return Path("runs") / (re.sub(r"\W+", "_", workload.name) or "exploration")


@click.command()
@output_option
@click.argument("run", type=click.Path(path_type=Path), required=False)
def report(output: Path, run: Path | None) -> None:
    """Make report.html from what a run folder recorded.

    \b
    Example: arraysmith report runs/lenet5
    """
    from arraysmith.flow.report import report as make_report

    say(f"Report: {make_report(run or output)}")


VERBS = (explore, report)
