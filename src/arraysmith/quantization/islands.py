"""What an integer network computes in floats, the same for the NumPy and the torch engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.quantization.operations import FloatIsland


def run_island(layer: FloatIsland, *arrays: NDArray[np.int64]) -> NDArray[np.int64]:
    """y = quantize(f(dequantize(x)…)) in float64; where f is undefined (0/0), y stands for 0.

    Needs the extra `learn`: f is torch's.
    """
    import torch  # noqa: PLC0415 (an integer network without islands needs no torch)

    from arraysmith.learning.float_graph import evaluate  # noqa: PLC0415

    pairs = zip(layer.terms, arrays, strict=True)
    reals = [torch.from_numpy(type_.dequantize(x)) for type_, x in pairs]
    with torch.inference_mode():
        real = evaluate(layer.operation, *reals).double().numpy()
    return layer.output.quantize(np.where(np.isnan(real), 0.0, real))
