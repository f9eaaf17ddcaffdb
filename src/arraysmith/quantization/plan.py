"""Which float operations become one integer layer, and which tensors need a range of their own.

A weighted operation takes a ReLU or clip behind it into its clamp, then a batch normalization into
its accumulator, then an average pool; sums and products take the clip. Nothing is taken in whose
tensor somebody else reads, or which the model gives out or came quantized with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from arraysmith.networks.functions import Function
from arraysmith.networks.moves import MOVES, Concat, Reshape, Take, Transpose
from arraysmith.networks.operations import (
    Add,
    AveragePool,
    ChannelAffine,
    Convolution,
    Elementwise,
    Linear,
    MatMul,
    Mul,
    Softmax,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from arraysmith.networks.functions import Step
    from arraysmith.networks.graph import FloatGraph
    from arraysmith.networks.operations import FloatOperation
    from arraysmith.quantization.scheme import Scheme

    Choose = Callable[[str], Scheme]
    """The scheme of a layer, by its name."""
    Given = Callable[[str], tuple[float, float] | None]
    """The range that was given for what a layer makes, by its name."""

_ORDER = (Reshape, Transpose, Take)
"""Moves that logits may go through."""
MOST_POOLED = 1.5 * 2**30
"""What the accumulators of a fused pool may add up to without their biases: int32 holds both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Operations that become one integer layer, in order; it has the name of the first."""

    operations: tuple[FloatOperation, ...]

    @property
    def first(self) -> FloatOperation:
        """The one that computes."""
        return self.operations[0]

    @property
    def name(self) -> str:
        """Of the integer layer."""
        return self.first.name

    @property
    def tensor(self) -> str:
        """The float tensor that its integers stand for."""
        return self.operations[-1].name

    @property
    def clip(self) -> tuple[float, float] | None:
        """What the results are clipped to."""
        for operation in self.operations[1:]:
            if isinstance(operation, Elementwise):
                return clipped(operation.steps)
        return None

    @property
    def affine(self) -> ChannelAffine | None:
        """The batch normalization behind the clip."""
        found = [each for each in self.operations[1:] if isinstance(each, ChannelAffine)]
        return found[0] if found else None

    @property
    def pool(self) -> int:
        """Side of the average pool at its end, 1 without."""
        last = self.operations[-1]
        fused = len(self.operations) > 1 and isinstance(last, AveragePool)
        return last.windows.size[0] if fused and isinstance(last, AveragePool) else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The groups of a graph, and where the type of every tensor comes from."""

    groups: tuple[Group, ...]
    owners: Mapping[str, str]
    """Tensor to the tensor whose observed range its type is made from; only of those that have
    one."""
    logits: frozenset[str]
    """Groups whose accumulators are given out as they are."""

    @property
    def observed(self) -> tuple[str, ...]:
        """Tensors that need a range."""
        return tuple(dict.fromkeys(self.owners.values()))

    @property
    def layers(self) -> dict[str, str]:
        """Tensor to the name of the integer layer that makes it, by which it is chosen for."""
        return {group.tensor: group.name for group in self.groups}

    @property
    def weighted(self) -> tuple[str, ...]:
        """Weighted operations, whose channel means a bias correction asks for."""
        firsts = (group.first for group in self.groups)
        return tuple(each.name for each in firsts if isinstance(each, Convolution | Linear))


def plan(graph: FloatGraph, choose: Choose, given: Given = lambda _: None) -> Plan:
    """Group the operations that a graph's outputs depend on.

    Args:
        graph: the float network.
        choose: the scheme of a layer.
        given: the range that somebody chose for a layer's tensor, or none.
    """
    live = _live(graph)
    readers = {
        name: tuple(each for each in those if each.name in live)
        for name, those in graph.readers.items()
    }
    groups: list[Group] = []
    taken: set[str] = set()
    for operation in graph.operations:
        if operation.name in live and operation.name not in taken:
            group = _grown(graph, readers, operation, choose, groups)
            taken.update(each.name for each in group.operations)
            groups.append(group)
    logits = frozenset(
        group.name
        for group in groups
        if isinstance(group.first, Convolution | Linear)
        and len(group.operations) == 1
        and _is_given_out(graph, readers, group.name)
    )
    owners = _owners(groups, logits, graph)
    layers = {group.tensor: group.name for group in groups}
    makers = {group.tensor: group.first for group in groups}

    def choices(tensor: str) -> tuple[object, ...]:
        name = layers[tensor]
        scheme = choose(name)
        return scheme.activation_bits, scheme.calibration, scheme.percentile, given(name)

    for group in reversed(groups):
        if isinstance(group.first, Concat) and group.tensor in owners:
            for tensor in group.first.inputs:
                chain = _read_alone(graph, readers, makers, tensor)
                free = bool(chain) and owners.get(chain[-1]) == chain[-1]
                if free and choices(chain[-1]) == choices(group.tensor):
                    owners.update(dict.fromkeys(chain, owners[group.tensor]))
    return Plan(groups=tuple(groups), owners=owners, logits=logits)


def clipped(steps: tuple[Step, ...]) -> tuple[float, float] | None:
    """The ends that steps clip to, if that is all they do."""
    if len(steps) != 1:
        return None
    if steps[0].function is Function.RELU:
        return 0.0, float("inf")
    if steps[0].function is Function.CLIP:
        low, high = steps[0].numbers
        return low, high
    return None


