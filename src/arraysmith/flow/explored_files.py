"""The files of an exploration: all designs, figures, facts, and the best design layer by layer."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.errors import InputFileError
from arraysmith.explorations import ExploredDesigns, Landscape
from arraysmith.files import writing
from arraysmith.store import RunFolder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from arraysmith.flow.answers import Evidence
    from arraysmith.flow.explored import Exploration

DESIGNS_FILE = "designs.npz"
LANDSCAPES_FILE = "landscapes.npz"
FIGURES = ("png", "svg", "pdf")
MAPPINGS_FILE = "best_mappings.json"
BEST_PHYSICAL, BEST_SCALESIM = "best_physical", "best_scalesim"
"""Sections of metrics.json: the layers of the best design."""
_ALWAYS = ("rows", "cols", "dataflow", "pes", "total_cycles", "utilization", "front")


def write(
    output: Path, found: Exploration, evidence: Evidence, command: str, figures: str = "png"
) -> None:
    """Write everything into a run folder."""
    run = RunFolder(output)
    _write_arrays(run.path / DESIGNS_FILE, found.explored.columns)
    _write_arrays(run.path / LANDSCAPES_FILE, _flat(found.explored.landscapes))
    draw(run, found, figures)
    section, layers = _best(evidence, run)
    outdated = {BEST_PHYSICAL, BEST_SCALESIM} - {section}
    run.record("exploration", found.facts, command, outdated=tuple(sorted(outdated)))
    run.record(section, layers, command)


def draw(run: RunFolder, found: Exploration, suffix: str) -> None:
    """The figures that there is something to show in, as png, svg or pdf."""
    from arraysmith.reporting import exploration_png as png

    facts, explored = found.facts, found.explored
    drawings = {
        "front": partial(png.front, facts=facts, explored=explored),
        "parallel": partial(png.parallel, facts=facts, explored=explored),
        "landscapes": partial(png.landscapes, facts=facts, explored=explored),
        "convergence": partial(png.convergence, facts=facts) if facts.history else None,
    }
    for name, drawing in drawings.items():
        path = run.figure(f"exploration_{name}")
        for old in FIGURES:
            path.with_suffix(f".{old}").unlink(missing_ok=True)  # of an earlier exploration
        if drawing is not None:
            drawing(path.with_suffix(f".{suffix}"))


def read_designs(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of a designs.npz, which `pandas.DataFrame` takes as they are.

    Raises:
        InputFileError: not there or damaged.
    """
    columns = _read_arrays(path)
    missing = [name for name in _ALWAYS if name not in columns]
    if missing:
        raise InputFileError(f"{path}: has no {missing[0]}; run `arraysmith explore` again")
    shapes = {array.shape for array in columns.values()}
    if len(shapes) != 1 or len(shapes.pop()) != 1:
        raise InputFileError(
            f"{path}: its columns do not fit each other; run `arraysmith explore` again"
        )
    for name, array in columns.items():
        if array.dtype.kind not in ("U" if name == "dataflow" else "iufb"):
            raise InputFileError(
                f"{path}: {name} is no column of numbers; run `arraysmith explore` again"
            )
    return columns


def read_explored(run: RunFolder) -> ExploredDesigns:
    """What `write` left of the designs.

    Raises:
        InputFileError: not there or damaged.
    """
    path = run.path / LANDSCAPES_FILE
    arrays = _read_arrays(path)
    names = [field.name for field in fields(Landscape)]
    try:
        found = tuple(
            Landscape(**{name: _own(arrays[f"{name}_{number}"]) for name in names})
            for number in range(len(arrays) // len(names))
        )
    except KeyError as error:
        raise InputFileError(f"{path}: has no {error}; run `arraysmith explore` again") from error
    return ExploredDesigns(columns=read_designs(run.path / DESIGNS_FILE), landscapes=found)


def _best(evidence: Evidence, run: RunFolder) -> tuple[str, Any]:
    """The section of the best design and what goes there."""
    number = evidence.best_number
    metrics = evidence.network(number)
    if evidence.asked.model == "physical":
        # Compiled code, and the library that compiles it, only where it is needed.
        from arraysmith.flow.mapping import timelines
        from arraysmith.formats.mappings import write_mappings
        from arraysmith.physical_performance import PhysicalFacts

        accelerator = evidence.problem.space.accelerator(number, evidence.asked.base)
        write_mappings(
            run.path / MAPPINGS_FILE, evidence.workload, [each.mapping for each in metrics.layers]
        )
        return BEST_PHYSICAL, PhysicalFacts(
            metrics=metrics, timelines=timelines(evidence.workload, accelerator, metrics)
        )
    return BEST_SCALESIM, metrics


def _write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    with writing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputFileError(
            f"{path}: cannot be read ({error}); run `arraysmith explore` again"
        ) from error


def _flat(found: tuple[Landscape, ...]) -> dict[str, NDArray[Any]]:
    return {
        f"{field.name}_{number}": np.array(getattr(each, field.name))
        for number, each in enumerate(found)
        for field in fields(Landscape)
    }


def _own(array: NDArray[Any]) -> Any:  # noqa: ANN401 (text, a truth value or an array)
    return array.item() if array.ndim == 0 else array
