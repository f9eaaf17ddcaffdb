"""The optimum or the Pareto front of a space, proven: branch and bound over designs.

Every design has a bound on each objective. Designs are visited from good bounds to bad ones, some
at a time; one whose bound is no better than a design already found cannot be better itself, and is
never visited. When none is left, nothing better exists. `docs/search.md` says more.

Where bounds are exact, as under SCALE-Sim's CALC mode, nothing has to be visited at all.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import DesignSpaceError
from arraysmith.search.archive import Archive
from arraysmith.search.pareto import non_dominated
from arraysmith.search.problem import Figures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from arraysmith.progress import Advance
    from arraysmith.search.problem import Model, Problem

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Evaluate = Callable[[Ints, Ints], Figures]

MAX_DESIGNS = 20_000_000
"""Whose bounds are held at once."""
_ROUNDS = {1: (2, 256), 2: (32, 1024)}
"""Groups of designs in the first round and in the largest, for one objective and for several; each
round is twice as large as the last."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """The designs that may win, with all that is known of them beforehand."""

    ids: Ints
    """Of designs that may keep all constraints."""
    bounds: Floats
    """(n, objectives), all made small."""
    cycles: Ints
    """(n,) at least."""
    keeping: int
    """Designs that keep the constraints on PEs, area and KiB."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Visits:
    """What was evaluated, in the order in which it was."""

    ids: Ints
    figures: Figures
    values: Floats
    """(n, objectives); infinite where there is no such design."""
    violations: Floats
    """(n, constraints), kept where ≤ 0."""
    feasible: NDArray[np.bool_]
    """Exactly known and all constraints kept."""


def candidates(problem: Problem, model: Model) -> Candidates:
    """The designs of a space whose bounds keep the constraints.

    Raises:
        DesignSpaceError: too many designs, or none; the message says which constraints exclude all.
    """
    space = problem.space
    if space.size > MAX_DESIGNS:
        raise DesignSpaceError(
            f"{space.size:,} designs are more than {MAX_DESIGNS:,}, so they cannot all be covered; "
            "give the ranges a step, or --search genetic"
        )
    bounds = model.bounds()
    cycles: Ints = problem.spread(bounds.total_cycles)
    energy = None if bounds.energy_pj is None else problem.spread(bounds.energy_pj)
    values = problem.values(cycles, energy)
    limits = space.constraints.given
    if not limits:
        every = np.arange(space.size)
        return Candidates(ids=every, bounds=values, cycles=cycles, keeping=space.size)
    violated = problem.violations(cycles, energy)
    # A bound says nothing of the power: a slower design needs less.
    known = [place for place, name in enumerate(limits) if name != "max_power_w"]
    names = [list(limits)[place] for place in known]
    check_constraints({name: limits[name] for name in names}, violated[:, known])
    kept = violated[:, known] <= 0
    by_itself = [place for place, name in enumerate(names) if name != "min_utilization"]
    keeping = int(kept[:, by_itself].all(axis=1).sum())
    ids = np.flatnonzero(kept.all(axis=1))
    return Candidates(ids=ids, bounds=values[ids], cycles=cycles[ids], keeping=keeping)


def check_constraints(limits: dict[str, float], violated: Floats) -> None:
    """Whether some design keeps all constraints.

    Args:
        limits: the constraints by name.
        violated: (n, constraints) by how much of the limit a design violates each.

    Raises:
        DesignSpaceError: none does; the message names the one or the two that exclude all.
    """
    kept = violated <= 0
    if kept.all(axis=1).any():
        return
    total = len(violated)
    for place, (name, limit) in enumerate(limits.items()):
        if not kept[:, place].any():
            least = violated[:, place].min()
            nearest = limit * (1 - least if name.startswith("min_") else 1 + least)
            raise DesignSpaceError(
                f"{name} {limit:g} and the ranges of the axes contradict each other: of {total:,} "
                f"designs the nearest has {nearest:.4g}; loosen it, or give other ranges"
            )
    for first, second in itertools.combinations(range(len(limits)), 2):
        if not (kept[:, first] & kept[:, second]).any():
            (name, limit), (other, bound) = (list(limits.items())[i] for i in (first, second))
            raise DesignSpaceError(
                f"{name} {limit:g} and {other} {bound:g} contradict each other: of {total:,} "
                f"designs {kept[:, first].sum():,} keep the first, {kept[:, second].sum():,} the "
                "second, none both; loosen one of them"
            )
    raise DesignSpaceError(f"no design keeps {', '.join(limits)} together; loosen one of them")


