"""ONNX nodes that see a whole axis: softmax, means, greatest words, normalizations."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.formats.onnx_import.functions import step
from arraysmith.formats.onnx_import.windows import greatest
from arraysmith.networks.functions import Function
from arraysmith.networks.moves import Reshape
from arraysmith.networks.operations import (
    ChannelAffine,
    Elementwise,
    Island,
    IslandKind,
    LayerNorm,
    Mean,
    Softmax,
)

if TYPE_CHECKING:
    from arraysmith.formats.onnx_import.draft import Tensor
    from arraysmith.formats.onnx_import.site import Site

Shape = tuple[int, ...]


def softmax(site: Site) -> None:
    """Softmax and LogSoftmax; before opset 13 over all axes from one on."""
    x = site.tensor(0)
    logarithm = site.node.op == "LogSoftmax"
    rank = len(x.shape) + 1
    last = site.draft.opset >= 13
    axis = site.axis(site.integer("axis", -1 if last else 1), rank)
    role = "softmax" if logarithm else ""
    if last or prod(x.shape[axis:]) == x.shape[axis]:
        made = site.add(Softmax, x, role=role, axis=axis)
    else:
        flat = (*x.shape[:axis], prod(x.shape[axis:]))
        flattened = site.add(Reshape, x, role="flat", shape=flat)
        made = site.add(Softmax, flattened, role="words", axis=axis)
        made = site.add(Reshape, made, role=role, shape=x.shape)
    if logarithm:
        made = site.add(Elementwise, made, steps=(step(Function.LOG),))
    site.give(made)


def reduction(site: Site) -> None:
    """ReduceMean, ReduceMax and ReduceSum behind the batch."""
    x = site.tensor(0)
    rank = len(x.shape) + 1
    named = site.numbers("axes", 1)
    if not named:
        if named is not None and site.integer("noop_with_empty_axes", 0):
            site.give(x)
            return
        raise site.refuse_batch()
    axes = site.axes(named, rank)
    kept = bool(site.integer("keepdims", 1))
    role = "" if kept else site.node.op.removeprefix("Reduce").lower()
    made = _reduced(site, x, axes, role)
    if not kept:
        shape = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
        made = site.add(Reshape, made, shape=shape)
    site.give(made)


def _reduced(site: Site, x: Tensor, axes: Shape, role: str) -> Tensor:
    if site.node.op == "ReduceMean":
        return site.add(Mean, x, role=role, axes=axes)
    if site.node.op == "ReduceMax":
        return greatest(site, x, axes, role)
    return site.add(Island, x, role=role, kind=IslandKind.SUM, axes=axes)


def layer_normalization(site: Site) -> None:
    """LayerNormalization over the last axes."""
    x = site.tensor(0)
    first = site.axis(site.integer("axis", -1), len(x.shape) + 1)
    shape = x.shape[first:]
    gain = site.weight(1)
    shift = site.weight(2) if site.has(2) else np.zeros(1, np.float32)
    try:
        gain, shift = (np.ascontiguousarray(np.broadcast_to(each, shape)) for each in (gain, shift))
    except ValueError:
        raise site.refuse(
            f"normalises axes of {shape} with numbers of shapes {gain.shape} and {shift.shape}"
        ) from None
    epsilon = site.real("epsilon", 1e-5)
    site.give(site.add(LayerNorm, x, gain=gain, shift=shift, epsilon=_epsilon(site, epsilon)))


def _epsilon(site: Site, epsilon: float) -> float:
    if not 0 <= epsilon < 1e30:
        raise site.refuse(f"epsilon is {epsilon}, needs to be 0 or more")
    return epsilon


def image_normalization(site: Site) -> None:
    """InstanceNormalization and GroupNormalization: an island, then its gain and shift."""
    x = site.tensor(0)
    if len(x.shape) < 2:
        raise site.refuse(f"normalises a tensor of shape {x.shape}, which has no image")
    groups = 0
    count = x.shape[0]
    if site.node.op == "GroupNormalization":
        groups = site.integer("num_groups", 0)
        if groups < 1 or count % groups:
            raise site.refuse(f"{count} channels in {groups} groups")
    per = groups if groups and site.draft.opset < 21 else count
    gain, shift = (np.repeat(site.vector(place, per), count // per) for place in (1, 2))
    kind = IslandKind.GROUP_NORM if groups else IslandKind.INSTANCE_NORM
    plain = bool((gain == 1).all() and (shift == 0).all())
    normal = site.add(
        Island,
        x,
        role="" if plain else "normal",
        kind=kind,
        axes=(groups,) if groups else (),
        epsilon=_epsilon(site, site.real("epsilon", 1e-5)),
    )
    site.give(normal if plain else site.add(ChannelAffine, normal, gain=gain, shift=shift))


def response_normalization(site: Site) -> None:
    """LRN: every word by its neighbours in other channels, an island."""
    x = site.tensor(0)
    size = site.integer("size", 0)
    if len(x.shape) < 2 or not 1 <= size <= 2 * x.shape[0]:
        raise site.refuse(f"normalises over {size} channels of a tensor of shape {x.shape}")
    numbers = tuple(
        site.real(name, default) for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1))
    )
    site.give(site.add(Island, x, kind=IslandKind.RESPONSE_NORM, axes=(size,), numbers=numbers))
