"""ONNX nodes that are matrix products: Gemm and MatMul; and tables that are looked up in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.formats.onnx_import.weights import as_reals
from arraysmith.networks.functions import Function, Step
from arraysmith.networks.moves import Reshape, Take, Transpose
from arraysmith.networks.operations import Add, Elementwise, Linear, Lookup, MatMul

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.formats.onnx_import.draft import Tensor
    from arraysmith.formats.onnx_import.site import Site

    Reals = NDArray[np.float32]


def gemm(site: Site) -> None:
    """Gemm: alpha·A·B + beta·C with constant B, and A with the batch in front."""
    x = site.tensor(0)
    if len(x.shape) != 1 or site.integer("transA", 0):
        raise site.refuse_batch()
    transposed = bool(site.integer("transB", 0))
    given = site.weight(1)
    if given.ndim != 2:
        raise site.refuse(f"weights of shape {given.shape}, needs a matrix")
    alpha, beta = site.real("alpha", 1), site.real("beta", 1)
    weight = _scaled(site, given if transposed else given.T, alpha)
    out = len(weight)
    bias, beside = np.zeros(out, np.float32), None
    if site.has(2) and beta:
        if site.is_constant(2):
            inner = np.asarray(site.inner(site.weight(2), 2))
            if inner.size not in (1, out) or inner.ndim > 1:
                raise site.refuse(f"a bias of shape {inner.shape} for {out} outputs")
            bias = _scaled(site, np.broadcast_to(inner, (out,)), beta)
        else:
            beside = _scaled_tensor(site, site.tensor(2), beta)
    role = "product" if beside else ""
    made = site.add(Linear, x, role=role, weight=weight, bias=bias)
    if alpha == 1:
        site.keep_weight_type(made.name, 1, 0 if transposed else 1)
    if beside:
        if len(beside.shape) != 1:
            raise site.refuse_batch()
        made = site.add(Add, made, beside, signs=(1, 1))
    site.give(made)


def _scaled(site: Site, value: Reals, factor: float) -> Reals:
    if factor == 1:
        return np.ascontiguousarray(value)
    with np.errstate(all="ignore"):
        scaled = np.asarray(value.astype(np.float64) * factor, np.float32)
    return np.ascontiguousarray(as_reals(f"{site.draft.path}: {site.node}: a product", scaled))


def _scaled_tensor(site: Site, x: Tensor, factor: float) -> Tensor:
    if factor == 1:
        return x
    steps = (Step(function=Function.MUL, numbers=(factor,)),)
    return site.add(Elementwise, x, role="beta", steps=steps)


def matmul(site: Site) -> None:
    """MatMul: with a constant matrix a linear layer, else a product of two tensors."""
    if site.is_constant(1) and not site.is_constant(0):
        _by_constant(site, site.tensor(0))
    elif site.is_constant(0) and not site.is_constant(1):
        _of_constant(site, site.tensor(1))
    else:
        left, right = site.tensor(0), site.tensor(1)
        if len(left.shape) != len(right.shape) or len(left.shape) < 2:
            raise site.refuse_batch()
        site.give(site.add(MatMul, left, right))


def _by_constant(site: Site, x: Tensor) -> None:
    """X·W: the weights of a linear layer are W's columns."""
    given = site.weight(1)
    matrix = _matrix(given) if given.ndim <= len(x.shape) + 1 else given
    if not x.shape:
        raise site.refuse_batch()
    if matrix.ndim == 1:
        linear = _linear(site, x, matrix[None], "product")
        site.give(site.add(Reshape, linear, shape=x.shape[:-1]))
        return
    if matrix.ndim == 2:
        linear = _linear(site, x, matrix.T)
        site.keep_weight_type(linear.name, 1, given.ndim - 1)
        site.give(linear)
        return
    if given.ndim > len(x.shape) + 1 or len(x.shape) < 2:
        raise site.refuse_batch()
    site.give(site.add(MatMul, x, site.constant(site.inner(given, len(x.shape) + 1))))


def _of_constant(site: Site, x: Tensor) -> None:
    """W·X = (Xᵀ·Wᵀ)ᵀ: a linear layer between two transpositions."""
    given = site.weight(0)
    if len(x.shape) < 2 or given.ndim > len(x.shape) + 1:
        raise site.refuse_batch()
    matrix = _matrix(given)
    if matrix.ndim > 2:
        site.give(site.add(MatMul, site.constant(site.inner(given, len(x.shape) + 1)), x))
        return
    rank = len(x.shape)
    axes = (*range(rank - 2), rank - 1, rank - 2)
    turned = site.add(Transpose, x, role="turned", axes=axes)
    linear = _linear(site, turned, np.atleast_2d(matrix), "product")
    site.keep_weight_type(linear.name, 0, given.ndim - 2)
    if matrix.ndim == 1:
        site.give(site.add(Reshape, linear, shape=(*x.shape[:-2], x.shape[-1])))
        return
    site.give(site.add(Transpose, linear, axes=axes))


def _matrix(value: Reals) -> Reals:
    """A constant without its axes of one word before a matrix."""
    if value.ndim > 2 and set(value.shape[:-2]) == {1}:
        return value.reshape(value.shape[-2:])
    return value


def _linear(site: Site, x: Tensor, weight: Reals, role: str = "") -> Tensor:
    bias = np.zeros(len(weight), np.float32)
    weight = np.ascontiguousarray(weight)
    return site.add(Linear, x, role=role, weight=weight, bias=bias)


def gather(site: Site) -> None:
    """Gather of constant places, or of rows of a constant table by an input."""
    if site.is_constant(0):
        _lookup(site)
        return
    x = site.tensor(0, whole=True, moved=True)
    axis = site.place(site.integer("axis", 0), x)
    indices = site.array(1)
    if indices.dtype.kind not in "iu" or not indices.size:
        raise site.refuse("its indices are no whole numbers; export it again")
    size = x.shape[axis]
    site.draft.spend(str(site.node), 8 * indices.size)
    flat = indices.reshape(-1).astype(np.int64)
    if flat.min() < -size or flat.max() >= size:
        raise site.refuse(f"takes {flat.min()}…{flat.max()} of {size} words; mend the model")
    flat = np.where(flat < 0, flat + size, flat)
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    batch_axis = x.batch_axis + (indices.ndim - 1 if axis < x.batch_axis else 0)
    role = "" if indices.ndim == 1 else "taken"
    taken = site.add(Take, x, role=role, axis=axis, indices=flat)
    if indices.ndim != 1:
        taken = site.add(Reshape, taken, shape=shape)
    site.give(replace(taken, batch_axis=batch_axis))


def _lookup(site: Site) -> None:
    """Rows of a table by row numbers, which are an input of the network."""
    table = site.weight(0)
    x = site.tensor(1, whole=True)
    given = site.draft.inputs.get(x.name)
    if given is None or not x.whole:
        raise site.refuse("its row numbers are no input of the network; give them as one")
    if table.ndim != 2 or site.integer("axis", 0) % 2:
        raise site.refuse(f"looks up in a tensor of shape {table.shape}; rows of a matrix are read")
    if any(x.name in each.inputs for each in site.draft.operations if type(each) is not Lookup):
        raise site.refuse("its row numbers are taken as reals too; give them as two inputs")
    rows = min(len(table), given.rows or len(table))
    site.draft.inputs[x.name] = replace(given, rows=rows, type=None)
    site.give(site.add(Lookup, x, table=table))
