"""Models that came quantized: QuantizeLinear and DequantizeLinear become types of tensors.

A pair around a tensor says what its integers stand for, and is gone; a DequantizeLinear on a weight
makes floats and says how they were stored.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from arraysmith.affine import MAX_BITS, MIN_BITS, Affine, integer_range
from arraysmith.formats.onnx_import.draft import Stored
from arraysmith.formats.onnx_import.functions import step
from arraysmith.networks.functions import Function
from arraysmith.networks.operations import Elementwise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.formats.onnx_import.draft import Tensor
    from arraysmith.formats.onnx_import.site import Site


def quantize(site: Site) -> None:
    """QuantizeLinear of a tensor that is computed: it gets the type."""
    x = site.tensor(0)
    affine = _affine(site)
    site.give(replace(_typed(site, x, affine), type=affine))


def _typed(site: Site, x: Tensor, affine: Affine) -> Tensor:
    """A tensor that has the type: itself, or a copy where it has another already."""
    if site.draft.types.setdefault(x.name, affine) == affine:
        return x
    copied = site.add(Elementwise, x, steps=())
    site.draft.types[copied.name] = affine
    return copied


def _affine(site: Site) -> Affine:
    scale = site.number(1)
    dtype, zero_point = np.dtype(np.uint8), 0
    if site.has(2):
        dtype, zero_point = site.array(2).dtype, int(site.number(2))
    elif site.integer("output_dtype", 0):
        dtype = _integer_type(site, site.integer("output_dtype", 0))
    bits, signed = _kind(site, dtype)
    if not MIN_BITS <= bits <= MAX_BITS:
        raise site.refuse(f"makes {dtype.name}; integers of {MIN_BITS} to {MAX_BITS} bits are read")
    qmin, qmax = integer_range(bits, signed=signed)
    return Affine(scale=scale, zero_point=zero_point, qmin=qmin, qmax=qmax)


def _integer_type(site: Site, number: int) -> np.dtype[Any]:
    if number not in onnx.TensorProto.DataType.values() or not number:
        raise site.refuse(f"output_dtype {number} is unknown; export it again")
    return onnx.helper.tensor_dtype_to_np_dtype(number)


def _kind(site: Site, dtype: np.dtype[Any]) -> tuple[int, bool]:
    """Bits of an integer type, and whether it has a sign."""
    found = re.fullmatch(r"(u?)int(\d+)", dtype.name)
    if found is None:
        raise site.refuse(f"makes {dtype.name}; integers of {MIN_BITS} to {MAX_BITS} bits are read")
    return int(found[2]), not found[1]


def dequantize(site: Site) -> None:
    """DequantizeLinear of a weight, a quantized tensor, or an input of integers."""
    if site.is_constant(0):
        _weights(site)
        return
    x = site.tensor(0, whole=True)
    if x.type is None and not x.whole:
        raise site.refuse("dequantizes reals; export it again")
    affine = _affine(site)
    if x.type is None:
        steps = (
            step(Function.ADD, float(-affine.zero_point)),
            step(Function.MUL, affine.scale),
        )
        made = site.add(Elementwise, replace(x, whole=False), steps=steps)
        site.draft.types[made.name] = affine
        site.give(made)
        return
    if x.type != affine:
        raise site.refuse(
            f"dequantizes by {affine.scale}, {affine.zero_point} what was quantized by "
            f"{x.type.scale}, {x.type.zero_point}; export it again"
        )
    site.give(_typed(site, replace(x, type=None), affine))


def _weights(site: Site) -> None:
    """Integers of the file as floats; how they were stored is kept."""
    q = site.array(0)
    bits, signed = _kind(site, q.dtype)
    scale = site.weight(1).astype(np.float64)
    zero = site.array(2) if site.has(2) else np.zeros(scale.shape, np.int64)
    if site.integer("block_size", 0) or scale.ndim > 1 or scale.shape != zero.shape:
        raise site.refuse("dequantizes by blocks; export it with a scale for each channel")
    if not (scale > 0).all() or not scale.size or zero.dtype.kind == "f":
        raise site.refuse("has a scale that is not positive; mend the model")
    axis = 0
    around: tuple[int, ...] = ()
    if scale.size > 1:
        axis = site.integer("axis", 1)
        if not -q.ndim <= axis < q.ndim or q.shape[axis % q.ndim] != scale.size:
            raise site.refuse(f"has {scale.size} scales for a tensor of shape {q.shape}")
        axis %= q.ndim
        around = tuple(scale.size if place == axis else 1 for place in range(q.ndim))
    zeros = zero.reshape(-1).astype(np.int64)
    site.draft.spend(str(site.node), 4 * q.size)
    centre = np.int64 if bits >= 32 else np.int32
    centred = np.subtract(q.astype(centre), zeros.astype(centre).reshape(around))
    site.give_constant(_product(centred, scale.reshape(around)))
    if MIN_BITS <= bits <= MAX_BITS and site.node.outputs[0]:
        site.draft.stored[site.node.outputs[0]] = Stored(
            scale=scale.reshape(-1), zero_point=zeros, axis=axis, bits=bits, signed=signed
        )


def _product(centred: NDArray[Any], scale: NDArray[np.float64]) -> NDArray[np.float32]:
    """As DequantizeLinear computes it: in float32."""
    with np.errstate(all="ignore"):
        return centred.astype(np.float32) * scale.astype(np.float32)
