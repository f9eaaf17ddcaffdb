"""The walk of the model `physical` against small nests counted by hand, and against real arrays.

`physical_array` multiplies matrices register by register; what it measures is what the table of
`docs/physical.md` says. The examples below are worked out in their comments.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from math import ceil

import physical_array
import physical_oracle
import pytest
from hypothesis import given, settings
from physical_cases import cases, random_case
from physical_oracle import DoesNotFit, run

from arraysmith.hardware import Dataflow, Microarchitecture, PhysicalAccelerator
from arraysmith.mapping import Mapping, Tile
from arraysmith.workload import Conv2d, Gemm

TABLE = {
    Microarchitecture.OS_BUS: lambda R, C, T, F: F * (R + C + T - 2) + 1,
    Microarchitecture.OS_SHIFT: lambda R, C, T, F: F * (2 * R + C + T - 2) + 1,
    Microarchitecture.OS_OVERLAPPED: lambda R, C, T, F: (F - 1) * max(T, R) + T + R + C - 2 + 1,
    Microarchitecture.WS_SERIAL: lambda R, C, T, F: F * (2 * R + C + T - 2) + 2,
    Microarchitecture.WS_DOUBLE_BUFFERED: lambda R, C, T, F: (
        R + (F - 1) * max(T, R) + T + R + C - 2 + 2
    ),
}
TABLE[Microarchitecture.IS_SERIAL] = TABLE[Microarchitecture.WS_SERIAL]
TABLE[Microarchitecture.IS_DOUBLE_BUFFERED] = TABLE[Microarchitecture.WS_DOUBLE_BUFFERED]

EXAMPLE = Gemm(name="example", M=7, K=20, N=9)
EXAMPLE_CYCLES = {
    Microarchitecture.OS_BUS: 157,
    Microarchitecture.OS_SHIFT: 181,
    Microarchitecture.OS_OVERLAPPED: 127,
    Microarchitecture.WS_SERIAL: 257,
    Microarchitecture.WS_DOUBLE_BUFFERED: 117,
    Microarchitecture.IS_SERIAL: 192,
}


def folded(microarchitecture, M, N, K, *, R, C):
    """The streamed dimension and the number of folds."""
    rows, cols, T = {
        Dataflow.OS: (M, N, K),
        Dataflow.WS: (K, N, M),
        Dataflow.IS: (K, M, N),
    }[microarchitecture.dataflow]
    return T, ceil(rows / R) * ceil(cols / C)


def random_matrix(rng, rows, cols):
    """Signed bytes."""
    return [[rng.randint(-128, 127) for _ in range(cols)] for _ in range(rows)]


def multiplied(A, B):
    """The product by its definition."""
    return [
        [sum(a * b for a, b in zip(row, col, strict=True)) for col in zip(*B, strict=True)]
        for row in A
    ]


def walked(layer, microarchitecture="os-bus", order="MNK", tile=None, block=None, **hardware):
    """One layer walked; the tile is the whole layer but for what is given."""
    sizes = layer.loops
    whole = Tile(
        rows=sizes.rows,
        cols=sizes.cols,
        out_channels=sizes.out_channels,
        in_channels=sizes.in_channels,
    )
    microarchitecture = Microarchitecture(microarchitecture)
    accelerator = PhysicalAccelerator(
        **{"rows": 4, "cols": 4, "microarchitectures": (microarchitecture,)} | hardware
    )
    blocked, tiles_per_block = block or (None, 1)
    mapping = Mapping(
        microarchitecture=microarchitecture,
        order=order,
        tile=replace(whole, **(tile or {})),
        blocked=blocked,
        tiles_per_block=tiles_per_block,
    )
    return run(layer, accelerator, mapping)


def dram(counts):
    """Words moved: ifmap read, filter read, ofmap read, spilled, final."""
    return (
        counts.ifmap.dram_read_words,
        counts.filter.dram_read_words,
        counts.ofmap.dram_read_words,
        counts.ofmap.dram_spilled_words,
        counts.ofmap.dram_final_words,
    )


def accesses(counts):
    """Words between buffers and array: ifmap read, filter read, ofmap read, ofmap written."""
    return (
        counts.ifmap.buffer_read_words,
        counts.filter.buffer_read_words,
        counts.ofmap.buffer_read_words,
        counts.ofmap.buffer_write_words,
    )


# The array


@pytest.mark.parametrize("microarchitecture", Microarchitecture)
def test_registers_take_the_cycles_of_the_table(microarchitecture):
    """Forty random products on arrays of 1×1 to 6×6: bit for bit, and in exactly these cycles."""
    rng = random.Random(str(microarchitecture))  # noqa: S311
    for _ in range(40):
        M, N, K = (rng.randint(1, 12) for _ in range(3))
        R, C = rng.randint(1, 6), rng.randint(1, 6)
        A, B = random_matrix(rng, M, K), random_matrix(rng, K, N)
        result, cycles, _ = physical_array.simulate(A, B, R, C, microarchitecture)
        assert result == multiplied(A, B)
        T, F = folded(microarchitecture, M, N, K, R=R, C=C)
        assert cycles == TABLE[microarchitecture](R, C, T, F), (M, N, K, R, C)


@pytest.mark.parametrize("microarchitecture", Microarchitecture)
def test_the_walk_of_folds_takes_the_cycles_of_the_table(microarchitecture):
    """The other way to count them, on arrays that would be slow register by register."""
    for R in (1, 2, 5, 16):
        for C in (1, 3, 16):
            for T in (1, 2, 4, 15, 16, 17, 100):
                for F in (1, 2, 7):
                    cycles = physical_oracle.array_cycles(microarchitecture, R, C, [T] * F)
                    assert cycles == TABLE[microarchitecture](R, C, T, F)


@pytest.mark.parametrize(("microarchitecture", "cycles"), EXAMPLE_CYCLES.items())
def test_the_example_takes_the_same_cycles_in_registers_and_walked(microarchitecture, cycles):
    """M=7, K=20, N=9 on 4×4: measured once in RTL."""
    rng = random.Random(0)  # noqa: S311
    A, B = random_matrix(rng, 7, 20), random_matrix(rng, 20, 9)
    result, measured, _ = physical_array.simulate(A, B, 4, 4, microarchitecture)
    assert result == multiplied(A, B)
    assert measured == cycles
    assert [step.array_cycles for step in walked(EXAMPLE, microarchitecture).timeline] == [cycles]


def test_a_fold_waits_for_its_weights():
    """Double-buffered folds shorter than the column is high wait for its lane of weights."""
    A, B = [[1] * 8] * 2, [[2] * 3] * 8
    array = 4, 3, Microarchitecture.WS_DOUBLE_BUFFERED
    _, _, interval = physical_array.simulate(A, B, *array)
    assert interval == 4
    with pytest.raises(physical_array.InTheWayError, match="two words on"):
        physical_array.attempt(A, B, *array, interval=3)


def test_weights_come_neither_early_nor_late():
    """One PE: a weight may not push out one that still waits for its swap bit, nor be missing."""

    def one_pe():
        return physical_array._WeightStationary(1, 1, Microarchitecture.WS_DOUBLE_BUFFERED)

    early = one_pe()
    early.cycle({("top", 0): physical_array.Weight(3, 0, 0)})
    with pytest.raises(physical_array.InTheWayError, match="overwritten before its use"):
        early.cycle({("top", 0): physical_array.Weight(4, 1, 0)})
    first = physical_array.Operand(value=5, fold=0, index=0, first=True, last=True)
    with pytest.raises(physical_array.InTheWayError, match="has not arrived"):
        one_pe().cycle({("left", 0): first})


def test_two_results_never_share_a_bus():
    """Overlapped folds shorter than the column is high wait for its bus."""
    A, B = [[1, 2]] * 5, [[3] * 2] * 2
    array = 5, 1, Microarchitecture.OS_OVERLAPPED
    _, _, interval = physical_array.simulate(A, B, *array)
    assert interval == 5
    with pytest.raises(physical_array.InTheWayError, match="on the bus of column 0"):
        physical_array.attempt(A, B, *array, interval=4)


def test_groups_on_the_diagonal_are_their_own_products():
    """Three groups of 2×1 weights, zeros elsewhere, in one fold of a 7×4 array."""
    rng = random.Random(0)  # noqa: S311
    groups = [(random_matrix(rng, 5, 2), random_matrix(rng, 2, 1)) for _ in range(3)]
    A = [[value for own, _ in groups for value in own[pixel]] for pixel in range(5)]
    B = [
        [weights[tap][0] if column == at else 0 for column in range(3)]
        for at, (_, weights) in enumerate(groups)
        for tap in range(2)
    ]
    microarchitecture = Microarchitecture.WS_SERIAL
    result, cycles, _ = physical_array.simulate(A, B, 7, 4, microarchitecture)
    products = [multiplied(*group) for group in groups]
    assert result == [[own[pixel][0] for own in products] for pixel in range(5)]
    assert cycles == TABLE[microarchitecture](7, 4, 5, 1)


# Time


def test_one_step_is_loaded_computed_and_stored():
    """140 + 180 bytes in, 157 cycles, 63 bytes out, at 16 bytes a cycle."""
    counts = walked(EXAMPLE)
    assert (counts.first_load_cycles, counts.last_store_cycles) == (20, 4)
    assert counts.total_cycles == 20 + 157 + 4
    assert counts.compute_cycles == 6 * 20  # six folds
    assert counts.fill_drain_cycles == 157 - 120
    assert counts.stall_cycles == 24
    assert counts.macs == 7 * 20 * 9


def test_a_spill_in_time():
    """Two sums, each in two parts, the parts outside: both go to DRAM and come back.

    Steps (k0, m0) (k0, m1) (k1, m0) (k1, m1), each 2 cycles on one PE; one byte a cycle.
    """
    counts = walked(
        Gemm(name="spill", M=2, N=1, K=2),
        order="KMN",
        tile={"rows": 1, "in_channels": 1},
        rows=1,
        cols=1,
        dram_bytes_per_cycle=1,
    )
    assert dram(counts) == (4, 2, 2, 2, 2)
    assert counts.first_load_cycles == 1 + 1
    assert [(step.array_cycles, step.transfer_cycles) for step in counts.timeline] == [
        (2, 1),  # in: the ifmap of the next
        (2, 4 + 1 + 1 + 4),  # out: m0's sum; in: ifmap, filter, and m0's sum again
        (2, 4 + 1 + 4),  # out: m1's sum; in: ifmap, m1's sum
        (2, 1),  # out: m0, one byte now
    ]
    assert counts.last_store_cycles == 1
    assert counts.total_cycles == 2 + (2 + 10 + 9 + 2) + 1
    assert accesses(counts) == (4, 4, 2, 4)


def test_sums_that_stay_are_not_spilled():
    """The parts of a sum inside: every sum stays until it is done."""
    counts = walked(
        Gemm(name="stay", M=2, N=1, K=2), order="MNK", tile={"rows": 1, "in_channels": 1}
    )
    assert dram(counts) == (4, 4, 0, 0, 2)


@pytest.mark.parametrize(("rate", "cycles"), [(0.5, 128), (3, 22), (12.8, 5), (64, 1)])
def test_the_channel_gives_fractions_of_a_byte(rate, cycles):
    """64 bytes are loaded; 12.8 is 64/5 exactly."""
    layer = Gemm(name="dot", M=1, N=1, K=32)
    assert walked(layer, dram_bytes_per_cycle=rate).first_load_cycles == cycles


@pytest.mark.parametrize(
    ("microarchitecture", "ports", "beat"),
    [
        ("os-bus", {"ofmap_port_bytes": 16}, 1),  # 4 columns of 4 bytes
        ("os-bus", {"ofmap_port_bytes": 8}, 2),
        ("os-bus", {"ofmap_port_bytes": 7}, 3),
        ("os-bus", {"ifmap_port_bytes": 3}, 2),  # 4 rows of 1 byte
        ("os-bus", {"filter_port_bytes": 1, "ofmap_port_bytes": 8}, 4),  # the slowest counts
        ("is-serial", {"filter_port_bytes": 1}, 4),
        ("ws-serial", {"ifmap_port_bytes": 1, "operand_bytes": 3}, 12),
    ],
)
def test_narrow_ports_hold_the_array(microarchitecture, ports, beat):
    """All but the registers before and after it takes `beat` times as long."""
    wide = walked(EXAMPLE, microarchitecture)
    narrow = walked(EXAMPLE, microarchitecture, **ports)
    constant = 1 if microarchitecture == "os-bus" else 2
    cycles = EXAMPLE_CYCLES[Microarchitecture(microarchitecture)] - constant
    assert narrow.timeline[0].array_cycles == beat * cycles + constant
    assert narrow.compute_cycles == beat * wide.compute_cycles


def test_a_border_step_with_few_lanes_is_held_less():
    """Nine columns in tiles of eight: the last tile has one lane of sums."""
    counts = walked(EXAMPLE, tile={"out_channels": 8}, ofmap_port_bytes=4)
    assert [step.array_cycles for step in counts.timeline] == [4 * 4 * 26 + 1, 2 * 26 + 1]


# Tiles


@pytest.mark.parametrize(("rows", "tiles", "largest"), [(4, 1, 18), (2, 2, 12), (3, 2, 15)])
def test_a_window_that_slides_brings_its_halo(rows, tiles, largest):
    """A 3×3 filter over 6×3 words makes four rows; two tiles share two rows, loaded once."""
    layer = Conv2d(
        name="halo",
        ifmap_rows=6,
        ifmap_cols=3,
        filter_rows=3,
        filter_cols=3,
        in_channels=1,
        out_channels=1,
    )
    counts = walked(layer, tile={"rows": rows})
    assert dram(counts) == (18, 9, 0, 0, 4)
    assert counts.ifmap.largest_words == largest
    assert accesses(counts) == (4 * 9, 9 * tiles, 0, 4)


def test_a_window_that_jumps_loads_its_halo_again():
    """Between the two tiles of rows the other input channel is there: four rows, twice each."""
    layer = Conv2d(
        name="jump",
        ifmap_rows=6,
        ifmap_cols=3,
        filter_rows=3,
        filter_cols=3,
        in_channels=2,
        out_channels=1,
    )
    counts = walked(layer, tile={"rows": 2, "in_channels": 1}, order="MKN")
    assert dram(counts)[0] == 2 * 2 * 4 * 3


def test_words_between_windows_are_not_loaded():
    """A filter of two rows each three: of eight rows the third and the sixth are never used."""
    layer = Conv2d(
        name="gaps",
        ifmap_rows=8,
        ifmap_cols=1,
        filter_rows=2,
        filter_cols=1,
        in_channels=1,
        out_channels=1,
        stride=3,
    )
    counts = walked(layer, tile={"rows": 2})
    assert dram(counts) == (4 + 2, 2, 0, 0, 3)
    assert counts.ifmap.largest_words == 4


def test_padding_is_loaded():
    """The ifmap lies in DRAM with its zeros."""
    layer = Conv2d(
        name="padding",
        ifmap_rows=1,
        ifmap_cols=1,
        filter_rows=3,
        filter_cols=3,
        in_channels=1,
        out_channels=1,
        padding=1,
    )
    assert dram(walked(layer)) == (9, 9, 0, 0, 1)


@pytest.mark.parametrize(
    ("order", "block", "moved", "largest"),
    [
        # For each k and m both n: the ifmap stays, the filter comes each step, sums leave each.
        ("KMN", None, (8, 16, 8, 8, 8), (1, 1, 1)),
        # Two m to a block: each n's filter is used for both.
        ("KMN", ("M", 2), (8, 8, 8, 8, 8), (2, 1, 1)),
        # All four: the whole column of the ifmap stays, each filter word comes once.
        ("KMN", ("M", 4), (8, 4, 8, 8, 8), (4, 1, 1)),
        # Two k to a block: a sum is done before it leaves.
        ("KMN", ("K", 2), (8, 16, 0, 0, 8), (2, 1, 1)),
        # Sums stay.
        ("MNK", None, (16, 16, 0, 0, 8), (1, 1, 1)),
        ("MNK", ("M", 2), (16, 8, 0, 0, 8), (1, 1, 2)),
        ("MNK", ("N", 2), (8, 16, 0, 0, 8), (1, 1, 2)),
        ("NMK", ("N", 2), (8, 16, 0, 0, 8), (1, 1, 2)),
        # The filter stays.
        ("NKM", None, (16, 4, 8, 8, 8), (1, 1, 1)),
        ("NKM", ("N", 2), (8, 4, 8, 8, 8), (1, 2, 1)),
        ("NKM", ("K", 2), (16, 4, 0, 0, 8), (1, 2, 1)),
    ],
)
def test_orders_and_blocks(order, block, moved, largest):
    """M=4, N=2, K=2 in tiles of one word, by hand."""
    layer = Gemm(name="nest", M=4, N=2, K=2)
    tile = {"rows": 1, "out_channels": 1, "in_channels": 1}
    counts = walked(layer, order=order, tile=tile, block=block)
    assert counts.steps == 16
    assert dram(counts) == moved
    operands = counts.ifmap, counts.filter, counts.ofmap
    assert tuple(operand.largest_words for operand in operands) == largest


def test_a_block_of_rows_has_one_halo_and_a_border():
    """Five rows of a 2×1 filter in tiles of two, three tiles to the only block.

    For each column and channel the six rows of the ifmap come once, in one piece.
    """
    layer = Conv2d(
        name="block",
        ifmap_rows=6,
        ifmap_cols=2,
        filter_rows=2,
        filter_cols=1,
        in_channels=2,
        out_channels=3,
    )
    counts = walked(
        layer,
        order="MKN",
        tile={"rows": 2, "cols": 1, "out_channels": 2, "in_channels": 1},
        block=("M", 3),
    )
    assert counts.steps == 2 * 2 * 2 * 3  # columns, channels in, tiles of channels out, row tiles
    assert counts.ifmap.largest_words == 6
    assert counts.ifmap.dram_read_words == 2 * 2 * 6
    assert counts.filter.dram_read_words == 2 * (2 * 3 * 2)  # all of it for each column
    assert counts.ofmap.dram_spilled_words == 5 * 2 * 3  # after the first channel in
    assert counts.ofmap.dram_read_words == 5 * 2 * 3


def test_images_share_a_filter_tile():
    """Images are the outermost of the loops of M: the filter stays over them, or comes again."""
    layer = Conv2d(
        name="batch",
        ifmap_rows=2,
        ifmap_cols=2,
        filter_rows=1,
        filter_cols=1,
        in_channels=1,
        out_channels=2,
        batch=3,
    )
    tile = {"out_channels": 1}
    assert dram(walked(layer, order="NKM", tile=tile)) == (2 * 12, 2, 0, 0, 24)
    assert dram(walked(layer, order="MNK", tile=tile)) == (12, 3 * 2, 0, 0, 24)


@pytest.mark.parametrize(("block", "pixels"), [(None, [8, 2, 4, 1]), (("M", 2), [8, 4, 2, 1])])
def test_the_loops_of_pixels(block, pixels):
    """3×5 pixels in tiles of 2×4: by rows, in a block by columns; and all of it for each image."""
    layer = Conv2d(
        name="pixels",
        ifmap_rows=3,
        ifmap_cols=5,
        filter_rows=1,
        filter_cols=1,
        in_channels=1,
        out_channels=1,
        batch=2,
    )
    tile = {"rows": 2, "cols": 4}
    counts = walked(layer, "ws-serial", tile=tile, block=block, rows=1, cols=1)
    cycles = [2 + 1 + T - 2 + 2 for T in pixels]
    assert [step.array_cycles for step in counts.timeline] == 2 * cycles


# Groups

DEPTHWISE = Conv2d(
    name="depthwise",
    ifmap_rows=1,
    ifmap_cols=4,
    filter_rows=1,
    filter_cols=2,
    in_channels=5,
    out_channels=5,
    groups=5,
)


def test_groups_lie_side_by_side_on_weight_stationary_arrays():
    """Two taps on four rows: packs of two, two and one groups, one fold of three pixels each."""
    counts = walked(DEPTHWISE, "ws-serial")
    assert [step.array_cycles for step in counts.timeline] == [4 + 4 + 4 + 3 - 2 + 2] * 3
    assert counts.compute_cycles == 3 * 3
    assert dram(counts) == (20, 10, 0, 0, 15)
    assert accesses(counts) == (30, 10, 0, 15)  # real words, no zeros
    assert (counts.ifmap.largest_words, counts.filter.largest_words) == (8, 4)


@pytest.mark.parametrize(("rows", "cols", "steps"), [(4, 4, 3), (2, 9, 3), (9, 6, 2), (9, 1, 5)])
def test_rows_and_columns_limit_the_groups_side_by_side(rows, cols, steps):
    """Five groups of one word to two: one row and two columns each."""
    layer = Conv2d(
        name="one to two",
        ifmap_rows=1,
        ifmap_cols=1,
        filter_rows=1,
        filter_cols=1,
        in_channels=5,
        out_channels=10,
        groups=5,
    )
    assert walked(layer, "ws-double-buffered", rows=rows, cols=cols).steps == steps


def test_groups_follow_each_other_on_other_arrays():
    """One step each; the same words in the same memory."""
    for microarchitecture in ("os-bus", "is-serial"):
        counts = walked(DEPTHWISE, microarchitecture)
        assert counts.steps == 5
        assert dram(counts) == (20, 10, 0, 0, 15)


def test_products_of_a_batch_are_groups():
    """Attention's heads: nothing is shared."""
    counts = walked(Gemm(name="heads", M=2, N=1, K=1, batch=3), "ws-serial")
    assert counts.steps == 1  # three 1×1 weights on the diagonal
    assert dram(counts) == (6, 3, 0, 0, 6)


