"""Samples from files and from Python: what is read, and what is refused before it is believed."""

import io
import zipfile

import numpy as np
import pytest
import torch

from arraysmith.errors import InputFileError
from arraysmith.networks.graph import Input
from arraysmith.quantization import samples as module
from arraysmith.quantization.samples import Samples, read_samples, samples_from

X = (Input(name="x", shape=(2, 3)),)
TWO = (Input(name="x", shape=(2, 3)), Input(name="words", shape=(4,), rows=10))


def draw(*shape, seed=0):
    """Normal float32."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def words(*shape):
    """Row numbers of a table of ten."""
    return np.random.default_rng(1).integers(0, 10, shape)


def refusal(call, *arguments):
    """The message of an InputFileError."""
    with pytest.raises(InputFileError) as caught:
        call(*arguments)
    return str(caught.value)


# ---- files


def test_reads_a_file_of_a_batch_and_of_one_sample(tmp_path):
    """The number of axes tells them apart."""
    reals = draw(5, 2, 3)
    np.save(tmp_path / "many.npy", reals)
    np.save(tmp_path / "one.npy", reals[0])
    found = read_samples(tmp_path / "many.npy", X)
    assert len(found) == 5
    assert np.array_equal(found.arrays["x"], reals)
    assert np.array_equal(read_samples(tmp_path / "one.npy", X).arrays["x"], reals[:1])


def test_reads_a_folder_in_the_order_of_names(tmp_path):
    """Samples and batches may be mixed; other files and hidden ones do not count."""
    reals = draw(6, 2, 3)
    np.save(tmp_path / "b.npy", reals[1:4])
    np.save(tmp_path / "a.npy", reals[0])
    np.save(tmp_path / "c.npy", np.asfortranarray(reals[4:]))
    (tmp_path / "README.txt").write_text("none of it", encoding="utf-8")
    (tmp_path / ".hidden.npy").write_text("none of it", encoding="utf-8")
    assert np.array_equal(read_samples(tmp_path, X).arrays["x"], reals)


def test_reads_an_archive_by_name_or_the_only_array(tmp_path):
    """With one input the name does not matter."""
    reals, rows = draw(5, 2, 3), words(5, 4)
    np.savez(tmp_path / "two.npz", words=rows, x=reals)
    np.savez_compressed(tmp_path / "one.npz", images=reals)
    found = read_samples(tmp_path / "two.npz", TWO)
    assert np.array_equal(found.arrays["x"], reals)
    assert np.array_equal(found.arrays["words"], rows)
    assert found.arrays["words"].dtype == np.int64
    assert np.array_equal(read_samples(tmp_path / "one.npz", X).arrays["x"], reals)


def test_reads_several_inputs_from_folders_and_from_a_folder_of_archives(tmp_path):
    """A folder an input, or every file with all of them."""
    reals, rows = draw(4, 2, 3), words(4, 4)
    for name, array in (("x", reals), ("words", rows)):
        (tmp_path / "split" / name).mkdir(parents=True)
        for i, each in enumerate(array):
            np.save(tmp_path / "split" / name / f"{i}.npy", each)
    (tmp_path / "whole").mkdir()
    for i in range(2):
        pair = slice(2 * i, 2 * i + 2)
        np.savez(tmp_path / "whole" / f"{i}.npz", x=reals[pair], words=rows[pair])
    for folder in ("split", "whole"):
        found = read_samples(tmp_path / folder, TWO)
        assert np.array_equal(found.arrays["x"], reals)
        assert np.array_equal(found.arrays["words"], rows)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float16, np.float64, ">f4"])
def test_numbers_of_any_type_become_float32(tmp_path, dtype):
    """Pixels may stay bytes on the disk, and byte order is no matter."""
    numbers = np.arange(12).reshape(2, 2, 3).astype(dtype)
    np.save(tmp_path / "x.npy", numbers)
    found = read_samples(tmp_path / "x.npy", X).arrays["x"]
    assert found.dtype == np.float32
    assert np.array_equal(found, np.arange(12).reshape(2, 2, 3))


# ---- refused files


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.ones((5, 3, 2)),
            "'x' has shape (5, 3, 2); the network takes (2, 3), or a batch as (n, 2, 3)",
        ),
        (np.ones(3), "'x' has shape (3,); the network takes (2, 3), or a batch as (n, 2, 3)"),
        (np.ones((2, 3), complex), "'x' is complex128, needs numbers (as float32)"),
        (np.full((2, 3), "a"), "'x' is <U1, needs numbers (as float32)"),
        (np.array([[0, 1, np.nan], [1, 2, 3]]), "'x' has NaN; give finite samples"),
        (np.array([[0, 1, np.inf], [1, 2, 3]]), "'x' has infinite values; give finite samples"),
        (np.array([[0, 1, 1e300], [1, 2, 3]]), "'x' has infinite values; give finite samples"),
        (np.ones((0, 2, 3)), "0 samples for 'x'; give at least one, as many for all"),
        (
            np.array([[1, None], [2, 3]]),
            "holds pickled Python objects, which are not loaded; save numbers",
        ),
    ],
)
def test_refuses_an_array(tmp_path, array, message):
    """Shape, type and values, with the file's name; nothing is unpickled."""
    path = tmp_path / "x.npy"
    np.save(path, array, allow_pickle=True)
    assert refusal(read_samples, path, X) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((1, 4), 10), "'words' has row numbers 10…10; its table has 0…9"),
        (np.array([0, 1, 2, -1]), "'words' has row numbers -1…2; its table has 0…9"),
        (np.ones((1, 4)), "'words' is float64, needs whole row numbers (as int64)"),
    ],
)
def test_refuses_row_numbers(tmp_path, array, message):
    """Whole numbers of rows that the table has."""
    path = tmp_path / "words.npy"
    np.save(path, array)
    assert refusal(read_samples, path, TWO[1:]) == f"{path}: {message}"


