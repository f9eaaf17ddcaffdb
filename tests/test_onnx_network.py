"""Networks from ONNX files: every kind of node, computed by onnxruntime and by the float graph."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_models import saved, value

from arraysmith.affine import Affine
from arraysmith.errors import InputFileError
from arraysmith.formats.onnx_import import read_network
from arraysmith.learning.float_graph import evaluate, run
from arraysmith.networks.functions import Function
from arraysmith.networks.moves import MaxPool
from arraysmith.networks.operations import (
    Add,
    ChannelAffine,
    Convolution,
    Elementwise,
    Island,
    LayerNorm,
    Linear,
    Lookup,
    Mul,
)

RANGE_TOLERANCE = 1e-5
"""Of a tensor's greatest magnitude: float32 sums in another order."""
DEEP_TOLERANCE = 1e-4
"""The same for a hundred layers."""
DATA = Path(onnx.__file__).parent / "backend/test/data"
LIGHT = sorted((DATA / "light").glob("*.onnx"))


def reals(*shape, seed=0, low=None):
    """Random float32 weights; `low` makes them positive."""
    found = np.random.default_rng(seed).normal(size=shape)
    return (found if low is None else np.abs(found) + low).astype(np.float32)


def ints(*numbers):
    """A list of int64."""
    return np.array(numbers, np.int64)


def node(op, inputs="x", outputs="y", name="", **attributes):
    """A node of space-separated inputs and outputs; `_` is an input left out."""
    names = ["" if each == "_" else each for each in inputs.split()]
    return helper.make_node(op, names, outputs.split(), name=name, **attributes)


