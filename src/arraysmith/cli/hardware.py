"""The verbs of the hardware wing: explore, report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arraysmith.cli.given import given_workload, run_folder_of, with_options
from arraysmith.cli.options import (
    bandwidth_option,
    buffer_option,
    json_option,
    kind_option,
    model_argument,
    output_option,
    quiet_option,
    topology_option,
)
from arraysmith.cli.physical_explore import explore_under_physical
from arraysmith.cli.physical_options import (
    PHYSICAL_OPTIONS,
    check_together,
    model_option,
    physical_options,
)
from arraysmith.cli.terminal import command_line, say, show_json, show_table
from arraysmith.reporting import tables

if TYPE_CHECKING:
    from arraysmith.workload import Workload


@click.command()
@model_option
@model_argument
@topology_option
@kind_option
@click.option(
    "--rows",
    "rows_text",
    default="1:64",
    show_default=True,
    metavar="A:B[:STEP]",
    help="Array heights: a range with both ends, or a list.",
)
@click.option(
    "--cols",
    "cols_text",
    default="1:64",
    show_default=True,
    metavar="A:B[:STEP]",
    help="Array widths.",
)
@click.option("--dataflow", default="os,ws,is", show_default=True)
@click.option("--max-pes", type=int, default=None, help="Limit on rows × cols.")
@click.option(
    "--objective",
    type=click.Choice(["cycles", "pe-cycles", "utilization"]),
    default="cycles",
    show_default=True,
)
@buffer_option("ifmap")
@buffer_option("filter")
@buffer_option("ofmap")
@bandwidth_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Run folder to write into; by default MODEL's own, else runs/<topology>.",
)
@json_option
@quiet_option
@physical_options
def explore(
    time_model: str,
    model: Path | None,
    topology: Path | None,
    input_type: str,
    rows_text: str,
    cols_text: str,
    dataflow: str,
    max_pes: int | None,
    objective: str,
    ifmap_kib: int | None,
    filter_kib: int | None,
    ofmap_kib: int | None,
    bandwidth: float | None,
    output: Path | None,
    *,
    as_json: bool,
    quiet: bool,
    **physical: Any,  # noqa: ANN401 (the options of the model physical)
) -> None:
    """The best array height, width and dataflow for a network, proven.

    Every design of the grid is computed under SCALE-Sim's CALC mode. Ties go to fewer cycles, then
    fewer PEs, then fewer rows, then os, ws, is. Without --max-pes the largest array simply wins.
    With --model physical each design's layers have their best mappings by cycles; designs are
    visited in the order of a bound until none of the others can be better. The grid must be small.

    \b
    Examples: arraysmith explore runs/lenet5 --rows 1:64 --cols 1:64 --max-pes 256
              arraysmith explore --model physical -t layers.csv --rows 8:32:8 --cols 8:32:8
    """
    check_together(time_model, {"physical": PHYSICAL_OPTIONS, "scalesim": ()})
    if time_model == "physical":
        if objective != "cycles":
            raise click.UsageError(f"--objective {objective} belongs to --model scalesim")
        workload = given_workload(
            model, topology, input_type, grouped=True, images=physical["batch"]
        )
        kib = {"ifmap_kib": ifmap_kib, "filter_kib": filter_kib, "ofmap_kib": ofmap_kib}
        explore_under_physical(
            workload,
            (rows_text, cols_text, max_pes),
            output or run_folder_of(model) or _folder_for(workload),
            physical | kib | {"bandwidth": bandwidth, "dataflow": dataflow},
            as_json=as_json,
            quiet=quiet,
        )
        return
    from arraysmith.flow import hardware
    from arraysmith.search.space import DesignSpace, Objective, parse_axis, parse_dataflows

    space = DesignSpace(
        rows=parse_axis(rows_text, "--rows"),
        cols=parse_axis(cols_text, "--cols"),
        dataflows=parse_dataflows(dataflow),
        max_pes=max_pes,
    )
    workload = given_workload(model, topology, input_type)
    accelerator = with_options(
        hardware.DEFAULT_ACCELERATOR, None, None, (ifmap_kib, filter_kib, ofmap_kib), bandwidth
    )
    if output is None:
        output = run_folder_of(model) or _folder_for(workload)
    facts = hardware.explore(
        workload,
        space,
        output,
        objective=Objective(objective),
        accelerator=accelerator,
        command=command_line(),
    )
    if as_json:
        show_json(
            {
                "model": facts.model,
                "workload": facts.workload,
                "objective": facts.objective,
                "best": facts.best,
                "designs": facts.designs,
                "covered": facts.covered,
                "proven_optimal": True,
                "ranking": facts.ranking,
                "best_per_dataflow": facts.best_per_dataflow,
                "front": facts.front,
                "seconds": facts.seconds,
            }
        )
        return
    show_table(tables.designs(f"Best designs by {facts.objective}", facts.ranking, facts))
    show_table(tables.designs("Best of each dataflow", facts.best_per_dataflow, facts))
    front = tables.designs("Pareto front", facts.front, facts, memory=False)
    show_table(tables.thinned(front, 20))
    say(tables.exploration_verdict(facts))
    say(f"All designs are in {output / hardware.DESIGNS_FILE}; figures and facts in {output}")


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
