"""A mapping walked tile by tile in plain Python: an independent count of what it moves and takes.

It shares nothing with the package but the nouns. A tile is, for each of its axes, the set of its
positions, so that what a tile has in common with the one before is an intersection, not a formula.
Large layers take seconds where the closed form takes microseconds; both have to agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from typing import TYPE_CHECKING

from arraysmith.hardware import Dataflow, Microarchitecture

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from arraysmith.hardware import PhysicalAccelerator
    from arraysmith.mapping import Mapping
    from arraysmith.workload import Layer, LoopSizes

Axes = tuple[frozenset[int], ...]
"""A tile: its positions along each axis of its operand."""
Place = dict[str, range]
"""Where in the layer a step is, or a whole block."""
LOOPS = {"M": ("images", "rows", "cols"), "N": ("outs",), "K": ("ins",)}
BLOCKED = {"M": "rows", "N": "outs", "K": "ins"}
KEPT = {"N": "ifmap", "M": "filter", "K": "ofmap"}
OPERANDS = ("ifmap", "filter", "ofmap")


@dataclass(slots=True, kw_only=True)
class Walked:
    """What was counted; words, bytes only where it says so."""

    total_cycles: int = 0
    array_cycles: int = 0
    compute_cycles: int = 0
    ifmap_dram_words: int = 0
    filter_dram_words: int = 0
    ofmap_dram_words_read: int = 0
    ofmap_dram_words_spilled: int = 0
    ofmap_dram_words_output: int = 0
    ifmap_array_reads: int = 0
    filter_array_reads: int = 0
    ofmap_array_reads: int = 0
    ofmap_array_writes: int = 0
    ifmap_resident_words: int = 0
    filter_resident_words: int = 0
    ofmap_resident_words: int = 0


def cut(whole: int, size: int) -> list[range]:
    """Positions in pieces of `size`; the last may be smaller."""
    return [range(at, min(at + size, whole)) for at in range(0, whole, size)]


def steps(sizes: LoopSizes, mapping: Mapping, together: int) -> Iterator[tuple[Place, Place]]:
    """The loop nest: where each step is, and the block it belongs to."""
    tiles = {
        "groups": cut(sizes.groups, together),
        "images": cut(sizes.images, 1),
        "rows": cut(sizes.rows, mapping.tile.rows),
        "cols": cut(sizes.cols, mapping.tile.cols),
        "outs": cut(sizes.out_channels, mapping.tile.out_channels),
        "ins": cut(sizes.in_channels, mapping.tile.in_channels),
    }
    names = ["groups", *(name for letter in mapping.order for name in LOOPS[letter])]
    blocked = BLOCKED.get(mapping.blocked or "")
    size = mapping.tiles_per_block
    outer: list[list[list[range]]] = [
        [tiles[name][at : at + size] for at in range(0, len(tiles[name]), size)]
        if name == blocked
        else [[each] for each in tiles[name]]
        for name in names
    ]
    for chosen in product(*outer):
        block = {
            name: range(pieces[0].start, pieces[-1].stop)
            for name, pieces in zip(names, chosen, strict=True)
        }
        for piece in chosen[names.index(blocked)] if blocked else [None]:
            yield (block if piece is None or blocked is None else block | {blocked: piece}), block


def window(pixels: range, stride: int, filter_size: int) -> frozenset[int]:
    """Ifmap positions that the windows of some pixels cover along one axis."""
    return frozenset(at * stride + tap for at in pixels for tap in range(filter_size))


def axes(operand: str, place: Place, sizes: LoopSizes) -> Axes:
    """The positions of an operand's tile."""
    plain = {name: frozenset(positions) for name, positions in place.items()}
    if operand == "ifmap":
        rows = window(place["rows"], sizes.stride, sizes.filter_rows)
        cols = window(place["cols"], sizes.stride, sizes.filter_cols)
        return plain["groups"], plain["images"], rows, cols, plain["ins"]
    if operand == "filter":
        return plain["groups"], plain["outs"], plain["ins"], frozenset(range(sizes.taps))
    return plain["groups"], plain["images"], plain["rows"], plain["cols"], plain["outs"]


def words(tile: Axes) -> int:
    """How many."""
    return prod(map(len, tile))


def shared(tile: Axes, other: Axes) -> int:
    """Words in both."""
    return prod(len(mine & theirs) for mine, theirs in zip(tile, other, strict=True))


