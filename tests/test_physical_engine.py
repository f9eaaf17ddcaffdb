"""The engine that searches spaces of designs: as exact as mapping each layer on each design."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import plain_bounds
import pytest
from physical_cases import random_accelerator, random_convolution, random_gemm, with_room_for_groups

from arraysmith.errors import InvalidHardwareError
from arraysmith.formats.technology import read_technology
from arraysmith.hardware import Microarchitecture, PhysicalAccelerator
from arraysmith.search.design_columns import columns_of
from arraysmith.search.mapper import Goal, best_mapping, energy_weights
from arraysmith.search.network_cycles import INFEASIBLE, network_cycles
from arraysmith.search.physical_bounds import (
    cycles_at_least,
    distinct,
    energy_at_least,
    layer_cycles_at_least,
)
from arraysmith.simulation.physical.array import MICROARCHITECTURES
from arraysmith.simulation.physical.cost import EnergyTable, energy_tables
from arraysmith.simulation.physical.vectors import layer_vector
from arraysmith.workload import Conv2d, Gemm

TECHNOLOGY = read_technology()
ONE_MAC = Gemm(name="", M=1, N=1, K=1)
BUFFERS = "ifmap_buffer_kib", "filter_buffer_kib", "ofmap_buffer_kib"
COSTS = EnergyTable(
    mac_pj=1, pe_cycle_pj=0, dram_pj_per_byte=1,
    **{f"{buffer}_{access}_pj_per_byte": 1
       for buffer in ("ifmap", "filter", "ofmap") for access in ("read", "write")},
)  # fmt: skip


def random_layer(rng, largest=9):
    """A product or a convolution; groups, images, strides and depthwise ones among them."""
    if rng.randint(0, 2) == 0:
        return random_gemm(rng, largest=rng.choice((largest, 40)))
    layer = random_convolution(rng)
    # More channels than the cases of the walk have, so that buffers are short of room.
    more = rng.choice((1, 1, 5, 13))
    return replace(
        layer, in_channels=layer.in_channels * more, out_channels=layer.out_channels * more
    )


def random_designs(rng, layer, count):
    """A few accelerators; some share all but their buffers, some can do several dataflows."""
    found = []
    for _ in range(max(1, count // 4)):
        accelerator = random_accelerator(rng)
        if layer.loops.groups > 1 and rng.randint(0, 1):
            accelerator = with_room_for_groups(rng, accelerator, layer.loops)
        kinds = rng.sample(list(Microarchitecture), rng.choice((1, 1, 2, 3)))
        accelerator = replace(accelerator, microarchitectures=tuple(kinds))
        for _ in range(4):
            sizes = {name: rng.choice((1, 1, 2, 3, 5, 16)) for name in BUFFERS}
            found.append(replace(accelerator, **sizes))
    rng.shuffle(found)
    return found


def least_cycles(layer, accelerator):
    """By the mapper; None where no tile fits."""
    try:
        return best_mapping(layer, accelerator, COSTS).best.total_cycles
    except InvalidHardwareError:
        return None


def slow_totals(layers, counts, accelerators):
    """The network's cycles, layer by layer and design by design."""
    totals = []
    for accelerator in accelerators:
        found = [least_cycles(layer, accelerator) for layer in layers]
        feasible = None not in found
        totals.append(int(np.dot(found, counts)) if feasible else INFEASIBLE)
    return totals


