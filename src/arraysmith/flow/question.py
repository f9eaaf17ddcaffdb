"""What is asked of a space of designs: under which model, for which objectives, searched how."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import msgspec

from arraysmith.errors import DesignSpaceError
from arraysmith.files import sha256
from arraysmith.formats.technology import Technology, read_technology
from arraysmith.hardware import PIPELINED, Dataflow, Microarchitecture, PhysicalAccelerator
from arraysmith.journal import Identity
from arraysmith.mapping import Goal
from arraysmith.search.problem import ENERGETIC, Problem
from arraysmith.search.scalesim_models import Calc, User
from arraysmith.search.strategies import STRATEGIES
from arraysmith.space import AXES, DesignSpace, Objective, array_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arraysmith.search.problem import Model
    from arraysmith.workload import Workload

EXHAUSTIVE = "exhaustive"
SEARCHES = (EXHAUSTIVE, *STRATEGIES)
MODELS = ("scalesim", "physical")
MODES = ("calc", "user")
BUDGET = 1000
"""Evaluations of a search that proves nothing."""
PORTS = PhysicalAccelerator(rows=1, cols=1, microarchitectures=(Microarchitecture.OS_BUS,))
"""Ports as wide as the array asks for, one byte an output."""
_LISTED = 8
"""Values of an axis that are all named."""
GOALS = (Goal.CYCLES.value, Goal.ENERGY.value, Goal.EDP.value)
"""What mappings can be best at."""
_GOALS = {Objective.ENERGY: Goal.ENERGY, Objective.EDP: Goal.EDP}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """All that determines the answer of an exploration, but the network and the space."""

    model: str = "scalesim"
    """`scalesim` or `physical`."""
    mode: str = "calc"
    """Of scalesim: `calc`, which does not stall, or `user`."""
    objectives: tuple[Objective, ...] = (Objective.CYCLES,)
    """One, or those of a front; the first decides what is best."""
    map_for: Goal | None = None
    """Under physical, what each layer's mapping is best at; None: what is wanted first."""
    technology: Technology = field(default_factory=read_technology)
    """What accesses and gates cost."""
    clock_mhz: float = 1000.0
    """What powers and EDPs are for."""
    base: PhysicalAccelerator = PORTS
    """Under physical, whose ports and output words every design has."""
    search: str = EXHAUSTIVE
    """One of `SEARCHES`."""
    seed: int = 0
    budget: int = BUDGET
    """Designs that a strategy may evaluate; an exhaustive search takes what it needs."""
    patience: int | None = None
    """Evaluations without an improvement after which a strategy stops."""

    def __post_init__(self) -> None:
        """Known words, and objectives that the model knows."""
        for name, value, known in (
            ("model", self.model, MODELS),
            ("mode", self.mode, MODES),
            ("search", self.search, SEARCHES),
        ):
            if value not in known:
                raise DesignSpaceError(f"{name} {value!r} is unknown; give {' or '.join(known)}")
        if not 0 < self.clock_mhz < math.inf:
            raise DesignSpaceError(f"clock_mhz is {self.clock_mhz}; give a number above 0")
        if self.budget < 1 or (self.patience is not None and self.patience < 1):
            raise DesignSpaceError(
                f"budget {self.budget}, patience {self.patience}; give numbers of at least 1"
            )
        if self.model == "physical":
            return
        unknown = [each.value for each in self.objectives if each in ENERGETIC]
        if unknown:
            raise DesignSpaceError(
                f"{unknown[0]} is no objective under scalesim: its counts have quirks, and no "
                "energy of them would be right; give --model physical"
            )
        if self.map_for is not None:
            raise DesignSpaceError("scalesim has no mappings to choose; give --model physical")

    @classmethod
    def of(cls, **given: Any) -> Question:  # noqa: ANN401 (any field)
        """A question whose objectives and goal may be plain words: `objectives="cycles,area"`.

        Raises:
            DesignSpaceError: an unknown word, or no field of that name.
        """
        known = [each.name for each in fields(cls)]
        for name in given:
            if name not in known:
                raise DesignSpaceError(f"{name} is unknown; give one of {', '.join(known)}")
        objectives = given.get("objectives", (Objective.CYCLES,))
        if isinstance(objectives, str):
            objectives = objectives.split(",")
        found = []
        for each in objectives:
            word = str(each).strip().lower()
            if word not in set(Objective):
                raise DesignSpaceError(
                    f"objective {word!r} is unknown; give one or several of {', '.join(Objective)}"
                )
            found.append(Objective(word))
        goal = given.get("map_for")
        if goal is not None and goal not in GOALS:
            raise DesignSpaceError(f"map_for {goal!r} is unknown; give {', '.join(GOALS)}")
        goal = None if goal is None else Goal(goal)
        return cls(**given | {"objectives": tuple(found), "map_for": goal})

    @property
    def goal(self) -> Goal:
        """What each layer's mapping is best at."""
        if self.map_for is not None:
            return self.map_for
        return _GOALS.get(self.objectives[0], Goal.CYCLES)

    @property
    def is_heuristic(self) -> bool:
        """Whether the answer is only the best found."""
        return self.search != EXHAUSTIVE

    def fitted(self, space: DesignSpace) -> DesignSpace:
        """The space as the model takes it: under physical a dataflow is its pipelined array.

        Raises:
            DesignSpaceError: constraints that the model does not know.
        """
        if self.model == "scalesim":
            if space.constraints.max_power_w is not None:
                raise DesignSpaceError(
                    "max_power_w under scalesim, which knows no energies; give --model physical"
                )
            return space
        arrays = tuple(
            tuple(PIPELINED[each] if isinstance(each, Dataflow) else each for each in array)
            for array in space.arrays
        )
        return replace(space, arrays=arrays)

    def problem(self, workload: Workload, space: DesignSpace) -> Problem:
        """What is made small over a space that was `fitted`."""
        return Problem(
            space=space,
            objectives=self.objectives,
            macs=sum(layer.macs for layer in workload.layers),
            technology=self.technology,
            clock_mhz=self.clock_mhz,
        )

    def model_over(self, workload: Workload, problem: Problem) -> Model:
        """The model of time that answers for designs."""
        if self.model == "physical":
            # Compiled code, and the library that compiles it, only where it is needed.
            from arraysmith.search.physical_model import Physical

            return Physical(
                workload=workload,
                space=problem.space,
                technology=self.technology,
                base=self.base,
                goal=self.goal,
                with_energy=problem.needs_energy,
            )
        kind = User if self.mode == "user" else Calc
        return kind(workload=workload, space=problem.space)

    def identity(self, workload: Workload, space: DesignSpace, model: str) -> Identity:
        """What an unfinished exploration is recognised by."""
        facts = {
            "workload": f"{workload.name}, {_digest(workload)}",
            "model": model,
            "search": self.search,
            "objectives": ", ".join(self.objectives),
            **{axis: _values(getattr(space, axis)) for axis in AXES},
            "constraints": _listed(space.constraints.given) or "none",
            "technology": f"{self.technology.name}, {_digest(self.technology)}",
            "clock_mhz": f"{self.clock_mhz:g}",
        }
        if self.is_heuristic:
            facts |= {
                "seed": str(self.seed),
                "budget": str(self.budget),
                "patience": str(self.patience),
            }
        if self.model == "physical":
            facts |= {"map_for": self.goal.value, "ports and outputs": _digest(self.base)}
        return Identity.of(facts, (workload, space, self.technology, self.base))


def _values(axis: Sequence[Any]) -> str:
    """An axis in short, and no other in the same words."""
    texts = [array_name(each) if isinstance(each, tuple) else str(each) for each in axis]
    if len(texts) <= _LISTED:
        return ", ".join(texts)
    return f"{texts[0]}, {texts[1]}, …, {texts[-1]} ({len(texts):,} values, {_digest(axis)})"


def _digest(record: object) -> str:
    return sha256(msgspec.json.encode(record, order="deterministic"))[:8]


def _listed(constraints: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in constraints.items())
