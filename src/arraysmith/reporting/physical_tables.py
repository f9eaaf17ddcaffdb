"""Tables and loop nests of the model `physical`, for the terminal and the report alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraysmith.reporting.physical_facts import (
    OPERANDS,
    array_of,
    byte_text,
    energy_text,
    one_energy,
    three_digits,
)
from arraysmith.reporting.tables import Row, Table, columns, integer, percent
from arraysmith.simulation.physical.cost import UNCERTAINTY, ranks_agree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arraysmith.mapping import Mapping
    from arraysmith.physical_performance import (
        LayerTimeline,
        LoopFacts,
        MappedNetwork,
        ModelsCompared,
        PhysicalLayerMetrics,
        PhysicalNetworkMetrics,
    )

_LETTERS = {
    "group packs": "g",
    "images": "b",
    "rows": "p",
    "columns": "q",
    "output channels": "n",
    "input channels": "k",
}
MODEL = "model: physical"


def in_short(mapping: Mapping, *, microarchitecture: bool = False) -> str:
    """A mapping in one cell: order, tile, blocks."""
    text = f"{mapping.order}, {mapping.tile}"
    if mapping.blocked is not None:
        text += f", {mapping.blocked} in blocks of {mapping.tiles_per_block}"
    return f"{mapping.microarchitecture}: {text}" if microarchitecture else text


def layers(
    found: PhysicalNetworkMetrics, mapped: MappedNetwork | None = None, title: str = ""
) -> Table:
    """Every layer under its mapping; with the proof that it is the best, if it is.

    Args:
        found: the figures.
        mapped: what the mapper says of them.
        title: in place of "layer by layer".
    """
    several = len(found.microarchitectures) > 1
    names = [
        "layer:",
        "mapping:?",
        "cycles",
        "= compute + fill/drain + stall?",
        "utilization",
        "DRAM bytes",
        "energy low–mid–high",
    ]
    if mapped is not None:
        names += ["mappings", "visited?", "at least?"]
    rows = []
    for place, layer in enumerate(found.layers):
        cells = [
            layer.name,
            in_short(layer.mapping, microarchitecture=several),
            *_figures(layer),
        ]
        if mapped is not None:
            proof = mapped.layers[place]
            bound = f"{proof.cycles_at_least:,}"
            if mapped.objective == "energy":
                bound = one_energy(proof.energy_at_least_pj)
            cells += [f"{proof.mappings:,}", f"{proof.visited:,}", bound]
        rows.append(Row(tuple(cells)))
    how = title or ("layer by layer" if mapped is None else f"best mappings by {mapped.objective}")
    return Table(
        title=f"{found.workload} on {array_of(found)}: {how} ({MODEL})",
        columns=columns(*names),
        rows=tuple(rows),
        note="" if mapped is None else _proof(mapped),
    )


def networks(results: Sequence[PhysicalNetworkMetrics]) -> Table:
    """Totals of a network on one array or several, and where the energies do not rank them."""
    first = results[0]
    note = f"Technology: {first.technology}. {UNCERTAINTY}"
    disagree = [
        f"{array_of(one)} and {array_of(other)}"
        for place, one in enumerate(results)
        for other in results[place + 1 :]
        if not ranks_agree(one.energy_pj, other.energy_pj)
    ]
    if disagree:
        note += (
            " Low, mid and high estimates disagree on which takes less energy: "
            f"{'; '.join(disagree)}."
        )
    return Table(
        title=f"{first.workload}, totals ({MODEL})",
        columns=columns(
            "array:",
            "buffers KiB?",
            "DRAM bytes/cycle?",
            "cycles",
            "stalls?",
            "utilization?",
            "DRAM bytes",
            "energy low–mid–high",
            "area mm² low–mid–high?",
        ),
        rows=tuple(
            Row(
                (
                    array_of(found),
                    _buffers(found),
                    f"{found.dram_bytes_per_cycle:g}",
                    f"{found.total_cycles:,}",
                    f"{found.stall_cycles:,}",
                    percent(found.utilization),
                    f"{found.dram_bytes:,}",
                    energy_text(found.energy_pj),
                    "–".join(three_digits(area) for area in found.area_mm2),
                )
            )
            for found in results
        ),
        note=note,
    )


def front(mapped: MappedNetwork) -> Table:
    """Cycles against energy: every mapping of a layer that none betters in both."""
    several = len(mapped.metrics.microarchitectures) > 1
    rows, undecided = [], set()
    for layer in mapped.layers:
        for place, found in enumerate(layer.front):
            pair = layer.front[place - 1 : place + 1] if place else ()
            if pair and not ranks_agree(*(each.energy.total_pj for each in pair)):
                undecided.add(layer.layer)
            cells = (layer.layer, in_short(found.mapping, microarchitecture=several))
            rows.append(Row((*cells, *_figures(found))))
    note = UNCERTAINTY
    if undecided:
        note += (
            " Low, mid and high estimates disagree on which of neighbouring mappings takes less "
            f"energy in {', '.join(sorted(undecided))}."
        )
    return Table(
        title=f"{mapped.metrics.workload} on {array_of(mapped.metrics)}: cycles against energy "
        f"({MODEL})",
        columns=columns(
            "layer:",
            "mapping:",
            "cycles",
            "= compute + fill/drain + stall?",
            "utilization?",
            "DRAM bytes",
            "energy low–mid–high",
        ),
        rows=tuple(rows),
        note=note,
    )


def traffic(layer: PhysicalLayerMetrics) -> Table:
    """What each operand of a layer moves."""
    return Table(
        title=f"{layer.name}: words that move ({MODEL})",
        columns=columns(
            "operand:", "from DRAM", "to DRAM", "buffer to array", "array to buffer", "largest tile"
        ),
        rows=tuple(
            Row(
                (
                    operand,
                    f"{moved.dram_words_read:,}",
                    f"{moved.dram_words_written:,}",
                    f"{moved.array_reads:,}",
                    f"{moved.array_writes:,}",
                    f"{moved.resident_words:,}",
                )
            )
            for operand, moved in zip(OPERANDS, layer.traffic, strict=True)
        ),
    )


def models(found: Sequence[ModelsCompared]) -> Table:
    """SCALE-Sim's cycles and the physical ones, with a column for each reason they differ."""
    first = found[0]
    return Table(
        title=f"Model scalesim beside model physical ({first.serial}, then {first.pipelined}; "
        "best mappings by cycles)",
        columns=columns(
            "layer:",
            "cycles, scalesim",
            "+ drain, habits",
            "+ tiles",
            "+ DRAM",
            "= cycles, serial (physical)",
            "+ overlapped folds",
            "+ DRAM",
            "= cycles, pipelined (physical)",
            "DRAM words ifmap, scalesim?",
            "physical?",
        ),
        rows=tuple(
            Row(
                (
                    layer.layer,
                    f"{layer.scalesim_cycles:,}",
                    f"{layer.habits_cycles:+,}",
                    f"{layer.tiles_cycles:+,}",
                    f"{layer.serial_stall_cycles - layer.scalesim_stall_cycles:+,}",
                    f"{layer.serial_cycles:,}",
                    f"{layer.overlap_cycles:+,}",
                    f"{layer.pipelined_stall_cycles - layer.serial_stall_cycles:+,}",
                    f"{layer.pipelined_cycles:,}",
                    integer(layer.scalesim_ifmap_words),
                    f"{layer.ifmap_words:,}",
                )
            )
            for layer in found
        ),
        note="Drain, habits: results leave the array, which SCALE-Sim's OS forgets, and its quirks "
        "of counting. Tiles: a layer is cut to fit the buffers; each tile fills and drains the "
        "array anew and waits for its SRAM. DRAM: one channel is shared by all streams, in place "
        "of none (CALC) or three (USER). Overlapped folds: the next fold's weights load, or the "
        "last one's results leave, while a fold computes; SCALE-Sim's folds are serial. DRAM words "
        "of the ifmap: SCALE-Sim may move im2col's duplicates, the physical array moves distinct "
        "words, again where the mapping takes a tile again.",
    )


