"""What the pictures of the model `physical` show, as records: drawn as PNG and in the browser."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from arraysmith.physical_performance import (
        Energy,
        LayerTimeline,
        PhysicalFacts,
        PhysicalLayerMetrics,
        PhysicalNetworkMetrics,
        Triple,
    )

OPERANDS = ("ifmap", "filter", "ofmap")
CHANNEL, ARRAY = "DRAM channel", "array"
CYCLE_PARTS: tuple[tuple[str, Callable[[PhysicalLayerMetrics], int]], ...] = (
    ("compute", lambda layer: layer.compute_cycles),
    ("fill and drain", lambda layer: layer.fill_drain_cycles),
    ("stall", lambda layer: layer.stall_cycles),
)
ENERGY_PARTS: tuple[tuple[str, Callable[[Energy], Triple]], ...] = (
    ("MACs", lambda energy: energy.mac_pj),
    ("PE clocks", lambda energy: energy.pe_cycles_pj),
    (
        "buffers",
        lambda energy: _sum(
            energy.ifmap_buffer_pj, energy.filter_buffer_pj, energy.ofmap_buffer_pj
        ),
    ),
    ("DRAM", lambda energy: energy.dram_pj),
)
_UNITS = ((1e12, "J"), (1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1, "pJ"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Something that takes a while in a lane of a timeline."""

    lane: str
    kind: str
    """"ifmap", "filter", "partial sums back", "results out" or "computing"."""
    step: int
    """0 is what happens before the first step."""
    start_cycle: float
    cycles: float
    byte_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A layer in a roofline."""

    layer: str
    macs_per_dram_byte: float
    macs_per_cycle: float
    share: float
    """Of the network's cycles, a fraction."""


def spans(found: LayerTimeline) -> tuple[Span, ...]:
    """The shown steps of a layer: what the channel moves, and when the array is busy."""
    drawn = _moved(0, 0, found.first_load_cycles, found.first_loaded_bytes, 0)
    now = found.first_load_cycles
    for number, step in enumerate(found.steps, 1):
        drawn.append(
            Span(
                lane=ARRAY, kind="computing", step=number, start_cycle=now, cycles=step.array_cycles
            )
        )
        drawn += _moved(number, now, step.transfer_cycles, step.loaded_bytes, step.stored_bytes)
        now += step.cycles
    if not found.rest_steps and found.last_store_cycles:
        drawn.append(
            Span(
                lane=CHANNEL,
                kind="results out",
                step=len(found.steps),
                start_cycle=now,
                cycles=found.last_store_cycles,
            )
        )
    return tuple(drawn)


def _moved(
    step: int, start: int, cycles: int, loaded: tuple[int, int, int], stored: int
) -> list[Span]:
    """The channel in one step, each operand as long as its bytes take; stores come first."""
    moved = {
        "results out": stored,
        "ifmap": loaded[0],
        "filter": loaded[1],
        "partial sums back": loaded[2],
    }
    whole, now, found = sum(moved.values()), float(start), []
    for kind, byte_count in moved.items():
        if byte_count:
            took = cycles * byte_count / whole
            found.append(
                Span(
                    lane=CHANNEL,
                    kind=kind,
                    step=step,
                    start_cycle=now,
                    cycles=took,
                    byte_count=byte_count,
                )
            )
            now += took
    return found


def rest_of(found: LayerTimeline) -> str:
    """What a timeline of the first steps leaves out."""
    steps = len(found.steps)
    if not found.rest_steps:
        return f"all {steps:,} steps, {found.total_cycles:,} cycles"
    share = found.rest_cycles / found.total_cycles
    return (
        f"first {steps:,} of {steps + found.rest_steps:,} steps; the other "
        f"{found.rest_steps:,} take {found.rest_cycles:,} of {found.total_cycles:,} cycles "
        f"({100 * share:.0f} %)"
    )


def dots(found: PhysicalNetworkMetrics) -> tuple[Dot, ...]:
    """Every layer's place in a roofline."""
    return tuple(
        Dot(
            layer=layer.name,
            macs_per_dram_byte=layer.macs_per_dram_byte,
            macs_per_cycle=layer.macs / layer.total_cycles,
            share=layer.total_cycles / found.total_cycles,
        )
        for layer in found.layers
    )


def longest(found: PhysicalFacts, count: int) -> tuple[LayerTimeline, ...]:
    """The layers that take the most cycles, in the network's order; of those alike the first."""
    # A name is no difference; a dictionary keeps the first of each.
    unlike = {replace(each, layer=""): each for each in reversed(found.timelines)}
    chosen = sorted(unlike.values(), key=lambda each: -each.total_cycles)[:count]
    return tuple(each for each in found.timelines if any(each is one for one in chosen))


def array_of(found: PhysicalNetworkMetrics) -> str:
    """What a network ran on, as people write it."""
    return f"{found.rows}×{found.cols} {', '.join(found.microarchitectures)}"


def energy_unit(picojoules: float) -> tuple[float, str]:
    """In what people would give such an energy, as picojoules and a name."""
    return next(((scale, name) for scale, name in _UNITS if picojoules >= scale), (_UNITS[-1]))


def energy_text(triple: Triple) -> str:
    """Low, mid and high, always together."""
    scale, unit = energy_unit(triple[1])
    return f"{'–'.join(three_digits(value / scale) for value in triple)} {unit}"


def one_energy(picojoules: float) -> str:
    """An energy of one estimate, the middle one."""
    scale, unit = energy_unit(picojoules)
    return f"{three_digits(picojoules / scale)} {unit}"


def three_digits(value: float) -> str:
    """As many digits as an estimate has, and more."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def byte_text(count: int) -> str:
    """Bytes of a tile as people read them."""
    return f"{count:,} B" if count < 1024 else f"{count / 1024:,.1f} KiB"


def _sum(*triples: Triple) -> Triple:
    low, mid, high = (sum(each) for each in zip(*triples, strict=True))
    return low, mid, high
