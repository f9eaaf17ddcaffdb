"""The verbs of the learning wing: fetch data, train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from arraysmith.errors import InputFileError
from arraysmith.files import check_writable
from arraysmith.progress import silent
from arraysmith.store import RunFolder, versions

if TYPE_CHECKING:
    from arraysmith.learning.checkpoint import Checkpoint
    from arraysmith.learning.training import Recipe
    from arraysmith.metrics import TrainingHistory
    from arraysmith.progress import Progress

SHIPPED_CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "lenet5.safetensors"
SHIPPED_LAST = SHIPPED_CHECKPOINT.with_name("lenet5_last.safetensors")


def fetch_mnist(data: Path | None = None, *, progress: Progress = silent) -> Path:
    """Make sure that MNIST is in `data` (or `$ARRAYSMITH_DATA`, or the cache); returns the folder.

    Raises:
        DataUnavailableError: neither there nor to be fetched.
    """
    from arraysmith.learning import mnist

    return mnist.fetch(data, progress)


def train(
    output: Path,
    recipe: Recipe | None = None,
    *,
    data: Path | None = None,
    resume: bool = False,
    command: str = "arraysmith.train()",
    progress: Progress = silent,
) -> TrainingHistory:
    """Train LeNet-5 on MNIST into the run folder `output`.

    Writes save_model/best_model.pth and last_model.pth after every epoch, figs/train_*.png and the
    training section of metrics.json.

    Args:
        output: the run folder.
        recipe: how; the worked example's by default.
        data: the folder of MNIST.
        resume: go on from last_model.pth of `output`.
        command: what to record as the origin.
        progress: shows epochs.
    """
    from arraysmith.learning import checkpoint, mnist, training
    from arraysmith.learning.training import Recipe

    recipe = recipe or Recipe()
    run = RunFolder(output)
    dataset = mnist.load(data)
    check_writable(run.model("last").parent)
    previous = None
    if resume:
        if not run.model("last").exists():
            raise InputFileError(
                f"{run.model('last')}: nothing to resume; train without --resume first"
            )
        previous = checkpoint.load(run.model("last"))

    def save(found: Checkpoint, /, *, best: bool) -> None:
        # Best before last: a kill between the two is mended by the resumed epoch.
        if best:
            checkpoint.save(run.model("best"), found)
        checkpoint.save(run.model("last"), found)

    history = training.train(
        recipe,
        *training.split(dataset.train_images, dataset.train_labels),
        save=save,
        resume=previous,
        command=command,
        versions=versions(),
        progress=progress,
    )
    record_training(run, history, command)
    return history


def record_training(run: RunFolder, history: TrainingHistory, command: str) -> None:
    """Write a training's facts and its two figures."""
    from arraysmith.reporting import png

    run.record("training", history, command)
    png.training_curves(run.figure("train_loss_and_val_loss"), history, "loss")
    png.training_curves(run.figure("train_acc_and_val_acc"), history, "accuracy")
