"""The verb map, and `simulate --model physical`."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arraysmith.cli.given import given_workload, run_folder_of
from arraysmith.cli.options import (
    buffer_option,
    json_option,
    quiet_option,
    workload_options,
)
from arraysmith.cli.physical_options import (
    accelerators_of,
    base_of,
    physical_options,
    technology_of,
)
from arraysmith.cli.terminal import command_line, progress_bars, say, show_json, show_table

if TYPE_CHECKING:
    from arraysmith.hardware import PhysicalAccelerator
    from arraysmith.physical_performance import (
        MappedNetwork,
        PhysicalLayerMetrics,
        PhysicalNetworkMetrics,
    )
    from arraysmith.workload import Workload


@click.command("map")
@workload_options
@click.option("--layer", default=None, metavar="NAME", help="Show this layer, with its loop nest.")
@click.option("--rows", type=int, default=None, help="Array height  [default: 16]")
@click.option("--cols", type=int, default=None, help="Array width  [default: 16]")
@click.option(
    "--objective",
    type=click.Choice(["cycles", "energy", "edp", "front"]),
    default="cycles",
    show_default=True,
    help="What a mapping is to be best at; front: cycles against energy.",
)
@buffer_option("ifmap")
@buffer_option("filter")
@buffer_option("ofmap")
@click.option(
    "--bandwidth",
    type=float,
    default=None,
    metavar="BYTES",
    help="DRAM bytes a cycle, shared by all streams  [default: 16]",
)
@physical_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write results into this run folder; by default MODEL's own.",
)
@json_option
@quiet_option
def map_verb(
    model: Path | None,
    topology: Path | None,
    input_type: str,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    layer: str | None,
    objective: str,
    output: Path | None,
    *,
    as_json: bool,
    quiet: bool,
    **given: Any,  # noqa: ANN401 (the options of an array)
) -> None:
    """The best mapping of each layer on an array, proven.

    Model of time: physical. A mapping is a microarchitecture, an order of loops, a tile and what
    stays in a buffer; all that fit the buffers are searched. Depthwise rows are groups.

    \b
    Examples: arraysmith map runs/lenet5 --rows 8 --cols 8
              arraysmith map -t layers.csv --layer conv1 --objective front
    """
    from arraysmith.flow import mapping as flow
    from arraysmith.mapping import Goal

    workload = given_workload(
        model, topology, input_type, grouped=True, images=given["batch"], shapes=shapes
    )
    accelerators = accelerators_of(given)
    technology = technology_of(given)
    written = output or run_folder_of(model)
    if layer is not None:
        alone = _only(workload, layer)
        workload = workload if written is not None else alone
    found = flow.map_arrays(
        workload,
        accelerators,
        written,
        goal=Goal(objective),
        technology=technology,
        progress=progress_bars(quiet=quiet),
        command=command_line(),
    )
    if as_json:
        show_json([_mapped_facts(each, layer) for each in found])
        return
    for accelerator, each in zip(accelerators, found, strict=True):
        _show_mapped(workload, accelerator, each, layer)
    if written is not None:
        say(f"Written to {written}")


def simulate_under_physical(
    workload: Workload,
    config: Path | None,
    written: Path | None,
    given: dict[str, Any],
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """`simulate --model physical`: given mappings, or the best ones by cycles."""
    from arraysmith.flow.mapping import simulate_physical
    from arraysmith.reporting import physical_tables as tables

    mappings: Path | None = given["mapping"]
    accelerators = accelerators_of(given, base_of(workload, config, mappings, given))
    results = simulate_physical(
        workload,
        accelerators,
        written,
        mappings=mappings,
        technology=technology_of(given),
        progress=progress_bars(quiet=quiet),
        command=command_line(),
    )
    if as_json:
        show_json(
            [
                {**network_facts(found), "layers": [layer_facts(layer) for layer in found.layers]}
                for found in results
            ]
        )
        return
    how = "best mappings by cycles" if mappings is None else f"mappings of {mappings}"
    for found in results:
        show_table(tables.layers(found, title=how))
    show_table(tables.networks(results))
    if written is not None:
        say(f"Written to {written}")


def layer_facts(layer: PhysicalLayerMetrics) -> dict[str, object]:
    """Everything of a layer, for machines."""
    names = (
        "mapping", "groups_at_once", "steps", "macs", "total_cycles", "compute_cycles",
        "fill_drain_cycles", "stall_cycles", "utilization", "dram_bytes", "macs_per_dram_byte",
        "ifmap", "filter", "ofmap",
    )  # fmt: skip
    energy = {name: _sets(getattr(layer.energy, name)) for name in layer.energy.__slots__}
    return {
        "layer": layer.name,
        **{name: getattr(layer, name) for name in names},
        "energy_pj": _sets(layer.energy.total_pj),
        "edp_pj_cycles": _sets(layer.edp_pj_cycles),
        "energy_parts": energy,
    }


def network_facts(found: PhysicalNetworkMetrics) -> dict[str, object]:
    """A network's totals, for machines; without its layers."""
    from arraysmith.simulation.physical.cost import UNCERTAINTY

    names = (
        "model", "workload", "rows", "cols", "microarchitectures", "ifmap_buffer_kib",
        "filter_buffer_kib", "ofmap_buffer_kib", "double_buffered", "dram_bytes_per_cycle",
        "technology", "total_cycles", "stall_cycles", "macs", "utilization", "dram_bytes",
    )  # fmt: skip
    return {
        **{name: getattr(found, name) for name in names},
        "energy_pj": _sets(found.energy_pj),
        "area_mm2": _sets(found.area_mm2),
        "uncertainty": UNCERTAINTY,
    }


