"""The int8 network as files that hardware reads, and back.

A folder holds, for a layer `conv1`: `conv1.weight.txt` and `conv1.bias.txt` (one decimal a line,
row-major, all elements), `conv1_scale_zero.txt` (`key value` lines), the same integers as `.hex`
for `$readmemh`, and for the network a C header and `manifest.json`, which names every file with its
SHA-256 and carries one of its own. The text files and the manifest alone give the network back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from arraysmith.errors import InputFileError, InvalidNetworkError, OutputError
from arraysmith.files import is_safe_name, json_bytes, read_bytes, read_text, sha256, writing_folder
from arraysmith.formats.parameters import (
    c_array,
    decimal_text,
    hex_text,
    key_value_text,
    parse_decimals,
    parse_key_values,
)
from arraysmith.quantization.parts import (
    LayerStructure,
    NetworkStructure,
    arrays,
    assemble,
    number_shapes,
    structure,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from arraysmith.models import Shape
    from arraysmith.quantization.network import IntegerNetwork

FORMAT = "arraysmith-weights-1"
MANIFEST = "manifest.json"
ARITHMETIC = {
    "real": "scale * (q - zero_point)",
    "accumulator": "acc = sum((qx - zx) * (qw - zw)) + bias, int32; padding contributes zx",
    "pool": "with pool > 1: sum of max(acc, 0) (acc without relu) over pool x pool accumulators",
    "output": "clamp(zy + ((acc * multiplier + 2**(right_shift - 1)) >> right_shift), qmin, qmax)",
    "relu": "the clamp's lower end is max(qmin, zy)",
    "rounding": "to nearest, ties up; >> is an arithmetic shift",
    "logits": "the last layer's accumulator itself, int32",
}
# One number a line, in files of their own; the others are in `<layer>_scale_zero.txt`.
_TENSORS = ("weight", "bias", "table")
_BITS = {"weight": 8, "bias": 32, "table": 8, "right_shift": 8, "weight_zero_point": 8}
_C_TYPES = {8: "int8_t", 16: "int16_t", 32: "int32_t"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile:
    """One file of the folder."""

    name: str
    sha256: str
    shape: tuple[int, ...] = ()
    bits: int | None = None
    order: str = "row-major"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a folder of weights holds."""

    format: str
    arithmetic: dict[str, str]
    network: NetworkStructure
    files: tuple[ManifestFile, ...]
    sha256: str = ""
    """Of this manifest with the field empty."""


def export(network: IntegerNetwork, folder: Path) -> Manifest:
    """Write all files of a network, replacing the folder as a whole.

    Raises:
        OutputError: the folder cannot be written.
        InvalidNetworkError: a layer's name cannot be a file's.
    """
    parts = structure(network)
    identifiers = [_identifier(layer.name) for layer in parts.layers]
    if len(set(identifiers)) < len(identifiers):
        raise InvalidNetworkError(
            f"layer names {', '.join(layer.name for layer in parts.layers)} become the same C "
            "names; rename those that differ in punctuation only"
        )
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: a file is in the way of the folder; name another with --to")
    if folder.exists() and not (folder / MANIFEST).exists() and any(folder.iterdir()):
        raise OutputError(
            f"{folder}: holds other files and no {MANIFEST}; an export replaces its folder as a "
            "whole, so name an empty or new one with --to"
        )
    files: list[ManifestFile] = []
    with writing_folder(folder) as new:

        def put(name: str, content: str, array: NDArray[Any] | None, bits: int | None) -> None:
            (new / name).write_text(content, encoding="utf-8")
            shape = () if array is None else tuple(array.shape)
            digest = sha256(content.encode())
            files.append(ManifestFile(name=name, sha256=digest, shape=shape, bits=bits))

        numbers = arrays(network)
        put("input_table.txt", decimal_text(network.input_table), network.input_table, 8)
        put("input_table.hex", hex_text(network.input_table, 8), network.input_table, 8)
        for layer in parts.layers:
            own = {key: numbers[f"{layer.name}.{key}"] for key in number_shapes(layer)}
            for key in _TENSORS:
                if key in own:
                    put(f"{layer.name}.{key}.txt", decimal_text(own[key]), own[key], _BITS[key])
            scalars = {key: value for key, value in own.items() if key not in _TENSORS}
            put(f"{layer.name}_scale_zero.txt", key_value_text(scalars), None, None)
            bits = {**_BITS, "multiplier": layer.multiplier_bits or 0}
            for key in (key for key in own if key in bits):
                name = f"{layer.name}.{key}.hex"
                put(name, hex_text(own[key], bits[key]), own[key], bits[key])
        put(f"{network.name}.h", c_header(network), None, None)
        manifest = Manifest(format=FORMAT, arithmetic=ARITHMETIC, network=parts, files=tuple(files))
        manifest = replace(manifest, sha256=_digest(manifest))
        (new / MANIFEST).write_bytes(json_bytes(manifest))
    return manifest


