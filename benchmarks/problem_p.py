"""Problem P: one mapping problem, posed to the mapper and, by their own means, to its peers.

    python benchmarks/problem_p.py [--walk] [--every]

Prints a Markdown table for each machine and goal. `--walk` counts each mapping found once more,
tile by tile, and stops where a figure differs; `--every` computes every mapping of the space and
stops where one is better than the mapper's (minutes). docs/mapping.md says what is counted.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from tile_walk import walk

from arraysmith.hardware import Microarchitecture, PhysicalAccelerator
from arraysmith.mapping import ORDERS, Goal
from arraysmith.search.mapper import best_mapping, energy_weights
from arraysmith.search.mapspace import divisors, map_space
from arraysmith.simulation.physical.array import MICROARCHITECTURES
from arraysmith.simulation.physical.closed_form import (
    FILTER_RESIDENT,
    IFMAP_RESIDENT,
    OFMAP_RESIDENT,
    TOTAL,
    evaluate,
)
from arraysmith.simulation.physical.cost import EnergyTable
from arraysmith.simulation.physical.model import simulate_layer
from arraysmith.simulation.physical.vectors import (
    BLOCKED_DIMENSION,
    accelerator_vector,
    layer_vector,
    mapping_vector,
)
from arraysmith.workload import Conv2d, Gemm, ceil_div

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from arraysmith.mapping import Mapping
    from arraysmith.physical_performance import MappedLayer, PhysicalLayerMetrics
    from arraysmith.workload import Layer

REPETITIONS = 3
SIDE = 32
MICROARCHITECTURE = Microarchitecture.WS_SERIAL
"""One weight register a PE."""
SECOND_REGISTER = Microarchitecture.WS_DOUBLE_BUFFERED
MAC_PJ, SRAM_PJ_PER_BYTE, DRAM_PJ_PER_BYTE = 0.25, 1.0, 32.0
ENERGY = EnergyTable(
    mac_pj=MAC_PJ,
    pe_cycle_pj=0,
    ifmap_read_pj_per_byte=SRAM_PJ_PER_BYTE,
    ifmap_write_pj_per_byte=SRAM_PJ_PER_BYTE,
    filter_read_pj_per_byte=SRAM_PJ_PER_BYTE,
    filter_write_pj_per_byte=SRAM_PJ_PER_BYTE,
    ofmap_read_pj_per_byte=SRAM_PJ_PER_BYTE,
    ofmap_write_pj_per_byte=SRAM_PJ_PER_BYTE,
    dram_pj_per_byte=DRAM_PJ_PER_BYTE,
)
TABLES = dict.fromkeys(("low", "mid", "high"), ENERGY)


def machine(buffer_kib: int, dram_bytes_per_cycle: int) -> PhysicalAccelerator:
    """Weight-stationary, three buffers of one size; like the peers it fills all of a buffer."""
    return PhysicalAccelerator(
        rows=SIDE,
        cols=SIDE,
        microarchitectures=(MICROARCHITECTURE,),
        ifmap_buffer_kib=buffer_kib,
        filter_buffer_kib=buffer_kib,
        ofmap_buffer_kib=buffer_kib,
        dram_bytes_per_cycle=dram_bytes_per_cycle,
        ifmap_port_bytes=32,
        filter_port_bytes=32,
        ofmap_port_bytes=128,
        double_buffered=False,
    )


MACHINES = {"P-roomy": machine(256, 16), "P-tight": machine(32, 4)}


def conv(
    name: str,
    channels: tuple[int, int],
    side: int,
    window: int,
    *,
    stride: int = 1,
    groups: int = 1,
) -> Layer:
    """A square convolution by its output and input channels and its ofmap, padding included."""
    outs, ins = channels
    ifmap = (side - 1) * stride + window
    return Conv2d(
        name=name,
        ifmap_rows=ifmap,
        ifmap_cols=ifmap,
        filter_rows=window,
        filter_cols=window,
        in_channels=ins,
        out_channels=outs,
        stride=stride,
        groups=groups,
    )


LAYERS: tuple[Layer, ...] = (
    conv("r18_conv1", (64, 3), 112, 7, stride=2),
    conv("r18_l1_3x3", (64, 64), 56, 3),
    conv("r18_l2_3x3", (128, 128), 28, 3),
    conv("r18_l2_ds", (128, 64), 28, 1, stride=2),
    conv("r18_l3_3x3", (256, 256), 14, 3),
    conv("r18_l4_3x3", (512, 512), 7, 3),
    Gemm(name="r18_fc", M=1, N=1000, K=512),
    Gemm(name="bert_ffn", M=128, N=3072, K=768),
    conv("mbv2_dw", (144, 144), 56, 3, groups=144),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What a peer's best mapping by energy was measured to take."""

    energy_uj: float
    cycles: int

    def __str__(self) -> str:
        """Energy and cycles."""
        return f"{self.energy_uj:.2f} / {self.cycles:,}"


