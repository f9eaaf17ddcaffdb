"""SCALE-Sim's trace files, byte for byte: digests of real runs, and real runs where there is one.

Fresh random layers are run through the real package only where the environment variable
ARRAYSMITH_SCALESIM_PYTHON names an interpreter that has scalesim 3.0.0 and numpy < 2.4;
ARRAYSMITH_SCALESIM_SEED repeats a run.
"""

from __future__ import annotations

import builtins
import hashlib
import json
import os
import random
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from arraysmith.errors import InvalidWorkloadError, MissingExtraError, OutputError
from arraysmith.hardware import Accelerator, Dataflow, StreamBandwidths
from arraysmith.simulation.scalesim import recording, transfers
from arraysmith.simulation.scalesim.model import simulate
from arraysmith.simulation.scalesim.traces import Offsets, print_rows, write_traces
from arraysmith.workload import Conv2d, Gemm, Workload

GOLDEN = json.loads((Path(__file__).parent / "data" / "scalesim_traces.json").read_text("utf-8"))
NAMES = [f"{stream}_{at}" for at in ("SRAM", "DRAM") for stream in ("IFMAP", "FILTER", "OFMAP")]
CONV = (
    "ifmap_rows",
    "ifmap_cols",
    "filter_rows",
    "filter_cols",
    "in_channels",
    "out_channels",
    "stride",
)
FRESH_LAYERS = 12
CONFIG = """[general]
run_name = run
[architecture_presets]
ArrayHeight: {rows}
ArrayWidth: {cols}
IfmapSramSzkB: {buffers[0]}
FilterSramSzkB: {buffers[1]}
OfmapSramSzkB: {buffers[2]}
IfmapOffset: {offsets[0]}
FilterOffset: {offsets[1]}
OfmapOffset: {offsets[2]}
Bandwidth: {bandwidths[2]}
Dataflow: {dataflow}
ReadRequestBuffer: 32
WriteRequestBuffer: 32
[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: {bandwidths[0]}
IfmapSRAMBankNum: 1
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: {bandwidths[1]}
FilterSRAMBankNum: 1
FilterSRAMBankPort: 2
[sparsity]
SparsitySupport: false
[run_presets]
InterfaceBandwidth: {mode}
UseRamulatorTrace: False
"""


def parts(case):
    """A stored case as what `write_traces` takes."""
    kind, *sizes = case["layer"]
    if kind == "gemm":
        layer = Gemm(name="layer", **dict(zip("MNK", sizes, strict=True)))
    else:
        layer = Conv2d(name="layer", **dict(zip(CONV, sizes, strict=True)))
    ifmap, filter_, ofmap = case["buffers"]
    accelerator = Accelerator(
        rows=case["rows"],
        cols=case["cols"],
        dataflow=Dataflow(case["dataflow"]),
        ifmap_buffer_kib=ifmap,
        filter_buffer_kib=filter_,
        ofmap_buffer_kib=ofmap,
    )
    rates = dict(zip(StreamBandwidths.__slots__, case["bandwidths"], strict=True))
    offsets = dict(zip(Offsets.__slots__, case["offsets"], strict=True))
    bandwidths = StreamBandwidths(**rates) if case["user"] else None
    return layer, accelerator, bandwidths, Offsets(**offsets)


def gemm(*sizes, rows=4, cols=3, user=False, buffers=(1, 1, 1), dataflow="ws"):
    """A case of a matrix product."""
    return {
        "layer": ["gemm", *sizes],
        "rows": rows,
        "cols": cols,
        "dataflow": dataflow,
        "buffers": buffers,
        "user": user,
        "bandwidths": (3, 5, 7),
        "offsets": (1, 1000, 2000),
    }


def read(path):
    """The numbers of a CSV trace."""
    return np.loadtxt(path, delimiter=",", ndmin=2).astype(np.int64)


def name(case):
    """A case in the list of tests."""
    kind = f"{case['layer'][0]}-{'x'.join(map(str, case['layer'][1:]))}"
    mode = "user" if case["user"] else "calc"
    return f"{kind}-{case['dataflow']}-{case['rows']}x{case['cols']}-{mode}"


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=name)
def test_traces_equal_those_of_real_runs(case, tmp_path):
    """All six files of a layer have the digests of what SCALE-Sim wrote."""
    paths = write_traces(*parts(case), tmp_path / "layer0")
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert found == {f"{stream}_TRACE.csv": case["digests"][stream] for stream in NAMES}
    assert sorted(path.name for path in (tmp_path / "layer0").iterdir()) == sorted(found)


