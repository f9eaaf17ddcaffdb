"""Every design of a space at once, exactly: the network total as matrix products.

For one dataflow a layer takes ceil(S_R/R)·ceil(S_C/C)·(T + αR + C - 2) - 1 cycles. The first factor
depends on layer and R alone, the second on layer and C alone, so over a grid of R × C

    A[R, l] = ceil(S_R[l] / R)       B[l, C] = ceil(S_C[l] / C)
    total   = (A·(T - 2)) @ B + (αR + C) ∘ (A @ B) - layers                 (14) in docs/cycles.md

float64 holds every one of these integers exactly below 2^53; beyond, Python's integers compute.
Because every design is computed, the best one found is the optimum.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.errors import DesignSpaceError, InvalidWorkloadError
from arraysmith.search.pareto import pareto_front
from arraysmith.search.space import Objective
from arraysmith.simulation.scalesim.closed_form import MODEL
from arraysmith.simulation.scalesim.geometry import ALPHA, im2col

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.hardware import Dataflow
    from arraysmith.search.space import DesignSpace
    from arraysmith.workload import Workload

_EXACT = 2**53
_LARGEST = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """One array for the whole network, with what the model of time says of it."""

    rows: int
    cols: int
    dataflow: Dataflow
    total_cycles: int
    utilization: float
    """MACs over PE-cycles, a fraction."""

    @property
    def pes(self) -> int:
        """Processing elements."""
        return self.rows * self.cols

    def __str__(self) -> str:
        """Rows × columns and dataflow."""
        return f"{self.rows}×{self.cols} {self.dataflow.upper()}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exploration:
    """All designs of a space with their cycles."""

    workload: str
    macs: int
    space: DesignSpace
    total_cycles: NDArray[np.int64]
    """(dataflows, rows, cols)."""
    model: str = MODEL

    @property
    def best(self) -> Design:
        """The optimum by cycles."""
        return self.ranking(Objective.CYCLES, 1)[0]

    def ranking(
        self, objective: Objective, count: int, dataflow: Dataflow | None = None
    ) -> list[Design]:
        """The `count` best designs, of one dataflow or of all.

        Ties: fewer cycles, then fewer PEs, then fewer rows, then the dataflow in the order OS, WS,
        IS; no two designs are equal in all of these.
        """
        score = self._score(objective)
        if dataflow is not None:
            others = [found is not dataflow for found in self.space.dataflows]
            score[others] = _LARGEST
        flat = score.ravel()
        count = min(count, int(np.count_nonzero(flat < _LARGEST)))
        if count == 0:
            return []
        worst = np.partition(flat, count - 1)[count - 1]
        candidates = np.flatnonzero(flat <= worst)
        return [self._design(i) for i in self._sorted(candidates, flat[candidates])[:count]]

    @property
    def front(self) -> list[Design]:
        """The Pareto front of cycles against PEs, from few PEs to many."""
        allowed = np.broadcast_to(self.space.allowed, self.total_cycles.shape).ravel()
        pes = np.broadcast_to(self.space.pes, self.total_cycles.shape).ravel()
        cycles = self.total_cycles.ravel()
        members = np.flatnonzero(allowed)
        kept = members[pareto_front(pes[members], cycles[members])]
        ordered = self._sorted(kept, pes[kept])
        # Designs of equal PEs and equal cycles: one stands for all, by the rule for ties.
        first = np.unique(pes[ordered], return_index=True)[1]
        return [self._design(i) for i in ordered[first]]

    def columns(self) -> dict[str, NDArray[Any]]:
        """All designs that keep the limit, as columns of equal length."""
        allowed = np.broadcast_to(self.space.allowed, self.total_cycles.shape)
        dataflow, row, col = np.nonzero(allowed)
        rows = np.array(self.space.rows, np.int32)[row]
        cols = np.array(self.space.cols, np.int32)[col]
        cycles = self.total_cycles[allowed]
        utilization = self.macs / (cycles * rows.astype(np.float64) * cols)
        return {
            "rows": rows,
            "cols": cols,
            "dataflow": np.array([found.value for found in self.space.dataflows])[dataflow],
            "total_cycles": cycles,
            "utilization": utilization,
        }

    def _score(self, objective: Objective) -> NDArray[np.int64]:
        """(dataflows, rows, cols): what is made smallest; excluded designs at the largest."""
        cost = self.total_cycles
        if objective is not Objective.CYCLES:
            products = np.where(self.space.allowed, cost * self.space.pes.astype(np.float64), 0)
            if products.max() >= float(_LARGEST):
                raise DesignSpaceError("cycles × PEs leave 64 bits; limit rows, cols or --max-pes")
            cost = cost * self.space.pes
        return np.where(self.space.allowed, cost, _LARGEST)

    def _sorted(self, flat: NDArray[np.int64], score: NDArray[np.int64]) -> NDArray[np.int64]:
        dataflow, row, col = np.unravel_index(flat, self.total_cycles.shape)
        cycles = self.total_cycles.ravel()[flat]
        order = np.lexsort((dataflow, row, self.space.pes[row, col], cycles, score))
        return flat[order]

    def _design(self, flat: int) -> Design:
        dataflow, row, col = (int(i) for i in np.unravel_index(flat, self.total_cycles.shape))
        cycles = int(self.total_cycles[dataflow, row, col])
        rows, cols = self.space.rows[row], self.space.cols[col]
        return Design(
            rows=rows,
            cols=cols,
            dataflow=self.space.dataflows[dataflow],
            total_cycles=cycles,
            utilization=self.macs / (cycles * rows * cols),
        )


def explore(workload: Workload, space: DesignSpace) -> Exploration:
    """Cycles of a workload on every design of a space, under SCALE-Sim's CALC mode."""
    matrices = Counter(im2col(layer) for layer in workload.layers)
    count = np.array(list(matrices.values()), np.int64)
    total = np.stack(
        [
            total_cycles(
                np.array([matrix.on_array(dataflow) for matrix in matrices], np.int64),
                count,
                np.array(space.rows, np.int64),
                np.array(space.cols, np.int64),
                ALPHA[dataflow],
            )
            for dataflow in space.dataflows
        ]
    )
    macs = sum(matrix.px * matrix.win * matrix.filters * n for matrix, n in matrices.items())
    if not total.all():
        raise InvalidWorkloadError(
            f"workload {workload.name!r} is nothing but single products, which SCALE-Sim counts as "
            "0 cycles on a 1×1 array; give it a larger layer"
        )
    return Exploration(workload=workload.name, macs=macs, space=space, total_cycles=total)


