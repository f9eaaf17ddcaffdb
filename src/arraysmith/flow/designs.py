"""The verb explore under the model `physical`: which array, each layer under its best mapping."""

from __future__ import annotations

import csv
import io
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from arraysmith.errors import DesignSpaceError
from arraysmith.files import write_text
from arraysmith.formats.technology import read_technology
from arraysmith.performance import PhysicalDesignFacts, PhysicalExplorationFacts
from arraysmith.progress import silent
from arraysmith.search.physical_designs import Visited, explore_arrays
from arraysmith.store import Provenance, RunFolder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from arraysmith.formats.technology import Technology
    from arraysmith.hardware import Microarchitecture, PhysicalAccelerator
    from arraysmith.progress import Progress
    from arraysmith.workload import Workload

VISITED_FILE = "physical_designs.csv"


def explore_physical(
    workload: Workload,
    rows: Sequence[int],
    cols: Sequence[int],
    arrays: Sequence[tuple[Microarchitecture, ...]],
    output: Path | None = None,
    *,
    base: PhysicalAccelerator,
    max_pes: int | None = None,
    technology: Technology | None = None,
    progress: Progress = silent,
    command: str = "arraysmith.explore_physical()",
) -> PhysicalExplorationFacts:
    """The array of fewest cycles under the model `physical`, proven by bounds.

    Args:
        workload: the layers.
        rows, cols: sides of the arrays.
        arrays: what an array may be; each is a design of its own.
        output: a run folder to write into, if any: physical_designs.csv (the visited designs),
            figs/physical_exploration.png and the section `physical_exploration` of metrics.json.
        base: buffers, bandwidth, ports and words of every design.
        max_pes: limit on rows × cols.
        technology: what accesses cost; None is the shipped one.
        progress: shows the designs that are done, and the best so far.
        command: what to record as the origin.

    Raises:
        DesignSpaceError: an empty space, or one that would take hours.
        InvalidHardwareError: a buffer holds no tile of a layer.
    """
    known = technology or read_technology()
    if output is not None:
        RunFolder(output).facts("provenance", dict[str, Provenance])
    start = time.perf_counter()
    designs = [
        replace(base, rows=row, cols=col, microarchitectures=each)
        for row in rows
        for col in cols
        for each in arrays
        if max_pes is None or row * col <= max_pes
    ]
    if not designs:
        raise DesignSpaceError(
            f"--max-pes {max_pes} excludes all designs: the smallest array, "
            f"{min(rows)}×{min(cols)}, has {min(rows) * min(cols)} PEs"
        )
    found = tuple(map(_facts, explore_arrays(workload, designs, known, progress=progress)))
    facts = PhysicalExplorationFacts(
        workload=workload.name,
        technology=known.name,
        rows=tuple(rows),
        cols=tuple(cols),
        arrays=tuple("+".join(each) for each in arrays),
        max_pes=max_pes,
        ifmap_buffer_kib=base.ifmap_buffer_kib,
        filter_buffer_kib=base.filter_buffer_kib,
        ofmap_buffer_kib=base.ofmap_buffer_kib,
        dram_bytes_per_cycle=float(base.dram_bytes_per_cycle),
        designs=len(designs),
        visited=found,
        front=_front(found),
        seconds=time.perf_counter() - start,
    )
    if output is not None:
        from arraysmith.reporting import physical_png

        run = RunFolder(output)
        write_text(run.path / VISITED_FILE, _csv(facts))
        physical_png.exploration(run.figure("physical_exploration"), facts)
        run.record("physical_exploration", facts, command)
    return facts


def _facts(found: Visited) -> PhysicalDesignFacts:
    accelerator, metrics = found.accelerator, found.metrics
    return PhysicalDesignFacts(
        rows=accelerator.rows,
        cols=accelerator.cols,
        microarchitectures=metrics.microarchitectures,
        pes=accelerator.pes,
        cycles_at_least=found.cycles_at_least,
        total_cycles=metrics.total_cycles,
        stall_cycles=metrics.stall_cycles,
        utilization=metrics.utilization,
        dram_bytes=metrics.dram_bytes,
        energy_pj=metrics.energy_pj,
        area_mm2=metrics.area_mm2,
    )


def _front(visited: tuple[PhysicalDesignFacts, ...]) -> tuple[PhysicalDesignFacts, ...]:
    """Of designs from few cycles to many, those that take less energy than all before."""
    front: list[PhysicalDesignFacts] = []
    for design in visited:
        if not front or design.energy_pj[1] < front[-1].energy_pj[1]:
            front.append(design)
    return tuple(front)


def _csv(facts: PhysicalExplorationFacts) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("rows", "cols", "pes", "cycles_at_least", "total_cycles", "stall_cycles")
    sets = ("low", "mid", "high")
    writer.writerow(
        ["model", "workload", "microarchitectures", *names, "utilization_fraction", "dram_bytes"]
        + [f"energy_{each}_pj" for each in sets]
        + [f"area_{each}_mm2" for each in sets]
    )
    for design in facts.visited:
        kinds = "+".join(design.microarchitectures)
        sizes = [getattr(design, name) for name in names]
        estimates = [*design.energy_pj, *design.area_mm2]
        row = [facts.model, facts.workload, kinds, *sizes]
        writer.writerow([*row, design.utilization, design.dram_bytes, *estimates])
    return text.getvalue()