class _Walk:
    """The buffers of a weight-stationary accelerator while a layer is computed."""

    def __init__(self, layer: Layer, accelerator: PhysicalAccelerator, mapping: Mapping) -> None:
        if mapping.microarchitecture.dataflow is not Dataflow.WS:
            raise SystemExit(f"{mapping.microarchitecture}: only weight-stationary arrays walk")
        self.sizes, self.accelerator, self.mapping = layer.loops, accelerator, mapping
        fit = accelerator.rows // (self.sizes.in_channels * self.sizes.taps)
        fit = min(fit, accelerator.cols // self.sizes.out_channels)
        self.together = max(1, min(fit, self.sizes.groups))
        self.resident: dict[str, Axes] = {}
        self.summed: dict[Axes, int] = {}
        """Input channels that each tile of the ofmap has so far."""
        self.counts = Walked()

    def load(self, place: Place, block: Place) -> tuple[int, int]:
        """Bring the tiles of a step; bytes that came and bytes that went."""
        came = went = 0
        for operand in OPERANDS:
            kept = operand == KEPT[self.mapping.order[2]]
            tile = axes(operand, block if kept else place, self.sizes)
            before = self.resident.get(operand)
            if tile == before:
                continue
            self._check_fits(operand, tile)
            if operand == "ofmap":
                went += self.store()
                came += self._sums_back(tile)
            else:
                new = words(tile) - (shared(tile, before) if before else 0)
                name = f"{operand}_dram_words"
                setattr(self.counts, name, getattr(self.counts, name) + new)
                came += new * self.accelerator.operand_bytes
            self.resident[operand] = tile
        return came, went

    def _check_fits(self, operand: str, tile: Axes) -> None:
        accelerator = self.accelerator
        word = accelerator.psum_bytes if operand == "ofmap" else accelerator.operand_bytes
        room = accelerator.usable_bytes(getattr(accelerator, f"{operand}_buffer_kib"))
        if words(tile) * word > room:
            raise SystemExit(f"{words(tile)} words of {operand} do not fit {room} bytes")
        name = f"{operand}_resident_words"
        setattr(self.counts, name, max(words(tile), getattr(self.counts, name)))

    def _sums_back(self, tile: Axes) -> int:
        """Partial sums that were begun come back from the DRAM."""
        if tile not in self.summed:
            self.summed[tile] = 0
            return 0
        self.counts.ofmap_dram_words_read += words(tile)
        return words(tile) * self.accelerator.psum_bytes

    def store(self) -> int:
        """The ofmap's tile leaves, as outputs or as partial sums."""
        tile = self.resident.get("ofmap")
        if tile is None:
            return 0
        if self.summed[tile] == self.sizes.in_channels:
            self.counts.ofmap_dram_words_output += words(tile)
            return words(tile) * self.accelerator.output_bytes
        self.counts.ofmap_dram_words_spilled += words(tile)
        return words(tile) * self.accelerator.psum_bytes

    def compute(self, place: Place, block: Place) -> int:
        """Cycles of the array for one step."""
        accelerator, counts = self.accelerator, self.counts
        groups, n = len(place["groups"]), len(place["outs"])
        m = len(place["images"]) * len(place["rows"]) * len(place["cols"])
        k = len(place["ins"]) * self.sizes.taps
        row_folds = ceil(groups * k / accelerator.rows)
        col_folds = ceil(groups * n / accelerator.cols)
        counts.ifmap_array_reads += groups * m * k * col_folds
        counts.filter_array_reads += groups * n * k
        counts.ofmap_array_writes += groups * m * n * row_folds
        counts.ofmap_array_reads += groups * m * n * (row_folds - (place["ins"].start == 0))
        kept = KEPT[self.mapping.order[2]] == "ofmap"
        # A kept block is summed up once all of its tiles have had the input channels.
        tile = axes("ofmap", block if kept else place, self.sizes)
        if not kept or self.mapping.blocked is None or self._ends(place, block):
            self.summed[tile] += len(place["ins"])
        beat = self._beat(groups * k, groups * n)
        folds = row_folds * col_folds
        counts.compute_cycles += beat * folds * m
        return beat * self._moves(folds, m) + 2

    def _ends(self, place: Place, block: Place) -> bool:
        name = BLOCKED[self.mapping.blocked or ""]
        return place[name].stop == block[name].stop

    def _moves(self, folds: int, T: int) -> int:
        R, C = self.accelerator.rows, self.accelerator.cols
        if self.mapping.microarchitecture is Microarchitecture.WS_SERIAL:
            return folds * (2 * R + C + T - 2)
        return R + (folds - 1) * max(T, R) + T + R + C - 2

    def _beat(self, row_lanes: int, col_lanes: int) -> int:
        accelerator = self.accelerator
        rows, cols = min(row_lanes, accelerator.rows), min(col_lanes, accelerator.cols)
        asked = (
            (rows * accelerator.operand_bytes, accelerator.ifmap_port_bytes),
            (cols * accelerator.operand_bytes, accelerator.filter_port_bytes),
            (cols * accelerator.psum_bytes, accelerator.ofmap_port_bytes),
        )
        return max([1, *(ceil(lanes / port) for lanes, port in asked if port)])


def walk(layer: Layer, accelerator: PhysicalAccelerator, mapping: Mapping) -> Walked:
    """Compute a layer tile by tile; ends with a message where a tile does not fit its buffer."""
    chip = _Walk(layer, accelerator, mapping)
    came_and_went: list[tuple[int, int]] = []
    array: list[int] = []
    for place, block in steps(chip.sizes, mapping, chip.together):
        came_and_went.append(chip.load(place, block))
        array.append(chip.compute(place, block))
    last = chip.store()
    chip.counts.array_cycles = sum(array)
    chip.counts.total_cycles = _in_time(accelerator, came_and_went, array, last)
    return chip.counts


def _in_time(
    accelerator: PhysicalAccelerator,
    came_and_went: Sequence[tuple[int, int]],
    array: Sequence[int],
    last: int,
) -> int:
    """While a step computes, the tile before it leaves and the next one comes."""
    rate = accelerator.dram_rate
    cycles = ceil(came_and_went[0][0] / rate) + ceil(last / rate)
    coming = [came for came, _ in came_and_went[1:]] + [0]
    for working, (_, went), came in zip(array, came_and_went, coming, strict=True):
        cycles += max(working, ceil((went + came) / rate))
    return cycles