def net(nodes, inputs, weights=None, outputs=("y",), opset=17, *, kinds=None):
    """A model; inputs are shapes by name, weights arrays by name."""
    kinds = kinds or {}
    nodes = [nodes] if not isinstance(nodes, list) else nodes
    graph = helper.make_graph(
        nodes,
        "graph",
        [value(name, shape, kinds.get(name, TensorProto.FLOAT)) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(each), name) for name, each in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def session(path):
    """onnxruntime without its own fusions."""
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def fed(path, batch, seed=7, shapes=None):
    """Random inputs of a batch, by name."""
    rng = np.random.default_rng(seed)
    found = {}
    for given in session(path).get_inputs():
        sizes = (shapes or {}).get(given.name, given.shape)
        shape = (batch, *sizes[1:])
        if "float" in given.type:
            found[given.name] = rng.normal(size=shape).astype(np.float32)
        else:
            kind = given.type.removeprefix("tensor(").removesuffix(")")
            found[given.name] = rng.integers(0, 5, shape).astype(kind)
    return found


def check(path, batch=3, shapes=None, tolerance=RANGE_TOLERANCE):
    """Read a file and compare all its outputs with onnxruntime's; the graph read."""
    graph = read_network(path, shapes)
    inputs = fed(path, batch, shapes=shapes)
    expected = session(path).run(None, inputs)
    given = {
        each.name: torch.tensor(array) if each.rows else torch.tensor(array).float()
        for each in graph.inputs
        for name, array in inputs.items()
        if re.sub("[:/]", "_", name) == each.name
    }
    found = run(graph, given)
    assert len(graph.outputs) == len(expected)
    for name, array in zip(graph.outputs, expected, strict=True):
        y = found[name].numpy()
        assert y.shape == array.shape
        assert array.shape[1:] == graph.shapes[name]
        assert np.isfinite(array).all()
        np.testing.assert_allclose(y, array, rtol=0, atol=tolerance * np.abs(array).max())
    return graph


X4, X3, X2 = {"x": ("n", 4, 7, 9)}, {"x": ("n", 4, 10)}, {"x": ("n", 6)}
TOKENS = {"x": ("n", 5, 6)}
POSITIVE = [node("Abs", "x", "a"), node("Add", "a half", "p")]
HALF = {"half": np.float32(0.5)}
CASES = {
    # Convolutions
    "conv1d": (node("Conv", "x w b", pads=[1, 2], strides=[2]), X3,
        {"w": reals(5, 4, 3), "b": reals(5)}),
    "conv2d": (node("Conv", "x w b", pads=[0, 1, 2, 3], strides=[1, 2], dilations=[2, 1]), X4,
        {"w": reals(5, 4, 3, 2), "b": reals(5)}),
    "conv-groups": (node("Conv", "x w", group=2), X4, {"w": reals(6, 2, 3, 3)}),
    "conv-same-upper": (node("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 2]), X4,
        {"w": reals(2, 4, 2, 4)}),
    "conv-same-lower": (node("Conv", "x w", auto_pad="SAME_LOWER", strides=[2, 2]), X4,
        {"w": reals(2, 4, 2, 4)}),
    "conv-valid": (node("Conv", "x w", auto_pad="VALID"), X4, {"w": reals(2, 4, 3, 3)}),
    "conv-depthwise": (node("Conv", "x w", group=4), X4, {"w": reals(8, 1, 3, 3)}),
    "transposed": (node("ConvTranspose", "x w b", strides=[2, 3], pads=[1, 0, 0, 1],
        output_padding=[1, 2]), X4, {"w": reals(4, 5, 3, 4), "b": reals(5)}),
    "transposed-groups": (node("ConvTranspose", "x w", strides=[2, 2], group=2), X4,
        {"w": reals(4, 3, 2, 2)}),
    "transposed-dilated": (node("ConvTranspose", "x w", dilations=[2, 1]), X4,
        {"w": reals(4, 3, 2, 3)}),
    "transposed-cut": (node("ConvTranspose", "x w", strides=[2, 2], pads=[2, 1, 3, 1]), X4,
        {"w": reals(4, 3, 2, 2)}),
    "transposed-1d": (node("ConvTranspose", "x w", strides=[3]), X3, {"w": reals(4, 3, 4)}),
    "transposed-shape": (node("ConvTranspose", "x w", strides=[2, 2], output_shape=[13, 18]), X4,
        {"w": reals(4, 3, 3, 3)}),
    "transposed-same": (node("ConvTranspose", "x w", strides=[2, 2], auto_pad="SAME_UPPER"), X4,
        {"w": reals(4, 3, 3, 3)}),
    "transposed-same-lower": (
        node("ConvTranspose", "x w", strides=[2, 2], auto_pad="SAME_LOWER"), X4,
        {"w": reals(4, 3, 3, 3)}),
    # Products
    "gemm": (node("Gemm", "x w b", alpha=0.5, beta=2.0), X2, {"w": reals(6, 4), "b": reals(4)}),
    "gemm-transposed": (node("Gemm", "x w b", transB=1), X2,
        {"w": reals(4, 6), "b": reals(1, 1)}),
    "gemm-bare": (node("Gemm", "x w"), X2, {"w": reals(6, 4)}),
    "gemm-two": ([node("Gemm", "x w", "a"), node("Gemm", "x v a", beta=0.5)], X2,
        {"w": reals(6, 4), "v": reals(6, 4, seed=1)}),
    "matmul": (node("MatMul", "x w"), TOKENS, {"w": reals(6, 4)}),
    "matmul-3d-weight": (node("MatMul", "x w"), TOKENS, {"w": reals(1, 6, 4)}),
    "matmul-stack": (node("MatMul", "x w"), X4, {"w": reals(4, 9, 3)}),
    "matmul-vector": (node("MatMul", "x w"), TOKENS, {"w": reals(6)}),
    "matmul-left": (node("MatMul", "w x"), TOKENS, {"w": reals(7, 5)}),
    "matmul-left-vector": (node("MatMul", "w x"), TOKENS, {"w": reals(5)}),
    "matmul-left-stack": (node("MatMul", "w x"), X4, {"w": reals(1, 4, 3, 7)}),
    "matmul-bias": ([node("MatMul", "x w", "a"), node("Add", "b a")], TOKENS,
        {"w": reals(6, 4), "b": reals(4)}),
    "matmul-two": ([node("Transpose", "x", "t", perm=[0, 2, 1]), node("MatMul", "x t")], TOKENS,
        {}),
    # Normalizations
    "batch-norm": (node("BatchNormalization", "x g b m v", epsilon=1e-3), X4, {"g": reals(4),
        "b": reals(4, seed=1), "m": reals(4, seed=2), "v": reals(4, low=0.1)}),
    "batch-norm-1d": (node("BatchNormalization", "x g b m v"), X2, {"g": reals(6),
        "b": reals(6, seed=1), "m": reals(6, seed=2), "v": reals(6, low=0.1)}),
    "layer-norm": (node("LayerNormalization", "x g b"), TOKENS, {"g": reals(6), "b": reals(6)}),
    "layer-norm-axes": (node("LayerNormalization", "x g", axis=1, epsilon=0.1), TOKENS,
        {"g": reals(5, 6)}),
    "instance-norm-plain": (node("InstanceNormalization", "x g b"), X4,
        {"g": np.ones(4, np.float32), "b": np.zeros(4, np.float32)}),
    "instance-norm": (node("InstanceNormalization", "x g b", epsilon=1e-2), X4,
        {"g": reals(4), "b": reals(4, seed=1)}),
    # Pools
    "max-pool": (node("MaxPool", "x", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]), X4,
        {}),
    "max-pool-ceil": (node("MaxPool", "x", kernel_shape=[3, 2], strides=[3, 3], ceil_mode=1), X4,
        {}),
    "max-pool-ceil-pad": (node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2],
        pads=[1, 1, 1, 1], ceil_mode=1), X4, {}),
    "max-pool-dilated": (node("MaxPool", "x", kernel_shape=[3, 2], dilations=[2, 3]), X4, {}),
    "max-pool-same": (node("MaxPool", "x", kernel_shape=[3, 2], strides=[2, 2],
        auto_pad="SAME_LOWER"), X4, {}),
    "max-pool-1d": (node("MaxPool", "x", kernel_shape=[3], strides=[2]), X3, {}),
    "average-pool": (node("AveragePool", "x", kernel_shape=[3, 2], strides=[2, 1],
        pads=[1, 0, 1, 1]), X4, {}),
    "average-pool-counted": (node("AveragePool", "x", kernel_shape=[3, 2], strides=[2, 1],
        pads=[1, 0, 2, 1], count_include_pad=1), X4, {}),
    "average-pool-ceil": (node("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2],
        pads=[0, 1, 1, 0], ceil_mode=1), {"x": ("n", 2, 8, 9)}, {}),
    "average-pool-1d": (node("AveragePool", "x", kernel_shape=[4], strides=[3]), X3, {}),
    "global-average": (node("GlobalAveragePool"), X4, {}),
    "global-max": (node("GlobalMaxPool"), X4, {}),
    # Sums, products, constants
    "add-scalar": (node("Add", "x c"), X4, {"c": np.float32(3)}),
    "add-channel": (node("Add", "x c"), X4, {"c": reals(4, 1, 1)}),
    "add-batch-of-one": (node("Add", "c x"), X4, {"c": reals(1, 4, 1, 1)}),
    "add-image": (node("Add", "x c"), X4, {"c": reals(7, 9)}),
    "add-last": (node("Add", "x c"), TOKENS, {"c": reals(6)}),
    "sub-constant": (node("Sub", "x c"), X4, {"c": reals(4, 1, 1)}),
    "sub-from-scalar": (node("Sub", "c x"), X4, {"c": np.float32(3)}),
    "sub-from-channel": (node("Sub", "c x"), X4, {"c": reals(4, 1, 1)}),
    "sub-from-image": (node("Sub", "c x"), X4, {"c": reals(7, 9)}),
    "sub-itself": ([node("Relu", "x", "r"), node("Sub", "r x")], X4, {}),
    "sum": ([node("Relu", "x", "r"), node("Sum", "r x c x")], X4, {"c": reals(4, 1, 1)}),
    "mean-of": ([node("Relu", "x", "r"), node("Mean", "r x r")], X4, {}),
    "mul-scalar": (node("Mul", "c x"), X4, {"c": reals(1)}),
    "mul-channel": (node("Mul", "x c"), X4, {"c": reals(4, 1, 1)}),
    "mul-image": (node("Mul", "x c"), X4, {"c": reals(7, 9)}),
    "mul-two": ([node("GlobalAveragePool", "x", "g"), node("Mul", "x g")], X4, {}),
    "div-scalar": (node("Div", "x c"), X4, {"c": np.float32(3)}),
    "div-channel": (node("Div", "x c"), X4, {"c": reals(4, 1, 1, low=0.2)}),
    "div-image": (node("Div", "x c"), X4, {"c": reals(7, 9, low=0.2)}),
    "div-of-scalar": ([*POSITIVE, node("Div", "c p")], X4, {**HALF, "c": np.float32(3)}),
    "div-of-one": ([*POSITIVE, node("Div", "c p")], X4, {**HALF, "c": np.float32(1)}),
    "div-of-image": ([*POSITIVE, node("Div", "c p")], X4, {**HALF, "c": reals(7, 9)}),
    "div-two": ([*POSITIVE, node("Div", "x p")], X4, HALF),
    "pow": (node("Pow", "x c"), X4, {"c": np.float32(2)}),
    "pow-two": ([*POSITIVE, node("Pow", "p x")], X4, HALF),
    "pow-of": (node("Pow", "c x"), X4, {"c": np.float32(2)}),
    "max-two": ([node("Neg", "x", "m"), node("Max", "x m")], X4, {}),
    "max-three": ([node("Neg", "x", "m"), node("Max", "x m c")], X4, {"c": reals(4, 1, 1)}),
    "max-scalar": (node("Max", "x c"), X4, {"c": np.float32(0)}),
    "min-scalar": (node("Min", "c x"), X4, {"c": np.float32(0.5)}),
    "min-one": (node("Min", "x"), X4, {}),
    # Functions
    **{
        op.lower(): (node(op), X4, {})
        for op in ("Abs", "Elu", "Erf", "Exp", "HardSigmoid", "HardSwish", "LeakyRelu", "Neg",
            "Relu", "Selu", "Sigmoid", "Softplus", "Tanh", "Celu", "Identity", "Dropout")
    },
    **{
        op.lower(): ([*POSITIVE, node(op, "p")], X4, HALF)
        for op in ("Log", "Sqrt", "Reciprocal")
    },
    "elu-alpha": (node("Elu", alpha=0.3), X4, {}),
    "celu-alpha": (node("Celu", alpha=0.3), X4, {}),
    "leaky-alpha": (node("LeakyRelu", alpha=0.3), X4, {}),
    "hard-sigmoid-alpha": (node("HardSigmoid", alpha=0.3, beta=0.4), X4, {}),
    "clip": (node("Clip", "x low high"), X4, {"low": np.float32(-1), "high": np.float32(0.5)}),
    "clip-open": (node("Clip", "x _ high"), X4, {"high": np.float32(0.5)}),
    "prelu": (node("PRelu", "x s"), X4, {"s": reals(4, 1, 1)}),
    "prelu-one": (node("PRelu", "x s"), X4, {"s": reals(1)}),
    "cast": ([node("Cast", "x", "d", to=TensorProto.DOUBLE),
        node("Cast", "d", to=TensorProto.FLOAT)], X4, {}),
    # Moves
    "flatten": (node("Flatten"), X4, {}),
    "flatten-negative": (node("Flatten", axis=-3), X4, {}),
    "reshape-zero": (node("Reshape", "x s"), X4, {"s": ints(0, -1, 9)}),
    "reshape-open": (node("Reshape", "x s"), X4, {"s": ints(-1, 28, 9)}),
    "squeeze": ([node("GlobalAveragePool", "x", "g"), node("Squeeze", "g a")], X4,
        {"a": ints(2, -1)}),
    "unsqueeze": (node("Unsqueeze", "x a"), X4, {"a": ints(1, -1)}),
    "transpose": (node("Transpose", perm=[0, 2, 3, 1]), X4, {}),
    "slice": (node("Slice", "x s e a t"), X4,
        {"s": ints(1, -1), "e": ints(3, -1000), "a": ints(1, -1), "t": ints(1, -2)}),
    "slice-all": (node("Slice", "x s e"), X4, {"s": ints(0, 2), "e": ints(2**40, 4)}),
    "split": (node("Split", "x s", "a b", axis=2), X4, {"s": ints(3, 4)}),
    "split-even": (node("Split", "x", "a b", axis=1), X4, {}),
    "gather": (node("Gather", "x i", axis=2), X4, {"i": ints(3, -1, 0)}),
    "gather-one": (node("Gather", "x i", axis=1), X4, {"i": np.int64(-2)}),
    "gather-matrix": (node("Gather", "x i", axis=-1), X4, {"i": np.array([[1, 2], [0, 8]])}),
    "concat": ([node("Relu", "x", "r"), node("Concat", "x c r", axis=1)], X4,
        {"c": reals(1, 2, 7, 9)}),
    "pad": (node("Pad", "x p v"), X4, {"p": ints(0, 1, 2, 0, 0, 0, 3, 1), "v": np.float32(2)}),
    "pad-cut": (node("Pad", "x p"), X4, {"p": ints(0, 0, 2, -1, 0, 0, -3, -2)}),
    "pad-reflect": (node("Pad", "x p", mode="reflect"), X4, {"p": ints(0, 0, 2, 1, 0, 0, 0, 3)}),
    "pad-edge": (node("Pad", "x p", mode="edge"), X4, {"p": ints(0, 0, 9, 1, 0, 0, 0, 3)}),
    "expand": ([node("GlobalAveragePool", "x", "g"), node("Expand", "g s")], X4,
        {"s": ints(1, 4, 2, 3)}),
    "expand-short": ([node("GlobalAveragePool", "x", "g"), node("Expand", "g s")], X4,
        {"s": ints(5, 1)}),
    "tile": (node("Tile", "x r"), X4, {"r": ints(1, 2, 1, 3)}),
    "depth-to-space": (node("DepthToSpace", blocksize=2), {"x": ("n", 12, 2, 3)}, {}),
    "depth-to-space-crd": (node("DepthToSpace", blocksize=2, mode="CRD"), {"x": ("n", 12, 2, 3)},
        {}),
    "space-to-depth": (node("SpaceToDepth", blocksize=2), {"x": ("n", 3, 4, 6)}, {}),
    # What sees a whole axis
    "softmax": (node("Softmax"), X4, {}),
    "softmax-channels": (node("Softmax", axis=1), X4, {}),
    "log-softmax": (node("LogSoftmax", axis=-1), X2, {}),
    "reduce-mean": (node("ReduceMean", axes=[2, 3]), X4, {}),
    "reduce-mean-dropped": (node("ReduceMean", axes=[-1], keepdims=0), X4, {}),
    "reduce-max": (node("ReduceMax", axes=[1], keepdims=0), X4, {}),
    "reduce-max-image": (node("ReduceMax", axes=[2, 3]), X4, {}),
    "reduce-sum": (node("ReduceSum", "x a", keepdims=0), X4, {"a": ints(1, 3)}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_node(case, tmp_path):
    """A node gives what onnxruntime gives, for any batch."""
    nodes, inputs, weights = CASES[case]
    last = nodes[-1] if isinstance(nodes, list) else nodes
    outputs = list(last.output)
    # A constant beside the batch in a Concat fixes the batch to its own.
    batch = 1 if case == "concat" else 3
    check(saved(tmp_path, net(nodes, inputs, weights, outputs)), batch)


@pytest.mark.parametrize("opset", range(13, 22))
def test_opsets(opset, tmp_path):
    """A small network in every opset; axes are attributes in some and inputs in others."""
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "a c c c p", "b"),
        node("Clip", "b low high", "d"),
        node("AveragePool", "d", "e", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        node("Split", "e", "f g", axis=1, **({"num_outputs": 2} if opset > 17 else {})),
        node("Mul", "f g", "h"),
        node("ReduceMean", "h axes", "i", keepdims=0)
        if opset > 17
        else node("ReduceMean", "h", "i", axes=[2], keepdims=0),
        node("ReduceSum", "i last", "j"),
        node("Squeeze", "j last", "k"),
        node("Softmax", "k", "y"),
    ]
    weights = {
        "w": reals(6, 4, 3, 3), "c": reals(6), "p": reals(6, low=0.1), "low": np.float32(-1),
        "high": np.float32(1), "axes": ints(2), "last": ints(-1),
    }  # fmt: skip
    check(saved(tmp_path, net(nodes, X4, weights, opset=opset)))


