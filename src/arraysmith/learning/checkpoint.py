"""Float checkpoints: safetensors to hand on, `.pth` for a run's own folder; never a pickle.

`.pth` files are read with `weights_only=True`, which refuses anything but tensors and plain data.
"""

from __future__ import annotations

import io
import pickle
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from arraysmith.errors import InputFileError, InvalidNetworkError
from arraysmith.files import read_bytes, write_bytes
from arraysmith.learning.network import check_parameters
from arraysmith.metrics import TrainingHistory
from arraysmith.models import ActivationKind, NetworkSpec, lenet5

if TYPE_CHECKING:
    from pathlib import Path

    from arraysmith.learning.network import Parameters

FORMAT = "arraysmith-float-1"
UNDECODABLE = (msgspec.MsgspecError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A trained float network with the story of its training."""

    spec: NetworkSpec
    activation: ActivationKind
    parameters: Parameters
    history: TrainingHistory
    state: dict[str, Any] = field(default_factory=dict)
    """What a resumed training needs beyond the parameters (optimizer, generator, …)."""


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, as safetensors or `.pth` by the suffix, whole or not at all."""
    description = {
        "format": FORMAT,
        "network": checkpoint.spec.name,
        "activation": checkpoint.activation.value,
        "history": msgspec.json.encode(checkpoint.history).decode(),
    }
    parameters = {name: t.detach().contiguous() for name, t in checkpoint.parameters.items()}
    if path.suffix == ".safetensors":
        write_bytes(path, save_safetensors(parameters, description))
        return
    buffer = io.BytesIO()
    torch.save({**description, "parameters": parameters, "state": checkpoint.state}, buffer)
    write_bytes(path, buffer.getvalue())


def load(path: Path) -> Checkpoint:
    """Read a float checkpoint of either kind.

    Raises:
        InputFileError: not a checkpoint, or one whose tensors do not fit its network.
    """
    content = read_bytes(path)
    description = _read_safetensors(path, content) or load_plain(path, content)
    if description.get("format") != FORMAT:
        raise InputFileError(
            f"{path}: format is {description.get('format')!r}, expected {FORMAT!r}; "
            "give a checkpoint that `arraysmith train` wrote"
        )
    try:
        activation = ActivationKind(description["activation"])
        if description["network"] != "lenet5":
            raise InputFileError(f"{path}: unknown network {description['network']!r}")
        spec = lenet5(activation)
        history = msgspec.json.decode(description["history"], type=TrainingHistory)
        parameters = description["parameters"]
        state = description["state"]
        if not all(isinstance(tensor, torch.Tensor) for tensor in parameters.values()):
            raise InputFileError(f"{path}: parameters that are no tensors")
        check_parameters(spec, parameters)
        if not history.epochs:
            raise InputFileError(f"{path}: a training without epochs; train again")
    except InvalidNetworkError as error:
        raise InputFileError(f"{path}: {error}") from error
    except (KeyError, ValueError, TypeError, AttributeError, *UNDECODABLE) as error:
        raise InputFileError(f"{path}: a damaged checkpoint ({error}); train again") from error
    return Checkpoint(
        spec=spec, activation=activation, parameters=parameters, history=history, state=state
    )


def load_plain(path: Path, content: bytes) -> dict[str, Any]:
    """Read a `.pth` file that holds a dictionary of tensors and plain data, and nothing else.

    Raises:
        InputFileError: not such a file; pickled objects are refused unopened.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of pickles that it then refuses
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputFileError(
            f"{path}: refused: not a checkpoint of tensors and plain data "
            "(a pickle of other objects could run code when opened)"
        ) from error
    except Exception as error:  # torch.load raises whatever the broken bytes provoke
        raise InputFileError(
            f"{path}: not a checkpoint ({type(error).__name__}); "
            "give a .safetensors or .pth file that Arraysmith wrote"
        ) from error
    if not isinstance(loaded, dict):
        raise InputFileError(f"{path}: holds a {type(loaded).__name__}, expected a checkpoint")
    return loaded


def _read_safetensors(path: Path, content: bytes) -> dict[str, Any] | None:
    if path.suffix != ".safetensors":
        return None
    try:
        parameters = load_safetensors(content)
        length = int.from_bytes(content[:8], "little")
        header = msgspec.json.decode(content[8 : 8 + length])
    except (SafetensorError, KeyError, *UNDECODABLE) as error:
        raise InputFileError(
            f"{path}: not a safetensors file ({error}); give a checkpoint that Arraysmith wrote"
        ) from error
    return {**header.get("__metadata__", {}), "parameters": parameters, "state": {}}