def keys(problem: Problem, ids: Ints, cycles: Ints) -> Ints:
    """(n, 4): what decides between equals: fewer cycles, fewer PEs, fewer rows, earlier number."""
    rows = problem.spread(problem.space.along("rows"), ids)
    return np.stack([cycles, problem.pes(ids), rows, ids], axis=1).astype(np.int64)


def in_order(problem: Problem, ids: Ints, cycles: Ints, values: Floats) -> Ints:
    """(n,) places of designs from good to bad by their first objective, ties by the rule."""
    columns = [*values.T, *keys(problem, ids, cycles).T]
    return np.lexsort(columns[::-1])


def best_places(problem: Problem, ids: Ints, cycles: Ints, values: Floats, count: int) -> Ints:
    """The first `count` of `in_order`, without putting all in order."""
    count = min(count, len(ids))
    if count == 0:
        return np.zeros(0, np.int64)
    worst = np.partition(values[:, 0], count - 1)[count - 1]
    near = np.flatnonzero(values[:, 0] <= worst)
    return near[in_order(problem, ids[near], cycles[near], values[near])][:count]


def front_places(problem: Problem, ids: Ints, cycles: Ints, values: Floats) -> Ints:
    """Places of the Pareto front by its first objective; one design stands for its equals."""
    members = np.flatnonzero(non_dominated(values))
    ordered = members[in_order(problem, ids[members], cycles[members], values[members])]
    _, first = np.unique(values[ordered], axis=0, return_index=True)
    return ordered[np.sort(first)]


def search(
    problem: Problem,
    found: Candidates,
    evaluate: Evaluate,
    groups: Callable[[Ints], Ints],
    *,
    advance: Advance,
    note: Callable[[Floats], str] = lambda _: "",
) -> Visits:
    """Visit designs until no other can be better than those found.

    Args:
        problem: what is wanted.
        found: the designs that may win.
        evaluate: exact figures of (n,) designs, or that they take more cycles than (n,) limits.
        groups: which of (n,) designs are best evaluated together.
        advance: is told of designs that are ruled out; `evaluate` tells of those it is given.
        note: the best so far in words, from the values of the archive.
    """
    visited: list[Visits] = []
    archive = Archive.empty(len(problem.objectives), 4)
    order = keys(problem, found.ids, found.cycles)
    # The sum of logarithms weighs objectives of any unit alike.
    score = np.log(np.maximum(found.bounds, np.finfo(np.float64).tiny)).sum(axis=1)
    alive = np.lexsort((*order.T[::-1], score))
    size, largest = _ROUNDS[min(len(problem.objectives), 2)]
    while len(alive):
        limits = problem.most_cycles(found.ids[alive], archive.values)
        if len(archive.values) and not problem.needs_energy:
            # How far below the best of its kind a design may be.
            score = found.cycles[alive] / np.maximum(limits, 1)
            placed = np.argsort(score, kind="stable")
            alive, limits = alive[placed], limits[placed]
        now = _first_groups(groups(found.ids[alive]), size)
        chosen, rest = alive[now], alive[~now]
        ids = found.ids[chosen]
        seen = visits(problem, ids, evaluate(ids, limits[now]))
        visited.append(seen)
        good = np.flatnonzero(seen.feasible)
        archive = archive.joined(
            seen.values[good], keys(problem, ids[good], seen.figures.total_cycles[good])
        )
        alive = rest[~archive.rules_out(found.bounds[rest], order[rest])]
        advance(len(rest) - len(alive), note(archive.values))
        size = min(2 * size, largest)
    return joined(visited)


def _first_groups(groups: Ints, size: int) -> NDArray[np.bool_]:
    """(n,) whether a design is of the first `size` groups in this order."""
    kinds, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    chosen = np.zeros(len(kinds), np.bool_)
    chosen[np.argsort(first)[:size]] = True
    return chosen[inverse]


def visits(problem: Problem, ids: Ints, figures: Figures) -> Visits:
    """What figures mean for the objectives and the constraints."""
    energy = figures.energy_pj[:, 1] if problem.needs_energy else None
    possible = figures.total_cycles >= 0
    values = problem.values(figures.total_cycles, energy, ids)
    violations = problem.violations(figures.total_cycles, energy, ids)
    return Visits(
        ids=ids,
        figures=figures,
        values=np.where(possible[:, None], values, np.inf),
        violations=violations,
        feasible=figures.exact & possible & (violations <= 0).all(axis=1),
    )


def joined(parts: Sequence[Visits]) -> Visits:
    """One after the other."""
    return Visits(
        ids=np.concatenate([part.ids for part in parts]),
        figures=Figures.joined([part.figures for part in parts]),
        values=np.concatenate([part.values for part in parts]),
        violations=np.concatenate([part.violations for part in parts]),
        feasible=np.concatenate([part.feasible for part in parts]),
    )
