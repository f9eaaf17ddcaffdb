"""SCALE-Sim's figures beside those of the model `physical`, with what lies between them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from arraysmith.formats.technology import read_technology
from arraysmith.hardware import (
    PIPELINED,
    SERIAL,
    Dataflow,
    Microarchitecture,
    PhysicalAccelerator,
)
from arraysmith.physical_performance import ModelsCompared
from arraysmith.search.mapper import map_workload
from arraysmith.simulation.physical.array import MICROARCHITECTURES, on_array
from arraysmith.workload import Conv2d, ceil_div

if TYPE_CHECKING:
    from arraysmith.performance import LayerMetrics, NetworkMetrics
    from arraysmith.physical_performance import PhysicalLayerMetrics
    from arraysmith.workload import Layer, Workload


def compare_models(
    workload: Workload, found: NetworkMetrics, dram_bytes_per_cycle: float = 16
) -> tuple[ModelsCompared, ...]:
    """What SCALE-Sim says of each layer, and what an array like its own would take.

    Args:
        workload: what was simulated.
        found: what came of it.
        dram_bytes_per_cycle: of the one channel that SCALE-Sim does not have.

    Raises:
        InvalidHardwareError: a buffer holds no tile of a layer.
    """
    dataflow = Dataflow(found.dataflow)
    serial = PhysicalAccelerator(
        rows=found.rows,
        cols=found.cols,
        microarchitectures=(SERIAL[dataflow],),
        ifmap_buffer_kib=found.ifmap_buffer_kib,
        filter_buffer_kib=found.filter_buffer_kib,
        ofmap_buffer_kib=found.ofmap_buffer_kib,
        dram_bytes_per_cycle=dram_bytes_per_cycle,
    )
    pipelined = replace(serial, microarchitectures=(PIPELINED[dataflow],))
    technology = read_technology()
    both = (map_workload(workload, each, technology) for each in (serial, pipelined))
    return tuple(
        _compared(layer, serial, theirs, slow.best, fast.best)
        for layer, theirs, slow, fast in zip(workload.layers, found.layers, *both, strict=True)
    )


def _serial_folds(
    layer: Layer, accelerator: PhysicalAccelerator, microarchitecture: Microarchitecture
) -> int:
    """Cycles of a layer that is one tile, its folds one after the other, drained."""
    product = layer.gemm if isinstance(layer, Conv2d) else layer
    micro = MICROARCHITECTURES.index(microarchitecture)
    S_R, S_C, T = on_array(micro, product.M, product.N, product.K)
    folds = ceil_div(S_R, accelerator.rows) * ceil_div(S_C, accelerator.cols)
    return folds * (2 * accelerator.rows + accelerator.cols + T - 2)


def _compared(
    layer: Layer,
    serial_array: PhysicalAccelerator,
    theirs: LayerMetrics,
    serial: PhysicalLayerMetrics,
    pipelined: PhysicalLayerMetrics,
) -> ModelsCompared:
    folds_alone = theirs.total_cycles - theirs.stall_cycles
    on_serial = serial.total_cycles - serial.stall_cycles
    on_pipelined = pipelined.total_cycles - pipelined.stall_cycles
    real = _serial_folds(layer, serial_array, serial.mapping.microarchitecture)
    return ModelsCompared(
        layer=layer.name,
        scalesim_cycles=theirs.total_cycles,
        scalesim_stall_cycles=theirs.stall_cycles,
        habits_cycles=real - folds_alone,
        tiles_cycles=on_serial - real,
        serial=serial.mapping.microarchitecture.value,
        serial_cycles=serial.total_cycles,
        serial_stall_cycles=serial.stall_cycles,
        overlap_cycles=on_pipelined - on_serial,
        pipelined=pipelined.mapping.microarchitecture.value,
        pipelined_cycles=pipelined.total_cycles,
        pipelined_stall_cycles=pipelined.stall_cycles,
        scalesim_ifmap_words=theirs.ifmap.dram_words,
        ifmap_words=pipelined.ifmap.dram_words_read,
    )
