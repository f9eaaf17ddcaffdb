"""Integer networks as ONNX models: ONNX Runtime gives what unbounded integers give."""

from __future__ import annotations

import sys
from math import isqrt

import numpy as np
import pytest

from arraysmith.affine import Affine, Requantization
from arraysmith.errors import InvalidNetworkError, MissingExtraError, OutputError
from arraysmith.networks.graph import Input
from arraysmith.networks.moves import Concat, Expand, MaxPool, Reshape, Take
from arraysmith.networks.windows import Windows
from arraysmith.quantization import operations
from arraysmith.quantization.network import IntegerNetwork
from arraysmith.quantization.products import IntegerConvolution, IntegerLinear

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from exact_integers import exact  # noqa: E402
from integer_layers import MAKERS, MOVE_KINDS, finish, move, network, weights, words  # noqa: E402
from network_cases import ALL_KINDS, random_inputs, random_network  # noqa: E402

from arraysmith.quantization import int8  # noqa: E402
from arraysmith.quantization.onnx_integer import export_integer, integer_model  # noqa: E402
from arraysmith.quantization.onnx_session import LEVELS, run_integer, session  # noqa: E402

ALLOWED = {
    *("Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Clip", "LessOrEqual"),
    *("BitShift", "BitwiseXor", "Cast", "ConvInteger", "MatMulInteger", "MatMul"),
    *("ReduceSum", "ReduceMax", "MaxPool", "Gather", "Pad", "Slice", "Concat", "Transpose"),
    *("Reshape", "Unsqueeze", "Expand", "Shape", "Identity"),
}
INTEGERS = {"INT8", "UINT8", "INT16", "UINT16", "INT32", "INT64", "UINT64", "BOOL"}
U8 = Affine(scale=0.1, zero_point=0, qmin=0, qmax=255)
I8 = Affine(scale=0.1, zero_point=3)
I16 = Affine(scale=0.1, zero_point=-5, qmin=-32768, qmax=32767)


def check(net, fed, levels=LEVELS, **options):
    """Every layer's tensor is the exact one at every level, in a model of integers alone."""
    model = integer_model(net, every=True, **options)
    check_integers(model)
    wanted = exact(net, fed)
    for layer, tensor in int8.trace(net, fed):
        np.testing.assert_array_equal(tensor, wanted[layer.name], err_msg=layer.name)
    for level in levels:
        found = run_integer(model, fed, level)
        assert found.keys() == wanted.keys()
        for name, tensor in wanted.items():
            np.testing.assert_array_equal(found[name], tensor, err_msg=f"{name} at {level}")
    return model


def check_integers(model):
    """The model is valid, and no tensor of it is a float."""
    onnx.checker.check_model(model, full_check=True)
    whole = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    assert {node.op_type for node in model.graph.node} <= ALLOWED
    graph = whole.graph
    tensors = [*graph.input, *graph.output, *graph.value_info]
    kinds = {tensor.type.tensor_type.elem_type for tensor in tensors}
    kinds |= {constant.data_type for constant in graph.initializer}
    assert {onnx.TensorProto.DataType.Name(kind) for kind in kinds} <= INTEGERS
    made = {output for node in graph.node for output in node.output}
    assert made <= {tensor.name for tensor in tensors}  # so that `kinds` are all there are
    for node in graph.node:  # and no attribute brings one in
        assert {attribute.type for attribute in node.attribute} <= {
            onnx.AttributeProto.INT,
            onnx.AttributeProto.INTS,
            onnx.AttributeProto.STRING,
        }


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_every_record(maker):
    """Random layers of each record, all widths: the exact integers at every level."""
    for seed in range(12):
        layer, given = maker(np.random.default_rng([seed, MAKERS.index(maker)]))
        check(*network(layer, given, batch=1 if seed % 2 else 3))


@pytest.mark.parametrize("kind", range(MOVE_KINDS))
def test_every_move(kind):
    """Random moves of each kind, in every container."""
    for seed in range(6):
        layer, given = move(np.random.default_rng([seed, kind]), kind)
        check(*network(layer, given, batch=1 if seed % 2 else 3))


