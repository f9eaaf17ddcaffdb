"""The verb simulate, which takes SCALE-Sim's own files and flags too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arraysmith.cli.given import given_workload, run_folder_of, with_options
from arraysmith.cli.options import (
    bandwidth_option,
    buffer_option,
    json_option,
    quiet_option,
    workload_options,
)
from arraysmith.cli.physical import simulate_under_physical
from arraysmith.cli.physical_options import (
    DEFAULT_BANDWIDTH,
    PHYSICAL_OPTIONS,
    check_together,
    model_option,
    physical_options,
)
from arraysmith.cli.terminal import command_line, progress_bars, say, show_json, show_table
from arraysmith.errors import InvalidHardwareError, InvalidWorkloadError
from arraysmith.reporting import tables

if TYPE_CHECKING:
    from arraysmith.hardware import Accelerator
    from arraysmith.performance import NetworkMetrics
    from arraysmith.physical_performance import ModelsCompared
    from arraysmith.simulation.scalesim.quirks import Quirk
    from arraysmith.workload import Workload

_BELONGS = {
    "scalesim": ("parent", "layout", "save_traces", "trace_format", "explain"),
    "physical": (*PHYSICAL_OPTIONS, "mapping"),
}
"""Options that mean nothing to the other model."""


@click.command()
@model_option
@workload_options
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
@click.option(
    "-l",
    "--layout",
    type=click.Path(path_type=Path),
    help="Taken for SCALE-Sim's sake; it reads none either.",
)
@click.option(
    "-s",
    "--save-traces",
    type=click.Choice(["Y", "N"]),
    default="N",
    show_default=True,
    help="With -p: write the traces of every layer too. They are large.",
)
@click.option(
    "--trace-format", type=click.Choice(["csv", "parquet"]), default="csv", show_default=True
)
@click.option(
    "--explain",
    is_flag=True,
    help="Name SCALE-Sim's quirks beside what is right, and set the model physical beside it.",
)
@click.option(
    "--mapping",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Mappings of the layers, as `map -o` writes them  [default: the best by cycles]",
)
@physical_options
@click.option("--rows", type=int, default=None, help="Array height  [default: 16, or the config's]")
@click.option("--cols", type=int, default=None, help="Array width  [default: 16, or the config's]")
@click.option(
    "--dataflow", default=None, help="os, ws, is or a list  [default: os,ws,is, or the config's]"
)
@buffer_option("ifmap")
@buffer_option("filter")
@buffer_option("ofmap")
@bandwidth_option
@json_option
@quiet_option
def simulate(
    time_model: str,
    model: Path | None,
    topology: Path | None,
    input_type: str,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    config: Path | None,
    parent: Path | None,
    output: Path | None,
    layout: Path | None,
    save_traces: str,
    trace_format: str,
    rows: int | None,
    cols: int | None,
    dataflow: str | None,
    ifmap_kib: int | None,
    filter_kib: int | None,
    ofmap_kib: int | None,
    bandwidth: float | None,
    *,
    explain: bool,
    as_json: bool,
    quiet: bool,
    **physical: Any,  # noqa: ANN401 (the options of the model physical)
) -> None:
    """Cycles, utilization and memory accesses of a network on an array.

    MODEL is a run folder, a quant_model.pth, an exported weight folder or an .onnx file; or give a
    topology.
    Model of time: SCALE-Sim 3.0.0, CALC or USER mode, equal to the last digit. With -c and -p it
    writes SCALE-Sim's own report files, byte for byte, into PATH/<run_name>/. With --model physical
    it is the array itself with its memories, each layer under its best mapping or a given one; the
    bandwidth is then in bytes a cycle, 16 unless given.

    \b
    Examples: arraysmith simulate runs/lenet5 --rows 8 --cols 8
              arraysmith simulate -c scale.cfg -t layers.csv -p results
              arraysmith simulate --model physical -t layers.csv --mapping run/mappings.json
    """
    check_together(time_model, _BELONGS)
    is_physical = time_model == "physical"
    images = physical["batch"] if is_physical else 1
    workload = given_workload(
        model, topology, input_type, grouped=is_physical, images=images, shapes=shapes
    )
    if is_physical:
        sizes = {"rows": rows, "cols": cols, "ifmap_kib": ifmap_kib, "filter_kib": filter_kib}
        physical |= {**sizes, "ofmap_kib": ofmap_kib, "bandwidth": bandwidth, "dataflow": dataflow}
        simulate_under_physical(
            workload, config, output or run_folder_of(model), physical, as_json=as_json, quiet=quiet
        )
        return
    from arraysmith.flow import hardware
    from arraysmith.formats.config import read_config

    del layout  # SCALE-Sim opens it and reads nothing from it
    found = None if config is None else read_config(config)
    base = hardware.DEFAULT_ACCELERATOR if found is None else found.accelerator
    base = with_options(base, rows, cols, (ifmap_kib, filter_kib, ofmap_kib), bandwidth)
    given = "os,ws,is" if found is None else base.dataflow.value
    accelerators = _under_each(base, dataflow or given)
    bandwidths = None if found is None else found.bandwidths
    progress = progress_bars(quiet=quiet)
    if parent is None:
        if save_traces == "Y":
            raise click.UsageError("-s Y writes traces beside the reports of -p; give -c and -p")
        written = output or run_folder_of(model)
        results = hardware.simulate(
            workload,
            accelerators,
            written,
            bandwidths=bandwidths,
            command=command_line(),
            progress=progress,
        )
    else:
        if found is None or len(accelerators) != 1 or output is not None:
            raise click.UsageError("-p writes the reports of one config: give -c, no -o, one array")
        written = hardware.output_folder(parent, found.run_name)
        result = hardware.simulate_like_scalesim(
            workload,
            replace(found, accelerator=accelerators[0]),
            parent,
            traces=trace_format if save_traces == "Y" else None,
            progress=progress,
        )
        results = (result,)
    noted = [hardware.explain(workload, result, bandwidths, physical=explain) for result in results]
    compared = _beside_physical(workload, results, bandwidth) if explain else []
    if as_json:
        _print_json(results, noted if explain else [], compared)
        return
    _print_tables(results, like_scalesim=parent is not None)
    for found_quirks in noted:
        show_quirks(found_quirks, explain=explain)
    for result, both in zip(results, compared, strict=False):
        show_models(result, both)
    if written is not None:
        say(f"Written to {written}")


def _under_each(base: Accelerator, dataflows: str) -> tuple[Accelerator, ...]:
    """The array once for each dataflow."""
    from arraysmith.space import parse_dataflows

    arrays = parse_dataflows(dataflows)
    if any(len(array) > 1 for array in arrays):
        raise click.UsageError(
            "SCALE-Sim simulates one dataflow at a time; separate them by commas"
        )
    return tuple(replace(base, dataflow=array[0]) for array in arrays)


def show_quirks(found: list[Quirk], *, explain: bool) -> None:
    """Name the quirks that changed a figure; with `explain` every figure beside the right one."""
    if explain:
        show_table(tables.quirks(found))
    elif found:
        names = {name for quirk in found for name in quirk.quirk.split(", ")}
        listed = ", ".join(sorted(names, key=lambda name: int(name[1:])))
        say(f"These are SCALE-Sim's figures, quirks {listed} included; --explain says more.")


def show_models(found: NetworkMetrics, compared: tuple[ModelsCompared, ...]) -> None:
    """SCALE-Sim's cycles beside the physical ones."""
    from arraysmith.reporting import physical_tables

    say(f"{found.workload} on {found.rows}×{found.cols} {found.dataflow.upper()}:")
    show_table(physical_tables.models(compared))


