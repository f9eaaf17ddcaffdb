"""How near search strategies come to true fronts: `python benchmarks/search_strategies.py`.

Prints a Markdown table; `--png PATH` draws it as well. Every design of each space is computed, so
its front is known. Strategies then search it with several seeds, and what they have found after so
many evaluations is measured against the front: the volume that the found designs dominate over the
volume that the front dominates, objectives on logarithmic axes, below the worst of the front.
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.formats.technology import read_technology
from arraysmith.formats.topology import read_topology
from arraysmith.hardware import Microarchitecture, PhysicalAccelerator
from arraysmith.mapping import ORDERS
from arraysmith.search.heuristic import run
from arraysmith.search.mapspace import map_space
from arraysmith.search.pareto import feasible, hypervolume, hypervolume_history, non_dominated
from arraysmith.search.scalesim_models import Calc
from arraysmith.search.strategies import STRATEGIES
from arraysmith.simulation.physical.array import MICROARCHITECTURES
from arraysmith.simulation.physical.closed_form import (
    IFMAP_DRAM,
    IFMAP_RESIDENT,
    OFMAP_OUTPUT,
    TOTAL,
    evaluate,
)
from arraysmith.simulation.physical.cost import area_mm2
from arraysmith.simulation.physical.vectors import (
    BLOCKED_DIMENSION,
    accelerator_vector,
    layer_vector,
)
from arraysmith.space import DesignSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from arraysmith.search.strategies.contract import Answer, Designs
    from arraysmith.workload import Layer

RESNET50 = Path(__file__).parents[1] / "examples" / "resnet50.csv"
LAYER = "layer2.1.conv2"
"""3×3, 128 channels to 128, 28×28 pixels: the one whose arrays and mappings are searched."""
AREA_MM2 = 10
COUNTS = (50, 100, 200, 500, 1000, 2000)
SEEDS = range(100, 110)
"""Others than those that settings of strategies were tried with."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Space:
    """All there is to know of a space; designs count up as in `np.ndindex(sizes)`."""

    name: str
    sizes: tuple[int, ...]
    F: NDArray[np.float64]
    """(designs, objectives), all above 0."""
    G: NDArray[np.float64]
    """(designs, constraints)."""

    def evaluate(self, designs: Designs) -> Answer:
        """What a strategy is told."""
        places = np.ravel_multi_index(tuple(designs.T), self.sizes)
        return self.F[places], self.G[places]


def cycles_and_pes() -> Space:
    """ResNet-50 under SCALE-Sim on each array of up to 256×256 PEs, in three dataflows."""
    axis = tuple(range(1, 257))
    space = DesignSpace(rows=axis, cols=axis)
    sizes = space.shape[:3]
    bounds = Calc(workload=read_topology(RESNET50), space=space).bounds()  # the cycles themselves
    cycles = bounds.total_cycles.reshape(sizes)
    pes = np.broadcast_to(np.multiply.outer(axis, axis), sizes)
    F = np.stack([cycles.ravel(), pes.ravel()], axis=1).astype(np.float64)
    return Space(
        name="cycles and PEs of ResNet-50 (`scalesim`), any array",
        sizes=sizes,
        F=F,
        G=np.empty((len(F), 0)),
    )


