"""The sections of an exploration in the report, and the columns of the table that sorts."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.explorations import OBJECTIVE_UNITS
from arraysmith.physical_performance import PhysicalFacts
from arraysmith.reporting import (
    exploration_facts,
    exploration_interactive,
    exploration_tables,
    interactive,
    physical_interactive,
    physical_tables,
    tables,
)
from arraysmith.reporting.page import Headline, Section, embed, embed_scrolling
from arraysmith.reporting.physical_facts import array_of, longest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.explorations import ExplorationFacts, ExploredDesigns
    from arraysmith.performance import NetworkMetrics
    from arraysmith.reporting.exploration_facts import Quantity, Shown

FRONT_ROWS = 200
LAYERS_IN_TIME = 3
FRONT_FIGURE = "front-figure"
_SMALLEST: tuple[type[np.integer[Any]], ...] = (np.uint8, np.int16, np.int32)


def headlines(facts: ExplorationFacts) -> list[Headline]:
    """What was found, as numbers to look at first."""
    first = facts.objectives[0]
    best = "best" if facts.proven else "best found"
    found = [
        Headline(
            value=str(facts.best),
            label=f"{best} by {first}, "
            + (f"proven over {facts.designs:,} designs" if facts.proven else f"{facts.search}"),
        ),
        Headline(
            value=f"{facts.best.total_cycles:,}", label=f"cycles on it (model: {facts.model})"
        ),
    ]
    if len(facts.objectives) > 1:
        found.append(
            Headline(
                value=f"{facts.front_size:,}",
                label=f"designs on the front of {exploration_facts.in_words(facts.objectives)}",
            )
        )
    elif first != "cycles":
        text = exploration_tables.objective_text(facts.best, first)
        found.append(Headline(value=text, label=f"{first}, in {OBJECTIVE_UNITS[first]}"))
    return found


def sections(
    facts: ExplorationFacts,
    explored: ExploredDesigns | None,
    best_design: PhysicalFacts | NetworkMetrics | None,
) -> list[Section]:
    """All of an exploration: result, front with its designs, landscapes, the best one's layers."""
    found = exploration_facts.shown(facts, explored)
    course = [exploration_interactive.convergence(facts)] if len(facts.history) > 1 else []
    maps = [] if explored is None else exploration_interactive.landscapes(facts, explored)
    return [
        Section(
            anchor="exploration",
            title="The best design" if facts.proven else "The best design found",
            text=exploration_tables.verdict(facts),
            wide_figures=[embed(figure) for figure in course],
            tables=[
                exploration_tables.designs(f"First by {facts.objectives[0]}", facts.ranking, facts),
                exploration_tables.designs("First of each kind", facts.best_per_dataflow, facts),
                exploration_tables.space(facts),
            ],
        ),
        *_front(facts, explored, found),
        *(
            [
                Section(
                    anchor="landscapes",
                    title="Over heights and widths",
                    text=_landscape_text(facts, explored),
                    figures=[embed(figure) for figure in maps],
                )
            ]
            if maps and explored is not None
            else []
        ),
        *_best_design(best_design),
    ]


def designs_data(facts: ExplorationFacts, found: Shown) -> dict[str, Any]:
    """The table's columns as JSON takes them; numbers are little-endian and base64.

    Integers take as few bytes as they need, estimates four: more digits than they are good for.
    """
    first, second = exploration_facts.pair(facts)
    third = facts.objectives[2:3]
    columns = [
        _packed(quantity, found.columns[name]) for name, quantity in found.quantities.items()
    ]
    columns.append(
        {
            "name": "front",
            "title": "on the front",
            "words": ["no", "yes"],
            "dtype": "u1",
            "data": _base64(found.front.astype(np.uint8)),
        }
    )
    return {
        "count": found.count,
        "columns": columns,
        "figure": FRONT_FIGURE,
        "x": first,
        "y": second,
        "colour": exploration_facts.OBJECTIVE_COLUMNS[third[0]] if third else "",
        "sort": exploration_facts.OBJECTIVE_COLUMNS[facts.objectives[0]],
        "stairs": len(facts.objectives) == 2,
        "axes": [{"name": name, "label": found.quantities[name].label} for name in found.varying],
        "best": {name: value for name, value in found.best.items() if name in found.columns},
        "file": "designs.csv",
        "note": _shown_note(found),
    }


