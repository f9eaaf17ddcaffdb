"""Pictures of an exploration for the HTML report, drawn with plotly: they answer to the mouse.

Each function gives a figure that stands alone, in a notebook too. The page takes the
front without its data (`front_frame`), because its table has the same columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from arraysmith.reporting import exploration_facts as facts_of
from arraysmith.reporting import exploration_pictures as pictures
from arraysmith.reporting.interactive import COLOURS, blank_figure, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from arraysmith.explorations import ExplorationFacts, ExploredDesigns, Landscape
    from arraysmith.reporting.exploration_facts import Quantity, Shown

    Points = Callable[[Shown, NDArray[np.int64], tuple[str, str]], dict[str, Any]]

FEW_DOTS = 2_000
"""That SVG draws well; beyond, WebGL does."""
FEW_STEPS = 2_000
"""Members of a front that a line still joins."""
FEW_DECADES = 3_000
"""Largest over smallest of an axis that has ticks within its decades."""
SCALE = "Viridis"
GREY, PALE = "#d4d7dc", "#b4c2d3"


def front_2d(
    facts: ExplorationFacts,
    explored: ExploredDesigns | None,
    x: str | None = None,
    y: str | None = None,
) -> go.Figure:
    """Two quantities of all evaluated designs, the front on top of them, the best as a star.

    Args:
        facts: of the exploration.
        explored: its columns; None draws what the facts list.
        x, y: columns; by default the first two objectives, or PEs and the only one. A third
            objective is the colour of the front.
    """
    found = facts_of.shown(facts, explored)
    first, second = facts_of.pair(facts)
    return _front(facts, found, (x or first, y or second), _points)


def front_frame(facts: ExplorationFacts, explored: ExploredDesigns | None) -> go.Figure:
    """The same without its points, which the page fills in from the columns of its table.

    A fourth trace is for the design that is selected there.
    """
    found = facts_of.shown(facts, explored)
    figure = _front(facts, found, facts_of.pair(facts), _no_points)
    figure.data[2].update(text=None, hovertemplate=None, hoverinfo="none")
    ring = {"size": 15, "symbol": "circle-open", "color": COLOURS[4], "line": {"width": 3}}
    figure.add_trace(
        type(figure.data[0])(
            **_no_points(found, np.zeros(0, np.int64), facts_of.pair(facts)),
            mode="markers",
            marker=ring,
            name="selected",
            meta="selected",
            showlegend=False,
        )
    )
    return figure


def _front(
    facts: ExplorationFacts, found: Shown, names: tuple[str, str], points: Points
) -> go.Figure:
    many = found.count > FEW_DOTS
    figure = blank_figure(facts_of.front_title(facts), "", "", model=facts.model)
    dots = go.Scattergl if many else go.Scatter
    for part, rows, style in (
        ("evaluated", np.flatnonzero(~found.front), _dots(many=many)),
        ("front", _along(found, names[0]), _front_style(facts, found, names)),
    ):
        figure.add_trace(
            dots(
                **points(found, rows, names),
                **style,
                name=f"{part} ({len(rows):,})",
                meta=part,
            )
        )
    figure.add_trace(
        # In WebGL where the dots are, for that is drawn above all else.
        dots(
            x=[found.best[names[0]] / found.quantities[names[0]].scale],
            y=[found.best[names[1]] / found.quantities[names[1]].scale],
            text=["<br>".join(map(plain, facts_of.lines(found.best, found.quantities)))],
            customdata=[-1],
            mode="markers",
            marker=_star(COLOURS[1]),
            hovertemplate="%{text}<extra></extra>",
            name=_best_name(facts),
            meta="best",
        )
    )
    for axis, name in zip(("x", "y"), names, strict=True):
        figure.update_layout({f"{axis}axis": _axis(found, name)})
    _legend_below(figure)
    figure.update_layout(hovermode="closest", height=480)
    return figure


def parallel(facts: ExplorationFacts, explored: ExploredDesigns | None) -> go.Figure:
    """Each design as a line over the axes of the space and the objectives, coloured by rank."""
    found = facts_of.shown(facts, explored)
    drawn = pictures.parallel(facts, found)
    shown = len(drawn.ranks)
    figure = blank_figure(
        f"Parallel coordinates<br><sup>{shown:,} of {drawn.designs:,} evaluated designs; "
        f"drag along an axis to pick; model: {plain(facts.model)}</sup>",
        "",
        "",
    )
    figure.add_parcoords(
        dimensions=[
            {
                "label": each.title,
                "values": each.places,
                "tickvals": each.tick_places,
                "ticktext": each.tick_texts,
            }
            for each in drawn.dimensions
        ],
        line={
            "color": drawn.ranks,
            "colorscale": SCALE,
            "reversescale": True,
            "cmin": 0,
            "cmax": 1,
            "colorbar": {
                "title": {"text": f"by {facts.objectives[0]}", "side": "right"},
                "tickvals": [0, 1],
                "ticktext": ["worst", "best"],
                "thickness": 12,
            },
        },
        labelfont={"size": 12},
        tickfont={"size": 11},
        rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
    )
    figure.update_layout(
        margin={"l": 70, "r": 20, "t": 95, "b": 25},
        height=430,
        title={"y": 1, "yanchor": "top", "yref": "container", "pad": {"t": 12}},
    )
    return figure


def landscapes(facts: ExplorationFacts, explored: ExploredDesigns) -> list[go.Figure]:
    """The first objective over height × width, a figure for each kind of array.

    All on one colour scale. Cells that were not evaluated are paler and show their bound; what
    constraints exclude is grey and says why.
    """
    if not explored.landscapes:
        return []
    found = facts_of.shown(facts, explored)
    quantity = found.quantities[facts_of.OBJECTIVE_COLUMNS[explored.landscapes[0].objective]]
    every = [pictures.cells(facts, each, quantity) for each in explored.landscapes]
    colours = pictures.colour_range(every)
    figures = []
    for landscape, cells in zip(explored.landscapes, every, strict=True):
        title = pictures.landscape_title(landscape, quantity)
        figure = blank_figure(title, "columns", "rows", model=facts.model)
        for trace in _heat(landscape, cells, quantity, colours):
            figure.add_trace(trace)
        _mark_best(figure, facts, landscape)
        for axis, sides in (("xaxis", landscape.cols), ("yaxis", landscape.rows)):
            steps = np.unique(np.diff(sides))
            # Sides like 4, 8, 16 … have cells of equal size only as names.
            even = {} if len(steps) <= 1 else {"type": "category", "tickangle": 0}
            figure.update_layout({axis: {**even, "showgrid": False, "zeroline": False}})
        figure.update_layout(hovermode="closest", plot_bgcolor="white")
        figures.append(figure)
    return figures


def convergence(facts: ExplorationFacts) -> go.Figure:
    """The best value against evaluations, and the line that it cannot pass."""
    quantity = facts_of.shown(facts, None).quantities[
        facts_of.OBJECTIVE_COLUMNS[facts.objectives[0]]
    ]
    found = pictures.course(facts, quantity)
    title = f"Convergence of {plain(facts.search)}"
    figure = blank_figure(title, "evaluations", found.label, model=facts.model)
    figure.add_scatter(
        x=found.evaluated,
        y=found.values,
        mode="lines+markers",
        line={"shape": "hv", "color": COLOURS[0], "width": 2},
        marker={"size": 5},
        name="best so far",
        hovertemplate="%{x:,} evaluations: %{y:,.6g}<extra></extra>",
    )
    if found.limit is not None:
        figure.add_scatter(
            x=[found.evaluated[0], found.evaluated[-1]],
            y=[found.limit, found.limit],
            mode="lines",
            line={"dash": "dash", "color": COLOURS[4], "width": 1.5},
            name=found.limit_text,
            hovertemplate=f"{found.limit_text}: %{{y:,.6g}}<extra></extra>",
        )
    figure.update_xaxes(type="log", dtick=1, exponentformat="SI", tickformat=",~s")
    figure.update_yaxes(exponentformat="SI")
    _legend_below(figure)
    return figure


def _best_name(facts: ExplorationFacts) -> str:
    return f"{'best' if facts.proven else 'best found'} by {facts.objectives[0]}"


def _points(found: Shown, rows: NDArray[np.int64], names: tuple[str, str]) -> dict[str, Any]:
    """Places, row numbers and tooltips of some designs."""
    return {
        "x": found.scaled(names[0])[rows],
        "y": found.scaled(names[1])[rows],
        "customdata": rows.astype(np.int32),
        "text": ["<br>".join(map(plain, lines)) for lines in _tooltips(found, rows)],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _no_points(found: Shown, rows: NDArray[np.int64], names: tuple[str, str]) -> dict[str, Any]:
    del found, rows, names
    return {"x": [], "y": [], "hoverinfo": "none"}


def _tooltips(found: Shown, rows: NDArray[np.int64]) -> Iterator[list[str]]:
    columns = {name: column[rows].tolist() for name, column in found.columns.items()}
    for values in zip(*columns.values(), strict=True):
        yield facts_of.lines(dict(zip(columns, values, strict=True)), found.quantities)


def _along(found: Shown, x: str) -> NDArray[np.int64]:
    """The front from left to right."""
    rows = np.flatnonzero(found.front)
    return rows[np.argsort(found.columns[x][rows], kind="stable")]


def _dots(*, many: bool) -> dict[str, Any]:
    return {"mode": "markers", "marker": {"color": PALE, "size": 3 if many else 5, "opacity": 0.7}}


def _front_style(facts: ExplorationFacts, found: Shown, names: tuple[str, str]) -> dict[str, Any]:
    """A stair where two objectives make the front, dots coloured by the third where three do."""
    count = int(found.front.sum())
    marker: dict[str, Any] = {"color": COLOURS[0], "size": 7 if count <= 300 else 4}
    third = facts_of.OBJECTIVE_COLUMNS[facts.objectives[2]] if len(facts.objectives) > 2 else ""
    if third:
        values = found.scaled(third)[_along(found, names[0])]
        marker |= {
            "color": values,
            "colorscale": SCALE,
            "colorbar": {
                "title": {"text": found.quantities[third].label, "side": "right"},
                "thickness": 12,
            },
        }
    if third or names != facts_of.pair(facts) or len(facts.objectives) < 2 or count > FEW_STEPS:
        return {"mode": "markers", "marker": marker}
    # Between two members the worse of both values holds.
    shape = "vh" if found.quantities[names[0]].larger_is_better else "hv"
    return {
        "mode": "lines+markers",
        "marker": marker,
        "line": {"shape": shape, "color": COLOURS[0], "width": 1.5},
    }


def _axis(found: Shown, name: str) -> dict[str, Any]:
    log, span = found.logarithmic(name), found.finite(name)
    # 1, 2, 5, 10 …; over many decades only their ends.
    steps = {"dtick": "D2" if span.max() < FEW_DECADES * span.min() else 1} if log else {}
    return {
        **steps,
        "title": {"text": found.quantities[name].label},
        "type": "log" if log else "linear",
        "exponentformat": "SI",
        "automargin": True,
    }


def _heat(
    landscape: Landscape,
    cells: pictures.Cells,
    quantity: Quantity,
    colours: tuple[float, float, bool],
) -> Iterator[go.Heatmap]:
    low, high, log = colours
    place = np.log10 if log else np.asarray
    at = facts_of.ticks(low, high, log=log)
    shared = {
        "x": landscape.cols.tolist(),
        "y": landscape.rows.tolist(),
        "hoverongaps": False,
        "zmin": float(place(low)),
        "zmax": float(place(high)),
        "colorscale": SCALE,
        "reversescale": not quantity.larger_is_better,
        "colorbar": {
            "title": {"text": quantity.label, "side": "right"},
            "tickvals": [float(place(each)) for each in at],
            "ticktext": [facts_of.short(each) for each in at],
            "thickness": 12,
        },
    }
    unit = f" {quantity.unit}" if quantity.unit else f" {quantity.title}"
    number = "%{customdata:,.4~g}" if quantity.estimate else "%{customdata:,.10~g}"
    for matrix, said, pale in (
        (cells.evaluated, f"%{{y}}×%{{x}}: {number}{unit}", False),
        (cells.bounded, f"%{{y}}×%{{x}}: at least {number}{unit}, not evaluated", True),
    ):
        if np.isfinite(matrix).any():
            yield go.Heatmap(
                **shared,
                z=_rows(place(matrix)),
                customdata=_rows(matrix),
                hovertemplate=f"{_bounded_above(said, quantity) if pale else said}<extra></extra>",
                opacity=0.35 if pale else 1,
                showscale=not pale,
            )
    flat = [("not evaluated", "white", cells.unknown)]
    flat += [(f"excluded by {plain(why)}", GREY, where) for why, where in cells.excluded]
    for said, colour, where in flat:
        if where.any():
            yield go.Heatmap(
                x=shared["x"],
                y=shared["y"],
                z=_rows(np.where(where, 1.0, np.nan)),
                colorscale=[[0, colour], [1, colour]],
                showscale=False,
                hoverongaps=False,
                hovertemplate=f"%{{y}}×%{{x}}: {said}<extra></extra>",
            )


def _bounded_above(said: str, quantity: Quantity) -> str:
    return said.replace("at least", "at most") if quantity.larger_is_better else said


def _mark_best(figure: go.Figure, facts: ExplorationFacts, landscape: Landscape) -> None:
    best = [each for each in facts.best_per_dataflow if each.dataflow == landscape.dataflow]
    figure.add_scatter(
        x=[design.cols for design in best],
        y=[design.rows for design in best],
        text=[plain(str(design)) for design in best],
        mode="markers",
        marker=_star("white"),
        hovertemplate=f"{_best_name(facts)}: %{{text}}<extra></extra>",
        showlegend=False,
    )


def _star(colour: str) -> dict[str, Any]:
    return {
        "symbol": "star",
        "size": 16,
        "color": colour,
        "line": {"color": "black", "width": 1.2},
    }


def _rows(matrix: NDArray[Any]) -> list[list[float | None]]:
    """A matrix with None for NaN, which JSON has not."""
    return [[None if np.isnan(cell) else float(cell) for cell in row] for row in matrix]


def _legend_below(figure: go.Figure) -> None:
    """Below the axis's title, where it covers nothing in a narrow window."""
    figure.update_layout(
        title={"y": 1, "yanchor": "top", "yref": "container", "pad": {"t": 12}},
        legend={"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0, "xanchor": "left"},
        margin={"l": 60, "r": 20, "t": 60, "b": 50},
    )
