"""The model `physical` in closed form, held to a walk that moves every word."""

from __future__ import annotations

import random

import numpy as np
import physical_oracle
import pytest
from hypothesis import given, settings
from physical_cases import cases, random_case

from arraysmith.simulation.physical.closed_form import COLUMNS, evaluate
from arraysmith.simulation.physical.vectors import (
    accelerator_vector,
    layer_vector,
    mapping_of,
    mapping_vector,
)


def closed_form(case):
    """The figures of a case, by name."""
    layer, accelerator, mapping = case
    vectors = layer_vector(layer), accelerator_vector(accelerator), mapping_vector(mapping)[None]
    return dict(zip(COLUMNS, map(int, evaluate(*vectors)[0]), strict=True))


def walked(case):
    """The same from the walk."""
    counts = physical_oracle.run(*case)
    return {
        "total_cycles": counts.total_cycles,
        "array_cycles": counts.compute_cycles + counts.fill_drain_cycles,
        "compute_cycles": counts.compute_cycles,
        "ifmap_dram_words": counts.ifmap.dram_read_words,
        "filter_dram_words": counts.filter.dram_read_words,
        "ofmap_dram_words_read": counts.ofmap.dram_read_words,
        "ofmap_dram_words_spilled": counts.ofmap.dram_spilled_words,
        "ofmap_dram_words_output": counts.ofmap.dram_final_words,
        "ifmap_array_reads": counts.ifmap.buffer_read_words,
        "filter_array_reads": counts.filter.buffer_read_words,
        "ofmap_array_reads": counts.ofmap.buffer_read_words,
        "ofmap_array_writes": counts.ofmap.buffer_write_words,
        "ifmap_resident_words": counts.ifmap.largest_words,
        "filter_resident_words": counts.filter.largest_words,
        "ofmap_resident_words": counts.ofmap.largest_words,
    }


@pytest.mark.parametrize("seed", range(20))
def test_the_closed_form_equals_the_walk(seed):
    """Every figure of a hundred drawn cases: layers, arrays and mappings of every kind."""
    rng = random.Random(f"closed form {seed}")  # noqa: S311
    for _ in range(100):
        case = random_case(rng)
        assert closed_form(case) == walked(case), case


@given(cases())
@settings(max_examples=200, deadline=None)
def test_the_closed_form_equals_the_walk_on_what_hypothesis_draws(case):
    """The same, shrunk to the smallest case if it fails."""
    assert closed_form(case) == walked(case)


def test_many_mappings_at_once_give_what_each_gives_alone():
    """Neighbours that share a tile share work; the figures are the same in any order."""
    rng = random.Random("neighbours")  # noqa: S311
    layer, accelerator, mapping = random_case(rng)
    vectors = []
    for order in range(6):
        for rows in (1, 1, 2, 1):
            vector = mapping_vector(mapping)
            vector[1], vector[2] = order, min(rows, layer.loops.rows)
            vector[6], vector[7] = -1, 1
            vectors.append(vector)
    layer_numbers, accelerator_numbers = layer_vector(layer), accelerator_vector(accelerator)
    together = evaluate(layer_numbers, accelerator_numbers, np.array(vectors))
    for vector, found in zip(vectors, together, strict=True):
        alone = evaluate(layer_numbers, accelerator_numbers, vector[None])[0]
        assert found.tolist() == alone.tolist()


def test_a_mapping_survives_its_vector():
    """Compiled code hands mappings back as integers."""
    rng = random.Random("vectors")  # noqa: S311
    for _ in range(50):
        mapping = random_case(rng).mapping
        assert mapping_of(mapping_vector(mapping)) == mapping


def test_many_layers_on_many_arrays_give_what_each_gives_alone():
    """Rows of layers, arrays and mappings go together; one layer or array serves all rows."""
    rng = random.Random("rows")  # noqa: S311
    drawn = [random_case(rng) for _ in range(60)]
    layers = np.array([layer_vector(case.layer) for case in drawn])
    arrays = np.array([accelerator_vector(case.accelerator) for case in drawn])
    mappings = np.array([mapping_vector(case.mapping) for case in drawn])
    together = evaluate(layers, arrays, mappings)
    for row, case in zip(together, drawn, strict=True):
        assert dict(zip(COLUMNS, row.tolist(), strict=True)) == closed_form(case)


def test_rows_that_do_not_go_together_are_refused():
    """Two layers for three mappings are a mistake of the caller."""
    layer, accelerator, mapping = random_case(random.Random("refused"))  # noqa: S311
    with pytest.raises(ValueError, match="2 rows for 3 mappings; give one or each"):
        evaluate(
            np.array([layer_vector(layer)] * 2),
            accelerator_vector(accelerator),
            np.array([mapping_vector(mapping)] * 3),
        )
