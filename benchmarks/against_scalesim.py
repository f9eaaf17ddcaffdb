"""The real SCALE-Sim 3.0.0 against Arraysmith, in one run: all figures equal, and how much sooner.

    python benchmarks/against_scalesim.py --python scalesim-env/bin/python [--quick]

Whole networks first, which would take SCALE-Sim hours, so only ours are measured. Then SCALE-Sim
runs once a row, by its Python API and without traces, which is its fastest; its seconds
leave out the start of its process. Ours are medians of five after a call that warms up: of the
simulation alone and with SCALE-Sim's report files written safely to disk; and once the whole
command in a fresh process, with the most memory it held. `--quick` leaves the large layers out.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.flow.compare import SCALESIM_VERSION, compare
from arraysmith.flow.hardware import simulate_like_scalesim
from arraysmith.formats.config import read_config
from arraysmith.formats.topology import read_topology
from arraysmith.simulation.scalesim.model import simulate

if TYPE_CHECKING:
    from collections.abc import Callable

REPETITIONS = 5
SCALESIM_TIMEOUT_S = 3600
EXAMPLES = Path(__file__).parents[1] / "examples"
HEADER = (
    "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, "
    "Strides,\n"
)
LENET5 = """\
conv1, 32, 32, 5, 5, 1, 6, 1,
conv2, 14, 14, 5, 5, 6, 16, 1,
conv3, 5, 5, 5, 5, 16, 120, 1,
fc1, 1, 1, 1, 1, 120, 84, 1,
fc2, 1, 1, 1, 1, 84, 10, 1,
"""
RESNET18_CONV2 = "conv2, 56, 56, 3, 3, 64, 64, 1,\n"
ALEXNET_CONV2 = "conv2, 27, 27, 5, 5, 96, 256, 1,\n"
CONFIG = """\
[general]
run_name = benchmark
[architecture_presets]
ArrayHeight = {size}
ArrayWidth = {size}
IfmapSramSzkB = 64
FilterSramSzkB = 64
OfmapSramSzkB = 64
Dataflow = {dataflow}
Bandwidth = 10
[layout]
IfmapSRAMBankBandwidth = 10
FilterSRAMBankBandwidth = 10
[run_presets]
InterfaceBandwidth = {mode}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A topology on an array."""

    name: str
    rows: str
    size: int
    dataflow: str
    mode: str

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Config and topology."""
        config, topology = folder / "run.cfg", folder / "layers.csv"
        text = CONFIG.format(size=self.size, dataflow=self.dataflow, mode=self.mode)
        config.write_text(text)
        topology.write_text(HEADER + self.rows)
        return config, topology

    @property
    def title(self) -> str:
        """What, on which array."""
        return f"{self.name}, {self.size}×{self.size} {self.dataflow.upper()} {self.mode}"


