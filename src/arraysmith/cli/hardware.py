"""The verbs of the hardware wing: explore, report."""

from __future__ import annotations

import re
from pathlib import Path

import click

from arraysmith.cli.given import given_workload, run_folder_of, with_options
from arraysmith.cli.options import (
    bandwidth_option,
    buffer_option,
    json_option,
    kind_option,
    model_argument,
    output_option,
    topology_option,
)
from arraysmith.cli.terminal import command_line, say, show_json, show_table
from arraysmith.reporting import tables


@click.command()
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
def explore(
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
) -> None:
    """The best array height, width and dataflow for a network, proven.

    Every design of the grid is computed under SCALE-Sim's CALC mode. Ties go to fewer cycles, then
    fewer PEs, then fewer rows, then os, ws, is. Without --max-pes the largest array simply wins.

    \b
    Example: arraysmith explore runs/lenet5 --rows 1:64 --cols 1:64 --max-pes 256
    """
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
        own = run_folder_of(model)
        output = own or Path("runs") / (re.sub(r"\W+", "_", workload.name) or "exploration")
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
