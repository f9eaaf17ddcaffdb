"""How one layer lies on one accelerator: what is computed at a time, and in which order.

`docs/physical.md` defines the loop nest that a mapping stands for.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import permutations
from typing import TYPE_CHECKING

from arraysmith.errors import InvalidMappingError
from arraysmith.hardware import Microarchitecture
from arraysmith.workload import ceil_div

if TYPE_CHECKING:
    from arraysmith.workload import LoopSizes

ORDERS = tuple("".join(order) for order in permutations("MNK"))
"""M: output pixels, N: output channels, K: input channels with their filter taps."""


class Goal(StrEnum):
    """What a mapping is to be best at."""

    CYCLES = "cycles"
    ENERGY = "energy"
    EDP = "edp"
    """Energy times cycles."""
    FRONT = "front"
    """Cycles and energy: every mapping that none betters in both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """What one step computes at most, of one image and one pack of groups."""

    rows: int
    """Of the ofmap; for a Gemm, of the product."""
    cols: int
    """Of the ofmap; 1 for a Gemm."""
    out_channels: int
    """Of one group; for a Gemm N."""
    in_channels: int
    """Of one group; for a Gemm K."""

    def __post_init__(self) -> None:
        """Something is computed."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or value < 1:
                raise InvalidMappingError(
                    f"a tile's {field.name} is {value!r}, needs a whole number of at least 1"
                )

    def __str__(self) -> str:
        """Rows × columns of pixels, output channels, input channels."""
        return f"{self.rows}×{self.cols} pixels, {self.out_channels} out, {self.in_channels} in"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """The loop nest of one layer; see `docs/physical.md`."""

    microarchitecture: Microarchitecture
    order: str
    """The three outer loops from outermost to innermost, as letters: "KMN"."""
    tile: Tile
    blocked: str | None = None
    """Which of the first two loops runs over blocks of tiles, whose tiles the innermost loop visits
    while the operand that both of them index stays."""
    tiles_per_block: int = 1

    def __post_init__(self) -> None:
        """An order of three loops, a block of several tiles or none."""
        if not isinstance(self.microarchitecture, Microarchitecture):
            raise InvalidMappingError(
                f"microarchitecture is {self.microarchitecture!r}; give one of "
                + ", ".join(Microarchitecture)
            )
        if self.order not in ORDERS:
            raise InvalidMappingError(
                f"loop order is {self.order!r}; give one of {', '.join(ORDERS)}"
            )
        tiles: object = self.tiles_per_block  # checked, not trusted: it may come from a file
        if not isinstance(tiles, int) or tiles < 1:
            raise InvalidMappingError(
                f"tiles_per_block is {self.tiles_per_block!r}, needs a whole number of at least 1"
            )
        if (self.blocked is None) != (self.tiles_per_block == 1):
            raise InvalidMappingError(
                f"blocked is {self.blocked!r} with {self.tiles_per_block} tiles a block; "
                "give both or neither"
            )
        if self.blocked is not None and self.blocked not in self.order[:2]:
            raise InvalidMappingError(
                f"blocked is {self.blocked!r}; of the order {self.order} only the first two loops "
                "can be blocked"
            )

    def check_fits(self, sizes: LoopSizes, layer: str) -> None:
        """Whether this is a mapping of a layer with these loops.

        Raises:
            InvalidMappingError: a tile larger than the layer, or blocks that do not divide it.
        """
        for field in fields(self.tile):
            given, whole = getattr(self.tile, field.name), getattr(sizes, field.name)
            if given > whole:
                raise InvalidMappingError(
                    f"layer {layer!r}: a tile of {given} {field.name} is larger than the layer's "
                    f"{whole}"
                )
        if self.blocked is not None:
            name = {"M": "rows", "N": "out_channels", "K": "in_channels"}[self.blocked]
            tiles = ceil_div(getattr(sizes, name), getattr(self.tile, name))
            if tiles % self.tiles_per_block:
                raise InvalidMappingError(
                    f"layer {layer!r}: blocks of {self.tiles_per_block} tiles do not divide the "
                    f"{tiles} tiles of its {name}"
                )