@pytest.mark.parametrize("size", [1, 3])
def test_random_networks(size):
    """Graphs of all records that have an integer form: every layer's tensor, at every level."""
    kinds = [kind for kind in ALL_KINDS if kind is not operations.FloatIsland]
    for seed in range(8):
        rng = np.random.default_rng([seed, size])
        net = random_network(rng, layers=10, kinds=kinds)
        check(net, random_inputs(net, rng, batch=size))


def layer_fields(name, input_, weight, *, zeros=0, bits=8, bias=0):
    """Fields of a weighted layer that gives logits."""
    out = len(weight)
    return {
        "name": name,
        "inputs": ("x",),
        "input": input_,
        "weight": np.asarray(weight, np.int16),
        "weight_bits": bits,
        "weight_zero_point": np.broadcast_to(np.int64(zeros), (out,)),
        "weight_scale": np.ones(out),
        "bias": np.broadcast_to(np.int32(bias), (out,)),
        "output": None,
        "requantization": None,
    }


def alone(layer, type_, shape):
    """A network of one layer."""
    given = Input(name="x", shape=shape, type=type_)
    return IntegerNetwork(name="net", inputs=(given,), layers=(layer,), outputs=(layer.name,))


@pytest.mark.parametrize("zeros", [0, 127, [-128, 127, 0, 5]], ids=["none", "end", "each"])
def test_products_do_not_saturate(zeros):
    """All words at their ends: two products do not fit 16 bits, as in vpmaddubsw."""
    weight = np.array([127, -128, 127, -128])[:, None] * np.ones((4, 64), int)
    weight[2:, ::2] = -1
    fields = layer_fields("y", U8, weight, zeros=zeros)
    fed = {"x": np.stack([np.full(64, 255), np.zeros(64, int), np.arange(64) % 2 * 255])}
    model = check(alone(IntegerLinear(**fields), U8, (64,)), fed)
    products = [node for node in model.graph.node if node.op_type == "MatMulInteger"]
    constants = {each.name: each for each in model.graph.initializer}
    assert products
    for node in products:
        assert constants[node.input[1]].data_type == onnx.TensorProto.UINT8
    window = Windows(size=(3, 3), strides=(1, 1), dilations=(1, 1), before=(1, 1), after=(1, 1))
    image = np.repeat(weight[:, :16], 9, axis=1).reshape(4, 16, 3, 3)
    fields = layer_fields("y", U8, image, zeros=zeros)
    check(
        alone(IntegerConvolution(**fields, windows=window), U8, (16, 5, 5)),
        {"x": np.full((2, 16, 5, 5), 255)},
    )


@pytest.mark.parametrize("shift", [1, 2, 31, 61, 62])
def test_ends_of_int32_times_31_bits(shift):
    """acc = -2^31, m = 2^31 - 1: the sum of (3) is beyond 2^62 and still within int64."""
    type_ = Affine(scale=0.1, zero_point=0, qmin=0, qmax=65535)
    fields = layer_fields("y", type_, [[-32768], [32767]], bits=16, bias=[-32768, 98302])
    largest = Requantization(
        multiplier=np.array([2**31 - 1]), right_shift=np.array([shift]), bits=31
    )
    fields |= {"output": I16, "requantization": largest}
    layer = IntegerLinear(**fields)
    assert layer.accumulator_range[0] == -(2**31)
    assert layer.accumulator_range[1] == 2**31 - 1
    check(alone(layer, type_, (1,)), {"x": np.array([[65535], [0], [1], [40000]])})


def test_bare_accumulators_at_the_ends_of_int32():
    """65,793 products of 8-bit words, an accumulator that just fits."""
    depth = 65793
    weight = np.full((2, depth), -128)
    weight[1] = 127
    layer = IntegerLinear(**layer_fields("y", U8, weight, bias=[-128, 5]))
    assert layer.accumulator_range[0] == -(2**31)
    check(alone(layer, U8, (depth,)), {"x": np.full((1, depth), 255)}, levels=("disabled", "all"))


def test_parts_beyond_int32_leave_a_sum_within_it():
    """A channel whose zero point is its only weight adds up to 0, from parts that wrap around."""
    depth = 70000
    weight = np.full((3, depth), -128)
    weight[1:, 0] = 127
    fields = layer_fields("y", U8, weight, zeros=[-128, -128, 127], bits=8)
    fields["weight"] = np.where(np.arange(depth) > 0, fields["weight_zero_point"][:, None], weight)
    fields["weight"] = fields["weight"].astype(np.int16)
    fields["weight"][2, 0] = -128
    check(alone(IntegerLinear(**fields), U8, (depth,)), {"x": np.full((2, depth), 255)})