def peers(accelforge: tuple[float, int], zigzag: tuple[float, int]) -> tuple[Peer, Peer]:
    """AccelForge and ZigZag."""
    return (
        Peer(energy_uj=accelforge[0], cycles=accelforge[1]),
        Peer(energy_uj=zigzag[0], cycles=zigzag[1]),
    )


KNOWN = {
    ("P-tight", "r18_l1_3x3"): peers((83.78, 167_040), (112.48, 368_510)),
    ("P-tight", "r18_l2_3x3"): peers((88.74, 203_264), (180.18, 865_342)),
    ("P-tight", "bert_ffn"): peers((408.95, 1_867_776), (565.05, 3_041_374)),
    ("P-roomy", "r18_l1_3x3"): peers((76.23, 112_896), (78.42, 188_991)),
    ("P-roomy", "r18_l2_3x3"): peers((73.44, 112_896), (73.54, 126_159)),
    ("P-roomy", "bert_ffn"): peers((256.48, 294_912), (256.87, 376_607)),
}
"""Measured once with AccelForge 1.0.467 (the best of six orders of the SRAMs; cycles are a pure
roofline) and ZigZag 3.9.1 as it comes."""


def described(mapping: Mapping) -> str:
    """A mapping in a cell of a table."""
    blocks = ""
    if mapping.blocked is not None:
        blocks = f", {mapping.blocked} in blocks of {mapping.tiles_per_block}"
    return f"{mapping.order}, {mapping.tile}{blocks}"


def outputs_read_as_psums_uj(
    metrics: PhysicalLayerMetrics, accelerator: PhysicalAccelerator
) -> float:
    """Energy as the peers count it: a final output leaves its buffer as a whole partial sum."""
    outputs = metrics.ofmap.dram_words_written - metrics.ofmap.dram_words_read
    more = outputs * (accelerator.psum_bytes - accelerator.output_bytes)
    return (metrics.energy.total_pj[1] + more * ENERGY.ofmap_read_pj_per_byte) / 1e6


def roofline_cycles(metrics: PhysicalLayerMetrics, accelerator: PhysicalAccelerator) -> int:
    """Cycles as the peers count them: streaming or the DRAM, whichever takes longer."""
    return max(metrics.compute_cycles, ceil(metrics.dram_bytes / accelerator.dram_rate))


def with_second_register(
    layer: Layer, accelerator: PhysicalAccelerator, mapping: Mapping
) -> PhysicalLayerMetrics:
    """The same mapping where the next weights are loaded behind those in use."""
    return simulate_layer(
        layer,
        replace(accelerator, microarchitectures=(SECOND_REGISTER,)),
        replace(mapping, microarchitecture=SECOND_REGISTER),
        TABLES,
    )


def check_by_walk(layer: Layer, accelerator: PhysicalAccelerator, mapping: Mapping) -> None:
    """Hold the closed form's figures of a mapping to the walk's."""
    walked = asdict(walk(layer, accelerator, mapping))
    vectors = layer_vector(layer), accelerator_vector(accelerator), mapping_vector(mapping)[None]
    counted = evaluate(*vectors)[0].tolist()
    if counted != list(walked.values()):
        raise SystemExit(f"{layer.name}, {described(mapping)}: {counted} is not {walked}")


def tiles_of(
    layer: Layer, accelerator: PhysicalAccelerator
) -> Iterator[list[tuple[int, int, int, int, int, int, int, int]]]:
    """The whole space as vectors, those of one size of rows and columns at a time."""
    space = map_space(layer.loops, accelerator, MICROARCHITECTURE)
    micro, loops = MICROARCHITECTURES.index(MICROARCHITECTURE), layer.loops
    for rows, cols in product(space.rows.tolist(), space.cols.tolist()):
        chunk = []
        for outs, ins in product(space.out_channels.tolist(), space.in_channels.tolist()):
            counts = {
                "M": ceil_div(loops.rows, rows),
                "N": ceil_div(loops.out_channels, outs),
                "K": ceil_div(loops.in_channels, ins),
            }
            for index, order in enumerate(ORDERS):
                tile = (micro, index, rows, cols, outs, ins)
                chunk.append((*tile, -1, 1))
                for letter in order[:2]:
                    blocks = divisors(counts[letter])[1:]
                    chunk += [(*tile, BLOCKED_DIMENSION[letter], each) for each in blocks]
        yield chunk