# Accesses between buffers and array


@pytest.mark.parametrize(
    ("microarchitecture", "rows", "cols", "counted"),
    [
        ("os-bus", 4, 2, (20, 15, 0, 6)),  # the ifmap for each of two folds of columns
        ("os-bus", 1, 4, (10, 30, 0, 6)),  # the filter for each of two folds of rows
        ("ws-serial", 4, 2, (20, 15, 6, 12)),  # two folds of K: each sum written twice, read once
        ("ws-serial", 2, 4, (10, 15, 12, 18)),
        ("is-serial", 4, 1, (10, 30, 6, 12)),
    ],
)
def test_accesses_of_one_step(microarchitecture, rows, cols, counted):
    """M=2, K=5, N=3."""
    layer = Gemm(name="accesses", M=2, N=3, K=5)
    assert accesses(walked(layer, microarchitecture, rows=rows, cols=cols)) == counted


# What fits


@pytest.mark.parametrize(
    ("words", "hardware"),
    [
        (128, {}),  # 4 bytes each in half of 1 KiB
        (256, {"double_buffered": False}),
        (170, {"psum_bytes": 3}),
    ],
)
def test_a_tile_may_fill_its_half_of_the_buffer(words, hardware):
    """One word more does not fit."""
    hardware = {"ofmap_buffer_kib": 1, **hardware}
    assert walked(Gemm(name="full", M=words, N=1, K=1), **hardware).ofmap.largest_words == words
    with pytest.raises(DoesNotFit, match=f"ofmap: {words + 1} words"):
        walked(Gemm(name="more", M=words + 1, N=1, K=1), **hardware)


