"""Write resnet50.csv, the SCALE-Sim topology of ResNet-50, from the table of its stages.

    python examples/make_resnet50.py

The network is torchvision's ResNet-50 ("v1.5": a bottleneck strides in its 3×3 convolution, not in
the 1×1 before it) for one image of 224×224, with the names that its state_dict has: 53 convolutions
and the fully connected layer. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.

SCALE-Sim has no padding column, so an ifmap is written with its padding; and it rounds the number
of windows up where a framework rounds down. 224 + 2·3 = 230 rows, a 7×7 filter and stride 2 would
give it 113 windows a column instead of 112. So every ifmap here is exactly what its windows cover,
(ofmap - 1)·stride + filter, 229 there: the row that no window reads is left out, and rounding up
and rounding down agree.
"""  # noqa: INP001 (a script, no package)

from __future__ import annotations

from pathlib import Path

from arraysmith import Conv2d, Workload
from arraysmith.formats.topology import topology_text

# Blocks, channels inside a bottleneck, and the stride of the stage's first block.
STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))
EXPANSION = 4
"""Channels that leave a bottleneck, for each one inside."""


def resnet50() -> Workload:
    """All 54 layers, in the order they are computed."""
    layers = [_square("conv1", ofmap=112, filter_size=7, channels=(3, 64), stride=2)]
    size, channels = 56, 64  # after the pooling
    for stage, (blocks, width, first_stride) in enumerate(STAGES, 1):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            layers += _bottleneck(f"layer{stage}.{block}", size, channels, width, stride)
            size, channels = size // stride, width * EXPANSION
    layers.append(_square("fc", ofmap=1, filter_size=1, channels=(channels, 1000)))
    return Workload(name="resnet50", layers=tuple(layers))


def _bottleneck(name: str, size: int, channels: int, width: int, stride: int) -> list[Conv2d]:
    """1×1, 3×3, 1×1; the first of a stage brings its input to the new shape as well."""
    out, small = width * EXPANSION, size // stride
    layers = [
        _square(f"{name}.conv1", ofmap=size, filter_size=1, channels=(channels, width)),
        _square(
            f"{name}.conv2", ofmap=small, filter_size=3, channels=(width, width), stride=stride
        ),
        _square(f"{name}.conv3", ofmap=small, filter_size=1, channels=(width, out)),
    ]
    if channels != out:
        layers.append(
            _square(
                f"{name}.downsample.0",
                ofmap=small,
                filter_size=1,
                channels=(channels, out),
                stride=stride,
            )
        )
    return layers


def _square(
    name: str, *, ofmap: int, filter_size: int, channels: tuple[int, int], stride: int = 1
) -> Conv2d:
    """A square layer whose ifmap, padding included, is just what its windows cover."""
    ifmap = (ofmap - 1) * stride + filter_size
    return Conv2d(
        name=name,
        ifmap_rows=ifmap,
        ifmap_cols=ifmap,
        filter_rows=filter_size,
        filter_cols=filter_size,
        in_channels=channels[0],
        out_channels=channels[1],
        stride=stride,
    )


if __name__ == "__main__":
    path = Path(__file__).with_name("resnet50.csv")
    path.write_text(topology_text(resnet50()), encoding="utf-8")
