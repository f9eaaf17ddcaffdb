"""Every mapping of a layer, one after the other: the slow twin of the mapper.

Nothing here is clever. The loop nests of all tiles are written down with itertools, those are kept
that fit their buffers, and what is best is looked for in the full list.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, replace
from itertools import product
from math import ceil, prod

import numpy as np
import physical_cases
import physical_oracle

from arraysmith.hardware import Microarchitecture
from arraysmith.mapping import ORDERS
from arraysmith.search.mapper import energy_weights
from arraysmith.search.mapping_search import energy_of
from arraysmith.search.mapspace import map_space
from arraysmith.simulation.physical.closed_form import COLUMNS, evaluate
from arraysmith.simulation.physical.cost import EnergyTable
from arraysmith.simulation.physical.vectors import (
    accelerator_vector,
    layer_vector,
    mapping_of,
)
from arraysmith.workload import Conv2d

TOTAL = COLUMNS.index("total_cycles")
RESIDENT = COLUMNS.index("ifmap_resident_words")
DIMENSION = {"M": 2, "N": 4, "K": 5}
"""Of a layer and of a tile's numbers: the dimension whose tiles a block of a letter holds."""
MISSING = {("ifmap", "outs"), ("ofmap", "ins")}
"""Which of a tile's channels do not index an operand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """All mappings of a layer, as integers, and what came of each that fits."""

    enumerated: int
    """Those that fit no buffer included."""
    mappings: np.ndarray
    """(fitting, 8)."""
    cycles: np.ndarray
    energy: np.ndarray

    def best(self, goal):
        """Cycles and energy of the best; ties as `best_mapping` says."""
        edp = self.cycles.astype(float) * self.energy
        keys = {
            "cycles": (self.energy, self.cycles),
            "energy": (self.cycles, self.energy),
            "edp": (self.cycles, edp),
        }
        index = np.lexsort(keys[goal])[0]
        return int(self.cycles[index]), float(self.energy[index])

    def front(self):
        """Cycles and energy of those that none betters in both."""
        kept, least = [], np.inf
        for index in np.lexsort((self.energy, self.cycles)):
            if self.energy[index] < least:
                least = self.energy[index]
                kept.append((int(self.cycles[index]), float(least)))
        return kept


def stated_sizes(layer, accelerator):
    """The tile sizes of the mapspace, for each microarchitecture."""
    spaces = {
        each: map_space(layer.loops, accelerator, each) for each in accelerator.microarchitectures
    }
    return {
        each: [space.rows, space.cols, space.out_channels, space.in_channels]
        for each, space in spaces.items()
    }


def all_sizes(layer, accelerator):
    """Every tile size there is."""
    loops = layer.loops
    whole = loops.rows, loops.cols, loops.out_channels, loops.in_channels
    every = [range(1, size + 1) for size in whole]
    return dict.fromkeys(accelerator.microarchitectures, every)


def nests(layer, tile):
    """Order, blocked dimension and tiles a block of every loop nest around a tile."""
    loops = layer.loops
    whole = {"M": loops.rows, "N": loops.out_channels, "K": loops.in_channels}
    size = {"M": tile[0], "N": tile[2], "K": tile[3]}
    tiles = {letter: -(-whole[letter] // int(size[letter])) for letter in "MNK"}
    for number, order in enumerate(ORDERS):
        yield number, -1, 1
        for letter in order[:2]:
            for block in range(2, tiles[letter] + 1):
                if tiles[letter] % block == 0:
                    yield number, DIMENSION[letter], block


def enumerate_mappings(layer, sizes):
    """(mappings, 8) integers."""
    rows = [
        (list(Microarchitecture).index(each), order, *tile, blocked, block)
        for each, of_dimension in sizes.items()
        for tile in product(*of_dimension)
        for order, blocked, block in nests(layer, tile)
    ]
    return np.array(rows, dtype=np.int64)


def fits(accelerator, counts):
    """Which mappings' largest tiles are no larger than their buffers."""
    halves = 2 if accelerator.double_buffered else 1
    words = accelerator.operand_bytes, accelerator.operand_bytes, accelerator.psum_bytes
    there = np.full(len(counts), fill_value=True)
    for index, operand in enumerate(("ifmap", "filter", "ofmap")):
        room = getattr(accelerator, f"{operand}_buffer_kib") * 1024 // halves
        there &= counts[:, RESIDENT + index] * words[index] <= room
    return there