def nest_lines(found: LayerTimeline) -> tuple[str, ...]:
    """The loop nest of a layer as people write it, with what is loaded at each loop."""
    kib = dict(zip(OPERANDS, map(byte_text, found.resident_bytes), strict=True))
    lines = [
        f"# {_tile(operand, kib, found)}; it stays for the whole layer" for operand in found.stays
    ]
    codes, remarks = [], []
    for depth, loop in enumerate(found.loops):
        codes.append(f"{'  ' * depth}for {_index(loop, found)} in range({loop.trips}):")
        said = [_of(loop)]
        last = depth + 1 == len(found.loops)
        said += [
            _tile(operand, kib, found) + ("" if last else ", stays for the loops inside")
            for operand in loop.loads
        ]
        remarks.append("; ".join(said))
    width = max(map(len, codes), default=0)
    lines += [f"{code:<{width}}  # {said}" for code, said in zip(codes, remarks, strict=True)]
    packed = f"{found.groups_at_once} groups side by side, " if found.groups_at_once > 1 else ""
    lines.append(f"{'  ' * len(found.loops)}array: {packed}{found.tile}")
    return tuple(lines)


def _index(loop: LoopFacts, found: LayerTimeline) -> str:
    letter = _LETTERS[loop.over]
    # Of a dimension's two loops the outer one runs over blocks.
    blocked = not loop.in_block and any(
        each.in_block and each.over == loop.over for each in found.loops
    )
    return f"{letter}_block" if blocked else letter


def _of(loop: LoopFacts) -> str:
    over = "groups" if loop.over == "group packs" else loop.over
    return f"{loop.tile:,} of {loop.whole:,} {over}"


def _tile(operand: str, kib: dict[str, str], found: LayerTimeline) -> str:
    if operand != "ofmap":
        return f"{operand} tile loaded ({kib[operand]})"
    if found.spills:
        return f"ofmap tile comes back and leaves again ({kib[operand]} of partial sums)"
    return f"ofmap tile made, leaves complete ({kib[operand]} of partial sums)"


def _figures(layer: PhysicalLayerMetrics) -> tuple[str, ...]:
    return (
        f"{layer.total_cycles:,}",
        f"{layer.compute_cycles:,} + {layer.fill_drain_cycles:,} + {layer.stall_cycles:,}",
        percent(layer.utilization),
        f"{layer.dram_bytes:,}",
        energy_text(layer.energy.total_pj),
    )


def _buffers(found: PhysicalNetworkMetrics) -> str:
    kib = (found.ifmap_buffer_kib, found.filter_buffer_kib, found.ofmap_buffer_kib)
    whole = "" if found.double_buffered else ", whole"
    return " / ".join(map(str, kib)) + whole


def _proof(mapped: MappedNetwork) -> str:
    """What was searched, in one sentence."""
    mappings = sum(layer.mappings for layer in mapped.layers)
    visited = sum(layer.visited for layer in mapped.layers)
    what = "the front" if mapped.objective == "front" else f"best by {mapped.objective}"
    return (
        f"Proven {what} over {mappings:,} mappings, {visited:,} of them visited, the others "
        "bounded. At least: a bound that no mapping of the space goes below."
    )