def test_refuses_files_that_are_none(tmp_path):
    """Cut off, empty, of another format, or not there."""
    path = tmp_path / "x.npy"
    np.save(path, draw(5, 2, 3))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert refusal(read_samples, path, X) == (
        f"{path}: cut off: 120 bytes of shape (5, 2, 3) are promised, 119 are there"
    )
    for content in (b"", whole[:20], b"PK\x03\x04", whole[:8] + b"\xff\xff" + whole[10:]):
        path.write_bytes(content)
        assert refusal(read_samples, path, X).startswith(f"{path}: not an .npy file (")
    archive = tmp_path / "x.npz"
    archive.write_bytes(b"no archive")
    assert refusal(read_samples, archive, X).startswith(f"{archive}: not an .npz file (")
    missing = tmp_path / "missing.npy"
    assert refusal(read_samples, missing, X) == (
        f"{missing}: cannot be read (No such file or directory)"
    )
    text = tmp_path / "x.txt"
    text.write_text("1 2 3", encoding="utf-8")
    assert refusal(read_samples, text, X) == (
        f"{text}: give an .npy or .npz file, or a folder of them"
    )


def test_a_header_that_promises_much_allocates_nothing(tmp_path):
    """Terabytes that are not there are refused by the numbers of the header."""
    buffer = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 2, 3)}
    np.lib.format.write_array_header_1_0(buffer, header)
    path = tmp_path / "x.npy"
    path.write_bytes(buffer.getvalue())
    message = "cut off: 24,000,000,000,000 bytes of shape (1000000000000, 2, 3) are promised, 0"
    assert refusal(read_samples, path, X) == f"{path}: {message} are there"
    archive = tmp_path / "x.npz"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x.npy", buffer.getvalue())
    assert refusal(read_samples, archive, X) == f"{archive} (x): {message} are there"


def test_refuses_too_much(tmp_path, monkeypatch):
    """A file, an archive that unpacks to more, many files: by size, before they are held."""
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    big = np.zeros((100, 2, 3), np.float32)
    np.save(tmp_path / "x.npy", big)
    assert refusal(read_samples, tmp_path / "x.npy", X) == (
        f"{tmp_path / 'x.npy'}: samples of 2,528 bytes, the most is 1,000; give fewer samples"
    )
    np.savez_compressed(tmp_path / "x.npz", x=big)
    assert (tmp_path / "x.npz").stat().st_size < 1000
    assert refusal(read_samples, tmp_path / "x.npz", X) == (
        f"{tmp_path / 'x.npz'}: samples of 2,528 bytes, the most is 1,000; give fewer samples"
    )
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(5):
        np.save(folder / f"{i}.npy", big[:12])
    assert refusal(read_samples, folder, X) == (
        f"{folder}: samples of 1,152 bytes, the most is 1,000; give fewer samples"
    )
    assert refusal(samples_from, big, X) == (
        "the samples: samples of 1,008 bytes, the most is 1,000; give fewer samples"
    )