SMALL = [
    Case(name="LeNet-5, five layers", rows=LENET5, size=16, dataflow=dataflow, mode=mode)
    for mode in ("CALC", "USER")
    for dataflow in ("os", "ws", "is")
]
LARGE = [
    Case(name=name, rows=rows, size=32, dataflow=dataflow, mode=mode)
    for name, rows, dataflow, mode in (
        ("ResNet-18 conv2", RESNET18_CONV2, "ws", "CALC"),
        ("ResNet-18 conv2", RESNET18_CONV2, "os", "CALC"),
        ("ResNet-18 conv2", RESNET18_CONV2, "ws", "USER"),
        ("AlexNet conv2", ALEXNET_CONV2, "ws", "CALC"),
        ("AlexNet conv2", ALEXNET_CONV2, "os", "CALC"),
    )
]
NETWORKS = [
    Case(
        name=f"{name}, all layers",
        rows=(EXAMPLES / file).read_text().split("\n", 1)[1],
        size=32,
        dataflow="ws",
        mode=mode,
    )
    for name, file in (("ResNet-50", "resnet50.csv"), ("MobileNet", "mobilenet.csv"))
    for mode in ("CALC", "USER")
]
"""SCALE-Sim would take hours for each; only ours are measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """What Arraysmith took for a case."""

    simulation_s: float
    reports_s: float
    process_s: float
    peak_mib: float


def median_seconds(work: Callable[[], object]) -> float:
    """Median time of a few repetitions after one that warms up."""
    work()
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def ours(case: Case, folder: Path) -> Ours:
    """Measure Arraysmith in this process and in a fresh one."""
    config_path, topology_path = case.write(folder)
    config, workload = read_config(config_path), read_topology(topology_path)
    simulation_s = median_seconds(lambda: simulate(workload, config.accelerator, config.bandwidths))
    reports_s = median_seconds(
        lambda: simulate_like_scalesim(read_topology(topology_path), config, folder / "ours")
    )
    process_s, peak_mib = fresh_process(config_path, topology_path, folder / "process")
    return Ours(
        simulation_s=simulation_s, reports_s=reports_s, process_s=process_s, peak_mib=peak_mib
    )


LAUNCHER = """
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""A process starts with the peak of the one that made it, so a small one stands in between."""


def fresh_process(config: Path, topology: Path, output: Path) -> tuple[float, float]:
    """Seconds and peak resident MiB of the whole command `arraysmith simulate -c -t -p`."""
    verb = [sys.executable, "-m", "arraysmith", "simulate", "-c", str(config), "-t", str(topology)]
    finished = subprocess.run(  # noqa: S603 (our own command)
        [sys.executable, "-c", LAUNCHER, *verb, "-p", str(output)],
        stdout=subprocess.PIPE,
        check=True,
    )
    seconds, peak = map(float, finished.stdout.split())
    kib = peak / (1024 if sys.platform == "darwin" else 1)
    return seconds, kib / 1024


def seconds_text(seconds: float) -> str:
    """Two digits that matter, never an exponent."""
    return f"{seconds:,.1f}" if seconds >= 10 else f"{float(f'{seconds:.2g}'):.7g}"


def row(case: Case, python: Path | None, folder: Path) -> str:
    """One line of the table; without SCALE-Sim's side for a whole network."""
    fast = ours(case, folder)
    cells = [
        seconds_text(fast.simulation_s),
        seconds_text(fast.reports_s),
        f"{fast.process_s:.2f}",
        f"{fast.peak_mib:,.0f}",
    ]
    if case in NETWORKS:
        return f"| {case.title} | | {' | '.join(cells)} | | | |"
    found = compare(*case.write(folder), python=python, timeout_s=SCALESIM_TIMEOUT_S)
    if not found.equal:
        raise SystemExit(f"{case.title}: {found.different} {found.different_reports}")
    slow = found.scalesim_seconds
    ratios = " | ".join(f"{slow / part:,.0f}×" for part in (fast.simulation_s, fast.reports_s))
    return (
        f"| {case.title} | {slow:,.1f} | {' | '.join(cells)} | {ratios} | "
        f"{len(found.figures)} of {len(found.figures)} |"
    )


def main() -> None:
    """Print a Markdown table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--python", type=Path, help="interpreter that has scalesim 3.0.0")
    parser.add_argument("--quick", action="store_true", help="leave the large layers out")
    given = parser.parse_args()
    print(
        f"SCALE-Sim {SCALESIM_VERSION} against Arraysmith; Python {platform.python_version()}, "
        f"NumPy {np.__version__}, {os.cpu_count()} cores; seconds.\n"
    )
    print(
        "| layers, array | SCALE-Sim | simulation | with reports | fresh process | its peak MiB | "
        "simulation sooner | with reports sooner | figures equal |"
    )
    print("|---|" + "---:|" * 8, flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in [*NETWORKS, *SMALL, *([] if given.quick else LARGE)]:
            print(row(case, given.python, folder), flush=True)


if __name__ == "__main__":
    main()
