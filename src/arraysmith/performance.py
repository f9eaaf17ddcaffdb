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
