"""A network as one file: `quant_model.pth` of torch tensors, or safetensors.

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
from arraysmith.files import read_bytes, write_bytes, writing
from arraysmith.learning.checkpoint import UNDECODABLE, load_plain
from arraysmith.quantization.parts import (
    assemble,
    assemble_graph,
    graph_arrays,
    graph_structure,
    take_apart,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from arraysmith.networks.graph import FloatGraph
    from arraysmith.quantization.network import IntegerNetwork
    from arraysmith.quantization.parts import Numbers, Structure

FORMAT = "arraysmith-int8-2"
FLOAT_FORMAT = "arraysmith-graph-1"
EARLIER = ("arraysmith-int8-1",)
SAFETENSORS = ".safetensors"


def save(path: Path, network: IntegerNetwork) -> None:
    """Write a network, as safetensors or `.pth` by the suffix, whole or not at all.

    Raises:
        InvalidNetworkError: a number that no file could hold, such as NaN.
        OutputError: the file cannot be written.
    """
    encode = _safetensors_bytes if path.suffix == SAFETENSORS else _torch_bytes
    write_bytes(path, encode(FORMAT, *take_apart(network)))


def load(path: Path) -> IntegerNetwork:
    """Read a network from either kind of file.

    Raises:
        InputFileError: not such a file, or parts that do not fit.
    """
    parts, numbers = _read(path, FORMAT, "quant_model.pth that `arraysmith quantize` wrote")
    try:
        return assemble(parts, numbers)
    except InvalidNetworkError as error:
        raise InputFileError(f"{path}: {error}") from error


def save_float(path: Path, graph: FloatGraph) -> None:
    """Write a float graph as `save` does.

    Raises:
        InvalidNetworkError: a number that is NaN.
        OutputError: the file cannot be written.
    """
    write_bytes(path, _float_bytes(path, graph))


def save_both(float_path: Path, graph: FloatGraph, path: Path, network: IntegerNetwork) -> None:
    """Write a float graph and its integer network, both or none: they belong together.

    Raises:
        InvalidNetworkError: a number that no file could hold, such as NaN.
        OutputError: a file cannot be written.
    """
    content = _float_bytes(float_path, graph)
    with writing(float_path) as temporary:
        temporary.write_bytes(content)
        save(path, network)


def _float_bytes(path: Path, graph: FloatGraph) -> bytes:
    graph = assemble_graph(graph_structure(graph), graph_arrays(graph))
    encode = _safetensors_bytes if path.suffix == SAFETENSORS else _torch_bytes
    return encode(FLOAT_FORMAT, graph_structure(graph), graph_arrays(graph))


def load_float(path: Path) -> FloatGraph:
    """Read a float graph.

    Raises:
        InputFileError: not such a file, or parts that do not fit.
    """
    parts, numbers = _read(path, FLOAT_FORMAT, "float model that `arraysmith quantize` wrote")
    try:
        return assemble_graph(parts, numbers)
    except InvalidNetworkError as error:
        raise InputFileError(f"{path}: {error}") from error


def safetensors_bytes(network: IntegerNetwork) -> bytes:
    """A network as the content of a safetensors file."""
    return _safetensors_bytes(FORMAT, *take_apart(network))


def _safetensors_bytes(format_: str, parts: Structure, numbers: Numbers) -> bytes:
    described = {"format": format_, "structure": msgspec.json.encode(parts).decode()}
    whole = {name: np.array(array, order="C") for name, array in numbers.items()}
    encoded: bytes = save_safetensors(whole, described)
    return encoded


def _torch_bytes(format_: str, parts: Structure, numbers: Numbers) -> bytes:
    tensors = {name: torch.tensor(array) for name, array in numbers.items()}
    described = {"format": format_, "structure": msgspec.json.encode(parts).decode()}
    buffer = io.BytesIO()
    torch.save({**described, "tensors": tensors}, buffer)
    return buffer.getvalue()


def _read(path: Path, format_: str, wanted: str) -> tuple[object, Numbers]:
    """Structure and numbers of a file of a format."""
    content = read_bytes(path)
    decode = _read_safetensors if path.suffix == SAFETENSORS else load_plain
    found = decode(path, content)
    if found.get("format") in EARLIER:
        raise InputFileError(
            f"{path}: format {found['format']!r} is of an earlier Arraysmith; quantize again"
        )
    if found.get("format") != format_:
        raise InputFileError(
            f"{path}: format {found.get('format')!r:.60}, expected {format_!r}; give a {wanted}"
        )
    try:
        parts = msgspec.json.decode(found["structure"])
        return parts, {name: _array(each) for name, each in found["tensors"].items()}
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, *UNDECODABLE) as error:
        raise InputFileError(f"{path}: a damaged model ({error}); quantize again") from error


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