def _live(graph: FloatGraph) -> set[str]:
    """The operations that an output depends on."""
    live = set(graph.outputs)
    for operation in reversed(graph.operations):
        if operation.name in live:
            live.update(operation.inputs)
    return live


Readers = dict[str, tuple["FloatOperation", ...]]


def _grown(
    graph: FloatGraph,
    readers: Readers,
    operation: FloatOperation,
    choose: Choose,
    before: list[Group],
) -> Group:
    members = [operation]

    def take(fits: Callable[[FloatOperation], bool]) -> None:
        tensor = members[-1].name
        alone = tensor not in graph.outputs and tensor not in graph.types
        following = readers[tensor]
        if alone and len(following) == 1 and fits(following[0]):
            members.append(following[0])

    weighted = isinstance(operation, Convolution | Linear)
    if weighted or isinstance(operation, Add | Mul):
        take(lambda each: isinstance(each, Elementwise) and clipped(each.steps) is not None)
    if isinstance(operation, Convolution):
        if len(members) > 1 and operation.name not in graph.weight_types:
            take(lambda each: isinstance(each, ChannelAffine))
        scheme = choose(operation.name)
        reach = _reach(operation, scheme) * 2 ** _bits(graph, before, operation.inputs[0], choose)
        if scheme.fuse_pool:
            take(lambda each: _is_plain_pool(each) and reach * each.windows.area < MOST_POOLED)
    if isinstance(operation, MatMul):
        take(lambda each: isinstance(each, Elementwise) and factor(each.steps) is not None)
    return Group(operations=tuple(members))


def factor(steps: tuple[Step, ...]) -> float | None:
    """The positive number that steps multiply by, if that is all they do."""
    if len(steps) == 1 and steps[0].function is Function.MUL and steps[0].numbers[0] > 0:
        return steps[0].numbers[0]
    return None


def _reach(operation: Convolution, scheme: Scheme) -> float:
    """What the weights of one sign add up to in steps of their integers, in the worst channel."""
    rows = operation.weight.reshape(len(operation.weight), -1).astype(np.float64)
    positive, negative = np.maximum(rows, 0), np.maximum(-rows, 0)
    span = positive.max(1) + negative.max(1)
    one_sign = np.maximum(positive.sum(1), negative.sum(1))
    shares = np.divide(one_sign, span, out=np.zeros_like(span), where=span > 0)
    return float(shares.max()) * (1 << scheme.weight_bits)


def _bits(graph: FloatGraph, groups: list[Group], tensor: str, choose: Choose) -> int:
    """How many a tensor will have."""
    makers = {group.tensor: group for group in groups}
    while tensor in makers and tensor not in graph.types:
        first = makers[tensor].first
        if not isinstance(first, MOVES) or isinstance(first, Concat):
            return choose(first.name).activation_bits
        tensor = first.inputs[0]
    given = {each.name: each.type for each in graph.inputs} | dict(graph.types)
    found = given.get(tensor)
    return found.bits if found else choose(tensor).activation_bits


def _is_plain_pool(operation: FloatOperation) -> TypeGuard[AveragePool]:
    """Square windows side by side, without padding."""
    if not isinstance(operation, AveragePool):
        return False
    windows = operation.windows
    return (
        len(set(windows.size)) == 1
        and windows.strides == windows.size
        and max(windows.dilations) == 1
        and max(windows.before + windows.after) == 0
    )


def _is_given_out(graph: FloatGraph, readers: Readers, tensor: str) -> bool:
    """Whether an accumulator goes to an output and nowhere else, but through moves."""
    if tensor in graph.types:
        return False
    if any(not isinstance(each, _ORDER) for each in readers[tensor]):
        return False
    rest = all(_is_given_out(graph, readers, each.name) for each in readers[tensor])
    return rest and (tensor in graph.outputs or bool(readers[tensor]))


def _owners(groups: list[Group], logits: frozenset[str], graph: FloatGraph) -> dict[str, str]:
    """Whose range the type of every tensor is made from; a moved tensor's is its source's."""
    owners = {given.name: given.name for given in graph.inputs if not given.rows}
    rows = {given.name for given in graph.inputs if given.rows}
    for group in groups:
        first = group.first
        if isinstance(first, MOVES) and rows.intersection(first.inputs):
            rows.add(group.tensor)
        elif isinstance(first, MOVES) and not isinstance(first, Concat):
            if first.inputs[0] in owners:
                owners[group.tensor] = owners[first.inputs[0]]
        elif group.name not in logits and not isinstance(first, Softmax):
            owners[group.tensor] = group.tensor
    return owners


def _read_alone(
    graph: FloatGraph, readers: Readers, makers: Mapping[str, FloatOperation], tensor: str
) -> list[str]:
    """A tensor and what it is moved from, up to the operation that computes it.

    A concatenation that alone reads them gives them its type at once, so that they are rounded
    once. Empty where somebody else reads one of them too, or where it has a type already.
    """
    chain = [tensor]
    while True:
        maker = makers.get(chain[-1])
        free = chain[-1] not in graph.types and chain[-1] not in graph.outputs
        if maker is None or not free or len(readers[chain[-1]]) != 1:
            return []
        if not isinstance(maker, MOVES) or isinstance(maker, Concat):
            return chain
        chain.append(maker.inputs[0])
