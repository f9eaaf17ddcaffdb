"""Every ATen operation that is read, against the torch module itself."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from arraysmith.affine import Affine
from arraysmith.errors import InvalidNetworkError
from arraysmith.learning.float_graph import run
from arraysmith.learning.network import FloatNetwork
from arraysmith.learning.torch_import import from_torch
from arraysmith.models import ActivationKind, lenet5
from arraysmith.networks.moves import Expand, Pad, Reshape, Stretch, Take, Transpose
from arraysmith.networks.operations import (
    ChannelAffine,
    Constant,
    Convolution,
    Elementwise,
    Island,
    LayerNorm,
    Linear,
    MatMul,
    Mean,
    Softmax,
)

RELATIVE = 3e-6
"""Of the range of what is compared: some roundings of float32."""


class Function(nn.Module):
    """A function as a module, with constants of its own."""

    def __init__(self, function, **buffers):
        """Buffers are what the function calls its module's."""
        super().__init__()
        self.function = function
        for name, value in buffers.items():
            self.register_buffer(name, value)

    def forward(self, *tensors):
        """What the function gives; it sees the module if it has buffers."""
        return self.function(*([self] if list(self.buffers()) else []), *tensors)


class Every(nn.Module):
    """Functions side by side, so that one export reads them all."""

    def __init__(self, functions, **buffers):
        """Functions or modules by case."""
        super().__init__()
        self.functions = functions
        self.modules_among = nn.ModuleList(
            each for each in functions.values() if isinstance(each, nn.Module)
        )
        self.cases = []
        for name, value in buffers.items():
            self.register_buffer(name, value)

    def forward(self, *tensors):
        """The results of all; `cases` says whose each is."""
        self.cases = []
        found = []
        for case, function in self.functions.items():
            made = function(*([self] if list(self.buffers()) else []), *tensors)
            made = made if isinstance(made, (tuple, list)) else (made,)
            self.cases += [case] * len(made)
            found += made
        return tuple(found)


def seeded(module):
    """The module with parameters and statistics drawn from a fixed seed."""
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(torch.randn(buffer.shape, generator=generator))
        if name.endswith("running_var"):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return module


def given(batch, *shapes):
    """Random tensors (batch, *shape)."""
    generator = torch.Generator().manual_seed(batch)
    return tuple(torch.randn(batch, *shape, generator=generator) for shape in shapes)


def same(module, *shapes, batches=(1, 3)):
    """The graph of a module, which computes what the module does."""
    graph = from_torch(module, given(2, *shapes), name="network")
    module.eval()
    for batch in batches:
        tensors = given(batch, *shapes)
        with torch.no_grad():
            expected = module(*tensors)
        expected = expected if isinstance(expected, (tuple, list)) else (expected,)
        names = [each.name for each in graph.inputs]
        found = run(graph, dict(zip(names, tensors, strict=True)))
        assert len(graph.outputs) == len(expected)
        cases = getattr(module, "cases", [""] * len(expected))
        for name, want, case in zip(graph.outputs, expected, cases, strict=True):
            close(found[name], want, case)
    return graph


def close(found, want, case=""):
    """Equal but for roundings of float32; what is the same for every member may be given once."""
    assert found.shape[1:] == want.shape[1:], case
    assert len(found) in {1, len(want)}, case
    limit = RELATIVE * max(float(want.abs().max()), 1e-30)
    assert float((found - want).abs().max()) <= limit, case


def kinds(graph):
    """The types of a graph's operations, in order."""
    return [type(each) for each in graph.operations]


def refused(module, *shapes):
    """The message a module is refused with."""
    with pytest.raises(InvalidNetworkError) as caught:
        from_torch(module, given(2, *shapes), name="network")
    message = str(caught.value)
    assert "\n" not in message
    return message


