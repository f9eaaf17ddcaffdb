"""A torch module as an exported program whose operations are whole and change nothing in place."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.export.graph_signature import InputKind, OutputKind

from arraysmith.errors import InvalidNetworkError
from arraysmith.learning.torch_import.attention import batch_first

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn
    from torch.export import ExportedProgram

Example = tuple[torch.Tensor, ...] | Mapping[str, torch.Tensor]

BATCH = 2
"""Of the example: one would not be told from an axis that is dropped."""


def exported(module: nn.Module, example: Example, name: str) -> ExportedProgram:
    """The program of a module in inference, for any batch where torch can keep it open.

    Raises:
        InvalidNetworkError: torch cannot follow the module, or it keeps a state.
    """
    keywords = isinstance(example, Mapping)
    items = list(example.items()) if isinstance(example, Mapping) else list(enumerate(example))
    given = {key: _doubled(x, f"{key!r}", name) for key, x in items}
    args = () if keywords else tuple(given.values())
    kwargs: dict[str, Any] = {str(key): x for key, x in given.items()} if keywords else {}
    shapes: Any = torch.export.ShapesCollection()
    for x in given.values():
        shapes[x] = {0: torch.export.Dim.AUTO}
    with _inference(module), batch_first(module), _quiet():
        try:
            program = torch.export.export(module, args, kwargs, dynamic_shapes=shapes)
        except Exception:  # noqa: BLE001 (torch and the module raise what they like)
            program = _closed(module, args, kwargs, name)
        # An empty table: nothing is decomposed, but what happens in place becomes a value.
        functional: ExportedProgram = program.run_decompositions({})
    _check_state(functional, name)
    return functional


def _closed(
    module: nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any], name: str
) -> ExportedProgram:
    """For the example's batch alone."""
    try:
        return torch.export.export(module, args, kwargs)
    except Exception as error:
        reason = next(filter(None, map(str.strip, str(error).splitlines())), "")
        raise InvalidNetworkError(
            f"network {name!r}: torch.export cannot follow the module "
            f"({type(error).__name__}: {reason}); make what it does independent of its data"
        ) from error


def _doubled(x: object, key: str, name: str) -> torch.Tensor:
    if not isinstance(x, torch.Tensor) or x.ndim < 1 or len(x) < 1:
        what = f"of shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else repr(x)
        raise InvalidNetworkError(
            f"network {name!r}: example {key} is {what}, needs a tensor with a batch as first axis"
        )
    return torch.cat((x[:BATCH], x[:1]))[:BATCH].detach().clone()


@contextlib.contextmanager
def _inference(module: nn.Module) -> Iterator[None]:
    """Every submodule in eval mode, and afterwards as it was."""
    modes = [(each, each.training) for each in module.modules()]
    try:
        module.eval()
        yield
    finally:
        for each, training in modes:
            each.training = training


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says about itself while it exports; the module's own warnings stay.

    What it prints before it gives up is said in one line by the error.
    """
    log = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = log.level
    log.setLevel(logging.CRITICAL)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.ExitStack() as stack,
    ):
        stack.callback(log.setLevel, level)
        for category in (FutureWarning, DeprecationWarning, UserWarning):
            warnings.filterwarnings("ignore", category=category, module=r"torch(\.|$)|copyreg$")
        yield


def _check_state(program: ExportedProgram, name: str) -> None:
    for spec in program.graph_signature.output_specs:
        if spec.kind not in {OutputKind.USER_OUTPUT, OutputKind.USER_INPUT_MUTATION}:
            raise InvalidNetworkError(
                f"network {name!r} changes {spec.target!r} while it runs; a graph has no state, "
                "so leave that out in eval()"
            )


def constants(program: ExportedProgram, name: str) -> dict[str, torch.Tensor]:
    """Parameters, buffers and constants by the placeholder that stands for them.

    Raises:
        InvalidNetworkError: one is NaN, a parameter is infinite, or it has no values.
    """
    found = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT or spec.target is None:
            continue
        tensor = program.state_dict.get(spec.target, program.constants.get(spec.target))
        if not isinstance(tensor, torch.Tensor):
            raise InvalidNetworkError(f"network {name!r}: {spec.target!r} is no tensor")
        _check_values(tensor.detach(), spec.target, name, spec.kind is InputKind.PARAMETER)
        found[spec.arg.name] = tensor.detach()
    return found


def _check_values(tensor: torch.Tensor, target: str, name: str, finite: bool) -> None:  # noqa: FBT001
    if tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.is_complex():
        raise InvalidNetworkError(
            f"network {name!r}: {target!r} is {tensor.dtype} on {tensor.device}, needs dense reals "
            "on the CPU"
        )
    # An infinite buffer may be a mask.
    if bool(tensor.isnan().any()) or (finite and bool(tensor.isinf().any())):
        raise InvalidNetworkError(
            f"network {name!r}: parameter {target!r} holds NaN or infinity; train it again"
        )