NEWER = {
    "gelu": (20, node("Gelu"), {}),
    "gelu-tanh": (20, node("Gelu", approximate="tanh"), {}),
    "mish": (18, node("Mish"), {}),
    "swish": (24, node("Swish", alpha=0.7), {}),
    "swish-plain": (24, node("Swish"), {}),
    "group-norm": (18, node("GroupNormalization", "x g b", num_groups=2, epsilon=1e-2),
        {"g": reals(2), "b": reals(2, seed=1)}),
    "group-norm-21": (21, node("GroupNormalization", "x g b", num_groups=2),
        {"g": reals(4), "b": reals(4, seed=1)}),
    "average-pool-dilated": (19, node("AveragePool", kernel_shape=[2, 3], dilations=[2, 1],
        pads=[1, 1, 1, 1]), {}),
    "pad-axes": (18, node("Pad", "x p _ a"), {"p": ints(1, 2), "a": ints(2)}),
    "pad-wrap": (19, node("Pad", "x p", mode="wrap"), {"p": ints(0, 0, 2, 1, 0, 0, 0, 3)}),
    "split-uneven": (18, node("Split", "x", "y z", axis=2, num_outputs=2), {}),
    "reduce-max": (18, node("ReduceMax", "x a"), {"a": ints(1)}),
}  # fmt: skip


