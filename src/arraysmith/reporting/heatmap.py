"""Cycles over height × width as matrices to draw, one a dataflow, from the columns of a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from arraysmith.performance import ExplorationFacts

MAX_CELLS = 96
"""Cells of a drawn axis; a longer one is drawn every k-th value."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeatMap:
    """What one dataflow needs on every array; NaN where the limit on PEs excludes it."""

    dataflow: str
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    total_cycles: NDArray[np.float64]
    """(rows, cols)."""
    thinned: bool
    """Whether values of an axis were left out of the drawing."""


def heat_maps(facts: ExplorationFacts, designs: Mapping[str, NDArray[Any]]) -> tuple[HeatMap, ...]:
    """One heat map a dataflow, from columns `rows`, `cols`, `dataflow`, `total_cycles`."""
    axes = []
    for values in (facts.rows, facts.cols):
        step = -(-len(values) // MAX_CELLS)
        axes.append(np.array(values)[step - 1 :: step] if step > 1 else np.array(values))
    rows, cols = axes
    thinned = len(rows) < len(facts.rows) or len(cols) < len(facts.cols)
    drawn = np.isin(designs["rows"], rows) & np.isin(designs["cols"], cols)
    maps = []
    for dataflow in facts.dataflows:
        members = np.flatnonzero(drawn & (designs["dataflow"] == dataflow))
        if not len(members):
            continue
        cycles = np.full((len(rows), len(cols)), np.nan)
        row = np.searchsorted(rows, designs["rows"][members])
        col = np.searchsorted(cols, designs["cols"][members])
        cycles[row, col] = designs["total_cycles"][members]
        maps.append(
            HeatMap(dataflow=dataflow, rows=rows, cols=cols, total_cycles=cycles, thinned=thinned)
        )
    return tuple(maps)
