"""The verb compare: the real SCALE-Sim beside Arraysmith, figure by figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from arraysmith.cli.options import json_option, kind_option, quiet_option
from arraysmith.cli.terminal import progress_bars, say, show_json, show_table
from arraysmith.reporting.tables import Column, Row, Table

if TYPE_CHECKING:
    from arraysmith.flow.compare import Figure, ScaleSimComparison
    from arraysmith.formats.topology import Kind

HEADLINE = "Total Cycles"
"""The column that stands for its layer in the short table."""


@click.command()
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    required=True,
    help="SCALE-Sim config file.",
)
@click.option(
    "-t",
    "--topology",
    type=click.Path(path_type=Path),
    required=True,
    help="SCALE-Sim topology file.",
)
@kind_option
@click.option(
    "--python",
    type=click.Path(path_type=Path),
    default=None,
    metavar="PATH",
    help="Interpreter that has scalesim 3.0.0  [default: this one, else "
    "$ARRAYSMITH_SCALESIM_PYTHON]",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=600,
    show_default=True,
    metavar="S",
    help="Seconds SCALE-Sim may take.",
)
@click.option("--all", "everything", is_flag=True, help="Show all 30 columns of every layer.")
@json_option
@quiet_option
def compare(
    config: Path,
    topology: Path,
    input_type: str,
    python: Path | None,
    timeout_s: float,
    *,
    everything: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """The real SCALE-Sim 3.0.0 beside Arraysmith on the same files, with the time of each.

    Every figure of the three reports is compared as it is printed, and the files byte for byte. The
    exit code is 1 if anything differs. SCALE-Sim writes no traces here, which is its fastest.

    \b
    Example: arraysmith compare -c scale.cfg -t layers.csv --python scalesim-env/bin/python
    """
    from arraysmith.flow.compare import compare as compare_with_scalesim

    kind: Kind = "gemm" if input_type == "gemm" else "conv"
    found = compare_with_scalesim(
        config,
        topology,
        kind,
        python=python,
        timeout_s=timeout_s,
        progress=progress_bars(quiet=quiet),
    )
    if as_json:
        show_json(facts(found))
    else:
        show_table(table(found, everything=everything))
        say(verdict(found))
    if not found.equal:
        raise SystemExit(1)


def facts(found: ScaleSimComparison) -> dict[str, object]:
    """Everything, for machines."""
    names = ("workload", "model", "rows", "cols", "dataflow", "equal", "different_reports")
    times = ("scalesim_seconds", "seconds", "first_call_seconds", "speedup")
    names_of_figure = ("layer", "column", "theirs", "ours", "equal")
    return {
        **{name: getattr(found, name) for name in (*names, *times)},
        "figures": [
            {name: getattr(figure, name) for name in names_of_figure} for figure in found.figures
        ],
    }


def table(found: ScaleSimComparison, *, everything: bool = False) -> Table:
    """Side by side: a line for each layer and each difference, or everything."""
    layers: dict[int, list[Figure]] = {}
    number = -1
    for figure in found.figures:
        if not layers or figure.column == found.figures[0].column:
            number += 1
        layers.setdefault(number, []).append(figure)
    rows: list[Row] = []
    for figures in layers.values():
        equal = sum(figure.equal for figure in figures)
        shown = figures if everything else [figure for figure in figures if not figure.equal]
        if not everything:
            headline = next(figure for figure in figures if figure.column == HEADLINE)
            rows.append(_row(headline, f"{equal} of {len(figures)}"))
        rows += [_row(figure, "yes" if figure.equal else "no") for figure in shown]
    return Table(
        title=f"{found.workload} on {found.rows}×{found.cols} {found.dataflow.upper()} "
        f"({found.model})",
        columns=(
            Column("layer", numeric=False),
            Column("column", numeric=False),
            Column("SCALE-Sim 3.0.0"),
            Column("Arraysmith"),
            Column("equal"),
        ),
        rows=tuple(rows),
    )


def verdict(found: ScaleSimComparison) -> str:
    """What is equal, and the seconds of each."""
    figures, reports = len(found.figures), len(found.reports)
    equal, same = figures - len(found.different), reports - len(found.different_reports)
    return (
        f"{equal:,} of {figures:,} figures equal, {same} of {reports} report files byte for byte; "
        f"SCALE-Sim {_seconds(found.scalesim_seconds)}, Arraysmith {_seconds(found.seconds)} "
        f"({found.speedup:,.0f}×; its first call {_seconds(found.first_call_seconds)})"
    )


def _row(figure: Figure, equal: str) -> Row:
    return Row((figure.layer, figure.column, figure.theirs, figure.ours, equal))


def _seconds(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{seconds:.4f} s"


VERBS = (compare,)
