"""What came of an array: the figures of a simulation and of an exploration, as records.

Integers for cycles and accesses, fractions for utilization, units in the names.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamMetrics:
    """What one operand does at its buffer and at the DRAM; words are bytes."""

    sram_start_cycle: int
    sram_stop_cycle: int
    sram_words: int
    """Reads of ifmap and filter, writes of ofmap."""
    dram_start_cycle: int | None
    """None, with the next two: the closed form does not cover this stream."""
    dram_stop_cycle: int | None
    dram_words: int | None

    @property
    def dram_words_per_cycle(self) -> float | None:
        """The bandwidth this stream asks of the DRAM while it is active."""
        start, stop, words = self.dram_start_cycle, self.dram_stop_cycle, self.dram_words
        if start is None or stop is None or words is None:
            return None
        return words / (stop - start + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMetrics:
    """One layer on one accelerator under one model of time."""

    name: str
    S_R: int
    S_C: int
    T: int
    """The layer as the array sees it: rows, columns and streamed dimension."""
    folds: int
    total_cycles: int
    stall_cycles: int
    pes: int
    mapping_efficiency: float
    """Mean share of the array that a fold occupies."""
    compute_utilization: float
    """Mean share of PE-cycles of a fold that multiply, as the model counts a fold's cycles."""
    ifmap: StreamMetrics
    filter: StreamMetrics
    ofmap: StreamMetrics

    def __post_init__(self) -> None:
        """Time passes, on at least one PE."""
        if self.total_cycles < 1 or self.pes < 1:
            raise ValueError(f"{self.total_cycles} cycles on {self.pes} PEs")

    def folds_along_rows(self, rows: int) -> int:
        """How many folds an array of `rows` rows cuts S_R into."""
        return -(-self.S_R // rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations."""
        return self.S_R * self.S_C * self.T

    @property
    def overall_utilization(self) -> float:
        """MACs over PE-cycles."""
        return self.macs / (self.total_cycles * self.pes)

    @property
    def streams(self) -> tuple[StreamMetrics, StreamMetrics, StreamMetrics]:
        """ifmap, filter and ofmap."""
        return self.ifmap, self.filter, self.ofmap

    @property
    def sram_words(self) -> int:
        """Reads and writes of the three buffers."""
        return sum(stream.sram_words for stream in self.streams)

    @property
    def sram_words_per_cycle(self) -> float:
        """What the three buffers together must give and take."""
        return self.sram_words / self.total_cycles

    @property
    def dram_words(self) -> int | None:
        """All traffic with the DRAM; None where the closed form does not cover it."""
        words = [stream.dram_words for stream in self.streams if stream.dram_words is not None]
        return sum(words) if len(words) == len(self.streams) else None

    @property
    def total_cycles_with_prefetch(self) -> int | None:
        """From the first prefetched word to the last written one; None where not covered."""
        starts = [self.ifmap.dram_start_cycle, self.filter.dram_start_cycle]
        stop = self.ofmap.dram_stop_cycle
        known = [start for start in starts if start is not None]
        return None if stop is None or len(known) < len(starts) else stop - min(known)

    @property
    def dram_words_per_cycle(self) -> float | None:
        """All traffic over all cycles from the first prefetch: what a stall-free DRAM must give."""
        words, cycles = self.dram_words, self.total_cycles_with_prefetch
        return None if words is None or cycles is None else words / cycles


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkMetrics:
    """A workload on one accelerator under one model of time."""

    workload: str
    model: str
    """Which model of time, with its mode: "scalesim CALC"."""
    rows: int
    cols: int
    dataflow: str
    ifmap_buffer_kib: int
    filter_buffer_kib: int
    ofmap_buffer_kib: int
    dram_words_per_cycle: float | None
    layers: tuple[LayerMetrics, ...]

    def __post_init__(self) -> None:
        """There are layers, on an array."""
        if not self.layers or self.rows < 1 or self.cols < 1:
            raise ValueError(f"{len(self.layers)} layers on {self.rows}×{self.cols} PEs")

    @property
    def total_cycles(self) -> int:
        """Layers run one after the other."""
        return sum(layer.total_cycles for layer in self.layers)

    @property
    def stall_cycles(self) -> int:
        """Of all layers."""
        return sum(layer.stall_cycles for layer in self.layers)

    @property
    def macs(self) -> int:
        """Of all layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def overall_utilization(self) -> float:
        """MACs over PE-cycles of the whole network."""
        return self.macs / (self.total_cycles * self.rows * self.cols)

    @property
    def mapping_efficiency(self) -> float:
        """Mean over the layers, weighted by their cycles."""
        return self._weighted([layer.mapping_efficiency for layer in self.layers])

    @property
    def compute_utilization(self) -> float:
        """Mean over the layers, weighted by their cycles."""
        return self._weighted([layer.compute_utilization for layer in self.layers])

    @property
    def sram_words(self) -> int:
        """Reads and writes of the three buffers."""
        return sum(layer.sram_words for layer in self.layers)

    @property
    def dram_words(self) -> int | None:
        """All traffic with the DRAM; None where the closed form does not cover some layer."""
        words = [layer.dram_words for layer in self.layers if layer.dram_words is not None]
        return sum(words) if len(words) == len(self.layers) else None

    @property
    def peak_dram_words_per_cycle(self) -> float | None:
        """The layer that asks most of the DRAM; None where not covered."""
        known = [layer.dram_words_per_cycle for layer in self.layers]
        found = [value for value in known if value is not None]
        return max(found) if len(found) == len(known) else None

    def _weighted(self, values: list[float]) -> float:
        cycles = [layer.total_cycles for layer in self.layers]
        weighted = (value * cycle for value, cycle in zip(values, cycles, strict=True))
        return sum(weighted) / self.total_cycles


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignFacts:
    """One array for a whole network, and what its simulation asks of the memories."""

    rows: int
    cols: int
    dataflow: str
    pes: int
    total_cycles: int
    utilization: float
    """MACs over PE-cycles, a fraction."""
    dram_words: int | None = None
    """None, with the next: not simulated, or not covered by the closed form."""
    peak_dram_words_per_cycle: float | None = None

    def __str__(self) -> str:
        """Rows × columns and dataflow."""
        return f"{self.rows}×{self.cols} {self.dataflow.upper()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplorationFacts:
    """What an exhaustive exploration found."""

    workload: str
    model: str
    layers: int
    macs: int
    rows: tuple[int, ...]
    cols: tuple[int, ...]
    dataflows: tuple[str, ...]
    max_pes: int | None
    ifmap_buffer_kib: int
    filter_buffer_kib: int
    ofmap_buffer_kib: int
    dram_words_per_cycle: float | None
    objective: str
    covered: int
    """Designs whose cycles were computed: all of the space."""
    designs: int
    """Those of them that keep the limit on PEs; the best is proven among these."""
    best: DesignFacts
    ranking: tuple[DesignFacts, ...]
    best_per_dataflow: tuple[DesignFacts, ...]
    front: tuple[DesignFacts, ...]
    """Pareto front of cycles against PEs, from few PEs to many."""
    seconds: float
    """For computing all designs, without writing them."""

    def __post_init__(self) -> None:
        """Something was explored, in some time."""
        if not (self.rows and self.cols and self.dataflows and self.seconds > 0):
            raise ValueError("an exploration of nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalDesignFacts:
    """One array under the model `physical`, each layer under its best mapping by cycles."""

    rows: int
    cols: int
    microarchitectures: tuple[str, ...]
    pes: int
    cycles_at_least: int
    """The bound by whose order designs are visited."""
    total_cycles: int
    stall_cycles: int
    utilization: float
    """MACs over PE-cycles, a fraction."""
    dram_bytes: int
    energy_pj: tuple[float, float, float]
    """Low, mid, high."""
    area_mm2: tuple[float, float, float]

    def __str__(self) -> str:
        """Rows × columns and what may lie on it."""
        return f"{self.rows}×{self.cols} {', '.join(self.microarchitectures)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalExplorationFacts:
    """What a search through arrays under the model `physical` found."""

    workload: str
    technology: str
    rows: tuple[int, ...]
    cols: tuple[int, ...]
    arrays: tuple[str, ...]
    """What an array may be, as names joined by +."""
    max_pes: int | None
    ifmap_buffer_kib: int
    filter_buffer_kib: int
    ofmap_buffer_kib: int
    dram_bytes_per_cycle: float
    designs: int
    """Of the space, that keep the limit on PEs."""
    visited: tuple[PhysicalDesignFacts, ...]
    """From few cycles to many; the bound of every other is above the first one's cycles."""
    front: tuple[PhysicalDesignFacts, ...]
    """Of the visited: cycles against energy, mid estimate."""
    seconds: float
    model: str = "physical"

    def __post_init__(self) -> None:
        """Something was visited."""
        if not self.visited or self.designs < len(self.visited):
            raise ValueError("an exploration of nothing")

    @property
    def best(self) -> PhysicalDesignFacts:
        """Of fewest cycles, proven."""
        return self.visited[0]
