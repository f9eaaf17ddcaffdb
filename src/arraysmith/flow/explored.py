"""What an exploration gives back: its facts, every design that was evaluated, and pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.errors import DesignSpaceError
from arraysmith.explorations import DesignFacts, ExplorationFacts, ExploredDesigns, Landscape
from arraysmith.hardware import Microarchitecture
from arraysmith.space import array_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd
    import plotly.graph_objects as go
    from numpy.typing import NDArray

    from arraysmith.hardware import PhysicalAccelerator
    from arraysmith.search.exhaustive import Candidates, Visits
    from arraysmith.search.problem import Problem

MAX_CELLS = 96
"""Of a side of a landscape; a longer axis is drawn every k-th value."""
FRONT_LISTED = 2000
"""Designs of a front among the facts; all are in the columns."""
PLOTS = ("front", "parallel", "landscapes", "convergence")
_MID = 1


@dataclass(frozen=True, kw_only=True, eq=False)  # no slots: `explored` is made when asked for
class Exploration:
    """The answer of an exploration."""

    facts: ExplorationFacts
    drawn: Callable[[], ExploredDesigns]
    """Makes `explored`; of millions of designs that takes longer than to find the best."""
    base: PhysicalAccelerator
    """Under `physical`, whose ports and output words every design has."""

    @cached_property
    def explored(self) -> ExploredDesigns:
        """Every design that was evaluated, and landscapes: what pictures are made of."""
        return self.drawn()

    @property
    def best(self) -> DesignFacts:
        """By the first objective: the optimum where `facts.proven`, else the best found."""
        return self.facts.best

    @property
    def front(self) -> tuple[DesignFacts, ...]:
        """The Pareto front, by ascending first objective; of one objective the best alone."""
        return self.facts.front

    @property
    def proven(self) -> bool:
        """Whether no design of the space is better."""
        return self.facts.proven

    def accelerator(self, design: DesignFacts) -> PhysicalAccelerator:
        """A design of this exploration as `map_network` takes it.

        Raises:
            DesignSpaceError: its arrays are dataflows of scalesim, which nobody can build.
        """
        if self.facts.model != "physical":
            raise DesignSpaceError(
                f"{design} is of {self.facts.model}, which does not say how the array is built; "
                "explore with model physical"
            )
        rate = design.dram_bytes_per_cycle
        return replace(
            self.base,
            rows=design.rows,
            cols=design.cols,
            microarchitectures=tuple(map(Microarchitecture, design.dataflow.split("+"))),
            ifmap_buffer_kib=design.ifmap_buffer_kib,
            filter_buffer_kib=design.filter_buffer_kib,
            ofmap_buffer_kib=design.ofmap_buffer_kib,
            dram_bytes_per_cycle=self.base.dram_bytes_per_cycle if rate is None else rate,
            operand_bytes=design.operand_bytes,
            psum_bytes=design.psum_bytes,
        )

    def to_pandas(self) -> pd.DataFrame:
        """Every design that was evaluated, a row each; `front` says which are on it."""
        import pandas as pd

        return pd.DataFrame(dict(self.explored.columns))

    def plot(self, kind: str = "front", path: Path | None = None) -> go.Figure:
        """An interactive figure: `front`, `parallel`, `landscapes` or `convergence`.

        Args:
            kind: which; of landscapes that of the best design's kind of array.
            path: a .png, .svg or .pdf to draw it into as well, all landscapes side by side.

        Raises:
            ValueError: an unknown kind.
        """
        from arraysmith.reporting import exploration_interactive as interactive
        from arraysmith.reporting import exploration_png as png

        if kind not in PLOTS:
            raise ValueError(f"plot {kind!r} is unknown; give {', '.join(PLOTS)}")
        facts, explored = self.facts, self.explored
        if kind == "convergence":
            if path is not None:
                png.convergence(path, facts)
            return interactive.convergence(facts)
        if path is not None:
            {"front": png.front, "parallel": png.parallel, "landscapes": png.landscapes}[kind](
                path, facts, explored
            )
        if kind == "landscapes":
            place = [each.dataflow for each in explored.landscapes].index(self.best.dataflow)
            return interactive.landscapes(facts, explored)[place]
        drawing = interactive.front_2d if kind == "front" else interactive.parallel
        return drawing(facts, explored)


def design_facts(
    problem: Problem, seen: Visits, places: NDArray[np.int64], *, bandwidth: bool
) -> tuple[DesignFacts, ...]:
    """Facts of some visited designs.

    Args:
        problem: what was searched.
        seen: what was evaluated.
        places: which of it.
        bandwidth: whether the model knows of one.
    """
    ids, figures = seen.ids[places], seen.figures.take(places)
    columns = {name: values.tolist() for name, values in problem.space.columns(ids).items()}
    cycles = figures.total_cycles
    areas = np.stack([problem.area_mm2(ids, name) for name in ("low", "mid", "high")], axis=1)
    power, edp = (of(cycles, figures.energy_pj) for of in (problem.power_w, problem.edp_js))
    pes = problem.pes(ids)
    found = []
    for i in range(len(ids)):
        known = not np.isnan(figures.energy_pj[i]).any()
        found.append(
            DesignFacts(
                rows=columns["rows"][i],
                cols=columns["cols"][i],
                dataflow=columns["arrays"][i],
                ifmap_buffer_kib=columns["ifmap_kib"][i],
                filter_buffer_kib=columns["filter_kib"][i],
                ofmap_buffer_kib=columns["ofmap_kib"][i],
                dram_bytes_per_cycle=columns["dram_bytes_per_cycle"][i] if bandwidth else None,
                operand_bytes=columns["operand_bytes"][i],
                psum_bytes=columns["psum_bytes"][i],
                pes=int(pes[i]),
                total_cycles=int(cycles[i]),
                utilization=problem.macs / (int(cycles[i]) * int(pes[i])),
                stall_cycles=_known(figures.stall_cycles[i]),
                dram_bytes=_known(figures.dram_bytes[i]),
                energy_pj=tuple(figures.energy_pj[i].tolist()) if known else None,
                power_w=tuple(power[i].tolist()) if known else None,
                edp_js=tuple(edp[i].tolist()) if known else None,
                area_mm2=tuple(areas[i].tolist()),
            )
        )
    return tuple(found)


def explored_columns(
    problem: Problem, seen: Visits, front: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """One array a field of `DesignFacts` over the designs that are exactly known."""
    exact = np.flatnonzero(seen.figures.exact & (seen.figures.total_cycles >= 0))
    ids, figures = seen.ids[exact], seen.figures.take(exact)
    space = problem.space
    found: dict[str, NDArray[Any]] = {}
    for number, (axis, name) in enumerate(_FIELD_OF_AXIS.items()):
        values = getattr(space, axis)
        if axis in {"rows", "cols", "arrays"} or len(values) > 1:
            texts = [array_name(each) for each in values] if axis == "arrays" else values
            found[name] = np.array(texts)[space.place(ids, number)]
    pes = problem.pes(ids)
    found["pes"] = pes
    found["total_cycles"] = figures.total_cycles
    found["utilization"] = problem.macs / (figures.total_cycles * pes.astype(np.float64))
    found["area_mm2"] = problem.area_mm2(ids)
    if (figures.stall_cycles >= 0).any():
        found["stall_cycles"] = figures.stall_cycles
    energy = figures.energy_pj[:, _MID]
    if len(energy) and not np.isnan(energy).any():
        found["dram_bytes"] = figures.dram_bytes
        found["energy_pj"] = energy
        found["power_w"] = problem.power_w(figures.total_cycles, energy)
        found["edp_js"] = problem.edp_js(figures.total_cycles, energy)
    feasible = seen.feasible[exact]
    found["feasible"] = feasible
    on_front = np.zeros(len(seen.ids), np.bool_)
    on_front[front] = True
    found["front"] = on_front[exact]
    return found


_FIELD_OF_AXIS = {
    "arrays": "dataflow",
    "rows": "rows",
    "cols": "cols",
    "ifmap_kib": "ifmap_buffer_kib",
    "filter_kib": "filter_buffer_kib",
    "ofmap_kib": "ofmap_buffer_kib",
    "dram_bytes_per_cycle": "dram_bytes_per_cycle",
    "operand_bytes": "operand_bytes",
    "psum_bytes": "psum_bytes",
}
"""In the order of `space.AXES`."""


def axes_of(problem: Problem, *, bandwidth: bool) -> dict[str, tuple[float | str, ...]]:
    """The axes by the names of `DesignFacts`."""
    found: dict[str, tuple[float | str, ...]] = {}
    for axis, name in _FIELD_OF_AXIS.items():
        values = getattr(problem.space, axis)
        if axis != "dram_bytes_per_cycle" or bandwidth:
            found[name] = (
                tuple(array_name(each) for each in values) if axis == "arrays" else tuple(values)
            )
    return found


def landscapes(problem: Problem, seen: Visits, found: Candidates | None) -> tuple[Landscape, ...]:
    """The first objective over height × width, for each kind of array.

    Args:
        problem: what was searched.
        seen: what was evaluated.
        found: the designs that might have won, with their bounds; None where nobody counted them.
    """
    space = problem.space
    drawn = _drawn(space.rows), _drawn(space.cols)
    good = np.flatnonzero(seen.feasible)
    cells = _Cells(problem, drawn)
    values = cells.least(seen.ids[good], seen.values[good, 0])  # noqa: PD011 (no frame of pandas)
    bounds, allowed = np.full(values.shape, np.nan), np.ones(values.shape, np.bool_)
    if found is not None:
        bounds = cells.least(found.ids, found.bounds[:, 0])
        allowed = ~np.isnan(bounds)
    values, bounds = problem.in_unit(values), problem.in_unit(bounds)
    rows, cols = drawn
    return tuple(
        Landscape(
            dataflow=array_name(array),
            objective=problem.objectives[0].value,
            rows=np.array(space.rows)[rows],
            cols=np.array(space.cols)[cols],
            values=values[place],
            bounds=bounds[place],
            allowed=allowed[place],
            thinned=len(rows) < len(space.rows) or len(cols) < len(space.cols),
        )
        for place, array in enumerate(space.arrays)
    )


@dataclass(frozen=True, slots=True)
class _Cells:
    """The cells of all kinds of arrays that are drawn."""

    problem: Problem
    drawn: tuple[NDArray[np.int64], NDArray[np.int64]]
    """Places of rows and of cols."""

    def least(self, ids: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.float64]:
        """(arrays, rows, cols): the least value of a cell's designs; NaN where there is none."""
        space = self.problem.space
        kinds, *sides = (space.place(ids, axis) for axis in range(3))
        cells = [
            np.searchsorted(drawn, side) for drawn, side in zip(self.drawn, sides, strict=True)
        ]
        inside = np.ones(len(ids), np.bool_)
        for drawn, cell, side in zip(self.drawn, cells, sides, strict=True):
            np.minimum(cell, len(drawn) - 1, out=cell)
            inside &= drawn[cell] == side
        least = np.full((len(space.arrays), *map(len, self.drawn)), np.inf)
        place = kinds[inside], cells[0][inside], cells[1][inside]
        np.minimum.at(least, place, values[inside])
        return np.where(np.isinf(least), np.nan, least)


def _drawn(axis: tuple[int, ...]) -> NDArray[np.int64]:
    """Places of the values of an axis that a picture has room for."""
    step = -(-len(axis) // MAX_CELLS)
    return np.arange(step - 1, len(axis), step)


def _known(count: np.int64) -> int | None:
    return None if count < 0 else int(count)
