"""Workloads from ONNX files: every kind of layer by hand, and nine networks."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import (
    FLOAT,
    INT8,
    UINT8,
    attention,
    convolving,
    model,
    numbers,
    saved,
    value,
    weight,
)

import arraysmith
from arraysmith import Accelerator, Conv2d, Dataflow, Gemm
from arraysmith.errors import InputFileError
from arraysmith.formats.onnx_workload import read_onnx
from arraysmith.formats.topology import read_topology, topology_text

LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("*.onnx"))


def one(folder, op, inputs, weights=(), names=("x", "w"), *, grouped=True, **attributes):
    """The layers of a model of one node."""
    node = helper.make_node(op, list(names), ["y"], name="layer", **attributes)
    return read_onnx(saved(folder, model([node], inputs, weights)), grouped=grouped).workload.layers


def conv(**dimensions):
    """The layer named `layer`."""
    return Conv2d(name="layer", **dimensions)


CONVOLUTIONS = {
    "plain": ((1, 3, 8, 9), (4, 3, 3, 2), {}, conv(
        ifmap_rows=8, ifmap_cols=9, filter_rows=3, filter_cols=2, in_channels=3, out_channels=4)),
    "stride-padding": ((2, 3, 8, 8), (4, 3, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, conv(
        ifmap_rows=8, ifmap_cols=8, filter_rows=3, filter_cols=3, in_channels=3, out_channels=4,
        stride=2, padding=1, batch=2)),
    "asymmetric": ((1, 3, 8, 8), (4, 3, 3, 3), {"pads": [0, 1, 2, 3]}, conv(
        ifmap_rows=10, ifmap_cols=12, filter_rows=3, filter_cols=3, in_channels=3, out_channels=4)),
    # Outputs 4×4 of stride 2: they reach 9×9, so one line of zeros below and one on the right.
    "same": ((1, 3, 8, 8), (4, 3, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, conv(
        ifmap_rows=9, ifmap_cols=9, filter_rows=3, filter_cols=3, in_channels=3, out_channels=4,
        stride=2)),
    "same-odd": ((1, 3, 9, 9), (4, 3, 3, 3), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, conv(
        ifmap_rows=9, ifmap_cols=9, filter_rows=3, filter_cols=3, in_channels=3, out_channels=4,
        stride=2, padding=1)),
    "valid": ((1, 3, 8, 8), (4, 3, 3, 3), {"auto_pad": "VALID"}, conv(
        ifmap_rows=8, ifmap_cols=8, filter_rows=3, filter_cols=3, in_channels=3, out_channels=4)),
    "groups": ((1, 4, 8, 8), (6, 2, 3, 3), {"group": 2}, conv(
        ifmap_rows=8, ifmap_cols=8, filter_rows=3, filter_cols=3, in_channels=4, out_channels=6,
        groups=2)),
    "depthwise": ((1, 4, 8, 8), (4, 1, 3, 3), {"group": 4}, conv(
        ifmap_rows=8, ifmap_cols=8, filter_rows=3, filter_cols=3, in_channels=4, out_channels=4,
        groups=4)),
    "one-dimensional": ((2, 3, 20), (4, 3, 5), {"strides": [3], "pads": [2, 1]}, conv(
        ifmap_rows=1, ifmap_cols=23, filter_rows=1, filter_cols=5, in_channels=3, out_channels=4,
        stride=3, batch=2)),
    # 3 windows down (stride 3) and 6 across (stride 1) are 18 rows of 27 words.
    "strides-differ": ((2, 3, 9, 8), (4, 3, 3, 3), {"strides": [3, 1]},
        Gemm(name="layer", M=2 * 18, N=4, K=27)),
    # One window down takes no step, whatever its stride.
    "strides-do-not-matter": ((1, 3, 3, 9), (4, 3, 3, 3), {"strides": [1, 2]}, conv(
        ifmap_rows=3, ifmap_cols=9, filter_rows=3, filter_cols=3, in_channels=3, out_channels=4,
        stride=2)),
    # One window down with stride 4, but with the stride of 1 across there would be three.
    "strides-do-matter": ((1, 3, 5, 9), (4, 3, 3, 3), {"strides": [4, 1]},
        Gemm(name="layer", M=7, N=4, K=27)),
    # A filter of 3×3 with gaps reaches over 5×5: 4×4 windows.
    "dilated": ((1, 4, 8, 8), (6, 2, 3, 3), {"dilations": [2, 2], "group": 2},
        Gemm(name="layer", M=16, N=3, K=18, batch=2)),
    "dilated-point": ((1, 4, 8, 8), (6, 4, 1, 1), {"dilations": [2, 2]}, conv(
        ifmap_rows=8, ifmap_cols=8, filter_rows=1, filter_cols=1, in_channels=4, out_channels=6)),
    # 3 dimensions: 2·3·4 windows of 2·3·3·3 words.
    "three-dimensional": ((1, 2, 4, 5, 6), (7, 2, 3, 3, 3), {},
        Gemm(name="layer", M=24, N=7, K=54)),
}  # fmt: skip


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution(case, tmp_path):
    """A Conv is the layer worked out by hand, and has the outputs that onnx infers."""
    ifmap, filter_, attributes, expected = CONVOLUTIONS[case]
    found = one(
        tmp_path, "Conv", [value("x", ifmap)], [weight("w", *filter_)], grouped=True, **attributes
    )
    assert found == (expected,)


@pytest.mark.parametrize("op", ["QLinearConv", "ConvInteger"])
def test_integer_convolution(op, tmp_path):
    """Integer convolutions have the same layers; their operands lie elsewhere."""
    inputs, scales = [value("x", (1, 3, 8, 8), UINT8)], [weight("s"), weight("z", kind=UINT8)]
    names = ("x", "w") if op == "ConvInteger" else ("x", "s", "z", "w", "s", "z", "s", "z")
    found = one(tmp_path, op, inputs, [weight("w", 4, 3, 3, 3, kind=UINT8), *scales], names)
    assert found == (CONVOLUTIONS["valid"][3],)


TRANSPOSED = {
    # 4 inputs, 3 apart, reach 10 + 2 outputs; a stride-1 convolution reads 12 + 2 for them.
    "stride": ({"strides": [3, 3]}, 12, 3),
    "padding": ({"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, 8, 3),
    "output-shape": ({"strides": [2, 2], "output_shape": [8, 8]}, 8, 3),
    "same": ({"strides": [2, 2], "auto_pad": "SAME_UPPER"}, 8, 3),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolution(case, tmp_path):
    """A ConvTranspose is a convolution of stride 1 with its output's size, over stretched input."""
    attributes, outputs, taps = TRANSPOSED[case]
    ifmap, filter_ = [value("x", (1, 4, 4, 4))], [weight("w", 4, 3, taps, taps)]
    (found,) = one(tmp_path, "ConvTranspose", ifmap, filter_, group=2, **attributes)
    assert found == conv(
        ifmap_rows=outputs + taps - 1,
        ifmap_cols=outputs + taps - 1,
        filter_rows=taps,
        filter_cols=taps,
        in_channels=4,
        out_channels=6,
        groups=2,
    )
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], group=2, **attributes)
    inferred = onnx.shape_inference.infer_shapes(model([node], ifmap, filter_))
    sizes = [size.dim_value for size in inferred.graph.output[0].type.tensor_type.shape.dim]
    assert sizes == [1, 6, found.ofmap_rows, found.ofmap_cols]


