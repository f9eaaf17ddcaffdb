"""A mapping as a loop nest, and its first steps one after the other in time.

The closed form counts all steps at once; people want to see the first few. Each step is computed
from its place in the nest alone, as `docs/physical.md` says it, so that no more of them are walked
than are asked for. The rest is what is missing to the layer's total.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, product
from math import ceil, prod
from typing import TYPE_CHECKING

from arraysmith.physical_performance import LayerTimeline, LoopFacts, StepFacts
from arraysmith.simulation.physical.array import MICROARCHITECTURES
from arraysmith.simulation.physical.traffic import step_cycles
from arraysmith.simulation.physical.vectors import accelerator_vector, layer_vector
from arraysmith.workload import ceil_div

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from arraysmith.hardware import PhysicalAccelerator
    from arraysmith.mapping import Mapping
    from arraysmith.physical_performance import PhysicalLayerMetrics
    from arraysmith.workload import Layer, LoopSizes

STEPS_SHOWN = 20
OPERANDS = ("ifmap", "filter", "ofmap")
_LETTERS = {"M": ("images", "rows", "cols"), "N": ("out_channels",), "K": ("in_channels",)}
_BLOCKED = {"M": "rows", "N": "out_channels", "K": "in_channels"}
_KEPT = {"M": "filter", "N": "ifmap", "K": "ofmap"}
"""The operand that the third letter does not index."""
_INDEXES = {
    "ifmap": ("groups", "images", "rows", "cols", "in_channels"),
    "filter": ("groups", "out_channels", "in_channels"),
    "ofmap": ("groups", "images", "rows", "cols", "out_channels"),
}
_NAMES = {
    "groups": "group packs",
    "images": "images",
    "rows": "rows",
    "cols": "columns",
    "out_channels": "output channels",
    "in_channels": "input channels",
}
Place = dict[str, range]
"""What a step computes along each dimension."""


@dataclass(frozen=True, slots=True)
class _Loop:
    """A loop of the nest, with those of a single trip."""

    dimension: str
    trips: int
    tiles: int = 1
    """A trip moves on by so many."""
    in_block: bool = False


@dataclass(frozen=True, slots=True)
class _Nest:
    """A mapping on a layer."""

    sizes: LoopSizes
    mapping: Mapping
    groups_at_once: int

    def whole(self, dimension: str) -> int:
        """What the layer has of a dimension."""
        whole: int = getattr(self.sizes, dimension)
        return whole

    def tile(self, dimension: str) -> int:
        """What a step has of it."""
        if dimension in {"groups", "images"}:
            return self.groups_at_once if dimension == "groups" else 1
        tile: int = getattr(self.mapping.tile, dimension)
        return tile

    @property
    def kept(self) -> str:
        """The operand whose tile is a block, if tiles are blocked."""
        return _KEPT[self.mapping.order[2]]

    @property
    def loops(self) -> tuple[_Loop, ...]:
        """Outermost first."""
        blocked = _BLOCKED.get(self.mapping.blocked or "")
        names = ["groups", *(name for letter in self.mapping.order for name in _LETTERS[letter])]
        loops = []
        for name in names:
            tiles = self.mapping.tiles_per_block if name == blocked else 1
            trips = ceil_div(ceil_div(self.whole(name), self.tile(name)), tiles)
            loops.append(_Loop(name, trips, tiles))
        if blocked is not None:
            loops.append(_Loop(blocked, self.mapping.tiles_per_block, in_block=True))
        return tuple(loops)

    def places(self) -> Iterator[tuple[Place, Place]]:
        """For each step its ranges, and those of its block."""
        loops = self.loops
        for trips in product(*(range(loop.trips) for loop in loops)):
            step: Place = {}
            block: Place = {}
            for loop, trip in zip(loops, trips, strict=True):
                tile, whole = self.tile(loop.dimension), self.whole(loop.dimension)
                if loop.in_block:
                    first = block[loop.dimension].start + trip * tile
                    step[loop.dimension] = range(first, min(first + tile, whole))
                else:
                    first = trip * tile * loop.tiles
                    block[loop.dimension] = range(first, min(first + tile * loop.tiles, whole))
                    step[loop.dimension] = block[loop.dimension]
            yield step, block

    def resident(self, operand: str, step: Place, block: Place) -> tuple[range, ...]:
        """Where the tile of an operand lies along each dimension that indexes it."""
        place = block if operand == self.kept else step
        return tuple(place[dimension] for dimension in _INDEXES[operand])

    def words(self, operand: str, tile: tuple[range, ...]) -> int:
        """Distinct words of a tile."""
        if operand == "filter":
            return prod(map(len, tile)) * self.sizes.taps
        if operand == "ofmap":
            return prod(map(len, tile))
        groups, images, rows, cols, channels = tile
        along_rows = self._lines(rows, rows, self.sizes.filter_rows)
        along_cols = self._lines(cols, cols, self.sizes.filter_cols)
        return len(groups) * len(images) * along_rows * along_cols * len(channels)

    def words_that_stay(self, old: tuple[range, ...], new: tuple[range, ...]) -> int:
        """Words of the ifmap's new tile that the old one has too."""
        if old[:2] != new[:2] or old[4] != new[4]:
            return 0
        along_rows = self._lines(old[2], new[2], self.sizes.filter_rows)
        along_cols = self._lines(old[3], new[3], self.sizes.filter_cols)
        return len(new[0]) * len(new[1]) * along_rows * along_cols * len(new[4])

    def _lines(self, one: range, other: range, filter_size: int) -> int:
        """Lines of the ifmap that the windows of two ranges of pixels share."""
        first, last = max(one.start, other.start), min(one.stop, other.stop)
        stride = self.sizes.stride
        if stride >= filter_size:  # windows share nothing, so neither do tiles
            return max(0, last - first) * filter_size
        return max(0, (last - 1) * stride + filter_size - first * stride)


