"""What an array has to compute: layers as matrix products, without weights.

`Gemm(M, N, K)` is (M×K)·(K×N). A `Conv2d` is one by im2col and keeps its geometry, because memories
care for the halo and not for the duplicates. Batch is 1 throughout.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from arraysmith.errors import InvalidWorkloadError

MAX_DIMENSION = 2**31 - 1
"""Of a layer, also as a matrix product; it keeps NumPy's 64-bit integers from wrapping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm:
    """(M×K)·(K×N); a fully connected layer has M = 1, N outputs and K inputs."""

    name: str
    M: int
    N: int
    K: int

    def __post_init__(self) -> None:
        """All dimensions are at least 1."""
        _check_dimensions(self)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations."""
        return self.M * self.N * self.K


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv2d:
    """A dense 2-D convolution of one image."""

    name: str
    ifmap_rows: int
    """Without padding."""
    ifmap_cols: int
    filter_rows: int
    filter_cols: int
    in_channels: int
    out_channels: int
    stride: int = 1
    padding: int = 0
    """Zeros on each of the four sides."""

    def __post_init__(self) -> None:
        """All dimensions are at least 1 and the filter fits into the padded ifmap."""
        _check_dimensions(self)
        for filter_size, ifmap_size, axis in (
            (self.filter_rows, self.padded_rows, "rows"),
            (self.filter_cols, self.padded_cols, "columns"),
        ):
            if filter_size > ifmap_size:
                raise InvalidWorkloadError(
                    f"layer {self.name!r}: a filter of {filter_size} {axis} is larger than its "
                    f"ifmap of {ifmap_size}; give the padded ifmap size"
                )
        _ = self.gemm  # its dimensions are limited too

    @property
    def padded_rows(self) -> int:
        """Rows of the ifmap with padding."""
        return self.ifmap_rows + 2 * self.padding

    @property
    def padded_cols(self) -> int:
        """Columns of the ifmap with padding."""
        return self.ifmap_cols + 2 * self.padding

    @property
    def ofmap_rows(self) -> int:
        """Rows of the ofmap; windows that would hang over are not computed."""
        return (self.padded_rows - self.filter_rows) // self.stride + 1

    @property
    def ofmap_cols(self) -> int:
        """Columns of the ofmap."""
        return (self.padded_cols - self.filter_cols) // self.stride + 1

    @property
    def gemm(self) -> Gemm:
        """The matrix product that im2col makes of it."""
        return Gemm(
            name=self.name,
            M=self.ofmap_rows * self.ofmap_cols,
            N=self.out_channels,
            K=self.filter_rows * self.filter_cols * self.in_channels,
        )

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations."""
        return self.gemm.macs


Layer = Gemm | Conv2d


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A named sequence of layers, computed one after the other."""

    name: str
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        """There is something to do."""
        _check_name(self.name)
        if not self.layers:
            raise InvalidWorkloadError(f"workload {self.name!r} has no layers")

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of all layers."""
        return sum(layer.macs for layer in self.layers)


def _check_name(name: str) -> None:
    if not name.isprintable():
        raise InvalidWorkloadError(f"name {name!r} holds characters that cannot be shown")


def _check_dimensions(layer: Layer) -> None:
    _check_name(layer.name)
    for field in fields(layer):
        value = getattr(layer, field.name)
        least = 0 if field.name == "padding" else 1
        if field.name == "name":
            continue
        if not isinstance(value, int):
            raise InvalidWorkloadError(
                f"layer {layer.name!r}: {field.name} is {value!r}, not a whole number"
            )
        if value < least:
            raise InvalidWorkloadError(
                f"layer {layer.name!r}: {field.name} is {value}, needs at least {least}"
            )
        if value > MAX_DIMENSION:
            raise InvalidWorkloadError(
                f"layer {layer.name!r}: {field.name} is {value:,}, more than {MAX_DIMENSION:,}"
            )
