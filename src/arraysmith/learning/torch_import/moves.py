"""ATen operations that move words, as `networks.moves`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from arraysmith.learning.torch_import.site import Value, rank_of
from arraysmith.networks.moves import Concat, Expand, Pad
from arraysmith.networks.operations import Lookup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from arraysmith.learning.torch_import.site import Operand, Site


def _passed(_: Site, *, x: Value, **__: object) -> Value:
    return x


def _dropped(site: Site, *, x: Value, p: float, train: bool) -> Value:
    site.settle(not train or p == 0, "drops words at random; leave that out in eval()")
    return x


def _converted(site: Site, *, x: Value, **_: object) -> Value:
    """Reals stay reals, whatever their width."""
    kind = site.node.meta["val"].dtype
    site.settle(kind.is_floating_point or x.rows_of, f"makes {kind} of reals; leave them reals")
    if not kind.is_floating_point:
        return x
    if x.rows_of:
        site.recording.reals.add(x.rows_of)
    return Value(name=x.name, shape=x.shape)


def _reshaped(site: Site, *, x: Value, **_: object) -> Value:
    return site.reshaped(x, site.shape)


def _permuted(site: Site, *, x: Value, dims: Sequence[int]) -> Value:
    site.settle(
        dims[0] % x.rank == 0, f"puts axis {dims[0]} where the batch has to be: first, alone"
    )
    return site.transposed(x, [site.axis(dim, x.rank) for dim in dims[1:]])


def _swapped(site: Site, *, x: Value, **dims: int) -> Value:
    first, second = dims.values() or (0, 1)
    order = list(range(x.rank))
    order[first], order[second] = order[second], order[first]
    return _permuted(site, x=x, dims=order)


def _picked(site: Site, *, x: Value, **rest: Any) -> Value:  # noqa: ANN401 (any ATen arguments)
    """Slices, flips, resizes …: torch says which word goes where, one axis at a time."""
    call: Any = site.node.target
    sizes = (site.batch, *x.shape)
    lines = []
    for dim, size in enumerate(sizes):
        ramp = torch.arange(size, dtype=torch.float64).reshape(-1, *(1,) * (x.rank - dim - 1))
        picked = call(ramp.expand(sizes), **rest)
        line = picked[tuple(slice(None) if each == dim else 0 for each in range(x.rank))]
        lines.append(line.numpy().astype(np.int64))
    site.settle(np.array_equal(lines[0], np.arange(site.batch)), "moves members of the batch")
    for axis, line in enumerate(lines[1:]):
        x = site.taken(x, axis, line)
    return x


def _selected(site: Site, *, x: Value, dim: int, index: int) -> Value:
    axis = site.axis(dim, x.rank)
    taken = site.taken(x, axis, np.array([index % x.shape[axis]]))
    return site.reshaped(taken, site.shape)


def _indexed(site: Site, *, x: Value, indices: Sequence[Operand | None]) -> Value:
    """x[:, :, constant list]: one axis only."""
    found = [(dim, index) for dim, index in enumerate(indices) if index is not None]
    site.settle(len(found) == 1, "indexes several axes at once; index them one after the other")
    ((dim, index),) = found
    chosen = site.fixed(index, "index")
    site.settle(
        chosen.ndim == 1 and chosen.dtype is not torch.bool,
        f"indexes by {chosen.dtype} of shape {tuple(chosen.shape)}; give a list of numbers",
    )
    axis = site.axis(dim, x.rank)
    return site.taken(x, axis, chosen.numpy().astype(np.int64) % x.shape[axis])


def _parted(site: Site, *, x: Value, dim: int = 0, **_: object) -> tuple[Value, ...]:
    """chunk, split …: the program says how large the parts are."""
    axis = site.axis(dim, x.rank)
    parts, start = [], 0
    for part in site.node.meta["val"]:
        size = site.behind_batch(part.shape)[axis]
        parts.append(site.taken(x, axis, np.arange(start, start + size)))
        start += size
    return tuple(parts)


def _unbound(site: Site, *, x: Value, dim: int = 0) -> tuple[Value, ...]:
    axis = site.axis(dim, x.rank)
    rest = (*x.shape[:axis], *x.shape[axis + 1 :])
    return tuple(
        site.reshaped(site.taken(x, axis, np.array([index])), rest)
        for index in range(x.shape[axis])
    )


def _joined(site: Site, *, tensors: Sequence[Operand], dim: int = 0) -> Value:
    rank = rank_of(*tensors)
    axis = site.axis(dim, rank)
    return site.emit(Concat, *(site.value(each, rank) for each in tensors), axis=axis)


def _stacked(site: Site, *, tensors: Sequence[Operand], dim: int = 0) -> Value:
    rank = rank_of(*tensors)
    axis = site.axis(dim, rank + 1)
    parts = [site.value(each, rank) for each in tensors]
    widened = [site.reshaped(each, (*each.shape[:axis], 1, *each.shape[axis:])) for each in parts]
    return site.emit(Concat, *widened, axis=axis)


def _padded(
    site: Site, *, x: Value, pad: list[int], mode: str = "constant", value: float | None = None
) -> Value:
    if mode != "constant":
        return _picked(site, x=x, pad=pad, mode=mode)
    missing = x.rank - len(pad) // 2
    before = [0] * missing + pad[-2::-2]
    after = [0] * missing + pad[::-2]
    site.settle(before[0] == after[0] == 0, "pads the batch; pad later axes only")
    for axis, (low, high) in enumerate(zip(before[1:], after[1:], strict=True)):
        size = x.shape[axis]
        x = site.taken(x, axis, np.arange(max(-low, 0), size - max(-high, 0)))
    lows, highs = (tuple(max(n, 0) for n in each[1:]) for each in (before, after))
    if not any(lows + highs):
        return x
    return site.emit(Pad, x, before=lows, after=highs, value=float(value or 0.0))


def _shuffled(site: Site, *, x: Value, upscale_factor: int) -> Value:
    channels, rows, cols = x.shape[-3:]
    site.settle(len(x.shape) == 3, f"takes images, got shape {x.shape}")
    r = upscale_factor
    parts = site.reshaped(x, (channels // r**2, r, r, rows, cols))
    return site.reshaped(site.transposed(parts, (0, 3, 1, 4, 2)), site.shape)


def _unshuffled(site: Site, *, x: Value, downscale_factor: int) -> Value:
    channels, rows, cols = x.shape[-3:]
    site.settle(len(x.shape) == 3, f"takes images, got shape {x.shape}")
    r = downscale_factor
    parts = site.reshaped(x, (channels, rows // r, r, cols // r, r))
    return site.reshaped(site.transposed(parts, (0, 2, 4, 1, 3)), site.shape)


def _regrouped(site: Site, *, x: Value, groups: int) -> Value:
    parts = site.reshaped(x, (groups, x.shape[0] // groups, *x.shape[1:]))
    order = (1, 0, *range(2, len(parts.shape)))
    return site.reshaped(site.transposed(parts, order), x.shape)


def _expanded(site: Site, *, x: Value, **_: object) -> Value:
    shape = site.shape
    site.settle(len(shape) == len(x.shape), "puts axes before the batch; keep the batch first")
    return x if shape == x.shape else site.emit(Expand, x, shape=shape)


def _repeated(site: Site, *, x: Value, repeats: Sequence[int]) -> Value:
    site.settle(len(repeats) == x.rank, "puts axes before the batch; keep the batch first")
    return _picked(site, x=x, repeats=repeats)


def _looked_up(site: Site, *, weight: Operand, indices: Operand, **_: object) -> Value:
    table = site.numbers(weight, "table")
    site.settle(
        isinstance(indices, Value) and indices.rows_of,
        "looks up rows by numbers that are no integer input; give them as an input",
    )
    assert isinstance(indices, Value)  # noqa: S101 (for the type checker)
    assert indices.rows_of is not None  # noqa: S101
    rows = site.recording.rows
    rows[indices.rows_of] = min(len(table), rows.get(indices.rows_of, len(table)))
    return site.emit(Lookup, indices, table=table)


MOVES: dict[str, Callable[..., Value | tuple[Value, ...]]] = {
    **dict.fromkeys(
        ("contiguous", "clone", "detach", "alias", "lift_fresh_copy", "positive", "identity"),
        _passed,
    ),
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout"), _dropped),
    **dict.fromkeys(("to", "_to_copy", "type_as", "float"), _converted),
    **dict.fromkeys(
        ("view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"),
        _reshaped,
    ),
    "view_as": _reshaped,
    "reshape_as": _reshaped,
    "permute": _permuted,
    **dict.fromkeys(("transpose", "t", "swapaxes", "swapdims"), _swapped),
    **dict.fromkeys(
        (
            *("slice", "narrow", "flip", "roll", "index_select", "repeat_interleave"),
            *("upsample_nearest1d", "upsample_nearest2d"),
            *("_upsample_nearest_exact1d", "_upsample_nearest_exact2d"),
            *("reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d"),
        ),
        _picked,
    ),
    "select": _selected,
    "index": _indexed,
    **dict.fromkeys(("chunk", "split", "split_with_sizes", "tensor_split"), _parted),
    "unbind": _unbound,
    **dict.fromkeys(("cat", "concat", "concatenate"), _joined),
    "stack": _stacked,
    **dict.fromkeys(("pad", "constant_pad_nd"), _padded),
    "pixel_shuffle": _shuffled,
    "pixel_unshuffle": _unshuffled,
    "channel_shuffle": _regrouped,
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), _expanded),
    "repeat": _repeated,
    "embedding": _looked_up,
}
"""By ATen name, what makes operations of a node."""
