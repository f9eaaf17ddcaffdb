"""Tables and the one sentence of an exploration, for the terminal and the report alike."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from arraysmith.explorations import OBJECTIVE_UNITS
from arraysmith.reporting.exploration_facts import (
    AXES,
    TITLES,
    digits,
    estimate_text,
    in_words,
    limits,
    row_of,
)
from arraysmith.reporting.physical_facts import energy_text
from arraysmith.reporting.tables import NOT_COVERED, Column, Row, Table, percent, thinned
from arraysmith.simulation.physical.cost import UNCERTAINTY, ranks_agree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from arraysmith.explorations import DesignFacts, ExplorationFacts, Triple

TERMINAL_ROWS = 20
_OPTIONAL = {"stall_cycles", "utilization", "power_w", "peak_dram_words_per_cycle"}
_ESTIMATES = {"energy_pj": "pJ", "power_w": "W", "edp_js": "J·s", "area_mm2": "mm²"}
_LEFT_OUT = {"rows", "cols", "dataflow", "dram_bytes"}


def designs(title: str, found: Sequence[DesignFacts], facts: ExplorationFacts) -> Table:
    """Designs of an exploration in the order given, with all that is known of them.

    Args:
        title: of the table; the model of time is added.
        found: the designs.
        facts: of the exploration, whose axes say which columns are worth one.
    """
    columns = [Column("#"), Column("array", numeric=False)]
    cells: list[Callable[[DesignFacts], str]] = [str]
    for column, cell in _columns(found, facts):
        columns.append(column)
        cells.append(cell)
    return Table(
        title=f"{title} (model: {facts.model})",
        columns=tuple(columns),
        rows=tuple(
            Row((str(number), *(cell(design) for cell in cells)))
            for number, design in enumerate(found, 1)
        ),
        note=_note(found, facts),
    )


def front(facts: ExplorationFacts, most: int = TERMINAL_ROWS) -> Table:
    """The front, at most `most` of its designs, evenly drawn with both ends."""
    table = designs(f"Front of {in_words(facts.objectives)}", facts.front, facts)
    drawn = thinned(table, most)
    shown = len(drawn.rows)
    note = "" if shown == facts.front_size else f"{shown:,} of {facts.front_size:,} shown. "
    return Table(
        title=table.title, columns=table.columns, rows=drawn.rows, note=(note + table.note).strip()
    )


def space(facts: ExplorationFacts) -> Table:
    """What was searched: every axis with its values."""
    rows = []
    for name, values in facts.axes.items():
        texts = [value if isinstance(value, str) else f"{value:g}" for value in values]
        listed = texts if len(texts) <= 12 else [*texts[:4], "…", *texts[-2:]]
        rows.append(Row((TITLES.get(name, name), f"{len(values):,}", ", ".join(listed))))
    return Table(
        title="The design space",
        columns=(Column("axis", numeric=False), Column("values"), Column("", numeric=False)),
        rows=tuple(rows),
        note=f"{facts.covered:,} designs, of which {facts.designs:,} keep the constraints"
        + (f" ({limits(facts)})." if facts.constraints else "."),
    )


def verdict(facts: ExplorationFacts) -> str:
    """The one sentence of an exploration: what was found, and how sure that is."""
    where = f"{facts.designs:,} designs"
    if facts.constraints:
        where += f" with {limits(facts)}"
    sure = _front_sure if len(facts.objectives) > 1 else _best_sure
    ended = "" if facts.proven else f"; stopped: {facts.stopped}"
    return (
        f"{sure(facts, where)} ({facts.seconds:.3g} s{ended}; model: {facts.model}; "
        f"{facts.technology})."
    )


def objective_text(design: DesignFacts, objective: str) -> str:
    """The value of an objective with its unit and, of an estimate, low, mid and high."""
    if objective == "energy" and design.energy_pj is not None:
        return energy_text(design.energy_pj)
    if objective == "area" and design.area_mm2 is not None:
        return f"{_three(design.area_mm2)} mm²"
    if objective == "edp" and design.edp_js is not None:
        return estimate_text(design.edp_js, "J·s")
    if objective == "utilization":
        return f"{percent(design.utilization)} utilization"
    return f"{design.value(objective):,.0f} {OBJECTIVE_UNITS[objective]}"


def _best_sure(facts: ExplorationFacts, where: str) -> str:
    objective = facts.objectives[0]
    best = f"{facts.best}: {objective_text(facts.best, objective)}"
    if facts.proven:
        return (
            f"{best}, the best by {objective} of {where}: proven, {facts.evaluated:,} evaluated"
            f"{_ruled_out(facts)}"
        )
    gap = (
        "how far from the optimum is not known"
        if facts.gap is None
        else f"at most {100 * facts.gap:.1f} % from the optimum"
    )
    return f"{best}, best found by {objective} {_by(facts)} among {where}; {gap}"


def _front_sure(facts: ExplorationFacts, where: str) -> str:
    what = f"{facts.front_size:,} design{'s' if facts.front_size != 1 else ''}"
    objectives = in_words(facts.objectives)
    first = facts.objectives[0]
    end = f"{facts.best}, {objective_text(facts.best, first)}"
    if facts.proven:
        return (
            f"The front of {objectives}, proven over {where}, {facts.evaluated:,} evaluated"
            f"{_ruled_out(facts)}: {what}, none of which any design betters; the best by {first} "
            f"is {end}"
        )
    gap = (
        "how much is missing is not known"
        if facts.gap is None
        else f"its hypervolume can grow by at most {100 * facts.gap:.1f} %"
    )
    return (
        f"A front of {objectives}, found {_by(facts)} among {where}: {what}, none of which "
        f"betters another; the best of them by {first} is {end}; {gap}"
    )


def _by(facts: ExplorationFacts) -> str:
    seed = "" if facts.seed is None else f" (seed {facts.seed})"
    return f"by {facts.search}{seed} in {facts.evaluated:,} evaluations"


def _ruled_out(facts: ExplorationFacts) -> str:
    return f", {facts.ruled_out:,} ruled out by bounds" if facts.ruled_out else ""


def _columns(
    found: Sequence[DesignFacts], facts: ExplorationFacts
) -> list[tuple[Column, Callable[[DesignFacts], str]]]:
    """Columns that say something: axes of several values, and figures that are known."""
    known = {name for design in found for name in row_of(design)}
    objectives = {"pe_cycles"} if "pe-cycles" in facts.objectives else set()
    chosen = []
    for name, title in TITLES.items():
        if name in _LEFT_OUT or name not in known:
            continue
        if name in AXES and len(facts.axes.get(name, ())) < 2:
            continue
        if name == "pe_cycles" and name not in objectives:
            continue
        optional = name in AXES or (name in _OPTIONAL and name not in facts.objectives)
        chosen.append((Column(_titled(name, title, facts), optional=optional), _cell(name)))
    return chosen


def _titled(name: str, title: str, facts: ExplorationFacts) -> str:
    if name in _ESTIMATES:
        return f"{title}{' mm²' if name == 'area_mm2' else ''} low–mid–high"
    user = name == "dram_bytes_per_cycle" and facts.model == "scalesim USER"
    return "DRAM words/cycle" if user else title


def _cell(name: str) -> Callable[[DesignFacts], str]:
    """How a field of a design is written, – where the model does not say."""
    if name in _ESTIMATES:
        return lambda design: _estimated(getattr(design, name), _ESTIMATES[name])

    def cell(design: DesignFacts) -> str:
        value = row_of(design).get(name)
        if value is None:
            return NOT_COVERED
        if name == "utilization":
            return percent(value)
        return f"{value:,.2f}" if name == "peak_dram_words_per_cycle" else f"{value:,.10g}"

    return cell


def _estimated(triple: Triple | None, unit: str) -> str:
    if triple is None:
        return NOT_COVERED
    if unit == "pJ":
        return energy_text(triple)
    return _three(triple) if unit == "mm²" else estimate_text(triple, unit)


def _three(triple: Triple) -> str:
    return "–".join(map(digits, triple))


def _note(found: Sequence[DesignFacts], facts: ExplorationFacts) -> str:
    """What a reader of these figures must know."""
    notes = []
    if facts.model.startswith("scalesim") and any(design.utilization > 1 for design in found):
        notes.append("Above 100 %: SCALE-Sim leaves one cycle of each layer out (Q2).")
    energies = [(design, design.energy_pj) for design in found if design.energy_pj is not None]
    if energies:
        notes.append(UNCERTAINTY)
    undecided = [
        f"{one} and {other}"
        for (one, low), (other, high) in pairwise(energies)
        if not ranks_agree(low, high)
    ]
    if undecided:
        more = f" and {len(undecided) - 3:,} other pairs" if len(undecided) > 3 else ""
        notes.append(
            "Low, mid and high estimates disagree on which takes less energy: "
            f"{'; '.join(undecided[:3])}{more}."
        )
    return " ".join(notes)
