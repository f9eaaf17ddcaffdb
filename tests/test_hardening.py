"""Hostile files, odd terminals and two processes at once: one line, or the right result."""

from __future__ import annotations

import subprocess
import sys
from multiprocessing import get_context

import msgspec
import numpy as np
import pytest
import torch
from support import explored

import arraysmith
from arraysmith.errors import InputFileError, InvalidHardwareError, InvalidWorkloadError
from arraysmith.formats.idx import read_idx
from arraysmith.formats.topology import read_topology
from arraysmith.hardware import Accelerator, Dataflow
from arraysmith.learning import checkpoint
from arraysmith.simulation.scalesim.closed_form import simulate_layer
from arraysmith.store import RunFolder
from arraysmith.workload import Conv2d, Gemm

HEADER = "name, H, W, FH, FW, C, N, S,\n"


def record_many(folder, name):
    """Record fifty sections, as a process of its own."""
    for number in range(50):
        RunFolder(folder).record(f"{name}{number}", number, "test")


def test_two_processes_lose_nothing(tmp_path):
    """Both record into one run folder at once; every section of both is there."""
    context = get_context("spawn")
    workers = [context.Process(target=record_many, args=(tmp_path, name)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sections = msgspec.json.decode((tmp_path / "metrics.json").read_bytes())
    assert {f"{name}{number}" for name in "ab" for number in range(50)} <= set(sections)


@pytest.fixture
def topology(tmp_path):
    """One small layer."""
    path = tmp_path / "one.csv"
    path.write_text(HEADER + "conv, 8, 8, 3, 3, 2, 4, 1,\n")
    return path


def test_a_terminal_without_unicode(command, topology):
    """Tables come out with question marks rather than not at all."""
    finished = command("simulate", "-t", topology, PYTHONIOENCODING="ascii")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "16?16 OS" in finished.stdout


def test_standard_output_that_cannot_be_written(topology):
    """A full or closed standard output is one line and exit 1."""
    run = [sys.executable, "-m", "arraysmith", "simulate", "-t", str(topology)]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        finished = subprocess.run(run, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert finished.returncode == 1
    assert finished.stderr == (
        "arraysmith: standard output cannot be written (No space left on device)\n"
    )


def test_bandwidth_is_marked_in_a_simulation(command, topology):
    """What a layer asks beyond --bandwidth says so; nothing is parsed and ignored."""
    shown = command("simulate", "-t", topology, "--bandwidth", "0.25").stdout
    assert "> 0.25 given" in shown


DAMAGE = {
    "flipped": lambda path: path.write_bytes(path.read_bytes()[:200] + b"\x55" * 64),
    "no-archive": lambda path: np.save(path.open("wb"), np.zeros(3)),
    "column-missing": lambda path: np.savez(path.open("wb"), rows=np.zeros(3, np.int32)),
    "unequal": lambda path: np.savez(
        path.open("wb"),
        rows=np.zeros(3, np.int32),
        cols=np.zeros(2, np.int32),
        dataflow=np.array(["os"] * 3),
        total_cycles=np.zeros(3, np.int64),
        utilization=np.zeros(3),
    ),
    "strings": lambda path: np.savez(
        path.open("wb"),
        rows=np.zeros(1, np.int32),
        cols=np.zeros(1, np.int32),
        dataflow=np.array(["os"]),
        total_cycles=np.array(["many"]),
        utilization=np.zeros(1),
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_designs_are_named(tmp_path, damage):
    """Whatever happened to designs.npz, the file is named and the way out given."""
    explored(output=tmp_path)
    path = tmp_path / "designs.npz"
    damage(path)
    with pytest.raises(InputFileError, match=r"designs\.npz: .*run `arraysmith explore` again"):
        arraysmith.report(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"pes": 16', '"pes": 0'),
        ('"seconds": ', '"seconds": -'),
        ('"layers": 1', '"layers": "one"'),
    ],
)
def test_impossible_facts_are_named(tmp_path, old, new):
    """Facts that cannot be are refused where they are read, not where they are drawn."""
    explored(output=tmp_path)
    path = tmp_path / "metrics.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputFileError, match="is damaged"):
        arraysmith.report(tmp_path)


def test_deeply_nested_json_is_refused(tmp_path):
    """Two hundred thousand brackets are a damaged file, not a crash."""
    (tmp_path / "metrics.json").write_text("[" * 200_000)
    with pytest.raises(InputFileError, match=r"metrics\.json: damaged"):
        arraysmith.report(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "DPx, 1, 1, 1, 1, 2000000000, 1, 1,",
            "a depthwise layer of 2,000,000,000 channels becomes more than 100,000 layers",
        ),
        ("a, 2147483648, 1, 1, 1, 1, 1, 1,", "ifmap_rows is 2,147,483,648, more than"),
        ("a\x1b[31m, 8, 8, 3, 3, 1, 1, 1,", "holds characters that cannot be shown"),
    ],
)
def test_rows_that_would_take_all_memory(tmp_path, row, message):
    """A row of ten numbers cannot make billions of layers or write to the terminal."""
    path = tmp_path / "bomb.csv"
    path.write_text(HEADER + row)
    with pytest.raises(InputFileError) as caught:
        read_topology(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "cols", "filter_size", "stride"), [(2_000_000_000, 1, 1, 2), (46_001, 46_001, 3, 4)]
)
def test_large_layers_are_answered_at_once(rows, cols, filter_size, stride):
    """Overhanging windows of huge layers are found without walking through all of them."""
    layer = Conv2d(
        name="huge",
        ifmap_rows=rows,
        ifmap_cols=cols,
        filter_rows=filter_size,
        filter_cols=min(filter_size, cols),
        in_channels=1,
        out_channels=1,
        stride=stride,
    )
    for dataflow in Dataflow:
        accelerator = Accelerator(rows=64, cols=64, dataflow=dataflow)
        assert simulate_layer(layer, accelerator).total_cycles > 0


def test_sides_are_bounded():
    """An array of 10^20 rows is refused by name instead of overflowing."""
    with pytest.raises(InvalidHardwareError, match="a side has at most 65,536"):
        Accelerator(rows=10**20, cols=1, dataflow=Dataflow.OS)
    with pytest.raises(InvalidWorkloadError, match="more than 2,147,483,647"):
        Gemm(name="g", M=2**40, N=1, K=1)


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    """Only as much is unpacked as the file should hold."""
    import gzip

    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 4]) + bytes(200_000_000)))
    with pytest.raises(InputFileError, match="13 bytes where 12 are due"):
        read_idx(path, shape=(4,), content_sha256="0" * 64)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(84, dtype=torch.float8_e4m3fn),
        torch.zeros(84).to_sparse(),
        torch.zeros(84, device="meta"),
        torch.zeros(84, dtype=torch.complex64),
    ],
    ids=["float8", "sparse", "meta", "complex"],
)
def test_odd_tensors_are_refused(tmp_path, tensor):
    """Anything but dense floats with values is named."""
    from dataclasses import replace

    from arraysmith.flow.learning import SHIPPED_CHECKPOINT

    good = checkpoint.load(SHIPPED_CHECKPOINT)
    path = tmp_path / "odd.pth"
    parameters = {**good.parameters, "fc1.bias": tensor}
    torch.save(
        {
            "format": checkpoint.FORMAT,
            "network": "lenet5",
            "activation": "relu",
            "history": msgspec.json.encode(replace(good.history)).decode(),
            "parameters": parameters,
            "state": {},
        },
        path,
    )
    with pytest.raises(InputFileError) as caught:
        checkpoint.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.mnist
