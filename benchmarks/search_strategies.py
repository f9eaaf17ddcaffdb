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
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.flow.question import Question
from arraysmith.formats.topology import read_topology
from arraysmith.search.exhaustive import visits
from arraysmith.search.heuristic import run
from arraysmith.search.pareto import feasible, hypervolume, hypervolume_history, non_dominated
from arraysmith.search.problem import NO_LIMIT
from arraysmith.search.strategies import STRATEGIES
from arraysmith.space import Constraints, DesignSpace, Objective

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from arraysmith.search.strategies.contract import Answer, Designs
    from arraysmith.workload import Workload

EXAMPLES = Path(__file__).parents[1] / "examples"
POWER_W = 1
"""What LeNet-5 may take at 1 GHz."""
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
    # An area has the buffers in it, which are the same for all here; so PEs in its place.
    return known(
        "cycles and PEs of ResNet-50 (`scalesim`), any array",
        read_topology(EXAMPLES / "resnet50.csv"),
        space,
        pes=True,
    )


def arrays_and_buffers() -> Space:
    """ResNet-50 on pipelined arrays with buffers, each layer under its best mapping."""
    sides = (8, 12, 16, 24, 32, 48, 64, 96, 128)
    kib = (8, 16, 32, 64, 128, 256, 512)
    return known(
        "cycles and area of ResNet-50 (`physical`), any array and buffers",
        read_topology(EXAMPLES / "resnet50.csv"),
        DesignSpace(rows=sides, cols=sides, ifmap_kib=kib, filter_kib=kib, ofmap_kib=kib),
        model="physical",
        objectives=(Objective.CYCLES, Objective.AREA),
    )


def with_energy() -> Space:
    """LeNet-5 on small arrays with buffers, where the power is limited."""
    sides = tuple(range(4, 33, 4))
    kib = (1, 4, 16, 64)
    return known(
        f"cycles, area and energy of LeNet-5 (`physical`), any array and buffers to {POWER_W} W",
        read_topology(EXAMPLES / "lenet5.csv"),
        DesignSpace(
            rows=sides,
            cols=sides,
            ifmap_kib=kib,
            filter_kib=kib,
            ofmap_kib=kib,
            constraints=Constraints(max_power_w=POWER_W),
        ),
        model="physical",
        objectives=(Objective.CYCLES, Objective.AREA, Objective.ENERGY),
    )


def known(
    name: str,
    workload: Workload,
    space: DesignSpace,
    *,
    pes: bool = False,
    **question: Any,  # noqa: ANN401 (the fields of Question)
) -> Space:
    """Every design of a space evaluated, without any bound; PEs as a further objective if asked."""
    asked = Question(**question)
    problem = asked.problem(workload, asked.fitted(space))
    ids = np.arange(space.size)
    figures = asked.model_over(workload, problem).evaluate(ids, np.full(space.size, NO_LIMIT))
    seen = visits(problem, ids, figures)
    more = problem.pes(ids)[:, None].astype(np.float64)
    F = np.hstack([seen.values, more]) if pes else seen.values
    return Space(name=name, sizes=space.shape, F=F, G=seen.violations)


SPACES: tuple[Callable[[], Space], ...] = (cycles_and_pes, arrays_and_buffers, with_energy)


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
