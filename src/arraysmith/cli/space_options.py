"""Options of `explore`: the axes, the constraints, what is wanted, how it is searched, how long."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from arraysmith.cli.options import Verb
    from arraysmith.space import DesignSpace

DEFAULTS: dict[str, Any] = {"rows": "1:64", "cols": "1:64", "arrays": "os,ws,is"}
"""Axes that neither the command line nor a file gives."""
_AXES = {
    "rows": ("--rows", "A:B[:STEP]", "Array heights: a range with both ends, or a list."),
    "cols": ("--cols", "A:B[:STEP]", "Array widths."),
    "arrays": (
        "--dataflow",
        "LIST",
        "os, ws, is, each alone; os+ws is one array that can do both, and each layer chooses.",
    ),
    "ifmap_kib": ("--ifmap-kib", "LIST", "KiB of the ifmap buffer  [default: 64]"),
    "filter_kib": ("--filter-kib", "LIST", "KiB of the filter buffer  [default: 128]"),
    "ofmap_kib": ("--ofmap-kib", "LIST", "KiB of the ofmap buffer  [default: 64]"),
    "dram_bytes_per_cycle": (
        "--bandwidth",
        "LIST",
        "DRAM bytes a cycle; in USER mode words a cycle of each stream  [default: 16]",
    ),
    "operand_bytes": ("--operand-bytes", "LIST", "Of a word of ifmap and filter  [default: 1]"),
    "psum_bytes": ("--psum-bytes", "LIST", "Of a partial sum  [default: 4]"),
}
_CONSTRAINTS: dict[str, tuple[type, str]] = {
    "max_pes": (int, "Limit on rows × cols."),
    "max_area_mm2": (float, "Limit on the area of array and buffers, mid estimate."),
    "max_total_kib": (int, "Limit on the three buffers together."),
    "max_power_w": (float, "Limit on energy over time, mid estimate; physical alone."),
    "min_utilization": (float, "Least MACs over PE-cycles of the network, a fraction."),
}
_GOALS = ("cycles", "energy", "edp")
_SEARCH = ("search", "seed", "budget", "patience")
_WANTED = ("time_model", "mode", "objective", "map_for", "clock_mhz")


def space_options(verb: Verb) -> Verb:
    """All options that say what is searched, and how."""
    axes = [
        click.option(flag, name, metavar=metavar, default=None, help=_help(name, text))
        for name, (flag, metavar, text) in _AXES.items()
    ]
    constraints = [
        click.option(f"--{name.replace('_', '-')}", name, type=kind, default=None, help=text)
        for name, (kind, text) in _CONSTRAINTS.items()
    ]
    options = [
        click.option(
            "--space",
            "space_file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Axes, constraints and all the rest as TOML; options go before it.",
        ),
        *axes,
        *constraints,
        click.option(
            "--mode",
            type=click.Choice(["calc", "user"]),
            default="calc",
            show_default=True,
            help="Of scalesim: calc never stalls; user has three streams of --bandwidth.",
        ),
        click.option(
            "--objective",
            default="cycles",
            show_default=True,
            metavar="LIST",
            help="cycles, energy, area, edp, utilization, pe-cycles; several give a Pareto front.",
        ),
        click.option(
            "--map-for",
            type=click.Choice(_GOALS),
            default=None,
            help="What mappings are best at (physical)  [default: the first objective]",
        ),
        click.option("--clock-mhz", type=float, default=1000.0, show_default=True),
        *_search_options(),
    ]
    for option in reversed(options):
        verb = option(verb)
    return verb


def _search_options() -> list[Any]:
    return [
        click.option(
            "--search",
            default="exhaustive",
            show_default=True,
            metavar="NAME",
            help="exhaustive (proven), genetic, descent or random.",
        ),
        click.option("--seed", type=int, default=0, show_default=True),
        click.option(
            "--budget",
            type=int,
            default=1000,
            show_default=True,
            help="Designs that a search may evaluate; an exhaustive one takes what it needs.",
        ),
        click.option(
            "--patience",
            type=int,
            default=None,
            help="Stop after so many evaluations without an improvement.",
        ),
        click.option(
            "--jobs", type=int, default=None, help="Processes  [default: as many as cores]"
        ),
        click.option("--cluster", metavar="ADDRESS", help="Scheduler of a Dask cluster."),
        click.option("--resume", is_flag=True, help="Go on with an interrupted exploration."),
        click.option("--restart", is_flag=True, help="Start anew, whatever is there."),
    ]


def _help(name: str, text: str) -> str:
    return f"{text}  [default: {DEFAULTS[name]}]" if name in DEFAULTS else text


def asked_for(given: dict[str, Any]) -> tuple[DesignSpace, dict[str, Any]]:
    """The space and the question that options and a space file describe; options go first.

    Args:
        given: options by name.

    Raises:
        DesignSpaceError, InputFileError: a value that cannot be.
    """
    from arraysmith.formats.space import read_space
    from arraysmith.space import Constraints, DesignSpace

    empty: dict[str, dict[str, Any]] = {"axes": {}, "constraints": {}, "search": {}, "wanted": {}}
    read = empty if given["space_file"] is None else read_space(given["space_file"])
    axes = _parsed(DEFAULTS) | read["axes"]
    axes |= _parsed({name: given[name] for name in _AXES if given[name] is not None})
    limits = read["constraints"]
    limits |= {name: given[name] for name in _CONSTRAINTS if given[name] is not None}
    question = _chosen(given, _SEARCH, read["search"], {"strategy": "search"})
    wanted = _chosen(given, _WANTED, read["wanted"], {"model": "time_model"})
    question |= {
        "model": wanted["time_model"],
        "mode": wanted["mode"],
        "clock_mhz": wanted["clock_mhz"],
        "objectives": wanted["objective"],
        "map_for": wanted["map_for"],
    }
    return DesignSpace(**axes, constraints=Constraints(**limits)), question


def _parsed(texts: dict[str, str]) -> dict[str, tuple[Any, ...]]:
    from arraysmith.space import parse_values

    return {name: parse_values(name, text, _AXES[name][0]) for name, text in texts.items()}


def _chosen(
    given: dict[str, Any], names: tuple[str, ...], read: dict[str, Any], called: dict[str, str]
) -> dict[str, Any]:
    """Options by name: as typed, else as the file says, else the default."""
    context = click.get_current_context()
    of_file = {called.get(name, name): value for name, value in read.items()}
    if "objectives" in of_file:
        of_file["objective"] = of_file.pop("objectives")
    found = {}
    for name in names:
        typed = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        found[name] = given[name] if typed or name not in of_file else of_file[name]
    return found
