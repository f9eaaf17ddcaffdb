"""The verb `export`: the integer network for hardware and for other tools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from arraysmith.errors import InputFileError
from arraysmith.flow.back_ends import exact_qdq
from arraysmith.flow.sources import quant_model
from arraysmith.store import RunFolder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from arraysmith.quantization.network import IntegerNetwork

    Format = Literal["text", "onnx", "qdq"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written, and where."""

    folder: str
    """Of the text files; where none were asked for, of the models."""
    files: int
    models: tuple[str, ...] = ()
    """The ONNX files."""


def export(
    output: Path,
    model: Path | None = None,
    folder: Path | None = None,
    *,
    formats: Sequence[Format] = ("text",),
) -> Exported:
    """Write the integer network for hardware and for other tools, and read it back to be sure.

    Args:
        output: the run folder.
        model: the integer network; quant_model.pth of `output` by default.
        folder: where to; `weight/` of `output` by default. With text it is replaced as a whole.
        formats: `text` (text, hex, C, safetensors, manifest), `onnx` (`NAME.onnx`, integer
            operations alone) and `qdq` (`NAME.qdq.onnx`).

    Raises:
        OutputError: the folder cannot be written, or holds something else than an export.
        InvalidNetworkError: the network has float islands, which integers cannot say.
    """
    from arraysmith.quantization import model_file
    from arraysmith.quantization.export import export as export_network
    from arraysmith.quantization.export import read_export
    from arraysmith.quantization.parts import arrays

    run = RunFolder(output)
    network = model_file.load(model or quant_model(run))
    folder = folder or run.weight_folder
    files = 0
    if "text" in formats:
        manifest = export_network(network, folder)
        files = len(manifest.files) + 1
        written, read = arrays(network), arrays(read_export(folder))
        wrong = [name for name in written if not np.array_equal(written[name], read[name])]
        if wrong:
            raise InputFileError(f"{folder}: {wrong[0]} does not read back as it was written")
    models = run.onnx_folder if folder == run.weight_folder else folder
    return Exported(
        folder=str(folder if files else models),
        files=files,
        models=_export_models(network, models, formats),
    )


def _export_models(
    network: IntegerNetwork, folder: Path, formats: Sequence[Format]
) -> tuple[str, ...]:
    written = []
    if "onnx" in formats:
        from arraysmith.quantization.onnx_integer import export_integer

        written.append(folder / f"{network.name}.onnx")
        export_integer(network, written[-1])
    if "qdq" in formats:
        from arraysmith.quantization.onnx_qdq import export_qdq

        written.append(folder / f"{network.name}.qdq.onnx")
        export_qdq(network, written[-1], exact=exact_qdq(network) is not None)
    return tuple(str(path) for path in written)
