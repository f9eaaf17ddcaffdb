"""ONNX nodes that move words: other shapes and orders, parts, joins, borders and repetitions."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite, prod
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.networks.moves import Concat, Expand, Pad, Reshape, Take, Transpose

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.formats.onnx_import.draft import Tensor
    from arraysmith.formats.onnx_import.site import Site

Shape = tuple[int, ...]
MAX_INDICES = 1 << 24


def take(site: Site, x: Tensor, axis: int, indices: NDArray[np.int64], role: str = "") -> Tensor:
    """Words at places of an axis, or the tensor itself if those are all, in order."""
    if len(indices) == x.shape[axis] and (indices == np.arange(len(indices))).all():
        return x
    site.draft.spend(str(site.node), indices.nbytes)
    return site.add(Take, x, role=role, axis=axis, indices=indices)


def _reshaped(site: Site, x: Tensor, shape: Shape, role: str = "") -> Tensor:
    return x if shape == x.shape else site.add(Reshape, x, role=role, shape=shape)


def same(site: Site) -> None:
    """Identity, Dropout: what is read."""
    site.give(site.tensor(0, whole=True, moved=True))


def cast(site: Site) -> None:
    """Cast between floats, or of an input of whole numbers to others; nothing happens."""
    x = site.tensor(0, whole=True, moved=True)
    kinds = {1: "real", 10: "real", 11: "real", 16: "real", **dict.fromkeys(_WHOLE, "whole")}
    kind = kinds.get(site.integer("to", 1))
    if x.type or kind is None or (kind == "whole" and not x.whole):
        raise site.refuse("rounds or compares reals; export the model in float32")
    given = site.draft.inputs.get(x.name)
    if kind == "real" and x.whole and given is not None and given.rows:
        raise site.refuse("takes row numbers of a table as reals; give them as two inputs")
    site.give(replace(x, whole=kind == "whole"))


_WHOLE = (2, 3, 4, 5, 6, 7, 12, 13)


def reshape(site: Site) -> None:
    """Reshape, which keeps the batch as its first axis."""
    x = site.tensor(0, whole=True)
    wanted = site.numbers("shape", 1)
    if wanted is None:
        raise site.refuse("lacks its shape; export it again")
    full = (site.draft.batch, *x.shape)
    sizes = list(wanted)
    if not site.integer("allowzero", 0):
        for place, size in enumerate(sizes):
            if size == 0 and place < len(full):
                sizes[place] = full[place]
    if min(sizes, default=1) < -1 or sizes.count(-1) > 1:
        raise site.refuse(f"shape {sizes} is none; export it again")
    if -1 in sizes:
        rest = -prod(sizes)
        sizes[sizes.index(-1)] = prod(full) // rest if rest > 0 else 0
    if prod(sizes) != prod(full):
        raise site.refuse(f"a tensor of shape {list(full)} cannot become {list(wanted)}")
    if not sizes or sizes[0] != full[0]:
        raise site.refuse_batch()
    site.give(_reshaped(site, x, tuple(sizes[1:])))


def flatten(site: Site) -> None:
    """Flatten behind the batch."""
    x = site.tensor(0, whole=True)
    axis = site.integer("axis", 1)
    rank = len(x.shape) + 1
    axis = axis + rank if axis < 0 else axis
    if not 1 <= axis <= rank or prod(x.shape[: axis - 1]) != 1:
        raise site.refuse_batch()
    site.give(_reshaped(site, x, (prod(x.shape),)))


def squeeze(site: Site) -> None:
    """Squeeze: axes of one word go, but the batch stays."""
    x = site.tensor(0, whole=True, moved=True)
    named = site.numbers("axes", 1)
    if named is None and site.draft.batch == 1:
        raise site.refuse("drops all axes of one word, the batch too; name the axes in its export")
    if named is None:
        axes = {axis for axis, size in enumerate(x.shape) if size == 1}
    else:
        axes = {site.place(axis, x) for axis in named}
    if any(x.shape[axis] != 1 for axis in axes):
        raise site.refuse(f"drops axes {named} of a tensor of shape {x.shape}; mend the model")
    kept = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    batch_axis = x.batch_axis - sum(axis < x.batch_axis for axis in axes)
    site.give(replace(_reshaped(site, x, kept), batch_axis=batch_axis))


def unsqueeze(site: Site) -> None:
    """Unsqueeze: axes of one word come."""
    x = site.tensor(0, whole=True, moved=True)
    named = site.numbers("axes", 1)
    rank = len(x.shape) + 1 + len(named or ())
    axes = {axis % rank for axis in named or () if -rank <= axis < rank}
    if not named or len(axes) != len(named):
        raise site.refuse(f"axes {named} are none of {rank}; export it again")
    # Sizes in the ONNX graph, the batch as 0.
    rest = iter(x.full_shape(0))
    sizes = [1 if axis in axes else next(rest) for axis in range(rank)]
    batch_axis = sizes.index(0)
    del sizes[batch_axis]
    site.give(replace(_reshaped(site, x, tuple(sizes)), batch_axis=batch_axis))


def transpose(site: Site) -> None:
    """Transpose; where the batch goes is kept in mind, not done."""
    x = site.tensor(0, whole=True, moved=True)
    rank = len(x.shape) + 1
    axes = site.integers("perm", rank, 0) if site.says("perm") else tuple(range(rank))[::-1]
    if sorted(axes) != list(range(rank)):
        raise site.refuse(f"perm {list(axes[:8])} is no order of {rank} axes; export it again")
    order = tuple(site.place(axis, x) for axis in axes if axis != x.batch_axis)
    batch_axis = axes.index(x.batch_axis)
    if order != tuple(range(rank - 1)):
        x = site.add(Transpose, x, axes=order)
    site.give(replace(x, batch_axis=batch_axis))


def slice_(site: Site) -> None:
    """Slice with constant ends."""
    x = site.tensor(0, whole=True, moved=True)
    batch_axis = x.batch_axis
    starts, ends = site.numbers("starts", 1), site.numbers("ends", 2)
    if starts is None or ends is None:
        raise site.refuse("lacks its starts or ends; export it again")
    axes = site.numbers("axes", 3)
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = site.numbers("steps", 4) or (1,) * len(starts)
    rank = len(x.shape) + 1
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise site.refuse(f"slices by {starts}, {ends}, {axes}, {steps}; export it again")
    parts = []
    for start, end, axis, each in zip(starts, ends, axes, steps, strict=True):
        if -rank <= axis < rank and axis % rank == batch_axis:
            if range(*slice(start, end, each).indices(site.draft.batch)) != range(site.draft.batch):
                raise site.refuse_batch()
            continue
        place = site.place(axis, x)
        taken = range(*slice(start, end, each).indices(x.shape[place]))
        if taken != range(x.shape[place]):
            parts.append((place, taken))
    for number, (place, taken) in enumerate(parts, 1):
        if not taken or len(taken) > MAX_INDICES:
            raise site.refuse(f"takes {len(taken):,} words of {x.shape[place]}; mend the model")
        role = "" if number == len(parts) else f"axis{place}"
        x = take(site, x, place, np.array(taken, np.int64), role)
    site.give(replace(x, batch_axis=batch_axis))


def split(site: Site) -> None:
    """Split: a part for each output."""
    x = site.tensor(0, whole=True, moved=True)
    axis = site.place(site.integer("axis", 0), x)
    sizes = site.numbers("split", 1)
    size, count = x.shape[axis], len(site.node.outputs)
    if sizes is None:
        each = -(-size // count)
        sizes = tuple(min(each, max(0, size - each * number)) for number in range(count))
    if len(sizes) != count or sum(sizes) != size or min(sizes) < 1 or size > MAX_INDICES:
        raise site.refuse(f"{size} words become {sizes}, {count} outputs; mend the model")
    first = 0
    for number, words in enumerate(sizes):
        indices = np.arange(first, first + words)
        first += words
        if site.node.outputs[number]:
            part = take(site, x, axis, indices, f"part{number}")
            site.give(replace(part, batch_axis=x.batch_axis), number)


def concat(site: Site) -> None:
    """Concat behind the batch; constants join as operations."""
    places = range(len(site.node.inputs))
    moving = [site.tensor(place, whole=True) for place in places if not site.is_constant(place)]
    rank = len(moving[0].shape) + 1 if moving else 0
    if not moving or len({(each.whole, each.type) for each in moving}) > 1:
        raise site.refuse("joins integers with reals or of other scales; export it otherwise")
    axis = site.axis(site.integer("axis", 1), rank)
    parts = []
    for place in places:
        if not site.is_constant(place):
            parts.append(site.tensor(place, whole=True))
            continue
        value = site.weight(place)
        if value.ndim != rank or moving[0].whole or moving[0].type:
            raise site.refuse(f"joins a constant of shape {value.shape} to {moving[0].shape}")
        if value.size:
            parts.append(site.constant(site.inner(value, rank)))
    site.give(parts[0] if len(parts) == 1 else site.add(Concat, *parts, axis=axis))


def pad(site: Site) -> None:
    """Pad: words of a constant; reflected or repeated ones are taken; negative ones are cut."""
    x = site.tensor(0)
    rank = len(x.shape) + 1
    pads = site.numbers("pads", 1) if site.draft.opset > 1 else site.numbers("paddings", 1)
    axes = site.numbers("axes", 3)
    axes = tuple(range(rank)) if axes is None else axes
    if pads is None or len(pads) != 2 * len(axes):
        raise site.refuse(f"pads {pads} for {len(axes)} axes; export it again")
    before, after = [0] * len(x.shape), [0] * len(x.shape)
    for axis, low, high in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        if low or high:
            place = site.axis(axis, rank)
            before[place], after[place] = low, high
    mode = site.text("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise site.refuse(f"mode {mode!r} is unknown; use constant, reflect, edge or wrap")
    for axis, (low, high) in enumerate(zip(before, after, strict=True)):
        cut = mode == "constant"
        ends = (min(low, 0), min(high, 0)) if cut else (low, high)
        if any(ends):
            last = not cut or not any(each > 0 for each in (*before, *after))
            last = last and not any(before[axis + 1 :]) and not any(after[axis + 1 :])
            indices = _bordered(site, x.shape[axis], *ends, mode)
            x = take(site, x, axis, indices, "" if last else f"axis{axis}")
    if mode == "constant" and any(each > 0 for each in (*before, *after)):
        x = site.add(
            Pad,
            x,
            before=tuple(max(each, 0) for each in before),
            after=tuple(max(each, 0) for each in after),
            value=_pad_value(site),
        )
    site.give(x)


def _pad_value(site: Site) -> float:
    value = site.number(2) if site.has(2) else site.real("value", 0)
    if not isfinite(value):
        raise site.refuse(f"pads with {value}; pad inside the MaxPool, or with a number")
    return value


def _bordered(site: Site, size: int, low: int, high: int, mode: str) -> NDArray[np.int64]:
    """Places of an axis with a border of its own words."""
    least = size if mode != "reflect" else size - 1
    if size + low + high < 1 or size + low + high > MAX_INDICES or low <= -size or high <= -size:
        raise site.refuse(f"pads {size} words by {low} and {high}; mend the model")
    if mode in ("reflect", "wrap") and max(low, high) > least:
        raise site.refuse(f"pads {size} words by {low} and {high} of them; mend the model")
    places = np.arange(-low, size + high)
    if mode == "edge":
        return places.clip(0, size - 1)
    if mode == "wrap":
        return places % size
    places = np.abs(places)
    return np.where(places >= size, 2 * (size - 1) - places, places)


def expand(site: Site) -> None:
    """Expand: axes of one word repeated."""
    x = site.tensor(0)
    wanted = site.numbers("shape", 1)
    rank = len(x.shape) + 1
    if wanted is None or len(wanted) > rank or min(wanted, default=1) < 1:
        raise site.refuse_batch()
    full = (1,) * (rank - len(wanted)) + wanted
    if full[0] not in (1, site.draft.batch):
        raise site.refuse_batch()
    shape = tuple(size if more == 1 else more for size, more in zip(x.shape, full[1:], strict=True))
    site.give(x if shape == x.shape else site.add(Expand, x, shape=shape))


def tile(site: Site) -> None:
    """Tile: axes repeated as wholes."""
    x = site.tensor(0, whole=True)
    repeats = site.numbers("repeats", 1)
    if repeats is None or len(repeats) != len(x.shape) + 1 or min(repeats) < 1:
        raise site.refuse(f"repeats {repeats} a tensor of {len(x.shape) + 1} axes; mend the model")
    if repeats[0] != 1:
        raise site.refuse_batch()
    many = [axis for axis, times in enumerate(repeats[1:]) if times > 1]
    for axis in many:
        size, times = x.shape[axis], repeats[axis + 1]
        if size * times > MAX_INDICES:
            raise site.refuse(f"repeats {size} words {times:,} times, too many")
        role = "" if axis == many[-1] else f"axis{axis}"
        x = take(site, x, axis, np.tile(np.arange(size), times), role)
    site.give(x)


def depth_to_space(site: Site) -> None:
    """DepthToSpace and SpaceToDepth: two shapes with another order between them."""
    x = site.tensor(0, whole=True)
    size = site.integer("blocksize", 0)
    if len(x.shape) != 3 or size < 1:
        raise site.refuse(f"blocks of {size} in a tensor of shape {x.shape}; mend the model")
    c, h, w = x.shape
    if site.node.op == "SpaceToDepth":
        split_up: Shape = (c, h // size, size, w // size, size)
        axes, after = (2, 4, 0, 1, 3), (c * size * size, h // size, w // size)
    elif site.text("mode", "DCR") == "CRD":
        split_up = (c // size**2, size, size, h, w)
        axes, after = (0, 3, 1, 4, 2), (c // size**2, h * size, w * size)
    else:
        split_up = (size, size, c // size**2, h, w)
        axes, after = (2, 3, 0, 4, 1), (c // size**2, h * size, w * size)
    x = site.add(Reshape, x, role="blocks", shape=split_up)
    x = site.add(Transpose, x, role="order", axes=axes)
    site.give(site.add(Reshape, x, shape=after))
