"""SCALE-Sim's CALC mode in closed form: every figure of a layer without walking its cycles.

`docs/cycles.md` derives the equations; numbers in comments are theirs. Cycles, utilization and
everything at the buffers is covered for every layer. DRAM figures are covered for a stream whose
distinct words fit its buffer; beyond that they need the walk and are None here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import InvalidWorkloadError
from arraysmith.hardware import Dataflow
from arraysmith.performance import LayerMetrics, NetworkMetrics, StreamMetrics
from arraysmith.simulation.scalesim.geometry import ALPHA, Im2col, im2col
from arraysmith.workload import ceil_div

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.hardware import Accelerator
    from arraysmith.workload import Layer, Workload

MODEL = "scalesim CALC"

# A read buffer is 100 sets of words, half of them prefetched at 10 words a cycle before cycle 0.
SETS, _ACTIVE_SETS, _FIRST_FILL_WORDS_PER_CYCLE = 100, 50, 10
WORDS_PER_KIB = 1024
MAX_FOLDS = 10**9
_FOLDS_TO_LOOP, _FOLDS_AT_ONCE = 2**10, 2**20
_STREAMED_AT_ONCE = 2**12


def simulate(workload: Workload, accelerator: Accelerator) -> NetworkMetrics:
    """All layers of a workload on one accelerator, stall-free (CALC).

    Raises:
        InvalidWorkloadError: a layer for which SCALE-Sim itself has no answer (a single cycle).
    """
    layers = tuple(simulate_layer(layer, accelerator) for layer in workload.layers)
    return network_metrics(workload, accelerator, MODEL, layers)


def network_metrics(
    workload: Workload, accelerator: Accelerator, model: str, layers: tuple[LayerMetrics, ...]
) -> NetworkMetrics:
    """The layers of a workload put together with what they ran on."""
    return NetworkMetrics(
        workload=workload.name,
        model=model,
        rows=accelerator.rows,
        cols=accelerator.cols,
        dataflow=accelerator.dataflow.value,
        ifmap_buffer_kib=accelerator.ifmap_buffer_kib,
        filter_buffer_kib=accelerator.filter_buffer_kib,
        ofmap_buffer_kib=accelerator.ofmap_buffer_kib,
        dram_words_per_cycle=accelerator.dram_words_per_cycle,
        layers=layers,
    )


def simulate_layer(
    layer: Layer, accelerator: Accelerator, matrix: Im2col | None = None
) -> LayerMetrics:
    """One layer on one accelerator; see `simulate`. `matrix` is its im2col if that is known."""
    folds = _folds(matrix or im2col(layer), accelerator)
    if folds.count > MAX_FOLDS:
        raise InvalidWorkloadError(
            f"layer {layer.name!r} takes {folds.count:,} folds on {accelerator}, more than "
            f"{MAX_FOLDS:,}; use a larger array"
        )
    total_cycles = folds.count * folds.cycles - 1  # (4): the index of the last cycle
    if total_cycles == 0:
        raise InvalidWorkloadError(
            f"layer {layer.name!r} takes a single cycle on {accelerator}: SCALE-Sim counts it as "
            "0 and divides by it; merge the layer with another or use a larger one"
        )
    starts, stops, words = folds.sram_starts, folds.sram_stops, folds.sram_words
    dram = (
        _read_from_dram(folds.matrix.distinct_ifmap_words, accelerator.ifmap_buffer_kib),
        _read_from_dram(folds.matrix.win * folds.matrix.filters, accelerator.filter_buffer_kib),
        _write_to_dram(
            folds.ofmap_words, accelerator.ofmap_buffer_kib, accelerator.cols, total_cycles
        ),
    )
    ifmap, filter_, ofmap = (
        StreamMetrics(
            sram_start_cycle=start,
            sram_stop_cycle=stop,
            sram_words=count,
            dram_start_cycle=first,
            dram_stop_cycle=last,
            dram_words=moved,
        )
        for start, stop, count, (first, last, moved) in zip(starts, stops, words, dram, strict=True)
    )
    return LayerMetrics(
        name=layer.name,
        S_R=folds.S_R,
        S_C=folds.S_C,
        T=folds.T,
        folds=folds.count,
        total_cycles=total_cycles,
        stall_cycles=0,
        pes=accelerator.pes,
        mapping_efficiency=folds.mapping_efficiency,
        compute_utilization=folds.compute_utilization,
        ifmap=ifmap,
        filter=filter_,
        ofmap=ofmap,
    )


def _folds(matrix: Im2col, accelerator: Accelerator) -> _Folds:
    """A layer cut for an array."""
    R, C = accelerator.rows, accelerator.cols
    S_R, S_C, T = matrix.on_array(accelerator.dataflow)
    along_rows, along_cols = ceil_div(S_R, R), ceil_div(S_C, C)
    return _Folds(
        matrix=matrix,
        dataflow=accelerator.dataflow,
        R=R,
        C=C,
        S_R=S_R,
        S_C=S_C,
        T=T,
        along_rows=along_rows,
        along_cols=along_cols,
        count=along_rows * along_cols,
        cycles=T + ALPHA[accelerator.dataflow] * R + C - 2,
        rows=S_R - (along_rows - 1) * R,
        cols=S_C - (along_cols - 1) * C,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folds:
    """A layer cut into array-fulls. The fold along the columns is the outer loop."""

    matrix: Im2col
    dataflow: Dataflow
    R: int
    C: int
    S_R: int
    S_C: int
    T: int
    along_rows: int
    along_cols: int
    count: int
    cycles: int
    """Of one fold; a partial one costs as much as a full one. (3)."""
    rows: int
    """Rows of the array that the last fold along them uses."""
    cols: int

    def _mean_over_folds(self, per_pe: int, over: int) -> float:
        """Mean of PEs · per_pe / over over all folds, the PEs being those a fold occupies.

        SCALE-Sim adds fold by fold from left to right, and so does this: other orders, and sums
        that compensate as those of Python and NumPy do, round otherwise.
        """
        total = 0.0
        for cols, times in ((self.C, self.along_cols - 1), (self.cols, 1)):
            full = self.R * cols * per_pe / over
            last = self.rows * cols * per_pe / over
            if self.along_rows * times <= _FOLDS_TO_LOOP:
                outer = [full] * (self.along_rows - 1) + [last]
                total = reduce(add, outer * times, total)
                continue
            outer_at_once = max(1, _FOLDS_AT_ONCE // self.along_rows)
            for start in range(0, times, outer_at_once):
                outers = min(outer_at_once, times - start)
                for inner in range(0, self.along_rows, _FOLDS_AT_ONCE):
                    shares = np.full(min(_FOLDS_AT_ONCE, self.along_rows - inner), full)
                    if inner + len(shares) == self.along_rows:
                        shares[-1] = last
                    shares = np.tile(shares, outers)
                    shares[0] += total
                    total = float(np.cumsum(shares)[-1])
        return total / self.count

    @property
    def mapping_efficiency(self) -> float:
        """(6)."""
        return self._mean_over_folds(1, self.R * self.C)

    @property
    def compute_utilization(self) -> float:
        """(7). For WS and IS SCALE-Sim divides by more cycles than a fold has (Q5)."""
        cycles = self.cycles
        if self.dataflow is not Dataflow.OS:
            cycles += self.C - 1
        return self._mean_over_folds(self.T, self.R * self.C * cycles)

    @property
    def ofmap_words(self) -> int:
        """What is written out; WS and IS write partial sums once for each fold along K. (9)."""
        if self.dataflow is Dataflow.OS:
            return self.S_R * self.S_C
        return self.along_rows * self.S_C * self.T

    @property
    def sram_words(self) -> tuple[int, int, int]:
        """Reads of ifmap and filter, writes of ofmap. (8)."""
        if self.dataflow is Dataflow.OS:
            return (
                self.along_cols * self.S_R * self.T,
                self.along_rows * self.S_C * self.T,
                self.ofmap_words + self.count * (self.R + self.C),  # Q4
            )
        streamed, stationary = self.along_cols * self.S_R * self.T, self.S_R * self.S_C
        reads = (streamed, stationary)
        if self.dataflow is Dataflow.IS:
            reads = (stationary, streamed)
        return (*reads, self.ofmap_words)

    @property
    def sram_starts(self) -> tuple[int, int, int]:
        """First cycle of each stream at its buffer; a read is stamped a cycle late (Q17). (10)."""
        first_rows = min(self.S_R, self.R)
        loaded, streamed = self.R - first_rows + 1, self.R + 1
        match self.dataflow:
            case Dataflow.OS:
                return 1, 1, self.T - 1 + self.R - first_rows
            case Dataflow.WS:
                return streamed, loaded, 2 * self.R - 1
            case Dataflow.IS:
                return loaded, streamed, 2 * self.R - 1

    @property
    def sram_stops(self) -> tuple[int, int, int]:
        """Last cycle of each stream at its buffer. (11)."""
        base = (self.count - 1) * self.cycles
        rows, cols = self.rows, self.cols
        ifmap = self._last_ifmap_cycle() + 1
        match self.dataflow:
            case Dataflow.OS:
                return ifmap, base + cols + self.T - 1, base + self.T + self.R + cols - 3
            case Dataflow.WS:
                return ifmap, base + self.R, base + 2 * self.R + self.T + cols - 3
            case Dataflow.IS:
                streamed = base + self.R + rows + self.T - 1
                return ifmap, streamed, base + 2 * self.R + self.T + cols - 3

    def _last_ifmap_cycle(self) -> int:
        """The cycle of the last ifmap element asked for, passing over what hangs over the edge."""
        if not self.matrix.overhangs:
            last = (self.count - 1) * self.cycles
            rows = self.rows
            match self.dataflow:
                case Dataflow.OS:
                    return last + rows + self.T - 2
                case Dataflow.WS:
                    return last + self.R + rows + self.T - 2
                case Dataflow.IS:
                    return last + self.R - 1
        for fold in range(self.count - 1, -1, -1):
            latest = -1
            # The streamed dimension is looked through from its end, a block at a time; what lies
            # before a block is asked for at most R - 1 cycles after the block begins.
            for stop in range(self.T, 0, -_STREAMED_AT_ONCE):
                start = max(0, stop - _STREAMED_AT_ONCE)
                pixel, word, cycle = self._ifmap_requests(fold, start, stop)
                inside = self.matrix.inside(pixel, word)
                latest = max(latest, int(np.where(inside, cycle, -1).max()))
                if latest >= int(cycle.min()) + self.R:
                    break
            if latest >= 0:
                return fold * self.cycles + latest
        raise AssertionError("element (0, 0) always lies in the ifmap")

    def _ifmap_requests(
        self, fold: int, start: int, stop: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Pixels, words and cycles within a fold of ifmap elements; they broadcast.

        Only elements start…stop-1 of the streamed dimension, where the ifmap is what streams.
        """
        outer, inner = divmod(fold, self.along_rows)
        row = np.arange(inner * self.R, min((inner + 1) * self.R, self.S_R))
        col = np.arange(outer * self.C, min((outer + 1) * self.C, self.S_C))
        lane, streamed = row - inner * self.R, np.arange(start, stop)
        match self.dataflow:
            case Dataflow.OS:
                return row[:, None], streamed[None], lane[:, None] + streamed[None]
            case Dataflow.WS:
                return streamed[:, None], row[None], self.R + lane[None] + streamed[:, None]
            case Dataflow.IS:
                cycle = np.broadcast_to(self.R - 1 - lane[None], (len(col), len(row)))
                return col[:, None], row[None], cycle