CONVOLUTIONS = {
    "1d": (nn.Conv1d(3, 4, 3, stride=2, padding=1), (3, 11)),
    "1d dilated, groups": (nn.Conv1d(4, 6, 3, dilation=2, groups=2, bias=False), (4, 11)),
    "1d same, even": (nn.Conv1d(3, 4, 4, padding="same"), (3, 11)),
    "2d": (nn.Conv2d(3, 5, (3, 2), stride=(2, 1), padding=(1, 2)), (3, 9, 7)),
    "2d same": (nn.Conv2d(3, 5, (4, 3), padding="same", dilation=(1, 2)), (3, 9, 8)),
    "2d valid": (nn.Conv2d(3, 5, 3, padding="valid"), (3, 9, 8)),
    "2d depthwise": (nn.Conv2d(4, 8, 3, groups=4), (4, 6, 6)),
    "2d reflect": (nn.Conv2d(2, 3, 3, padding=2, padding_mode="reflect"), (2, 6, 5)),
    "2d replicate": (nn.Conv2d(2, 3, 3, padding=2, padding_mode="replicate"), (2, 6, 5)),
    "2d circular": (nn.Conv2d(2, 3, 3, padding=2, padding_mode="circular"), (2, 6, 5)),
    "transposed 1d": (nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2), (4, 5)),
    "transposed 2d": (
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        (4, 5, 4),
    ),
    "transposed 2d dilated": (
        nn.ConvTranspose2d(3, 2, (2, 3), stride=(3, 1), dilation=2, bias=False),
        (3, 4, 5),
    ),
    "transposed, padding beyond the filter": (nn.ConvTranspose1d(2, 2, 2, 3, padding=2), (2, 6)),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions(case):
    """Strides, paddings, dilations, groups, and transposed ones by stretching."""
    module, shape = CONVOLUTIONS[case]
    graph = same(seeded(module), shape)
    assert kinds(graph)[-1] is Convolution
    assert set(kinds(graph)) <= {Convolution, Stretch, Take}


POOLS = {
    "max 1d": (nn.MaxPool1d(3, stride=2, padding=1), (2, 10)),
    "max 2d dilated": (nn.MaxPool2d((3, 2), stride=2, dilation=(2, 1)), (2, 9, 9)),
    "max 2d ceil": (nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True), (2, 8, 10)),
    "average 1d": (nn.AvgPool1d(3, stride=2, padding=1), (2, 10)),
    "average 2d": (nn.AvgPool2d(2), (2, 7, 6)),
    "average 2d padding": (nn.AvgPool2d(3, stride=2, padding=1), (2, 7, 6)),
    "average 2d padding not counted": (
        nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
        (2, 7, 6),
    ),
    "average 2d ceil": (nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True), (2, 8, 10)),
    "average 2d ceil, padding not counted": (
        nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
        (2, 8, 10),
    ),
    "adaptive average to 1": (nn.AdaptiveAvgPool2d(1), (3, 5, 4)),
    "adaptive average, even": (nn.AdaptiveAvgPool2d((2, 1)), (3, 6, 4)),
    "adaptive average 1d": (nn.AdaptiveAvgPool1d(3), (3, 9)),
    "adaptive max, even": (nn.AdaptiveMaxPool2d((2, 3)), (3, 6, 6)),
}


@pytest.mark.parametrize("case", POOLS)
def test_pools(case):
    """Ceiled sizes, dilations, paddings that count and that do not."""
    module, shape = POOLS[case]
    graph = same(module, shape)
    assert len(graph.operations) == 1


