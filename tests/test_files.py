"""Outputs are written whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest

from arraysmith.errors import InputFileError, OutputError
from arraysmith.files import is_safe_name, read_text, write_text, writing_folder


def test_writes_and_makes_folders(tmp_path):
    """Missing folders are made and the file has ordinary rights."""
    path = tmp_path / "a" / "b.txt"
    write_text(path, "é\n")
    assert path.read_text(encoding="utf-8") == "é\n"
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_a_file_where_a_folder_is_due(tmp_path):
    """The message names the path and a way out."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError) as caught:
        write_text(tmp_path / "file" / "x.txt", "text")
    assert str(caught.value) == (
        f"{tmp_path / 'file' / 'x.txt'}: cannot be written (File exists); choose another "
        "folder, or free space and rights there"
    )
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    """A folder is replaced as a whole, or stays as it was."""
    folder = tmp_path / "weight"
    with writing_folder(folder) as new:
        (new / "old.txt").write_text("old")
    with pytest.raises(OutputError), writing_folder(folder) as new:
        (new / "missing" / "new.txt").write_text("new")
    assert [path.name for path in folder.iterdir()] == ["old.txt"]
    with writing_folder(folder) as new:
        (new / "new.txt").write_text("new")
    assert [path.name for path in folder.iterdir()] == ["new.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["weight"]


def test_not_text(tmp_path):
    """A binary file read as text says where it stops being text."""
    path = tmp_path / "x.csv"
    path.write_bytes(b"abc\xff")
    with pytest.raises(InputFileError, match="not a text file"):
        read_text(path)


@pytest.mark.parametrize("name", ["conv1", "a.b-c_d", "X" * 128])
def test_safe_names(name):
    """Plain names may become files."""
    assert is_safe_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "a b", "X" * 129]
)
def test_unsafe_names(name):
    """Nothing that leads elsewhere or hides may."""
    assert not is_safe_name(name)