@pytest.mark.parametrize("user", [True, False])
@pytest.mark.parametrize("dataflow", ["os", "ws", "is"])
def test_traces_do_not_depend_on_the_size_of_blocks(dataflow, user, tmp_path, monkeypatch):
    """Blocks of a few rows give the same bytes as large ones."""
    case = gemm(20, 30, 40, user=user, dataflow=dataflow)
    large = [path.read_bytes() for path in write_traces(*parts(case), tmp_path / "large")]
    for module in (recording, transfers):
        monkeypatch.setattr(module, "CELLS", 50)
    small = [path.read_bytes() for path in write_traces(*parts(case), tmp_path / "small")]
    assert small == large


def test_traces_tell_what_the_reports_tell(tmp_path):
    """Cycles and words of a stalling layer's traces are those of its metrics."""
    layer, accelerator, bandwidths, offsets = parts(gemm(20, 30, 40, user=True))
    paths = write_traces(layer, accelerator, bandwidths, offsets, tmp_path / "layer0")
    found = simulate(Workload(name="w", layers=(layer,)), accelerator, bandwidths).layers[0]
    assert found.stall_cycles > 0
    for path, stream in zip(paths[:3], (found.ifmap, found.filter, found.ofmap), strict=True):
        rows = read(path)
        asked = rows[(rows[:, 1:] >= 0).any(axis=1), 0]
        assert (asked[0], asked[-1]) == (stream.sram_start_cycle, stream.sram_stop_cycle)
    for path, stream in zip(paths[3:], (found.ifmap, found.filter, found.ofmap), strict=True):
        rows = read(path)
        assert rows[:, 0].min() == stream.dram_start_cycle
        assert rows[:, 0].max() == stream.dram_stop_cycle
    written = read(paths[5])[:, 1:]
    assert np.count_nonzero(written >= 0) == found.ofmap.sram_words


def test_memory_does_not_grow_with_the_layer(tmp_path):
    """Eight times the lines take the same few megabytes."""
    peaks, sizes = [], []
    for count in (100, 100, 800):  # the first compiles
        case = parts(gemm(200, count, 180, rows=16, cols=16, buffers=(2, 2, 2)))
        tracemalloc.start()
        try:
            paths = write_traces(*case, tmp_path / "layer0")
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        sizes.append(sum(path.stat().st_size for path in paths))
    assert sizes[2] > 7 * sizes[1] > 50e6
    assert peaks[2] < peaks[1] + 4e6 < 24e6