ELEMENTWISE = {
    "relu": nn.ReLU(),
    "relu in place": nn.Sequential(nn.Tanh(), nn.ReLU(inplace=True)),
    "relu6": nn.ReLU6(),
    "hardtanh": nn.Hardtanh(-0.5, 0.25),
    "clamp": Function(lambda x: x.clamp(-0.3, 0.4)),
    "clamp from below": Function(lambda x: x.clamp(min=-0.3)),
    "clamp from above": Function(lambda x: torch.clamp_max(x, 0.4)),
    "leaky relu": nn.LeakyReLU(0.2),
    "elu": nn.ELU(0.7),
    "selu": nn.SELU(),
    "celu": nn.CELU(0.7),
    "prelu, one slope": nn.PReLU(),
    "hardswish": nn.Hardswish(),
    "hardsigmoid": nn.Hardsigmoid(),
    "sigmoid": nn.Sigmoid(),
    "log sigmoid": nn.LogSigmoid(),
    "tanh": nn.Tanh(),
    "silu": nn.SiLU(),
    "gelu": nn.GELU(),
    "gelu tanh": nn.GELU("tanh"),
    "softplus": nn.Softplus(),
    "softplus, beta": nn.Softplus(beta=2),
    "mish": nn.Mish(),
    "neg": Function(torch.neg),
    "abs": Function(torch.abs),
    "exp": Function(torch.exp),
    "erf": Function(torch.erf),
    "square": Function(torch.square),
    "cube": Function(lambda x: x**3),
    "power of a number": Function(lambda x: 2**x),
    "sqrt": Function(lambda x: (x.abs() + 1).sqrt()),
    "rsqrt": Function(lambda x: (x.abs() + 1).rsqrt()),
    "log": Function(lambda x: torch.log(x.abs() + 1)),
    "reciprocal": Function(lambda x: 1 / (x.abs() + 1)),
    "add and multiply numbers": Function(lambda x: (3 - x * 2 + 1) / 4 - 5),
    "maximum with a number": Function(lambda x: torch.maximum(x, torch.tensor(0.1))),
}


def test_functions_of_one_tensor():
    """Element-wise functions, and arithmetic with numbers."""
    graph = same(seeded(Every(ELEMENTWISE)), (3, 4, 5))
    assert set(kinds(graph)) == {Elementwise}


PAIRS = {
    "add": lambda x, y: x + y,
    "add, alpha": lambda x, y: torch.add(x, y, alpha=2),
    "subtract": lambda x, y: x - y,
    "subtract, alpha": lambda x, y: torch.sub(x, y, alpha=0.5),
    "subtract the other way": torch.rsub,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / (y.abs() + 1),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "power": lambda x, y: (x.abs() + 0.5) ** y,
    "in place": lambda x, y: (x * 1.5).add_(y).mul_(2),
    "matmul": lambda x, y: x @ y.transpose(1, 2),
    "bmm": lambda x, y: torch.bmm(x, y.mT),
    "einsum": lambda x, y: torch.einsum("bik,bjk->bij", x, y),
    "einsum, transposed": lambda x, y: torch.einsum("bki,bkj->bji", x, y),
    "cat": lambda x, y: torch.cat([x, y, x], 1),
    "stack": lambda x, y: torch.stack([x, y], 2),
    "stack last": lambda x, y: torch.stack([x, y], -1),
    "where, constant condition": lambda x, y: torch.where(torch.arange(4) > 1, x, y),
    "two outputs": lambda x, y: (x + 1, y * x),
}


def test_functions_of_two_tensors():
    """Sums, products, quotients, joins of tensors that both depend on the inputs."""
    same(Every(PAIRS), (4, 4), (4, 4))


def test_tensors_that_broadcast():
    """Sums and products of tensors with axes of one word."""
    same(Function(lambda x, y: x * y + x), (4, 3, 5), (4, 1, 1))


BROAD = torch.linspace(-1, 1, 12).reshape(3, 4)