def test_a_mean_near_the_end_of_int32():
    """ReduceSum adds int32 exactly."""
    type_ = Affine(scale=0.1, zero_point=0, qmin=0, qmax=65535)
    layer = operations.IntegerMean(
        name="y",
        inputs=("x",),
        axes=(0,),
        input=type_,
        output=type_,
        requantization=Requantization(
            multiplier=np.array([2**31 - 1]), right_shift=np.array([46]), bits=31
        ),
    )
    rng = np.random.default_rng(3)
    rows = np.stack([np.full(32768, 65535), rng.integers(65000, 65536, 32768)])
    check(alone(layer, type_, (32768,)), {"x": rows})


def test_square_roots():
    """⌊√n⌋ for squares, their neighbours and the ends of int64."""
    from arraysmith.quantization.onnx_integer.draft import Draft
    from arraysmith.quantization.onnx_integer.elements import square_root

    greatest = 2**63 - 1
    sides = [0, 1, 2, 3, 1000, 2**16, 2**26 + 1, 94906266, 2**31 - 1, 2**31, isqrt(greatest)]
    near = {side * side + step for side in sides for step in (-1, 0, 1)} | {greatest}
    values = np.array(sorted(value for value in near if 0 <= value <= greatest))
    layer = Reshape(name="y", inputs=("x",), shape=(1,))
    given = Input(name="x", shape=(1,), rows=1)
    net = IntegerNetwork(name="net", inputs=(given,), layers=(layer,), outputs=("y",))
    draft = Draft(net)
    draft.begin("y")
    draft.end(square_root(draft, "x", greatest), ("x",), np.dtype(np.int64))
    model = integer_model(net)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(draft.nodes)
    model.graph.initializer.extend(draft.constants.values())
    found = run_integer(model, {"x": values[:, None]}, "all")["y"]
    assert found[:, 0].tolist() == [isqrt(value) for value in values.tolist()]


def test_a_variance_near_the_end_of_int64():
    """Σ d² + epsilon that just stays below 2^63."""
    size = 1280
    rng = np.random.default_rng(5)
    layer = operations.IntegerLayerNorm(
        name="y",
        inputs=("x",),
        input=I16,
        output=I16,
        epsilon=2**63 - 1 - size * (size * 65535) ** 2,
        multiplier=rng.integers(-(2**24) + 1, 2**24, size),
        bias=rng.integers(-(2**60), 2**60, size),
        right_shift=24,
    )
    rows = np.stack([rng.choice([-32768, 32767], size), rng.integers(-32768, 32768, size)])
    model = check(alone(layer, I16, (size,)), {"x": rows})
    check_sums(model)


def check_sums(model):
    """ReduceSum reads int32 alone: of int64 ONNX Runtime adds doubles, 2^53 + 1 being 2^53."""
    whole = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    kinds = {each.name: each.type.tensor_type.elem_type for each in whole.graph.value_info}
    read = {node.input[0] for node in model.graph.node if node.op_type == "ReduceSum"}
    assert {kinds[name] for name in read} == {onnx.TensorProto.INT32}


def constants_of_3(output, shift=12):
    """A multiplier and a shift that fit nothing in particular."""
    numbers = Requantization(multiplier=np.array([77]), right_shift=np.array([shift]), bits=7)
    return {"output": output, "requantization": numbers}


@pytest.mark.parametrize("axes", [1, 2])
def test_groups_whose_zero_points_are_far_apart(axes):
    """Channels of a group share what their zero points are multiplied by."""
    rng = np.random.default_rng(axes)
    weight = rng.choice([-128, 127], (6, 2, *(3,) * axes))
    fields = layer_fields("y", I16, weight, zeros=[-128, 127, 0, 5, -7, 127])
    window = Windows(
        size=(3,) * axes,
        strides=(2,) * axes,
        dilations=(1,) * axes,
        before=(1,) * axes,
        after=(2,) * axes,
    )
    layer = IntegerConvolution(**fields | constants_of_3(I8, 16), windows=window, groups=3)
    net = alone(layer, I16, (6, *(9,) * axes))
    check(net, {"x": words(rng, I16, 3, 6, *(9,) * axes)})