@pytest.mark.parametrize("seed", range(60))
def test_cycles_of_designs_are_the_mappers(seed):
    """Of all designs at once: whatever they share, and whichever of them no tile fits."""
    rng = random.Random(f"engine {seed}")  # noqa: S311
    layers = [random_layer(rng) for _ in range(rng.choice((1, 1, 3)))]
    counts = np.array([rng.choice((1, 1, 2, 7)) for _ in layers])
    accelerators = random_designs(rng, layers[0], 12 // len(layers))
    found = network_cycles(layers, counts, columns_of(accelerators))
    assert found.exact.all()
    assert found.cycles.tolist() == slow_totals(layers, counts, accelerators)


@pytest.mark.parametrize("seed", range(40))
def test_a_design_that_may_take_fewer_cycles_is_left_with_a_bound(seed):
    """With a limit: exact where the cycles are within it, a bound between both where not."""
    rng = random.Random(f"limit {seed}")  # noqa: S311
    layers = [random_layer(rng) for _ in range(rng.choice((1, 2, 3)))]
    counts = np.array([rng.choice((1, 2, 5)) for _ in layers])
    accelerators = random_designs(rng, layers[0], 8)
    totals = slow_totals(layers, counts, accelerators)
    most = np.array(
        [rng.choice((total, total - 1, total + 1, int(total * 0.9), 0)) for total in totals]
    )
    found = network_cycles(layers, counts, columns_of(accelerators), most)
    for total, limit, cycles, exact in zip(totals, most, found.cycles, found.exact, strict=True):
        if total == INFEASIBLE:
            assert exact
            assert cycles == INFEASIBLE
        elif exact:
            assert cycles == total
        else:
            assert limit < cycles <= total
        assert exact or limit < total


@pytest.mark.parametrize("seed", range(10))
def test_buffers_decide_what_fits_and_nothing_else(seed):
    """A grid of buffers: never slower with a larger one, and as the mapper says in each cell."""
    rng = random.Random(f"grid {seed}")  # noqa: S311
    layer = replace(random_gemm(rng, largest=90), batch=1)
    base = replace(random_accelerator(rng), dram_bytes_per_cycle=rng.choice((0.5, 3, 16)))
    accelerators = [
        replace(base, **dict(zip(BUFFERS, kib, strict=True)))
        for kib in itertools.product((1, 2, 4), (1, 2, 4), (1, 3, 9))
    ]
    designs = columns_of(accelerators)
    found = network_cycles([layer], np.array([1]), designs).cycles.reshape(3, 3, 3)
    for axis in range(3):
        assert (np.diff(found, axis=axis) <= 0).all()
    cells = [rng.randrange(27) for _ in range(5)]
    asked = [accelerators[cell] for cell in cells]
    assert found.ravel()[cells].tolist() == slow_totals([layer], [1], asked)


def test_more_bandwidth_is_never_slower():
    """A faster channel never makes the best mapping slower."""
    rng = random.Random("bandwidth")  # noqa: S311
    for _ in range(10):
        layer, base = random_layer(rng), random_accelerator(rng)
        accelerators = [replace(base, dram_bytes_per_cycle=rate) for rate in (0.5, 1, 3, 12.8, 50)]
        found = network_cycles([layer], np.array([1]), columns_of(accelerators))
        assert (np.diff(found.cycles) <= 0).all()


def test_the_order_of_designs_changes_nothing():
    """Searches begin with what was best before; cycles do not depend on it."""
    rng = random.Random("order")  # noqa: S311
    layers = [random_layer(rng) for _ in range(3)]
    accelerators = random_designs(rng, layers[0], 24)
    designs, counts = columns_of(accelerators), np.array([1, 2, 3])
    found = network_cycles(layers, counts, designs)
    shuffled = np.array(rng.sample(range(len(accelerators)), len(accelerators)))
    again = network_cycles(layers, counts, designs.take(shuffled))
    assert (again.cycles == found.cycles[shuffled]).all()


@pytest.mark.parametrize("seed", range(100))
def test_bounds_of_cycles_are_those_of_one_layer_on_one_accelerator(seed):
    """The compiled bound equals the plain one; that of a network adds them up."""
    rng = random.Random(f"bound {seed}")  # noqa: S311
    layers = [random_layer(rng) for _ in range(3)]
    counts = np.array([1, 4, 2])
    accelerators = random_designs(rng, layers[0], 8)
    designs = columns_of(accelerators)
    vectors = np.array([layer_vector(layer) for layer in layers])
    found = layer_cycles_at_least(vectors, designs)
    assert found.tolist() == [
        [plain_bounds.cycles_at_least(layer, each) for layer in layers] for each in accelerators
    ]
    assert (cycles_at_least(vectors, counts, designs) == found @ counts).all()


def energy_bounds(layer, accelerators):
    """Of one layer on each accelerator, with the weights of its table."""
    weights = np.zeros((len(accelerators), len(MICROARCHITECTURES), 11))
    for index, each in enumerate(accelerators):
        for kind in each.microarchitectures:
            table = energy_tables(TECHNOLOGY, each, kind)["mid"]
            one = replace(each, rows=1, cols=1)
            weights[index, MICROARCHITECTURES.index(kind)] = energy_weights(ONE_MAC, one, table)
    which = np.arange(len(accelerators))
    return energy_at_least(layer_vector(layer), columns_of(accelerators), weights, which)


@pytest.mark.parametrize("goal", [Goal.CYCLES, Goal.ENERGY, Goal.EDP])
def test_no_mapping_goes_below_the_bounds(goal):
    """Whatever the mapper makes least, cycles and energy stay above; the bounds are not idle."""
    rng = random.Random(f"below {goal}")  # noqa: S311
    close = 0
    for _ in range(30):
        layer = random_layer(rng)
        accelerators = random_designs(rng, layer, 4)
        cycles = layer_cycles_at_least(layer_vector(layer)[None], columns_of(accelerators))[:, 0]
        energy = energy_bounds(layer, accelerators)
        for accelerator, least_cycles_, least_pj in zip(accelerators, cycles, energy, strict=True):
            try:
                best = best_mapping(layer, accelerator, TECHNOLOGY, goal).best
            except InvalidHardwareError:
                continue
            assert best.total_cycles >= least_cycles_
            assert best.energy.total_pj[1] >= least_pj * (1 - 1e-12)  # sums are rounded
            close += best.energy.total_pj[1] < 1.05 * least_pj
    assert close > 20


def test_distinct_rows():
    """The first of each kind, in the order in which kinds come up."""
    rows = np.array([[3, 1], [2, 9], [3, 1], [2, 8], [2, 9]])
    first, inverse = distinct(rows)
    assert first.tolist() == [0, 1, 3]
    assert inverse.tolist() == [0, 1, 0, 2, 1]


def test_a_buffer_that_holds_no_tile_makes_a_design_infeasible():
    """A window of 900 words needs 2 KiB of two buffers; groups side by side need room together."""
    window = Conv2d(
        name="window", ifmap_rows=31, ifmap_cols=31, filter_rows=30, filter_cols=30,
        in_channels=1, out_channels=2,
    )  # fmt: skip
    groups = replace(window, ifmap_rows=5, ifmap_cols=5, filter_rows=4, filter_cols=4,
                     in_channels=80, out_channels=160, groups=80)  # fmt: skip
    base = PhysicalAccelerator(
        rows=80 * 16, cols=160, microarchitectures=(Microarchitecture.WS_SERIAL,)
    )
    kinds = [(Microarchitecture.WS_SERIAL,), tuple(Microarchitecture)[2:5]]
    accelerators = [
        replace(base, microarchitectures=kind, ifmap_buffer_kib=ifmap, filter_buffer_kib=filter_,
                ofmap_buffer_kib=1)
        for kind in kinds for ifmap in (1, 2, 4) for filter_ in (1, 4)
    ]  # fmt: skip
    designs = columns_of(accelerators)
    for layers in ([window], [groups], [groups, window]):
        counts = np.ones(len(layers), np.int64)
        totals = slow_totals(layers, counts, accelerators)
        assert INFEASIBLE in totals
        assert max(totals) > 0
        for most in (None, np.full(len(designs), 10), np.array(totals)):
            found = network_cycles(layers, counts, designs, most)
            assert [cycles == INFEASIBLE for cycles in found.cycles] == [
                total == INFEASIBLE for total in totals
            ]
            assert found.exact[np.array(totals) == INFEASIBLE].all()
        assert network_cycles(layers, counts, designs).cycles.tolist() == totals
