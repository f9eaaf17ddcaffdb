"""The accelerator: an array of PEs, its dataflow, three buffers and the DRAM behind them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from arraysmith.errors import InvalidHardwareError

MAX_SIDE = 65_536
"""The longest side of an array."""
DRAM_BYTES_PER_CYCLE = 0.01, 1_000_000
"""The least and the most that `PhysicalAccelerator` takes."""
_WHOLE = ("rows", "cols", "ifmap_buffer_kib", "filter_buffer_kib", "ofmap_buffer_kib")


class Dataflow(StrEnum):
    """Which operand stays in the PEs: the outputs, the weights (filter) or the inputs (ifmap)."""

    OS = "os"
    WS = "ws"
    IS = "is"


class Microarchitecture(StrEnum):
    """How an array of a dataflow is built, which is how its folds follow each other."""

    OS_BUS = "os-bus"
    """A result bus in each column, so that results leave while the others still add up."""
    OS_SHIFT = "os-shift"
    """Results are shifted out before the next fold begins."""
    OS_OVERLAPPED = "os-overlapped"
    """The next fold begins while the results of the last leave."""
    WS_SERIAL = "ws-serial"
    WS_DOUBLE_BUFFERED = "ws-double-buffered"
    """The next fold's weights are loaded behind those in use."""
    IS_SERIAL = "is-serial"
    """The array of WS with the operands swapped; so is the next."""
    IS_DOUBLE_BUFFERED = "is-double-buffered"

    @property
    def dataflow(self) -> Dataflow:
        """Which operand stays in the PEs."""
        return Dataflow(self.value[:2])


SERIAL = {
    Dataflow.OS: Microarchitecture.OS_SHIFT,
    Dataflow.WS: Microarchitecture.WS_SERIAL,
    Dataflow.IS: Microarchitecture.IS_SERIAL,
}
"""Whose folds follow each other as SCALE-Sim's do."""
PIPELINED = {
    Dataflow.OS: Microarchitecture.OS_OVERLAPPED,
    Dataflow.WS: Microarchitecture.WS_DOUBLE_BUFFERED,
    Dataflow.IS: Microarchitecture.IS_DOUBLE_BUFFERED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamBandwidths:
    """What SCALE-Sim's USER mode gives each stream: a DRAM channel of its own (Q6)."""

    ifmap_words_per_cycle: int
    filter_words_per_cycle: int
    ofmap_words_per_cycle: int

    def __post_init__(self) -> None:
        """A channel moves something."""
        for name in self.__slots__:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InvalidHardwareError(
                    f"{name} is {value!r}, needs a whole number of at least 1"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """A systolic array of `rows` × `cols` PEs and its memories; a word is one byte."""

    rows: int
    cols: int
    dataflow: Dataflow
    ifmap_buffer_kib: int = 64
    filter_buffer_kib: int = 64
    ofmap_buffer_kib: int = 64
    dram_words_per_cycle: float | None = None
    """What the DRAM channel gives; None: as much as is asked for."""

    def __post_init__(self) -> None:
        """An array has PEs, a buffer has bytes."""
        if not isinstance(self.dataflow, Dataflow):
            raise InvalidHardwareError(
                f"dataflow is {self.dataflow!r}; give one of Dataflow.OS, Dataflow.WS, Dataflow.IS"
            )
        for name in _WHOLE:
            if not isinstance(getattr(self, name), int):
                raise InvalidHardwareError(f"{name} is {getattr(self, name)!r}, not a whole number")
        if self.rows < 1 or self.cols < 1:
            raise InvalidHardwareError(
                f"an array of {self.rows}×{self.cols} PEs cannot be; give at least 1×1"
            )
        if max(self.rows, self.cols) > MAX_SIDE:
            raise InvalidHardwareError(
                f"an array of {self.rows}×{self.cols} PEs: a side has at most {MAX_SIDE:,}"
            )
        for name in _WHOLE[2:]:
            if getattr(self, name) < 1:
                raise InvalidHardwareError(f"{name} is {getattr(self, name)}, needs at least 1")
        if self.dram_words_per_cycle is not None and not self.dram_words_per_cycle > 0:
            raise InvalidHardwareError(
                f"a DRAM bandwidth of {self.dram_words_per_cycle} words a cycle cannot be; "
                "give a positive number"
            )

    @property
    def pes(self) -> int:
        """Processing elements."""
        return self.rows * self.cols

    def __str__(self) -> str:
        """Rows × columns and dataflow, as people write it."""
        return f"{self.rows}×{self.cols} {self.dataflow.upper()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalAccelerator:
    """A systolic array with real memories: what the model `physical` is about."""

    rows: int
    cols: int
    microarchitectures: tuple[Microarchitecture, ...]
    """Those a layer may choose from; an array that can do one has one."""
    ifmap_buffer_kib: int = 64
    filter_buffer_kib: int = 64
    ofmap_buffer_kib: int = 64
    dram_bytes_per_cycle: float | Fraction = 16
    """Of the one channel that all three streams share."""
    ifmap_port_bytes: int | None = None
    """What passes between buffer and array in a cycle; None: as much as the array takes."""
    filter_port_bytes: int | None = None
    ofmap_port_bytes: int | None = None
    """Reads and writes of partial sums have one of this width each."""
    operand_bytes: int = 1
    psum_bytes: int = 4
    output_bytes: int = 1
    double_buffered: bool = True
    """Half of a buffer is computed from while the other half is filled or drained."""

    def __post_init__(self) -> None:
        """An array has PEs, buffers have bytes, the DRAM gives something."""
        if not self.microarchitectures:
            raise InvalidHardwareError("an array without a microarchitecture; name at least one")
        for each in self.microarchitectures:
            if not isinstance(each, Microarchitecture):
                raise InvalidHardwareError(
                    f"microarchitecture is {each!r}; give one of " + ", ".join(Microarchitecture)
                )
        for name in self.__slots__:
            value = getattr(self, name)
            if name in {"microarchitectures", "dram_bytes_per_cycle", "double_buffered"}:
                continue
            if value is None and name.endswith("port_bytes"):
                continue
            if not isinstance(value, int) or value < 1:
                raise InvalidHardwareError(
                    f"{name} is {value!r}, needs a whole number of at least 1"
                )
        if max(self.rows, self.cols) > MAX_SIDE:
            raise InvalidHardwareError(
                f"an array of {self.rows}×{self.cols} PEs: a side has at most {MAX_SIDE:,}"
            )
        low, high = DRAM_BYTES_PER_CYCLE
        bandwidth: object = self.dram_bytes_per_cycle
        if not isinstance(bandwidth, int | float | Fraction) or not low <= bandwidth <= high:
            raise InvalidHardwareError(
                f"a DRAM bandwidth of {bandwidth} bytes a cycle cannot be; give {low} to {high:,}"
            )

    @property
    def pes(self) -> int:
        """Processing elements."""
        return self.rows * self.cols

    @property
    def dram_rate(self) -> Fraction:
        """Bytes a cycle: 12.8 is 64/5.

        The nearest with a denominator that keeps bytes times denominator within 64 bits; a clock
        seldom divides a data rate, 25.6 GB/s at 900 MHz are 28.444444444444443.
        """
        return Fraction(str(self.dram_bytes_per_cycle)).limit_denominator(1000)

    def usable_bytes(self, buffer_kib: int) -> int:
        """What a tile may take of a buffer."""
        return buffer_kib * 1024 // (2 if self.double_buffered else 1)

    def __str__(self) -> str:
        """Rows × columns and what may lie on it."""
        return f"{self.rows}×{self.cols} {', '.join(self.microarchitectures)}"
