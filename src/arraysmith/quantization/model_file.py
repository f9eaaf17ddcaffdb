"""`quant_model.pth`: the int8 network as a file of tensors, read with `weights_only=True`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import msgspec
import torch

from arraysmith.errors import InputFileError, InvalidNetworkError
from arraysmith.files import read_bytes, write_bytes
from arraysmith.learning.checkpoint import load_plain
from arraysmith.quantization.parts import NetworkStructure, arrays, assemble, structure

if TYPE_CHECKING:
    from pathlib import Path

    from arraysmith.quantization.network import IntegerNetwork

FORMAT = "arraysmith-int8-1"


def save(path: Path, network: IntegerNetwork) -> None:
    """Write a network, whole or not at all."""
    buffer = io.BytesIO()
    tensors = {name: torch.tensor(array) for name, array in arrays(network).items()}
    description = msgspec.json.encode(structure(network)).decode()
    torch.save({"format": FORMAT, "structure": description, "tensors": tensors}, buffer)
    write_bytes(path, buffer.getvalue())


def load(path: Path) -> IntegerNetwork:
    """Read a network.

    Raises:
        InputFileError: not such a file, or parts that do not fit.
    """
    content = load_plain(path, read_bytes(path))
    if content.get("format") != FORMAT:
        raise InputFileError(
            f"{path}: format {content.get('format')!r}, expected {FORMAT!r}; "
            "give a quant_model.pth that `arraysmith quantize` wrote"
        )
    try:
        parts = msgspec.json.decode(content["structure"], type=NetworkStructure)
        numbers = {name: tensor.numpy() for name, tensor in content["tensors"].items()}
        return assemble(parts, numbers)
    except InvalidNetworkError as error:
        raise InputFileError(f"{path}: {error}") from error
    except (
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
        msgspec.MsgspecError,
        RecursionError,
    ) as error:
        raise InputFileError(f"{path}: a damaged model ({error}); quantize again") from error
