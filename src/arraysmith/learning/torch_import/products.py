"""ATen matrix products and attention."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from arraysmith.learning.torch_import.arithmetic import scaled, shifted
from arraysmith.learning.torch_import.site import MASKED, Value, rank_of
from arraysmith.networks.operations import Add, Linear, MatMul, Softmax

if TYPE_CHECKING:
    from collections.abc import Callable

    from arraysmith.learning.torch_import.site import Operand, Site


def _linear(site: Site, *, x: Operand, weight: Operand, bias: Operand | None = None) -> Value:
    if not isinstance(x, Value):
        raise site.refuse("multiplies a constant by weights that depend on an input")
    site.settle(x.rank > 1, "multiplies along the batch; give it features")
    matrix = site.numbers(weight, "weight")
    numbers = np.zeros(len(matrix), np.float32) if bias is None else site.numbers(bias, "bias")
    return site.emit(Linear, x, weight=matrix, bias=numbers)


def _matmul(site: Site, *, x: Operand, other: Operand) -> Value:
    rank = rank_of(x, other)
    if isinstance(x, Value) and isinstance(other, torch.Tensor):
        matrix = other if other.ndim < 3 else site.rest(other, rank)
        if matrix.ndim == 1:
            vector = _linear(site, x=x, weight=matrix[None])
            return site.reshaped(vector, vector.shape[:-1])
        if matrix.ndim == 2:
            return _linear(site, x=x, weight=matrix.T)
    site.settle(rank > 2, "multiplies members of the batch with each other")
    return site.emit(MatMul, site.value(x, rank), site.value(other, rank))


def _bmm(site: Site, *, x: Operand, mat2: Operand) -> Value:
    return _matmul(site, x=x, other=mat2)


def _addmm(
    site: Site, *, x: Operand, mat1: Operand, mat2: Operand, beta: float = 1, alpha: float = 1
) -> Value:
    """beta·x + alpha·mat1·mat2."""
    matrix = site.fixed(mat2, "second matrix").T * alpha
    if isinstance(x, torch.Tensor) and x.ndim == 1:
        bias = (x * beta).expand(len(matrix))
        return _linear(site, x=mat1, weight=matrix, bias=bias)
    product = _linear(site, x=mat1, weight=matrix)
    if isinstance(x, Value):
        return site.emit(Add, product, scaled(site, x, float(beta)), signs=(1, 1))
    return shifted(site, product, site.numbers(site.rest(x * beta, product.rank), "constant"))


def _mm(site: Site, *, x: Operand, mat2: Operand) -> Value:
    return _matmul(site, x=x, other=mat2)


def _einsum(site: Site, *, equation: str, tensors: list[Operand], **_: object) -> Value:
    """A matrix product of two tensors: axes in both and in the result, one side's, and summed."""
    equation = equation.replace(" ", "")
    site.settle(
        len(tensors) == 2 and "->" in equation and "." not in equation,
        f"einsum {equation!r}: only products of two tensors with all axes named are read",
    )
    terms, out = equation.split("->")
    left, right = terms.split(",")
    x, other = tensors
    if not isinstance(x, Value):
        (x, left), (other, right) = (other, right), (x, left)
    assert isinstance(x, Value)  # noqa: S101 (a node without one is a constant)
    batch = left[0]
    tail = right[1:] if isinstance(other, Value) else right
    site.settle(
        out[0] == batch and (not isinstance(other, Value) or right[0] == batch),
        f"einsum {equation!r} mixes the batch; keep it the first axis of all",
    )
    shared = [c for c in left[1:] if c in tail and c in out]
    summed = [c for c in left[1:] if c in tail and c not in out]
    rows = [c for c in left[1:] if c not in tail]
    cols = [c for c in tail if c not in left]
    distinct = all(len(set(each)) == len(each) for each in (left, right, out))
    site.settle(
        distinct and batch not in tail and set(out[1:]) == {*shared, *rows, *cols},
        f"einsum {equation!r} is no matrix product; write it as one",
    )
    sizes = dict(zip(left[1:], x.shape, strict=True))
    right_sizes = other.shape if isinstance(other, Value) else tuple(other.shape)
    sizes |= dict(zip(tail, right_sizes, strict=True))

    def count(letters: list[str]) -> int:
        return math.prod(sizes[c] for c in letters)

    def arranged(value: Value, letters: str, first: list[str], second: list[str]) -> Value:
        order = [letters.index(c) for c in (*shared, *first, *second)]
        lead = tuple(sizes[c] for c in shared)
        return site.reshaped(site.transposed(value, order), (*lead, count(first), count(second)))

    a = arranged(x, left[1:], rows, summed)
    if isinstance(other, Value):
        b: Operand = arranged(other, tail, summed, cols)
    else:
        turned = other.permute([tail.index(c) for c in (*shared, *summed, *cols)])
        b = turned.reshape(*(sizes[c] for c in shared), count(summed), count(cols))
    product = _matmul(site, x=a, other=b)
    found = [*shared, *rows, *cols]
    apart = site.reshaped(product, tuple(sizes[c] for c in found))
    return site.transposed(apart, [found.index(c) for c in out[1:]])


def _attention(
    site: Site,
    *,
    query: Operand,
    key: Operand,
    value: Operand,
    attn_mask: Operand | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """softmax(query·keyᵀ·scale + mask)·value."""
    site.settle(dropout_p == 0, "drops words at random; leave that out in eval()")
    rank = rank_of(query, key, value)
    q, k, v = (site.value(each, rank) for each in (query, key, value))
    if enable_gqa:
        heads = q.shape[-3]
        k, v = (
            site.taken(each, rank - 4, np.arange(heads) * each.shape[-3] // heads)
            for each in (k, v)
        )
    axes = len(q.shape)
    turned = site.transposed(k, (*range(axes - 2), axes - 1, axes - 2))
    scores = site.emit(MatMul, q, turned)
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
    scores = scaled(site, scores, factor)
    if is_causal:
        seen = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
        scores = _masked(site, scores, seen)
    if attn_mask is not None:
        scores = _masked(site, scores, attn_mask)
    weights = site.emit(Softmax, scores, axis=axes - 1)
    return site.emit(MatMul, weights, v)


def _masked(site: Site, scores: Value, mask: Operand) -> Value:
    """Scores plus a mask: what a softmax must not see becomes very small."""
    if isinstance(mask, Value):
        return site.emit(Add, scores, site.value(mask, scores.rank), signs=(1, 1))
    if mask.dtype is torch.bool:
        mask = torch.where(mask, 0.0, MASKED)
    rest = site.rest(mask, scores.rank).clamp(min=MASKED)
    return shifted(site, scores, site.numbers(rest, "mask"))


PRODUCTS: dict[str, Callable[..., Value]] = {
    "linear": _linear,
    "matmul": _matmul,
    "bmm": _bmm,
    "mm": _mm,
    "addmm": _addmm,
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
}
"""By ATen name, what makes operations of a node."""
