"""Resize and Upsample to the nearest word: which words are taken along every axis.

Places are computed in float32, as runtimes do: ties fall where theirs fall.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.formats.onnx_import.moves import MAX_INDICES, take

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.formats.onnx_import.site import Site

Shape = tuple[int, ...]
_ROUNDED = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
_PLACED = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
)


def resize(site: Site) -> None:
    """Resize and Upsample with mode nearest."""
    x = site.tensor(0, whole=True)
    mode = site.text("mode", "nearest")
    if mode != "nearest":
        raise site.refuse(f"mode {mode!r} mixes words; export the model with mode 'nearest'")
    if site.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise site.refuse("keeps an aspect ratio; export it with sizes")
    sizes, scales = _grown(site, x.shape)
    how = site.text("coordinate_transformation_mode", "half_pixel")
    rounded = site.text("nearest_mode", "round_prefer_floor")
    if site.draft.opset < 11:
        how, rounded = "asymmetric", "simple"
    elif how not in _PLACED or rounded not in _ROUNDED:
        raise site.refuse(
            f"coordinate_transformation_mode {how!r} with nearest_mode {rounded!r} is not read; "
            "export it as asymmetric and floor"
        )
    changed = [
        axis for axis, size in enumerate(x.shape) if (sizes[axis], scales[axis]) != (size, 1)
    ]
    for axis in changed:
        if sizes[axis] < 1 or sizes[axis] > MAX_INDICES:
            raise site.refuse(f"makes {sizes[axis]:,} of {x.shape[axis]:,} words; mend the model")
        places = _places(how, x.shape[axis], sizes[axis], np.float32(scales[axis]))
        indices = _nearest(rounded, places, scales[axis]).clip(0, x.shape[axis] - 1)
        x = take(site, x, axis, indices, "" if axis == changed[-1] else f"axis{axis}")
    site.give(x)


def _grown(site: Site, shape: Shape) -> tuple[list[int], list[float]]:
    """Sizes and scales of all axes behind the batch."""
    upsampled = site.node.op == "Upsample" or site.draft.opset < 11
    given = site.reals("scales", 1 if upsampled else 2)
    wanted = None if upsampled else site.numbers("sizes", 3)
    rank = len(shape) + 1
    count = rank
    axes = site.integers("axes", len(given or wanted or ()), 0) if site.says("axes") else None
    count = len(axes) if axes is not None else rank
    sizes, scales = list(shape), [1.0] * len(shape)
    numbers = given or wanted or ()
    if len(numbers) != count or not all(isfinite(each) and each > 0 for each in numbers):
        raise site.refuse(f"scales or sizes {numbers} for {count} axes; export it again")
    for axis, number in zip(axes or range(rank), numbers, strict=True):
        if -rank <= axis < rank and axis % rank == 0:
            if number != (1 if given else site.draft.batch):
                raise site.refuse_batch()
            continue
        place = site.axis(axis, rank)
        size = shape[place]
        # The scale is a float32; sizes are rounded down from it in double precision.
        scales[place] = float(number) if given else int(number) / size
        sizes[place] = int(size * float(number)) if given else int(number)
    return sizes, scales


def _places(how: str, size: int, made: int, scale: np.float32) -> NDArray[np.float32]:
    """Where every word made lies among those that are there."""
    x = np.arange(made, dtype=np.float32)
    half = np.float32(0.5)
    if how == "asymmetric":
        return x / scale
    if how == "align_corners":
        return x * np.float32(size - 1) / np.float32(made - 1) if made > 1 else 0 * x
    if how == "tf_half_pixel_for_nn":
        return (x + half) / scale
    if how == "pytorch_half_pixel" and made == 1:
        return 0 * x
    if how == "half_pixel_symmetric":
        shrunk = np.float32(made) / (scale * np.float32(size))
        offset = np.float32(size) / 2 * (1 - shrunk)
        return offset + (x + half) / scale - half
    return (x + half) / scale - half


def _nearest(rounded: str, places: NDArray[np.float32], scale: float) -> NDArray[np.int64]:
    if rounded == "simple":  # of opsets before 11: up only where the image shrinks
        rounded = "ceil" if scale < 1 else "floor"
    if rounded == "floor":
        found = np.floor(places)
    elif rounded == "ceil":
        found = np.ceil(places)
    elif rounded == "round_prefer_ceil":
        found = np.floor(places + np.float32(0.5))
    else:
        found = np.ceil(places - np.float32(0.5))
    return found.astype(np.int64)
