"""Figures as PNG files, drawn with matplotlib from recorded facts."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from arraysmith.files import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from matplotlib.figure import SubFigure
    from numpy.typing import NDArray

    from arraysmith.metrics import Evaluation, TrainingHistory
    from arraysmith.performance import LayerMetrics, NetworkMetrics

STYLE: dict[Any, Any] = {
    "figure.dpi": 130,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.titlesize": 11,
    "legend.frameon": False,
    "svg.hashsalt": "arraysmith",
}
MAX_DIGITS = 25
VECTORS = ("svg", "pdf")
COLOURS = ("#2c6fbb", "#e07b39", "#3a9a6b", "#8a5fb0", "#b33f40")


def training_curves(
    path: Path, history: TrainingHistory, kind: Literal["loss", "accuracy"]
) -> None:
    """Training and validation loss or accuracy over the epochs."""
    epochs = history.epochs
    numbers = [epoch.number for epoch in epochs]
    scale = 100 if kind == "accuracy" else 1
    with drawing(path, (6.4, 4.0)) as figure:
        axes = figure.subplots()
        for colour, part in zip(COLOURS, ("train", "val"), strict=False):
            values = [scale * getattr(epoch, f"{part}_{kind}") for epoch in epochs]
            axes.plot(numbers, values, "o-", ms=3, color=colour, label=part)
        best = history.best
        axes.axvline(best.number, color="0.6", ls=":", label=f"best epoch {best.number}")
        axes.set_xlabel("epoch")
        axes.set_ylabel("accuracy (%)" if kind == "accuracy" else "cross-entropy")
        axes.set_title(f"LeNet-5 on MNIST: {kind} ({history.train_images:,} training images)")
        axes.legend()


def quantization_test(path: Path, evaluation: Evaluation, images: NDArray[np.uint8]) -> None:
    """Confusion matrix of the int8 network beside the digits whose class changed."""
    found = evaluation.comparison
    shown = evaluation.changed_images[:MAX_DIGITS]
    with drawing(path, (11, 5.2)) as figure:
        left, right = figure.subfigures(1, 2, squeeze=False)[0]
        _confusion(left, evaluation)
        right.suptitle(
            f"{found.changed} of {found.images:,} predictions changed: {found.fixed} fixed, "
            f"{found.broken} broken (McNemar p = {evaluation.p_value:.2f})",
            fontsize=10,
        )
        side = max(2, int(np.ceil(np.sqrt(max(len(shown), 1)))))
        grid = right.subplots(side, side, squeeze=False).ravel()
        for axes in grid:
            axes.axis("off")
        for axes, image in zip(grid, shown, strict=False):
            axes.imshow(images[image.index], cmap="gray_r")
            right_now = image.int8_prediction == image.label
            right_before = image.float_prediction == image.label
            colour = COLOURS[2] if right_now else COLOURS[4] if right_before else "0.3"
            axes.set_title(
                f"#{image.index}: {image.label}\n{image.float_prediction} → "
                f"{image.int8_prediction}",
                fontsize=8,
                color=colour,
            )


def simulation(path: Path, results: Sequence[NetworkMetrics]) -> None:
    """Cycles, utilization and bandwidth requirement of every layer on every array."""
    layers = [layer.name for layer in results[0].layers]
    position = np.arange(len(layers))
    width = 0.8 / len(results)
    panels: tuple[tuple[str, Callable[[LayerMetrics], float]], ...] = (
        ("total cycles", lambda layer: layer.total_cycles),
        ("overall utilization (%)", lambda layer: 100 * layer.overall_utilization),
        ("SRAM words per cycle", lambda layer: layer.sram_words_per_cycle),
        ("DRAM words per cycle, stall-free", lambda layer: layer.dram_words_per_cycle or np.nan),
    )
    with drawing(path, (11, 6.4)) as figure:
        grid = figure.subplots(2, 2).ravel()
        for axes, (title, value) in zip(grid, panels, strict=True):
            for number, (colour, found) in enumerate(zip(cycle(COLOURS), results, strict=False)):
                axes.bar(
                    position + (number - (len(results) - 1) / 2) * width,
                    [value(layer) for layer in found.layers],
                    width,
                    color=colour,
                    label=plain(f"{found.rows}×{found.cols} {found.dataflow.upper()}"),
                )
            axes.set_title(title)
            step = max(1, len(layers) // 12)
            axes.set_xticks(position[::step], [plain(name) for name in layers[::step]])
            axes.tick_params(axis="x", rotation=30 if len(layers) > 6 else 0)
        grid[0].legend(title=results[0].model)
        figure.suptitle(plain(f"{results[0].workload}: {results[0].model}"))


def _confusion(figure: SubFigure, evaluation: Evaluation) -> None:
    axes = figure.subplots()
    counts = np.array(evaluation.confusion)
    axes.imshow(np.sqrt(counts), cmap="Blues")
    for row, col in np.ndindex(counts.shape):
        if counts[row, col]:
            colour = "w" if row == col else "k"
            axes.text(
                col, row, str(counts[row, col]), ha="center", va="center", color=colour, size=8
            )
    axes.set_xticks(range(10))
    axes.set_yticks(range(10))
    axes.set_xlabel("int8 prediction")
    axes.set_ylabel("label")
    axes.grid(visible=False)
    found = evaluation.comparison
    axes.set_title(
        f"int8 {100 * found.int8_accuracy:.2f} %, float {100 * found.float_accuracy:.2f} % "
        f"of {found.images:,} test images"
    )


def plain(text: str) -> str:
    """Text that matplotlib draws as it is: `$` would start a formula."""
    return text.replace("$", r"\$")


@contextmanager
def drawing(path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    """A figure of width × height inches that is written to `path` when the block ends.

    The suffix says how: .svg and .pdf are for papers, all else is PNG.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        with writing(path) as temporary:
            suffix = path.suffix.lower().lstrip(".")
            kind = suffix if suffix in VECTORS else "png"
            # No date and no random names: equal facts make equal files.
            stamp = {"svg": "Date", "pdf": "CreationDate"}.get(kind)
            figure.savefig(temporary, format=kind, metadata={stamp: None} if stamp else None)
