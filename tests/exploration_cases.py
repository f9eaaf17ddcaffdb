"""Explorations made up from seeded random designs, with facts that fit their columns."""

from __future__ import annotations

import numpy as np

from arraysmith.explorations import (
    Checkpoint,
    DesignFacts,
    ExplorationFacts,
    ExploredDesigns,
    Landscape,
)
from arraysmith.performance import LayerMetrics, NetworkMetrics, StreamMetrics
from arraysmith.reporting.exploration_facts import OBJECTIVE_COLUMNS

KINDS = ("os_pipelined", "ws_double_buffered", "ws_pipelined")
SPREAD = (0.6, 1.0, 1.7)
"""Low and high over the mid estimate."""


def made_up(
    objectives=("cycles", "energy"),
    *,
    count=400,
    seed=0,
    model="physical",
    proven=True,
    gap=0.0,
    search="exhaustive",
    search_seed=None,
    workload="net",
    all_front=False,
    max_pes=2048,
    hold=(),
):
    """An exploration of `count` random designs: facts, and columns that agree with them.

    Args:
        objectives: of the front; the first ranks.
        count: evaluated designs.
        seed: of the designs.
        model: `physical`, or `scalesim …`: then without stalls, energies and areas.
        proven, gap, search, search_seed, workload: as in the facts.
        all_front: every design lies on the front of cycles and energy.
        max_pes: a constraint.
        hold: columns in which every second value is not known.
    """
    columns = _columns(np.random.default_rng(seed), count, model, max_pes, all_front=all_front)
    names = [OBJECTIVE_COLUMNS[objective] for objective in objectives]
    costs = [-columns[name] if name == "utilization" else _column(columns, name) for name in names]
    front = np.ones(count, bool) if all_front else _not_bettered(np.stack(costs, 1))
    columns["front"] = front
    for name in hold:
        columns[name] = np.where(np.arange(count) % 2, columns[name], np.nan)
    order = np.lexsort((columns["pes"], costs[0]))
    members = [row for row in order if front[row]][:: max(1, int(front.sum()) // 500)]
    first = {}
    for row in order:
        first.setdefault(str(columns["dataflow"][row]), row)
    facts = ExplorationFacts(
        workload=workload,
        model=model,
        layers=5,
        macs=10**9,
        technology="made up, 45 nm",
        clock_mhz=800.0,
        axes={
            name: tuple(np.unique(columns[name]).tolist())
            for name in ("rows", "cols", "dataflow", "ifmap_buffer_kib", "ofmap_buffer_kib")
        },
        constraints={} if max_pes is None else {"max_pes": float(max_pes)},
        objectives=tuple(objectives),
        map_for="cycles" if model == "physical" else None,
        search=search,
        seed=search_seed,
        budget=None,
        covered=3 * count,
        designs=2 * count,
        evaluated=count,
        ruled_out=count if proven else 0,
        proven=proven,
        stopped="" if proven else "the budget is spent",
        gap=gap,
        best=design(columns, order[0]),
        ranking=tuple(design(columns, row) for row in order[:10]),
        best_per_dataflow=tuple(design(columns, row) for row in first.values()),
        front=tuple(design(columns, row) for row in members),
        front_size=int(front.sum()),
        history=_history(costs[0], names[0] == "utilization", len(names) > 1),
        seconds=1.25,
    )
    return facts, ExploredDesigns(
        columns=columns, landscapes=landscapes(columns, objectives[0], facts)
    )


def design(columns, row):
    """One row as a record."""
    found = {}
    for name, column in columns.items():
        value = column[row].item()
        if name == "front" or value != value:  # noqa: PLR0124 (not a number)
            continue
        estimate = name in {"energy_pj", "power_w", "edp_js", "area_mm2"}
        found[name] = tuple(value * each for each in SPREAD) if estimate else value
    return DesignFacts(**found)


def landscapes(columns, objective, facts):
    """Cells over the sides that occur, with bounds where nothing was evaluated."""
    rows, cols = np.unique(columns["rows"]), np.unique(columns["cols"])
    values = _column(columns, OBJECTIVE_COLUMNS[objective])
    larger = objective == "utilization"
    found = []
    for kind in facts.axes["dataflow"]:
        cells = np.full((len(rows), len(cols)), np.nan)
        for row in np.flatnonzero(columns["dataflow"] == kind):
            place = (
                np.searchsorted(rows, columns["rows"][row]),
                np.searchsorted(cols, columns["cols"][row]),
            )
            keep = np.fmax if larger else np.fmin
            cells[place] = keep(cells[place], values[row])
        pes = rows[:, None] * cols[None, :]
        allowed = np.ones_like(pes, bool) if facts.max_pes is None else pes <= facts.max_pes
        middle = np.nanmedian(cells) * (np.median(pes) / pes) ** 0.7
        known = np.isnan(cells) & allowed & (pes % 3 != 0)
        found.append(
            Landscape(
                dataflow=kind,
                objective=objective,
                rows=rows,
                cols=cols,
                values=cells,
                bounds=np.where(known, middle, np.nan),
                allowed=allowed,
                thinned=False,
            )
        )
    return tuple(found)


def simulated(workload="net", model="scalesim USER", names=("conv1", "conv2", "fc")):
    """A SCALE-Sim result of a few layers on 8 × 8 PEs whose cycles add up as its folds do."""
    layers = []
    for number, name in enumerate(names):
        S_R, S_C, T = 64 >> number, 32, 50 * (number + 1)
        folds = -(-S_R // 8) * -(-S_C // 8)
        stalls = 100 * number
        words = S_R * T + S_C * T + S_R * S_C
        stream = StreamMetrics(
            sram_start_cycle=0, sram_stop_cycle=9, sram_words=words, dram_start_cycle=0,
            dram_stop_cycle=99, dram_words=words,
        )  # fmt: skip
        layers.append(
            LayerMetrics(
                name=name,
                S_R=S_R,
                S_C=S_C,
                T=T,
                folds=folds,
                pes=64,
                stall_cycles=stalls,
                total_cycles=folds * (T + 2 * 8 + 8 - 2) - 1 + stalls,
                mapping_efficiency=1.0,
                compute_utilization=0.7,
                ifmap=stream,
                filter=stream,
                ofmap=stream,
            )
        )
    return NetworkMetrics(
        workload=workload, model=model, rows=8, cols=8, dataflow="os", ifmap_buffer_kib=64,
        filter_buffer_kib=64, ofmap_buffer_kib=64, dram_words_per_cycle=10.0, layers=tuple(layers),
    )  # fmt: skip


def _columns(random, count, model, max_pes, *, all_front):
    sides = np.array([4, 8, 12, 16, 24, 32, 48, 64, 96, 128])
    pairs = [(r, c) for r in sides for c in sides if max_pes is None or r * c <= max_pes]
    chosen = np.array(pairs)[random.integers(0, len(pairs), count)]
    rows, cols = chosen[:, 0], chosen[:, 1]
    pes = rows * cols
    physical = model == "physical"
    utilization = random.uniform(0.2, 0.95, count) * (1 - 0.1 * np.log10(pes))
    cycles = (10**9 / (pes * utilization)).astype(np.int64)
    if all_front:
        cycles = 10**8 + 5000 * random.permutation(count)
    columns = {
        "rows": rows.astype(np.int32),
        "cols": cols.astype(np.int32),
        "dataflow": np.array(KINDS if physical else ("is", "os", "ws"))[
            random.integers(0, 3, count)
        ],
        "ifmap_buffer_kib": random.choice([32, 64, 128, 256], count).astype(np.int32),
        "filter_buffer_kib": np.full(count, 64, np.int32),
        "ofmap_buffer_kib": random.choice([16, 32], count).astype(np.int32),
        "pes": pes.astype(np.int64),
        "total_cycles": cycles,
        "utilization": 10**9 / (cycles * pes),
    }
    if physical:
        energy = 2e9 * random.uniform(1, 2, count) * pes**0.15
        if all_front:
            energy = 1e15 / cycles
        seconds = cycles / 800e6
        columns |= {
            "stall_cycles": (cycles * random.uniform(0, 0.4, count)).astype(np.int64),
            "dram_bytes": (1e7 * random.uniform(1, 3, count)).astype(np.int64),
            "energy_pj": energy,
            "power_w": energy * 1e-12 / seconds,
            "edp_js": energy * 1e-12 * seconds,
            "area_mm2": 0.002 * pes + 0.01 * columns["ifmap_buffer_kib"],
        }
    return columns


def _column(columns, name):
    if name == "pe_cycles":
        return columns["total_cycles"] * columns["pes"].astype(float)
    return columns[name].astype(float)


def _not_bettered(costs):
    """Which rows no other row betters: everyone against everyone."""
    no_worse = (costs[:, None] <= costs[None]).all(2)
    better = no_worse & (costs[:, None] < costs[None]).any(2)
    return ~better.any(0)


def _history(cost, larger, several):
    best = np.minimum.accumulate(cost)
    points = np.unique(np.geomspace(1, len(cost), 30).astype(int))
    if several:
        return tuple(
            Checkpoint(evaluated=int(n), value=float(1 - 0.5 * (1 - n / len(cost)) ** 2))
            for n in points
        )
    return tuple(
        Checkpoint(evaluated=int(n), value=float(-best[n - 1] if larger else best[n - 1]))
        for n in points
    )