@pytest.mark.parametrize("case", NEWER)
def test_newer_node(case, tmp_path):
    """Nodes that came after opset 17."""
    opset, last, weights = NEWER[case]
    check(saved(tmp_path, net(last, X4, weights, list(last.output), opset)))


OLDER = {
    "softmax-12": (12, node("Softmax", axis=1), {}),
    "softmax-11": (11, node("Softmax", axis=2), {}),
    "clip-10": (10, node("Clip", min=-1.0, max=0.5), {}),
    "slice-9": (9, node("Slice", axes=[1, 2], starts=[1, 0], ends=[3, -2]), {}),
    "pad-10": (10, node("Pad", pads=[0, 1, 2, 0, 0, 0, 3, 1], value=1.5), {}),
    "unsqueeze-12": (12, node("Unsqueeze", axes=[1]), {}),
    "split-12": (12, node("Split", "x", "y z", axis=2, split=[3, 4]), {}),
    "reduce-sum-12": (12, node("ReduceSum", axes=[1], keepdims=0), {}),
    "upsample-8": (8, node("Upsample", scales=[1.0, 1.0, 2.0, 3.0]), {}),
    "upsample-9": (9, node("Upsample", "x s"), {"s": np.array([1, 1, 2, 1.5], np.float32)}),
    "resize-10": (10, node("Resize", "x s"), {"s": np.array([1, 1, 0.6, 2], np.float32)}),
    "dropout-7": (7, node("Dropout", ratio=0.5), {}),
}


@pytest.mark.parametrize("case", OLDER)
def test_older_node(case, tmp_path):
    """Nodes as older opsets have them are read as they are."""
    opset, last, weights = OLDER[case]
    check(saved(tmp_path, net(last, X4, weights, list(last.output), opset)))