CONSTANTS = {
    "add a tensor": lambda m, x: x + m.c,
    "subtract from a tensor": lambda m, x: m.c - x,
    "multiply a tensor": lambda m, x: m.c * x,
    "divide by a tensor": lambda m, x: x / (m.c.abs() + 1),
    "divide a tensor": lambda m, x: m.c / (x.abs() + 1),
    "power of a tensor": lambda m, x: (x.abs() + 1) ** m.c,
    "channels": lambda m, x: x * m.c[:, :1] + m.c[:, 1:2],
    "last axis": lambda m, x: x * m.c[0] + m.c[1],
    "batch of one": lambda m, x: x + m.c[None],
    "cat": lambda m, x: torch.cat([m.c.expand(len(x), -1, -1), x], 1),
    "one member for all": lambda m, x: torch.cat([m.c[None].repeat(len(x), 1, 1), x], 2),
    "zeros and ones": lambda m, x: x + m.c * 0 + torch.ones(4) * torch.zeros(3, 4) - 1,
    "full": lambda m, x: x * torch.full((4,), 2.0) + torch.arange(4) + m.c,
    "masked fill": lambda m, x: x.masked_fill(m.c > 0, 0.5),
    "masked before softmax": lambda m, x: x.masked_fill(m.c[1] > 0, -torch.inf).softmax(-1),
    "where before softmax": lambda m, x: torch.where(m.c[1] > 0, -1e30, x).softmax(-1),
    "small where before softmax": lambda m, x: torch.where(m.c > 0, 0.25, x).softmax(-1),
    "mask added before softmax": lambda m, x: (
        x + torch.zeros(4).masked_fill(m.c[1] > 0, -torch.inf)
    ).softmax(-1),
    "matmul right": lambda m, x: x @ m.c.T,
    "matmul left": lambda m, x: m.c.T @ x,
    "matmul by a vector": lambda m, x: x @ m.c[0],
    "einsum right": lambda m, x: torch.einsum("bij,kj->bik", x, m.c),
    "einsum left": lambda m, x: torch.einsum("ki,bij->bkj", m.c.T, x),
    "linear without a module": lambda m, x: F.linear(x, m.c, m.c[:, 0]),
    "gather of constants": lambda m, x: x + m.c[:, torch.tensor([2, 0, 1, 1])],
}


def test_constants():
    """Constants are computed once, and meet tensors as torch broadcasts them."""
    same(Every(CONSTANTS, c=BROAD.clone()), (3, 4))


def test_constants_become_the_simplest_operation():
    """Channels are a ChannelAffine, zeros and ones nothing, constants never computed at run."""
    channels = same(Function(CONSTANTS["channels"], c=BROAD.clone()), (3, 4))
    assert kinds(channels) == [ChannelAffine, ChannelAffine]
    nothing = same(Function(lambda x: (x + torch.zeros(3, 4)) * torch.ones(3)[:, None] * 2), (3, 4))
    assert kinds(nothing) == [Elementwise]


MOVED = {
    "flatten": lambda x: x.flatten(1),
    "flatten some": lambda x: x.flatten(2),
    "view": lambda x: x.view(len(x), 4, -1),
    "reshape, -1 is the batch": lambda x: x.reshape(-1, 6, 20),
    "unflatten": lambda x: x.unflatten(1, (2, 2)),
    "squeeze": lambda x: x[:, :1].squeeze(1),
    "unsqueeze": lambda x: x.unsqueeze(2) + 1,
    "transpose": lambda x: x.transpose(1, 3),
    "permute": lambda x: x.permute(0, 3, 1, 2),
    "mT": lambda x: x.mT,
    "movedim": lambda x: x.movedim(-1, 1),
    "slice": lambda x: x[:, 1:, ::2, -3:],
    "select": lambda x: x[:, -1],
    "narrow": lambda x: x.narrow(2, 1, 3),
    "index select": lambda x: x.index_select(3, torch.tensor([4, 0, 0])),
    "index": lambda x: x[:, :, torch.tensor([-1, 2, 0])],
    "flip": lambda x: x.flip(1, 3),
    "roll": lambda x: x.roll(2, -1),
    "chunk": lambda x: x.chunk(3, 2),
    "split": lambda x: x.split([1, 3], 1)[1],
    "unbind": lambda x: x.unbind(1)[2],
    "pad": lambda x: F.pad(x, (1, 2, 0, 3), value=0.5),
    "crop": lambda x: F.pad(x, (-1, 2)),
    "pad reflect": lambda x: F.pad(x, (1, 2, 0, 3), mode="reflect"),
    "pad replicate": lambda x: F.pad(x, (1, 2, 0, 3), mode="replicate"),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "nearest, uneven": lambda x: F.interpolate(x, size=(7, 9)),
    "nearest exact": lambda x: F.interpolate(x, size=(4, 8), mode="nearest-exact"),
    "pixel shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel unshuffle": lambda x: F.pixel_unshuffle(x[..., :4], 2),
    "channel shuffle": lambda x: F.channel_shuffle(x, 2),
    "expand": lambda x: x[:, :1].expand(-1, 4, -1, -1),
    "repeat": lambda x: x.repeat(1, 2, 1, 3),
    "repeat interleave": lambda x: x.repeat_interleave(2, 1),
}


