"""A float graph becomes an integer network: every group of the plan becomes a layer.

Types come from ranges here, and what has to be on one scale is brought there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.affine import Affine, affine_from_range, integer_range
from arraysmith.errors import InvalidNetworkError
from arraysmith.networks.moves import MOVES, Concat, Pad, Stretch
from arraysmith.networks.operations import Convolution, Linear, Lookup, Softmax
from arraysmith.quantization.forms import Site, integer_form
from arraysmith.quantization.network import IntegerNetwork
from arraysmith.quantization.norms import IntegerSoftmax
from arraysmith.quantization.operations import IntegerRequantize
from arraysmith.quantization.scheme import Scales
from arraysmith.quantization.weighted import lower_weighted
from arraysmith.quantization.weights import constants

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arraysmith.networks.graph import FloatGraph
    from arraysmith.networks.operations import FloatOperation
    from arraysmith.quantization.operations import IntegerLayer
    from arraysmith.quantization.plan import Choose, Group, Plan

Range = tuple[float, float]

NOTHING = 1e-30
"""A range that stays below holds nothing but zeros."""
SCALE_OF_ZEROS = 2.0**-40
"""Of a constant of zeros."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """An integer network, and how it belongs to the float graph."""

    network: IntegerNetwork
    float_names: Mapping[str, str]
    """Integer layer to the float tensor that it stands for."""


def lower(graph: FloatGraph, plan: Plan, ranges: Mapping[str, Range], choose: Choose) -> Lowered:
    """Write the integer form of every group.

    Args:
        graph: the float network.
        plan: its groups.
        ranges: low and high of every tensor of `plan.observed`.
        choose: the scheme of a layer.

    Raises:
        InvalidNetworkError: a layer has no integer form under its scheme; it is named.
    """
    writer = _Writer(graph, plan, ranges, choose)
    for group in plan.groups:
        writer.write(group)
    inputs = tuple(
        replace(given, type=None if given.rows else writer.types[given.name])
        for given in graph.inputs
    )
    network = IntegerNetwork(
        name=graph.name,
        inputs=inputs,
        layers=tuple(writer.layers),
        outputs=tuple(writer.tensors[name] for name in graph.outputs),
    )
    return Lowered(network=network, float_names=writer.float_names)


class _Writer:
    """Writes layers in order, and remembers where every float tensor went."""

    def __init__(
        self, graph: FloatGraph, plan: Plan, ranges: Mapping[str, Range], choose: Choose
    ) -> None:
        self.graph, self.plan, self.ranges, self.choose = graph, plan, ranges, choose
        self.shapes, self.names = graph.shapes, plan.layers
        self.layers: list[IntegerLayer] = []
        self.made: dict[str, Affine] = {}
        """Types that were made of ranges, by owner."""
        self.float_names: dict[str, str] = {}
        self.tensors = {given.name: given.name for given in graph.inputs}
        """Float tensor to the integer tensor that stands for it."""
        self.types: dict[str, Affine | None] = {
            given.name: given.type or (None if given.rows else self.wanted(given.name))
            for given in graph.inputs
        }
        """Of integer tensors."""
        self.taken = {given.name for given in graph.inputs}
        self.taken |= {group.name for group in plan.groups}

    def wanted(self, tensor: str, maker: FloatOperation | None = None) -> Affine:
        """The type that a float tensor shall have, when `maker` is about to compute it."""
        if tensor in self.graph.types:
            return self.graph.types[tensor]
        owner = self.plan.owners.get(tensor)
        if owner is None:
            raise InvalidNetworkError(f"layer {tensor!r}: nothing says its range")
        if owner in self.graph.types:
            return self.graph.types[owner]
        if owner not in self.made:
            self.made[owner] = self._from_range(owner, maker)
        return self.made[owner]

    def _from_range(self, owner: str, maker: FloatOperation | None) -> Affine:
        scheme = self.choose(self.names.get(owner, owner))
        low, high = self.ranges[owner]
        if maker is not None and max(-low, high) < NOTHING:
            # All zeros: any scale will do for them, but not for what they are added to.
            scales = [self.read(tensor, maker.name).scale for tensor in maker.inputs]
            half = math.ldexp(max(scales, default=SCALE_OF_ZEROS), scheme.activation_bits - 1)
            low, high = -half, half
        return affine_from_range(
            low,
            high,
            signed=scheme.signed_activations,
            power_of_two=scheme.scales is not Scales.FREE,
            bits=scheme.activation_bits,
        )

    def read(self, tensor: str, reader: str) -> Affine:
        """The type of a float tensor that arithmetic reads."""
        found = self.types[self.tensors[tensor]]
        if found is None:
            raise InvalidNetworkError(f"layer {reader!r} reads row numbers, which have no scale")
        return found

    def write(self, group: Group) -> None:
        """Append the integer form of a group."""
        before = len(self.layers)
        try:
            self._write(group)
        except InvalidNetworkError as error:
            if repr(group.name) in str(error):
                raise
            raise InvalidNetworkError(f"layer {group.name!r}: {error}") from error
        last = self.layers[-1].name
        self.tensors[group.tensor] = last
        for layer in self.layers[before:]:
            self.float_names[layer.name] = group.tensor

    def put(self, layer: IntegerLayer, type_: Affine | None) -> None:
        """Append one layer."""
        self.layers.append(layer)
        self.types[layer.name] = type_

    def _write(self, group: Group) -> None:
        first = group.first
        inputs = tuple(self.tensors[tensor] for tensor in first.inputs)
        if isinstance(first, MOVES):
            self._move(group, inputs)
            return
        if isinstance(first, Convolution | Linear):
            out = None if group.name in self.plan.logits else self.wanted(group.tensor, first)
            layer = lower_weighted(
                group,
                inputs,
                x=self.read(first.inputs[0], group.name),
                y=out,
                scheme=self.choose(group.name),
                given=self.graph.weight_types.get(group.name),
            )
            self.put(layer, out)
            return
        if isinstance(first, Softmax):
            self._softmax(group, first, inputs)
            return
        row_numbers = isinstance(first, Lookup)
        y = self.wanted(group.tensor, None if row_numbers else first)
        site = Site(
            group=group,
            inputs=inputs,
            shapes=tuple(self.shapes[tensor] for tensor in first.inputs),
            types=()
            if row_numbers
            else tuple(self.read(tensor, group.name) for tensor in first.inputs),
            output=y,
            scheme=self.choose(group.name),
        )
        self.put(integer_form(site), y)

    def _softmax(self, group: Group, softmax: Softmax, inputs: tuple[str, ...]) -> None:
        """Its own type is fixed; where another was given, a change of scale follows."""
        x = self.read(softmax.inputs[0], group.name)
        scheme = self.choose(group.name)
        qmin, qmax = integer_range(scheme.activation_bits, signed=scheme.signed_activations)
        y = Affine(scale=1 / (qmax - qmin + 1), zero_point=qmin, qmin=qmin, qmax=qmax)
        given = self.graph.types.get(group.tensor)
        name = group.name if given in (None, y) else self._unused(f"{group.name}_softmax")
        steps = np.arange(x.qmax - x.qmin + 1)
        table = np.floor(np.exp(-x.scale * steps) * (1 << 16) + 0.5).astype(np.int64)
        layer = IntegerSoftmax(
            name=name, inputs=inputs, axis=softmax.axis, table=table, input=x, output=y
        )
        self.put(layer, y)
        if given not in (None, y):
            self._requantize(group.name, name, given)

    def _move(self, group: Group, inputs: tuple[str, ...]) -> None:
        """A move keeps the type; what it joins or was given is brought to one scale."""
        first = group.first
        wanted = None
        if isinstance(first, Concat) and group.tensor in self.plan.owners:
            wanted = self.wanted(group.tensor, first)
            inputs = tuple(
                tensor
                if self.types[tensor] == wanted
                else self._requantize(self._unused(f"{group.name}_input{place}"), tensor, wanted)
                for place, tensor in enumerate(inputs)
            )
        type_ = self.types[inputs[0]] if inputs else None
        given = self.graph.types.get(group.tensor)
        changes = given is not None and type_ is not None and given != type_
        name = self._unused(f"{group.name}_moved") if changes else group.name
        layer = replace(first, name=name, inputs=inputs)
        if isinstance(layer, Pad | Stretch):
            if type_ is None:
                raise InvalidNetworkError(f"layer {group.name!r} fills in reals where none are")
            layer = replace(layer, value=int(type_.quantize(layer.value)))
        self.put(layer, type_)  # type: ignore[arg-type]  # a move is an integer layer as it is
        if changes:
            self._requantize(group.name, name, given)

    def _requantize(self, name: str, tensor: str, y: Affine | None) -> str:
        """Bring a tensor to another scale under a name, which is returned."""
        x = self.types[tensor]
        if x is None or y is None:
            raise InvalidNetworkError(f"layer {name!r}: a tensor without a scale")
        factor, scheme = x.scale / y.scale, self.choose(name)
        if factor >= 1 and scheme.scales is Scales.SHIFT:  # a shift to the left: m is 2^k
            scheme = replace(scheme, scales=Scales.POW2)
        real = constants(factor, scheme)
        layer = IntegerRequantize(
            name=name, inputs=(tensor,), input=x, output=y, requantization=real
        )
        self.put(layer, y)
        return name

    def _unused(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name