@pytest.mark.parametrize("rounded", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize(
    "placed",
    ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"],
)
def test_resize(placed, rounded, tmp_path):
    """Nearest words by all rules, up and down, by scales and by sizes.

    Where a rule falls on a word's very border, the last bit of a float32 decides; not tested.
    """
    rules = {"coordinate_transformation_mode": placed, "nearest_mode": rounded}
    for number, (scales, sizes) in enumerate(
        [([1, 1, 2, 3], ()), ([1, 1, 0.5, 1.6], ()), ((), [1, 4, 3, 20]), ((), [1, 4, 14, 1])]
    ):
        weights = {
            "roi": reals(0), "scales": np.array(scales, np.float32), "sizes": ints(*sizes),
        }  # fmt: skip
        last = node("Resize", "x roi scales" if scales else "x _ _ sizes", **rules)
        path = saved(tmp_path, net(last, {"x": (1, 4, 7, 9)}, weights, opset=19), f"{number}.onnx")
        check(path, batch=1)


GATES = {
    "silu": ([node("Sigmoid", "x", "s"), node("Mul", "s x")], Function.SILU, {}),
    "hard-swish": ([node("HardSigmoid", "x", "s", alpha=1 / 6), node("Mul", "x s")],
        Function.HARD_SWISH, {}),
    "hard-swish-clip": ([node("Add", "x three", "a"), node("Clip", "a zero six", "c"),
        node("Mul", "x c", "m"), node("Div", "m six")], Function.HARD_SWISH, {}),
    "hard-swish-divided": ([node("Add", "x three", "a"), node("Clip", "a zero six", "c"),
        node("Div", "c six", "m"), node("Mul", "m x")], Function.HARD_SWISH, {}),
    "mish": ([node("Softplus", "x", "s"), node("Tanh", "s", "t"), node("Mul", "x t")],
        Function.MISH, {}),
    "gelu": ([node("Div", "x root", "d"), node("Erf", "d", "e"), node("Add", "e one", "a"),
        node("Mul", "x a", "m"), node("Mul", "m half")], Function.GELU, {}),
    "gelu-half-first": ([node("Mul", "x half", "h"), node("Div", "x root", "d"),
        node("Erf", "d", "e"), node("Add", "one e", "a"), node("Mul", "h a")], Function.GELU, {}),
    "gelu-tanh": ([node("Pow", "x three", "p"), node("Mul", "p small", "q"),
        node("Add", "x q", "r"), node("Mul", "r pi", "t"), node("Tanh", "t", "u"),
        node("Add", "u one", "v"), node("Mul", "x half", "h"), node("Mul", "h v")],
        Function.GELU_TANH, {}),
}  # fmt: skip
NUMBERS = {
    "zero": 0.0, "half": 0.5, "one": 1.0, "three": 3.0, "six": 6.0, "root": 2**0.5,
    "small": 0.044715, "pi": (2 / np.pi) ** 0.5,
}  # fmt: skip


@pytest.mark.parametrize("case", GATES)
def test_gate(case, tmp_path):
    """Compounds that exporters take apart are one function again."""
    nodes, function, _ = GATES[case]
    weights = {name: np.float32(number) for name, number in NUMBERS.items()}
    (operation,) = check(saved(tmp_path, net(nodes, X4, weights))).operations
    assert [step.function for step in operation.steps] == [function]


def test_gate_of_another_tensor(tmp_path):
    """A gate of something else stays a product, and 1.702 is no GELU."""
    weights = {"c": np.float32(1.702)}
    nodes = [
        node("Relu", "x", "r"), node("Sigmoid", "r", "s"), node("Mul", "x s", "m"),
        node("Mul", "m c", "n"), node("Sigmoid", "n", "o"), node("Mul", "m o"),
    ]  # fmt: skip
    graph = check(saved(tmp_path, net(nodes, X4, weights)))
    assert sum(isinstance(each, Mul) for each in graph.operations) == 2


def layer_norm(square, last):
    """A layer normalization as exporters take it apart."""
    return [
        node("ReduceMean", "x", "mean", axes=[-1]), node("Sub", "x mean", "d"), square,
        node("ReduceMean", "q", "variance", axes=[-1]), node("Add", "variance e", "f"),
        node("Sqrt", "f", "s"), *last, node("Mul", "z g", "h"), node("Add", "h b"),
    ]  # fmt: skip


@pytest.mark.parametrize("square", [node("Pow", "d two", "q"), node("Mul", "d d", "q")])
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("inputs", [TOKENS, X2])
def test_layer_norm_taken_apart(square, inverse, inputs, tmp_path):
    """It is one operation again, with its gain and shift."""
    weights = {"two": np.float32(2), "e": np.float32(1e-3), "g": reals(6), "b": reals(6, seed=1)}
    last = [node("Div", "d s", "z")]
    if inverse:
        last = [node("Reciprocal", "s", "r"), node("Mul", "d r", "z")]
    path = saved(tmp_path, net(layer_norm(square, last), inputs, weights))
    (operation,) = check(path).operations
    assert isinstance(operation, LayerNorm)
    assert operation.epsilon == pytest.approx(1e-3)


def test_a_square_of_sides_is_no_channel(tmp_path):
    """A gain of channels behind a layer normalization over the last axis stays beside it."""
    weights = {"g": reals(6), "c": reals(6, 1)}
    nodes = [node("LayerNormalization", "x g", "z"), node("Mul", "z c")]
    graph = check(saved(tmp_path, net(nodes, {"x": ("n", 6, 6)}, weights)))
    assert [type(each) for each in graph.operations] == [LayerNorm, ChannelAffine]


def test_biases_behind_products(tmp_path):
    """Sums of constants behind a layer become its bias, and it keeps its name."""
    nodes = [
        node("Conv", "x w", "a", name="/stem/Conv"), node("Add", "a c", "b", name="/stem/Add"),
        node("Flatten", "b", "f", name="/Flatten"), node("MatMul", "f v", "m", name="/fc/MatMul"),
        node("Add", "m d", "n", name="/fc/Add"), node("Relu", "n", name="/relu/Relu"),
    ]  # fmt: skip
    weights = {
        "w": reals(3, 4, 7, 9), "c": reals(1, 3, 1, 1), "v": reals(3, 5), "d": reals(5, seed=1),
    }  # fmt: skip
    graph = check(saved(tmp_path, net(nodes, X4, weights)))
    assert [each.name for each in graph.operations] == ["stem", "Flatten", "fc", "relu"]
    assert graph.operations[2].bias.tolist() == weights["d"].tolist()


def test_names(tmp_path):
    """Names are what people call the layers, safe and unique."""
    names = [
        "/layer1/layer1.0/conv1/Conv", "/layer1/layer1.0/relu/Relu", "/layer1/layer1.0/relu/Relu_1",
        "", "a b:0", "../x",
    ]  # fmt: skip
    nodes = [node("Conv", "x w", "t0", name=names[0])]
    tensors = ["t0", "t1", "t2", "17", "t4", "y"]
    for number, name in enumerate(names[1:], 1):
        nodes.append(node("Relu", tensors[number - 1], tensors[number], name=name))
    graph = check(saved(tmp_path, net(nodes, X4, {"w": reals(2, 4, 1, 1)})))
    assert [each.name for each in graph.operations] == [
        "layer1.0.conv1", "layer1.0.relu.Relu", "layer1.0.relu.Relu_1", "Relu_17", "a_b_0", "x_2",
    ]  # fmt: skip


def attention(tokens):
    """Two heads with sizes from Shape nodes, a class token and positions, as exports have them."""
    nodes = [
        node("Shape", "x", "shape"), node("Gather", "shape zero", "n"),
        node("Unsqueeze", "n axis", "n1"), node("Concat", "n1 minus two d", "heads", axis=0),
        node("Concat", "n1 one width", "wanted", axis=0), node("Expand", "token wanted", "tokens"),
        node("Concat", "tokens x", "all", axis=1), node("Add", "all places", "p"),
        *[node("MatMul", f"p w{each}", each) for each in "qkv"],
        *[node("Reshape", f"{each} heads", f"{each}4") for each in "qkv"],
        node("Transpose", "q4", "qt", perm=[0, 2, 1, 3]),
        node("Transpose", "k4", "kt", perm=[0, 2, 3, 1]),
        node("Transpose", "v4", "vt", perm=[0, 2, 1, 3]),
        node("MatMul", "qt kt", "scores"), node("Sqrt", "depth", "root"),
        node("Div", "scores root", "scaled"), node("Softmax", "scaled", "chances", axis=-1),
        node("MatMul", "chances vt", "o4"), node("Transpose", "o4", "ot", perm=[0, 2, 1, 3]),
        node("Reshape", "ot joined", "o"), node("Gather", "o zero", "first", axis=1),
        node("Gemm", "first head", "y"),
    ]  # fmt: skip
    weights = {
        "zero": np.int64(0), "axis": ints(0), "minus": ints(-1), "two": ints(2), "d": ints(4),
        "one": ints(1), "width": ints(8), "token": reals(1, 1, 8),
        "places": reals(1, tokens + 1, 8, seed=5), "depth": np.float32(4), "joined": ints(0, -1, 8),
        "head": reals(8, 3),
        **{f"w{each}": reals(8, 8, seed=number) for number, each in enumerate("qkv")},
    }  # fmt: skip
    return net(nodes, {"x": ("batch", "tokens", 8)}, weights)


def test_attention(tmp_path):
    """Sizes that follow from the inputs' are folded."""
    graph = check(saved(tmp_path, attention(5)), shapes={"x": (1, 5, 8)})
    assert graph.shapes["y" if "y" in graph.shapes else graph.outputs[0]] == (3,)


def test_open_sizes_need_a_shape(tmp_path):
    """The batch may be open, others are asked for."""
    path = saved(tmp_path, attention(5))
    with pytest.raises(InputFileError, match=r"no size for dimension 1 \('tokens'\); give all, as"):
        read_network(path)


def test_embedding(tmp_path):
    """A table that an input looks up in."""
    nodes = [node("Cast", "x", "i", to=TensorProto.INT64), node("Gather", "t i")]
    kinds = {"x": TensorProto.INT32}
    path = saved(tmp_path, net(nodes, {"x": ("n", 4)}, {"t": reals(5, 3)}, kinds=kinds))
    graph = check(path)
    assert isinstance(graph.operations[0], Lookup)
    assert graph.inputs[0].rows == 5


def test_pixels(tmp_path):
    """An input of uint8 words has their type."""
    nodes = [node("Cast", "image:0", "f", to=TensorProto.FLOAT), node("Div", "f c")]
    inputs = {"image:0": ("n", 2, 2)}
    kinds = {"image:0": TensorProto.UINT8}
    graph = check(saved(tmp_path, net(nodes, inputs, {"c": np.float32(255)}, kinds=kinds)))
    assert graph.inputs[0].name == "image_0"
    assert graph.inputs[0].type == Affine(scale=1, zero_point=0, qmin=0, qmax=255)


def pair(tensor, made, scale="s", zero="z"):
    """QuantizeLinear and DequantizeLinear."""
    return [
        node("QuantizeLinear", f"{tensor} {scale} {zero}", f"{made}_q"),
        node("DequantizeLinear", f"{made}_q {scale} {zero}", made),
    ]


def quantized():
    """A quantized network of a convolution and two linear layers."""
    nodes = [
        *pair("x", "xd"),
        node("DequantizeLinear", "wq ws wz", "w", axis=0), node("DequantizeLinear", "bq bs", "b"),
        node("Conv", "xd w b", "c", name="conv"), *pair("c", "cd", "s2", "z2"),
        node("MaxPool", "cd", "m", name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        *pair("m", "md", "s2", "z2"),
        node("Flatten", "md", "f", name="flat"),
        node("DequantizeLinear", "vq vs vz", "v", axis=1), node("MatMul", "f v", "y", name="fc"),
        node("DequantizeLinear", "uq us", "u", axis=0), node("Transpose", "u", "ut", perm=[1, 0]),
        node("MatMul", "f ut", "z2nd", name="other"),
    ]  # fmt: skip
    rng = np.random.default_rng(3)
    weights = {
        "s": np.float32(0.02), "z": np.uint8(128), "s2": np.float32(0.05), "z2": np.uint8(100),
        "wq": rng.integers(-127, 128, (5, 4, 2, 2)).astype(np.int8), "ws": reals(5, low=0.01) / 100,
        "wz": np.zeros(5, np.int8), "bq": rng.integers(-99, 99, 5).astype(np.int32),
        "bs": np.float32(0.01), "vq": rng.integers(-127, 128, (60, 3)).astype(np.int8),
        "vs": reals(3, low=0.01), "vz": np.zeros(3, np.int8),
        "uq": rng.integers(-127, 128, (2, 60)).astype(np.int8), "us": reals(2, low=0.01),
    }  # fmt: skip
    return net(nodes, X4, weights, ("y", "z2nd")), weights


def test_quantized(tmp_path):
    """Pairs become types, weights keep how they were stored, and the floats are the same."""
    content, weights = quantized()
    path = saved(tmp_path, content)
    graph = read_network(path)
    names = [each.name for each in graph.operations]
    assert names == ["conv", "pool", "flat", "fc", "other"]
    first, second = (
        Affine(scale=float(weights[s]), zero_point=int(weights[z]), qmin=0, qmax=255)
        for s, z in (("s", "z"), ("s2", "z2"))
    )
    assert graph.types == {"x": first, "conv": second, "pool": second}
    assert graph.inputs[0].type is None
    for name, scale in (("conv", "ws"), ("fc", "vs"), ("other", "us")):
        kind = graph.weight_types[name]
        assert kind.scale.tolist() == weights[scale].astype(float).tolist()
        assert (kind.bits, kind.signed, kind.zero_point.max()) == (8, True, 0)
        operation = graph.operations[names.index(name)]
        stored = operation.weight.astype(np.float64) / kind.scale.reshape(
            -1, *[1] * (operation.weight.ndim - 1)
        )
        np.testing.assert_allclose(stored, np.round(stored), atol=1e-4)
    x = fed(path, 3)["x"]
    expected = session(path).run(None, {"x": x})
    found = rounded(graph, {"x": torch.tensor(x)})
    for name, array in zip(graph.outputs, expected, strict=True):
        atol = RANGE_TOLERANCE * np.abs(array).max()
        np.testing.assert_allclose(found[name], array, rtol=0, atol=atol)


def rounded(graph, tensors):
    """All tensors of a graph; those that have a type are rounded to it, as the pairs did."""
    tensors = dict(tensors)

    def put(name, x):
        affine = graph.types.get(name)
        tensors[name] = torch.tensor(affine.dequantize(affine.quantize(x))).float() if affine else x

    for name, x in list(tensors.items()):
        put(name, x)
    for each in graph.operations:
        put(each.name, evaluate(each, *(tensors[name] for name in each.inputs)))
    return tensors


def test_integers_in(tmp_path):
    """An input of integers may be dequantized, and an output quantized."""
    nodes = [
        node("DequantizeLinear", "x s z", "d"), node("Relu", "d", "r"),
        node("QuantizeLinear", "r s z", "q"),
    ]  # fmt: skip
    weights = {"s": np.float32(0.5), "z": np.int8(2)}
    kinds = {"x": TensorProto.INT8}
    path = saved(tmp_path, net(nodes, {"x": ("n", 6)}, weights, ["q"], kinds=kinds))
    graph = read_network(path)
    x = np.arange(-9, 9).reshape(3, 6)
    (expected,) = session(path).run(None, {"x": x.astype(np.int8)})
    found = run(graph, {"x": torch.tensor(x).float()})[graph.outputs[0]]
    assert graph.types[graph.outputs[0]].quantize(found).tolist() == expected.tolist()


def test_a_tensor_of_two_types(tmp_path):
    """One that is quantized twice is copied, so that both types hold."""
    nodes = [
        node("Relu", "x", "r"), *pair("r", "a"), *pair("r", "b", "t", "z"), node("Add", "a b"),
    ]  # fmt: skip
    weights = {"s": np.float32(0.02), "t": np.float32(0.03), "z": np.uint8(0)}
    graph = read_network(saved(tmp_path, net(nodes, X4, weights)))
    assert sorted(each.scale for each in graph.types.values()) == pytest.approx([0.02, 0.03])
    assert isinstance(graph.operations[-1], Add)


def test_weights_of_other_types(tmp_path):
    """float16 and double weights become float32."""
    for kind in (np.float16, np.float64):
        weights = {"w16": reals(6, 4).astype(kind)}
        nodes = [node("Cast", "w16", "w", to=TensorProto.FLOAT), node("MatMul", "x w")]
        (operation,) = check(saved(tmp_path, net(nodes, X2, weights))).operations
        assert operation.weight.dtype == np.float32


def test_external_weights(tmp_path):
    """Weights may lie beside the model."""
    content = net(node("MatMul", "x w"), X2, {"w": reals(6, 4)})
    path = tmp_path / "net.onnx"
    onnx.save(content, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    (operation,) = check(path).operations
    assert operation.weight.T.tolist() == reals(6, 4).tolist()


def test_outputs_and_inputs_in_order(tmp_path):
    """Outputs keep their order; an output may be an input; what nothing reads is left out."""
    nodes = [node("Relu", "b", "r"), node("Neg", "a", "n"), node("Exp", "n", "unread")]
    inputs = {"b": ("n", 2), "a": ("n", 3), "spare": ("n", 4)}
    content = net(nodes, inputs, outputs=("n", "r", "a"))
    graph = read_network(saved(tmp_path, content))
    assert [each.name for each in graph.inputs] == ["b", "a"]
    assert [graph.shapes[name] for name in graph.outputs] == [(3,), (2,), (3,)]


CONVERTED = sorted(DATA.glob("pytorch-*/*/model.onnx"))
SOME_REASONS = (
    "one or two axes are read",
    "the first axis",
    "computes with the integers",
)


def test_models_of_the_onnx_package():
    """PyTorch's layers as the onnx package has them, with its own inputs and outputs."""
    compared = 0
    for path in CONVERTED:
        try:
            graph = read_network(path)
        except InputFileError as error:
            assert any(each in str(error) for each in SOME_REASONS), error  # noqa: PT017
            continue
        content = onnx.load(path)
        weights = {tensor.name for tensor in content.graph.initializer}
        names = [each.name for each in content.graph.input if each.name not in weights]
        folder = path.parent / "test_data_set_0"
        tensors = {
            name: torch.tensor(numpy_helper.to_array(onnx.load_tensor(folder / f"input_{i}.pb")))
            for i, name in enumerate(names)
        }
        found = run(graph, tensors)
        for number, name in enumerate(graph.outputs):
            expected = numpy_helper.to_array(onnx.load_tensor(folder / f"output_{number}.pb"))
            # Some are roots of negative numbers: not a number, here and there.
            atol = RANGE_TOLERANCE * max(np.nanmax(np.abs(expected)), 1e-6)
            np.testing.assert_allclose(found[name].numpy(), expected, rtol=0, atol=atol)
        compared += 1
    assert compared >= 94


def with_weights(path):
    """A network of the onnx package whose fills have become random weights, up to its logits."""
    content = onnx.load(path)
    rng = np.random.default_rng(11)
    shapes = {each.name: numpy_helper.to_array(each) for each in content.graph.initializer}
    kept = []
    for each in content.graph.node:
        if each.op_type != "ConstantOfShape":
            kept.append(each)
            continue
        shape = shapes[each.input[0]].tolist()
        fan_in = np.prod(shape[1:])
        array = rng.normal(size=shape) * np.sqrt(2 / fan_in)
        if len(shape) == 1:  # of a batch normalization: a variance is positive
            array = rng.uniform(0.5, 1.5, shape)
        content.graph.initializer.append(
            numpy_helper.from_array(array.astype(np.float32), each.output[0])
        )
    # A last softmax would blow up the logits' last bits: they are compared themselves.
    if kept[-1].op_type == "Softmax":
        content.graph.output[0].name = kept.pop().input[0]
        content.graph.output[0].ClearField("type")
    del content.graph.node[:]
    content.graph.node.extend(kept)
    return content


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_networks(path, tmp_path):
    """Published networks, with weights drawn at random; an LRN is an island."""
    nodes = onnx.load(path).graph.node
    if "vgg" in path.stem:  # half a gigabyte of weights: as it is
        graph = read_network(path)
    else:
        graph = check(saved(tmp_path, with_weights(path)), batch=1, tolerance=DEEP_TOLERANCE)
    counted = sum(each.op_type in {"Conv", "Gemm"} for each in nodes)
    assert sum(isinstance(each, (Convolution, Linear)) for each in graph.operations) == counted
    norms = sum(each.op_type == "LRN" for each in nodes)
    assert sum(isinstance(each, Island) for each in graph.operations) == norms


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_response_normalization(size, tmp_path):
    """Channel by channel by the formula of ONNX; onnxruntime has none of an even size."""
    content = net([node("LRN", size=size, alpha=0.3, beta=0.6, bias=1.5)], X4)
    path = saved(tmp_path, content)
    graph = check(path) if size % 2 else read_network(path)
    (island,) = graph.operations
    assert isinstance(island, Island)
    (given,) = graph.inputs
    x = np.random.default_rng(3).normal(size=(2, *given.shape)).astype(np.float32)
    (found,) = run(graph, {given.name: torch.from_numpy(x)}).values()
    for channel in range(4):
        near = x[:, max(0, channel - (size - 1) // 2) : channel + size // 2 + 1]
        total = (near.astype(np.float64) ** 2).sum(1)
        expected = x[:, channel] / (1.5 + 0.3 / size * total) ** 0.6
        np.testing.assert_allclose(found[:, channel].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_pool_of_everything_is_a_move(tmp_path):
    """A global maximum is a pool of one window, which has an integer form."""
    (operation,) = check(saved(tmp_path, net(node("GlobalMaxPool"), X4))).operations
    assert isinstance(operation, MaxPool)


def test_islands_are_declared(tmp_path):
    """What has no integer form is an island."""
    nodes = [*POSITIVE, node("Div", "x p")]
    graph = check(saved(tmp_path, net(nodes, X4, HALF)))
    assert [type(each) for each in graph.operations] == [Elementwise, Elementwise, Island]


def test_batch_moved_and_cut(tmp_path):
    """Query, key and value as vision transformers cut them: an axis goes in front of the batch."""
    nodes = [
        node("MatMul", "x w", "p"), node("Reshape", "p five", "r"),
        node("Transpose", "r", "t", perm=[2, 0, 3, 1, 4]),
        node("Gather", "t zero", "q", axis=0), node("Gather", "t one", "k", axis=0),
        node("Slice", "t two three", "v5"), node("Squeeze", "v5 front", "v"),
        node("Transpose", "k", "kt", perm=[0, 1, 3, 2]), node("MatMul", "q kt", "s"),
        node("Softmax", "s", "c", axis=-1), node("MatMul", "c v", "o"),
        node("Transpose", "o", "ot", perm=[0, 2, 1, 3]), node("Reshape", "ot out", "y"),
    ]  # fmt: skip
    weights = {
        "w": reals(6, 24), "five": ints(0, 0, 3, 2, 4), "zero": np.int64(0), "one": np.int64(1),
        "two": ints(2), "three": ints(3), "front": ints(0), "out": ints(0, 0, 8),
    }  # fmt: skip
    check(saved(tmp_path, net(nodes, TOKENS, weights)))
    split = [
        node("Transpose", "x", "t", perm=[1, 2, 0]), node("Split", "t", "a b c d e", axis=0),
        node("Squeeze", "c front", "s"), node("Unsqueeze", "s front", "u"),
        node("Transpose", "u", perm=[2, 0, 1]),
    ]  # fmt: skip
    check(saved(tmp_path, net(split, TOKENS, weights)))


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
def test_weights_of_four_bits(kind, tmp_path):
    """Two to a byte in the file; integers of 16 bits for the activations."""
    nodes = [
        *pair("x", "xd"), node("DequantizeLinear", "wq ws", "w", axis=1),
        node("MatMul", "xd w", name="fc"),
    ]  # fmt: skip
    weights = {"s": np.float32(0.001), "z": np.int16(5), "ws": reals(3, low=0.1)}
    content = net(nodes, X2, weights, opset=21)
    values = np.arange(18) % 15 - (7 if kind == TensorProto.INT4 else 0)
    content.graph.initializer.append(helper.make_tensor("wq", kind, [6, 3], values))
    path = saved(tmp_path, content)
    graph = read_network(path)
    stored = graph.weight_types["fc"]
    assert (stored.bits, stored.signed) == (4, kind == TensorProto.INT4)
    assert graph.types["x"] == Affine(
        scale=float(np.float32(0.001)), zero_point=5, qmin=-(2**15), qmax=2**15 - 1
    )
    x = fed(path, 3)
    (expected,) = session(path).run(None, x)
    found = rounded(graph, {"x": torch.tensor(x["x"])})["fc"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_nameless_sizes(tmp_path):
    """Sizes that an exporter calls `?` have nothing to do with each other."""
    path = saved(tmp_path, net(node("Relu"), {"x": ("?", 3, "?", "?")}))
    assert read_network(path, {"x": (1, 3, 4, 5)}).inputs[0].shape == (3, 4, 5)


def test_the_batch_of_the_file(tmp_path):
    """A batch that is fixed is the batch of all inputs, and of constants that repeat for each."""
    nodes = [node("Add", "x c", "a"), node("Reshape", "a s")]
    weights = {"c": np.repeat(reals(1, 6), 4, 0), "s": ints(4, 2, 3)}
    check(saved(tmp_path, net(nodes, {"x": (4, 6)}, weights)), batch=4)


def test_a_bias_beyond_float32_stays_beside(tmp_path):
    """What would overflow is not put together."""
    nodes = [node("Gemm", "x w b", "a"), node("Add", "a b", "c"), node("Mul", "c z")]
    weights = {"w": reals(6, 6), "b": np.full(6, 3e38, np.float32), "z": np.float32(0)}
    graph = read_network(saved(tmp_path, net(nodes, X2, weights)))
    assert [type(each) for each in graph.operations] == [Linear, ChannelAffine, Elementwise]


def windows(rng):
    """A random node with windows, and what it reads."""
    op = rng.choice(["Conv", "ConvTranspose", "MaxPool", "AveragePool"])
    rank = int(rng.integers(1, 3))
    taps, strides = rng.integers(1, 4, rank).tolist(), rng.integers(1, 4, rank).tolist()
    dilations = [1] * rank
    more = {"pads": rng.integers(0, taps * 2).tolist()}
    if rng.random() < 0.4:
        dilations = rng.integers(1, 3, rank).tolist()
    elif rng.random() < 0.3:
        strides = [int(rng.integers(1, each + 1)) for each in taps]
        more = {"auto_pad": str(rng.choice(["SAME_UPPER", "SAME_LOWER"]))}
    weights = {}
    if op in {"MaxPool", "AveragePool"}:
        more |= {"kernel_shape": taps, "ceil_mode": int(rng.integers(2))}
        more |= {"count_include_pad": int(rng.integers(2))} if op == "AveragePool" else {}
    else:
        groups = int(rng.integers(1, 3))
        shape = (6, 4 // groups) if op == "Conv" else (4, 6 // groups)
        weights = {"w": reals(*shape, *taps)}
        more["group"] = groups
        if op == "ConvTranspose" and "pads" in more:
            more["output_padding"] = rng.integers(0, strides).tolist()
    op = str(op)
    last = node(op, "x w" if weights else "x", strides=strides, dilations=dilations, **more)
    return net(last, {"x": ("n", 4, *rng.integers(6, 11, rank).tolist())}, weights, opset=19)


@pytest.mark.parametrize("seed", range(60))
def test_random_windows(seed, tmp_path):
    """Windows of any size, stride, dilation and padding."""
    check(saved(tmp_path, windows(np.random.default_rng(seed))), batch=2)