def known(layer, accelerator, table, sizes=None):
    """What comes of every mapping by the closed form."""
    sizes = stated_sizes(layer, accelerator) if sizes is None else sizes
    mappings = enumerate_mappings(layer, sizes)
    counts = evaluate(layer_vector(layer), accelerator_vector(accelerator), mappings)
    fitting = fits(accelerator, counts)
    weights = energy_weights(layer, accelerator, table)
    return Known(
        enumerated=len(mappings),
        mappings=mappings[fitting],
        cycles=counts[fitting, TOTAL],
        energy=np.array([energy_of(found, weights) for found in counts[fitting]]),
    )


def as_mappings(numbers):
    """Integers as records."""
    return [mapping_of(each) for each in numbers]


def energy_pj(layer, accelerator, table, counts):
    """The energy of a walk: each access at its price."""
    on_array = counts.compute_cycles + counts.fill_drain_cycles
    operand, psum = accelerator.operand_bytes, accelerator.psum_bytes
    output = accelerator.output_bytes * counts.ofmap.dram_final_words
    spilled = psum * counts.ofmap.dram_spilled_words
    loaded = psum * counts.ofmap.dram_read_words
    energy = layer.macs * table.mac_pj
    energy += accelerator.rows * accelerator.cols * on_array * table.pe_cycle_pj
    for name in ("ifmap", "filter"):
        moved = getattr(counts, name)
        from_dram = operand * moved.dram_read_words
        energy += operand * moved.buffer_read_words * getattr(table, f"{name}_read_pj_per_byte")
        energy += from_dram * getattr(table, f"{name}_write_pj_per_byte")
        energy += from_dram * table.dram_pj_per_byte
    read = psum * counts.ofmap.buffer_read_words + spilled + output
    written = psum * counts.ofmap.buffer_write_words + loaded
    energy += read * table.ofmap_read_pj_per_byte + written * table.ofmap_write_pj_per_byte
    return energy + (spilled + loaded + output) * table.dram_pj_per_byte


def random_table(rng):
    """Costs of one kind or another: real numbers, whole ones that tie often, some of them zero."""
    names = [field.name for field in fields(EnergyTable)]
    kind = rng.randrange(4)
    if kind == 0:
        return EnergyTable(**{name: rng.uniform(0.01, 3) for name in names})
    if kind == 1:
        return EnergyTable(**{name: rng.randint(0, 2) for name in names})
    if kind == 2:
        return EnergyTable(**(dict.fromkeys(names, 0.0) | {"dram_pj_per_byte": 32.0}))
    return EnergyTable(
        **(dict.fromkeys(names, 1.0) | {"mac_pj": 0.25, "pe_cycle_pj": 0.0, "dram_pj_per_byte": 32})
    )


def random_layer(rng):
    """A small layer; convolutions also with filters that are large for their ifmap."""
    kind = rng.randrange(6)
    if kind < 2:
        return physical_cases.random_gemm(rng, largest=rng.choice((4, 9, 13, 30)))
    if kind < 4:
        return physical_cases.random_convolution(rng)
    filter_rows, filter_cols = rng.randint(1, 5), rng.randint(1, 5)
    return Conv2d(
        name="wide",
        ifmap_rows=filter_rows + rng.randint(0, 8),
        ifmap_cols=filter_cols + rng.randint(0, 8),
        filter_rows=filter_rows,
        filter_cols=filter_cols,
        in_channels=rng.randint(1, 7),
        out_channels=rng.randint(1, 9),
        stride=rng.choice((1, 1, 1, 2, 3)),
        batch=rng.choice((1, 1, 1, 2)),
    )


def random_accelerator(rng, microarchitectures):
    """A small array; its words are so wide that buffers are small for what they hold."""
    drawn = physical_cases.random_accelerator(rng)
    return replace(
        drawn,
        microarchitectures=microarchitectures,
        operand_bytes=rng.choice((1, 2, 8, 16, 24, 32)),
        psum_bytes=rng.choice((2, 4, 16, 32, 64)),
        output_bytes=rng.choice((1, 1, 4, 8, 70)),
        ifmap_port_bytes=rng.choice((None, None, 5, 16, 32)),
        filter_port_bytes=rng.choice((None, None, 5, 16, 32)),
        ofmap_port_bytes=rng.choice((None, None, 8, 32, 100)),
        **{
            f"{operand}_buffer_kib": rng.choice((1, 1, 1, 2, 3))
            for operand in ("ifmap", "filter", "ofmap")
        },
    )