def test_moves():
    """Words are moved, never computed with."""
    graph = same(Every(MOVED), (4, 6, 5))
    assert set(kinds(graph)) <= {Reshape, Transpose, Take, Pad, Expand, Elementwise}


NORMALISED = {
    "batch norm 1d": (nn.BatchNorm1d(3), (3, 7)),
    "batch norm of features": (nn.BatchNorm1d(3), (3,)),
    "batch norm 2d": (nn.BatchNorm2d(3, affine=False), (3, 5, 4)),
    "layer norm": (nn.LayerNorm(7), (3, 7)),
    "layer norm, two axes": (nn.LayerNorm((3, 7), elementwise_affine=False), (2, 3, 7)),
    "rms norm": (nn.RMSNorm(7, eps=1e-5), (3, 7)),
    "group norm": (nn.GroupNorm(2, 4), (4, 5, 3)),
    "instance norm": (nn.InstanceNorm2d(3, affine=True), (3, 5, 4)),
    "instance norm, statistics": (nn.InstanceNorm1d(3, track_running_stats=True), (3, 5)),
    "softmax": (nn.Softmax(1), (3, 5)),
    "log softmax": (nn.LogSoftmax(-1), (3, 5)),
    "mean": (Function(lambda x: x.mean(-1)), (3, 5)),
    "mean, kept": (Function(lambda x: x.mean((1, 3), keepdim=True)), (3, 5, 2)),
    "variance": (Function(lambda x: x.var(-1)), (3, 5)),
    "variance, biased": (Function(lambda x: x.var(-1, unbiased=False)), (3, 5)),
    "sum": (Function(lambda x: x.sum((1, 2))), (3, 5)),
    "amax": (Function(lambda x: x.amax(1, keepdim=True)), (3, 5)),
    "max": (Function(lambda x: x.max(-1).values), (3, 5)),
    "linear": (nn.Linear(5, 4), (3, 5)),
    "linear without a bias": (nn.Linear(5, 4, bias=False), (5,)),
    "addmm": (Function(lambda m, x: torch.addmm(m.b, x, m.w), b=BROAD[0], w=BROAD), (3,)),
    "prelu": (nn.PReLU(3), (3, 5)),
    "dropout": (nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5)), (5,)),
    "float64": (Function(lambda x: (x.double() * 2).float().contiguous().clone()), (5,)),
}


@pytest.mark.parametrize("case", NORMALISED)
def test_normalizations_and_reductions(case):
    """Norms, means, sums, softmaxes, linear layers."""
    module, shape = NORMALISED[case]
    same(seeded(module), shape)


