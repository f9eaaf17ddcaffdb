"""A torch module as a `FloatGraph`, read from what torch.export makes of it.

The program is read before decomposition, so that a convolution or an attention is still one node.
Nodes that depend on no input are computed by torch, here and once; the others become operations by
the tables of `torch_moves`, `torch_windows`, `torch_functions`, `torch_arithmetic`,
`torch_products` and `torch_norms`. What is in none of them is refused by name.
"""

from __future__ import annotations

import inspect
import operator
from typing import TYPE_CHECKING, Any

import torch
from torch.export.graph_signature import OutputKind

from arraysmith.affine import Affine
from arraysmith.errors import InvalidNetworkError
from arraysmith.learning.torch_import.arithmetic import ARITHMETIC
from arraysmith.learning.torch_import.functions import FUNCTIONS
from arraysmith.learning.torch_import.moves import MOVES
from arraysmith.learning.torch_import.names import final_names, reaching, renamed, unique_name
from arraysmith.learning.torch_import.norms import NORMS
from arraysmith.learning.torch_import.products import PRODUCTS
from arraysmith.learning.torch_import.program import BATCH, constants, exported
from arraysmith.learning.torch_import.site import Recording, Site, Value
from arraysmith.learning.torch_import.windows import WINDOWS
from arraysmith.networks.graph import FloatGraph, Input

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn
    from torch.export import ExportedProgram

    from arraysmith.learning.torch_import.program import Example

_READ: dict[str, Callable[..., Any]] = {
    **MOVES,
    **WINDOWS,
    **FUNCTIONS,
    **ARITHMETIC,
    **PRODUCTS,
    **NORMS,
}

MAX_FOLDED_WORDS = 1 << 26
"""Of a constant that is computed here."""

PIXELS = Affine(scale=1.0, zero_point=0, qmin=0, qmax=255)


def from_torch(
    module: nn.Module,
    example: Example,
    *,
    name: str,
    input_names: Sequence[str] | None = None,
    pixels: bool = False,
) -> FloatGraph:
    """The float graph of a module in inference, with its parameters as float32.

    The module is exported in eval mode, and left as it was, with the example's first two members
    and an open batch where torch can keep it open, else for two. The first axis of every input is
    the batch, and it stays first and alone in every tensor.

    Args:
        module: what to read.
        example: tensors (batch, …), as positional arguments or by name; integers are row numbers
            of an embedding.
        name: of the graph.
        input_names: of its inputs, in the order of the example; else those of the arguments.
        pixels: the inputs of reals are pixels 0…255.

    Raises:
        InvalidNetworkError: torch cannot export the module, a parameter is not finite, a node mixes
            the batch, or there is no operation for it; the message names it.
    """
    program = exported(module, example, name)
    given = _inputs(program, name, input_names)
    recording = Recording()
    known: dict[torch.fx.Node, Any] = {}
    fixed = constants(program, name)
    for node in _needed(program):
        if node.op == "placeholder":
            known[node] = given.get(node.name, fixed.get(node.name))
        else:
            known[node] = _read(_site(recording, node), known)
    outputs = _outputs(program, known, name)
    recorded = reaching(recording.operations, outputs)
    taken = {each.name for each in given.values()}
    names = final_names(recorded, lambda path: _is_leaf(module, path), taken)
    return FloatGraph(
        name=name,
        inputs=tuple(_input(each, recording, pixels=pixels) for each in given.values()),
        operations=renamed(recorded, names),
        outputs=tuple(names.get(each, each) for each in outputs),
    )


