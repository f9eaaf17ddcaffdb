"""Which channels of an integer layer compute the float network's, negated.

A batch normalization of negative gain behind a ReLU is one: see `products.Activation`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.networks.operations import Convolution, Linear
    from arraysmith.quantization.products import WeightedLayer


def channel_signs(layer: WeightedLayer, operation: Convolution | Linear) -> NDArray[np.int64]:
    """(out,): -1 where the integer weights are those of the float operation negated."""
    out = len(layer.weight)
    if layer.weight.shape != operation.weight.shape:
        return np.ones(out, np.int64)
    products = layer.centred_weight * operation.weight.astype(np.float64)
    agreement = products.reshape(out, -1).sum(1)
    # A channel without weights is told by its bias.
    agreement = np.where(agreement == 0, layer.bias * operation.bias, agreement)
    return np.where(agreement < 0, -1, 1)
