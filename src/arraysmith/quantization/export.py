"""An integer network as files that hardware reads, and back.

A folder holds, for a layer `conv1`: `conv1.weight.txt` and `conv1.bias.txt` (one decimal a line,
row-major, all elements), `conv1_scale_zero.txt` (`key value` lines: scales, zero points,
multipliers, shifts), the same integers as `.hex` for `$readmemh`, and for the network a C header,
`<network>.safetensors` and `manifest.json`. The manifest holds the structure, names every file with
its SHA-256 and carries one of its own. The text files and the manifest alone give the network back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from arraysmith.errors import InputFileError, InvalidNetworkError, OutputError
from arraysmith.files import is_safe_name, json_bytes, read_bytes, read_text, sha256, writing_folder
from arraysmith.formats.parameters import (
    decimal_text,
    hex_text,
    key_value_text,
    parse_decimals,
    parse_key_values,
    parse_reals,
)
from arraysmith.quantization.c_header import c_header
from arraysmith.quantization.parts import (
    Structure,
    assemble,
    layer_arrays,
    structure,
    take_apart,
    width,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from arraysmith.quantization.network import IntegerNetwork

FORMAT = "arraysmith-weights-2"
EARLIER = ("arraysmith-weights-1",)
MANIFEST = "manifest.json"
ARITHMETIC = {
    "real": "scale * (q - zero_point)",
    "scaled(sum)": "clamp(zy + ((sum * multiplier + 2**(right_shift - 1)) >> right_shift))",
    "clamp": "to low..high where given, else to the range of the output's type",
    "rounding": "to nearest, ties up; >> is an arithmetic shift, // rounds down",
    "convolution, linear": "acc = sum((qx - zx) * (qw - zw)) + bias, int32; padding adds 0",
    "activation": "acc = min(max(acc, low), high) + bias, channel by channel, before a pool",
    "pool": "with pool > 1: the sum of acc over windows of that side, a rest at the border is cut",
    "output": "scaled(acc); without an output (logits) acc itself, int32",
    "mat-mul": "scaled(sum((qa - za) * (qb - zb)))",
    "add": "clamp(zy + ((sum((qi - zi) * multiplier_i) + 2**(right_shift - 1)) >> right_shift))",
    "mul": "scaled((qa - za) * (qb - zb))",
    "requantize": "scaled(qx - zx)",
    "table": "table[qx - qmin], with a row for every channel where there are two axes",
    "average-pool, mean": "scaled(sum(qx - zx)); padding adds 0; 1/count is in the multiplier",
    "softmax": "e = table[max(qx) - qx]; min(qmin + (2*e*levels + sum(e)) // (2*sum(e)), qmax)",
    "layer-norm": "d = N*qx - sum(qx); r = max(isqrt((sum(d*d) + epsilon) // N), 1); "
    "t = (d*2**15 + r) // (2*r); "
    "clamp(zy + ((t*multiplier + bias + 2**(right_shift - 1)) >> right_shift))",
    "lookup": "table[x], a row for every row number",
    "float-island": "quantize(f(dequantize(x))) in float64, the one thing that is not integer",
    "max-pool": "the greatest of each window; padding is never the greatest",
}
_SCALE_ZERO = "_scale_zero.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile:
    """One file of the folder."""

    name: str
    sha256: str
    shape: tuple[int, ...] = ()
    bits: int | None = None
    """Of an integer; None: reals, or no array."""
    order: str = "row-major"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a folder of weights holds."""

    format: str
    arithmetic: dict[str, str]
    network: Structure
    files: tuple[ManifestFile, ...]
    sha256: str = ""
    """Of this manifest with the field empty."""


def export(network: IntegerNetwork, folder: Path) -> Manifest:
    """Write all files of a network, replacing the folder as a whole.

    Raises:
        OutputError: the folder cannot be written.
        InvalidNetworkError: names that C or a file system could not tell apart.
    """
    network = assemble(*take_apart(network))
    header = c_header(network, ARITHMETIC)
    _check_folder(folder)
    files: list[ManifestFile] = []
    with writing_folder(folder) as new:
        for file, content in _contents(network, header):
            if any(file.name.lower() == other.name.lower() for other in files):
                raise InvalidNetworkError(
                    f"two files become {file.name!r}; rename layers that differ in case only"
                )
            (new / file.name).write_bytes(content)
            files.append(file)
        manifest = Manifest(
            format=FORMAT, arithmetic=ARITHMETIC, network=structure(network), files=tuple(files)
        )
        manifest = sealed(manifest)
        (new / MANIFEST).write_bytes(json_bytes(manifest))
    return manifest


def sealed(manifest: Manifest) -> Manifest:
    """A manifest with its own SHA-256."""
    return replace(manifest, sha256=_digest(msgspec.to_builtins(manifest)))


