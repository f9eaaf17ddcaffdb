"""Train a float network: plain SGD, the whole set in memory, one permutation an epoch.

Everything random comes from one seed, and all state that an epoch leaves behind is in the
checkpoint that `save` gets after it, so a resumed training ends with the same weights as one that
was never stopped.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

from arraysmith.errors import InvalidNetworkError
from arraysmith.learning.checkpoint import Checkpoint
from arraysmith.learning.mnist import MEAN, STD
from arraysmith.learning.network import FloatNetwork
from arraysmith.metrics import Epoch, TrainingHistory
from arraysmith.models import ActivationKind, lenet5
from arraysmith.progress import silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from arraysmith.progress import Advance, Progress

VALIDATION_IMAGES = 5000  # the last ones of the training file
TEST_BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train; the defaults are the worked example's."""

    activation: ActivationKind = ActivationKind.RELU
    epochs: int = 30
    seed: int = 0
    batch_size: int = 32
    learning_rate: float = 0.001
    momentum: float = 0.9
    threads: int = 1
    """torch threads; on LeNet-5 more than one is slower."""

    def __post_init__(self) -> None:
        """Refuse what cannot train."""
        for name in ("epochs", "batch_size", "learning_rate", "threads"):
            if getattr(self, name) <= 0:
                raise InvalidNetworkError(f"{name} is {getattr(self, name)}, needs to be positive")
        if not 0 <= self.momentum < 1:
            raise InvalidNetworkError(f"momentum is {self.momentum}, needs 0 ≤ momentum < 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Images (n, 1, 28, 28) float32, normalised, with their labels (n,) int64."""

    images: torch.Tensor
    labels: torch.Tensor


class Save(Protocol):
    """Keeps a checkpoint; `best` tells that it is the best so far."""

    def __call__(self, checkpoint: Checkpoint, /, *, best: bool) -> None:
        """Write it."""


def normalised(images: NDArray[np.uint8]) -> torch.Tensor:
    """(n, 28, 28) uint8 to (n, 1, 28, 28) float32: (pixel / 255 - mean) / std."""
    return ((torch.from_numpy(images.copy()).float() / 255 - MEAN) / STD).unsqueeze(1)


def split(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], *, held_out: int = VALIDATION_IMAGES
) -> tuple[Labelled, Labelled]:
    """Training and validation part of the training images; the last `held_out` validate."""
    if not 0 < held_out < len(images):
        raise InvalidNetworkError(
            f"{len(images)} images leave nothing to train on beside {held_out} for validation"
        )
    x, y = normalised(images), torch.from_numpy(labels.copy()).long()
    return (
        Labelled(images=x[:-held_out], labels=y[:-held_out]),
        Labelled(images=x[-held_out:], labels=y[-held_out:]),
    )


def train(
    recipe: Recipe,
    training: Labelled,
    validation: Labelled,
    *,
    save: Save,
    resume: Checkpoint | None = None,
    command: str = "",
    versions: dict[str, str] | None = None,
    progress: Progress = silent,
) -> TrainingHistory:
    """Train LeNet-5, calling `save` after every epoch; returns the history.

    Args:
        recipe: what to do; a resumed training must have the recipe it began with (epochs aside).
        training, validation: the two parts; validation chooses the best epoch.
        save: called after each epoch with all there is to resume from.
        resume: the last checkpoint of an interrupted training.
        command, versions: what to write into the history.
        progress: shows batches, loss and accuracy.

    Raises:
        InvalidNetworkError: `resume` is of another recipe or holds no training state.
    """
    with _threads(recipe.threads):
        torch.manual_seed(recipe.seed)
        network = FloatNetwork(lenet5(recipe.activation))
        optimizer = torch.optim.SGD(
            network.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum
        )
        generator = torch.Generator().manual_seed(recipe.seed)
        history = TrainingHistory(
            seed=recipe.seed,
            batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            momentum=recipe.momentum,
            threads=recipe.threads,
            train_images=len(training.images),
            val_images=len(validation.images),
            command=command,
            versions=versions or {},
        )
        if resume is not None:
            history = _resumable(resume, recipe, history)
            _restore(resume, network, optimizer, generator)
        for number in range(len(history.epochs) + 1, recipe.epochs + 1):
            with progress(
                f"epoch {number}/{recipe.epochs}", len(training.images) // recipe.batch_size
            ) as advance:
                start = time.perf_counter()
                order = torch.randperm(len(training.images), generator=generator)
                batches = order.split(recipe.batch_size)
                loss, accuracy = _epoch(network, optimizer, training, batches, advance)
                val_loss, val_accuracy = evaluate(network, validation)
                epoch = Epoch(
                    number=number,
                    train_loss=loss,
                    train_accuracy=accuracy,
                    val_loss=val_loss,
                    val_accuracy=val_accuracy,
                    seconds=time.perf_counter() - start,
                )
                advance(0, f"val loss {val_loss:.4f}, val accuracy {100 * val_accuracy:.2f} %")
            history = replace(history, epochs=(*history.epochs, epoch))
            checkpoint = Checkpoint(
                spec=network.spec,
                activation=recipe.activation,
                parameters={name: t.clone() for name, t in network.state_dict().items()},
                history=history,
                state={"optimizer": optimizer.state_dict(), "generator": generator.get_state()},
            )
            save(checkpoint, best=history.best is epoch)
    return history


@torch.inference_mode()
def evaluate(network: nn.Module, data: Labelled) -> tuple[float, float]:
    """Mean cross-entropy and accuracy over labelled images."""
    loss, correct = 0.0, 0
    for images, labels in zip(
        data.images.split(TEST_BATCH), data.labels.split(TEST_BATCH), strict=True
    ):
        logits = network(images)
        loss += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        correct += int((logits.argmax(1) == labels).sum())
    return loss / len(data.labels), correct / len(data.labels)


def _epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Labelled,
    batches: tuple[torch.Tensor, ...],
    advance: Advance,
) -> tuple[float, float]:
    loss_sum, correct, seen = 0.0, 0, 0
    for step, batch in enumerate(batches, 1):
        labels = data.labels[batch]
        logits = network(data.images[batch])
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(batch)
        correct += int((logits.argmax(1) == labels).sum())
        seen += len(batch)
        if step % 50 == 0:
            advance(50, f"loss {loss_sum / seen:.4f}, accuracy {100 * correct / seen:.2f} %")
    return loss_sum / seen, correct / seen


def _resumable(resume: Checkpoint, recipe: Recipe, fresh: TrainingHistory) -> TrainingHistory:
    """The history to go on with, if its recipe is this one."""
    old = resume.history
    names = ("seed", "batch_size", "learning_rate", "momentum", "train_images", "val_images")
    differences = [
        f"{name} {getattr(old, name)} then, {getattr(fresh, name)} now"
        for name in names
        if getattr(old, name) != getattr(fresh, name)
    ]
    if resume.activation != recipe.activation:
        differences.append(f"activation {resume.activation} then, {recipe.activation} now")
    if differences:
        raise InvalidNetworkError(
            "cannot resume a training of another recipe: " + "; ".join(differences)
        )
    return old


def _restore(
    resume: Checkpoint,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    """Put all state back."""
    try:
        network.load_state_dict(resume.parameters)
        optimizer.load_state_dict(resume.state["optimizer"])
        generator.set_state(resume.state["generator"])
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise InvalidNetworkError(
            f"this last_model.pth cannot be resumed from: its state of the optimizer is missing or "
            f"damaged ({error}); a shipped checkpoint has none; train without --resume"
        ) from error


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