def test_the_whole_block_has_to_fit():
    """Two tiles of 300 words each fit a half of 512 bytes one at a time, not as a block."""
    layer = Gemm(name="block", M=2, N=2, K=300)
    arguments = {"order": "KMN", "tile": {"rows": 1, "out_channels": 1}, "ifmap_buffer_kib": 1}
    assert walked(layer, **arguments).ifmap.largest_words == 300
    with pytest.raises(DoesNotFit, match="ifmap: 600 words"):
        walked(layer, block=("M", 2), **arguments)


# Random cases


@settings(max_examples=150, deadline=None)
@given(case=cases())
def test_random_cases_are_computed_once_and_in_time(case):
    """The walk checks itself as it goes; the parts of its time are all of it."""
    counts = run(*case)
    assert counts.macs == case.layer.macs
    assert counts.steps == len(counts.timeline)
    assert counts.ofmap.dram_read_words == counts.ofmap.dram_spilled_words
    assert counts.total_cycles == (
        counts.compute_cycles + counts.fill_drain_cycles + counts.stall_cycles
    )
    assert counts.stall_cycles >= counts.first_load_cycles + counts.last_store_cycles
    assert counts.compute_cycles * case.accelerator.pes >= counts.macs


def test_random_cases_with_a_small_buffer_do_not_fit():
    """One buffer is 1 KiB smaller than its tile needs."""
    for seed in range(30):
        case = random_case(random.Random(seed), fits=False)  # noqa: S311
        with pytest.raises(DoesNotFit):
            run(*case)


