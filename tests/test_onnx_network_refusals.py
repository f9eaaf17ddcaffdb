"""ONNX files that are refused as networks: one clear line for each, and nothing is allocated."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper, numpy_helper
from onnx_models import convolving, saved, value
from test_onnx_network import TOKENS, X2, X4, attention, ints, net, node, quantized, reals

from arraysmith.errors import InputFileError
from arraysmith.formats.onnx_import import network, read_network

BATCH = "the first axis is the batch and stays so; export the model so that it is"
LISTED = " (docs/onnx.md lists what is)"
CONV = {"w": reals(2, 4, 3, 3)}


def refused(path, shapes=None):
    """The message of a refusal, after the path."""
    with pytest.raises(InputFileError) as error:
        read_network(path, shapes)
    assert str(error.value).isprintable()
    return str(error.value).removeprefix(f"{path}: ")


def changed(content, **fields):
    """A model of which the first initializer says something else."""
    for name, each in fields.items():
        if isinstance(each, list):
            getattr(content.graph.initializer[0], name)[:] = each
        else:
            setattr(content.graph.initializer[0], name, each)
    return content


def conv(**more):
    """A model of one Conv."""
    return net(node("Conv", "x w", name="stem", **more), X4, CONV)


def holding(number):
    """A weight with a number that is none."""
    weights = {"w": reals(2, 4, 3, 3)}
    weights["w"][1, 2, 0, 1] = number
    return net(node("Conv", "x w"), X4, weights)


def one(op, inputs="x", shapes=X4, weights=None, **attributes):
    """A model of one node, named `here`."""
    return net(node(op, inputs, name="here", **attributes), shapes, weights)


def cyclic():
    """Two nodes that wait for each other."""
    return net([node("Relu", "b", "a", name="first"), node("Neg", "a", "b")], X2, outputs=("a",))


def huge(op, sizes):
    """A constant that a few numbers make."""
    nodes = [node(op, "s" if op == "ConstantOfShape" else "c s", "m", name="here")]
    nodes.append(node("Add", "x m"))
    return net(nodes, X2, {"s": ints(*sizes), "c": reals(1)})


def ranging():
    """A list without end."""
    nodes = [node("Range", "a b c", "r", name="here"), node("Add", "x r")]
    weights = {"a": np.float32(0), "b": np.float32(1e30), "c": np.float32(1)}
    return net(nodes, X2, weights)


def open_size():
    """An image whose height is open."""
    return one("Relu", shapes={"x": ("n", 3, "height", 8)})


REFUSALS = {
    "empty": (lambda: b"", "holds no ONNX graph; export it again"),
    "text": (lambda: b"conv1, 8, 8", "no ONNX model, or cut off or damaged; export it again"),
    "truncated": (
        lambda: conv().SerializeToString()[:-9],
        "no ONNX model, or cut off or damaged; export it again",
    ),
    "cycle": (
        cyclic,
        (
            "node 'first' (Relu) reads 'b', which nothing before it makes; nodes must be sorted "
            "and without cycles: export it again"
        ),
    ),
    "no-weights": (
        convolving,
        (
            "tensor 'w' of shape [4, 3, 3, 3] holds no numbers; export the model with its weights"
        ),
    ),
    "lying-size": (
        lambda: changed(conv(), dims=[10**6, 10**6]),
        (
            "tensor 'w' of shape [1000000, 1000000] holds 288 bytes, not 4,000,000,000,000; it is "
            "damaged, export it again"
        ),
    ),
    "negative-size": (
        lambda: changed(conv(), dims=[-2, -4, 3, 3]),
        (
            "tensor 'w' of shape [-2, -4, 3, 3] holds 288 bytes, not 288; it is damaged, export it "
            "again"
        ),
    ),
    "unknown-type": (
        lambda: changed(conv(), data_type=99),
        "tensor 'w' has the unknown type 99; export it again",
    ),
    "not-a-number": (
        lambda: holding(np.nan),
        "tensor 'w' holds nan at [1, 2, 0, 1]; mend or train the model again",
    ),
    "infinite": (
        lambda: holding(-np.inf),
        "tensor 'w' holds -inf at [1, 2, 0, 1]; mend or train the model again",
    ),
    "too-large-for-float32": (
        lambda: net(node("Add", "x c"), X2, {"c": np.array([1, 2, 3, 4, 5, 1e300])}),
        "tensor 'c' holds inf at [5]; mend or train the model again",
    ),
    "huge-fill": (
        lambda: huge("ConstantOfShape", [10**6, 10**6]),
        (
            "node 'here' (ConstantOfShape): makes a constant of 1,000,000,000,000 words; at most "
            "268,435,456 are computed"
        ),
    ),
    "huge-expand": (
        lambda: huge("Expand", [10**6, 10**6]),
        (
            "node 'here' (Expand): makes a constant of up to 1,000,000,000,000 words; at most "
            "268,435,456 are computed"
        ),
    ),
    "huge-tile": (
        lambda: huge("Tile", [10**12]),
        (
            "node 'here' (Tile): makes a constant of up to 1,000,000,000,000 words; at most "
            "268,435,456 are computed"
        ),
    ),
    "huge-range": (
        ranging,
        (
            "node 'here' (Range): makes a constant of up to "
            f"{int(np.float32(1e30)):,} words; at most 268,435,456 are computed"
        ),
    ),
    "huge-input": (
        lambda: one("Relu", shapes={"x": (1, 10**6, 10**6)}),
        "input 'x' of shape [1, 1000000, 1000000] has more than 2,147,483,648 words",
    ),
    "huge-expansion": (
        lambda: one("Expand", "x s", {"x": ("n", 1)}, {"s": ints(1, 10**12)}),
        (
            "node 'here' (Expand): makes a tensor of shape (1000000000000,), more than "
            "2,147,483,648 words"
        ),
    ),
    "huge-resize": (
        lambda: one("Resize", "x _ c", {"x": ("n", 1, 9)}, {"c": np.float32([1, 1, 1e9])}),
        "node 'here' (Resize): makes 9,000,000,000 of 9 words; mend the model",
    ),
    "unknown-op": (
        lambda: one("Einsum", equation="nchw->nc"),
        f"node 'here' (Einsum): is not read; export the model with other operations{LISTED}",
    ),
    "qoperator": (
        lambda: one("QLinearConv", "x s z w s z s z", weights={
            "s": np.float32(1), "z": np.uint8(0), "w": np.ones((2, 4, 3, 3), np.uint8)}),
        (
            "node 'here' (QLinearConv): is of the QOperator form; quantize the model in the QDQ "
            f"form{LISTED}"
        ),
    ),
    "bilinear": (
        lambda: one("Resize", "x _ c", weights={"c": np.float32([1, 1, 2, 2])}, mode="linear"),
        "node 'here' (Resize): mode 'linear' mixes words; export the model with mode 'nearest'",
    ),
    "open-size": (
        open_size,
        (
            "input 'x' has no size for dimension 2 ('height'); give all, as in --shape x=1,3,1,8 "
            "(in Python shapes={'x': (1, 3, 1, 8)})"
        ),
    ),
    "old": (
        lambda: net(node("Relu"), X2, opset=5),
        (
            "has opset 5; 6 and newer are read: convert it with onnx.version_converter, or export "
            "it again"
        ),
    ),
    "not-of-its-opset": (
        lambda: net(node("Gelu", name="here"), X2, opset=17),
        "node 'here' (Gelu): is no operation of opset 17; export the model again",
    ),
    "too-many-inputs": (
        lambda: one("Mul", "x x x"),
        "node 'here' (Mul): has 3 inputs, 2 at most are known; export it again",
    ),
    "too-few-inputs": (
        lambda: one("Conv", "x"),
        "node 'here' (Conv): lacks its input 1; export it again",
    ),
    "computed-weights": (
        lambda: net([node("Relu", "x", "w"), node("Conv", "x w", name="here")], X4),
        (
            "node 'here' (Conv): its input 1 ('w') is computed while the network runs, but has to "
            "be constant; export the model with fixed sizes and weights"
        ),
    ),
    "three-dimensions": (
        lambda: one("Conv", "x w", {"x": ("n", 4, 5, 5, 5)}, {"w": reals(2, 4, 1, 1, 1)}),
        (
            "node 'here' (Conv): weights of shape (2, 4, 1, 1, 1) over a tensor of shape "
            "(4, 5, 5, 5); convolutions over one or two axes are read"
        ),
    ),
    "no-stride": (
        lambda: conv(strides=[0, 1]),
        (
            "node 'stem' (Conv): a window of (3, 3) with strides (0, 1), dilations (1, 1) and "
            "padding (0, 0) (0, 0); needs at least 1, 1, 1 and 0; mend the model"
        ),
    ),
    "attribute-of-another-kind": (
        lambda: conv(strides="two"),
        "node 'stem' (Conv): attribute strides is no list of whole numbers; export it again",
    ),
    # Found by random windows: onnxruntime and onnx's reference make different shapes of these.
    "dilated-same": (
        lambda: one("MaxPool", kernel_shape=[2, 2], dilations=[2, 2], auto_pad="SAME_UPPER"),
        (
            "node 'here' (MaxPool): dilates with auto_pad, on which runtimes disagree; export it "
            "with pads"
        ),
    ),
    "transposed-out-of-reach": (
        lambda: one("ConvTranspose", "x w", weights={"w": reals(4, 2, 1, 1)}, strides=[2, 2],
            auto_pad="SAME_UPPER"),
        (
            "node 'here' (ConvTranspose): makes (14, 18), more than its windows reach, on which "
            "runtimes disagree; export it with output_padding"
        ),
    ),
    "divided-by-zero": (
        lambda: one("Div", "x c", weights={"c": np.float32(0)}),
        "node 'here' (Div): divides by 0; mend the model",
    ),
    "negative-variance": (
        lambda: one("BatchNormalization", "x g g g v", weights={"g": reals(4), "v": -np.ones(4)}),
        (
            "node 'here' (BatchNormalization): a variance with epsilon is not positive; mend the "
            "model"
        ),
    ),
    # Found by damaging models at random: it overflowed, with a warning.
    "beyond-float32": (
        lambda: one("BatchNormalization", "x g g m v", weights={"g": np.float32([3e38, 1, 1, 1]),
            "m": np.float32([-5, 0, 0, 0]), "v": np.ones(4, np.float32)}),
        (
            "node 'here' (BatchNormalization): what it multiplies or adds holds inf at [0]; mend "
            "or train the model again"
        ),
    ),
    "indices": (
        lambda: net([node("MaxPool", "x", "m i", name="pool", kernel_shape=[2, 2]),
            node("Relu", "i", name="here")], X4),
        (
            "node 'here' (Relu): reads 'i', an output that is not read here; export the model "
            "without it"
        ),
    ),
    "constant-output": (
        lambda: net([node("Relu"), node("Abs", "c", "d")], X2, {"c": reals(1)}, ("y", "d")),
        "its output 'd' depends on no input; export the model without it",
    ),
    "batches-differ": (
        lambda: net(node("Add", "x z"), {"x": (2, 3), "z": (4, 3)}),
        (
            "its inputs begin with the sizes 2, 4; the first axis of every input is the batch, "
            "give one size"
        ),
    ),
    "integers": (
        lambda: net(node("Add", "x x", name="here"), X2, kinds={"x": TensorProto.INT64}),
        (
            "node 'here' (Add): computes with the integers of 'x'; only QuantizeLinear followed "
            "by DequantizeLinear is read, and row numbers of a Gather"
        ),
    ),
    "rounded": (
        lambda: one("Cast", to=TensorProto.INT64),
        "node 'here' (Cast): rounds or compares reals; export the model in float32",
    ),
    "booleans": (
        lambda: net(node("Cast", to=1), X2, kinds={"x": TensorProto.BOOL}),
        "input 'x' is no tensor of reals or whole numbers; export it otherwise",
    ),
    "two-scales": (
        lambda: net([node("QuantizeLinear", "x s z", "q"),
            node("DequantizeLinear", "q t z", name="here")], X2,
            {"s": np.float32(1), "t": np.float32(2), "z": np.uint8(0)}),
        (
            "node 'here' (DequantizeLinear): dequantizes by 2.0, 0 what was quantized by 1.0, 0; "
            "export it again"
        ),
    ),
    "bad-scale": (
        lambda: one("QuantizeLinear", "x s", weights={"s": np.float32(-1)}),
        (
            "node 'here' (QuantizeLinear): scale is -1.0, needs to be positive and finite; mend "
            "the model"
        ),
    ),
    "computed-rows": (
        lambda: net([node("Cast", "x", "i", to=TensorProto.INT64), node("Neg", "x", "m"),
            node("Gather", "t m", name="here")], X2, {"t": reals(5, 3)},
            kinds={"x": TensorProto.INT64}),
        (
            "node 'm' (Neg): computes with the integers of 'x'; only QuantizeLinear followed by "
            "DequantizeLinear is read, and row numbers of a Gather"
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_refused(case, tmp_path):
    """The whole message of every refusal."""
    content, message = REFUSALS[case]
    assert refused(saved(tmp_path, content())) == message


MIXED = {
    "reshape": one("Reshape", "x s", weights={"s": ints(-1, 9)}),
    "flatten": one("Flatten", axis=0),
    "flatten-late": one("Flatten", axis=2),
    "slice": one("Slice", "x s e", {"x": (2, 3)}, {"s": ints(1), "e": ints(2)}),
    "split": net(node("Split", "x", "y z", name="here", axis=0), {"x": (2, 3)}),
    "gather": one("Gather", "x i", weights={"i": ints(0)}),
    "concat": one("Concat", "x x", axis=0),
    "pad": one("Pad", "x p", X2, {"p": ints(1, 0, 0, 0)}),
    "expand": one("Expand", "x s", X2, {"s": ints(3, 6)}),
    "expand-front": one("Expand", "x s", X2, {"s": ints(3, 1, 6)}),
    "tile": one("Tile", "x r", X2, {"r": ints(2, 1)}),
    "reduce": one("ReduceMean", axes=[0]),
    "reduce-all": one("ReduceMax"),
    "softmax": one("Softmax", axis=0),
    "matmul": one("MatMul", "w x", X2, {"w": reals(3, 1)}),
    "gemm": one("Gemm", "x w", X2, {"w": reals(1, 2)}, transA=1),
    "add": one("Add", "x c", X2, {"c": reals(5, 3, 6)}),
    "a-constant-a-member": one("Add", "x c", {"x": (2, 6)}, {"c": reals(2, 6)}),
    "moved": net([node("Transpose", "x", "t", perm=[1, 0, 2]),
        node("Softmax", "t", name="here")], TOKENS),
    "squeezed": one("Squeeze", "x a", X2, {"a": ints(0)}),
}  # fmt: skip


@pytest.mark.parametrize("case", MIXED)
def test_the_batch_stays(case, tmp_path):
    """What would move, cut or mix the members of a batch is refused."""
    message = refused(saved(tmp_path, MIXED[case]))
    op = MIXED[case].graph.node[-1].op_type
    assert message == f"node 'here' ({op}): {BATCH}"


def test_a_batch_that_stays_moved(tmp_path):
    """An output whose batch is not in front is refused."""
    path = saved(tmp_path, one("Transpose", perm=[1, 0, 2, 3]))
    assert refused(path) == (
        "its output 'y' has the batch at axis 1; the first axis is the batch: transpose it"
    )


def test_ranks_that_differ(tmp_path):
    """Operands with fewer axes would meet at another axis than the batch."""
    nodes = [node("ReduceMean", "x", "m", axes=[1, 2, 3], keepdims=0), node("Add", "x m", name="a")]
    assert refused(saved(tmp_path, net(nodes, X4))) == (
        "node 'a' (Add): operands ['batch', 4, 7, 9], ['batch'] meet with the batch of one at "
        "another axis of the other; the first axis is the batch: unsqueeze behind it"
    )


def outside(folder, location, **says):
    """A model whose weights lie at a place."""
    content = net(node("MatMul", "x w"), X2, {"w": reals(6, 4)})
    tensor = content.graph.initializer[0]
    external_data_helper.set_external_data(tensor, location, **says)
    tensor.ClearField("raw_data")
    return saved(folder, content)


def test_external_data_stays_in_the_folder(tmp_path):
    """No other folder is read, by no path and no link."""
    folder = tmp_path / "models"
    folder.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(96))
    (folder / "link.bin").symlink_to(secret)
    (folder / "sub").symlink_to(tmp_path)
    places = [
        "../secret.bin", str(secret), "link.bin", "sub/secret.bin", "", "C:\\w.bin", "a\0b",
        "sub/../../secret.bin",
    ]  # fmt: skip
    for place in places:
        message = refused(outside(folder, place))
        assert message.startswith("tensor 'w': its data is at "), message
        assert message.endswith(
            "which is not in the model's folder or is a link; put it beside the model"
        )


def test_external_data_that_lies(tmp_path):
    """Sizes and offsets beyond the file are refused, and a file that is not there."""
    (tmp_path / "w.bin").write_bytes(bytes(100))
    says = "tensor 'w' of shape [6, 4] needs 96 bytes, it says "
    end = " of 'w.bin', which holds 100; export it again"
    assert refused(outside(tmp_path, "w.bin", offset=8)) == f"{says}96 at 8{end}"
    assert refused(outside(tmp_path, "w.bin", length=10**12)) == (
        f"{says}1,000,000,000,000 at 0{end}"
    )
    assert refused(outside(tmp_path, "w.bin", offset=-1)) == (
        "tensor 'w': the offset of its external data is '-1', no number of bytes"
    )
    assert refused(outside(tmp_path, "none.bin")) == (
        "tensor 'w': its data file 'none.bin' cannot be read (No such file or directory)"
    )
    path = outside(tmp_path, "w.bin", offset=0)
    content = onnx.load(path, load_external_data=False)
    other = content.graph.initializer.add()
    other.CopyFrom(content.graph.initializer[0])
    other.name = "v"
    other.external_data[-1].value = "4"
    content.graph.node.append(node("MatMul", "x v", "z"))
    content.graph.output.add(name="z")
    assert refused(saved(tmp_path, content)) == (
        "tensor 'v': the tensors in 'w.bin' overlap; export the model again"
    )


def test_missing_file(tmp_path):
    """A file that is not there."""
    assert refused(tmp_path / "none.onnx") == "cannot be read (No such file or directory)"


def test_given_shapes(tmp_path):
    """A shape of no input, or against the file."""
    path = saved(tmp_path, one("Relu", shapes={"x": ("n", 3, 8)}))
    assert refused(path, {"z": (1, 2)}) == (
        "a shape is given for 'z', which is no input; its inputs are 'x'"
    )
    assert refused(path, {"x": (1, 4, 8)}) == (
        "input 'x': dimension 1 is 3, its given size 4; give 3, or export the model for another"
    )


def test_what_no_output_needs_is_not_read(tmp_path):
    """A node that is not known does not matter where nothing reads it."""
    nodes = [node("Relu"), node("Einsum", "x", "e", equation="nc->n")]
    assert len(read_network(saved(tmp_path, net(nodes, X2))).operations) == 1


def test_memory_is_bounded(tmp_path, monkeypatch):
    """Fills cost nothing until they are weights; of those only a budget is made."""
    monkeypatch.setattr(network, "_BUDGET", 1 << 24)
    nodes = [node("ConstantOfShape", "s", f"w{number}") for number in range(20)]
    tensors = ["x", *(f"t{number}" for number in range(20))]
    nodes += [
        node("MatMul", f"{tensors[number]} w{number}", tensors[number + 1], name=f"fc{number}")
        for number in range(20)
    ]
    content = net(nodes, {"x": ("n", 1024)}, {"s": ints(1024, 1024)}, (tensors[-1],))
    # Each is 4 MiB, and there are 16: the fifth is one too many.
    message = refused(saved(tmp_path, content))
    assert message.startswith("node 'fc4' (MatMul) makes 4,194,304 bytes of constants, 0 are left")


def damaged(content, rng):
    """Some bytes of a file changed, or one number of a weight, an attribute or an order."""
    found = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4])):
        place = rng.randrange(len(found))
        match rng.randrange(3):
            case 0:
                found[place] = rng.randrange(256)
            case 1:
                del found[place : place + rng.randrange(1, 8)]
            case _:
                found[place:place] = rng.randbytes(rng.randrange(1, 5))
    return bytes(found)


def test_damaged_files(tmp_path):
    """Files damaged at random are read or refused, never more."""
    rng = random.Random(5)  # noqa: S311 (the same damage every time)
    seeds = [
        each.SerializeToString() for each in (attention(5), quantized()[0], conv(pads=[1] * 4))
    ]
    counts = {True: 0, False: 0}
    for _ in range(600):
        path = saved(tmp_path, damaged(rng.choice(seeds), rng))
        try:
            read_network(path, rng.choice([None, {"x": (1, 5, 8)}]))
            counts[True] += 1
        except InputFileError as error:
            assert str(error).isprintable()  # noqa: PT017
            counts[False] += 1
    assert min(counts.values()) > 20


def test_steering_names(tmp_path):
    """Names in a file cannot break a message's line."""
    content = net(node("Ein\nsum", "x", name="a\x1b[2J"), X2)
    assert "\x1b" not in refused(saved(tmp_path, content))
    content = net(node("Add", "x w"), X2, {"w": reals(6) * np.nan})
    content.graph.node[0].input[1] = content.graph.initializer[0].name = "w\n"
    assert "'w_'" in refused(saved(tmp_path, content))


def test_models_of_others_still_say_their_types(tmp_path):
    """A float8 weight is refused with its type."""
    tensor = numpy_helper.from_array(reals(6), "w")
    tensor.data_type = TensorProto.FLOAT8E4M3FN
    tensor.raw_data = bytes(6)
    graph = helper.make_graph([node("Add", "x w")], "g", [value("x", ("n", 6))], [
        onnx.ValueInfoProto(name="y")], [tensor])  # fmt: skip
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    assert refused(saved(tmp_path, content)) == (
        "tensor 'w' is of type FLOAT8E4M3FN; export the model in float32"
    )
