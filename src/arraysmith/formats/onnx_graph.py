"""An ONNX graph without its weights: nodes in order, and the shape of every tensor.

Nothing in the file is believed before it is checked, and external data is never opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto

from arraysmith.errors import InputFileError
from arraysmith.files import read_bytes
from arraysmith.formats.onnx_shapes import (
    inferred_shapes,
    printable,
    set_inputs,
    without_weights,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from onnx import GraphProto, ModelProto, NodeProto

    from arraysmith.formats.onnx_shapes import Shape, Shapes

_STANDARD = ("", "ai.onnx")
_DRAWN = "Random", "Bernoulli", "Multinomial"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operation."""

    name: str
    """Its own, else that of its first output."""
    op: str
    """The type; `domain:type` outside of the standard."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, int | str | tuple[int, ...] | None]
    """None is an attribute of another kind."""

    def __str__(self) -> str:
        """As messages call it."""
        return f"node {self.name!r} ({self.op})"


@dataclass(frozen=True, kw_only=True)
class Graph:
    """What a file says, checked."""

    path: Path
    nodes: tuple[Node, ...]
    """Each after all whose outputs it reads."""
    shapes: dict[str, Shape]
    """Of every tensor whose number of dimensions is known; None is a size that is not."""
    constants: frozenset[str]
    """Tensors that depend on no input."""

    def shape(self, node: Node, place: int) -> tuple[int, ...]:
        """The shape of one of a node's inputs.

        Raises:
            InputFileError: it has no such input, or nothing says its shape.
        """
        name = node.inputs[place] if place < len(node.inputs) else ""
        if not name:
            raise InputFileError(f"{self.path}: {node} lacks its input {place}; export it again")
        found = self.shapes.get(name)
        sizes = () if found is None else tuple(size for size in found if size is not None)
        if found is None or len(sizes) < len(found):
            hides = self._hiding(name)
            by = "the file does not say it" if hides is None else f"{hides} hides it"
            raise InputFileError(
                f"{self.path}: {node}: the shape of its input {name!r} is not known, {by}; "
                "export the model with fixed sizes, or write that shape into it (value_info)"
            )
        return sizes

    def _hiding(self, tensor: str) -> Node | None:
        """The first node on the way to a tensor that knows its inputs' shapes and hides its own."""
        node = self._makers.get(tensor)
        while node is not None:
            unknown = (name for name in node.inputs if name in self._makers)
            before = next((name for name in unknown if None in self.shapes.get(name, (None,))), "")
            if not before:
                break
            node = self._makers[before]
        return node

    @cached_property
    def _makers(self) -> dict[str, Node]:
        return {output: node for node in self.nodes for output in node.outputs}


def read_graph(path: Path, shapes: Shapes | None = None) -> Graph:
    """Read the graph of an ONNX file and infer its shapes.

    Args:
        path: the file.
        shapes: of inputs, by name, where the file leaves sizes open.

    Raises:
        InputFileError: no ONNX model, damaged, contradictory, with control flow or functions, or
            an input of unknown shape; the message names file, node or tensor, and the way out.
    """
    model = parsed(path)
    nodes = checked_nodes(path, model)
    weights = without_weights(path, model.graph)
    set_inputs(path, model.graph, weights, shapes or {})
    inferred = inferred_shapes(path, model)
    return Graph(
        path=path,
        nodes=nodes,
        shapes=inferred | weights,
        constants=_constants(nodes, set(weights)),
    )


def parsed(path: Path) -> ModelProto:
    """The model in a file, its texts and its opset checked.

    Raises:
        InputFileError: no ONNX model, damaged, or of an opset that is not known.
    """
    try:
        model: ModelProto = onnx.ModelProto.FromString(read_bytes(path))
    except DecodeError as error:
        raise InputFileError(
            f"{path}: no ONNX model, or cut off or damaged; export it again"
        ) from error
    if not model.graph.node:
        raise InputFileError(f"{path}: holds no ONNX graph; export it again")
    if not all(isinstance(text, str) for text in _texts(model.graph)):
        raise InputFileError(f"{path}: damaged, a name in it is not UTF-8; export it again")
    versions = {each.domain: each.version for each in model.opset_import}
    version = max((versions[domain] for domain in _STANDARD if domain in versions), default=None)
    if version is None:
        raise InputFileError(f"{path}: names no opset version of ONNX; export it again")
    if version > onnx.defs.onnx_opset_version():
        raise InputFileError(
            f"{path}: has opset {version}, the installed onnx knows "
            f"{onnx.defs.onnx_opset_version()}; export it for that, or update onnx"
        )
    return model


def _texts(graph: GraphProto) -> Iterator[object]:
    """Every name in a graph; protobuf gives bytes for what is no text."""
    for values in (graph.input, graph.output, graph.value_info, graph.initializer):
        yield from (value.name for value in values)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)


def checked_nodes(path: Path, model: ModelProto) -> tuple[Node, ...]:
    """The nodes, each checked to read only what is there before it.

    Raises:
        InputFileError: one reads what is not there, makes what is, calls a function or holds a
            graph of its own.
    """
    graph = model.graph
    functions = {(each.domain, each.name) for each in model.functions}
    made = {"", *(value.name for value in graph.input)}
    made |= {tensor.name for tensor in graph.initializer}
    made |= {tensor.values.name for tensor in graph.sparse_initializer}
    nodes = []
    for number, proto in enumerate(graph.node):
        node = _node(path, proto, number)
        if (proto.domain, proto.op_type) in functions:
            raise InputFileError(
                f"{path}: {node} calls a function; put its nodes in place with "
                "onnx.inliner.inline_local_functions"
            )
        for name in node.inputs:
            if name not in made:
                raise InputFileError(
                    f"{path}: {node} reads {name!r}, which nothing before it makes; nodes must be "
                    "sorted and without cycles: export it again"
                )
        for name in filter(None, node.outputs):
            if name in made:
                raise InputFileError(
                    f"{path}: {node} makes {name!r}, which is there already; export it again"
                )
            made.add(name)
        nodes.append(node)
    return tuple(nodes)


def _node(path: Path, proto: NodeProto, number: int) -> Node:
    standard = proto.domain in _STANDARD
    op = printable(proto.op_type if standard else f"{proto.domain}:{proto.op_type}")
    outputs = tuple(proto.output)
    name = proto.name or next(filter(None, outputs), f"{proto.op_type}_{number}")
    node = Node(name=name, op=op, inputs=tuple(proto.input), outputs=outputs, attributes={})
    for attribute in proto.attribute:
        kind = attribute.type
        if attribute.HasField("g") or attribute.graphs:
            raise InputFileError(
                f"{path}: {node} holds a graph of its own, so what is computed depends on data; "
                "export the model without control flow"
            )
        if kind == AttributeProto.UNDEFINED:
            raise InputFileError(
                f"{path}: {node}: attribute {attribute.name!r} says no type; export it again"
            )
        value: int | str | tuple[int, ...] | None = None
        if kind == AttributeProto.INT:
            value = attribute.i
        elif kind == AttributeProto.INTS:
            value = tuple(attribute.ints)
        elif kind == AttributeProto.STRING:
            value = attribute.s.decode(errors="replace")
        node.attributes[attribute.name] = value
    return node


def _constants(nodes: tuple[Node, ...], weights: set[str]) -> frozenset[str]:
    """Weights, and what is computed from nothing else."""
    constants = {"", *weights}
    for node in nodes:
        if constants.issuperset(node.inputs) and not node.op.startswith(_DRAWN):
            constants.update(node.outputs)
    return frozenset(constants - {""})