def arrays_and_buffers() -> Space:
    """A layer on arrays with buffers: cycles, area and DRAM words, where the area is limited.

    It is mapped by the fastest of a few hundred mappings that fits the buffers. Where none does,
    the design cannot be evaluated.
    """
    loops = the_layer().loops
    constants = read_technology().sets["mid"]
    micros = (
        Microarchitecture.OS_OVERLAPPED,
        Microarchitecture.WS_DOUBLE_BUFFERED,
        Microarchitecture.IS_DOUBLE_BUFFERED,
    )
    sides = tuple(range(8, 129, 8))
    kib = 2 ** np.arange(1, 9)
    sizes = (len(micros), len(sides), len(sides), len(kib), len(kib), len(kib))
    F = np.full((*sizes, 3), np.inf)
    buffers_mm2 = kib * constants.sram_mm2_per_kib.value
    for m, r, c in np.ndindex(sizes[:3]):
        array = PhysicalAccelerator(rows=sides[r], cols=sides[c], microarchitectures=(micros[m],))
        tiles = [(7, 14, 28), (loops.cols,), (16, 32, 64, 128), (16, 32, 64, 128)]
        figures = evaluated(array, grid(range(len(ORDERS)), *tiles))
        words = figures[:, IFMAP_DRAM : OFMAP_OUTPUT + 1].sum(axis=1)
        first = np.searchsorted(kib * 1024 // 2, resident_bytes(figures, array))
        for each in np.lexsort((words, figures[:, TOTAL]))[::-1]:
            # The fastest comes last, and is the one taken in all buffers that it fits.
            fits = F[m, r, c][tuple(slice(size, None) for size in first[each])]
            fits[..., 0], fits[..., 2] = figures[each, TOTAL], words[each]
        array_mm2 = area_mm2(read_technology(), array)["mid"].array_mm2
        F[m, r, c, ..., 1] = array_mm2 + sum(np.ix_(buffers_mm2, buffers_mm2, buffers_mm2))
    F = F.reshape(-1, 3)
    return Space(
        name=f"cycles, area and DRAM words of {LAYER}, any array and buffers to {AREA_MM2} mm²",
        sizes=sizes,
        F=F,
        G=F[:, 1:2] / AREA_MM2 - 1,
    )


def mappings() -> Space:
    """A layer on one array: cycles and DRAM words of each mapping, where tiles fit the buffers."""
    micro = Microarchitecture.WS_DOUBLE_BUFFERED
    array = PhysicalAccelerator(rows=32, cols=32, microarchitectures=(micro,))
    space = map_space(the_layer().loops, array, micro)
    axes = range(len(ORDERS)), space.rows, space.cols, space.out_channels, space.in_channels
    figures = evaluated(array, grid(*axes))
    words = figures[:, IFMAP_DRAM : OFMAP_OUTPUT + 1].sum(axis=1)
    usable = [array.usable_bytes(kib) for kib in (64, 64, 64)]
    return Space(
        name=f"cycles and DRAM words of {LAYER}, any order and tiles that fit 64 KiB buffers",
        sizes=tuple(map(len, axes)),
        F=np.stack([figures[:, TOTAL], words], axis=1).astype(np.float64),
        G=resident_bytes(figures, array) / usable - 1,
    )


def the_layer() -> Layer:
    """`LAYER` of ResNet-50."""
    (layer,) = (each for each in read_topology(RESNET50).layers if each.name == LAYER)
    return layer


def grid(*axes: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """(all, axes): every combination, the last axis changing first."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def evaluated(array: PhysicalAccelerator, choices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Figures of `LAYER` for each order and tile, without blocks."""
    (micro,) = array.microarchitectures
    which = np.full((len(choices), 1), MICROARCHITECTURES.index(micro))
    blocks = np.broadcast_to([BLOCKED_DIMENSION[None], 1], (len(choices), 2))
    vectors = np.ascontiguousarray(np.hstack([which, choices, blocks]), np.int64)
    return evaluate(layer_vector(the_layer()), accelerator_vector(array), vectors)


def resident_bytes(figures: NDArray[np.int64], array: PhysicalAccelerator) -> NDArray[np.int64]:
    """(mappings, 3): what tiles take of the ifmap, filter and ofmap buffer."""
    return figures[:, IFMAP_RESIDENT:] * (
        array.operand_bytes,
        array.operand_bytes,
        array.psum_bytes,
    )


SPACES: tuple[Callable[[], Space], ...] = (cycles_and_pes, arrays_and_buffers, mappings)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """A strategy in a space."""

    strategy: str
    reached: NDArray[np.float64]
    """(seeds, counts): share of the true front's volume."""
    seconds: float
    """Of one search, the strategy's own; the mean."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compared:
    """All strategies in a space."""

    space: str
    designs: int
    front: int
    """Distinct points of it."""
    measured: tuple[Measured, ...]


def compare(space: Space) -> Compared:
    """Search a space with each strategy and seed."""
    log_F = np.log(space.F)
    good = log_F[feasible(space.F, space.G)]
    front = np.unique(good[non_dominated(good)], axis=0)
    # A tenth of the front's extent beyond its worst, so that its ends count too.
    reference = front.max(axis=0) + 0.1 * np.ptp(front, axis=0)
    whole = hypervolume(front, reference)
    measured = []
    for name, strategy in STRATEGIES.items():
        start = time.process_time()
        runs = [
            run(
                strategy,
                space.sizes,
                space.evaluate,
                np.random.default_rng(seed),
                budget=COUNTS[-1],
            )
            for seed in SEEDS
        ]
        seconds = (time.process_time() - start) / len(SEEDS)
        histories = [hypervolume_history(np.log(r.F), r.G, reference, COUNTS) for r in runs]
        measured.append(
            Measured(strategy=name, reached=np.array(histories) / whole, seconds=seconds)
        )
    return Compared(
        space=space.name, designs=len(space.F), front=len(front), measured=tuple(measured)
    )


def main() -> None:
    """Print a Markdown table; draw it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--png", type=Path, help="draw the table into this file")
    given = parser.parse_args()
    print(
        f"Python {platform.python_version()}, NumPy {np.__version__}; {len(SEEDS)} seeds: median,"
    )
    print("least and greatest, in per cent of the true front's hypervolume.\n")
    found = []
    for space in SPACES:
        found.append(compare(space()))
        print(table(found[-1]), flush=True)
    if given.png:
        draw(found, given.png)


def table(compared: Compared) -> str:
    """Markdown."""
    title = (
        f"**{compared.space}**: {compared.designs:,} designs, {compared.front} points on the front"
    )
    heads = ["strategy", *(f"{count:,}" for count in COUNTS), "CPU s"]
    lines = [title, "", f"| {' | '.join(heads)} |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    for each in compared.measured:
        percent = 100 * each.reached
        columns = zip(
            np.median(percent, axis=0), percent.min(axis=0), percent.max(axis=0), strict=True
        )
        cells = [f"{median:.1f} ({least:.1f}–{most:.1f})" for median, least, most in columns]
        lines.append(f"| {each.strategy} | {' | '.join(cells)} | {each.seconds:.1f} |")
    return "\n".join([*lines, ""])


def draw(found: list[Compared], path: Path) -> None:
    """What is still missing of the volume against evaluations, a panel a space."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (only if asked for)

    figure = Figure(figsize=(4.2 * len(found), 3.8), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for panel, compared in zip(panels, found, strict=True):
        for each in compared.measured:
            missing = 100 * (1 - each.reached)
            (line,) = panel.plot(
                COUNTS, np.median(missing, axis=0), marker="o", label=each.strategy
            )
            panel.fill_between(
                COUNTS, missing.min(axis=0), missing.max(axis=0), color=line.get_color(), alpha=0.15
            )
        panel.set_title("\n".join(wrap(compared.space.replace("`", ""), 44)), fontsize=9)
        panel.set(xscale="log", yscale="log", xlabel="designs evaluated", xticks=COUNTS)
        panel.set_xticklabels([f"{count:,}" for count in COUNTS], fontsize=8)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("missing of the front's hypervolume, %")
    panels[0].legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