def test_evaluation_is_against_the_quantized_network(mnist, tmp_path):
    """The float network is the one that was quantized, wherever its file has gone since."""
    from dataclasses import replace

    from arraysmith.flow.learning import SHIPPED_CHECKPOINT

    del mnist
    good = checkpoint.load(SHIPPED_CHECKPOINT)
    other = {name: tensor * 0.9 for name, tensor in good.parameters.items()}
    path = tmp_path / "other.safetensors"
    checkpoint.save(path, replace(good, parameters=other))
    run = tmp_path / "run"
    arraysmith.quantize(run, path, calibration_images=100)
    path.unlink()
    assert arraysmith.evaluate(run, verify=False).comparison.changed < 200
    RunFolder(run).float_model.unlink()
    with pytest.raises(InputFileError, match=r"float_model\.safetensors: .*quantize"):
        arraysmith.evaluate(run, verify=False)


@pytest.mark.mnist
def test_a_dead_network_can_be_reported(mnist, tmp_path):
    """All-zero parameters lose nothing in int8; their infinite SQNR is shown as exact."""
    from dataclasses import replace

    from arraysmith.flow.learning import SHIPPED_CHECKPOINT

    del mnist
    good = checkpoint.load(SHIPPED_CHECKPOINT)
    dead = {name: torch.zeros_like(tensor) for name, tensor in good.parameters.items()}
    checkpoint.save(tmp_path / "dead.safetensors", replace(good, parameters=dead))
    arraysmith.quantize(tmp_path / "run", tmp_path / "dead.safetensors", calibration_images=100)
    assert "exact" in arraysmith.report(tmp_path / "run").read_text()
