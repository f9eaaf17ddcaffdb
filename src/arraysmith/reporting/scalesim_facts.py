"""What the pictures of a SCALE-Sim result show, as records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from arraysmith.performance import LayerMetrics, NetworkMetrics


def streaming_cycles(layer: LayerMetrics) -> int:
    """Cycles in which operands stream: T of each fold, for a fold's PEs do T MACs each."""
    return min(layer.folds * layer.T, layer.total_cycles - layer.stall_cycles)


CYCLE_PARTS: tuple[tuple[str, Callable[[LayerMetrics], int]], ...] = (
    ("compute", streaming_cycles),
    (
        "fill and drain",
        lambda layer: layer.total_cycles - layer.stall_cycles - streaming_cycles(layer),
    ),
    ("stall", lambda layer: layer.stall_cycles),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WordDot:
    """A layer in a roofline over DRAM words."""

    layer: str
    macs_per_dram_word: float
    macs_per_cycle: float
    share: float
    """Of the network's cycles, a fraction."""


def dots_of(found: NetworkMetrics) -> tuple[WordDot, ...]:
    """The layers whose DRAM words the closed form or the walk gives."""
    return tuple(
        WordDot(
            layer=layer.name,
            macs_per_dram_word=layer.macs / layer.dram_words,
            macs_per_cycle=layer.macs / layer.total_cycles,
            share=layer.total_cycles / found.total_cycles,
        )
        for layer in found.layers
        if layer.dram_words
    )
