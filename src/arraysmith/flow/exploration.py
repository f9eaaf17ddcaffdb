"""The verb `explore`: which accelerator for a network, under any model, by any strategy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.flow.answers import Evidence, answer
from arraysmith.flow.lasting import Lasting, evaluations
from arraysmith.flow.question import Question
from arraysmith.progress import silent
from arraysmith.search import exhaustive
from arraysmith.search.exhaustive import Candidates, Visits
from arraysmith.search.heuristic import run
from arraysmith.search.problem import Figures
from arraysmith.search.strategies import STRATEGIES

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from arraysmith.flow.explored import Exploration
    from arraysmith.flow.lasting import Evaluations
    from arraysmith.progress import Progress
    from arraysmith.search.problem import Problem
    from arraysmith.space import DesignSpace
    from arraysmith.workload import Workload

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]


def explore(
    workload: Workload,
    space: DesignSpace,
    output: Path | None = None,
    *,
    lasting: Lasting | None = None,
    figures: str = "png",
    progress: Progress = silent,
    command: str = "arraysmith.explore()",
    **question: Any,  # noqa: ANN401 (the fields of Question, which checks them)
) -> Exploration:
    """Find the best design of a space, or the Pareto front of several objectives.

    Args:
        workload: the layers.
        space: what may vary, and the constraints.
        output: a run folder to write into, if any: designs.npz (every design that was evaluated),
            figures, the section `exploration` of metrics.json, and the journal of a long run.
        lasting: on how many processes or which cluster, and whether an interrupted run goes on.
        figures: what the figures of the run folder are: `png`, `svg` or `pdf`.
        progress: shows designs done or ruled out, and the best so far.
        command: what to record as the origin.
        question: the fields of `Question`: `model`, `mode`, `objectives`, `map_for`, `technology`,
            `clock_mhz`, `base`, `search`, `seed`, `budget`, `patience`; by default the fewest
            cycles under SCALE-Sim's CALC mode, exhaustively.

    Raises:
        DesignSpaceError: the space is empty, too large, its constraints contradict each other, or
            the model does not know an objective or an axis.
        OutputError: the run folder is of another exploration, in use, or cannot be written.
    """
    asked = Question.of(**question)
    problem = asked.problem(workload, asked.fitted(space))
    model = asked.model_over(workload, problem)
    start = time.perf_counter()
    found = None
    if not asked.is_heuristic or problem.space.size <= exhaustive.MAX_DESIGNS:
        found = exhaustive.candidates(problem, model)
    if found is not None and not asked.is_heuristic and model.exact_bounds:
        seen, stopped = _all_of(found), "every design computed"
    else:
        identity = asked.identity(workload, problem.space, model.name)
        with evaluations(model, identity, output, lasting or Lasting()) as evaluate:
            if found is None or asked.is_heuristic:
                seen, stopped = _by_strategy(problem, asked, evaluate, progress)
            else:
                seen, stopped = _with_proof(problem, found, evaluate, progress)
            if evaluate.was_finished:
                stopped += "; finished before, nothing was evaluated again"
            evaluate.finish()
    evidence = Evidence(
        workload=workload,
        asked=asked,
        problem=problem,
        model=model,
        found=found,
        seen=seen,
        stopped=stopped,
    )
    result = answer(evidence, time.perf_counter() - start, command)
    if output is not None:
        from arraysmith.flow.explored_files import write

        write(output, result, evidence, command, figures)
    return result


def _all_of(found: Candidates) -> Visits:
    """Every candidate, where its bounds are its figures."""
    return Visits(
        ids=found.ids,
        figures=Figures.of_cycles(found.cycles),
        values=found.bounds,
        violations=np.zeros((len(found.ids), 0)),
        feasible=np.ones(len(found.ids), np.bool_),
    )


def _with_proof(
    problem: Problem, found: Candidates, evaluate: Evaluations, progress: Progress
) -> tuple[Visits, str]:
    with progress("exploring", len(found.ids)) as evaluate.advance:
        seen = exhaustive.search(
            problem,
            found,
            evaluate,
            evaluate.model.groups,
            advance=evaluate.advance,
            note=_note(problem),
        )
    return seen, "no design that was left can be better"


def _by_strategy(
    problem: Problem, asked: Question, evaluate: Evaluations, progress: Progress
) -> tuple[Visits, str]:
    space = problem.space
    parts: list[Visits] = []
    note = _note(problem)

    def ask(designs: Ints) -> tuple[Floats, Floats]:
        ids = np.ravel_multi_index(tuple(designs.T), space.shape)
        part = exhaustive.visits(problem, ids, evaluate(ids, None))
        parts.append(part)
        return part.values, part.violations

    with progress("exploring", min(asked.budget, space.size)) as evaluate.advance:
        result = run(
            STRATEGIES[asked.search],
            space.shape,
            ask,
            np.random.default_rng(asked.seed),
            budget=asked.budget,
            patience=asked.patience,
            note=lambda F, _: note(F),
        )
    return exhaustive.joined(parts), result.stopped


def _note(problem: Problem) -> Any:  # noqa: ANN401
    """What is said beside the bar of the best values so far."""
    first = problem.objectives[0]

    def note(values: Floats) -> str:
        if not len(values):
            return ""
        front = "" if values.shape[1] == 1 else f"front of {len(values):,}, "
        best = float(problem.in_unit(values[values[:, 0].argmin(), :1])[0])
        return (
            f"{front}best {first} {best:,.0f}"
            if best >= 1000
            else f"{front}best {first} {best:.4g}"
        )

    return note