def read_export(folder: Path) -> IntegerNetwork:
    """Build the network from the text files of a folder alone.

    Raises:
        InputFileError: a file is missing, altered, truncated or does not fit; it is named.
    """
    manifest = _read_manifest(folder / MANIFEST)
    listed = {file.name for file in manifest.files}
    for file in manifest.files:
        path = folder / file.name
        if not is_safe_name(file.name):
            raise InputFileError(f"{folder / MANIFEST}: refused file name {file.name!r}")
        if sha256(read_bytes(path)) != file.sha256:
            raise InputFileError(
                f"{path}: altered or truncated since its export (SHA-256 differs from the "
                "manifest); export it again"
            )
    for layer in manifest.network.layers:
        if not is_safe_name(layer.name):
            raise InputFileError(f"{folder / MANIFEST}: refused layer name {layer.name!r}")
    missing = sorted(_read_files(manifest.network) - listed)
    if missing:
        raise InputFileError(f"{folder / MANIFEST}: does not list {missing[0]}; export it again")
    numbers: dict[str, NDArray[Any]] = {}
    table = folder / "input_table.txt"
    numbers["input_table"] = parse_decimals(table, read_text(table), (256,))
    for layer in manifest.network.layers:
        numbers |= _read_layer(folder, layer)
    try:
        return assemble(manifest.network, numbers)
    except (InvalidNetworkError, ValueError, OverflowError) as error:
        raise InputFileError(f"{folder}: {error}") from error


def c_header(network: IntegerNetwork) -> str:
    """All integers of a network as C arrays, with the arithmetic in a comment."""
    guard = f"ARRAYSMITH_{_identifier(network.name).upper()}_H"
    lines = [
        f"/* {network.name}: int8 parameters, written by Arraysmith. All arrays are row-major.",
        *(f" * {key}: {text}" for key, text in ARITHMETIC.items()),
        " */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        "#include <stdint.h>",
        "",
        c_array("input_table", network.input_table, _c_type(network.input_table, 8)),
    ]
    numbers = arrays(network)
    parts = structure(network)
    for layer, (before, after) in zip(parts.layers, pairwise(network.shapes), strict=True):
        prefix = _identifier(layer.name)
        lines.append(f"/* {layer.name}: {layer.kind} */")
        lines += [
            f"#define {prefix.upper()}_{key} ({value})"
            for key, value in _c_constants(layer, before, after).items()
        ]
        for key in number_shapes(layer):
            array = numbers[f"{layer.name}.{key}"]
            if array.ndim == 0 and array.dtype.kind == "i":
                lines.append(f"#define {prefix.upper()}_{key.upper()} ({int(array)})")
            elif array.ndim and array.dtype.kind == "i":
                lines.append(c_array(f"{prefix}_{key}", array, _c_type(array, _BITS.get(key, 32))))
    return "\n".join([*lines, f"#endif /* {guard} */", ""])


def _read_files(network: NetworkStructure) -> set[str]:
    """The files that hold a network's numbers."""
    files = {"input_table.txt"}
    for layer in network.layers:
        files.add(f"{layer.name}_scale_zero.txt")
        files |= {f"{layer.name}.{key}.txt" for key in number_shapes(layer) if key in _TENSORS}
    return files


def _read_layer(folder: Path, layer: LayerStructure) -> dict[str, NDArray[Any]]:
    shapes = number_shapes(layer)
    path = folder / f"{layer.name}_scale_zero.txt"
    scalars = parse_key_values(path, read_text(path))
    found: dict[str, NDArray[Any]] = {}
    for key, (shape, _) in shapes.items():
        if key in _TENSORS:
            tensor = folder / f"{layer.name}.{key}.txt"
            found[f"{layer.name}.{key}"] = parse_decimals(tensor, read_text(tensor), shape)
        elif key in scalars:
            found[f"{layer.name}.{key}"] = np.array(scalars[key])
        else:
            raise InputFileError(f"{path}: {key} is missing")
    return found


def _read_manifest(path: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode(read_bytes(path), type=Manifest)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InputFileError(f"{path}: damaged ({error}); export it again") from error
    if manifest.format != FORMAT:
        raise InputFileError(f"{path}: format {manifest.format!r}, expected {FORMAT!r}")
    if manifest.sha256 != _digest(manifest):
        raise InputFileError(
            f"{path}: altered since its export (its own SHA-256 differs); export it again"
        )
    return manifest


def _digest(manifest: Manifest) -> str:
    return sha256(json_bytes(replace(manifest, sha256="")))


def _c_constants(layer: LayerStructure, before: Shape, after: Shape) -> dict[str, int]:
    """What C needs to know of a layer besides its numbers."""
    found = {
        "STRIDE": layer.stride,
        "PADDING": layer.padding,
        "POOL": layer.pool,
        "WINDOW": layer.window,
        "RELU": int(layer.relu),
        "MULTIPLIERS": layer.multipliers,
        "INPUT_QMIN": -128 if layer.input_signed else 0,
        "INPUT_QMAX": 127 if layer.input_signed else 255,
    }
    if layer.output_signed is not None:
        found["OUTPUT_QMIN"] = -128 if layer.output_signed else 0
        found["OUTPUT_QMAX"] = 127 if layer.output_signed else 255
    for side, shape in (("INPUT", before), ("OUTPUT", after)):
        names = ("CHANNELS", "ROWS", "COLS") if len(shape) == 3 else ("FEATURES",)
        found |= {f"{side}_{name}": size for name, size in zip(names, shape, strict=True)}
    if layer.kind == "conv2d":
        found["FILTER"] = layer.weight_shape[2]
    return found


def _identifier(name: str) -> str:
    plain = re.sub(r"\W", "_", name)
    return f"layer_{plain}" if plain[0].isdigit() or plain == "input" else plain


def _c_type(array: NDArray[Any], bits: int) -> str:
    signed = _C_TYPES[bits]
    top = (1 << (bits - 1)) - 1
    return signed if array.size == 0 or array.max() <= top else f"u{signed}"
