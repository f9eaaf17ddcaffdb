"""Mapping files: what is written is read, and what cannot be read says where and why."""

from __future__ import annotations

import json

import pytest

from arraysmith.errors import InputFileError, InvalidMappingError, OutputError
from arraysmith.formats.mappings import read_mappings, write_mappings
from arraysmith.hardware import Microarchitecture
from arraysmith.mapping import Mapping, Tile
from arraysmith.workload import Conv2d, Gemm, Workload

WORKLOAD = Workload(
    name="two",
    layers=(
        Conv2d(
            name="conv", ifmap_rows=8, ifmap_cols=8, filter_rows=3, filter_cols=3,
            in_channels=4, out_channels=6,
        ),
        Gemm(name="fc", M=1, N=10, K=16),
    ),
)  # fmt: skip
MAPPINGS = (
    Mapping(
        microarchitecture=Microarchitecture.WS_SERIAL,
        order="KMN",
        tile=Tile(rows=2, cols=6, out_channels=3, in_channels=2),
        blocked="M",
        tiles_per_block=3,
    ),
    Mapping(
        microarchitecture=Microarchitecture.OS_BUS,
        order="MNK",
        tile=Tile(rows=1, cols=1, out_channels=10, in_channels=16),
    ),
)


def written(folder):
    """A good file, and what is in it."""
    path = folder / "mappings.json"
    write_mappings(path, WORKLOAD, MAPPINGS)
    return path, json.loads(path.read_text())


def test_what_is_written_is_read(tmp_path):
    """Both ways, and a person can read it."""
    path, content = written(tmp_path)
    assert read_mappings(path, WORKLOAD) == MAPPINGS
    assert list(content) == ["format", "workload", "layers"]
    assert content["layers"][0] == {
        "name": "conv",
        "microarchitecture": "ws-serial",
        "order": "KMN",
        "tile": {"rows": 2, "cols": 6, "out_channels": 3, "in_channels": 2},
        "blocked": "M",
        "tiles_per_block": 3,
    }
    assert path.read_text().count("\n") > 20


def test_blocks_may_be_left_out(tmp_path):
    """A mapping without blocks need not say so."""
    path, content = written(tmp_path)
    del content["layers"][1]["blocked"], content["layers"][1]["tiles_per_block"]
    path.write_text(json.dumps(content))
    assert read_mappings(path, WORKLOAD) == MAPPINGS


def changed(key, value, layer=0):
    """A change of one entry of a layer; of its tile with a dotted key."""

    def change(content):
        place = content["layers"][layer]
        *outer, last = key.split(".")
        for name in outer:
            place = place[name]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return change