def timeline(
    layer: Layer,
    accelerator: PhysicalAccelerator,
    found: PhysicalLayerMetrics,
    most_steps: int = STEPS_SHOWN,
) -> LayerTimeline:
    """The loop nest of a simulated layer and its first steps.

    Args:
        layer, accelerator: what was simulated, and on what.
        found: what came of it.
        most_steps: how many steps are walked.
    """
    nest = _Nest(layer.loops, found.mapping, found.groups_at_once)
    # One more is loaded for during the last of them.
    walked = list(islice(nest.places(), most_steps + 1))
    moved = _moved_before(nest, accelerator, walked)
    steps = []
    for at, (step, _) in enumerate(walked[:most_steps]):
        loaded = moved[at + 1][0] if at + 1 < len(walked) else (0, 0, 0)
        stored = moved[at][1]
        steps.append(
            StepFacts(
                array_cycles=_array_cycles(layer, accelerator, nest, step),
                transfer_cycles=ceil((sum(loaded) + stored) / accelerator.dram_rate),
                stored_bytes=stored,
                loaded_bytes=loaded,
            )
        )
    first_load = ceil(sum(moved[0][0]) / accelerator.dram_rate)
    last_store = ceil(_last_bytes(nest, accelerator) / accelerator.dram_rate)
    ends = first_load + last_store
    word_bytes = (accelerator.operand_bytes,) * 2 + (accelerator.psum_bytes,)
    loops, stays = _loops(nest)
    return LayerTimeline(
        layer=layer.name,
        groups_at_once=found.groups_at_once,
        loops=loops,
        tile=str(found.mapping.tile),
        resident_bytes=_triple(
            traffic.resident_words * each
            for traffic, each in zip(found.traffic, word_bytes, strict=True)
        ),
        stays=stays,
        spills=found.ofmap.dram_words_read > 0,
        first_load_cycles=first_load,
        first_loaded_bytes=moved[0][0],
        steps=tuple(steps),
        rest_steps=found.steps - len(steps),
        rest_cycles=found.total_cycles - ends - sum(step.cycles for step in steps),
        last_store_cycles=last_store,
    )