def test_parquet_holds_the_same_numbers(tmp_path):
    """Each Parquet trace reads back as the CSV trace, with named columns."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    case = parts(gemm(20, 30, 40, user=True))
    texts = write_traces(*case, tmp_path / "csv")
    tables = write_traces(*case, tmp_path / "parquet", parquet=True)
    assert [path.suffix for path in tables] == [".parquet"] * 6
    for text, table in zip(texts, tables, strict=True):
        found = parquet.read_table(table)
        column = "lane" if "SRAM" in table.name else "word"
        assert found.column_names[:2] == ["cycle", f"{column}_0"]
        numbers = np.stack([found[column].to_numpy() for column in found.column_names], axis=1)
        np.testing.assert_array_equal(numbers, read(text))


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    """The message names the extra, and nothing is written."""
    real = builtins.__import__

    def without(module, *rest, **named):
        if module.split(".")[0] == "pyarrow":
            raise ModuleNotFoundError(module)
        return real(module, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError) as caught:
        write_traces(*parts(gemm(5, 5, 5)), tmp_path / "layer0", parquet=True)
    assert str(caught.value) == (
        "Parquet traces need pyarrow: pip install 'arraysmith[parquet]', or write CSV"
    )
    assert not (tmp_path / "layer0").exists()


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (gemm(1, 1, 1, rows=1, cols=1, dataflow="os"), "takes a single cycle"),
        (gemm(2, 1200, 1, rows=1, cols=1200), "divides by that time of zero"),
        (gemm(2, 1000, 1, rows=1, cols=1000), "divides by that time of zero"),
    ],
    ids=["one cycle", "empty interval", "empty interval at the end"],
)
def test_what_scalesim_cannot_trace_is_refused(case, message, tmp_path):
    """Where SCALE-Sim divides by zero (seen in real runs) no file is left behind."""
    with pytest.raises(InvalidWorkloadError, match=message):
        write_traces(*parts(case), tmp_path / "layer0")
    assert not list(tmp_path.glob("layer0/*"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    """A file where the folder should be."""
    (tmp_path / "layer0").write_text("in the way")
    with pytest.raises(OutputError, match="layer0"):
        write_traces(*parts(gemm(5, 5, 5)), tmp_path / "layer0")


@pytest.mark.parametrize("value", [-1, 0.5, 10**13])
def test_offsets_are_exact_addresses(value):
    """Negative, broken or so large that a float would be printed with an exponent."""
    with pytest.raises(InvalidWorkloadError, match=f"filter offset is {value}"):
        Offsets(filter=value)


def test_rows_are_printed_as_numpy_prints():
    """Signs, zeros, many digits; integers and floats."""
    numbers = np.array([[0, -1, 9], [10, -3277, 99999], [10**13, 123456789012, -10]])
    text = np.zeros(300, np.uint8)
    for decimal, kind in ((False, int), (True, float)):
        used = print_rows(numbers, decimal, text)
        expected = "".join(",".join(str(kind(cell)) for cell in row) + "\n" for row in numbers)
        assert text[:used].tobytes().decode() == expected


def test_fresh_layers_equal_the_real_package(tmp_path):
    """Random layers, both modes, all dataflows, through the real SCALE-Sim."""
    python = os.environ.get("ARRAYSMITH_SCALESIM_PYTHON")
    if not python:
        pytest.skip("ARRAYSMITH_SCALESIM_PYTHON names no interpreter with scalesim 3.0.0")
    seed = int(os.environ.get("ARRAYSMITH_SCALESIM_SEED") or random.SystemRandom().randrange(10**9))
    print(f"ARRAYSMITH_SCALESIM_SEED={seed}")  # noqa: T201
    rng = random.Random(seed)  # noqa: S311 (layers to test, not secrets)
    for number in range(FRESH_LAYERS):
        case = fresh(rng, ("os", "ws", "is")[number % 3], user=number % 2 == 0)
        real = run_real(python, case, tmp_path / str(number))
        for path in write_traces(*parts(case), tmp_path / str(number) / "layer0"):
            assert path.read_bytes() == (real / path.name).read_bytes(), (case, path.name)


def fresh(rng, dataflow, *, user):
    """A small layer on a small array with buffers that do not hold it."""
    rows, cols = rng.randint(1, 16), rng.randint(2, 16)
    case = gemm(*(rng.randint(4, 40) for _ in "MNK"), rows=rows, cols=cols, user=user)
    if rng.random() < 0.5:
        height, width = rng.randint(1, 4), rng.randint(1, 4)
        ifmap = (height + rng.randint(1, 9), width + rng.randint(1, 9), height, width)
        case["layer"] = ["conv", *ifmap, rng.randint(1, 12), rng.randint(1, 20), rng.randint(1, 3)]
    case["buffers"] = [rng.randint(1, 3) for _ in range(3)]
    case["bandwidths"] = [rng.choice((1, 3, 10, 64, 200)) for _ in range(3)]
    case["offsets"] = [rng.randint(0, 10**9) for _ in range(3)]
    return {**case, "dataflow": dataflow}


def run_real(python, case, folder):
    """The folder with the traces that SCALE-Sim writes for a case."""
    folder.mkdir()
    kind, *sizes = case["layer"]
    config = CONFIG.format(**case, mode="USER" if case["user"] else "CALC")
    (folder / "run.cfg").write_text(config)
    (folder / "layer.csv").write_text("header,\nlayer," + ",".join(map(str, sizes)) + ",\n")
    (folder / "layout.csv").write_text("header,\n")
    files = ["-t", "layer.csv", "-l", "layout.csv", "-c", "run.cfg", "-p", "out", "-i", kind]
    subprocess.run(
        [python, "-m", "scalesim.scale", *files],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=300,
    )
    return folder / "out" / "run" / "layer0"