BAD = {
    "microarchitecture": (
        changed("microarchitecture", "ws"),
        (
            "layer 1 ('conv'): microarchitecture is 'ws'; give one of os-bus, os-shift, "
            "os-overlapped, ws-serial, ws-double-buffered, is-serial, is-double-buffered"
        ),
    ),
    "order": (
        changed("order", "MMK"),
        "layer 1 ('conv'): order is 'MMK'; give one of MNK, MKN, NMK, NKM, KMN, KNM",
    ),
    "blocked": (
        changed("blocked", "X"),
        "layer 1 ('conv'): blocked is 'X'; give one of null, M, N, K",
    ),
    "third-blocked": (
        changed("blocked", "N"),
        (
            "layer 1 ('conv'): blocked is 'N'; of the order KMN only the first two loops can be "
            "blocked"
        ),
    ),
    "half-blocked": (
        changed("tiles_per_block", 1),
        "layer 1 ('conv'): blocked is 'M' with 1 tiles a block; give both or neither",
    ),
    "missing": (
        changed("order", None, layer=1),
        (
            "layer 2 ('fc'): order is missing; give name, microarchitecture, order, tile, blocked, "
            "tiles_per_block"
        ),
    ),
    "unknown": (
        changed("tiles_per_blok", 3),
        "layer 1 ('conv'): unknown key 'tiles_per_blok'; did you mean 'tiles_per_block'?",
    ),
    "unknown-in-tile": (
        changed("tile.columns", 3),
        "layer 1 ('conv'): tile: unknown key 'columns'; did you mean 'cols'?",
    ),
    "tile-missing": (
        changed("tile.rows", None),
        "layer 1 ('conv'): tile rows is missing; give a whole number of at least 1",
    ),
    "tile-zero": (
        changed("tile.rows", 0),
        "layer 1 ('conv'): tile rows is 0; give a whole number of at least 1",
    ),
    "tile-true": (
        changed("tile.rows", value=True),
        "layer 1 ('conv'): tile rows is True; give a whole number of at least 1",
    ),
    "tile-list": (
        changed("tile", [1, 2]),
        "layer 1 ('conv'): tile is [1, 2]; give rows, cols, out_channels, in_channels",
    ),
    "other-layer": (
        changed("name", "conv9"),
        "layer 1 ('conv'): name is 'conv9'; give the layers of 'two' in its order",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_a_bad_entry_is_named(tmp_path, change, message):
    """File, layer, key, value and the way out."""
    path, content = written(tmp_path)
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputFileError) as caught:
        read_mappings(path, WORKLOAD)
    assert str(caught.value) == f"{path}, {message}"


WHOLE = {
    "empty": ("", "not a JSON file (Input data was truncated)"),
    "half": ('{"format": ', "not a JSON file (Input data was truncated)"),
    "list": (
        "[1]",
        (
            "format is missing, needs 'arraysmith-mappings-1'; `arraysmith map -o RUN` writes "
            "such a file"
        ),
    ),
    "other": (
        '{"format": "arraysmith-run-1"}',
        (
            "format is 'arraysmith-run-1', needs 'arraysmith-mappings-1'; `arraysmith map -o RUN` "
            "writes such a file"
        ),
    ),
    "no-layers": (
        '{"format": "arraysmith-mappings-1"}',
        "layers is missing; give a list of mappings",
    ),
    "few-layers": (
        '{"format": "arraysmith-mappings-1", "layers": []}',
        "0 layers where 'two' has 2; give one mapping for each, in its order",
    ),
    "unknown-top": (
        '{"format": "arraysmith-mappings-1", "layer": []}',
        "unknown key 'layer'; did you mean 'layers'?",
    ),
}


@pytest.mark.parametrize(("text", "message"), WHOLE.values(), ids=WHOLE)
def test_what_is_no_mapping_file_is_named(tmp_path, text, message):
    """The file, what it is, and what it should be."""
    path = tmp_path / "mappings.json"
    path.write_text(text)
    with pytest.raises(InputFileError) as caught:
        read_mappings(path, WORKLOAD)
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 200_000, b"null", b'{"format": NaN}'])
def test_hostile_files_are_refused(tmp_path, content):
    """Not text, nested without end, nothing."""
    path = tmp_path / "mappings.json"
    path.write_bytes(content)
    with pytest.raises(InputFileError, match=r"mappings\.json: "):
        read_mappings(path, WORKLOAD)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tile.rows", 7, "layer 'conv': a tile of 7 rows is larger than the layer's 6"),
        (
            "tiles_per_block",
            2,
            "layer 'conv': blocks of 2 tiles do not divide the 3 tiles of its rows",
        ),
    ],
)
def test_a_mapping_that_does_not_fit_is_named(tmp_path, key, value, message):
    """File and layer."""
    path, content = written(tmp_path)
    changed(key, value)(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidMappingError) as caught:
        read_mappings(path, WORKLOAD)
    assert str(caught.value) == f"{path}: {message}"


def test_nothing_half_written(tmp_path):
    """Without a mapping for each layer, or a place for the file, there is none."""
    path = tmp_path / "mappings.json"
    with pytest.raises(InvalidMappingError, match="1 mappings for the 2 layers of 'two'"):
        write_mappings(path, WORKLOAD, MAPPINGS[:1])
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OutputError):
        write_mappings(tmp_path / "taken" / "mappings.json", WORKLOAD, MAPPINGS)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["taken"]
