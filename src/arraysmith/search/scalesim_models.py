"""SCALE-Sim's two modes over a space of designs.

CALC mode does not stall, so its cycles are a closed form. For one dataflow a layer takes
ceil(S_R/R)·ceil(S_C/C)·(T + αR + C - 2) - 1 cycles. The first factor depends on layer and R alone,
the second on layer and C alone, so over a grid of R × C

    A[R, l] = ceil(S_R[l] / R)       B[l, C] = ceil(S_C[l] / C)
    total   = (A·(T - 2)) @ B + (αR + C) ∘ (A @ B) - layers                 (14) in docs/cycles.md

float64 holds every one of these integers exactly below 2^53; beyond, Python's integers compute.
USER mode takes those cycles and the stalls on top, so CALC is its lower bound.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import DesignSpaceError, InvalidWorkloadError
from arraysmith.hardware import Dataflow, StreamBandwidths
from arraysmith.search.problem import EXACT, NO_LIMIT, Bounds, Figures, arrays_of
from arraysmith.simulation.scalesim.closed_form import MODEL
from arraysmith.simulation.scalesim.geometry import ALPHA, im2col
from arraysmith.space import array_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.performance import NetworkMetrics
    from arraysmith.space import DesignSpace
    from arraysmith.workload import Workload

    Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calc:
    """CALC mode: closed form, exact for every design at once."""

    workload: Workload
    space: DesignSpace
    name: str = MODEL
    exact_bounds: bool = True

    def __post_init__(self) -> None:
        """Whether the space is SCALE-Sim's, and its cycles can be counted."""
        on_array, count = self._layers()
        rows, cols = np.array(self.space.rows), np.array(self.space.cols)
        for dataflow in {each for array in arrays_of(self.space, Dataflow) for each in array}:
            check_countable(on_array[dataflow], count, rows, cols, dataflow)

    def groups(self, ids: Ints) -> Ints:
        """A closed form is quickest for many at a time."""
        return np.zeros(len(ids), np.int64)

    def network(self, number: int) -> NetworkMetrics:
        """All figures of one design; see `network_metrics`."""
        return network_metrics(self.workload, self.space, number, None)

    def bounds(self) -> Bounds:
        """The cycles themselves.

        Raises:
            InvalidWorkloadError: a design without any cycle.
        """
        on_array, count = self._layers()
        grids = np.stack(
            [self._grid(array, on_array, count) for array in arrays_of(self.space, Dataflow)]
        )
        self._check_cycles(grids)
        return Bounds(total_cycles=grids.reshape(*grids.shape, 1, 1, 1, 1, 1, 1))

    def evaluate(self, ids: Ints, most_cycles: Ints) -> Figures:
        """(n,) designs; there is no need to stop early."""
        del most_cycles
        places = self.space.places(ids)
        rows = np.array(self.space.rows, np.int64)[places[:, 1], None]
        cols = np.array(self.space.cols, np.int64)[places[:, 2], None]
        on_array, count = self._layers()
        total = np.zeros(len(ids), np.int64)
        for kind, array in enumerate(arrays_of(self.space, Dataflow)):
            members = np.flatnonzero(places[:, 0] == kind)
            R, C = rows[members], cols[members]
            cycles = np.full((len(members), len(count)), NO_LIMIT)
            for dataflow in array:
                S_R, S_C, T = on_array[dataflow].T
                folds = -(-S_R // R) * -(-S_C // C)
                cycles = np.minimum(cycles, folds * (T + ALPHA[dataflow] * R + C - 2) - 1)
            total[members] = cycles @ count
        self._check_cycles(total)
        return Figures.of_cycles(total)

    def _layers(self) -> tuple[dict[Dataflow, Ints], Ints]:
        """(layers, 3) S_R, S_C, T of each kind of layer by dataflow, and (layers,) how often."""
        matrices = Counter(im2col(layer) for layer in self.workload.layers)
        on_array = {
            dataflow: np.array([matrix.on_array(dataflow) for matrix in matrices], np.int64)
            for dataflow in Dataflow
        }
        return on_array, np.array(list(matrices.values()), np.int64)

    def _grid(
        self, array: tuple[Dataflow, ...], on_array: dict[Dataflow, Ints], count: Ints
    ) -> Ints:
        """(rows, cols) cycles of the network; each layer on the dataflow that suits it best."""
        rows, cols = np.array(self.space.rows, np.int64), np.array(self.space.cols, np.int64)
        if len(array) == 1:
            return total_cycles(on_array[array[0]], count, rows, cols, ALPHA[array[0]])
        total = np.zeros((len(rows), len(cols)), np.int64)
        for layer in range(len(count)):
            one = slice(layer, layer + 1)
            each = [
                total_cycles(on_array[dataflow][one], count[one], rows, cols, ALPHA[dataflow])
                for dataflow in array
            ]
            total += np.minimum.reduce(each)
        return total

    def _check_cycles(self, total: Ints) -> None:
        if not total.all():
            raise InvalidWorkloadError(
                f"workload {self.workload.name!r} is nothing but single products, which SCALE-Sim "
                "counts as 0 cycles on a 1×1 array; give it a larger layer"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class User:
    """USER mode: CALC's cycles and the stalls of three streams, from the exact memory model."""

    workload: Workload
    space: DesignSpace
    name: str = "scalesim USER"
    exact_bounds: bool = False

    def __post_init__(self) -> None:
        """Whether the space is one that USER mode knows."""
        arrays_of(self.space, Dataflow)
        for rate in self.space.dram_bytes_per_cycle:
            if rate != int(rate) or rate < 1:
                raise DesignSpaceError(
                    f"--bandwidth {rate} in USER mode; SCALE-Sim takes whole words a cycle, from 1"
                )

    def groups(self, ids: Ints) -> Ints:
        """Each design by itself."""
        return ids

    def network(self, number: int) -> NetworkMetrics:
        """All figures of one design; see `network_metrics`."""
        rate = float(self.space.columns(np.array([number]))[RATE][0])
        return network_metrics(self.workload, self.space, number, streams(rate))

    def bounds(self) -> Bounds:
        """CALC's cycles: a stall only adds to them."""
        return Calc(workload=self.workload, space=self.space).bounds()

    def evaluate(self, ids: Ints, most_cycles: Ints) -> Figures:
        """(n,) designs by the exact memory model, layer by layer."""
        del most_cycles
        found = [self._one(int(number)) for number in ids]
        cycles, stalls = np.array(found, np.int64).reshape(-1, 2).T
        return Figures(
            total_cycles=cycles,
            exact=np.ones(len(ids), np.bool_),
            stall_cycles=stalls,
            dram_bytes=np.full(len(ids), -1, np.int64),
            energy_pj=np.full((len(ids), 3), np.nan),
        )

    def _one(self, number: int) -> tuple[int, int]:
        found = self.network(number)
        return found.total_cycles, found.stall_cycles


RATE = "dram_bytes_per_cycle"


def streams(words_per_cycle: float) -> StreamBandwidths:
    """The same for each of the three streams."""
    words = int(words_per_cycle)
    return StreamBandwidths(
        ifmap_words_per_cycle=words, filter_words_per_cycle=words, ofmap_words_per_cycle=words
    )


def network_metrics(
    workload: Workload, space: DesignSpace, number: int, bandwidths: StreamBandwidths | None
) -> NetworkMetrics:
    """A design layer by layer, each on the dataflow that takes it the fewest cycles.

    Raises:
        InvalidWorkloadError: a layer for which SCALE-Sim has no answer.
    """
    # Compiled code, only where it is needed.
    from arraysmith.simulation.scalesim.model import simulate  # noqa: PLC0415

    results = [
        simulate(workload, accelerator, bandwidths) for accelerator in space.scalesim(number)
    ]
    layers = tuple(
        min(choices, key=lambda layer: layer.total_cycles)
        for choices in zip(*(result.layers for result in results), strict=True)
    )
    return replace(results[0], dataflow=array_name(space.array(number)), layers=layers)


def total_cycles(on_array: Ints, count: Ints, rows: Ints, cols: Ints, alpha: int) -> Ints:
    """(rows, cols): cycles of the whole network for every array, (14).

    Args:
        on_array: (layers, 3), S_R, S_C and T of each layer.
        count: (layers,), how often each layer occurs.
        rows, cols: array heights and widths.
        alpha: 1 for OS, 2 for WS and IS.
    """
    S_R, S_C, T = on_array.T
    kind = np.float64 if _largest(on_array, count, rows, cols, alpha) < EXACT else np.int64
    A = (-(-S_R // rows[:, None]) * count).astype(kind)  # (rows, layers)
    B = (-(-S_C[:, None] // cols)).astype(kind)  # (layers, cols)
    folds = A @ B
    skew = (alpha * rows[:, None] + cols).astype(kind)
    total = (A * (T - 2)) @ B + skew * folds
    cycles: Ints = total.astype(np.int64) - int(count.sum())
    return cycles


def check_countable(
    on_array: Ints, count: Ints, rows: Ints, cols: Ints, dataflow: Dataflow
) -> None:
    """Whether 64 bits hold the cycles of the smallest arrays.

    Raises:
        DesignSpaceError: they do not.
    """
    if _largest(on_array, count, rows, cols, ALPHA[dataflow]) > NO_LIMIT:
        raise DesignSpaceError(
            "the smallest arrays take more cycles than 64 bits count; start rows and cols higher"
        )


def _largest(on_array: Ints, count: Ints, rows: Ints, cols: Ints, alpha: int) -> int:
    """A bound in Python's integers: it decides whether the rest may overflow."""
    folds = [
        n * -(-r // int(rows.min())) * -(-c // int(cols.min()))
        for n, (r, c, _) in zip(count.tolist(), on_array.tolist(), strict=True)
    ]
    longest = int(on_array[:, 2].max()) + alpha * int(rows.max()) + int(cols.max()) + 2
    return int(sum(folds) * longest)
