"""The verbs of the model `physical`: the best mappings of a network, and what given ones take."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arraysmith.errors import InvalidMappingError
from arraysmith.files import write_text
from arraysmith.formats.mappings import read_mappings, write_mappings
from arraysmith.formats.technology import read_technology
from arraysmith.mapping import Goal
from arraysmith.physical_performance import (
    SETS,
    Energy,
    MappedNetwork,
    PhysicalFacts,
    PhysicalLayerMetrics,
    PhysicalNetworkMetrics,
)
from arraysmith.progress import silent
from arraysmith.search.mapper import map_workload
from arraysmith.simulation.physical.model import network_metrics, simulate
from arraysmith.simulation.physical.timeline import timeline
from arraysmith.store import Provenance, RunFolder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arraysmith.formats.technology import Technology
    from arraysmith.hardware import PhysicalAccelerator
    from arraysmith.mapping import Mapping
    from arraysmith.physical_performance import LayerTimeline
    from arraysmith.progress import Progress
    from arraysmith.workload import Workload

MAPPINGS_FILE = "mappings.json"
FIGURES_FILE = "physical.csv"


def map_network(
    workload: Workload,
    accelerator: PhysicalAccelerator,
    output: Path | None = None,
    *,
    goal: Goal = Goal.CYCLES,
    technology: Technology | None = None,
    progress: Progress = silent,
    command: str = "arraysmith.map_network()",
) -> MappedNetwork:
    """The best mapping of each layer on an accelerator, proven over all mappings of the space.

    Args:
        workload: the layers.
        accelerator: what to run them on; each layer may choose among its microarchitectures.
        output: a run folder to write into, if any: mappings.json, physical.csv (a row a layer), the
            figures and the sections `mapping` and `physical` of metrics.json.
        goal: what a mapping is to be best at.
        technology: what accesses cost; None is the shipped one.
        progress: shows the layers that are done.
        command: what to record as the origin.

    Raises:
        InvalidHardwareError: a buffer holds no tile of a layer; the message has the least KiB.
        InvalidWorkloadError: a layer larger than the model takes.
    """
    (found,) = map_arrays(
        workload,
        (accelerator,),
        output,
        goal=goal,
        technology=technology,
        progress=progress,
        command=command,
    )
    return found


def map_arrays(
    workload: Workload,
    accelerators: tuple[PhysicalAccelerator, ...],
    output: Path | None = None,
    *,
    goal: Goal = Goal.CYCLES,
    technology: Technology | None = None,
    progress: Progress = silent,
    command: str = "arraysmith.map_network()",
) -> tuple[MappedNetwork, ...]:
    """`map_network` on several accelerators, side by side."""
    known = technology or read_technology()
    if output is not None:
        _check_run(output)
    found = tuple(_mapped(workload, each, goal, known, progress) for each in accelerators)
    if output is not None:
        facts = _facts(workload, accelerators, tuple(each.metrics for each in found))
        _write(RunFolder(output), workload, facts, found, command)
    return found


def simulate_physical(
    workload: Workload,
    accelerators: tuple[PhysicalAccelerator, ...],
    output: Path | None = None,
    *,
    mappings: Sequence[Mapping] | Path | None = None,
    technology: Technology | None = None,
    goal: Goal = Goal.CYCLES,
    progress: Progress = silent,
    command: str = "arraysmith.simulate_physical()",
) -> tuple[PhysicalNetworkMetrics, ...]:
    """What a network takes on one accelerator or several under the model `physical`.

    Args:
        workload: the layers.
        accelerators: what to run them on.
        output: a run folder to write into, if any; as of `map_network`.
        mappings: one a layer, or a mapping file; None is the best ones.
        technology: what accesses cost; None is the shipped one.
        goal: what the best mappings are best at.
        progress: shows the layers that are done.
        command: what to record as the origin.

    Raises:
        InputFileError: the mapping file cannot be read.
        InvalidMappingError: a mapping does not fit its layer, the array or its buffers.
        InvalidHardwareError, InvalidWorkloadError: as of `map_network`.
    """
    known = technology or read_technology()
    if output is not None:
        _check_run(output)
    mapped: tuple[MappedNetwork, ...] = ()
    if mappings is None:
        mapped = tuple(
            _mapped(workload, accelerator, goal, known, progress) for accelerator in accelerators
        )
        results = tuple(each.metrics for each in mapped)
    else:
        results = _under(workload, accelerators, mappings, known)
    if output is not None:
        facts = _facts(workload, accelerators, results)
        _write(RunFolder(output), workload, facts, mapped, command)
    return results


def timelines(
    workload: Workload, accelerator: PhysicalAccelerator, found: PhysicalNetworkMetrics
) -> tuple[LayerTimeline, ...]:
    """The loop nest and the first steps of each layer."""
    return tuple(
        timeline(layer, accelerator, metrics)
        for layer, metrics in zip(workload.layers, found.layers, strict=True)
    )


def physical_csv(results: Sequence[PhysicalNetworkMetrics]) -> str:
    """One row a layer and accelerator, units in the names of the columns."""
    text = io.StringIO()
    rows = [_row(result, layer) for result in results for layer in result.layers]
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _mapped(
    workload: Workload,
    accelerator: PhysicalAccelerator,
    goal: Goal,
    technology: Technology,
    progress: Progress,
) -> MappedNetwork:
    layers = map_workload(workload, accelerator, technology, goal, progress=progress)
    best = tuple(layer.best for layer in layers)
    metrics = network_metrics(workload, accelerator, best, technology)
    return MappedNetwork(objective=goal.value, metrics=metrics, layers=layers)


def _under(
    workload: Workload,
    accelerators: tuple[PhysicalAccelerator, ...],
    mappings: Sequence[Mapping] | Path,
    technology: Technology,
) -> tuple[PhysicalNetworkMetrics, ...]:
    """A network under given mappings; what is wrong with them is said of their file."""
    if not isinstance(mappings, Path):
        return tuple(simulate(workload, each, mappings, technology) for each in accelerators)
    given = read_mappings(mappings, workload)
    try:
        return tuple(simulate(workload, each, given, technology) for each in accelerators)
    except InvalidMappingError as error:
        raise InvalidMappingError(f"{mappings}: {error}") from error


def _check_run(output: Path) -> None:
    """A damaged or foreign metrics.json is found before anything is computed or written."""
    RunFolder(output).facts("provenance", dict[str, Provenance])


def _facts(
    workload: Workload,
    accelerators: tuple[PhysicalAccelerator, ...],
    results: tuple[PhysicalNetworkMetrics, ...],
) -> tuple[PhysicalFacts, ...]:
    return tuple(
        PhysicalFacts(metrics=result, timelines=timelines(workload, accelerator, result))
        for accelerator, result in zip(accelerators, results, strict=True)
    )


def _write(
    run: RunFolder,
    workload: Workload,
    facts: tuple[PhysicalFacts, ...],
    mapped: tuple[MappedNetwork, ...],
    command: str,
) -> None:
    from arraysmith.reporting import physical_png

    for number, found in enumerate(facts):
        # Of several accelerators each has its files; the first has the plain names.
        suffix = f"_{number + 1}" if number else ""
        path = run.path / MAPPINGS_FILE
        write_mappings(
            path.with_stem(path.stem + suffix),
            workload,
            [layer.mapping for layer in found.metrics.layers],
        )
        physical_png.breakdown(run.figure(f"physical_breakdown{suffix}"), found.metrics)
        physical_png.roofline(run.figure(f"physical_roofline{suffix}"), found.metrics)
        physical_png.mapping(run.figure(f"physical_mapping{suffix}"), found)
    write_text(run.path / FIGURES_FILE, physical_csv([each.metrics for each in facts]))
    _remove_files_from(run, len(facts))
    if mapped:
        run.record("mapping", mapped, command)
    run.record("physical", facts, command, outdated=() if mapped else ("mapping",))


def _remove_files_from(run: RunFolder, number: int) -> None:
    """Remove what earlier runs on more arrays left: nothing recorded belongs to it."""
    path = run.path / MAPPINGS_FILE
    while (old := path.with_stem(f"{path.stem}_{number + 1}")).exists():
        old.unlink()
        for figure in ("breakdown", "roofline", "mapping"):
            run.figure(f"physical_{figure}_{number + 1}").unlink(missing_ok=True)
        number += 1


def _row(result: PhysicalNetworkMetrics, layer: PhysicalLayerMetrics) -> dict[str, Any]:
    mapping, tile = layer.mapping, layer.mapping.tile
    row: dict[str, Any] = {
        "model": result.model,
        "workload": result.workload,
        "rows": result.rows,
        "cols": result.cols,
        "ifmap_buffer_kib": result.ifmap_buffer_kib,
        "filter_buffer_kib": result.filter_buffer_kib,
        "ofmap_buffer_kib": result.ofmap_buffer_kib,
        "bandwidth_bytes_per_cycle": result.dram_bytes_per_cycle,
        "technology": result.technology,
        "layer": layer.name,
        "microarchitecture": mapping.microarchitecture.value,
        "order": mapping.order,
        "tile_rows": tile.rows,
        "tile_cols": tile.cols,
        "tile_out_channels": tile.out_channels,
        "tile_in_channels": tile.in_channels,
        "blocked": mapping.blocked or "",
        "tiles_per_block": mapping.tiles_per_block,
        "groups_at_once": layer.groups_at_once,
        "steps": layer.steps,
        "macs": layer.macs,
        "total_cycles": layer.total_cycles,
        "compute_cycles": layer.compute_cycles,
        "fill_drain_cycles": layer.fill_drain_cycles,
        "stall_cycles": layer.stall_cycles,
        "utilization_fraction": layer.utilization,
        "dram_bytes": layer.dram_bytes,
    }
    for operand, traffic in zip(("ifmap", "filter", "ofmap"), layer.traffic, strict=True):
        for name in traffic.__slots__:
            unit = "" if "words" in name else "_words"
            row[f"{operand}_{name}{unit}"] = getattr(traffic, name)
    for name, total in zip(SETS, layer.energy.total_pj, strict=True):
        row[f"energy_{name}_pj"] = total
    for part in Energy.__slots__:
        for name, value in zip(SETS, getattr(layer.energy, part), strict=True):
            row[f"{part.removesuffix('_pj')}_{name}_pj"] = value
    return row