def _front(
    facts: ExplorationFacts, explored: ExploredDesigns | None, found: Shown
) -> list[Section]:
    figure = exploration_interactive.front_frame(facts, explored)
    lines = exploration_interactive.parallel(facts, explored)
    several = len(facts.objectives) > 1
    listed = [exploration_tables.front(facts, FRONT_ROWS)] if several else []
    return [
        Section(
            anchor="front",
            title="All designs",
            text="Every dot is an evaluated design. The table below it sorts by a click on a "
            "heading and filters by what stands under it: numbers as 16, >=16, 8..32 or !=16, "
            "several with a space between them; words by a part of them, =os or !os. The picture "
            "shows what the table shows; a click on a row marks its dot, a click on a dot its row.",
            wide_figures=[embed(figure, FRONT_FIGURE)],
            designs=designs_data(facts, found),
            tables=listed,
        ),
        Section(
            anchor="parallel",
            title="Axes and objectives",
            wide_figures=[embed_scrolling(lines, 110 * len(lines.data[0].dimensions) + 120)],
        ),
    ]


def _shown_note(found: Shown) -> str:
    if found.count >= found.evaluated:
        return ""
    return (
        f"{found.count:,} of {found.evaluated:,} evaluated designs are on this page, the front "
        "first; the run's folder has all of them."
    )


def _landscape_text(facts: ExplorationFacts, explored: ExploredDesigns) -> str:
    text = (
        f"Each cell is the best by {facts.objectives[0]} over all other axes; the star is the best "
        "of its kind. Pale: not evaluated, the colour is that of its bound. Grey: excluded by a "
        "constraint."
    )
    if any(each.thinned for each in explored.landscapes):
        text += " Every k-th row and column is drawn."
    return text


def _best_design(found: PhysicalFacts | NetworkMetrics | None) -> list[Section]:
    """Where the cycles of the best design go, layer by layer."""
    if found is None:
        return []
    if isinstance(found, PhysicalFacts):
        metrics = found.metrics
        return [
            Section(
                anchor="best-layers",
                title="Layers of the best",
                text=f"{array_of(metrics)}: where cycles and energy go (model: physical), the "
                "roofline, and the tiles of the layers that take longest in time.",
                wide_figures=[
                    *map(embed, physical_interactive.breakdown(metrics)),
                    embed(physical_interactive.roofline(metrics)),
                    *(
                        embed(physical_interactive.lanes(each))
                        for each in longest(found, LAYERS_IN_TIME)
                    ),
                ],
                tables=[physical_tables.layers(metrics)],
            )
        ]
    return [
        Section(
            anchor="best-layers",
            title="Layers of the best",
            text=f"{found.rows}×{found.cols} {found.dataflow.upper()}: where the cycles go (model: "
            f"{found.model}). SCALE-Sim's folds follow each other; it has no energy and no tiles.",
            wide_figures=[
                embed(interactive.breakdown(found)),
                embed(interactive.roofline(found)),
            ],
            tables=[tables.simulated_layers(found)],
        )
    ]


def _packed(quantity: Quantity, column: NDArray[Any]) -> dict[str, Any]:
    """A column with all that a browser needs to show, sort and filter it."""
    head = {
        "name": quantity.name,
        "title": quantity.title,
        "unit": quantity.unit,
        "scale": quantity.scale,
        "estimate": quantity.estimate,
    }
    if column.dtype.kind == "U":
        words, codes = np.unique(column, return_inverse=True)
        smallest = codes.astype(np.uint8 if len(words) <= 256 else np.int32)
        return head | {
            "words": [str(word) for word in words],
            "dtype": smallest.dtype.str[1:],
            "data": _base64(smallest),
        }
    numbers = _smallest(column, quantity)
    first = numbers[0]
    if bool((numbers == first).all()):
        return head | {"constant": float(first)}
    return head | {"dtype": numbers.dtype.str[1:], "data": _base64(numbers)}


def _smallest(column: NDArray[Any], quantity: Quantity) -> NDArray[Any]:
    if column.dtype.kind in "iub":
        for kind in _SMALLEST:
            if np.iinfo(kind).min <= column.min() and column.max() <= np.iinfo(kind).max:
                return column.astype(kind)
        return column.astype(np.float64)
    return column.astype(np.float32 if quantity.estimate else np.float64)


def _base64(numbers: NDArray[Any]) -> str:
    little = numbers.astype(numbers.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode()
