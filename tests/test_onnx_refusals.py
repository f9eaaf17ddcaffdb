"""ONNX files that are refused: one clear line for each, whatever is damaged."""

from __future__ import annotations

import random
import resource

import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import FLOAT, W, X, convolving, model, saved, seeds, value, weight

from arraysmith import Gemm
from arraysmith.errors import InputFileError
from arraysmith.formats.onnx_workload import read_onnx


def refused(folder, content, shapes=None):
    """The message of a refusal, after the path."""
    path = saved(folder, content)
    with pytest.raises(InputFileError) as error:
        read_onnx(path, shapes)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{path}: ")


def lying():
    """A tensor of 10^12 elements that holds two."""
    tensor = helper.make_tensor("w", FLOAT, [2], [1.0, 2.0])
    tensor.dims[:] = [10**6, 10**6]
    return tensor


def looping():
    """A node with a graph of its own."""
    body = helper.make_graph([], "body", [], [])
    return helper.make_node("If", ["c"], ["z"], name="choose", then_branch=body, else_branch=body)


def with_function():
    """A model that calls a function."""
    node = helper.make_node("Twice", ["x"], ["z"], name="call", domain="mine")
    content = convolving(node)
    content.functions.append(
        helper.make_function(
            "mine", "Twice", ["a"], ["b"],
            [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)],
        )
    )  # fmt: skip
    return content


def without_opset():
    """A model that names no version."""
    content = convolving()
    del content.opset_import[:]
    return content


def of_the_future():
    """A model of an opset that is not there yet."""
    content = convolving()
    content.opset_import[0].version = 1000
    return content


def untyped():
    """An attribute without a type."""
    content = convolving(strides=[2, 2])
    content.graph.node[0].attribute[0].ClearField("type")
    return content


