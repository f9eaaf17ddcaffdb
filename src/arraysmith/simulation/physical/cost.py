"""Energy and area: what counts cost, in three estimates that always go together.

    energy = macs · mac + PE-cycles · pe_cycle + DRAM bytes · dram
             + Σ buffers (bytes read · read + bytes written · write)

Counts are exact, picojoules and square millimetres are estimates (`UNCERTAINTY`). An `EnergyTable`
is all that an energy needs; it may be written by hand, or derived from a technology and an array by
`energy_tables`. Equations are derived in docs/technology.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from arraysmith.errors import InvalidHardwareError
from arraysmith.hardware import Dataflow, Microarchitecture

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from arraysmith.formats.technology import ConstantSet, Technology
    from arraysmith.hardware import PhysicalAccelerator

UNCERTAINTY = (
    "Counts are exact, energies and areas are estimates: "
    "MAC and SRAM energy ×/÷ 2–3, DRAM energy ×/÷ 2, area ×/÷ 1.5."
)
"""To be printed wherever an energy or an area is."""

_ACCESS_BITS = 64
WIDEST_ACCESS_BYTES = _ACCESS_BITS // 8
"""Of a single access; a wider port is several of them side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyTable:
    """What each thing that happens costs, on one array and its memories."""

    mac_pj: float
    """A multiplication and its addition."""
    pe_cycle_pj: float
    """The clock of a PE's flip-flops, in each cycle of the array, used or not."""
    ifmap_read_pj_per_byte: float
    ifmap_write_pj_per_byte: float
    filter_read_pj_per_byte: float
    filter_write_pj_per_byte: float
    ofmap_read_pj_per_byte: float
    ofmap_write_pj_per_byte: float
    dram_pj_per_byte: float
    """Read or written."""

    def __post_init__(self) -> None:
        """Nothing gives energy back."""
        for name in self.__slots__:
            value = getattr(self, name)
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not 0 <= value < math.inf
            ):
                raise InvalidHardwareError(
                    f"{name} is {value!r}, needs a finite number of at least 0"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """Where the silicon of an accelerator goes; its DRAM is another chip."""

    array_mm2: float
    buffers_mm2: float

    @property
    def total_mm2(self) -> float:
        """Array and buffers."""
        return self.array_mm2 + self.buffers_mm2


def energy_tables(
    technology: Technology,
    accelerator: PhysicalAccelerator,
    microarchitecture: Microarchitecture,
) -> dict[str, EnergyTable]:
    """The costs on an array built in one way, by set: low, mid, high. (1) to (6).

    Each figure is at least that of the set before. The reader of technologies sees to that for
    constants, but two SRAM curves of different exponents cross in some size.
    """
    tables: dict[str, EnergyTable] = {}
    floor = dict.fromkeys((field.name for field in fields(EnergyTable)), 0.0)
    for name, constants in technology.sets.items():
        found = _costs(constants, accelerator, microarchitecture)
        floor = {key: max(value, found[key]) for key, value in floor.items()}
        tables[name] = EnergyTable(**floor)
    return tables


def area_mm2(technology: Technology, accelerator: PhysicalAccelerator) -> dict[str, Area]:
    """The area of array and buffers, by set: low, mid, high. (7).

    An array that can do several dataflows has the PE of the largest.
    """
    kib = (
        accelerator.ifmap_buffer_kib + accelerator.filter_buffer_kib + accelerator.ofmap_buffer_kib
    )
    dataflows = {each.dataflow for each in accelerator.microarchitectures}
    return {
        name: Area(
            array_mm2=accelerator.pes
            * pe_mm2(constants, dataflows, accelerator.operand_bytes, accelerator.psum_bytes),
            buffers_mm2=kib * constants.sram_mm2_per_kib.value,
        )
        for name, constants in technology.sets.items()
    }


def pe_mm2(
    constants: ConstantSet, dataflows: Iterable[Dataflow], operand_bytes: int, psum_bytes: int
) -> float:
    """The placed area of a PE that can do all of these."""
    W, ACC = 8 * operand_bytes, 8 * psum_bytes
    nand2 = max(_pe_nand2(constants, dataflow, W, ACC) for dataflow in dataflows)
    return nand2 * constants.nand2_um2.value / constants.logic_utilization.value / 1e6


def ranks_agree(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether low, mid and high say the same of two designs: less, equal or more.

    Args:
        first: The totals of a design in the three sets.
        second: Those of another, in the same order.
    """
    return len({(a > b) - (a < b) for a, b in zip(first, second, strict=True)}) == 1


def flip_flops(microarchitecture: Microarchitecture, operand_bits: int, psum_bits: int) -> int:
    """Those of a PE, all of which the clock reaches in each cycle. (3).

    Every PE has two operands and a partial sum: WS and IS the one that stays, the one that passes
    and the sum that goes down; OS the two that pass and the sum that stays. Where folds overlap,
    what stays is there twice: the next weight and a bit that says when to swap; or, in OS, the
    result that leaves while the next one grows.
    """
    once = 2 * operand_bits + psum_bits
    if microarchitecture is Microarchitecture.OS_OVERLAPPED:
        return once + psum_bits
    if microarchitecture in {
        Microarchitecture.WS_DOUBLE_BUFFERED,
        Microarchitecture.IS_DOUBLE_BUFFERED,
    }:
        return once + operand_bits + 1
    return once


def sram_pj(
    pj_at_1_kib: float, exponent: float, shares: tuple[float, float], *, kib: int, bits: int
) -> float:
    """What one access to a buffer costs. (4), (5).

    Args:
        pj_at_1_kib: Of 64 bit.
        exponent: How that grows with KiB.
        shares: What 8 bit cost of 64, in 8 and in 256 KiB.
        kib: The buffer.
        bits: 8 to 64.
    """
    # In between by the doublings; outside of what was measured, the nearest that was.
    position = min(max((math.log2(kib) - 3) / 5, 0.0), 1.0)
    share = shares[0] + (shares[1] - shares[0]) * position
    narrowing = share + (1 - share) * (bits - 8) / (_ACCESS_BITS - 8)
    return float(pj_at_1_kib * kib**exponent * narrowing)


def _costs(
    constants: ConstantSet,
    accelerator: PhysicalAccelerator,
    microarchitecture: Microarchitecture,
) -> dict[str, float]:
    W, ACC = 8 * accelerator.operand_bytes, 8 * accelerator.psum_bytes
    multiply_pj = constants.multiply_pj.value * (W / 8) ** 2
    found = {
        "mac_pj": multiply_pj + constants.add_pj.value * ACC / 32,
        "pe_cycle_pj": flip_flops(microarchitecture, W, ACC) * constants.flip_flop_pj.value,
        "dram_pj_per_byte": 8 * constants.dram_pj_per_bit.value,
    }
    shares = (
        constants.sram_8bit_share_at_8_kib.value,
        constants.sram_8bit_share_at_256_kib.value,
    )
    curves = {
        "read": (constants.sram_read_pj, constants.sram_read_exponent),
        "write": (constants.sram_write_pj, constants.sram_write_exponent),
    }
    for operand, port_bytes in _port_bytes(accelerator, microarchitecture).items():
        kib = getattr(accelerator, f"{operand}_buffer_kib")
        access_bytes = min(port_bytes, WIDEST_ACCESS_BYTES)
        for direction, (at_1_kib, exponent) in curves.items():
            access_pj = sram_pj(
                at_1_kib.value, exponent.value, shares, kib=kib, bits=8 * access_bytes
            )
            found[f"{operand}_{direction}_pj_per_byte"] = access_pj / access_bytes
    return found


def _port_bytes(
    accelerator: PhysicalAccelerator, microarchitecture: Microarchitecture
) -> dict[str, int]:
    """What passes between buffer and array in a cycle; a port as wide as needed is an edge."""
    rows, cols = (side * accelerator.operand_bytes for side in (accelerator.rows, accelerator.cols))
    swapped = microarchitecture.dataflow is Dataflow.IS
    edges = {
        "ifmap": cols if swapped else rows,
        "filter": rows if swapped else cols,
        "ofmap": accelerator.cols * accelerator.psum_bytes,
    }
    return {
        operand: getattr(accelerator, f"{operand}_port_bytes") or edge
        for operand, edge in edges.items()
    }


def _pe_nand2(constants: ConstantSet, dataflow: Dataflow, W: int, ACC: int) -> float:
    """NAND2 equivalents of a PE."""
    is_os = dataflow is Dataflow.OS
    psum = constants.pe_nand2_per_psum_bit_os if is_os else constants.pe_nand2_per_psum_bit_ws
    return (
        constants.pe_nand2_per_square_bit.value * W**2
        + constants.pe_nand2_per_operand_bit.value * W
        + psum.value * ACC
    )
