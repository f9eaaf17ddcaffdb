"""SCALE-Sim's topology files, and the nouns that they become."""

from __future__ import annotations

import dataclasses

import pytest

from arraysmith.errors import InputFileError, InvalidHardwareError, InvalidWorkloadError
from arraysmith.formats.topology import read_topology, topology_text
from arraysmith.hardware import Accelerator, Dataflow
from arraysmith.workload import Conv2d, Gemm, Workload

CONV_HEADER = "Layer name, IFMAP Height, IFMAP Width, Filter Height, ...,\n"
CONV = Conv2d(
    name="conv1",
    ifmap_rows=32,
    ifmap_cols=30,
    filter_rows=5,
    filter_cols=3,
    in_channels=2,
    out_channels=6,
    stride=2,
)
CONV_ROW = "conv1, 32, 30, 5, 3, 2, 6, 2,\n"


@pytest.fixture
def topology(tmp_path):
    """Write a topology file; returns its path."""

    def write(text):
        path = tmp_path / "network.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


# Topologies.


@pytest.mark.parametrize(
    "text",
    [
        CONV_HEADER + CONV_ROW,
        CONV_HEADER + CONV_ROW.rstrip(",\n"),
        CONV_HEADER + "\n  \n" + CONV_ROW + "\n,,,\n",
        "\ufeff" + CONV_HEADER + CONV_ROW,
        (CONV_HEADER + CONV_ROW).replace("\n", "\r\n"),
        CONV_HEADER + "conv1,32,30,5,3,2,6,2,1:1,\n",
        CONV_HEADER + "conv1\t,\t32 ,30,5,3,2,6,2,,\n",
    ],
    ids=["plain", "no-comma", "blank-lines", "bom", "crlf", "dense", "spaces"],
)
def test_conv_topology(topology, text):
    """One layer a row; trailing commas, blank lines, a BOM and 1:1 sparsity change nothing."""
    assert read_topology(topology(text)) == Workload(name="network", layers=(CONV,))


def test_gemm_topology(topology):
    """Name, M, N, K, with and without the trailing comma."""
    path = topology("Layer, M, N, K,\nfc1, 1, 84, 120,\nfc2, 1, 10, 84\nfc3, 2, 3, 4, 1:1,\n")
    assert read_topology(path, "gemm").layers == (
        Gemm(name="fc1", M=1, N=84, K=120),
        Gemm(name="fc2", M=1, N=10, K=84),
        Gemm(name="fc3", M=2, N=3, K=4),
    )


def test_the_first_line_is_a_header_whatever_it_says(topology):
    """As in SCALE-Sim, which never looks at it."""
    assert len(read_topology(topology(CONV_ROW + CONV_ROW)).layers) == 1


def test_depthwise_rows_become_a_layer_for_each_channel(topology):
    """A row with DP in its name, as SCALE-Sim splits it."""
    layers = read_topology(topology(CONV_HEADER + "DP_conv, 8, 8, 3, 3, 3, 1, 1,\n")).layers
    assert [layer.name for layer in layers] == [f"DP_conv_channel{i}" for i in range(3)]
    assert {(layer.in_channels, layer.out_channels) for layer in layers} == {(1, 1)}
    assert sum(layer.macs for layer in layers) == 3 * 36 * 9