def check_every(
    layer: Layer, accelerator: PhysicalAccelerator, mapped: dict[Goal, MappedLayer]
) -> None:
    """Compute every mapping of the space; none may be better than what was found."""
    array, seen = accelerator_vector(accelerator), 0
    weights = energy_weights(layer, accelerator, ENERGY)
    least_cycles = mapped[Goal.CYCLES].best.total_cycles
    least_pj = mapped[Goal.ENERGY].best.energy.total_pj[1]
    for chunk in tiles_of(layer, accelerator):
        seen += len(chunk)
        found = evaluate(layer_vector(layer), array, np.array(chunk, np.int64))
        found = found[fits(found, accelerator)]
        if not len(found):
            continue
        energy_pj = energies(found, weights)
        if found[:, TOTAL].min() < least_cycles or energy_pj.min() < least_pj * (1 - 1e-12):
            raise SystemExit(f"{layer.name}: the mapper missed a mapping")
    if seen != mapped[Goal.ENERGY].mappings:
        raise SystemExit(f"{layer.name}: {seen} mappings, not {mapped[Goal.ENERGY].mappings}")


def fits(found: NDArray[np.int64], accelerator: PhysicalAccelerator) -> NDArray[np.bool_]:
    """(mappings,): whether each buffer holds what lies in it."""
    room = accelerator.usable_bytes(accelerator.ifmap_buffer_kib)  # all three are of one size
    operand, psum = accelerator.operand_bytes, accelerator.psum_bytes
    largest = np.maximum(found[:, IFMAP_RESIDENT], found[:, FILTER_RESIDENT]) * operand
    return (largest <= room) & (found[:, OFMAP_RESIDENT] * psum <= room)


def energies(found: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(mappings,): picojoules; weights are of all MACs, of PE-cycles, then of each count."""
    counts = found[:, [1, 3, 4, 5, 6, 7, 8, 9, 10, 11]]
    picojoules: NDArray[np.float64] = weights[0] + counts @ weights[1:]
    return picojoules


def row(name: str, layer: Layer, goal: Goal, runs: list[MappedLayer], checked: str) -> str:
    """A layer's line."""
    accelerator, mapped = MACHINES[name], runs[0]
    best = mapped.best
    second = with_second_register(layer, accelerator, best.mapping)
    energy_uj = best.energy.total_pj[1] / 1e6
    known = KNOWN.get((name, layer.name)) if goal is Goal.ENERGY else None
    cells = [
        layer.name,
        f"{energy_uj:.2f}",
        f"{outputs_read_as_psums_uj(best, accelerator):.2f}",
        f"{roofline_cycles(best, accelerator):,}",
        f"{second.total_cycles:,}",
        f"{best.total_cycles:,}",
        f"{best.fill_drain_cycles:,}",
        f"{best.stall_cycles:,}",
        described(best.mapping),
        f"{mapped.visited:,} of {mapped.mappings:,}",
        f"{statistics.median(run.seconds for run in runs) * 1000:.1f}",
        checked,
    ]
    if goal is Goal.ENERGY:
        cells[3:3] = [str(peer) for peer in known] if known else ["", ""]
    return "| " + " | ".join(cells) + " |"


def header(goal: Goal) -> str:
    """The columns."""
    names = [
        "layer",
        "µJ",
        "outputs read as 4 bytes",
        "roofline cycles",
        "cycles, two weight registers",
        "cycles",
        "of them fill, drain, weights",
        "of them waiting",
        "mapping",
        "visited",
        "ms",
        "held to",
    ]
    if goal is Goal.ENERGY:
        names[3:3] = ["AccelForge, µJ / cycles", "ZigZag, µJ / cycles"]
    ruler = ["---" if name in {"layer", "mapping", "held to"} else "---:" for name in names]
    return "| " + " | ".join(names) + " |\n|" + "|".join(ruler) + "|"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--walk", action="store_true", help="count each mapping tile by tile")
    parser.add_argument("--every", action="store_true", help="compute every mapping of the space")
    given = parser.parse_args()
    print(
        f"Python {platform.python_version()}, NumPy {np.__version__}, {os.cpu_count()} cores, "
        f"one thread; medians of {REPETITIONS} runs.\n"
    )
    best_mapping(LAYERS[0], MACHINES["P-tight"], ENERGY)  # compiled code is loaded
    lines: dict[tuple[str, Goal], list[str]] = {}
    for name, layer in product(MACHINES, LAYERS):
        runs = {
            goal: [best_mapping(layer, MACHINES[name], ENERGY, goal) for _ in range(REPETITIONS)]
            for goal in (Goal.ENERGY, Goal.CYCLES)
        }
        if given.every:
            check_every(layer, MACHINES[name], {goal: found[0] for goal, found in runs.items()})
        for goal, found in runs.items():
            checked = ["every mapping"] if given.every else []
            if given.walk:
                check_by_walk(layer, MACHINES[name], found[0].best.mapping)
                checked.append("walk")
            line = row(name, layer, goal, found, ", ".join(checked))
            lines.setdefault((name, goal), []).append(line)
    for (name, goal), rows in lines.items():
        print(f"**{name}, least {goal}**\n\n{header(goal)}")
        print("\n".join(rows) + "\n", flush=True)


if __name__ == "__main__":
    main()