def test_dilated_transposed_convolution(tmp_path):
    """With gaps in its filter it is the product of im2col."""
    found = one(
        tmp_path, "ConvTranspose", [value("x", (1, 4, 4, 4))], [weight("w", 4, 5, 2, 2)],
        dilations=[3, 3],
    )  # fmt: skip
    # (4 - 1) + 3 + 1 = 7 outputs on a side, each of 2·2·4 words.
    assert found == (Gemm(name="layer", M=49, N=5, K=16),)


@pytest.mark.parametrize(("transposed", "left"), [(0, (5, 6)), (1, (6, 5))])
def test_gemm(transposed, left, tmp_path):
    """A Gemm may have its operands transposed."""
    found = one(
        tmp_path, "Gemm", [value("x", left)], [weight("w", 7, 6)], transA=transposed, transB=1
    )
    assert found == (Gemm(name="layer", M=5, N=7, K=6),)


PRODUCTS = {
    "matrices": ((5, 6), (6, 7), (5, 7, 6, 1)),
    "vector-left": ((6,), (6, 7), (1, 7, 6, 1)),
    "vector-right": ((2, 5, 6), (6,), (10, 1, 6, 1)),
    "shared-right": ((2, 3, 5, 6), (6, 7), (30, 7, 6, 1)),
    "shared-left": ((5, 6), (2, 6, 7), (5, 14, 6, 1)),
    "attention": ((2, 8, 5, 6), (2, 8, 6, 5), (5, 5, 6, 16)),
    "both-shared": ((2, 1, 5, 6), (1, 3, 6, 7), (10, 21, 6, 1)),
    "mixed": ((2, 3, 5, 6), (3, 6, 7), (10, 7, 6, 3)),
}