def random_problem(rng, microarchitectures, largest=6000):
    """A layer, an accelerator that some mapping of it fits, and costs; at most so many mappings."""
    while True:
        layer = random_layer(rng)
        accelerator = random_accelerator(rng, microarchitectures)
        if layer.loops.groups > 1 and rng.randint(0, 1):
            accelerator = physical_cases.with_room_for_groups(rng, accelerator, layer.loops)
        spaces = [map_space(layer.loops, accelerator, each) for each in microarchitectures]
        if sum(space.size for space in spaces) > largest:
            continue
        if smallest_tile_fits(layer, accelerator):
            return layer, accelerator, random_table(rng)


def smallest_tile_fits(layer, accelerator):
    """Whether there is any mapping, by trying the smallest tile on each microarchitecture."""
    sizes = dict.fromkeys(accelerator.microarchitectures, [[1]] * 4)
    mappings = enumerate_mappings(layer, sizes)
    counts = evaluate(layer_vector(layer), accelerator_vector(accelerator), mappings)
    return bool(fits(accelerator, counts).any())


def box(operand, place, sizes):
    """The words of an operand in a place of the nest, as a set of indices along each axis."""
    axes = [frozenset(place["groups"])]
    if operand != "filter":
        axes.append(frozenset(place["images"]))
    windows = (("rows", sizes.filter_rows), ("cols", sizes.filter_cols))
    for axis, size in windows if operand != "filter" else ():
        reach = range(size) if operand == "ifmap" else range(1)
        step = sizes.stride if operand == "ifmap" else 1
        axes.append(frozenset(at * step + tap for at in place[axis] for tap in reach))
    axes += [frozenset(place[axis]) for axis in ("ins", "outs") if (operand, axis) not in MISSING]
    if operand == "filter":
        axes.append(frozenset(range(sizes.taps)))
    return tuple(axes)


def words_in(tile, other=None):
    """How many words two boxes share, or one holds."""
    other = tile if other is None else other
    return prod(len(axis & there) for axis, there in zip(tile, other, strict=True))


def counted_by_tiles(layer, accelerator, mapping):
    """What a weight-stationary layer moves, tile by tile: a counter of words by name.

    The nest and its order are the walk's; words are counted as boxes, so that whole layers can be.
    """
    sizes, counts = layer.loops, Counter()
    resident, summed = dict.fromkeys(physical_oracle.OPERANDS), Counter()
    kept = physical_oracle.KEPT[mapping.order[2]]

    def leave_ofmap():
        tile = resident["ofmap"]
        complete = summed[tile] == words_in(tile) * sizes.in_channels
        counts["ofmap_final" if complete else "ofmap_spilled"] += words_in(tile)

    for place, block in physical_oracle.walk(sizes, accelerator, mapping):
        for operand in physical_oracle.OPERANDS:
            tile = box(operand, block if operand == kept else place, sizes)
            before, resident[operand] = resident[operand], tile
            if tile == before:
                continue
            counts[f"{operand}_resident"] = max(counts[f"{operand}_resident"], words_in(tile))
            if operand != "ofmap":
                stays = 0 if before is None else words_in(tile, before)
                counts[operand] += words_in(tile) - stays
                continue
            if before is not None:
                resident["ofmap"] = before
                leave_ofmap()
                resident["ofmap"] = tile
            counts["ofmap"] += words_in(tile) if summed[tile] else 0
        groups, outs = len(place["groups"]), len(place["outs"])
        pixels = len(place["images"]) * len(place["rows"]) * len(place["cols"])
        taps = len(place["ins"]) * sizes.taps
        summed[resident["ofmap"]] += groups * pixels * outs * len(place["ins"])
        counts["ifmap_reads"] += groups * pixels * taps * ceil(groups * outs / accelerator.cols)
        counts["filter_reads"] += groups * outs * taps
        counts["ofmap_writes"] += groups * pixels * outs * ceil(groups * taps / accelerator.rows)
    leave_ofmap()
    outputs = sizes.groups * sizes.images * sizes.rows * sizes.cols * sizes.out_channels
    counts["ofmap_reads"] = counts["ofmap_writes"] - outputs
    return counts