def _inputs(
    program: ExportedProgram, name: str, input_names: Sequence[str] | None
) -> dict[str, Value]:
    """By placeholder."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    places = program.graph_signature.user_inputs
    chosen = places if input_names is None else input_names
    if len(chosen) != len(places):
        raise InvalidNetworkError(
            f"network {name!r} takes {len(places)} inputs, got the names {', '.join(chosen)}"
        )
    found: dict[str, Value] = {}
    taken: set[str] = set()
    for place, title in zip(places, chosen, strict=True):
        tensor = nodes[str(place)].meta["val"]
        final = unique_name(str(title), taken)
        found[str(place)] = Value(
            name=final,
            shape=tuple(int(size) for size in tensor.shape[1:]),
            rows_of=None if tensor.dtype.is_floating_point else final,
        )
    return found


def _input(given: Value, recording: Recording, *, pixels: bool) -> Input:
    rows = recording.rows.get(given.name, 0)
    if rows and given.name in recording.reals:
        raise InvalidNetworkError(
            f"input {given.name!r} is read as row numbers and as reals; give it twice"
        )
    return Input(
        name=given.name, shape=given.shape, type=PIXELS if pixels and not rows else None, rows=rows
    )


def _needed(program: ExportedProgram) -> list[torch.fx.Node]:
    """The nodes that outputs depend on, in order; checks that torch put between them are not."""
    nodes = list(program.graph.nodes)
    wanted = set(nodes[-1].all_input_nodes)
    for node in reversed(nodes):
        if node in wanted:
            wanted.update(node.all_input_nodes)
    return [node for node in nodes if node in wanted]


def _site(recording: Recording, node: torch.fx.Node) -> Site:
    stack = list((node.meta.get("nn_module_stack") or {"": ("", None)}).items())
    call, (path, _) = stack[-1]
    path = "" if path.startswith("_empty_nn_module_stack") else path
    return Site(
        recording=recording,
        node=node,
        target=str(node.target),
        module=path.split("@")[0],
        call=call,
        batch=BATCH,
    )


def _read(site: Site, known: dict[torch.fx.Node, Any]) -> Any:  # noqa: ANN401 (any ATen result)
    """What a node gives: values, constants or numbers."""
    node = site.node
    size = node.meta.get("val")
    if isinstance(size, int | float | bool | torch.SymInt):
        return size.node.hint if isinstance(size, torch.SymInt) else size
    args: Any = torch.fx.node.map_arg(node.args, known.__getitem__)
    kwargs: Any = torch.fx.node.map_arg(node.kwargs, known.__getitem__)
    if node.target is operator.getitem:
        return _picked(site, *args)
    if not any(_is_live(known[each]) for each in node.all_input_nodes):
        return _folded(site, args, kwargs)
    try:
        return _translated(site, args, kwargs)
    except InvalidNetworkError as error:
        if str(error).startswith("node "):
            raise
        raise site.refuse(str(error)) from error


def _is_live(known: object) -> bool:
    """Whether it depends on an input."""
    parts = known if isinstance(known, tuple | list) else (known,)
    return any(isinstance(part, Value) for part in parts)


def _picked(site: Site, parts: Sequence[Any], index: int) -> Any:  # noqa: ANN401
    site.settle(parts[index] is not None, "reads where the greatest stand; only what they are is")
    return parts[index]


def _folded(site: Site, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
    """A node that depends on no input, computed."""
    target: Any = site.node.target
    tags = getattr(target, "tags", ())
    site.settle(torch.Tag.nondeterministic_seeded not in tags, "is random; a graph is not")
    size = getattr(site.node.meta.get("val"), "shape", ())
    words = 1
    for each in size:
        words *= each.node.hint if isinstance(each, torch.SymInt) else each
    site.settle(words <= MAX_FOLDED_WORDS, f"is a constant of {words} words; make it smaller")
    with torch.no_grad():
        return target(*args, **kwargs)


def _translated(site: Site, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
    """A node that depends on an input, as operations."""
    schema = getattr(site.node.target, "_schema", None)
    title = schema.name.removeprefix("aten::") if schema is not None else ""
    read = _READ.get(title)
    if read is None:
        raise site.refuse(
            "there is no operation for it; write it with others, or leave it out of the module"
        )
    bound = _bound(schema, args, kwargs)
    integers = [each for each in (*args, *kwargs.values()) if isinstance(each, Value)]
    site.settle(
        title in MOVES or not any(each.rows_of for each in integers),
        "computes with row numbers; make the input one of reals, or convert it to floats",
    )
    try:
        inspect.signature(read).bind(site, **bound)
    except TypeError as error:
        raise site.refuse("this form of it is not read; write it with others") from error
    _check_batch(site)
    start = len(site.recording.operations)
    made = read(site, **bound)
    site.title(made, start, title)
    return made


def _bound(schema: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """Arguments by ATen's names; the tensor that most operations are about is `x`."""
    bound = {}
    for place, argument in enumerate(schema.arguments):
        title = "x" if argument.name in {"self", "input"} else argument.name
        if place < len(args):
            bound[title] = args[place]
        elif argument.name in kwargs:
            bound[title] = kwargs[argument.name]
        elif argument.has_default_value():
            bound[title] = argument.default_value
    return bound


def _check_batch(site: Site) -> None:
    made = site.node.meta["val"]
    read = {user.args[1] for user in site.node.users if user.target is operator.getitem}
    if isinstance(made, list | tuple):
        shapes = [part.shape for index, part in enumerate(made) if index in read]
    else:
        shapes = [made.shape]
    for shape in shapes:
        site.behind_batch(shape)


def _outputs(program: ExportedProgram, known: dict[torch.fx.Node, Any], name: str) -> list[str]:
    specs = program.graph_signature.output_specs
    found = []
    for spec, node in zip(specs, program.graph.output_node().args[0], strict=True):
        if node is None or spec.kind is not OutputKind.USER_OUTPUT:
            continue  # what a module does to its input in place is of no use to a graph
        value = known.get(node) if isinstance(node, torch.fx.Node) else node
        if not isinstance(value, Value):
            raise InvalidNetworkError(
                f"network {name!r}: output {str(node)!r} depends on no input; leave it out"
            )
        found.append(value.name)
    return list(dict.fromkeys(found))


def _is_leaf(module: nn.Module, path: str) -> bool:
    try:
        return path != "" and not list(module.get_submodule(path).children())
    except AttributeError:  # a path that torch made up
        return False