def test_refuses_wrong_names_and_missing_inputs(tmp_path):
    """Names, known names, and what to give instead."""
    path = tmp_path / "two.npz"
    np.savez(path, x=draw(1, 2, 3), word=words(1, 4))
    assert refusal(read_samples, path, TWO) == f"{path}: no array 'words' among 'x', 'word'"
    np.savez(path, x=draw(1, 2, 3), words=words(1, 4), y=draw(1))
    assert refusal(read_samples, path, TWO) == (
        f"{path}: array 'y' is no input of the network; those are 'x', 'words'"
    )
    single = tmp_path / "x.npy"
    np.save(single, draw(1, 2, 3))
    assert refusal(read_samples, single, TWO) == (
        f"{single}: one array for the inputs 'x', 'words'; give an .npz of them"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    assert refusal(read_samples, empty, X) == f"{empty}: no .npy or .npz files"
    assert refusal(read_samples, empty, TWO) == (
        f"{empty / 'x'}: no .npy files for input 'x'; for several inputs give .npz files, or a "
        "folder for each"
    )
    np.savez(path, x=draw(3, 2, 3), words=words(2, 4))
    assert refusal(read_samples, path, TWO) == (
        f"{path}: 3, 2 samples for 'x', 'words'; give at least one, as many for all"
    )


# ---- Python objects


def test_takes_arrays_tensors_lists_mappings_and_loaders():
    """Samples or batches, for one input and for several; labels behind are left alone."""
    reals, rows = draw(6, 2, 3), words(6, 4)
    for iterable in (
        reals,
        list(reals),
        reals.tolist(),
        (torch.from_numpy(each) for each in reals),
        [torch.from_numpy(reals).requires_grad_()],
        [reals[:4], reals[4:]],
        [(reals[:4], np.zeros(4)), (reals[4:], np.zeros(2))],
        [{"x": each} for each in reals],
        {"x": reals},
    ):
        assert np.array_equal(samples_from(iterable, X).arrays["x"], reals)
    for iterable in (
        {"x": reals, "words": rows},
        list(zip(reals, rows, strict=True)),
        [[torch.from_numpy(reals), torch.from_numpy(rows)]],
    ):
        found = samples_from(iterable, TWO)
        assert np.array_equal(found.arrays["x"], reals)
        assert np.array_equal(found.arrays["words"], rows)


@pytest.mark.parametrize(
    ("iterable", "inputs", "message"),
    [
        ([], X, "the samples: no samples for input 'x'"),
        (
            [draw(2, 3), draw(3, 2)],
            X,
            "sample 1: 'x' has shape (3, 2); the network takes (2, 3), or a batch as (n, 2, 3)",
        ),
        ([{"y": 1}], X, "sample 0: nothing for input 'x' among 'y'"),
        ([(draw(2, 3),)], TWO, "sample 0: 1 arrays for 2 inputs"),
        ([draw(2, 3)], TWO, "sample 0: one array for 2 inputs; give a mapping by 'x', 'words'"),
        (["text"], X, "sample 0: 'x' is <U4, needs numbers (as float32)"),
    ],
)
def test_refuses_objects(iterable, inputs, message):
    """With the number of the sample."""
    assert refusal(samples_from, iterable, inputs) == message


# ---- the record


def test_batches_are_in_order_and_can_be_had_again():
    """Twice the same, the last one shorter."""
    found = samples_from(draw(7, 2, 3), X)
    for _ in range(2):
        batches = [batch["x"] for batch in found.batches(3)]
        assert [len(each) for each in batches] == [3, 3, 1]
        assert np.array_equal(np.concatenate(batches), found.arrays["x"])


def test_spread_takes_evenly_from_all():
    """Not the first ones, which a sorted data set has of one class."""
    found = samples_from(np.arange(10 * 6).reshape(10, 2, 3), X)
    assert found.spread(4).arrays["x"][:, 0, 0].tolist() == [0, 12, 30, 42]
    assert found.spread(10) is found


def test_samples_that_do_not_vary_calibrate_nothing():
    """All zeros say nothing of a range; one input that varies is enough."""
    found = samples_from(np.zeros((5, 2, 3)), X)
    assert refusal(found.check_variation) == (
        "every value of 'x' is 0; give samples that vary, as real data does"
    )
    samples_from({"x": np.zeros((3, 2, 3)), "words": words(3, 4)}, TWO).check_variation()


def test_a_record_is_valid_from_birth():
    """Shapes are those of the inputs."""
    with pytest.raises(InputFileError) as caught:
        Samples(inputs=X, arrays={"x": draw(2, 3, 2)})
    assert str(caught.value) == "'x' has samples of shape (3, 2); the network takes (2, 3)"
