"""Convolutions over a column of words are those of torch in two dimensions."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 (its usual name)

from arraysmith.learning.float_graph import evaluate
from arraysmith.networks.operations import Convolution
from arraysmith.networks.windows import Windows

CASES = (
    # size, strides, dilations, before, after, groups, width
    ((5, 1), (2, 1), (1, 1), (2, 0), (2, 0), 1, 1),
    ((5, 1), (1, 3), (2, 2), (1, 0), (3, 0), 2, 1),
    ((3, 1), (1, 1), (1, 1), (1, 1), (1, 1), 1, 1),
    ((3, 1), (1, 1), (1, 1), (0, 1), (0, 0), 1, 1),
    ((3, 1), (1, 2), (1, 1), (1, 0), (1, 0), 1, 4),
    ((1, 1), (1, 1), (1, 1), (0, 0), (0, 0), 4, 1),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_column_is_convolved_as_an_image(case):
    """Whatever stride, dilation, padding and groups, in float64."""
    size, strides, dilations, before, after, groups, width = case
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 17, width, generator=generator, dtype=torch.float64)
    weight = torch.randn(8, 4 // groups, *size, generator=generator)
    bias = torch.randn(8, generator=generator)
    windows = Windows(size=size, strides=strides, dilations=dilations, before=before, after=after)
    convolution = Convolution(
        name="conv",
        inputs=("x",),
        weight=weight.numpy(),
        bias=bias.numpy(),
        windows=windows,
        groups=groups,
    )
    padded = F.pad(x, (before[1], after[1], before[0], after[0]))
    wanted = F.conv2d(padded, weight.double(), bias.double(), strides, 0, dilations, groups)
    found = evaluate(convolution, x)
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, rtol=1e-12, atol=1e-12)