def read_export(folder: Path) -> IntegerNetwork:
    """Build the network from the text files of a folder alone.

    Raises:
        InputFileError: a file is missing, altered, truncated or does not fit; it is named.
    """
    path = folder / MANIFEST
    manifest = _read_manifest(path)
    for file in manifest.files:
        if not is_safe_name(file.name):
            raise InputFileError(f"{path}: refused file name {file.name!r:.60}")
        if sha256(read_bytes(folder / file.name)) != file.sha256:
            raise InputFileError(
                f"{folder / file.name}: altered or truncated since its export (SHA-256 differs "
                "from the manifest); export it again"
            )
    if len({file.name for file in manifest.files}) < len(manifest.files):
        raise InputFileError(f"{path}: lists a file twice; export it again")
    numbers = _Listed(folder, {file.name for file in manifest.files})
    for file in manifest.files:
        numbers.update(_read_file(folder, file))
    try:
        return assemble(manifest.network, numbers)
    except InvalidNetworkError as error:
        raise InputFileError(f"{folder}: {error}") from error


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: a file is in the way of the folder; name another with --to")
    if folder.exists() and not (folder / MANIFEST).exists() and any(folder.iterdir()):
        raise OutputError(
            f"{folder}: holds other files and no {MANIFEST}; an export replaces its folder as a "
            "whole, so name an empty or new one with --to"
        )


# ---- writing


def _contents(network: IntegerNetwork, header: str) -> Iterator[tuple[ManifestFile, bytes]]:
    """Every file but the manifest, one after the other, for they are large."""
    # Reading an export does without this extra.
    from arraysmith.quantization.model_file import safetensors_bytes  # noqa: PLC0415

    for layer in network.layers:
        numbers = layer_arrays(layer)
        scalars = {key: array for key, array in numbers.items() if _in_scale_zero(key)}
        for key, array in numbers.items():
            bits = width(layer, key, array)
            name = f"{layer.name}.{key}"
            if key not in scalars:
                yield _file(f"{name}.txt", decimal_text(array), array, bits)
            if bits is not None and (array.ndim or key not in scalars):
                yield _file(f"{name}.hex", hex_text(array, bits), array, bits)
        if scalars:
            yield _file(f"{layer.name}{_SCALE_ZERO}", key_value_text(scalars))
    yield _file(f"{network.name}.h", header)
    yield _file(f"{network.name}.safetensors", safetensors_bytes(network))


def _in_scale_zero(key: str) -> bool:
    return key.endswith(("_scale", "_zero_point")) or key in ("multiplier", "right_shift")


def _file(
    name: str, content: str | bytes, array: NDArray[Any] | None = None, bits: int | None = None
) -> tuple[ManifestFile, bytes]:
    raw = content.encode() if isinstance(content, str) else content
    shape = () if array is None else tuple(array.shape)
    return ManifestFile(name=name, sha256=sha256(raw), shape=shape, bits=bits), raw


# ---- reading


class _Listed(dict[str, "NDArray[Any]"]):
    """The numbers of a folder's text files; a missing one is named as the file it should be in."""

    def __init__(self, folder: Path, files: set[str]) -> None:
        super().__init__()
        self.folder, self.files = folder, files

    def __missing__(self, name: str) -> NDArray[Any]:
        layer, _, key = name.rpartition(".")
        file = f"{layer}{_SCALE_ZERO}" if _in_scale_zero(key) else f"{name}.txt"
        if file in self.files:
            raise InputFileError(f"{self.folder / file}: {key} is missing")
        raise InputFileError(f"{self.folder / MANIFEST}: does not list {file}; export it again")


def _read_file(folder: Path, file: ManifestFile) -> dict[str, NDArray[Any]]:
    """The numbers of a text file; none of any other."""
    path = folder / file.name
    if not file.name.endswith(".txt"):
        return {}
    text = read_text(path)
    if file.name.endswith(_SCALE_ZERO):
        layer = file.name.removesuffix(_SCALE_ZERO)
        scalars = parse_key_values(path, text)
        return {f"{layer}.{key}": np.array(value) for key, value in scalars.items()}
    parse = parse_reals if file.bits is None else parse_decimals
    return {file.name.removesuffix(".txt"): parse(path, text, file.shape)}


def _read_manifest(path: Path) -> Manifest:
    content = read_bytes(path)
    try:
        raw = msgspec.json.decode(content)
        found = raw.get("format") if isinstance(raw, dict) else None
        if found in EARLIER:
            raise InputFileError(
                f"{path}: format {found!r} is of an earlier Arraysmith; export it again"
            )
        manifest = msgspec.convert(raw, Manifest)
        digest = _digest(raw)
    except (msgspec.MsgspecError, RecursionError, OverflowError, TypeError) as error:
        raise InputFileError(f"{path}: damaged ({error}); export it again") from error
    if manifest.format != FORMAT:
        raise InputFileError(f"{path}: format {manifest.format!r:.60}, expected {FORMAT!r}")
    if manifest.sha256 != digest:
        raise InputFileError(
            f"{path}: altered since its export (its own SHA-256 differs); export it again"
        )
    return manifest


def _digest(raw: dict[str, Any]) -> str:
    """The SHA-256 of a manifest's JSON, whatever it holds, its own left empty."""
    return sha256(json_bytes({**raw, "sha256": ""}))
