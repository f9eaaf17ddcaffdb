"""NSGA-II of pymoo on integer genes, a generation at a time.

A gene is an index on an axis. Simulated binary crossover and polynomial mutation move indices as if
they were reals, and what comes of it is rounded. No design is asked for twice: children that were
seen before are mated anew, and where too few new ones come of that, designs at random fill the
generation. So a search goes on until the space is exhausted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.search.pareto import violation
from arraysmith.search.strategies.unseen import Unseen

if TYPE_CHECKING:
    from arraysmith.search.strategies.contract import Answer, Designs, Search

_POPULATION = 32
_ETA = 5
"""How near children stay to their parents; pymoo's 15 and 20 are for reals."""
_MATINGS = 20
"""Of a generation at most, each for the children that still lack."""


def search(sizes: tuple[int, ...], rng: np.random.Generator) -> Search:
    """Breed from designs that none dominates, far from each other, until nothing is left.

    Raises:
        ModuleNotFoundError: pymoo is not installed.
    """
    # Before anything is evaluated, for it may be missing.
    from pymoo.core.termination import NoTermination

    unseen = Unseen(sizes, rng)
    nsga2 = _nsga2(rng, unseen)
    designs = unseen.draw(_POPULATION)
    answer = yield designs
    positive = bool((answer[0] > 0).all())
    nsga2.setup(_problem(sizes, answer), termination=NoTermination())
    while unseen.count:
        nsga2.tell(infills=_individuals(designs, answer, positive=positive))
        designs = _children(nsga2, unseen)
        answer = yield designs


def _nsga2(rng: np.random.Generator, unseen: Unseen) -> Any:  # noqa: ANN401 (pymoo is not typed)
    from pymoo.algorithms.moo.nsga2 import NSGA2, binary_tournament
    from pymoo.core.mating import Mating
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.selection.tournament import TournamentSelection

    mating = Mating(
        TournamentSelection(func_comp=binary_tournament),
        SBX(prob=0.9, eta=_ETA),
        PM(eta=_ETA),
        repair=RoundingRepair(),
        eliminate_duplicates=_New(unseen),
        n_max_iterations=_MATINGS,
    )
    # A generator given as the seed is used as it is: all chance comes from it.
    return NSGA2(pop_size=_POPULATION, mating=mating, seed=rng)


def _problem(sizes: tuple[int, ...], answer: Answer) -> Any:  # noqa: ANN401
    """What pymoo knows of the space: bounds, how many objectives, and one sum of violations."""
    from pymoo.core.problem import Problem

    return Problem(
        n_var=len(sizes),
        n_obj=answer[0].shape[1],
        n_ieq_constr=1,
        xl=np.zeros(len(sizes)),
        xu=np.array(sizes) - 1.0,
    )


def _individuals(designs: Designs, answer: Answer, *, positive: bool) -> Any:  # noqa: ANN401
    """Evaluated designs as pymoo has them."""
    from pymoo.core.population import Population

    F, G = answer
    broken = violation(F, G)
    F = np.where(broken[:, None] > 0, 1, F)  # only the violation of these counts
    if positive:  # cycles and areas go over decades, and distances along the front count
        F = np.log(np.maximum(F, np.finfo(np.float64).tiny))
    return Population.new(X=designs, F=F, G=broken[:, None])


def _children(nsga2: Any, unseen: Unseen) -> Designs:  # noqa: ANN401
    """The next generation; fewer where fewer designs are left."""
    found = nsga2.ask()
    if found is None:
        # Mating found nothing new. That is no reason to end.
        nsga2.termination.force_termination = False
        return unseen.draw(_POPULATION)
    children = unseen.take(np.asarray(found.get("X"), np.int64))
    return np.concatenate([children, unseen.draw(_POPULATION - len(children))])


class _New:
    """Keeps what was never seen: what pymoo asks to eliminate duplicates."""

    def __init__(self, unseen: Unseen) -> None:
        self._unseen = unseen

    def do(self, children: Any, *others: Any) -> Any:  # noqa: ANN401
        """Those children that are unseen, not among the others, and each once."""
        everything = [each.get("X") for each in (*others, children) if len(each)]
        before = sum(map(len, others))
        places = self._unseen.places(np.concatenate(everything).astype(np.int64))
        return children[[place - before for place in places if place >= before]]
