"""The verbs of the hardware wing: simulate, explore."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arraysmith.cli.options import (
    bandwidth_option,
    buffer_option,
    json_option,
    kind_option,
    output_option,
    topology_option,
)
from arraysmith.cli.terminal import command_line, say, show_json, show_table
from arraysmith.reporting import tables

if TYPE_CHECKING:
    from arraysmith.formats.topology import Kind
    from arraysmith.hardware import Accelerator
    from arraysmith.workload import Workload

model_argument = click.argument("model", type=click.Path(path_type=Path), required=False)


@click.command()
@model_argument
@topology_option
@kind_option
@click.option("-c", "--config", type=click.Path(path_type=Path), help="SCALE-Sim config file.")
@click.option(
    "-p",
    "--path",
    "parent",
    type=click.Path(path_type=Path),
    help="Write results to PATH/<run_name>/.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write results into this run folder; by default MODEL's own.",
)
@click.option("--rows", type=int, default=None, help="Array height  [default: 16]")
@click.option("--cols", type=int, default=None, help="Array width  [default: 16]")
@click.option("--dataflow", default=None, help="os, ws, is or a list  [default: os,ws,is]")
@buffer_option("ifmap")
@buffer_option("filter")
@buffer_option("ofmap")
@bandwidth_option
@json_option
def simulate(
    model: Path | None,
    topology: Path | None,
    input_type: str,
    config: Path | None,
    parent: Path | None,
    output: Path | None,
    rows: int | None,
    cols: int | None,
    dataflow: str | None,
    ifmap_kib: int | None,
    filter_kib: int | None,
    ofmap_kib: int | None,
    bandwidth: float | None,
    *,
    as_json: bool,
) -> None:
    """Cycles, utilization and memory accesses of a network on an array.

    MODEL is a run folder, a quant_model.pth or an exported weight folder; or give a topology.
    Model of time: SCALE-Sim's CALC mode, equal to SCALE-Sim 3.0.0.

    \b
    Examples: arraysmith simulate runs/lenet5 --rows 8 --cols 8
              arraysmith simulate -c scale.cfg -t layers.csv -p results
    """
    from arraysmith.flow import hardware
    from arraysmith.formats.config import read_config
    from arraysmith.search.space import parse_dataflows
    from arraysmith.simulation.scalesim.columns import network_facts

    workload = _workload(model, topology, input_type)
    base, run_name = hardware.DEFAULT_ACCELERATOR, workload.name
    dataflows = parse_dataflows(dataflow or "os,ws,is")
    if config is not None:
        found = read_config(config)
        base, run_name = found.accelerator, found.run_name
        dataflows = (base.dataflow,) if dataflow is None else dataflows
    base = _with_options(base, rows, cols, (ifmap_kib, filter_kib, ofmap_kib), bandwidth)
    output = output or _run_folder(model)
    if parent is not None:
        output = hardware.output_folder(parent, run_name)
    results = hardware.simulate(
        workload,
        tuple(replace(base, dataflow=each) for each in dataflows),
        output,
        command=command_line(),
    )
    if as_json:
        show_json([network_facts(result) for result in results])
        return
    for result in results:
        show_table(tables.simulated_layers(result))
    show_table(tables.simulated_networks(results))
    if output is not None:
        say(f"Written to {output}")


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
    workload = _workload(model, topology, input_type)
    accelerator = _with_options(
        hardware.DEFAULT_ACCELERATOR, None, None, (ifmap_kib, filter_kib, ofmap_kib), bandwidth
    )
    if output is None:
        own = _run_folder(model)
        output = own or hardware.output_folder(Path("runs"), workload.name)
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


def _workload(model: Path | None, topology: Path | None, input_type: str) -> Workload:
    from arraysmith.flow.hardware import read_workload
    from arraysmith.formats.topology import read_topology

    kind: Kind = "gemm" if input_type == "gemm" else "conv"
    if model is not None and topology is None:
        return read_workload(model, kind)
    if topology is not None and model is None:
        return read_topology(topology, kind)
    raise click.UsageError("give either a MODEL or a topology with -t")


def _run_folder(model: Path | None) -> Path | None:
    """The model's own run folder, if it was given as one."""
    return model if model is not None and (model / "save_model").is_dir() else None


def _with_options(
    base: Accelerator,
    rows: int | None,
    cols: int | None,
    buffers: tuple[int | None, int | None, int | None],
    bandwidth: float | None,
) -> Accelerator:
    names = ("rows", "cols", "ifmap_buffer_kib", "filter_buffer_kib", "ofmap_buffer_kib")
    given = dict(zip(names, (rows, cols, *buffers), strict=True))
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(base, **changes, dram_words_per_cycle=bandwidth)


VERBS = (simulate, explore, report)