def features(case, counts):
    """What is special about a case."""
    layer, accelerator, mapping = case
    sizes, tile = layer.loops, mapping.tile
    packed = physical_oracle.groups_side_by_side(sizes, accelerator, mapping)
    yield mapping.order, mapping.blocked
    yield mapping.microarchitecture
    yield type(layer)
    yield "double-buffered" if accelerator.double_buffered else "single"
    special = {
        "border rows": sizes.rows % tile.rows,
        "border columns": sizes.cols % tile.cols,
        "border in": sizes.in_channels % tile.in_channels,
        "border out": sizes.out_channels % tile.out_channels,
        "border in a block of rows": mapping.blocked == "M" and sizes.rows % tile.rows,
        "halo": sizes.filter_rows > sizes.stride and tile.rows < sizes.rows,
        "gaps": sizes.filter_rows < sizes.stride and tile.rows < sizes.rows,
        "images": sizes.images > 1,
        "groups": sizes.groups > 1,
        "depthwise": sizes.groups > 1 and sizes.in_channels == sizes.out_channels == 1,
        "packed": packed > 1,
        "last pack smaller": packed > 1 and sizes.groups % packed,
        "room for more groups than there are": packed > sizes.groups > 1,
        "packed in parts": packed > 1 and tile.in_channels < sizes.in_channels,
        "spilled": counts.ofmap.dram_spilled_words,
        "channel slower than the array": counts.stall_cycles
        > counts.first_load_cycles + counts.last_store_cycles,
    }
    yield from (name for name, there in special.items() if there)


def test_random_cases_go_everywhere():
    """In 1500 of them every order with every block, every array, and all that is special."""
    seen = Counter()
    for seed in range(1500):
        case = random_case(random.Random(seed))  # noqa: S311
        seen.update(features(case, run(*case)))
    orders = {key for key in seen if isinstance(key, tuple)}
    assert len(orders) == 6 * 3  # with the first, the second, or no loop blocked
    assert set(Microarchitecture) <= set(seen)
    assert len(seen) == 18 + 7 + 2 + 2 + 16
    assert min(seen.values()) >= 5
