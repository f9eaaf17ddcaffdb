"""(3) and its like in ONNX: int64, one rounding, ties up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraysmith.quantization.onnx_integer.draft import carrier

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.affine import Affine, Requantization
    from arraysmith.quantization.onnx_integer.draft import Draft

Clamp = tuple[int | None, int | None]
OPEN: Clamp = (None, None)


def numbers(constants: Requantization) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The multiplier and the shift of a whole tensor, both of shape ()."""
    return constants.multiplier.reshape(()), constants.right_shift.reshape(())


def requantized(
    draft: Draft,
    total: str,
    output: Affine,
    multiplier: NDArray[np.int64],
    right_shift: NDArray[np.int64],
    *,
    clamp: Clamp = OPEN,
) -> str:
    """(3) of an int64 tensor, whose |total| < 2^31 so that nothing leaves int64.

    Multiplier and shift are constants that broadcast with it.
    """
    return rounded(draft, draft.emit("Mul", total, multiplier), output, right_shift, clamp=clamp)


def rounded(
    draft: Draft,
    total: str,
    output: Affine,
    right_shift: NDArray[np.int64],
    *,
    clamp: Clamp = OPEN,
) -> str:
    """clamp(zy + ((total + 2^(n-1)) >> n)) in the output's container; the sum is within int64."""
    shift = np.asarray(right_shift, np.int64)
    if (shift == shift.flat[0]).all():
        shift = shift.reshape(-1)[0]  # a scalar is applied twice as fast
    total = draft.emit("Add", total, np.asarray(np.int64(1) << (shift - 1)))
    # ONNX shifts unsigned integers only. With the top bit flipped they are the signed ones plus
    # 2^63, which n of 1 or more turns into an offset that int64 holds: no sum can overflow.
    bits = draft.emit("BitwiseXor", draft.cast(total, np.uint64), np.uint64(1 << 63))
    bits = draft.emit("BitShift", bits, shift.astype(np.uint64), direction="RIGHT")
    offset = output.zero_point - (np.int64(1) << (63 - shift))
    y = draft.emit("Add", draft.cast(bits, np.int64), np.asarray(offset))
    return clipped(draft, y, output, clamp)


def clipped(draft: Draft, tensor: str, output: Affine, clamp: Clamp = OPEN) -> str:
    """An int64 tensor clamped to the output's range, or closer, in the output's container."""
    low = output.qmin if clamp[0] is None else clamp[0]
    high = output.qmax if clamp[1] is None else clamp[1]
    clipped = draft.emit("Clip", tensor, np.int64(low), np.int64(high))
    return draft.cast(clipped, carrier(output))
