"""The accelerator: an array of PEs, its dataflow, three buffers and the DRAM behind them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from arraysmith.errors import InvalidHardwareError

MAX_SIDE = 65_536
"""The longest side of an array."""
_WHOLE = ("rows", "cols", "ifmap_buffer_kib", "filter_buffer_kib", "ofmap_buffer_kib")


class Dataflow(StrEnum):
    """Which operand stays in the PEs: the outputs, the weights (filter) or the inputs (ifmap)."""

    OS = "os"
    WS = "ws"
    IS = "is"


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
