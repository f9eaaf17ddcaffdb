"""What came of an array under the model `physical`, as records.

Cycles and accesses are exact integers; energy and area are estimates in three sets that always go
together. Words of ifmap and filter are operands, of the ofmap partial sums unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from arraysmith.mapping import Mapping  # noqa: TC001 (msgspec reads the types of the fields)

MODEL = "physical"
SETS = ("low", "mid", "high")
"""The sets of estimates, in the order in which triples hold them."""
Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferTraffic:
    """What one operand moves between DRAM, its buffer and the array, in words."""

    dram_words_read: int
    """From DRAM into the buffer; of the ofmap, partial sums that come back."""
    dram_words_written: int
    """Of the ofmap: partial sums spilled, and outputs."""
    array_reads: int
    """From the buffer into the array."""
    array_writes: int
    """From the array into the buffer, one a pass."""
    resident_words: int
    """The most that lies in the buffer at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Picojoules of a layer by where they go, each low, mid and high."""

    mac_pj: Triple
    pe_cycles_pj: Triple
    """Clocking the PEs, used or not, while the array runs."""
    ifmap_buffer_pj: Triple
    filter_buffer_pj: Triple
    ofmap_buffer_pj: Triple
    dram_pj: Triple

    @property
    def parts(self) -> tuple[Triple, ...]:
        """In the order of the fields."""
        return tuple(getattr(self, name) for name in self.__slots__)

    @property
    def total_pj(self) -> Triple:
        """Low, mid and high."""
        low, mid, high = (sum(part[index] for part in self.parts) for index in range(3))
        return low, mid, high


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalLayerMetrics:
    """One layer on one accelerator under one mapping."""

    name: str
    mapping: Mapping
    macs: int
    pes: int
    total_cycles: int
    compute_cycles: int
    """In which operands stream through the array."""
    fill_drain_cycles: int
    """In which the array fills, drains, loads what stays, or waits for its SRAM's first word."""
    stall_cycles: int
    """In which the array waits for the DRAM."""
    steps: int
    """Tiles, one after the other."""
    ifmap: BufferTraffic
    filter: BufferTraffic
    ofmap: BufferTraffic
    dram_bytes: int
    """All that passes the channel."""
    energy: Energy
    groups_at_once: int = 1
    """Groups that lie on the array side by side."""

    def __post_init__(self) -> None:
        """Every cycle is accounted for."""
        parts = self.compute_cycles + self.fill_drain_cycles + self.stall_cycles
        if parts != self.total_cycles or self.total_cycles < 1 or self.pes < 1:
            raise ValueError(f"{parts} of {self.total_cycles} cycles on {self.pes} PEs")

    @property
    def utilization(self) -> float:
        """MACs over PE-cycles, a fraction."""
        return self.macs / (self.total_cycles * self.pes)

    @property
    def dram_bytes_per_cycle(self) -> float:
        """Mean over all cycles."""
        return self.dram_bytes / self.total_cycles

    @property
    def macs_per_dram_byte(self) -> float:
        """The operational intensity of a roofline."""
        return self.macs / self.dram_bytes

    @property
    def traffic(self) -> tuple[BufferTraffic, BufferTraffic, BufferTraffic]:
        """ifmap, filter and ofmap."""
        return self.ifmap, self.filter, self.ofmap

    @property
    def edp_pj_cycles(self) -> Triple:
        """Energy times cycles, low, mid and high."""
        low, mid, high = (energy * self.total_cycles for energy in self.energy.total_pj)
        return low, mid, high


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalNetworkMetrics:
    """A workload on one accelerator, each layer under its mapping, one after the other."""

    workload: str
    technology: str
    rows: int
    cols: int
    microarchitectures: tuple[str, ...]
    ifmap_buffer_kib: int
    filter_buffer_kib: int
    ofmap_buffer_kib: int
    double_buffered: bool
    dram_bytes_per_cycle: float
    array_area_mm2: Triple
    buffers_area_mm2: Triple
    layers: tuple[PhysicalLayerMetrics, ...]
    model: str = MODEL

    def __post_init__(self) -> None:
        """There are layers."""
        if not self.layers:
            raise ValueError("no layers")

    @property
    def total_cycles(self) -> int:
        """Of all layers."""
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
    def dram_bytes(self) -> int:
        """Of all layers."""
        return sum(layer.dram_bytes for layer in self.layers)

    @property
    def utilization(self) -> float:
        """MACs over PE-cycles, a fraction."""
        return self.macs / (self.total_cycles * self.rows * self.cols)

    @property
    def energy_pj(self) -> Triple:
        """Low, mid and high."""
        totals = [layer.energy.total_pj for layer in self.layers]
        low, mid, high = (sum(total[index] for total in totals) for index in range(3))
        return low, mid, high

    @property
    def area_mm2(self) -> Triple:
        """Low, mid and high."""
        low, mid, high = (
            array + buffers
            for array, buffers in zip(self.array_area_mm2, self.buffers_area_mm2, strict=True)
        )
        return low, mid, high


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedLayer:
    """What the mapper found for one layer: the best mapping, and why there is no better one."""

    layer: str
    objective: str
    best: PhysicalLayerMetrics
    front: tuple[PhysicalLayerMetrics, ...]
    """From few cycles to many; of an objective other than the front, the best alone."""
    cycles_at_least: int
    """No mapping of the space takes fewer; a bound, that none needs to reach."""
    energy_at_least_pj: float
    """No mapping of the space takes less, mid estimate."""
    mappings: int
    """That the space holds."""
    visited: int
    """Whose cycles were computed; all others were proven no better."""
    evaluated: int
    """Tiles and loop nests whose energy and bounds were computed to tell so."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedNetwork:
    """The best mappings of a network on one accelerator, and what they come to."""

    objective: str
    metrics: PhysicalNetworkMetrics
    """Each layer under its best mapping; of a front, the one of fewest cycles."""
    layers: tuple[MappedLayer, ...]

    def __post_init__(self) -> None:
        """One a layer."""
        if len(self.layers) != len(self.metrics.layers):
            raise ValueError(f"{len(self.layers)} mappings of {len(self.metrics.layers)} layers")

    @property
    def mappings(self) -> tuple[Mapping, ...]:
        """One a layer."""
        return tuple(layer.best.mapping for layer in self.layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopFacts:
    """One loop of a nest; those of a single trip are none."""

    over: str
    """What a trip moves along: "group packs", "rows", "output channels"…"""
    trips: int
    tile: int
    """Of it in one trip; the last may have less."""
    whole: int
    """Of it in all trips of the nest, which is what the layer has."""
    in_block: bool = False
    """Whether this is the innermost loop, over the tiles of a block."""
    loads: tuple[str, ...] = ()
    """Operands whose tile moves with this loop and with none inside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFacts:
    """One tile in time: it is computed, while the channel moves what is around it.

    That is, it stores results of the last tile and loads what the next one needs.
    """

    array_cycles: int
    transfer_cycles: int
    stored_bytes: int
    loaded_bytes: tuple[int, int, int]
    """ifmap, filter, and partial sums that come back."""

    @property
    def cycles(self) -> int:
        """Whichever takes longer."""
        return max(self.array_cycles, self.transfer_cycles)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTimeline:
    """A mapping as a loop nest, and its first steps in time."""

    layer: str
    groups_at_once: int
    loops: tuple[LoopFacts, ...]
    """Outermost first."""
    tile: str
    resident_bytes: tuple[int, int, int]
    """ifmap, filter and ofmap; the largest tile of each."""
    stays: tuple[str, ...]
    """Operands that are loaded once and stay for the whole layer."""
    spills: bool
    """Whether partial sums go to DRAM and come back."""
    first_load_cycles: int
    first_loaded_bytes: tuple[int, int, int]
    steps: tuple[StepFacts, ...]
    """The first ones."""
    rest_steps: int
    rest_cycles: int
    """Of all other steps together."""
    last_store_cycles: int

    @property
    def total_cycles(self) -> int:
        """Of the layer."""
        shown = sum(step.cycles for step in self.steps)
        return self.first_load_cycles + shown + self.rest_cycles + self.last_store_cycles


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalFacts:
    """What a run records of one accelerator under the model `physical`."""

    metrics: PhysicalNetworkMetrics
    timelines: tuple[LayerTimeline, ...]
    """One a layer."""

    def __post_init__(self) -> None:
        """One a layer."""
        if len(self.timelines) != len(self.metrics.layers):
            raise ValueError(f"{len(self.timelines)} nests of {len(self.metrics.layers)} layers")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsCompared:
    """One layer under SCALE-Sim and under the model `physical`, and what lies between.

    The physical figures are those of its best mappings by cycles, on the serial and on the
    pipelined array of the dataflow.
    """

    layer: str
    scalesim_cycles: int
    scalesim_stall_cycles: int
    habits_cycles: int
    """Added where folds of the whole layer take what they do: results leave the array too."""
    tiles_cycles: int
    """Added by cutting the layer into tiles that fit the buffers."""
    serial: str
    """The microarchitecture whose folds follow each other as SCALE-Sim's do."""
    serial_cycles: int
    serial_stall_cycles: int
    """Waiting for the one DRAM channel."""
    overlap_cycles: int
    """Added, mostly below zero, where a fold begins while the last one ends."""
    pipelined: str
    pipelined_cycles: int
    pipelined_stall_cycles: int
    scalesim_ifmap_words: int | None
    """From DRAM; where windows overlap, im2col's duplicates. None where not covered."""
    ifmap_words: int
    """From DRAM on the pipelined array; none is loaded twice for the windows of one tile."""

    def __post_init__(self) -> None:
        """The differences add up."""
        folds = self.scalesim_cycles - self.scalesim_stall_cycles + self.habits_cycles
        serial = folds + self.tiles_cycles
        if serial + self.serial_stall_cycles != self.serial_cycles:
            raise ValueError(f"{self.layer}: {serial} of {self.serial_cycles} cycles")
        pipelined = serial + self.overlap_cycles + self.pipelined_stall_cycles
        if pipelined != self.pipelined_cycles:
            raise ValueError(f"{self.layer}: {pipelined} of {self.pipelined_cycles} cycles")