ATTENTIONS = {
    "plain": F.scaled_dot_product_attention,
    "scale": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.3),
    "causal": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "bool mask": lambda q, k, v: F.scaled_dot_product_attention(
        q, k, v, attn_mask=(torch.arange(6) < 4).expand(6, 6)
    ),
    "float mask": lambda q, k, v: F.scaled_dot_product_attention(
        q, k, v, attn_mask=torch.arange(36).reshape(6, 6) * 0.1
    ),
    "all seen": lambda q, k, v: F.scaled_dot_product_attention(
        q, k, v, attn_mask=torch.ones(6, 6, dtype=torch.bool)
    ),
    "mask from the inputs": lambda q, k, v: F.scaled_dot_product_attention(
        q, k, v, attn_mask=q @ k.mT
    ),
    "grouped": lambda q, k, v: F.scaled_dot_product_attention(
        q, k[:, :1], v[:, :1], enable_gqa=True
    ),
}


def test_attention():
    """Attention is products, a scale, a mask that is finite, and a softmax."""
    graph = same(Every(ATTENTIONS), (2, 6, 3), (2, 6, 3), (2, 6, 3))
    assert kinds(graph)[-2:] == [Softmax, MatMul]
    masks = [each.value for each in graph.operations if isinstance(each, Constant)]
    assert all(mask.min() >= -1e4 for mask in masks)


class Masked(nn.Module):
    """Attention of torch's own, with a mask and its weights."""

    def __init__(self, mask):
        """True where nothing is seen, or a sum."""
        super().__init__()
        self.attend = nn.MultiheadAttention(6, 2, batch_first=True)
        self.register_buffer("mask", mask)

    def forward(self, x):
        """Outputs, and averaged weights."""
        return self.attend(x, x, x, attn_mask=self.mask)


FUTURE = torch.ones(5, 5, dtype=torch.bool).triu(1)


@pytest.mark.parametrize("mask", [FUTURE, torch.where(FUTURE, -torch.inf, 0.5)])
def test_attention_of_torch_itself(mask):
    """nn.MultiheadAttention keeps the batch first, whatever torch does inside."""
    module = seeded(Masked(mask))
    graph = same(module, (5, 6))
    assert graph.operations[-1].name != "attend.out_proj"
    assert "attend.out_proj" in graph.shapes
    assert "forward" not in module.attend.__dict__


def test_transformer_layers_of_torch_itself():
    """An encoder layer, and a decoder layer that reads a second tensor."""
    encoder = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True, norm_first=True)
    same(seeded(encoder), (5, 6))
    same(seeded(nn.TransformerDecoderLayer(6, 2, 8, batch_first=True)), (5, 6), (4, 6))


def test_embeddings():
    """Row numbers are an input of their own kind; moves before the table are allowed."""

    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(11, 4)
            self.places = nn.Embedding(6, 4)

        def forward(self, words):
            numbers = torch.arange(words.shape[1])
            return self.table(words.flip(1)) + self.places(numbers)

    module = seeded(Words())
    words = torch.randint(0, 11, (3, 5))
    graph = from_torch(module, {"words": words}, name="words", pixels=True)
    assert (graph.inputs[0].name, graph.inputs[0].shape) == ("words", (5,))
    assert (graph.inputs[0].rows, graph.inputs[0].type) == (11, None)
    close(run(graph, {"words": words})[graph.outputs[0]], module(words).detach())


@pytest.mark.parametrize("activation", ActivationKind)
def test_lenet5_keeps_its_names(activation):
    """LeNet-5 gives the layers of its spec, by name, for any batch."""
    spec = lenet5(activation)
    graph = same(seeded(FloatNetwork(spec)), (1, 28, 28), batches=(1, 2, 5))
    assert [each.name for each in graph.operations] == [layer.name for layer in spec.layers]
    assert graph.outputs == ("fc2",)


def test_inputs_are_named_and_typed():
    """Names are the arguments' or those given; pixels have a type of their own."""
    module = nn.Linear(4, 2)
    assert from_torch(module, given(1, (4,)), name="n").inputs[0].name == "input"
    graph = from_torch(module, given(1, (4,)), name="n", input_names=["a b"], pixels=True)
    assert graph.inputs[0].name == "a_b"
    assert graph.inputs[0].type == Affine(scale=1.0, zero_point=0, qmin=0, qmax=255)
    with pytest.raises(InvalidNetworkError, match=r"takes 1 inputs, got the names a, b$"):
        from_torch(module, given(1, (4,)), name="n", input_names=["a", "b"])


