"""The first steps of a mapping in time, held to the walk that moves every word."""

from __future__ import annotations

import random
from dataclasses import replace

import physical_oracle
import pytest
from physical_cases import random_case

from arraysmith.formats.technology import read_technology
from arraysmith.hardware import Microarchitecture, PhysicalAccelerator
from arraysmith.mapping import Mapping, Tile
from arraysmith.simulation.physical.cost import energy_tables
from arraysmith.simulation.physical.model import simulate_layer
from arraysmith.simulation.physical.timeline import timeline
from arraysmith.workload import Conv2d


def timeline_of(layer, accelerator, mapping, **given):
    """The timeline, and the figures it belongs to."""
    tables = energy_tables(read_technology(), accelerator, mapping.microarchitecture)
    found = simulate_layer(layer, accelerator, mapping, tables)
    return timeline(layer, accelerator, found, **given), found


@pytest.mark.parametrize("seed", range(120))
def test_every_step_is_that_of_the_walk(seed):
    """All steps of random cases: array and channel, step by step; first load and last store."""
    case = random_case(random.Random(seed))  # noqa: S311
    walked = physical_oracle.run(*case)
    found, metrics = timeline_of(*case, most_steps=10**6)
    assert found.rest_steps == found.rest_cycles == 0
    assert found.first_load_cycles == walked.first_load_cycles
    assert found.last_store_cycles == walked.last_store_cycles
    assert [(step.array_cycles, step.transfer_cycles) for step in found.steps] == [
        (step.array_cycles, step.transfer_cycles) for step in walked.timeline
    ]
    assert found.total_cycles == metrics.total_cycles == walked.total_cycles


@pytest.mark.parametrize("seed", range(40))
def test_the_first_steps_are_those_of_all(seed):
    """A few steps are the beginning of all of them; the rest is what is missing to the total."""
    case = random_case(random.Random(1000 + seed))  # noqa: S311
    every, metrics = timeline_of(*case, most_steps=10**6)
    few, _ = timeline_of(*case, most_steps=3)
    assert few.steps == every.steps[:3]
    assert few.rest_steps == metrics.steps - len(few.steps)
    assert few.rest_cycles == sum(step.cycles for step in every.steps[3:])
    assert few.total_cycles == metrics.total_cycles


@pytest.mark.parametrize("seed", range(60))
def test_what_moves_is_what_is_counted(seed):
    """Bytes loaded of each operand over all steps are those of the closed form."""
    case = random_case(random.Random(2000 + seed))  # noqa: S311
    accelerator = case.accelerator
    found, metrics = timeline_of(*case, most_steps=10**6)
    loads = [found.first_loaded_bytes, *(step.loaded_bytes for step in found.steps)]
    ifmap, filter_, ofmap = (sum(each) for each in zip(*loads, strict=True))
    assert ifmap == metrics.ifmap.dram_words_read * accelerator.operand_bytes
    assert filter_ == metrics.filter.dram_words_read * accelerator.operand_bytes
    assert ofmap == metrics.ofmap.dram_words_read * accelerator.psum_bytes


def test_loops_say_what_moves_with_them():
    """Single trips are no loops; each operand is marked at the innermost loop that changes it."""
    layer = Conv2d(
        name="c", ifmap_rows=10, ifmap_cols=10, filter_rows=3, filter_cols=3,
        in_channels=4, out_channels=6,
    )  # fmt: skip
    accelerator = PhysicalAccelerator(
        rows=4, cols=4, microarchitectures=(Microarchitecture.WS_SERIAL,)
    )
    mapping = Mapping(
        microarchitecture=Microarchitecture.WS_SERIAL,
        order="KMN",
        tile=Tile(rows=2, cols=8, out_channels=3, in_channels=2),
    )
    found, _ = timeline_of(layer, accelerator, mapping)
    assert [(loop.over, loop.trips, loop.tile, loop.whole, loop.loads) for loop in found.loops] == [
        ("input channels", 2, 2, 4, ()),
        ("rows", 4, 2, 8, ("ifmap",)),
        ("output channels", 2, 3, 6, ("filter", "ofmap")),
    ]
    assert found.spills
    blocked = replace(mapping, blocked="M", tiles_per_block=2)
    found, _ = timeline_of(layer, accelerator, blocked)
    assert [(loop.over, loop.trips, loop.tile, loop.in_block) for loop in found.loops] == [
        ("input channels", 2, 2, False),
        ("rows", 2, 4, False),
        ("output channels", 2, 3, False),
        ("rows", 2, 2, True),
    ]
    assert [loop.loads for loop in found.loops] == [(), ("ifmap",), ("filter",), ("ofmap",)]
    whole = Mapping(
        microarchitecture=Microarchitecture.WS_SERIAL,
        order="MNK",
        tile=Tile(rows=8, cols=8, out_channels=6, in_channels=4),
    )
    found, _ = timeline_of(layer, accelerator, whole)
    assert found.loops == ()
    assert found.stays == ("ifmap", "filter", "ofmap")
