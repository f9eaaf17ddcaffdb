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
) -> Workload:
    """The layers of MODEL or of the topology, whichever was given, for so many images at a time.

    Raises:
        click.UsageError: neither or both.
    """
    from arraysmith.flow.hardware import read_workload
    from arraysmith.formats.topology import read_topology
    from arraysmith.workload import batched

    kind: Kind = "gemm" if input_type == "gemm" else "conv"
    if model is not None and topology is None:
        return batched(read_workload(model, kind, grouped=grouped), images)
    if topology is not None and model is None:
        return batched(read_topology(topology, kind, grouped=grouped), images)
    raise click.UsageError("give either a MODEL or a topology with -t")


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
