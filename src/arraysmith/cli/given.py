"""What simulate and explore are given: a workload, and options over an accelerator."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pathlib import Path

    from arraysmith.formats.topology import Kind
    from arraysmith.hardware import Accelerator
    from arraysmith.workload import Workload


def given_workload(
    model: Path | None,
    topology: Path | None,
    input_type: str,
    *,
    grouped: bool = False,
    images: int = 1,
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = (),
) -> Workload:
    """The layers of MODEL or of the topology, whichever was given, for so many images at a time.

    What an ONNX file holds beside them is said on standard error.

    Raises:
        click.UsageError: neither or both.
    """
    from arraysmith.flow.hardware import read_workload
    from arraysmith.formats.topology import read_topology
    from arraysmith.workload import batched

    kind: Kind = "gemm" if input_type == "gemm" else "conv"
    if model is not None and topology is None:
        if model.suffix == ".onnx" and not model.is_dir():
            return batched(_onnx_workload(model, dict(shapes), grouped=grouped), images)
        if shapes:
            raise click.UsageError("--shape is of the inputs of an .onnx MODEL")
        return batched(read_workload(model, kind, grouped=grouped), images)
    if topology is not None and model is None:
        if shapes:
            raise click.UsageError("--shape is of the inputs of an .onnx MODEL")
        return batched(read_topology(topology, kind, grouped=grouped), images)
    raise click.UsageError("give either a MODEL or a topology with -t")


def _onnx_workload(model: Path, shapes: dict[str, tuple[int, ...]], *, grouped: bool) -> Workload:
    from arraysmith.formats.onnx_workload import read_onnx

    found = read_onnx(model, shapes, grouped=grouped)
    if found.beside:
        listed = ", ".join(f"{count} {op}" for op, count in found.beside.items())
        click.echo(f"Beside the array, and not counted: {listed}", err=True)
    return found.workload


def run_folder_of(model: Path | None) -> Path | None:
    """The model's own run folder, if it was given as one."""
    return model if model is not None and (model / "save_model").is_dir() else None


def with_options(
    base: Accelerator,
    rows: int | None,
    cols: int | None,
    buffers: tuple[int | None, int | None, int | None],
    bandwidth: float | None,
) -> Accelerator:
    """An accelerator with the options that were given put over it."""
    names = ("rows", "cols", "ifmap_buffer_kib", "filter_buffer_kib", "ofmap_buffer_kib")
    given = dict(zip(names, (rows, cols, *buffers), strict=True))
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(base, **changes, dram_words_per_cycle=bandwidth)
