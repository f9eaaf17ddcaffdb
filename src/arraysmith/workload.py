"""What an array has to compute: layers as matrix products, without weights.

`Gemm(M, N, K)` is (M×K)·(K×N). A `Conv2d` is one by im2col and keeps its geometry, because memories
care for the halo and not for the duplicates. `groups` and `batch` are 1 unless given; SCALE-Sim
knows neither.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from arraysmith.errors import InvalidWorkloadError

MAX_DIMENSION = 2**31 - 1
"""Of a layer, also as a matrix product; it keeps NumPy's 64-bit integers from wrapping."""


def ceil_div(dividend: int, divisor: int) -> int:
    """Rounded up."""
    return -(-dividend // divisor)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSizes:
    """A layer as loops; a Gemm is a convolution of one column with a 1×1 filter."""

    groups: int
    images: int
    rows: int
    """Of the ofmap, like the columns."""
    cols: int
    out_channels: int
    """Of one group, like the input channels."""
    in_channels: int
    filter_rows: int = 1
    filter_cols: int = 1
    stride: int = 1

    @property
    def taps(self) -> int:
        """Words of a filter in one input channel."""
        return self.filter_rows * self.filter_cols


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm:
    """(M×K)·(K×N); a fully connected layer has M = 1, N outputs and K inputs."""

    name: str
    M: int
    N: int
    K: int
    batch: int = 1
    """Independent products of this shape, as in attention; images that share a filter are M."""

    def __post_init__(self) -> None:
        """All dimensions are at least 1."""
        _check_dimensions(self)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations."""
        return self.batch * self.M * self.N * self.K

    @property
    def loops(self) -> LoopSizes:
        """The loops of the product."""
        return LoopSizes(
            groups=self.batch,
            images=1,
            rows=self.M,
            cols=1,
            out_channels=self.N,
            in_channels=self.K,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv2d:
    """A 2-D convolution; with `groups` equal to its channels, a depthwise one."""

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
    groups: int = 1
    """Independent convolutions side by side; both channel counts are of all of them together."""
    batch: int = 1
    """Images, computed with the same filter."""

    def __post_init__(self) -> None:
        """Dimensions are at least 1, the filter fits the padded ifmap, groups divide channels."""
        _check_dimensions(self)
        for channels in ("in_channels", "out_channels"):
            if getattr(self, channels) % self.groups:
                raise InvalidWorkloadError(
                    f"layer {self.name!r}: {self.groups} groups do not divide its "
                    f"{getattr(self, channels)} {channels}"
                )
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
        """The matrix product that im2col makes of one group; as many of them as groups."""
        return Gemm(
            name=self.name,
            M=self.batch * self.ofmap_rows * self.ofmap_cols,
            N=self.out_channels // self.groups,
            K=self.filter_rows * self.filter_cols * self.in_channels // self.groups,
            batch=self.groups,
        )

    @property
    def loops(self) -> LoopSizes:
        """The loops of the convolution."""
        return LoopSizes(
            groups=self.groups,
            images=self.batch,
            rows=self.ofmap_rows,
            cols=self.ofmap_cols,
            out_channels=self.out_channels // self.groups,
            in_channels=self.in_channels // self.groups,
            filter_rows=self.filter_rows,
            filter_cols=self.filter_cols,
            stride=self.stride,
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


def batched(workload: Workload, images: int) -> Workload:
    """The same layers for several images at a time, which share every filter.

    A convolution keeps its images apart; those of a Gemm are more rows, unless it is a batch of
    independent products already, as in attention: then there are more of them.

    Raises:
        InvalidWorkloadError: no image, or dimensions beyond the limit.
    """
    if images < 1:
        raise InvalidWorkloadError(f"a batch of {images} images, needs at least 1")
    layers: list[Layer] = []
    for layer in workload.layers:
        if isinstance(layer, Gemm) and layer.batch == 1:
            layers.append(replace(layer, M=layer.M * images))
        else:
            layers.append(replace(layer, batch=layer.batch * images))
    return replace(workload, layers=tuple(layers))


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