def test_windows_of_padding_alone():
    """An average of no word is 0 once centred."""
    window = Windows(size=(2,), strides=(2,), dilations=(1,), before=(4,), after=(0,))
    nibble = Affine(scale=0.1, zero_point=3, qmin=-8, qmax=7)
    pool = operations.IntegerAveragePool(
        name="y", inputs=("x",), windows=window, input=nibble, **constants_of_3(I8)
    )
    check(alone(pool, nibble, (2, 5)), {"x": np.arange(10).reshape(1, 2, 5) - 5})


def branched():
    """Inputs of every kind, constants, a branch, logits that are moved, an embedding."""
    rng = np.random.default_rng(11)
    window = Windows(size=(3,), strides=(1,), dilations=(1,), before=(1,), after=(1,))
    bound, fields = weights(rng, (4, 2, 3), I8, 8)
    convolution = IntegerConvolution(
        name="conv", inputs=("a",), windows=window, **fields, **finish(rng, bound, 4)
    )
    ids = operations.IntegerLookup(
        name="rows", inputs=("ids",), table=words(rng, I8, 10, 5), output=I8
    )
    constant = operations.IntegerConstant(
        name="constant", inputs=(), value=words(rng, I8, 2, 5), output=I8
    )
    logits = IntegerLinear(
        **layer_fields("logits", I8, words(rng, I8, 3, 5)) | {"inputs": ("joined",)}
    )
    layers = (
        convolution,
        ids,
        constant,
        Expand(name="wide", inputs=("constant",), shape=(1, 2, 5)),
        Concat(name="joined", inputs=("constant", "rows", "constant"), axis=0),
        logits,
        MaxPool(name="greatest", inputs=("logits",), windows=window),
        Take(name="last", inputs=("greatest",), axis=1, indices=np.array([2, 0])),
        Take(name="some", inputs=("ids",), axis=0, indices=np.array([2, 0])),
        operations.IntegerLookup(name="some-rows", inputs=("some",), table=ids.table, output=I8),
    )
    inputs = (
        Input(name="a", shape=(2, 7), type=I8),
        Input(name="ids", shape=(3,), rows=10),
    )
    return IntegerNetwork(
        name="branched", inputs=inputs, layers=layers, outputs=("last", "conv", "some-rows", "wide")
    )


@pytest.mark.parametrize("size", [1, 3])
def test_a_network(size):
    """Layers read one another; a constant's batch is 1 and is repeated where it must be."""
    rng = np.random.default_rng(size)
    net = branched()
    fed = {"a": words(rng, I8, size, 2, 7), "ids": rng.integers(0, 10, (size, 3))}
    model = check(net, fed)
    check(net, fed, batch=size)
    plain = integer_model(net)
    assert [output.name for output in plain.graph.output] == list(net.outputs)
    found = run_integer(plain, fed)
    wanted = exact(net, fed)
    assert all(np.array_equal(found[name], wanted[name]) for name in net.outputs)
    assert {node.name.split("/")[0] for node in model.graph.node} == {x.name for x in net.layers}


def test_natural_types():
    """Narrow containers between layers, int32 logits, int64 row numbers; the batch by name."""
    model = integer_model(branched(), every=True)
    kinds = {
        each.name: onnx.TensorProto.DataType.Name(each.type.tensor_type.elem_type)
        for each in (*model.graph.input, *model.graph.output)
    }
    assert kinds["a"] == kinds["rows"] == "INT8"
    assert kinds["ids"] == kinds["some"] == "INT64"
    assert kinds["logits"] == kinds["last"] == "INT32"
    shapes = {
        each.name: [d.dim_param or d.dim_value for d in each.type.tensor_type.shape.dim]
        for each in (*model.graph.input, *model.graph.output)
    }
    assert shapes["a"] == ["batch", 2, 7]
    assert shapes["constant"] == [1, 2, 5]
    notes = {each.key: each.value for each in model.metadata_props}
    assert notes["a"] == "scale 0.1 zero_point 3 qmin -128 qmax 127"
    assert "last" not in notes
    assert "one rounding, ties up" in model.doc_string


