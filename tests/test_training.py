"""Training, checkpoints and resuming, on a few synthetic images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from arraysmith.errors import InputFileError, InvalidNetworkError
from arraysmith.flow.learning import SHIPPED_CHECKPOINT
from arraysmith.learning import checkpoint, training
from arraysmith.learning.network import FloatNetwork, float_network
from arraysmith.models import ActivationKind, lenet5

RECIPE = training.Recipe(epochs=4, batch_size=8, seed=3)


def data():
    """Forty images, ten of them for validation."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    return training.split(images, rng.integers(0, 10, 40, dtype=np.uint8), held_out=10)


class Kept:
    """Keeps checkpoints in memory; stops like a kill after some epochs."""

    def __init__(self, stop_after=None):
        """`stop_after` epochs the training is killed."""
        self.last, self.best, self.stop_after = None, None, stop_after

    def __call__(self, found, /, *, best):
        """Keep, then stop if it is time."""
        self.last = found
        if best:
            self.best = found
        if len(found.history.epochs) == self.stop_after:
            raise KeyboardInterrupt


def same(one, other):
    """Whether two sets of parameters are equal, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def trained(recipe=RECIPE, **options):
    """Train and return what was kept."""
    kept = Kept()
    training.train(recipe, *data(), save=kept, **options)
    return kept


def test_same_seed_same_weights():
    """Two runs with one seed give the same weights; another seed gives others."""
    first, second = trained(), trained()
    assert same(first.last.parameters, second.last.parameters)
    other = trained(replace(RECIPE, seed=4))
    assert not same(first.last.parameters, other.last.parameters)


@pytest.mark.parametrize("epochs_before", [1, 3])
def test_a_resumed_training_ends_the_same(tmp_path, epochs_before):
    """Killed after some epochs and resumed from its file: same weights, same history."""
    whole = trained()
    killed = Kept(stop_after=epochs_before)
    with pytest.raises(KeyboardInterrupt):
        training.train(RECIPE, *data(), save=killed)
    checkpoint.save(tmp_path / "last_model.pth", killed.last)
    resumed = trained(resume=checkpoint.load(tmp_path / "last_model.pth"))
    assert same(whole.last.parameters, resumed.last.parameters)
    losses = [
        [(epoch.train_loss, epoch.val_loss) for epoch in kept.last.history.epochs]
        for kept in (whole, resumed)
    ]
    assert losses[0] == losses[1]


def test_best_is_chosen_on_validation():
    """The best checkpoint is of the epoch with the highest validation accuracy."""
    kept = trained()
    accuracies = [epoch.val_accuracy for epoch in kept.last.history.epochs]
    assert kept.best.history.epochs[-1].val_accuracy == max(accuracies)


def test_training_learns():
    """The loss on forty images goes down."""
    epochs = trained(replace(RECIPE, epochs=12, learning_rate=0.01)).last.history.epochs
    assert epochs[-1].train_loss < epochs[0].train_loss


def test_resume_refuses_another_recipe():
    """What differs is named, then and now."""
    kept = trained(replace(RECIPE, epochs=1))
    with pytest.raises(InvalidNetworkError) as caught:
        trained(replace(RECIPE, seed=9, activation=ActivationKind.TANH), resume=kept.last)
    assert str(caught.value) == (
        "cannot resume a training of another recipe: seed 3 then, 9 now; "
        "activation relu then, tanh now"
    )


def test_resume_needs_training_state():
    """A checkpoint without optimizer state says which file has it."""
    with pytest.raises(InvalidNetworkError, match="a shipped checkpoint has none; train without"):
        trained(resume=replace(trained(replace(RECIPE, epochs=1)).last, state={}))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("activation", list(ActivationKind))
def test_checkpoints_round_trip(tmp_path, suffix, activation):
    """Parameters and history come back as they were, in both formats."""
    found = trained(replace(RECIPE, epochs=1, activation=activation)).last
    path = tmp_path / f"model{suffix}"
    checkpoint.save(path, found)
    loaded = checkpoint.load(path)
    assert same(found.parameters, loaded.parameters)
    assert loaded.history == found.history
    assert loaded.activation is activation


def altered(change):
    """The parameters of a fresh network, changed."""
    parameters = dict(FloatNetwork(lenet5()).state_dict())
    change(parameters)
    return parameters


BAD_PARAMETERS = {
    "missing": (
        lambda p: p.pop("fc1.bias"),
        "parameters do not fit 'lenet5': missing fc1.bias; not in the network none",
    ),
    "extra": (
        lambda p: p.update(more=torch.zeros(1)),
        "parameters do not fit 'lenet5': missing none; not in the network more",
    ),
    "shape": (
        lambda p: p.update({"fc1.bias": torch.zeros(3)}),
        "tensor 'fc1.bias' has shape (3,), 'lenet5' needs (84,)",
    ),
    "nan": (
        lambda p: p["conv1.weight"].fill_(float("nan")),
        "tensor 'conv1.weight' holds NaN or infinity; train it again",
    ),
    "integers": (
        lambda p: p.update({"fc1.bias": torch.zeros(84, dtype=torch.int32)}),
        "tensor 'fc1.bias' is torch.int32, expected floats",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD_PARAMETERS.values(), ids=BAD_PARAMETERS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_checkpoints_that_do_not_fit(tmp_path, change, message, suffix):
    """Missing, extra, misshapen, NaN or integer tensors are named with the file."""
    path = tmp_path / f"model{suffix}"
    good = checkpoint.load(SHIPPED_CHECKPOINT)
    checkpoint.save(path, replace(good, parameters=altered(change)))
    with pytest.raises(InputFileError) as caught:
        checkpoint.load(path)
    assert str(caught.value) == f"{path}: {message}"


class Evil:
    """A pickle that would run code."""

    def __reduce__(self):
        """Ask to be opened with a call."""
        return (print, ("this must never run",))


def test_pickles_are_refused_unopened(tmp_path, capsys):
    """A pickle of objects is refused and its code does not run."""
    path = tmp_path / "model.pth"
    torch.save(Evil(), path)
    with pytest.raises(InputFileError, match="refused: not a checkpoint of tensors"):
        checkpoint.load(path)
    assert "never" not in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08" + b"\0" * 7 + b"{}garbage"])
def test_files_that_are_no_checkpoints(tmp_path, suffix, content):
    """Anything else is refused in one line."""
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputFileError) as caught:
        checkpoint.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [[1, 2], {"format": "other"}, {"format": checkpoint.FORMAT}])
def test_dictionaries_that_are_no_checkpoints(tmp_path, content):
    """A loadable file of other content is refused."""
    path = tmp_path / "model.pth"
    torch.save(content, path)
    with pytest.raises(InputFileError):
        checkpoint.load(path)


def test_a_half_written_checkpoint_never_shows(tmp_path, monkeypatch):
    """When writing fails half-way the earlier file stays whole and no temporary remains."""
    path = tmp_path / "last_model.pth"
    found = trained(replace(RECIPE, epochs=1)).last
    checkpoint.save(path, found)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Exception, match="No space left on device"):
        checkpoint.save(path, found)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["last_model.pth"]


def test_the_shipped_checkpoint_tells_its_story():
    """It names its command, seed and epochs, and its weights make a network."""
    found = checkpoint.load(SHIPPED_CHECKPOINT)
    assert found.history.command == "arraysmith train -o runs/lenet5 --epochs 30 --seed 0"
    assert len(found.history.epochs) == 30
    assert found.history.best.val_accuracy > 0.985
    logits = float_network(found.spec, found.parameters)(torch.zeros(1, 1, 28, 28))
    assert logits.shape == (1, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0, needs to be positive"),
        ({"batch_size": -1}, "batch_size is -1, needs to be positive"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0, needs to be positive"),
        ({"momentum": 1.5}, "momentum is 1.5, needs 0 ≤ momentum < 1"),
    ],
)
def test_impossible_recipes(options, message):
    """A recipe is valid from birth."""
    with pytest.raises(InvalidNetworkError) as caught:
        training.Recipe(**options)
    assert str(caught.value) == message
