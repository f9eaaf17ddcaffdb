"""The engine that searches spaces of designs: as exact as mapping each layer on each design."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from physical_cases import random_accelerator, random_convolution, random_gemm, with_room_for_groups

from arraysmith.errors import InvalidHardwareError
from arraysmith.formats.technology import read_technology
from arraysmith.hardware import Microarchitecture
from arraysmith.search.design_columns import columns_of
from arraysmith.search.mapper import best_mapping
from arraysmith.search.network_cycles import INFEASIBLE, network_cycles
from arraysmith.simulation.physical.cost import EnergyTable

TECHNOLOGY = read_technology()
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