def test_export_is_the_model(tmp_path):
    """The file holds the model; the same network gives the same bytes."""
    net = branched()
    export_integer(net, tmp_path / "net.onnx")
    export_integer(net, tmp_path / "again.onnx")
    content = (tmp_path / "net.onnx").read_bytes()
    assert content == (tmp_path / "again.onnx").read_bytes()
    assert onnx.load_model_from_string(content) == integer_model(net)
    with pytest.raises(OutputError, match="cannot be written"):
        export_integer(net, tmp_path / "net.onnx" / "inside.onnx")


def test_an_output_that_is_an_input_or_twice_there():
    """An output is a tensor, whoever makes it; twice the same is once."""
    layer = Reshape(name="y", inputs=("x",), shape=(2, 2))
    given = Input(name="x", shape=(4,), type=I8)
    net = IntegerNetwork(name="net", inputs=(given,), layers=(layer,), outputs=("y", "x", "y"))
    found = run_integer(integer_model(net), {"x": np.array([[1, 2, 3, 4]])})
    assert {name: y.tolist() for name, y in found.items()} == {
        "y": [[[1, 2], [3, 4]]],
        "x": [[1, 2, 3, 4]],
    }


def test_islands_are_refused():
    """A float operation has no integer model."""
    from arraysmith.networks.operations import Island, IslandKind

    divide = Island(name="ratio", inputs=("x", "x"), kind=IslandKind.DIVIDE)
    layer = operations.FloatIsland(
        name="ratio", inputs=("x", "x"), operation=divide, terms=(I8, I8), output=I8
    )
    with pytest.raises(InvalidNetworkError) as refusal:
        integer_model(alone(layer, I8, (4,)))
    assert str(refusal.value) == (
        "layer 'ratio' runs in floats, which a model of integers cannot hold; export a QDQ model, "
        "or quantize with --integer-only"
    )


def test_a_pool_beyond_int32_is_refused():
    """The record does not bound an average pool's sum; (3) needs it within int32."""
    window = Windows(size=(200, 200), strides=(1, 1), dilations=(1, 1), before=(0, 0), after=(0, 0))
    layer = operations.IntegerAveragePool(
        name="y",
        inputs=("x",),
        windows=window,
        input=Affine(scale=1, zero_point=0, qmin=0, qmax=65535),
        output=I8,
        requantization=Requantization(multiplier=np.array([1]), right_shift=np.array([30]), bits=1),
    )
    with pytest.raises(InvalidNetworkError, match="a sum of 40000 words can leave int32"):
        integer_model(alone(layer, layer.input, (1, 200, 200)))


def test_wrong_inputs_are_named():
    """A missing input, and integers that its type does not hold."""
    model = integer_model(branched())
    with pytest.raises(InvalidNetworkError, match="input 'a' is missing; got ids"):
        run_integer(model, {"ids": np.zeros((1, 3), int)})
    fed = {"ids": np.zeros((1, 3), int), "a": np.full((1, 2, 7), 128)}
    with pytest.raises(InvalidNetworkError, match=r"input 'a' has 128…128, which int8 does not"):
        run_integer(model, fed)
    with pytest.raises(InvalidNetworkError, match="different batches: a has 2, ids has 1"):
        run_integer(model, fed | {"a": np.zeros((2, 2, 7), int)})
    with pytest.raises(InvalidNetworkError, match="no optimisation level 'most'; choose disabled,"):
        session(model, "most")


def test_a_session_of_a_float_model():
    """What runs integer models also runs those that take reals."""
    make, real = onnx.helper, onnx.TensorProto.FLOAT
    x, y = (make.make_tensor_value_info(name, real, ["n", 2]) for name in "xy")
    graph = make.make_graph([make.make_node("Neg", ["x"], ["y"])], "negative", [x], [y])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 21)], ir_version=10)
    found = session(model, "all")({"x": np.array([[0.1, -3]])})["y"]
    assert found.dtype == np.float32
    assert found.tolist() == np.float32([[-0.1, 3]]).tolist()


def test_without_onnx_runtime(monkeypatch):
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"needs onnxruntime: pip install 'arraysmith\[onn"):
        run_integer(integer_model(branched()), {})
