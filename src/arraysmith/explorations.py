"""What an exploration found: facts of designs, the search and its proof, ready to be drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

Triple = tuple[float, float, float]
"""Low, mid and high estimate; what is searched and compared is the mid one."""

OBJECTIVE_UNITS = {
    "cycles": "cycles",
    "energy": "pJ",
    "area": "mm²",
    "edp": "J·s",
    "utilization": "MACs per PE-cycle",
    "pe-cycles": "PE-cycles",
}
"""Of each objective's value; utilization is made largest, all others smallest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignFacts:
    """One accelerator for a whole network, and what the model of time says of it."""

    rows: int
    cols: int
    dataflow: str
    """`os`, or under `physical` the microarchitecture; + joins what a layer may choose from."""
    ifmap_buffer_kib: int
    filter_buffer_kib: int
    ofmap_buffer_kib: int
    dram_bytes_per_cycle: float | None = None
    """None under SCALE-Sim's CALC mode; in USER mode words a cycle of each of the three streams."""
    operand_bytes: int = 1
    psum_bytes: int = 4
    pes: int
    total_cycles: int
    utilization: float
    """MACs over PE-cycles, a fraction."""
    stall_cycles: int | None = None
    """None, with all that follow: the model does not say, or was not asked."""
    dram_bytes: int | None = None
    peak_dram_words_per_cycle: float | None = None
    """SCALE-Sim's bandwidth requirement."""
    energy_pj: Triple | None = None
    power_w: Triple | None = None
    edp_js: Triple | None = None
    area_mm2: Triple | None = None

    def __str__(self) -> str:
        """Rows × columns and what may lie on it."""
        kinds = self.dataflow.upper() if len(self.dataflow) == 2 else self.dataflow
        return f"{self.rows}×{self.cols} {kinds}"

    def value(self, objective: str) -> float:
        """The value of an objective, in its unit: `OBJECTIVE_UNITS`."""
        if objective == "cycles":
            return self.total_cycles
        if objective == "pe-cycles":
            return self.total_cycles * self.pes
        if objective == "utilization":
            return self.utilization
        estimate = {"energy": self.energy_pj, "edp": self.edp_js, "area": self.area_mm2}[objective]
        return float("nan") if estimate is None else estimate[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """How far a search had come after so many evaluations."""

    evaluated: int
    value: float
    """Best value of the one objective; or, of several, the hypervolume as a share of the end's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplorationFacts:
    """What an exploration found, and how sure that is."""

    workload: str
    model: str
    """`scalesim CALC`, `scalesim USER` or `physical`."""
    layers: int
    macs: int
    technology: str
    """Of areas and energies."""
    clock_mhz: float
    """What powers and EDPs are for."""
    axes: dict[str, tuple[float | str, ...]]
    """Every axis of the space by its name in `DesignFacts`, with its values."""
    constraints: dict[str, float]
    """By name (`max_pes`, `max_area_mm2`, `max_total_kib`, `max_power_w`, `min_utilization`)."""
    objectives: tuple[str, ...]
    """One, or those of the front; the first decides what is best."""
    map_for: str | None
    """What each layer's mapping is best at: cycles, energy or edp; None under scalesim."""
    search: str
    """Name of the strategy."""
    seed: int | None
    budget: int | None
    covered: int
    """Designs of the space."""
    designs: int
    """Those of them that keep the constraints on PEs, area and KiB."""
    evaluated: int
    """Those whose exact figures were computed."""
    ruled_out: int
    """Those that a bound showed to be no better, without or in the middle of an evaluation."""
    proven: bool
    """Whether no design of the space is better than what was found."""
    stopped: str
    """Why the search ended."""
    gap: float | None
    """The most by which the answer could still be bettered, as a fraction of the best value, or of
    several objectives' hypervolume; 0 where proven, None where no bound is known."""
    best: DesignFacts
    ranking: tuple[DesignFacts, ...]
    best_per_dataflow: tuple[DesignFacts, ...]
    front: tuple[DesignFacts, ...]
    """By ascending first objective; of a front larger than this, every k-th."""
    front_size: int
    history: tuple[Checkpoint, ...]
    seconds: float
    """Of the search, without writing."""
    command: str = ""

    def __post_init__(self) -> None:
        """Something was explored."""
        if not self.axes or not self.objectives or not self.ranking or not self.front:
            raise ValueError("an exploration of nothing")
        if self.designs < 1 or self.covered < self.designs or self.front_size < len(self.front):
            raise ValueError(f"{self.designs} designs of {self.covered}")
        if self.evaluated < 0 or self.ruled_out < 0 or self.seconds < 0:
            raise ValueError(f"{self.evaluated} evaluated in {self.seconds} s")

    @property
    def max_pes(self) -> int | None:
        """The limit on PEs, if any."""
        limit = self.constraints.get("max_pes")
        return None if limit is None else int(limit)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Landscape:
    """The first objective over height × width for one kind of array, as a picture takes it.

    A cell is the best over all other axes.
    """

    dataflow: str
    objective: str
    rows: NDArray[Any]
    cols: NDArray[Any]
    values: NDArray[Any]
    """(rows, cols): of designs that were evaluated; NaN where none was."""
    bounds: NDArray[Any]
    """(rows, cols): what no design there betters; NaN where not known."""
    allowed: NDArray[Any]
    """(rows, cols): whether some design there keeps the constraints."""
    thinned: bool
    """Whether values of an axis were left out."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExploredDesigns:
    """All that pictures of an exploration need beside its facts."""

    columns: Mapping[str, NDArray[Any]]
    """Evaluated designs, one array a field of `DesignFacts` (energies and areas mid), of equal
    length; and `front`, whether a design is on it."""
    landscapes: tuple[Landscape, ...] = field(default=())
