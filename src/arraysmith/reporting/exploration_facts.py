"""What the pictures of an exploration show, as records and columns: on paper and in the browser.

A quantity is a column of designs with its name and unit as people read them; what is drawn, listed
and filtered is the same column everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.reporting.physical_facts import energy_unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from arraysmith.explorations import DesignFacts, ExplorationFacts, ExploredDesigns

OBJECTIVE_COLUMNS = {
    "cycles": "total_cycles",
    "energy": "energy_pj",
    "area": "area_mm2",
    "edp": "edp_js",
    "utilization": "utilization",
    "pe-cycles": "pe_cycles",
}
MOST_DESIGNS = 200_000
"""On a page; a larger exploration keeps its front and evenly drawn others."""
LOG_RATIO = 10
"""From what largest over smallest an axis is logarithmic."""
TITLES = {
    "rows": "rows",
    "cols": "columns",
    "dataflow": "kind",
    "ifmap_buffer_kib": "ifmap KiB",
    "filter_buffer_kib": "filter KiB",
    "ofmap_buffer_kib": "ofmap KiB",
    "dram_bytes_per_cycle": "DRAM bytes/cycle",
    "operand_bytes": "operand bytes",
    "psum_bytes": "psum bytes",
    "pes": "PEs",
    "total_cycles": "cycles",
    "stall_cycles": "stalls",
    "utilization": "utilization",
    "dram_bytes": "DRAM bytes",
    "peak_dram_words_per_cycle": "peak DRAM words/cycle",
    "energy_pj": "energy",
    "power_w": "power",
    "edp_js": "EDP",
    "area_mm2": "area",
    "pe_cycles": "PE-cycles",
}
"""In the order of a table's columns."""
AXES = tuple(TITLES)[:9]
"""Columns that are chosen, not computed."""
_PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"), (1e-15, "f"))
_LIMITS = {
    "max_pes": "at most {:,g} PEs",
    "max_area_mm2": "at most {:,g} mm²",
    "max_total_kib": "at most {:,g} KiB of buffers",
    "max_power_w": "at most {:,g} W",
    "min_utilization": "a utilization of at least {:g}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A column of designs as people read it."""

    name: str
    title: str
    unit: str = ""
    scale: float = 1.0
    """What one shown unit is in the column's."""
    estimate: bool = False
    """Shown with three digits; all others are exact."""
    larger_is_better: bool = False

    @property
    def label(self) -> str:
        """Title and unit, for an axis."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def text(self, value: Any) -> str:  # noqa: ANN401 (a cell of any column)
        """A value of the column with its unit."""
        if isinstance(value, str):
            return value
        if np.isnan(value):
            return "–"
        shown = float(value) / self.scale
        number = digits(shown) if self.estimate else f"{shown:,.10g}"
        return f"{number} {self.unit}" if self.unit else number


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shown:
    """The designs that pictures show, as columns of equal length."""

    columns: Mapping[str, NDArray[Any]]
    quantities: Mapping[str, Quantity]
    """Of the columns, by their names, in the order of a table."""
    front: NDArray[np.bool_]
    best: Mapping[str, Any]
    """The best design's row, which need not be among the columns."""
    evaluated: int
    """Designs there are, of which these are some."""

    @property
    def count(self) -> int:
        """Designs in the columns."""
        return len(self.front)

    @property
    def varying(self) -> list[str]:
        """Numeric columns with more than one value: what a picture can have as an axis."""
        return [
            name
            for name in self.quantities
            if self.columns[name].dtype.kind != "U" and np.ptp(self.finite(name)) > 0
        ]

    def finite(self, name: str) -> NDArray[np.float64]:
        """The numbers of a column without what is not known; a single 0 if none is known."""
        values = self.columns[name].astype(np.float64)
        found = values[np.isfinite(values)]
        return found if len(found) else np.zeros(1)

    def scaled(self, name: str) -> NDArray[np.float64]:
        """A column in its shown unit."""
        return self.columns[name].astype(np.float64) / self.quantities[name].scale

    def logarithmic(self, name: str) -> bool:
        """Whether an axis of this column is a logarithmic one."""
        return is_logarithmic(self.finite(name))


def shown(
    facts: ExplorationFacts, explored: ExploredDesigns | None, most: int = MOST_DESIGNS
) -> Shown:
    """The evaluated designs as they are drawn; those that the facts list where there are no others.

    Args:
        facts: of the exploration.
        explored: its columns.
        most: designs; the front stays before all others, and of both every k-th.
    """
    listed = _listed(facts) if explored is None else explored.columns
    columns = {name: np.asarray(values) for name, values in listed.items()}
    front = columns.get("front", np.zeros(len(columns["rows"]))).astype(np.bool_)
    if "pe-cycles" in facts.objectives:
        columns["pe_cycles"] = columns["total_cycles"].astype(np.float64) * columns["pes"]
    kept = _kept(front, most)
    columns = {name: columns[name][kept] for name in TITLES if name in columns}
    return Shown(
        columns=columns,
        quantities={name: _quantity(name, columns[name], facts) for name in columns},
        front=front[kept],
        best=row_of(facts.best),
        evaluated=max(facts.evaluated, len(front)),
    )


def row_of(design: DesignFacts) -> dict[str, Any]:
    """A design as a row of the columns: of estimates the middle ones, without what is not known."""
    row = {each.name: getattr(design, each.name) for each in fields(design)}
    row["pe_cycles"] = design.pes * design.total_cycles
    return {
        name: value[1] if isinstance(value, tuple) else value
        for name, value in row.items()
        if value is not None
    }


def lines(row: Mapping[str, Any], quantities: Mapping[str, Quantity]) -> list[str]:
    """A whole design, as a tooltip says it."""
    found = [f"{row['rows']}×{row['cols']} {kind(str(row['dataflow']))}"]
    for name, quantity in quantities.items():
        if name in row and name not in {"rows", "cols", "dataflow"}:
            found.append(f"{quantity.title}: {quantity.text(row[name])}")
    return found


def kind(dataflow: str) -> str:
    """A dataflow as people write it."""
    return dataflow.upper() if len(dataflow) == 2 else dataflow


def pair(facts: ExplorationFacts) -> tuple[str, str]:
    """The columns of a front's axes: the first two objectives, or PEs and the only one."""
    found = [OBJECTIVE_COLUMNS[objective] for objective in facts.objectives]
    return (found[0], found[1]) if len(found) > 1 else ("pes", found[0])


def front_title(facts: ExplorationFacts) -> str:
    """What a picture of the front shows."""
    several = len(facts.objectives) > 1
    found = in_words(facts.objectives if several else (*facts.objectives, "PEs"))
    return found[0].upper() + found[1:]


def in_words(objectives: Sequence[str]) -> str:
    """Objectives in a sentence."""
    *most, last = objectives
    return f"{', '.join(most)} and {last}" if most else last


def limits(facts: ExplorationFacts) -> str:
    """The constraints in words, if any."""
    return " and ".join(
        _LIMITS.get(name, f"{name} {{:g}}").format(limit)
        for name, limit in facts.constraints.items()
    )


def digits(value: float) -> str:
    """An estimate with three digits, large ones with all before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.{1 if abs(value) >= 10 else 2}f}"


def estimate_text(triple: tuple[float, float, float], unit: str) -> str:
    """Low, mid and high, always together, in what people would give such a value."""
    scale, prefixed = _prefixed(triple[1], unit)
    return f"{'–'.join(digits(value / scale) for value in triple)} {prefixed}"


def is_logarithmic(values: NDArray[Any]) -> bool:
    """Whether numbers span so much that an axis of them is a logarithmic one."""
    return bool(values.min() > 0 and values.max() >= LOG_RATIO * values.min())


def ticks(low: float, high: float, *, log: bool) -> list[float]:
    """Round numbers between two: 1, 2, 5, 10 … where logarithmic, only powers where those are many.

    Args:
        low, high: the numbers themselves, not their logarithms.
        log: whether the axis is logarithmic.
    """
    if log:
        decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
        many = np.log10(high / low) > 2.5
        found = [
            10.0**decade * step for decade in decades for step in ((1,) if many else (1, 2, 5))
        ]
    else:
        raw = (high - low) / 5 or 1.0
        size = 10 ** np.floor(np.log10(raw))
        step = float(size * next(each for each in (1, 2, 5, 10) if each * size >= raw))
        found = [step * number for number in range(int(low / step), int(high / step) + 2)]
    inside = [tick for tick in found if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
    return inside or [low, high]


def short(value: float) -> str:
    """A tick: 12k, 3.4M; small ones as they are."""
    for scale, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale * 0.9999:
            return f"{value / scale:.4g}{letter}"
    return f"{value:.4g}"


def _listed(facts: ExplorationFacts) -> dict[str, NDArray[Any]]:
    """The designs that the facts name, each once, as columns."""
    designs = tuple(
        dict.fromkeys((*facts.front, *facts.ranking, *facts.best_per_dataflow, facts.best))
    )
    rows = [row_of(design) for design in designs]
    known = [name for name in rows[0] if all(name in row for row in rows)]
    columns = {name: np.array([row[name] for row in rows]) for name in known}
    columns["front"] = np.array([design in set(facts.front) for design in designs])
    return columns


def _kept(front: NDArray[np.bool_], most: int) -> NDArray[np.int64]:
    """Rows to keep, in their order: members of the front first, and of both every k-th."""
    if len(front) <= most:
        return np.arange(len(front))
    members, others = np.flatnonzero(front), np.flatnonzero(~front)
    members = evenly(members, most)
    return np.sort(np.concatenate([members, evenly(others, most - len(members))]))


def evenly(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many rows, evenly drawn, the first and the last among them."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _quantity(name: str, column: NDArray[Any], facts: ExplorationFacts) -> Quantity:
    title, unit, scale = TITLES[name], "", 1.0
    middle = 1.0
    if column.dtype.kind != "U" and np.isfinite(column.astype(np.float64)).any():
        middle = float(np.nanmedian(column))
    if name == "energy_pj":
        scale, unit = energy_unit(middle)
    elif name in {"power_w", "edp_js"}:
        scale, unit = _prefixed(middle, "W" if name == "power_w" else "J·s")
    elif name == "area_mm2":
        unit = "mm²"
    elif name == "utilization":
        scale, unit = 0.01, "%"
    elif name == "dram_bytes_per_cycle" and facts.model == "scalesim USER":
        title = "DRAM words/cycle"
    return Quantity(
        name=name,
        title=title,
        unit=unit,
        scale=scale,
        estimate=bool(unit) or name == "peak_dram_words_per_cycle",
        larger_is_better=name == "utilization",
    )


def _prefixed(value: float, unit: str) -> tuple[float, str]:
    for scale, prefix in _PREFIXES:
        if value >= scale:
            return scale, prefix + unit
    return _PREFIXES[-1][0], _PREFIXES[-1][1] + unit
