"""Small ONNX models that tests read."""

from __future__ import annotations

from onnx import TensorProto, helper

FLOAT, INT64, INT8, UINT8 = (
    TensorProto.FLOAT,
    TensorProto.INT64,
    TensorProto.INT8,
    TensorProto.UINT8,
)


def value(name, shape, kind=FLOAT):
    """An input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name, *shape, kind=FLOAT):
    """An initializer that says its shape and has no data."""
    return TensorProto(name=name, dims=shape, data_type=kind)


def numbers(name, *those):
    """An initializer of whole numbers."""
    return helper.make_tensor(name, INT64, [len(those)], those)


def model(nodes, inputs, weights=(), outputs=("y",), opset=17, **more):
    """A model of nodes; `more` goes to the graph."""
    graph = helper.make_graph(
        nodes, "graph", inputs, [value(name, None) for name in outputs], list(weights), **more
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("mine", 1)]
    return helper.make_model(graph, opset_imports=opsets)


def saved(folder, content, name="net.onnx"):
    """The path of a model file."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def attention():
    """Queries against keys and the values they choose, two heads; sizes come from Shape nodes."""
    make = helper.make_node
    nodes = [
        make("MatMul", ["x", "wq"], ["q"], name="query"),
        make("MatMul", ["x", "wk"], ["k"], name="key"),
        make("Shape", ["x"], ["shape"]),
        make("Slice", ["shape", "zero", "two"], ["front"]),
        make("Concat", ["front", "heads"], ["split"], axis=0),
        make("Reshape", ["q", "split"], ["q4"]),
        make("Reshape", ["k", "split"], ["k4"]),
        make("Transpose", ["q4"], ["qt"], perm=[0, 2, 1, 3]),
        make("Transpose", ["k4"], ["kt"], perm=[0, 2, 3, 1]),
        make("MatMul", ["qt", "kt"], ["scores"], name="scores"),
        make("Softmax", ["scores"], ["y"]),
    ]
    weights = [
        weight("wq", 8, 8), weight("wk", 8, 8), numbers("zero", 0), numbers("two", 2),
        numbers("heads", 2, 4),
    ]  # fmt: skip
    return model(nodes, [value("x", ["batch", "tokens", 8])], weights)


X, W = value("x", (1, 3, 8, 8)), weight("w", 4, 3, 3, 3)


def convolving(*before, inputs=(X,), weights=(W,), read="x", **attributes):
    """A model that ends in a Conv named `last`."""
    last = helper.make_node("Conv", [read, "w"], ["y"], name="last", **attributes)
    return model([*before, last], inputs, weights)


def seeds():
    """Small models to damage, of many kinds of nodes."""
    padded = convolving(
        helper.make_node("Relu", ["x"], ["r"]), read="r", strides=[2, 2], pads=[1, 1, 1, 1], group=1
    )
    deep = model(
        [
            helper.make_node("ConvTranspose", ["x", "w"], ["a"], strides=[2, 2], dilations=[1, 2]),
            helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Flatten", ["b"], ["c"]),
            helper.make_node("Gemm", ["c", "v"], ["y"], transB=1),
        ],
        [X],
        [weight("w", 3, 4, 3, 3), weight("v", 10, 360)],
    )
    return [each.SerializeToString() for each in (attention(), padded, deep)]
