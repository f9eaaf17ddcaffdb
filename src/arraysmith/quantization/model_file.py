"""An integer network as one file: `quant_model.pth` of torch tensors, or safetensors.

Both hold the same parts: all numbers as tensors, the structure as JSON. A `.pth` file is read with
`weights_only=True`, so nothing in it can run.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from arraysmith.errors import InputFileError, InvalidNetworkError
from arraysmith.files import read_bytes, write_bytes
from arraysmith.learning.checkpoint import UNDECODABLE, load_plain
from arraysmith.quantization.parts import assemble, take_apart

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from arraysmith.quantization.network import IntegerNetwork

FORMAT = "arraysmith-int8-2"
EARLIER = ("arraysmith-int8-1",)
SAFETENSORS = ".safetensors"


def save(path: Path, network: IntegerNetwork) -> None:
    """Write a network, as safetensors or `.pth` by the suffix, whole or not at all.

    Raises:
        InvalidNetworkError: a number that no file could hold, such as NaN.
        OutputError: the file cannot be written.
    """
    encode = safetensors_bytes if path.suffix == SAFETENSORS else _torch_bytes
    write_bytes(path, encode(network))


def load(path: Path) -> IntegerNetwork:
    """Read a network from either kind of file.

    Raises:
        InputFileError: not such a file, or parts that do not fit.
    """
    content = read_bytes(path)
    decode = _read_safetensors if path.suffix == SAFETENSORS else load_plain
    found = decode(path, content)
    if found.get("format") in EARLIER:
        raise InputFileError(
            f"{path}: format {found['format']!r} is of an earlier Arraysmith; quantize again"
        )
    if found.get("format") != FORMAT:
        raise InputFileError(
            f"{path}: format {found.get('format')!r:.60}, expected {FORMAT!r}; "
            "give a quant_model.pth that `arraysmith quantize` wrote"
        )
    try:
        parts = msgspec.json.decode(found["structure"])
        return assemble(parts, {name: _array(each) for name, each in found["tensors"].items()})
    except InvalidNetworkError as error:
        raise InputFileError(f"{path}: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, *UNDECODABLE) as error:
        raise InputFileError(f"{path}: a damaged model ({error}); quantize again") from error


def safetensors_bytes(network: IntegerNetwork) -> bytes:
    """A network as the content of a safetensors file."""
    parts, numbers = take_apart(network)
    described = {"format": FORMAT, "structure": msgspec.json.encode(parts).decode()}
    whole = {name: np.array(array, order="C") for name, array in numbers.items()}
    encoded: bytes = save_safetensors(whole, described)
    return encoded


def _torch_bytes(network: IntegerNetwork) -> bytes:
    parts, numbers = take_apart(network)
    tensors = {name: torch.tensor(array) for name, array in numbers.items()}
    described = {"format": FORMAT, "structure": msgspec.json.encode(parts).decode()}
    buffer = io.BytesIO()
    torch.save({**described, "tensors": tensors}, buffer)
    return buffer.getvalue()


def _array(found: object) -> NDArray[Any]:
    """A tensor's numbers, which are all there: strides of 0 could make a terabyte of one word."""
    if isinstance(found, np.ndarray):
        return found
    if not isinstance(found, torch.Tensor) or found.layout != torch.strided:
        raise TypeError(f"a {type(found).__name__} where a tensor is due")
    if not found.is_contiguous():
        raise ValueError("a tensor that is not contiguous")
    array: NDArray[Any] = found.numpy()
    return array


def _read_safetensors(path: Path, content: bytes) -> Mapping[str, Any]:
    try:
        tensors = load_safetensors(content)
        header = msgspec.json.decode(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return {**(header.get("__metadata__") or {}), "tensors": tensors}
    except (SafetensorError, KeyError, TypeError, ValueError, *UNDECODABLE) as error:
        raise InputFileError(
            f"{path}: not a safetensors file ({error}); give one that Arraysmith wrote"
        ) from error
