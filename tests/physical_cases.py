"""Random small layers, accelerators and mappings, for the walk and what is held to it.

    case = random_case(random.Random(7))            # layer, accelerator, mapping; every tile fits
    case = random_case(random.Random(7), fits=False)  # one buffer is 1 KiB too small

or with Hypothesis, which finds the smallest case that fails: `@given(cases())`.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import NamedTuple

import physical_oracle
from hypothesis import strategies as st

from arraysmith.hardware import Microarchitecture, PhysicalAccelerator
from arraysmith.mapping import ORDERS, Mapping, Tile
from arraysmith.workload import Conv2d, Gemm, Layer, ceil_div

MOST_MACS = 2000
"""Of a layer, so that a walk takes milliseconds."""
MOST_STEPS = 300
BANDWIDTHS = 0.5, 1, 3, 12.8, 16, 0.3, Fraction(7, 3), 1000


class Case(NamedTuple):
    """What `physical_oracle.run` takes."""

    layer: Layer
    accelerator: PhysicalAccelerator
    mapping: Mapping


def _one_of(rng, *values):
    return values[rng.randrange(len(values))]


def random_gemm(rng, largest=9):
    """A small product, one in three of them several times."""
    M, N, K = (rng.randint(1, largest) for _ in range(3))
    return Gemm(name="gemm", M=M, N=N, K=K, batch=_one_of(rng, 1, 1, rng.randint(2, 5)))


def random_convolution(rng):
    """A small convolution: stride 1 to 3, also larger than the filter; groups; images; padding."""
    filter_rows, filter_cols = rng.randint(1, 3), rng.randint(1, 3)
    groups = _one_of(rng, 1, 1, rng.randint(2, 6))
    # Depthwise, one in three of those with groups.
    ins, outs = _one_of(rng, (1, 1), *2 * ((rng.randint(1, 6), rng.randint(1, 5)),))
    return Conv2d(
        name="convolution",
        ifmap_rows=filter_rows + rng.randint(0, 6),
        ifmap_cols=filter_cols + rng.randint(0, 6),
        filter_rows=filter_rows,
        filter_cols=filter_cols,
        in_channels=groups * ins,
        out_channels=groups * outs,
        stride=rng.randint(1, 3),
        padding=_one_of(rng, 0, 0, 1),
        groups=groups,
        batch=_one_of(rng, 1, 1, 2, 3),
    )


def random_accelerator(rng):
    """A small array of one microarchitecture; its buffers have room for anything small."""

    def port():
        return _one_of(rng, None, None, 1, 2, 3, 5, 8)

    return PhysicalAccelerator(
        rows=_one_of(rng, *3 * (rng.randint(1, 6),), rng.randint(7, 20)),
        cols=_one_of(rng, *3 * (rng.randint(1, 6),), rng.randint(7, 20)),
        microarchitectures=(_one_of(rng, *Microarchitecture),),
        dram_bytes_per_cycle=_one_of(rng, *BANDWIDTHS),
        ifmap_port_bytes=port(),
        filter_port_bytes=port(),
        ofmap_port_bytes=port(),
        operand_bytes=_one_of(rng, 1, 1, 2, 3),
        psum_bytes=_one_of(rng, 4, 4, 2, 3, 5),
        output_bytes=_one_of(rng, 1, 1, 2, 4, 6),
        double_buffered=rng.randint(0, 1) == 0,
    )


def with_room_for_groups(rng, accelerator, sizes):
    """The array with sides that take a few groups, if it is a weight-stationary one."""
    groups = rng.randint(1, 4)
    rows = groups * sizes.in_channels * sizes.taps + rng.randint(0, 2)
    cols = groups * sizes.out_channels + rng.randint(0, 2)
    return replace(accelerator, rows=rows, cols=cols)


def random_mapping(rng, layer, microarchitecture):
    """Any order and any tile; blocks in half of the cases where there can be any."""
    sizes = layer.loops

    def part(whole):
        return _one_of(rng, whole, rng.randint(1, whole), rng.randint(1, ceil(whole / 2)))

    tile = Tile(
        rows=part(sizes.rows),
        cols=part(sizes.cols),
        out_channels=part(sizes.out_channels),
        in_channels=part(sizes.in_channels),
    )
    order = _one_of(rng, *ORDERS)
    tiles = {
        "M": ceil_div(sizes.rows, tile.rows),
        "N": ceil_div(sizes.out_channels, tile.out_channels),
        "K": ceil_div(sizes.in_channels, tile.in_channels),
    }
    blocks = [
        (letter, count)
        for letter in order[:2]
        for count in range(2, tiles[letter] + 1)
        if tiles[letter] % count == 0
    ]
    blocked, tiles_per_block = None, 1
    if blocks and rng.randint(0, 1):
        blocked, tiles_per_block = _one_of(rng, *blocks)
    return Mapping(
        microarchitecture=microarchitecture,
        order=order,
        tile=tile,
        blocked=blocked,
        tiles_per_block=tiles_per_block,
    )


def _steps(sizes, tile):
    """Steps without packing, which only makes them fewer."""
    return (
        sizes.groups
        * sizes.images
        * ceil_div(sizes.rows, tile.rows)
        * ceil_div(sizes.cols, tile.cols)
        * ceil_div(sizes.out_channels, tile.out_channels)
        * ceil_div(sizes.in_channels, tile.in_channels)
    )


def least_buffers(case):
    """The smallest buffers in KiB that hold the tiles, by what the walk keeps in them."""
    layer, accelerator, mapping = case
    largest = dict.fromkeys(physical_oracle.OPERANDS, 0)
    for _, tiles in physical_oracle.resident_tiles(layer.loops, accelerator, mapping):
        for operand, words in tiles.items():
            largest[operand] = max(largest[operand], len(words))
    halves = 2 if accelerator.double_buffered else 1
    word_bytes = dict.fromkeys(largest, accelerator.operand_bytes)
    word_bytes["ofmap"] = accelerator.psum_bytes
    return {
        f"{operand}_buffer_kib": ceil_div(words * word_bytes[operand] * halves, 1024)
        for operand, words in largest.items()
    }


def random_case(rng, *, fits=True):
    """A layer, an accelerator and a mapping; `rng` is a random.Random.

    Every tile fits, one in two times into the smallest buffers that hold it. With `fits=False` one
    buffer is 1 KiB too small for its tile.
    """
    while True:
        layer = random_gemm(rng) if rng.randint(0, 2) == 0 else random_convolution(rng)
        if not fits:  # only a large tile can be too large: 1 KiB is the smallest buffer
            layer = random_gemm(rng, largest=26)
        accelerator = random_accelerator(rng)
        if layer.loops.groups > 1 and rng.randint(0, 1):
            accelerator = with_room_for_groups(rng, accelerator, layer.loops)
        mapping = random_mapping(rng, layer, accelerator.microarchitectures[0])
        case = Case(layer, accelerator, mapping)
        too_large = layer.macs > (MOST_MACS if fits else 10 * MOST_MACS)
        if too_large or _steps(layer.loops, mapping.tile) > MOST_STEPS:
            continue
        least = least_buffers(case)
        if fits:
            spare = rng.randint(0, 1)
            buffers = {name: kib + spare * rng.randint(0, 2) for name, kib in least.items()}
            return case._replace(accelerator=replace(accelerator, **buffers))
        shrinkable = [name for name, kib in least.items() if kib > 1]
        if shrinkable:
            least[_one_of(rng, *shrinkable)] -= 1
            return case._replace(accelerator=replace(accelerator, **least))


def cases():
    """Cases as a Hypothesis strategy."""
    return st.randoms(use_true_random=False).map(random_case)