def _sets(triple: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("low", "mid", "high"), triple, strict=True))


def _mapped_facts(found: MappedNetwork, shown: str | None) -> dict[str, object]:
    return {
        **network_facts(found.metrics),
        "objective": found.objective,
        "proven_optimal": True,
        "layers": [
            {
                **layer_facts(layer.best),
                "cycles_at_least": layer.cycles_at_least,
                "energy_at_least_pj": layer.energy_at_least_pj,
                "mappings": layer.mappings,
                "visited": layer.visited,
                "evaluated": layer.evaluated,
                "seconds": layer.seconds,
                "front": [layer_facts(each) for each in layer.front],
            }
            for layer in found.layers
            if shown in {None, layer.layer}
        ],
    }


def _only(workload: Workload, name: str) -> Workload:
    """The layer of a name as a workload of its own."""
    from arraysmith.errors import InvalidWorkloadError
    from arraysmith.workload import Workload

    layers = tuple(layer for layer in workload.layers if layer.name == name)
    if not layers:
        names = [layer.name for layer in workload.layers]
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"its first is {names[0]!r}"
        raise InvalidWorkloadError(f"layer {name!r} is not in {workload.name!r}; {hint}")
    return Workload(name=workload.name, layers=layers[:1])


def _show_mapped(
    workload: Workload, accelerator: PhysicalAccelerator, found: MappedNetwork, shown: str | None
) -> None:
    from arraysmith.reporting import physical_tables as tables

    if shown is not None and len(workload.layers) > 1:
        found, workload = _of_layer(found, shown), _only(workload, shown)
    show_table(tables.layers(found.metrics, found))
    if found.objective == "front":
        show_table(tables.front(found))
    if len(found.layers) == 1:
        show_nests(workload, accelerator, found.metrics)
        show_table(tables.traffic(found.layers[0].best))
    show_table(tables.networks((found.metrics,)))


def _of_layer(found: MappedNetwork, name: str) -> MappedNetwork:
    """What was found of one layer."""
    layers = tuple(layer for layer in found.layers if layer.layer == name)[:1]
    metrics = replace(found.metrics, layers=tuple(layer.best for layer in layers))
    return replace(found, layers=layers, metrics=metrics)


def show_nests(
    workload: Workload, accelerator: PhysicalAccelerator, found: PhysicalNetworkMetrics
) -> None:
    """The loop nest of each layer."""
    from arraysmith.flow.mapping import timelines
    from arraysmith.reporting import physical_tables as tables

    for nest in timelines(workload, accelerator, found):
        say(f"{nest.layer}, loop nest (model: physical)")
        for line in tables.nest_lines(nest):
            say(f"  {line}")
        say()


VERBS = (map_verb,)