def _beside_physical(
    workload: Workload, results: tuple[NetworkMetrics, ...], bandwidth: float | None
) -> list[tuple[ModelsCompared, ...]]:
    """SCALE-Sim has figures where no tile fits a buffer; the physical array has none there."""
    from arraysmith.flow.models import compare_models

    rate = DEFAULT_BANDWIDTH if bandwidth is None else bandwidth
    try:
        return [compare_models(workload, result, rate) for result in results]
    except (InvalidHardwareError, InvalidWorkloadError) as error:
        click.echo(f"Without the model physical: {error}", err=True)
        return []


def _print_json(
    results: tuple[NetworkMetrics, ...],
    noted: list[list[Quirk]],
    compared: list[tuple[ModelsCompared, ...]],
) -> None:
    from arraysmith.simulation.scalesim.columns import network_facts

    facts = [network_facts(result) for result in results]
    for fact, quirks in zip(facts, noted, strict=False):
        fact["quirks"] = quirks
    for fact, both in zip(facts, compared, strict=False):
        fact["physical"] = both
    show_json(facts)


def _print_tables(results: tuple[NetworkMetrics, ...], *, like_scalesim: bool) -> None:
    if like_scalesim:
        from arraysmith.simulation.scalesim.reports import printed_summary

        for result in results:
            for text in printed_summary(result):
                say(text)
            say(f"Model of time: {result.model}")
        return
    for result in results:
        show_table(tables.simulated_layers(result))
    show_table(tables.simulated_networks(results))


VERBS = (simulate,)
