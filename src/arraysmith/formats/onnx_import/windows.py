"""ONNX nodes whose windows slide over an image: convolutions and pools."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraysmith.networks.moves import MaxPool, Stretch, Take
from arraysmith.networks.operations import AveragePool, Convolution, Island, IslandKind, Mean
from arraysmith.networks.windows import Windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.formats.onnx_import.draft import Tensor
    from arraysmith.formats.onnx_import.site import Site

Shape = tuple[int, ...]


def convolution(site: Site) -> None:
    """Conv over one or two axes."""
    x, weight = site.tensor(0), site.weight(1)
    _check_image(site, x, weight)
    groups = site.integer("group", 1)
    windows, _ = _windows(site, weight.shape[2:], x.shape[1:])
    bias = site.vector(2, len(weight)) if site.has(2) else np.zeros(len(weight), np.float32)
    made = site.add(Convolution, x, weight=weight, bias=bias, windows=windows, groups=groups)
    site.keep_weight_type(made.name, 1, 0)
    site.give(made)


def _check_image(site: Site, x: Tensor, weight: NDArray[np.float32]) -> None:
    if len(x.shape) not in (2, 3) or weight.ndim != len(x.shape) + 1 or not weight.size:
        raise site.refuse(
            f"weights of shape {weight.shape} over a tensor of shape {x.shape}; convolutions over "
            "one or two axes are read"
        )
    if (
        site.says("kernel_shape")
        and site.integers("kernel_shape", weight.ndim - 2, 1) != (weight.shape[2:])
    ):
        raise site.refuse(f"its kernel_shape is not that of its weights {weight.shape}")


def _windows(
    site: Site, taps: Shape, sizes: Shape, *, ceiled: bool = False
) -> tuple[Windows, tuple[Shape, Shape]]:
    """The windows of a node, and the padding that was asked for."""
    rank = len(sizes)
    strides = site.integers("strides", rank, 1)
    dilations = site.integers("dilations", rank, 1)
    pads = site.integers("pads", 2 * rank, 0)
    before, after = pads[:rank], pads[rank:]
    automatic = site.text("auto_pad", "NOTSET")
    if automatic not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", ""):
        raise site.refuse(f"auto_pad {automatic!r} is unknown")
    if automatic == "VALID":
        before = after = (0,) * rank
    windows = Windows(
        size=taps, strides=strides, dilations=dilations, before=before, after=after
    )  # refuses a stride of 0 before anything is divided by it
    if automatic.startswith("SAME"):
        zeros = tuple(
            max((-(-size // stride) - 1) * stride + extent - size, 0)
            for size, stride, extent in zip(sizes, strides, windows.extent, strict=True)
        )
        less, more = tuple(each // 2 for each in zeros), tuple(each - each // 2 for each in zeros)
        before, after = (less, more) if automatic == "SAME_UPPER" else (more, less)
    overhang = (0,) * rank
    if ceiled:
        overhang = tuple(
            _overhang(size + low + high, size + low, extent, stride)
            for size, low, high, extent, stride in zip(
                sizes, before, after, windows.extent, strides, strict=True
            )
        )
    widened = tuple(high + more for high, more in zip(after, overhang, strict=True))
    windows = Windows(size=taps, strides=strides, dilations=dilations, before=before, after=widened)
    return windows, (before, after)


def _overhang(padded: int, image: int, extent: int, stride: int) -> int:
    """What a ceiled number of windows needs beyond the padding; each starts in the image."""
    windows = -(-(padded - extent) // stride) + 1
    if (windows - 1) * stride >= image:
        windows -= 1
    return max((windows - 1) * stride + extent - padded, 0)


def transposed_convolution(site: Site) -> None:
    """ConvTranspose: an ordinary convolution over what is stretched with zeros.

    Its filters are turned by half a turn, and inputs and outputs of each group change places.
    """
    x, given = site.tensor(0), site.weight(1)
    _check_image(site, x, given)
    groups = site.integer("group", 1)
    if groups < 1 or len(given) % groups:
        raise site.refuse(f"{len(given)} input channels in {groups} groups")
    taps = given.shape[2:]
    out = given.shape[1]
    grouped = given.reshape(groups, -1, *given.shape[1:]).swapaxes(1, 2)
    turned = np.flip(grouped, tuple(range(3, grouped.ndim)))
    weight = np.ascontiguousarray(turned).reshape(groups * out, -1, *taps)
    bias = site.vector(2, groups * out) if site.has(2) else np.zeros(groups * out, np.float32)
    strides = site.integers("strides", len(taps), 1)
    dilations = site.integers("dilations", len(taps), 1)
    ones = (1,) * len(taps)
    # Made for its checks: strides of the output are factors of the input.
    extent = Windows(
        size=taps, strides=strides, dilations=dilations, before=ones, after=ones
    ).extent
    before, after = _grown(site, x.shape[1:], strides, extent)
    if max(strides) > 1:
        x = site.add(Stretch, x, role="stretch", factors=strides)
    for axis, (low, high) in enumerate(zip(before, after, strict=True), 1):
        x = _cut(site, x, axis, max(0, -low), max(0, -high))
    windows = Windows(
        size=taps,
        strides=ones,
        dilations=dilations,
        before=tuple(max(0, each) for each in before),
        after=tuple(max(0, each) for each in after),
    )
    made = site.add(Convolution, x, weight=weight, bias=bias, windows=windows, groups=groups)
    if groups == 1:
        site.keep_weight_type(made.name, 1, 1)
    site.give(made)


def _grown(site: Site, sizes: Shape, strides: Shape, extent: Shape) -> tuple[Shape, Shape]:
    """Padding of the ordinary convolution before and after; negative where something is cut."""
    rank = len(sizes)
    more = site.integers("output_padding", rank, 0)
    pads = site.integers("pads", 2 * rank, 0)
    before, after = pads[:rank], pads[rank:]
    automatic = site.text("auto_pad", "NOTSET")
    wanted: Shape | None = None
    if site.says("output_shape"):
        wanted = site.integers("output_shape", rank, 0)
    elif automatic.startswith("SAME"):
        wanted = tuple(size * stride for size, stride in zip(sizes, strides, strict=True))
    if automatic == "VALID":
        before = after = (0,) * rank
    if wanted is not None:
        reached = zip(wanted, sizes, strides, extent, more, strict=True)
        if any(out > (size - 1) * step + reach + add for out, size, step, reach, add in reached):
            raise site.refuse(
                f"makes {wanted}, more than its windows reach, on which runtimes disagree; export "
                "it with output_padding"
            )
        total = tuple(
            max(0, stride * (size - 1) + add + reach - out)
            for size, stride, add, reach, out in zip(
                sizes, strides, more, extent, wanted, strict=True
            )
        )
        less, rest = tuple(each // 2 for each in total), tuple(each - each // 2 for each in total)
        before, after = (less, rest) if automatic == "SAME_UPPER" else (rest, less)
    low = tuple(reach - 1 - cut for reach, cut in zip(extent, before, strict=True))
    high = tuple(reach - 1 - cut + add for reach, cut, add in zip(extent, after, more, strict=True))
    return low, high


def _cut(site: Site, x: Tensor, axis: int, low: int, high: int) -> Tensor:
    """A tensor without its first and last words along an axis."""
    if not low and not high:
        return x
    indices = np.arange(low, max(low, x.shape[axis] - high))
    site.draft.spend(str(site.node), indices.nbytes)
    return site.add(Take, x, role="cut", axis=axis, indices=indices)


def pool(site: Site) -> None:
    """MaxPool and AveragePool over one or two axes."""
    largest = site.node.op == "MaxPool"
    x = site.tensor(0, whole=largest)
    if len(x.shape) not in (2, 3):
        raise site.refuse(f"pools a tensor of shape {x.shape}; one or two axes are read")
    rank = len(x.shape) - 1
    if not site.says("kernel_shape"):
        raise site.refuse("lacks its kernel_shape; export it again")
    taps = site.integers("kernel_shape", rank, 1)
    ceiled = bool(site.integer("ceil_mode", 0))
    automatic = site.text("auto_pad", "NOTSET").startswith("SAME")
    if automatic and set(site.integers("dilations", rank, 1)) != {1}:
        raise site.refuse("dilates with auto_pad, on which runtimes disagree; export it with pads")
    windows, asked = _windows(site, taps, x.shape[1:], ceiled=ceiled)
    reach = zip((*asked[0], *asked[1]), 2 * windows.extent, strict=True)
    if any(pad >= extent for pad, extent in reach):
        raise site.refuse(f"pads by {asked}, so that windows of {windows.extent} see no word")
    if largest:
        site.give(site.add(MaxPool, x, windows=windows))
        return
    none = ((0,) * rank, (0,) * rank)
    counted = asked if site.integer("count_include_pad", 0) else none
    site.give(site.add(AveragePool, x, windows=windows, counted=counted))


def global_pool(site: Site) -> None:
    """GlobalAveragePool and GlobalMaxPool."""
    largest = site.node.op == "GlobalMaxPool"
    x = site.tensor(0, whole=largest)
    if len(x.shape) < 2:
        raise site.refuse(f"pools a tensor of shape {x.shape}, which has no image")
    axes = tuple(range(1, len(x.shape)))
    site.give(greatest(site, x, axes) if largest else site.add(Mean, x, axes=axes))


def greatest(site: Site, x: Tensor, axes: Shape, role: str = "") -> Tensor:
    """The greatest word over axes: a pool of one window where they are an image's."""
    if axes != tuple(range(1, len(x.shape))) or len(x.shape) not in (2, 3):
        return site.add(Island, x, role=role, kind=IslandKind.MAX, axes=axes)
    none, ones = (0,) * len(axes), (1,) * len(axes)
    windows = Windows(size=x.shape[1:], strides=ones, dilations=ones, before=none, after=none)
    return site.add(MaxPool, x, role=role, windows=windows)