def total_cycles(
    on_array: NDArray[np.int64],
    count: NDArray[np.int64],
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    alpha: int,
) -> NDArray[np.int64]:
    """(rows, cols): cycles of the whole network for every array, (14).

    Args:
        on_array: (layers, 3), S_R, S_C and T of each layer.
        count: (layers,), how often each layer occurs.
        rows, cols: array heights and widths.
        alpha: 1 for OS, 2 for WS and IS.

    Raises:
        DesignSpaceError: the cycles do not fit 64 bits.
    """
    S_R, S_C, T = on_array.T
    folds_bound = [  # Python integers: this is what decides whether the rest may overflow
        n * -(-r // int(rows.min())) * -(-c // int(cols.min()))
        for n, r, c in zip(count.tolist(), S_R.tolist(), S_C.tolist(), strict=True)
    ]
    longest = int(T.max()) + alpha * int(rows.max()) + int(cols.max()) + 2
    bound = sum(folds_bound) * longest
    if bound > _LARGEST:
        raise DesignSpaceError(
            "the smallest arrays take more cycles than 64 bits count; start rows and cols higher"
        )
    kind = np.float64 if bound < _EXACT else np.int64
    A = (-(-S_R // rows[:, None]) * count).astype(kind)  # (rows, layers)
    B = (-(-S_C[:, None] // cols)).astype(kind)  # (layers, cols)
    folds = A @ B
    skew = (alpha * rows[:, None] + cols).astype(kind)
    total = (A * (T - 2)) @ B + skew * folds
    cycles: NDArray[np.int64] = total.astype(np.int64) - int(count.sum())
    return cycles
