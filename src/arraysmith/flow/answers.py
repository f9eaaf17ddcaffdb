"""From what was evaluated to the answer: best, ranking, front, gap and convergence."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.errors import DesignSpaceError, InvalidWorkloadError
from arraysmith.explorations import Checkpoint, DesignFacts, ExplorationFacts, ExploredDesigns
from arraysmith.flow.explored import (
    FRONT_LISTED,
    Exploration,
    axes_of,
    design_facts,
    explored_columns,
    landscapes,
)
from arraysmith.search.exhaustive import best_places, check_constraints, front_places
from arraysmith.search.pareto import hypervolume, hypervolume_history, non_dominated
from arraysmith.simulation.scalesim.closed_form import simulate
from arraysmith.space import Objective

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.explorations import Triple
    from arraysmith.flow.question import Question
    from arraysmith.search.exhaustive import Candidates, Visits
    from arraysmith.search.problem import Model, Problem
    from arraysmith.workload import Workload

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]

RANKED = 10
"""Designs that are named, the best among them."""
_HISTORY = 60
"""Points of a convergence at most."""
_BEYOND = 1.1
"""The reference of a hypervolume, in units of the worst values of the fronts."""


@dataclass(frozen=True, kw_only=True, eq=False)  # no slots: what is derived is kept
class Evidence:
    """All that an answer is made from."""

    workload: Workload
    asked: Question
    problem: Problem
    model: Model
    found: Candidates | None
    """The designs that might win, with bounds; None where the space is too large for it."""
    seen: Visits
    stopped: str

    _networks: dict[int, Any] = field(default_factory=dict, init=False, repr=False)
    """By number; mapping a network takes long, and the best design is asked for again."""

    @cached_property
    def good(self) -> Ints:
        """Places, in `seen`, of the designs that are exactly known and keep the constraints.

        Raises:
            DesignSpaceError: there is none.
        """
        found = np.flatnonzero(self.seen.feasible)
        if not len(found):
            raise _nothing(self)
        return found

    @cached_property
    def ranked(self) -> Ints:
        """Places of the best designs, best first.

        Raises:
            DesignSpaceError: no design keeps the constraints.
        """
        return self.best_of(self.good, RANKED)

    @cached_property
    def fronts(self) -> list[Floats]:
        """What is not dominated of the values found, then of the bounds where there are any."""
        every = [self.seen.values[self.good]]
        if self.found is not None:
            every.append(self.found.bounds)
        return [values[non_dominated(values)] for values in every]

    @cached_property
    def reference(self) -> Floats:
        """Beyond the worst of both fronts: below it lie all volumes."""
        return np.asarray(_BEYOND * np.concatenate(self.fronts).max(axis=0))

    @property
    def best_number(self) -> int:
        """The best design."""
        return int(self.seen.ids[self.ranked[0]])

    def best_of(self, places: Ints, count: int) -> Ints:
        """The best of some places."""
        seen = self.seen
        cycles, values = seen.figures.total_cycles[places], seen.values[places]
        return places[best_places(self.problem, seen.ids[places], cycles, values, count)]

    def network(self, number: int) -> Any:  # noqa: ANN401 (each model has records of its own)
        """A design layer by layer."""
        if number not in self._networks:
            self._networks[number] = self.model.network(number)
        return self._networks[number]


def answer(evidence: Evidence, seconds: float, command: str) -> Exploration:
    """The answer and how sure it is.

    Raises:
        DesignSpaceError: no design keeps the constraints.
    """
    asked, problem, seen, found = evidence.asked, evidence.problem, evidence.seen, evidence.found
    good = evidence.good
    ids, cycles, values = seen.ids[good], seen.figures.total_cycles[good], seen.values[good]
    ranking = _named(evidence, evidence.ranked)
    front = good[front_places(problem, ids, cycles, values)]
    step = -(-len(front) // FRONT_LISTED)
    known = int((seen.figures.exact & (seen.figures.total_cycles >= 0)).sum())
    designs = problem.space.size if found is None else found.keeping
    if evidence.model.exact_bounds and not asked.is_heuristic:
        known = designs  # those that were left out were computed too
    facts = ExplorationFacts(
        workload=evidence.workload.name,
        model=evidence.model.name,
        layers=len(evidence.workload.layers),
        macs=problem.macs,
        technology=asked.technology.name,
        clock_mhz=asked.clock_mhz,
        axes=axes_of(problem, bandwidth=_has_bandwidth(evidence)),
        constraints=problem.space.constraints.given,
        objectives=tuple(each.value for each in problem.objectives),
        map_for=asked.goal.value if asked.model == "physical" else None,
        search=asked.search,
        seed=asked.seed if asked.is_heuristic else None,
        budget=asked.budget if asked.is_heuristic else None,
        covered=problem.space.size,
        designs=designs,
        evaluated=known,
        ruled_out=0 if asked.is_heuristic else designs - known,
        proven=not asked.is_heuristic or len(seen.ids) == problem.space.size,
        stopped=evidence.stopped,
        gap=_gap(evidence, values),
        best=ranking[0],
        ranking=ranking,
        best_per_dataflow=_named(evidence, _per_array(evidence)),
        front=design_facts(problem, seen, front[::step], bandwidth=_has_bandwidth(evidence)),
        front_size=len(front),
        history=_history(evidence),
        seconds=seconds,
        command=command,
    )

    def drawn() -> ExploredDesigns:
        return ExploredDesigns(
            columns=explored_columns(problem, seen, front),
            landscapes=landscapes(problem, seen, found),
        )

    return Exploration(facts=facts, drawn=drawn, base=asked.base)


def _named(evidence: Evidence, places: Ints) -> tuple[DesignFacts, ...]:
    """Facts of designs with all that the model says of them."""
    found = design_facts(
        evidence.problem, evidence.seen, places, bandwidth=_has_bandwidth(evidence)
    )
    numbers = evidence.seen.ids[places]
    return tuple(
        _completed(evidence, int(number), design)
        for number, design in zip(numbers, found, strict=True)
    )


def _completed(evidence: Evidence, number: int, design: DesignFacts) -> DesignFacts:
    problem = evidence.problem
    if evidence.asked.model == "physical":
        if design.energy_pj is not None:
            return design
        network = evidence.network(number)
        cycles, energy = np.array([network.total_cycles]), np.array([network.energy_pj])
        return replace(
            design,
            stall_cycles=network.stall_cycles,
            dram_bytes=network.dram_bytes,
            energy_pj=network.energy_pj,
            power_w=_triple(problem.power_w(cycles, energy)),
            edp_js=_triple(problem.edp_js(cycles, energy)),
        )
    accelerators = problem.space.scalesim(number)
    if evidence.asked.mode == "user" or len(accelerators) > 1:
        return design
    try:
        simulated = simulate(evidence.workload, accelerators[0])
    except InvalidWorkloadError:  # a layer of a single cycle: SCALE-Sim has no figures for it
        return design
    return replace(
        design,
        dram_bytes=simulated.dram_words,  # a word is a byte to SCALE-Sim
        peak_dram_words_per_cycle=simulated.peak_dram_words_per_cycle,
    )


def _per_array(evidence: Evidence) -> Ints:
    """Of each kind of array the best that was evaluated."""
    good = evidence.good
    kinds = evidence.problem.space.place(evidence.seen.ids[good], 0)
    best = [evidence.best_of(good[kinds == kind], 1) for kind in np.unique(kinds)]
    return np.concatenate(best)


def _gap(evidence: Evidence, values: Floats) -> float | None:
    """By which part of what was found it could still be bettered at most."""
    if not evidence.asked.is_heuristic:
        return 0.0
    if evidence.found is None:
        return None
    bounds = evidence.found.bounds
    if values.shape[1] == 1:
        best, least = float(values.min()), float(bounds.min())
        largest = evidence.problem.objectives[0] is Objective.UTILIZATION
        return best / least - 1 if largest else 1 - least / best
    found, most = (hypervolume(front, evidence.reference) for front in evidence.fronts)
    return most / found - 1


def _history(evidence: Evidence) -> tuple[Checkpoint, ...]:
    """How the search came to its answer; nothing where every design was computed at once."""
    seen = evidence.seen
    if evidence.model.exact_bounds and not evidence.asked.is_heuristic:
        return ()
    n = len(seen.ids)
    counts = np.unique(np.geomspace(1, n, _HISTORY).round().astype(np.int64))
    values = np.where(seen.feasible[:, None], seen.values, np.inf)
    first = int(np.flatnonzero(seen.feasible)[0]) + 1
    counts = counts[counts >= first]
    if values.shape[1] == 1:
        found = evidence.problem.in_unit(np.minimum.accumulate(values[:, 0])[counts - 1])
    else:
        volumes = hypervolume_history(values, np.zeros((n, 0)), evidence.reference, counts)
        found = volumes / volumes[-1]
    return tuple(
        Checkpoint(evaluated=int(count), value=float(value))
        for count, value in zip(counts, found, strict=True)
    )


def _nothing(evidence: Evidence) -> DesignSpaceError:
    """Why no design is left."""
    problem, seen = evidence.problem, evidence.seen
    possible = seen.figures.total_cycles >= 0
    if not possible.any():
        return DesignSpaceError(
            f"in none of {len(seen.ids):,} designs do the buffers hold a tile of every layer; give "
            "larger --ifmap-kib, --filter-kib or --ofmap-kib"
        )
    limits = problem.space.constraints.given
    try:
        check_constraints(limits, seen.violations[possible])
    except DesignSpaceError as error:
        return error
    return DesignSpaceError("no design was exactly evaluated; raise the budget")


def _has_bandwidth(evidence: Evidence) -> bool:
    """Whether the model knows of one."""
    return evidence.asked.model == "physical" or evidence.asked.mode == "user"


def _triple(values: Floats) -> Triple:
    low, mid, high = values[0].tolist()
    return low, mid, high