@pytest.mark.parametrize("case", PRODUCTS)
@pytest.mark.parametrize("op", ["MatMul", "MatMulInteger", "QLinearMatMul"])
def test_matrix_product(op, case, tmp_path):
    """Stacks of matrices: what shares an operand is one larger product, the rest a batch."""
    left, right, (M, N, K, batch) = PRODUCTS[case]
    kind = FLOAT if op == "MatMul" else UINT8
    names = ("x", "s", "z", "w", "s", "z", "s", "z") if op == "QLinearMatMul" else ("x", "w")
    inputs = [value("x", left, kind), value("w", right, kind)]
    weights = [weight("s"), weight("z", kind=UINT8)]
    found = one(tmp_path, op, inputs, weights, names)
    assert found == (Gemm(name="layer", M=M, N=N, K=K, batch=batch),)
    alone = one(tmp_path, op, inputs, weights, names, grouped=False)
    assert sum(layer.macs for layer in alone) == found[0].macs
    assert len({layer.name for layer in alone}) == len(alone) == batch


def test_weights_on_the_left_become_the_filter(tmp_path):
    """W·X is computed as (Xᵀ·Wᵀ)ᵀ, so that what is stationary is the weights."""
    found = one(tmp_path, "MatMul", [value("x", (2, 6, 7))], [weight("w", 5, 6)], names=("w", "x"))
    assert found == (Gemm(name="layer", M=14, N=5, K=6),)


def test_groups_apart(tmp_path):
    """For SCALE-Sim every group is a layer."""
    ifmap, filter_, attributes, whole = CONVOLUTIONS["groups"]
    found = one(
        tmp_path, "Conv", [value("x", ifmap)], [weight("w", *filter_)], grouped=False, **attributes
    )
    assert [layer.name for layer in found] == ["layer_group0", "layer_group1"]
    assert {(layer.in_channels, layer.out_channels, layer.groups) for layer in found} == {(2, 3, 1)}
    assert sum(layer.macs for layer in found) == whole.macs


def test_attention_of_computed_shapes(tmp_path):
    """Shapes that the graph computes from the input's are followed; heads are a batch."""
    path = saved(tmp_path, attention())
    found = read_onnx(path, {"x": (1, 5, 8)}, grouped=True)
    assert found.workload.layers == (
        Gemm(name="query", M=5, N=8, K=8),
        Gemm(name="key", M=5, N=8, K=8),
        Gemm(name="scores", M=5, N=5, K=4, batch=2),
    )
    assert found.beside == {
        "Reshape": 2, "Transpose": 2, "Shape": 1, "Slice": 1, "Concat": 1, "Softmax": 1
    }  # fmt: skip
    assert arraysmith.read_workload(path, grouped=True, shapes={"x": (1, 5, 8)}) == found.workload


def test_quantized_by_qdq(tmp_path):
    """DequantizeLinear before a Conv hides no shape, and its weights stay weights."""
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        make("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        make("DequantizeLinear", ["w", "s", "zi"], ["wd"]),
        make("Conv", ["xd", "wd"], ["c"]),
        make("Flatten", ["c"], ["f"]),
        make("DequantizeLinear", ["v", "s", "zi"], ["vd"]),
        make("Gemm", ["f", "vd"], ["y"]),
    ]
    weights = [
        weight("w", 4, 3, 3, 3, kind=INT8), weight("s"), weight("z", kind=UINT8),
        weight("zi", kind=INT8), weight("v", 144, 10, kind=INT8),
    ]  # fmt: skip
    found = read_onnx(saved(tmp_path, model(nodes, [value("x", (1, 3, 8, 8))], weights)))
    convolution, product = found.workload.layers
    assert convolution.name == "c"
    assert (convolution.ofmap_rows, convolution.macs) == (6, 36 * 4 * 27)
    assert product == Gemm(name="y", M=1, N=10, K=144)
    assert found.beside == {"DequantizeLinear": 3, "QuantizeLinear": 1, "Flatten": 1}


def test_names_and_constant_products(tmp_path):
    """Names are unique and plain; a product of weights alone is computed beforehand."""
    make = helper.make_node
    nodes = [
        make("MatMul", ["w", "w"], ["ww"], name="folded"),
        make("MatMul", ["x", "ww"], ["a"], name='one,"\n'),
        make("MatMul", ["a", "w"], ["b"], name="one___"),
        make("MatMul", ["b", "w"], ["y"]),
    ]
    found = read_onnx(saved(tmp_path, model(nodes, [value("x", (5, 6))], [weight("w", 6, 6)])))
    assert [layer.name for layer in found.workload.layers] == ["one___", "one____2", "y"]
    assert found.beside == {"MatMul": 1}