def _read_from_dram(words: int, buffer_kib: int) -> tuple[int | None, int | None, int | None]:
    """DRAM start, stop and words of a read stream that fits its buffer. (12)."""
    set_words = buffer_kib * WORDS_PER_KIB // SETS
    if words >= _ACTIVE_SETS * set_words:
        return None, None, None
    return prefetched(words, set_words)


def prefetched(words: int, set_words: int) -> tuple[int, int, int]:
    """DRAM start, stop and words of a read stream that is fetched whole before cycle 0."""
    sets = ceil_div(words, set_words)
    return -ceil_div(sets * set_words, _FIRST_FILL_WORDS_PER_CYCLE), -1, words


def _write_to_dram(
    words: int, buffer_kib: int, words_per_cycle: int, total_cycles: int
) -> tuple[int | None, int | None, int | None]:
    """DRAM start, stop and words of the ofmap if half its buffer holds it. (13)."""
    if words > buffer_kib * WORDS_PER_KIB // 2:
        return None, None, None
    return written_at_the_end(words, words_per_cycle, total_cycles)


def written_at_the_end(words: int, words_per_cycle: int, total_cycles: int) -> tuple[int, int, int]:
    """DRAM start, stop and words of an ofmap that is written whole after the last cycle."""
    return total_cycles, total_cycles + ceil_div(words, words_per_cycle) - 1, words