CONV_FIELDS = "ifmap_rows, ifmap_cols, filter_rows, filter_cols, in_channels, out_channels, stride"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "c, 8, 8, 3, 3, 1, 4",
            f"line 2, layer 'c': 6 numbers after the name, a conv row has 7 ({CONV_FIELDS})",
        ),
        (
            "c, 8, 8, 3, 3, 1, 4, 1, 1,",
            f"line 2, layer 'c': 8 numbers after the name, a conv row has 7 ({CONV_FIELDS})",
        ),
        ("c", f"line 2, layer 'c': 0 numbers after the name, a conv row has 7 ({CONV_FIELDS})"),
        (
            "fc, 1, 10, 84,",
            (
                f"line 2, layer 'fc': 3 numbers after the name, a conv row has 7 ({CONV_FIELDS}); "
                "is it a gemm file? (-i gemm)"
            ),
        ),
        (
            "\nc, 8, eight, 3, 3, 1, 4, 1,",
            "line 3, layer 'c': ifmap_cols is 'eight', not a whole number",
        ),
        (
            "c, 8, 8, 3, 3, 1, 4, 1.5,",
            "line 2, layer 'c': stride is '1.5', not a whole number",
        ),
        ("c, 8, , 3, 3, 1, 4, 1,", "line 2, layer 'c': ifmap_cols is '', not a whole number"),
        ("c, 8, 8, 3, 3, 0, 4, 1,", "line 2: layer 'c': in_channels is 0, needs at least 1"),
        ("c, 8, 8, 3, 3, 1, 4, -2,", "line 2: layer 'c': stride is -2, needs at least 1"),
        (
            "c, 8, 8, 9, 3, 1, 4, 1,",
            (
                "line 2: layer 'c': a filter of 9 rows is larger than its ifmap of 8; "
                "give the padded ifmap size"
            ),
        ),
        (
            "c, 8, 8, 3, 9, 1, 4, 1,",
            (
                "line 2: layer 'c': a filter of 9 columns is larger than its ifmap of 8; "
                "give the padded ifmap size"
            ),
        ),
        (
            "c, 8, 8, 3, 3, 1, 4, 1, 2:4,",
            "line 2, layer 'c': sparsity '2:4' is not supported; leave the column out",
        ),
    ],
)
def test_bad_conv_rows_are_named(topology, row, message):
    """File, line, layer and value, in one message."""
    path = topology(CONV_HEADER + row + "\n")
    with pytest.raises(InputFileError) as caught:
        read_topology(path)
    assert str(caught.value) == f"{path}, {message}"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("fc, 1, 10,", "line 2, layer 'fc': 2 numbers after the name, a gemm row has 3 (M, N, K)"),
        (
            CONV_ROW,
            (
                "line 2, layer 'conv1': 7 numbers after the name, a gemm row has 3 (M, N, K); "
                "is it a conv file? (-i conv)"
            ),
        ),
        ("fc, 1, 0, 84,", "line 2: layer 'fc': N is 0, needs at least 1"),
        ("fc, 1, 10, 1e3,", "line 2, layer 'fc': K is '1e3', not a whole number"),
    ],
)
def test_bad_gemm_rows_are_named(topology, row, message):
    """The same for M, N, K."""
    path = topology("Layer, M, N, K,\n" + row + "\n")
    with pytest.raises(InputFileError) as caught:
        read_topology(path, "gemm")
    assert str(caught.value) == f"{path}, {message}"


@pytest.mark.parametrize("text", ["", "\n", CONV_HEADER, CONV_HEADER + "\n,,\n"])
def test_a_topology_without_layers(topology, text):
    """A file that is empty, or has only its header."""
    path = topology(text)
    with pytest.raises(InputFileError) as caught:
        read_topology(path)
    assert str(caught.value) == f"{path}: no layers below the header line"


def test_a_topology_that_is_no_text(topology):
    """A picture is not a topology."""
    path = topology(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InputFileError) as caught:
        read_topology(path)
    assert str(caught.value) == f"{path}: not a text file (byte 0 is not UTF-8)"


def test_a_topology_that_is_no_csv(topology):
    """A cell longer than any cell may be."""
    path = topology(CONV_HEADER + "x" * 200_000 + "\n")
    with pytest.raises(InputFileError) as caught:
        read_topology(path)
    assert str(caught.value) == (f"{path}: not a CSV file (field larger than field limit (131072))")


def test_a_topology_that_is_not_there(tmp_path):
    """The file and the reason."""
    path = tmp_path / "nothing.csv"
    with pytest.raises(InputFileError) as caught:
        read_topology(path)
    assert str(caught.value) == f"{path}: cannot be read (No such file or directory)"


def test_written_topologies_read_back(topology):
    """Padding becomes part of the ifmap, a Gemm a 1×1 convolution; the text itself is stable."""
    padded = Conv2d(
        name='a, "b"',
        ifmap_rows=6,
        ifmap_cols=7,
        filter_rows=3,
        filter_cols=3,
        in_channels=2,
        out_channels=4,
        padding=1,
    )
    gemm = Gemm(name="fc", M=3, N=10, K=84)
    text = topology_text(Workload(name="mixed", layers=(CONV, padded, gemm)))
    assert text == (
        "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, "
        "Num Filter, Strides,\n"
        "conv1, 32, 30, 5, 3, 2, 6, 2,\n"
        "a_ _b_, 8, 9, 3, 3, 2, 4, 1,\n"
        "fc, 3, 1, 1, 1, 84, 10, 1,\n"
    )
    back = read_topology(topology(text))
    assert back.layers[0] == CONV
    assert back.layers[1].gemm.macs == padded.macs
    assert back.layers[2].gemm == gemm
    assert topology_text(back) == text