def test_names_come_from_modules():
    """Paths name what leaf modules give; repeated calls and functions get names of their own."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(self.act(self.conv(x)) - x + x * 2)

    graph = same(seeded(nn.Sequential(Block(), nn.Flatten())), (2, 5, 5))
    assert [each.name for each in graph.operations] == [
        *("0.conv.take", "0.conv.pad", "0.conv", "0.act"),
        *("0.sub", "0.mul", "0.add", "0.act_1", "1"),
    ]


def test_the_module_is_left_as_it_was():
    """Training modes stay, and later training does not change the graph."""
    module = seeded(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)))
    module[1].eval()
    graph = from_torch(module, given(2, (3,)), name="n")
    assert (module.training, module[0].training, module[1].training) == (True, True, False)
    weight = graph.operations[0].weight.copy()
    module[0].weight.data.zero_()
    assert (graph.operations[0].weight == weight).all()


def test_operations_no_output_needs_are_left_out():
    """What is computed and not given is not in the graph."""
    graph = same(Function(lambda x: (torch.sin(x), x.chunk(2, 1)[0])[1]), (4, 3))
    assert kinds(graph) == [Take]


def test_a_module_for_one_batch_only():
    """A module that insists on its batch is exported with it."""

    class Insists(nn.Module):
        def forward(self, x):
            return x.view(2, 12) * 2

    graph = from_torch(Insists(), given(2, (3, 4)), name="n")
    (x,) = given(5, (3, 4))
    close(run(graph, {graph.inputs[0].name: x})[graph.outputs[0]], x.view(5, 12) * 2)


def test_simple_kinds():
    """Modules become the operations that stand for them, not a decomposition."""
    network = nn.Sequential(
        *(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.GELU(), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(2, 4), nn.LayerNorm(4)),
    )
    assert kinds(same(seeded(network), (1, 6, 6))) == [
        *(Convolution, ChannelAffine, Elementwise, Mean, Reshape, Linear, LayerNorm),
    ]
    assert kinds(same(seeded(nn.GroupNorm(1, 2)), (2, 3))) == [Island, ChannelAffine]


def test_an_unknown_operation_is_named():
    """Node, ATen operation and module are in the message."""

    class Wave(nn.Module):
        def forward(self, x):
            return torch.sin(x)

    assert refused(nn.Sequential(nn.Linear(3, 3), Wave()), (3,)) == (
        "node 'sin' (aten.sin.default in module '1'): there is no operation for it; write it with "
        "others, or leave it out of the module"
    )


MIXING = {
    "flattens it": lambda x: x.reshape(-1, 4),
    "moves it": lambda x: x.transpose(0, 1),
    "permutes it": lambda x: x.permute(1, 0, 2),
    "selects of it": lambda x: x[0],
    "slices it": lambda x: x[1:],
    "flips it": lambda x: x.flip(0),
    "rolls it": lambda x: x.roll(1, 0),
    "sums it": lambda x: x.sum(0, keepdim=True),
    "means it": lambda x: x.mean(),
    "joins along it": lambda x: torch.cat([x, x], 0),
    "softmaxes it": lambda x: x.softmax(0),
    "puts an axis before it": lambda x: x.unsqueeze(0) + 1,
    "repeats it": lambda x: x.repeat(2, 1, 1),
    "is broadcast over": lambda x: x.mean(2).unsqueeze(0),
}


@pytest.mark.parametrize("case", MIXING)
def test_mixing_the_batch_is_refused(case):
    """The batch stays the first axis, alone."""
    message = refused(Function(MIXING[case]), (3, 4))
    assert re.match(r"node '\w+' \(aten\.\w+\.\w+ in the module itself\): ", message)
    assert "batch" in message


REFUSED = {
    "uneven adaptive pool": (
        nn.AdaptiveAvgPool2d(2),
        (1, 5, 4),
        "cannot split (5, 4) evenly into (2, 2); choose sizes that divide",
    ),
    "divisor": (
        nn.AvgPool2d(2, divisor_override=3),
        (1, 4, 4),
        "overrides the divisor; multiply behind the pool instead",
    ),
    "random": (
        Function(lambda x: x + torch.rand(3)),
        (3,),
        "is random; a graph is not",
    ),
    "clamp by a tensor": (
        Function(lambda x: x.clamp(max=torch.tensor([1.0, 2.0, 3.0]))),
        (3,),
        "clamps by tensors; clamp by numbers",
    ),
    "members that differ": (
        Function(lambda x: x + torch.arange(len(x))[:, None]),
        (3,),
        (
            "has a constant of shape (2, 1) that differs from member to member of the batch; make "
            "it the same for all"
        ),
    ),
    "condition": (
        Function(lambda x: torch.where(x > 0, x, 0.5)),
        (3,),
        "there is no operation for it; write it with others, or leave it out of the module",
    ),
    "infinite": (
        Function(lambda x: x.masked_fill(torch.arange(3) > 1, torch.inf)),
        (3,),
        "has constants that are NaN or infinite; make them finite",
    ),
    "rounding": (
        Function(lambda x: torch.div(x, 2, rounding_mode="floor")),
        (3,),
        "rounds quotients (floor); leave them reals",
    ),
    "zero": (Function(lambda x: x / 0), (3,), "divides by a constant that is 0"),
    "integers": (
        Function(lambda x: x.int()),
        (3,),
        "makes torch.int32 of reals; leave them reals",
    ),
    "indices of a pool": (
        Function(lambda x: F.max_pool2d(x, 2, return_indices=True)[1]),
        (1, 4, 4),
        "reads where the greatest stand; only what they are is",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case):
    """What cannot be read says what it is and what could be done."""
    module, shape, problem = REFUSED[case]
    assert refused(module, shape).endswith(f": {problem}")


def test_control_flow_by_data_is_refused():
    """torch.export says what it cannot follow."""
    message = refused(Function(lambda x: x if x.sum() > 0 else -x), (3,))
    assert message.startswith("network 'network': torch.export cannot follow the module (")
    assert message.endswith("; make what it does independent of its data")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_parameters_are_finite(bad):
    """A parameter that is not is named."""
    module = nn.Sequential(nn.Linear(3, 2))
    module[0].weight.data[1, 1] = bad
    assert refused(module, (3,)) == (
        "network 'network': parameter '0.weight' holds NaN or infinity; train it again"
    )


def test_a_state_is_refused():
    """A graph keeps nothing from one call to the next."""
    module = Function(lambda m, x: x + m.count.add_(1), count=torch.zeros(3))
    assert refused(module, (3,)) == (
        "network 'network' changes 'count' while it runs; a graph has no state, so leave that out "
        "in eval()"
    )


def test_examples_are_tensors_with_a_batch():
    """Else the message names the example."""
    with pytest.raises(InvalidNetworkError, match=r"example 0 is of shape \(\), needs a tensor"):
        from_torch(nn.ReLU(), (torch.tensor(1.0),), name="n")


def test_row_numbers_are_not_computed_with():
    """Integers are moved and looked up, nothing else."""
    module = Function(lambda x: (x + 1) * 2.0)
    with pytest.raises(InvalidNetworkError, match="computes with row numbers"):
        from_torch(module, (torch.arange(6).reshape(2, 3),), name="n")


def test_constant_outputs_are_refused():
    """An output that depends on no input is no output."""
    assert refused(Function(lambda x: (x, torch.ones(3))), (3,)).endswith(
        "depends on no input; leave it out"
    )
