"""Figures as PNG files, drawn with matplotlib from recorded facts."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from arraysmith.files import writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from arraysmith.metrics import TrainingHistory

STYLE = {
    "figure.dpi": 130,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.titlesize": 11,
    "legend.frameon": False,
}
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


@contextmanager
def drawing(path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    """A figure of width × height inches that is written to `path` when the block ends."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        with writing(path) as temporary:
            figure.savefig(temporary, format="png")
