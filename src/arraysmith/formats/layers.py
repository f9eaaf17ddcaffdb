"""What an array computes of a network, layer by layer: convolutions and products.

A convolution that `Conv2d` cannot say (dilated, strides that differ, 3-D) becomes the product that
im2col makes of it: its MACs are exact, its overlapping windows are words of their own then.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from arraysmith.errors import InvalidWorkloadError
from arraysmith.workload import Conv2d, Gemm

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from arraysmith.workload import Layer

    Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One dimension in which a filter moves."""

    size: int
    before: int = 0
    """Padding."""
    after: int = 0
    taps: int
    stride: int
    dilation: int

    @property
    def padded(self) -> int:
        """Words with padding."""
        return self.size + self.before + self.after

    @property
    def reach(self) -> int:
        """Of the filter, from its first tap to its last."""
        return self.dilation * (self.taps - 1) + 1

    @property
    def outputs(self) -> int:
        """Windows."""
        return (self.padded - self.reach) // self.stride + 1


def convolution_layer(
    name: str, *, images: int, channels: tuple[int, int], groups: int, axes: tuple[Axis, ...]
) -> Layer:
    """A convolution as `Conv2d` if it can be one, else as the product of im2col.

    Args:
        name: the layer's.
        images: a batch.
        channels: into all groups together, and out of them.
        groups: of channels.
        axes: one or more, each with at least one window.
    """
    in_channels, out_channels = channels
    outputs = tuple(axis.outputs for axis in axes)
    if len(axes) == 1:
        line = Axis(size=1, taps=1, stride=axes[0].stride, dilation=1)
        axes, outputs = (line, *axes), (1, *outputs)
    if len(axes) == 2 and all(axis.reach == axis.taps for axis in axes):
        rows, cols = axes
        # An axis of one output never takes a step, so it may have the other's stride.
        steps = [axis.stride for axis in axes if axis.outputs > 1]
        padding = {rows.before, rows.after, cols.before, cols.after}
        equal = len(padding) == 1
        layer = Conv2d(
            name=name,
            ifmap_rows=rows.size if equal else rows.padded,
            ifmap_cols=cols.size if equal else cols.padded,
            filter_rows=rows.taps,
            filter_cols=cols.taps,
            in_channels=in_channels,
            out_channels=out_channels,
            stride=max(steps or [rows.stride, cols.stride]),
            padding=padding.pop() if equal else 0,
            groups=groups,
            batch=images,
        )
        if (layer.ofmap_rows, layer.ofmap_cols) == outputs:
            return layer
    return Gemm(
        name=name,
        M=images * prod(outputs),
        N=out_channels // groups,
        K=prod(axis.taps for axis in axes) * in_channels // groups,
        batch=groups,
    )


def product_layer(name: str, left: Shape, right: Shape) -> Gemm:
    """A product of stacks of matrices that are broadcast.

    Matrices that share the right operand are more rows, those that share the left one more columns.

    Raises:
        InvalidWorkloadError: shapes do not multiply.
    """
    mismatch = InvalidWorkloadError(f"layer {name!r}: shapes {left} and {right} do not multiply")
    if not left or not right:
        raise mismatch
    *stack, M, K = (1, *left) if len(left) == 1 else left
    *other_stack, depth, N = (*right, 1) if len(right) == 1 else right
    longest = max(len(stack), len(other_stack))
    stack = [1] * (longest - len(stack)) + stack
    other_stack = [1] * (longest - len(other_stack)) + other_stack
    batch = 1
    for mine, other in zip(stack, other_stack, strict=True):
        if mine == other:
            batch *= mine
        elif other == 1:
            M *= mine
        elif mine == 1:
            N *= other
        else:
            raise mismatch
    if depth != K:
        raise mismatch
    return Gemm(name=name, M=M, N=N, K=K, batch=batch)


def apart(layer: Layer) -> Iterator[Layer]:
    """The groups of a convolution, or the products of a batch, one by one."""
    if isinstance(layer, Gemm):
        if layer.batch == 1:
            yield layer
            return
        for number in range(layer.batch):
            yield replace(layer, name=f"{layer.name}_product{number}", batch=1)
        return
    for number in range(layer.groups):
        yield replace(
            layer,
            name=f"{layer.name}_group{number}" if layer.groups > 1 else layer.name,
            in_channels=layer.in_channels // layer.groups,
            out_channels=layer.out_channels // layer.groups,
            groups=1,
        )


def uniquely_named(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Layers whose doubled names have got numbers."""
    taken: set[str] = set()
    last: Counter[str] = Counter()
    named = []
    for layer in layers:
        found = layer.name
        while found in taken:
            last[layer.name] += 1
            found = f"{layer.name}_{last[layer.name] + 1}"
        taken.add(found)
        named.append(replace(layer, name=found))
    return tuple(named)