def _moved_before(
    nest: _Nest, accelerator: PhysicalAccelerator, walked: list[tuple[Place, Place]]
) -> list[tuple[tuple[int, int, int], int]]:
    """For each step the bytes loaded of each operand, and those stored, since the one before."""
    moved = []
    before: dict[str, tuple[range, ...]] = {}
    last: Place = {}
    for step, block in walked:
        loaded, stored = dict.fromkeys(OPERANDS, 0), 0
        for operand in OPERANDS:
            tile = nest.resident(operand, step, block)
            old = before.get(operand)
            if tile == old:
                continue
            words = nest.words(operand, tile)
            if operand != "ofmap":
                if operand == "ifmap" and old is not None:
                    words -= nest.words_that_stay(old, tile)
                loaded[operand] = words * accelerator.operand_bytes
            else:
                # Input channels come in their order, so a tile that starts with others comes back.
                comes_back = step["in_channels"].start > 0
                loaded[operand] = words * accelerator.psum_bytes if comes_back else 0
                if old is not None:
                    done = last["in_channels"].stop == nest.sizes.in_channels
                    each = accelerator.output_bytes if done else accelerator.psum_bytes
                    stored = nest.words(operand, old) * each
            before[operand] = tile
        moved.append((_triple(loaded.values()), stored))
        last = step
    return moved


def _last_bytes(nest: _Nest, accelerator: PhysicalAccelerator) -> int:
    """Of the outputs that leave after the last step."""
    spans = {
        name: range(whole - ((whole - 1) % nest.tile(name) + 1), whole)
        for name, whole in ((each, nest.whole(each)) for each in _NAMES)
    }
    blocked = _BLOCKED.get(nest.mapping.blocked or "")
    if blocked is not None and nest.kept == "ofmap":
        tiles_before = (nest.mapping.tiles_per_block - 1) * nest.tile(blocked)
        spans[blocked] = range(spans[blocked].start - tiles_before, spans[blocked].stop)
    last = tuple(spans[dimension] for dimension in _INDEXES["ofmap"])
    return nest.words("ofmap", last) * accelerator.output_bytes


def _array_cycles(layer: Layer, accelerator: PhysicalAccelerator, nest: _Nest, step: Place) -> int:
    cycles, _ = step_cycles(
        layer_vector(layer),
        accelerator_vector(accelerator),
        MICROARCHITECTURES.index(nest.mapping.microarchitecture),
        len(step["groups"]),
        len(step["rows"]) * len(step["cols"]),
        len(step["out_channels"]),
        len(step["in_channels"]),
    )
    return int(cycles)


def _loops(nest: _Nest) -> tuple[tuple[LoopFacts, ...], tuple[str, ...]]:
    """Loops of more than one trip, each with what moves with it; and what never moves."""
    loops = [loop for loop in nest.loops if loop.trips > 1]
    innermost = {}
    for operand in OPERANDS:
        for place, loop in enumerate(loops):
            held = loop.in_block and operand == nest.kept
            if loop.dimension in _INDEXES[operand] and not held:
                innermost[operand] = place
    facts = tuple(
        LoopFacts(
            over=_NAMES[loop.dimension],
            trips=loop.trips,
            tile=nest.tile(loop.dimension) * loop.tiles,
            whole=nest.whole(loop.dimension),
            in_block=loop.in_block,
            loads=tuple(each for each in OPERANDS if innermost.get(each) == place),
        )
        for place, loop in enumerate(loops)
    )
    return facts, tuple(each for each in OPERANDS if each not in innermost)


def _triple(values: Iterable[int]) -> tuple[int, int, int]:
    ifmap, filter_, ofmap = values
    return ifmap, filter_, ofmap