def test_weights_as_constants_and_outside(tmp_path):
    """Weights may be Constant nodes or lie in a file that is never opened."""
    outside = weight("w", 4, 3, 3, 3)
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="/does/not/exist")
    made = helper.make_tensor("any", FLOAT, [4, 4, 1, 1, 1], [0.0] * 16)
    large = helper.make_tensor("any", FLOAT, [400, 4, 1, 1], [0.0] * 1600)
    nodes = [
        helper.make_node("Constant", [], ["v5"], value=made),
        helper.make_node("Constant", [], ["u"], value=large),
        helper.make_node("Squeeze", ["v5", "axis"], ["v"]),
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Conv", ["a", "v"], ["b"]),
        helper.make_node("Conv", ["b", "u"], ["y"]),
    ]
    content = model(nodes, [value("x", (1, 3, 8, 8))], [outside, numbers("axis", 4)])
    found = read_onnx(saved(tmp_path, content)).workload
    assert [layer.macs for layer in found.layers] == [36 * 4 * 27, 36 * 16, 36 * 1600]


STALE = {
    "other-sizes": ([1, 3, 20, 20], "Relu", 36),
    "other-rank": ([1, 3, 8], "Relu", 36),
    "open": (["N", 3, None, 8], "Relu", 36),
    "of-a-custom-node": ([1, 3, 20, 20], "mine:Blur", 18 * 18),
}


@pytest.mark.parametrize("case", STALE)
@pytest.mark.parametrize("place", ["value_info", "output"])
def test_what_a_file_says_between_its_nodes(case, place, tmp_path):
    """It fills what cannot be inferred, and is not believed elsewhere."""
    shape, op, pixels = STALE[case]
    *domain, op = op.split(":")
    before = helper.make_node(op, ["x"], ["z"], domain="".join(domain))
    content = convolving(before, read="z")
    getattr(content.graph, place).append(value("z", shape))
    (layer,) = read_onnx(saved(tmp_path, content)).workload.layers
    assert layer.ofmap_rows * layer.ofmap_cols == pixels


def counted(path):
    """Layers and MACs from attributes and onnx's own shapes: outputs times words for each."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False)).graph
    shapes = {
        each.name: [size.dim_value for size in each.type.tensor_type.shape.dim]
        for each in [*graph.input, *graph.value_info, *graph.output]
    }
    shapes |= {each.name: list(each.dims) for each in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type not in {"Conv", "ConvTranspose", "Gemm", "MatMul"}:
            continue
        given = {attribute.name: attribute.i for attribute in node.attribute}
        left, right = (shapes[name] for name in node.input[:2])
        words = {
            "Conv": prod(right[1:]),
            "ConvTranspose": right[0] // given.get("group", 1) * prod(right[2:]),
            "Gemm": left[0 if given.get("transA") else -1],
            "MatMul": left[-1],
        }[node.op_type]
        found.append(prod(shapes[node.output[0]]) * words)
    return len(found), sum(found)


def test_models_of_the_onnx_package():
    """Those of PyTorch's layers: 1-D to 3-D, dilated, transposed, grouped."""
    compared = 0
    for path in sorted(LIGHT[0].parents[1].glob("pytorch-*/*/model.onnx")):
        layers, macs = counted(path)
        if layers:
            workload = read_onnx(path, grouped=True).workload
            assert (len(workload.layers), workload.macs) == (layers, macs), path
            compared += 1
        else:
            with pytest.raises(InputFileError, match="holds no convolution and no matrix product"):
                read_onnx(path)
    assert compared > 20


def test_the_nine_networks_are_there():
    """The onnx package brings nine."""
    assert len(LIGHT) == 9


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_networks(path, tmp_path):
    """Layers and MACs of a published network, and what SCALE-Sim says of it."""
    found = read_onnx(path, grouped=True)
    assert (len(found.workload.layers), found.workload.macs) == counted(path)
    nodes = onnx.load(path).graph.node
    assert sum(found.beside.values()) + len(found.workload.layers) == len(nodes)
    apart = arraysmith.read_workload(path)
    assert apart.macs == found.workload.macs
    array = Accelerator(rows=32, cols=32, dataflow=Dataflow.WS)
    (result,) = arraysmith.simulate(apart, (array,))
    assert len(result.layers) == len(apart.layers)
    assert result.total_cycles * 1024 >= apart.macs
    (tmp_path / "workload.csv").write_text(topology_text(apart))
    again = read_topology(tmp_path / "workload.csv")
    assert [layer.macs for layer in again.layers] == [layer.macs for layer in apart.layers]


