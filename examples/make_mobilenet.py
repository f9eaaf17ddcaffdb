"""Write mobilenet.csv, the SCALE-Sim topology of MobileNet v1, from the table of its blocks.

    python examples/make_mobilenet.py

The network is that of Howard et al., "MobileNets: Efficient Convolutional Neural Networks for
Mobile Vision Applications", 2017, for one image of 224×224 and all channels: 27 convolutions, every
other one depthwise, and the fully connected layer. A depthwise row has `DP` in its name, as
SCALE-Sim wants it, which makes a layer of one channel and one filter of each of its channels.

As in make_resnet50.py, every ifmap is exactly what its windows cover, padding included, so that
SCALE-Sim's windows, rounded up, are those of a framework.
"""  # noqa: INP001 (a script, no package)

from __future__ import annotations

from pathlib import Path

from arraysmith import Conv2d, Workload
from arraysmith.formats.topology import topology_text

# Channels that leave a block and the stride of its depthwise layer.
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2))
BLOCKS += ((512, 1),) * 5 + ((1024, 2), (1024, 1))


def mobilenet() -> Workload:
    """The 28 rows, in the order they are computed; a depthwise one has one filter."""
    rows = [_square("conv1", ofmap=112, filter_size=3, channels=(3, 32), stride=2)]
    size, channels = 112, 32
    for number, (out, stride) in enumerate(BLOCKS, 1):
        size //= stride
        name = f"conv{2 * number}_dw"
        rows.append(_square(name, ofmap=size, filter_size=3, channels=(channels, 1), stride=stride))
        name = f"conv{2 * number + 1}"
        rows.append(_square(name, ofmap=size, filter_size=1, channels=(channels, out)))
        channels = out
    rows.append(_square("fc", ofmap=1, filter_size=1, channels=(channels, 1000)))
    return Workload(name="mobilenet", layers=tuple(rows))


def text() -> str:
    """The file: a name with DP would be written as that of a dense layer, so it comes last."""
    return topology_text(mobilenet()).replace("_dw,", "_DP,")


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
    path = Path(__file__).with_name("mobilenet.csv")
    path.write_text(text(), encoding="utf-8")