# Nouns.


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Gemm(name="g", M=0, N=1, K=1), "layer 'g': M is 0, needs at least 1"),
        (lambda: Gemm(name="g", M=1, N=1, K=-3), "layer 'g': K is -3, needs at least 1"),
        (
            lambda: Conv2d(
                name="c",
                ifmap_rows=4,
                ifmap_cols=4,
                filter_rows=3,
                filter_cols=3,
                in_channels=1,
                out_channels=1,
                padding=-1,
            ),
            "layer 'c': padding is -1, needs at least 0",
        ),
        (lambda: Workload(name="w", layers=()), "workload 'w' has no layers"),
    ],
)
def test_impossible_workloads(build, message):
    """No layer without work, no workload without layers."""
    with pytest.raises(InvalidWorkloadError) as caught:
        build()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, "an array of 0×4 PEs cannot be; give at least 1×1"),
        ({"cols": -1}, "an array of 8×-1 PEs cannot be; give at least 1×1"),
        ({"ofmap_buffer_kib": 0}, "ofmap_buffer_kib is 0, needs at least 1"),
        (
            {"dram_words_per_cycle": 0.0},
            "a DRAM bandwidth of 0.0 words a cycle cannot be; give a positive number",
        ),
        (
            {"dram_words_per_cycle": float("nan")},
            "a DRAM bandwidth of nan words a cycle cannot be; give a positive number",
        ),
    ],
)
def test_impossible_accelerators(change, message):
    """No array without PEs, no buffer without words, no channel without bandwidth."""
    good = {"rows": 8, "cols": 4, "dataflow": Dataflow.OS}
    with pytest.raises(InvalidHardwareError) as caught:
        Accelerator(**(good | change))
    assert str(caught.value) == message


def test_what_the_nouns_derive():
    """Floor windows, im2col and its MACs; PEs, and an array as people write it."""
    assert CONV.gemm == Gemm(name="conv1", M=14 * 14, N=6, K=5 * 3 * 2)
    assert CONV.macs == 14 * 14 * 6 * 30
    assert Workload(name="two", layers=(CONV, CONV)).macs == 2 * CONV.macs
    accelerator = Accelerator(rows=8, cols=4, dataflow=Dataflow.WS)
    assert (accelerator.pes, str(accelerator)) == (32, "8×4 WS")


def test_values_of_another_kind_are_refused():
    """Halves of rows, a dataflow as text and sizes that would wrap are named."""
    with pytest.raises(InvalidWorkloadError, match=r"layer 'g': M is 2\.5, not a whole number"):
        Gemm(name="g", M=2.5, N=1, K=1)
    with pytest.raises(InvalidWorkloadError, match="K is 9,663,676,416, more than 2,147,483,647"):
        Conv2d(
            name="c", ifmap_rows=3, ifmap_cols=3, filter_rows=3, filter_cols=3,
            in_channels=2**30, out_channels=1,
        )  # fmt: skip
    with pytest.raises(InvalidHardwareError, match=r"rows is 2\.5, not a whole number"):
        Accelerator(rows=2.5, cols=1, dataflow=Dataflow.OS)
    with pytest.raises(InvalidHardwareError, match=r"dataflow is 'ws'; give one of Dataflow\.OS"):
        Accelerator(rows=2, cols=1, dataflow="ws")


@pytest.mark.parametrize("name", ["a b", "a,b", 'a"b', "conv_DP_1", "a×b"])
def test_any_name_reads_back_as_one_layer(tmp_path, name):
    """Separators and the mark of depthwise layers in a name do not change the layers."""
    layer = Conv2d(
        name=name, ifmap_rows=8, ifmap_cols=8, filter_rows=3, filter_cols=3, in_channels=4,
        out_channels=2,
    )  # fmt: skip
    path = tmp_path / "layers.csv"
    path.write_text(topology_text(Workload(name="w", layers=(layer,))), encoding="utf-8")
    (read,) = read_topology(path).layers
    assert dataclasses.replace(read, name=name) == layer