def test_resnet50_is_the_published_one():
    """It has the layers of `examples/resnet50.csv`, which another hand wrote, in another order."""
    example = arraysmith.read_workload(Path(__file__).parents[1] / "examples/resnet50.csv")
    (path,) = (path for path in LIGHT if "resnet50" in path.name)
    found = arraysmith.read_workload(path)

    def products(workload):
        each = [getattr(layer, "gemm", layer) for layer in workload.layers]
        return sorted((layer.M, layer.N, layer.K) for layer in each)

    assert products(found) == products(example)


def test_a_batch_is_for_physical(tmp_path):
    """Images are the batch of a convolution, which SCALE-Sim does not know and physical does."""
    path = saved(tmp_path, convolving(inputs=[value("x", ("N", 3, 8, 8))]))
    workload = arraysmith.read_workload(path, shapes={"x": (4, 3, 8, 8)})
    assert workload.layers[0].batch == 4
    one_image = arraysmith.read_workload(path, shapes={"x": (1, 3, 8, 8)})
    from arraysmith.workload import batched

    assert batched(one_image, 4) == workload


def test_command_line(command, tmp_path):
    """All three verbs take the file; what is beside the array is said apart from the results."""
    saved(tmp_path, attention())
    shape = ("--shape", "x=1,5,8")
    shown = command("simulate", "net.onnx", *shape, "--dataflow", "os", "--json", "-o", "out")
    assert shown.returncode == 0, shown.stderr
    (found,) = json.loads(shown.stdout)
    assert [layer["name"] for layer in found["layers"]] == [
        "query", "key", "scores_product0", "scores_product1"
    ]  # fmt: skip
    assert shown.stderr == (
        "Beside the array, and not counted: 2 Reshape, 2 Transpose, 1 Shape, 1 Slice, 1 Concat, "
        "1 Softmax\n"
    )
    assert (tmp_path / "out" / "workload.csv").read_text().count("\n") == 5
    mapped = command("map", "net.onnx", *shape, "--json")
    (facts,) = json.loads(mapped.stdout)
    assert [layer["layer"] for layer in facts["layers"]] == ["query", "key", "scores"]
    explored = command("explore", "net.onnx", *shape, "--rows", "4", "--cols", "4", "--json")
    assert json.loads(explored.stdout)["workload"] == "net"


WRONG = {
    "missing-file": (["none.onnx"], 1, "none.onnx: cannot be read (No such file or directory)"),
    "open-shape": (["net.onnx"], 1, "give all, as in --shape x=1,1,8"),
    "bad-shape": (["net.onnx", "--shape", "x:1"], 2, "'x:1' is no shape; give NAME=SIZES"),
    "two-shapes": (["net.onnx", "--shape", "x=1", "--shape", "x=2"], 2, "'x' has two shapes"),
    "of-a-topology": (["-t", "a.csv", "--shape", "x=1"], 2, "--shape is of the inputs of an .onnx"),
    "of-another": (["a.pth", "--shape", "x=1"], 2, "--shape is of the inputs of an .onnx MODEL"),
}


@pytest.mark.parametrize("case", WRONG)
def test_command_line_refuses(case, command, tmp_path):
    """One message, and 1 for a file, 2 for a wrong use."""
    arguments, code, message = WRONG[case]
    saved(tmp_path, attention())
    shown = command("simulate", *arguments, COLUMNS="200")
    assert shown.returncode == code
    assert message in " ".join(shown.stderr.replace("│", " ").split())
    assert "Traceback" not in shown.stderr


def test_shapes_are_for_onnx_alone(tmp_path):
    """In Python too."""
    with pytest.raises(InputFileError, match=r"a\.csv: only an \.onnx file takes shapes"):
        arraysmith.read_workload(tmp_path / "a.csv", shapes={"x": (1,)})


def test_without_onnx(command, tmp_path):
    """Without the package the way to it is named."""
    saved(tmp_path, convolving())
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError('gone', name='onnx')\n")
    import sys

    path = ":".join([str(tmp_path), *sys.path])
    shown = command("simulate", "net.onnx", PYTHONPATH=path)
    assert shown.returncode == 1
    assert shown.stderr == "arraysmith: this verb needs onnx: pip install 'arraysmith[onnx]'\n"


def test_a_network_under_physical(command):
    """AlexNet, with its groups, on the array with its memories."""
    (path,) = (path for path in LIGHT if "alexnet" in path.name)
    shown = command("simulate", path, "--model", "physical", "--json", "-q")
    assert shown.returncode == 0, shown.stderr
    (found,) = json.loads(shown.stdout)
    assert found["macs"] == counted(path)[1]
