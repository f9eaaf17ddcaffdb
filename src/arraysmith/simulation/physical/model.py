"""The model `physical`: what a layer really takes under a mapping, and which buffers it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraysmith.errors import InvalidHardwareError, InvalidMappingError
from arraysmith.physical_performance import (
    SETS,
    BufferTraffic,
    Energy,
    PhysicalLayerMetrics,
    PhysicalNetworkMetrics,
    Triple,
)
from arraysmith.simulation.physical.array import MICROARCHITECTURES
from arraysmith.simulation.physical.closed_form import COLUMNS, evaluate
from arraysmith.simulation.physical.cost import area_mm2, energy_tables
from arraysmith.simulation.physical.nest import groups_at_once
from arraysmith.simulation.physical.vectors import (
    accelerator_vector,
    layer_vector,
    mapping_vector,
)
from arraysmith.workload import ceil_div

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arraysmith.formats.technology import Technology
    from arraysmith.hardware import PhysicalAccelerator
    from arraysmith.mapping import Mapping
    from arraysmith.simulation.physical.cost import EnergyTable
    from arraysmith.workload import Layer, Workload

OPERANDS = ("ifmap", "filter", "ofmap")
Tables = dict[str, "EnergyTable"]


def simulate_layer(
    layer: Layer,
    accelerator: PhysicalAccelerator,
    mapping: Mapping,
    tables: Tables,
) -> PhysicalLayerMetrics:
    """One layer on one accelerator under one mapping.

    Args:
        layer: what to compute.
        accelerator: what on.
        mapping: how.
        tables: what it costs, by set: low, mid, high.

    Raises:
        InvalidMappingError: the mapping does not fit the layer, the accelerator or its buffers.
    """
    check(layer, accelerator, mapping)
    vectors = layer_vector(layer), accelerator_vector(accelerator)
    vector = mapping_vector(mapping)
    counted = evaluate(*vectors, vector[None])[0]
    found = dict(zip(COLUMNS, map(int, counted), strict=True))
    traffic = _traffic(found)
    _check_buffers(layer, accelerator, traffic)
    loops, tile = layer.loops, mapping.tile
    together = int(groups_at_once(*vectors, vector[0]))
    return PhysicalLayerMetrics(
        name=layer.name,
        mapping=mapping,
        macs=layer.macs,
        pes=accelerator.pes,
        total_cycles=found["total_cycles"],
        compute_cycles=found["compute_cycles"],
        fill_drain_cycles=found["array_cycles"] - found["compute_cycles"],
        stall_cycles=found["total_cycles"] - found["array_cycles"],
        steps=ceil_div(loops.groups, together)
        * loops.images
        * ceil_div(loops.rows, tile.rows)
        * ceil_div(loops.cols, tile.cols)
        * ceil_div(loops.out_channels, tile.out_channels)
        * ceil_div(loops.in_channels, tile.in_channels),
        ifmap=traffic[0],
        filter=traffic[1],
        ofmap=traffic[2],
        dram_bytes=_dram_bytes(found, accelerator),
        energy=_energy(layer, accelerator, found, tables),
        groups_at_once=together,
    )


def simulate(
    workload: Workload,
    accelerator: PhysicalAccelerator,
    mappings: Sequence[Mapping],
    technology: Technology,
) -> PhysicalNetworkMetrics:
    """All layers of a workload, each under its mapping.

    Raises:
        InvalidMappingError: a mapping does not fit its layer, or there is not one for each.
    """
    if len(mappings) != len(workload.layers):
        raise InvalidMappingError(
            f"{len(mappings)} mappings for the {len(workload.layers)} layers of "
            f"{workload.name!r}; give one for each"
        )
    layers = tuple(
        simulate_layer(
            layer,
            accelerator,
            mapping,
            energy_tables(technology, accelerator, mapping.microarchitecture),
        )
        for layer, mapping in zip(workload.layers, mappings, strict=True)
    )
    return network_metrics(workload, accelerator, layers, technology)


def network_metrics(
    workload: Workload,
    accelerator: PhysicalAccelerator,
    layers: tuple[PhysicalLayerMetrics, ...],
    technology: Technology,
) -> PhysicalNetworkMetrics:
    """The layers of a workload put together with what they ran on."""
    areas = area_mm2(technology, accelerator)
    return PhysicalNetworkMetrics(
        workload=workload.name,
        technology=technology.name,
        rows=accelerator.rows,
        cols=accelerator.cols,
        microarchitectures=tuple(each.value for each in accelerator.microarchitectures),
        ifmap_buffer_kib=accelerator.ifmap_buffer_kib,
        filter_buffer_kib=accelerator.filter_buffer_kib,
        ofmap_buffer_kib=accelerator.ofmap_buffer_kib,
        double_buffered=accelerator.double_buffered,
        dram_bytes_per_cycle=float(accelerator.dram_bytes_per_cycle),
        array_area_mm2=_triple({name: areas[name].array_mm2 for name in SETS}),
        buffers_area_mm2=_triple({name: areas[name].buffers_mm2 for name in SETS}),
        layers=layers,
    )


def check(layer: Layer, accelerator: PhysicalAccelerator, mapping: Mapping) -> None:
    """Whether a mapping is one of this layer on this array; its buffers aside.

    Raises:
        InvalidMappingError: it is not.
    """
    if mapping.microarchitecture not in accelerator.microarchitectures:
        raise InvalidMappingError(
            f"layer {layer.name!r}: its mapping is for {mapping.microarchitecture}, the array can "
            f"do {', '.join(accelerator.microarchitectures)}"
        )
    mapping.check_fits(layer.loops, layer.name)


def _traffic(found: dict[str, int]) -> tuple[BufferTraffic, BufferTraffic, BufferTraffic]:
    ifmap, filter_ = (
        BufferTraffic(
            dram_words_read=found[f"{operand}_dram_words"],
            dram_words_written=0,
            array_reads=found[f"{operand}_array_reads"],
            array_writes=0,
            resident_words=found[f"{operand}_resident_words"],
        )
        for operand in OPERANDS[:2]
    )
    ofmap = BufferTraffic(
        dram_words_read=found["ofmap_dram_words_read"],
        dram_words_written=found["ofmap_dram_words_spilled"] + found["ofmap_dram_words_output"],
        array_reads=found["ofmap_array_reads"],
        array_writes=found["ofmap_array_writes"],
        resident_words=found["ofmap_resident_words"],
    )
    return ifmap, filter_, ofmap


def _check_buffers(
    layer: Layer, accelerator: PhysicalAccelerator, traffic: tuple[BufferTraffic, ...]
) -> None:
    for operand, moved in zip(OPERANDS, traffic, strict=True):
        kib = getattr(accelerator, f"{operand}_buffer_kib")
        word = accelerator.psum_bytes if operand == "ofmap" else accelerator.operand_bytes
        needed = moved.resident_words * word
        if needed > accelerator.usable_bytes(kib):
            raise InvalidMappingError(
                f"layer {layer.name!r}: its mapping keeps {needed:,} bytes of {operand}, of a "
                f"buffer of {kib} KiB a tile may take {accelerator.usable_bytes(kib):,}; "
                f"give {least_kib(needed, accelerator)} KiB or smaller tiles"
            )


def least_kib(needed_bytes: int, accelerator: PhysicalAccelerator) -> int:
    """The smallest buffer of whose usable part a tile of so many bytes is no more."""
    return ceil_div(needed_bytes * (2 if accelerator.double_buffered else 1), 1024)


def check_smallest_tiles(layer: Layer, accelerator: PhysicalAccelerator) -> None:
    """Whether there is any tile of a layer that fits the buffers.

    Raises:
        InvalidHardwareError: not even the smallest does; the message names the buffer and the least
            KiB that would do.
    """
    window = layer.loops.filter_rows * layer.loops.filter_cols
    vectors = layer_vector(layer), accelerator_vector(accelerator)
    # An array that cannot lay groups side by side needs the least.
    together = min(
        int(groups_at_once(*vectors, MICROARCHITECTURES.index(each)))
        for each in accelerator.microarchitectures
    )
    needed = {
        "ifmap": together * window * accelerator.operand_bytes,
        "filter": together * window * accelerator.operand_bytes,
        "ofmap": together * accelerator.psum_bytes,
    }
    for operand in OPERANDS:
        kib = getattr(accelerator, f"{operand}_buffer_kib")
        if needed[operand] > accelerator.usable_bytes(kib):
            raise InvalidHardwareError(
                f"layer {layer.name!r}: its smallest tile takes {needed[operand]:,} bytes of "
                f"{operand}, of a buffer of {kib} KiB a tile may take "
                f"{accelerator.usable_bytes(kib):,}; give at least "
                f"{least_kib(needed[operand], accelerator)} KiB"
            )


def _dram_bytes(found: dict[str, int], accelerator: PhysicalAccelerator) -> int:
    operands = found["ifmap_dram_words"] + found["filter_dram_words"]
    psums = found["ofmap_dram_words_read"] + found["ofmap_dram_words_spilled"]
    return (
        operands * accelerator.operand_bytes
        + psums * accelerator.psum_bytes
        + found["ofmap_dram_words_output"] * accelerator.output_bytes
    )


def _energy(
    layer: Layer, accelerator: PhysicalAccelerator, found: dict[str, int], tables: Tables
) -> Energy:
    """(10) in docs/physical.md, by where it goes."""
    operand, psum = accelerator.operand_bytes, accelerator.psum_bytes
    spilled, read = found["ofmap_dram_words_spilled"], found["ofmap_dram_words_read"]
    outputs = found["ofmap_dram_words_output"] * accelerator.output_bytes

    def each(cost: str, count: int) -> Triple:
        return _triple({name: getattr(tables[name], cost) * count for name in SETS})

    def buffer(name: str, read_bytes: int, written_bytes: int) -> Triple:
        reads = each(f"{name}_read_pj_per_byte", read_bytes)
        writes = each(f"{name}_write_pj_per_byte", written_bytes)
        return reads[0] + writes[0], reads[1] + writes[1], reads[2] + writes[2]

    return Energy(
        mac_pj=each("mac_pj", layer.macs),
        pe_cycles_pj=each("pe_cycle_pj", accelerator.pes * found["array_cycles"]),
        ifmap_buffer_pj=buffer(
            "ifmap", operand * found["ifmap_array_reads"], operand * found["ifmap_dram_words"]
        ),
        filter_buffer_pj=buffer(
            "filter", operand * found["filter_array_reads"], operand * found["filter_dram_words"]
        ),
        ofmap_buffer_pj=buffer(
            "ofmap",
            psum * (found["ofmap_array_reads"] + spilled) + outputs,
            psum * (found["ofmap_array_writes"] + read),
        ),
        dram_pj=each("dram_pj_per_byte", _dram_bytes(found, accelerator)),
    )


def _triple(by_set: dict[str, float]) -> Triple:
    return by_set["low"], by_set["mid"], by_set["high"]
