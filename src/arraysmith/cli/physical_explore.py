"""`explore --model physical`: the array of fewest cycles, each layer under its best mapping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from arraysmith.cli.physical_options import accelerators_of, technology_of
from arraysmith.cli.terminal import command_line, progress_bars, say, show_json, show_table

if TYPE_CHECKING:
    from pathlib import Path

    from arraysmith.workload import Workload

RANKED = 10


def explore_under_physical(
    workload: Workload,
    grid: tuple[str, str, int | None],
    output: Path,
    given: dict[str, Any],
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Search, print, write.

    Args:
        workload: the layers.
        grid: the ranges of --rows and --cols, and --max-pes.
        output: the run folder.
        given: options of the array by name.
        as_json, quiet: how to print.
    """
    from arraysmith.flow.designs import VISITED_FILE, explore_physical
    from arraysmith.flow.models import PIPELINED
    from arraysmith.reporting import physical_tables as tables
    from arraysmith.search.space import parse_axis, parse_dataflows

    source = click.get_current_context().get_parameter_source("dataflow")
    if given["microarchitecture"] is not None and source is ParameterSource.COMMANDLINE:
        raise click.UsageError("give either --dataflow or --microarchitecture")
    dataflows = parse_dataflows(given["dataflow"])
    base = {"microarchitectures": tuple((PIPELINED[each],) for each in dataflows)}
    accelerators = accelerators_of(given, base)
    rows_text, cols_text, max_pes = grid
    facts = explore_physical(
        workload,
        parse_axis(rows_text, "--rows"),
        parse_axis(cols_text, "--cols"),
        [each.microarchitectures for each in accelerators],
        output,
        base=accelerators[0],
        max_pes=max_pes,
        technology=technology_of(given),
        progress=progress_bars(quiet=quiet),
        command=command_line(),
    )
    if as_json:
        names = ("model", "workload", "technology", "best", "designs", "visited", "front")
        shown = {name: getattr(facts, name) for name in (*names, "seconds")}
        show_json({**shown, "objective": "cycles", "proven_optimal": True})
        return
    show_table(tables.designs(facts, RANKED))
    show_table(tables.designs_front(facts))
    say(tables.designs_verdict(facts))
    say(f"Visited designs are in {output / VISITED_FILE}; figures and facts in {output}")