NODE = helper.make_node
CUSTOM = NODE("Blur", ["x"], ["z"], name="blur", domain="mine")
REFUSALS = {
    "empty": (lambda: b"", "holds no ONNX graph; export it again"),
    "text": (
        lambda: b"conv1, 8, 8, 3, 3, 1, 1, 1,\n",
        "no ONNX model, or cut off or damaged; export it again",
    ),
    "truncated": (
        lambda: convolving().SerializeToString()[:-9],
        "no ONNX model, or cut off or damaged; export it again",
    ),
    "not-utf8": (
        lambda: convolving().SerializeToString().replace(b"last", b"\xff\xfe\xfd\xfc"),
        "damaged, a name in it is not UTF-8; export it again",
    ),
    "no-opset": (without_opset, "names no opset version of ONNX; export it again"),
    "newer-opset": (
        of_the_future,
        (
            f"has opset 1000, the installed onnx knows {onnx.defs.onnx_opset_version()}; export it "
            "for that, or update onnx"
        ),
    ),
    "no-layer": (
        lambda: model([NODE("Relu", ["x"], ["y"])], [X]),
        "holds no convolution and no matrix product",
    ),
    "cycle": (
        lambda: convolving(
            NODE("Relu", ["b"], ["a"], name="first"), NODE("Relu", ["a"], ["b"]), read="b"
        ),
        (
            "node 'first' (Relu) reads 'b', which nothing before it makes; nodes must be sorted "
            "and without cycles: export it again"
        ),
    ),
    "made-twice": (
        lambda: convolving(NODE("Relu", ["x"], ["w"], name="first")),
        "node 'first' (Relu) makes 'w', which is there already; export it again",
    ),
    "control-flow": (
        lambda: convolving(looping(), inputs=[X, value("c", (), TensorProto.BOOL)]),
        (
            "node 'choose' (If) holds a graph of its own, so what is computed depends on data; "
            "export the model without control flow"
        ),
    ),
    "function": (
        with_function,
        (
            "node 'call' (mine:Twice) calls a function; put its nodes in place with "
            "onnx.inliner.inline_local_functions"
        ),
    ),
    "untyped-attribute": (
        untyped,
        "node 'last' (Conv): attribute 'strides' says no type; export it again",
    ),
    "recurrent": (
        lambda: convolving(NODE("LSTM", ["x", "w", "w"], ["z"], name="memory")),
        (
            "node 'memory' (LSTM) holds matrix products that are not read here; export it as "
            "MatMul or Conv nodes"
        ),
    ),
    "hidden-shape": (
        lambda: convolving(CUSTOM, NODE("Relu", ["z"], ["r"]), read="r"),
        (
            "node 'last' (Conv): the shape of its input 'r' is not known, node 'blur' (mine:Blur) "
            "hides it; export the model with fixed sizes, or write that shape into it (value_info)"
        ),
    ),
    # Found by damaging files at random: a type that breaks the line and steers the terminal.
    "steering-type": (
        lambda: convolving(
            NODE("Bl\n\x1b[2Jur", ["x"], ["z"], name="a\nb", domain="mine"), read="z"
        ),
        (
            "node 'last' (Conv): the shape of its input 'z' is not known, node 'a\\nb' "
            "(mine:Bl__[2Jur) hides it; export the model with fixed sizes, or write that shape "
            "into it (value_info)"
        ),
    ),
    "no-operand": (
        lambda: model([NODE("Conv", ["x", ""], ["y"], name="last")], [X]),
        "node 'last' (Conv) lacks its input 1; export it again",
    ),
    "lying-tensor": (
        lambda: convolving(weights=[lying()]),
        (
            "tensor 'w' of shape [1000000, 1000000] holds 2 elements, not 1,000,000,000,000; it is "
            "damaged, export it again"
        ),
    ),
    "huge-tensor": (
        lambda: convolving(weights=[weight("w", 10**12, 3, 3, 3)]),
        "layer 'last': out_channels is 1,000,000,000,000, more than 2,147,483,647",
    ),
    "negative-tensor": (
        lambda: convolving(weights=[weight("w", -4, 3, 3, 3)]),
        "tensor 'w' of shape [-4, 3, 3, 3] holds 0 bytes, not -432; it is damaged, export it again",
    ),
    "unknown-type": (
        lambda: convolving(weights=[weight("w", 4, 3, 3, 3, kind=0)]),
        "tensor 'w' has the unknown type 0; export it again",
    ),
    "symbolic": (
        lambda: convolving(inputs=[value("x", ("N", 3, None, 8))]),
        (
            "input 'x' has no size for dimension 0 ('N'); give all, as in --shape x=1,3,1,8 "
            "(in Python shapes={'x': (1, 3, 1, 8)})"
        ),
    ),
    "shapeless": (
        lambda: convolving(inputs=[value("x", None)]),
        (
            "input 'x' has no shape; give all, as in --shape x=1,3,224,224 "
            "(in Python shapes={'x': (1, 3, 224, 224)})"
        ),
    ),
    "channels": (
        lambda: convolving(weights=[weight("w", 4, 2, 3, 3)]),
        (
            "node 'last' (Conv): operands of shapes [1, 3, 8, 8] and [4, 2, 3, 3] do not fit "
            "together; mend the model"
        ),
    ),
    "no-stride": (
        lambda: convolving(strides=[0, 1]),
        (
            "node 'last' (Conv): strides (0, 1), dilations (1, 1), pads (0, 0, 0, 0): they need at "
            "least 1, 1 and 0"
        ),
    ),
    "one-stride": (
        lambda: convolving(strides=[2]),
        "node 'last' (Conv): attribute strides is (2,), needs 2 whole number(s)",
    ),
    "auto-pad": (
        lambda: convolving(auto_pad="MUCH"),
        "node 'last' (Conv): auto_pad 'MUCH' is unknown",
    ),
    "filter-too-large": (
        lambda: convolving(weights=[weight("w", 4, 3, 9, 3)]),
        "node 'last' (Conv): its filter is larger than its padded ifmap",
    ),
    "kernel-shape": (
        lambda: convolving(kernel_shape=[2, 2]),
        (
            "node 'last' (Conv): operands of shapes [1, 3, 8, 8] and [4, 3, 3, 3] do not fit "
            "together; mend the model"
        ),
    ),
    "products": (
        lambda: model([NODE("MatMul", ["x", "w"], ["y"], name="last")], [X], [W]),
        (
            "node 'last' (MatMul): operands of shapes [1, 3, 8, 8] and [4, 3, 3, 3] do not fit "
            "together; mend the model"
        ),
    ),
    "too-many-groups": (
        lambda: model(
            [NODE("MatMul", ["x", "x"], ["y"], name="last")], [value("x", (10**6, 2, 2))]
        ),
        "its groups become more than 100,000 layers; use --model physical",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal(case, tmp_path):
    """One line says what is wrong, where, and the way out; no memory for what is claimed."""
    content, message = REFUSALS[case]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refused(tmp_path, content()) == message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


SHAPES = {
    "no-input": (
        {"w": (4, 3, 3, 3)},
        "a shape is given for 'w', which is no input; its inputs are 'x'",
    ),
    "few": ({"x": (1, 3)}, "input 'x' has 4 dimensions, its given shape 2; give all"),
    "other": (
        {"x": (1, 4, 8, 8)},
        "input 'x': dimension 1 is 3, its given size 4; give 3, or export the model for another",
    ),
    "zero": ({"x": (0, 3, 8, 8)}, "input 'x': a size of 0, needs 1 to 2,147,483,647"),
}


@pytest.mark.parametrize("case", SHAPES)
def test_shape_that_does_not_fit(case, tmp_path):
    """A given shape names an input, all of its dimensions, and contradicts none."""
    shapes, message = SHAPES[case]
    content = convolving(inputs=[value("x", ("N", 3, 8, 8))])
    assert refused(tmp_path, content, shapes) == message


def test_a_named_size_holds_everywhere(tmp_path):
    """A size given to one input's N is the N of the others; shapeless inputs take any rank."""
    nodes = [
        NODE("MatMul", ["x", "w"], ["a"], name="first"),
        NODE("MatMul", ["a", "z"], ["y"], name="second"),
    ]
    inputs = [value("x", ("N", 6)), value("z", ("D", "N")), value("unused", ("Q",))]
    content = model(nodes, inputs, [weight("w", 6, "D" and 4)])
    found = read_onnx(saved(tmp_path, content), {"x": (5, 6), "z": (4, 5)}).workload
    assert found.layers == (Gemm(name="first", M=5, N=4, K=6), Gemm(name="second", M=5, N=5, K=4))
    message = refused(tmp_path, content, {"x": (5, 6), "z": (4, 7)})
    assert message.startswith("input 'z': dimension 1 is 5, its given size 7")
    content = convolving(inputs=[value("x", None)])
    assert len(read_onnx(saved(tmp_path, content), {"x": (1, 3, 8, 8)}).workload.layers) == 1


def fuzzed(content, random_numbers):
    """A file with flipped bytes, cut off, or with a part twice."""
    damaged = bytearray(content)
    for _ in range(random_numbers.choice([0, 1, 1, 2, 4, 16])):
        damaged[random_numbers.randrange(len(damaged))] = random_numbers.randrange(256)
    kind = random_numbers.random()
    if kind < 0.1:
        del damaged[random_numbers.randrange(len(damaged)) :]
    elif kind < 0.2:
        start, stop = sorted(random_numbers.randrange(len(damaged)) for _ in range(2))
        damaged[start:start] = damaged[start:stop]
    elif kind < 0.3:
        start = random_numbers.randrange(len(damaged))
        del damaged[start : start + random_numbers.randrange(8)]
    return bytes(damaged)


def survives(path, content):
    """Read a damaged file: a workload or an InputFileError in one line."""
    path.write_bytes(content)
    try:
        read_onnx(path, {"x": (1, 5, 8)} if b"tokens" in content else None)
    except InputFileError as error:
        message = str(error)
        assert message.isprintable()
        assert str(path) in message
        return False
    return True


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files(seed, tmp_path):
    """Whatever is damaged: a workload or one clear error, never anything else."""
    content, random_numbers = seeds()[seed], random.Random(seed)  # noqa: S311
    path = tmp_path / "damaged.onnx"
    outcomes = [survives(path, fuzzed(content, random_numbers)) for _ in range(300)]
    assert True in outcomes
    assert False in outcomes
