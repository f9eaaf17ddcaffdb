"""The model `physical` in closed form: every figure of a layer under many mappings at once.

Cycles of the array, accesses and traffic are products (`traffic`); what is left is where the array
waits for the DRAM (`waiting`). `tests/physical_oracle.py` walks every step and finds the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraysmith.compiling import compiled
from arraysmith.simulation.physical.nest import (
    COLS,
    FILTER,
    GROUPS,
    IFMAP,
    IMAGES,
    MICRO,
    NEST,
    OFMAP,
    OUT,
    ROWS,
    TILE_IN,
    TILE_ROWS,
    Nest,
    lay_loops,
    lay_tile,
)
from arraysmith.simulation.physical.traffic import (
    all_steps,
    dram_words,
    ifmap_words_never_moved,
)
from arraysmith.simulation.physical.waiting import KINDS, waiting_cycles

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLUMNS = (
    "total_cycles",
    "array_cycles",
    "compute_cycles",
    "ifmap_dram_words",
    "filter_dram_words",
    "ofmap_dram_words_read",
    "ofmap_dram_words_spilled",
    "ofmap_dram_words_output",
    "ifmap_array_reads",
    "filter_array_reads",
    "ofmap_array_reads",
    "ofmap_array_writes",
    "ifmap_resident_words",
    "filter_resident_words",
    "ofmap_resident_words",
)
"""What `evaluate` gives of each mapping."""
(
    TOTAL,
    ARRAY,
    COMPUTE,
    IFMAP_DRAM,
    FILTER_DRAM,
    OFMAP_READ,
    OFMAP_SPILLED,
    OFMAP_OUTPUT,
    IFMAP_READS,
    FILTER_READS,
    OFMAP_READS,
    OFMAP_WRITES,
    IFMAP_RESIDENT,
    FILTER_RESIDENT,
    OFMAP_RESIDENT,
) = range(15)


def evaluate(
    layers: NDArray[np.int64], arrays: NDArray[np.int64], mappings: NDArray[np.int64]
) -> NDArray[np.int64]:
    """All figures of many layers on many arrays under many mappings, row by row.

    Args:
        layers: (9,) or (rows, 9), see `layer_vector`.
        arrays: (13,) or (rows, 13), see `accelerator_vector`.
        mappings: (rows, 8), see `mapping_vector`; one that fits its layer.

    Returns:
        (rows, 15): the columns of `COLUMNS`. Whether tiles fit their buffers is left to the caller:
        the last three columns say what they take.

    Raises:
        ValueError: as many layers or arrays as mappings, or one for all, were not given.
    """
    layers, arrays = np.atleast_2d(layers), np.atleast_2d(arrays)
    for given in (layers, arrays):
        if len(given) not in {1, len(mappings)}:
            raise ValueError(f"{len(given)} rows for {len(mappings)} mappings; give one or each")
    found = np.empty((len(mappings), len(COLUMNS)), np.int64)
    _evaluate(layers, arrays, mappings, np.zeros(1, NEST), np.zeros(1, KINDS), found)
    return found


@compiled
def _evaluate(  # noqa: PLR0917
    layers: NDArray[np.int64],
    arrays: NDArray[np.int64],
    mappings: NDArray[np.int64],
    nests: NDArray[np.void],
    all_kinds: NDArray[np.void],
    found: NDArray[np.int64],
) -> None:
    nest, kinds = nests[0], all_kinds[0]
    # Neighbours often share a tile, and with it most of the work.
    alike = len(layers) == 1 and len(arrays) == 1
    for index in range(len(mappings)):
        layer = layers[index if len(layers) > 1 else 0]
        array = arrays[index if len(arrays) > 1 else 0]
        mapping = mappings[index]
        if alike and index and _same_tile(mapping, mappings[index - 1]):
            found[index, ARRAY:] = found[index - 1, ARRAY:]
        else:
            lay_tile(nest, layer, array, mapping)
            count_array(nest, layer, array, mapping[MICRO], found[index])
        lay_loops(nest, layer, mapping)
        count_dram(nest, found[index])
        found[index, TOTAL] = found[index, ARRAY] + waiting_cycles(nest, kinds, layer, array)


@compiled
def _same_tile(mapping: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    same = mapping[MICRO] == other[MICRO]
    for field in range(TILE_ROWS, TILE_IN + 1):
        same &= mapping[field] == other[field]
    return bool(same)


@compiled
def count_array(
    nest: Nest,
    layer: NDArray[np.int64],
    array: NDArray[np.int64],
    micro: int,
    found: NDArray[np.int64],
) -> None:
    """What depends on the tile alone; it is laid already."""
    cycles, streaming, ifmap, filter_, partial_sums = all_steps(nest, layer, array, micro)
    found[ARRAY], found[COMPUTE] = cycles, streaming
    found[IFMAP_READS], found[FILTER_READS], found[OFMAP_WRITES] = ifmap, filter_, partial_sums
    outputs = layer[GROUPS] * layer[IMAGES] * layer[ROWS] * layer[COLS] * layer[OUT]
    found[OFMAP_READS] = partial_sums - outputs
    found[OFMAP_OUTPUT] = outputs


@compiled
def count_dram(nest: Nest, found: NDArray[np.int64]) -> None:
    """What moves between DRAM and buffers, and what lies there; the loops are laid already."""
    words, loads = dram_words(nest, IFMAP)
    found[IFMAP_DRAM] = words * loads - ifmap_words_never_moved(nest)
    words, loads = dram_words(nest, FILTER)
    found[FILTER_DRAM] = words * loads
    words, loads = dram_words(nest, OFMAP)
    found[OFMAP_READ] = found[OFMAP_SPILLED] = words * (loads - 1)
    for operand in range(3):
        found[IFMAP_RESIDENT + operand] = nest.words[operand]
