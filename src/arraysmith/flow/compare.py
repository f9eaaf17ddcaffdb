"""The real SCALE-Sim and ours on the same files: every figure, every byte, and the time of each.

SCALE-Sim runs in a process of its own, by the interpreter of an environment that holds it, in a
temporary folder, on copies of the files that have what it cannot do without: a comma at the end of
each row, every key of its config, a layout file. Its Python API is used rather than its command
line, because that always writes traces; so the time compared is its best.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from arraysmith.errors import ArraysmithError, MissingExtraError
from arraysmith.files import read_text
from arraysmith.flow.hardware import simulate_like_scalesim
from arraysmith.formats.config import read_config
from arraysmith.formats.topology import read_topology
from arraysmith.progress import silent
from arraysmith.simulation.scalesim.reports import report_texts

if TYPE_CHECKING:
    from arraysmith.formats.config import Config
    from arraysmith.formats.topology import Kind
    from arraysmith.performance import NetworkMetrics
    from arraysmith.progress import Progress

SCALESIM_VERSION = "3.0.0"
PYTHON_VARIABLE = "ARRAYSMITH_SCALESIM_PYTHON"
TIMEOUT_S = 600.0
REPETITIONS, REPEATED_S = 5, 1.0
INSTALL = (
    'python3.11 -m venv scalesim-env && scalesim-env/bin/pip install "scalesim==3.0.0" '
    '"numpy<2.4"; then give --python scalesim-env/bin/python'
)
_OURS, _THEIRS = "ours", "theirs"
_CONFIG, _TOPOLOGY, _LAYOUT, _ANSWER = "run.cfg", "topology.csv", "layout.csv", "answer.json"
_PRINTED = "printed.txt"
_RUN = f"""\
import json, sys, time
from importlib import metadata

def answer(**facts):
    with open("{_ANSWER}", "w") as file:
        json.dump(facts, file)

try:
    version = metadata.version("scalesim")
except metadata.PackageNotFoundError:
    version = None
answer(version=version)
if version == "{SCALESIM_VERSION}":
    from scalesim.scale_sim import scalesim
    start = time.perf_counter()
    scalesim(
        save_disk_space=True, verbose=False, config="{_CONFIG}", topology="{_TOPOLOGY}",
        layout="{_LAYOUT}", input_type_gemm=sys.argv[1] == "gemm",
    ).run_scale(top_path=".")
    answer(version=version, seconds=time.perf_counter() - start)
"""


class ScaleSimError(ArraysmithError):
    """The real SCALE-Sim gave no answer: it crashed, did not end, or is another release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One column of one layer, as each wrote it."""

    layer: str
    column: str
    theirs: str
    ours: str

    @property
    def equal(self) -> bool:
        """Whether both wrote the same characters."""
        return self.theirs == self.ours


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleSimComparison:
    """What SCALE-Sim and Arraysmith say of a topology, and how long each took."""

    workload: str
    model: str
    rows: int
    cols: int
    dataflow: str
    figures: tuple[Figure, ...]
    """All columns of all layers, in the order of the reports."""
    reports: tuple[str, ...]
    """Names of the report files."""
    different_reports: tuple[str, ...]
    """Those that are not the same byte for byte."""
    scalesim_seconds: float
    """From its reading of the files to its reports, without the start of its process."""
    seconds: float
    """The same of ours, the median of repeated calls after the first."""
    first_call_seconds: float
    """Of ours with the loading of compiled code, or its compilation after an installation."""

    @property
    def different(self) -> tuple[Figure, ...]:
        """The figures that are not equal."""
        return tuple(figure for figure in self.figures if not figure.equal)

    @property
    def equal(self) -> bool:
        """Whether every figure and every byte is."""
        return not self.different and not self.different_reports

    @property
    def speedup(self) -> float:
        """How many times sooner ours answers."""
        return self.scalesim_seconds / self.seconds


def compare(
    config_path: Path,
    topology_path: Path,
    kind: Kind = "conv",
    *,
    python: Path | None = None,
    timeout_s: float = TIMEOUT_S,
    progress: Progress = silent,
) -> ScaleSimComparison:
    """Run the real SCALE-Sim 3.0.0 and ours on the same files.

    Args:
        config_path: a SCALE-Sim config.
        topology_path: a SCALE-Sim topology.
        kind: whether its rows are conv or gemm.
        python: the interpreter of an environment with SCALE-Sim; by default the running one if it
            has it, else what the environment variable ARRAYSMITH_SCALESIM_PYTHON names.
        timeout_s: what SCALE-Sim may take; some layers it never ends.
        progress: shows the seconds that SCALE-Sim has taken.

    Raises:
        MissingExtraError: SCALE-Sim is not installed where it was looked for.
        ScaleSimError: it crashed, took too long or is not 3.0.0.
    """
    interpreter = _interpreter(python)
    config = replace(read_config(config_path), run_name=_OURS)
    read_topology(topology_path, kind)  # a mistake in it is told in our words
    with tempfile.TemporaryDirectory(prefix="arraysmith-compare-") as name:
        folder = Path(name)
        result, first_call_seconds = _ours(config, topology_path, kind, folder)
        seconds = _again(config, topology_path, kind, folder)
        (folder / _CONFIG).write_text(_config_text(config), encoding="utf-8")
        (folder / _TOPOLOGY).write_text(_topology_copy(topology_path), encoding="utf-8")
        (folder / _LAYOUT).write_text("Layer name,\n", encoding="utf-8")
        scalesim_seconds = _theirs(interpreter, kind, folder, timeout_s, progress)
        names = tuple(report_texts(result))
        theirs = {name: _report(folder / _THEIRS / name) for name in names}
        ours = {name: _report(folder / _OURS / name) for name in names}
    return ScaleSimComparison(
        workload=result.workload,
        model=result.model,
        rows=result.rows,
        cols=result.cols,
        dataflow=result.dataflow,
        figures=_figures([layer.name for layer in result.layers], theirs, ours),
        reports=names,
        different_reports=tuple(name for name in names if theirs[name] != ours[name]),
        scalesim_seconds=scalesim_seconds,
        seconds=seconds,
        first_call_seconds=first_call_seconds,
    )


def _interpreter(python: Path | None) -> str:
    """The absolute path of the interpreter; links stay, for they are how an environment works."""
    if python is None:
        with contextlib.suppress(metadata.PackageNotFoundError):
            metadata.version("scalesim")
            return sys.executable
        named = os.environ.get(PYTHON_VARIABLE)
        if not named:
            raise MissingExtraError(f"SCALE-Sim is not installed here: {INSTALL}")
        python = Path(named)
    found = python if python.is_file() else shutil.which(python)
    if found is None:
        raise MissingExtraError(f"{python}: no interpreter that can be run: {INSTALL}")
    return str(Path(found).absolute())


def _ours(
    config: Config, topology_path: Path, kind: Kind, folder: Path
) -> tuple[NetworkMetrics, float]:
    start = time.perf_counter()
    result = simulate_like_scalesim(read_topology(topology_path, kind), config, folder)
    return result, time.perf_counter() - start


def _again(config: Config, topology_path: Path, kind: Kind, folder: Path) -> float:
    """Median seconds of ours: one more call, and up to five while they are short."""
    times: list[float] = []
    while not times or (len(times) < REPETITIONS and sum(times) < REPEATED_S):
        times.append(_ours(config, topology_path, kind, folder)[1])
    return statistics.median(times)


def _theirs(
    interpreter: str, kind: Kind, folder: Path, timeout_s: float, progress: Progress
) -> float:
    """Run SCALE-Sim on the copies in `folder`; returns its own seconds."""
    environment = dict(os.environ)
    if interpreter != sys.executable:  # another Python cannot load what belongs to this one
        for variable in ("PYTHONPATH", "PYTHONHOME"):
            environment.pop(variable, None)
    with (folder / _PRINTED).open("wb") as printed:
        try:
            process = subprocess.Popen(  # noqa: S603 (the interpreter the user names)
                [interpreter, "-c", _RUN, kind],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise MissingExtraError(
                f"{interpreter}: cannot be run ({error.strerror}): {INSTALL}"
            ) from error
        try:
            in_time = _wait(process, timeout_s, progress)
        finally:
            _end(process)
    if not in_time:
        raise ScaleSimError(
            f"SCALE-Sim did not end within {timeout_s:g} s; some layers it never ends; "
            "give it longer with --timeout, or fewer layers"
        )
    return _answer(interpreter, process.returncode, folder)


def _wait(process: subprocess.Popen[bytes], timeout_s: float, progress: Progress) -> bool:
    """Whether the process ended by itself; the bar goes a step a second."""
    end = time.monotonic() + timeout_s
    with progress("SCALE-Sim, seconds of those it is given", math.ceil(timeout_s)) as advance:
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(min(left, 1))
                return True
            advance()
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of it stays, also where the interpreter is a script that started the real one."""
    if process.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()


def _answer(interpreter: str, code: int, folder: Path) -> float:
    try:
        facts = json.loads((folder / _ANSWER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MissingExtraError(
            f"{interpreter}: does not run Python ({_last_line(folder, code)}): {INSTALL}"
        ) from error
    version = facts.get("version")
    if version is None:
        raise MissingExtraError(f"{interpreter}: SCALE-Sim is not installed there: {INSTALL}")
    if version != SCALESIM_VERSION:
        raise ScaleSimError(
            f"{interpreter}: has SCALE-Sim {version}, the comparison is with "
            f"{SCALESIM_VERSION}: {INSTALL}"
        )
    if "seconds" not in facts:
        raise ScaleSimError(f"SCALE-Sim crashed: {_last_line(folder, code)}")
    return float(facts["seconds"])


def _last_line(folder: Path, code: int) -> str:
    printed = (folder / _PRINTED).read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return lines[-1] if lines else f"it printed nothing and ended with code {code}"


def _topology_copy(path: Path) -> str:
    """The rows as they are, with the comma at the end and without one in a quoted name."""
    rows = ["header,"]
    for cells in list(csv.reader(read_text(path).splitlines()))[1:]:
        plain = [cell.strip().replace(",", "_") for cell in cells]
        while plain and not plain[-1]:
            plain.pop()
        if plain:
            rows.append(", ".join(plain) + ",")
    return "\n".join(rows) + "\n"


def _config_text(config: Config) -> str:
    """A config with every key that SCALE-Sim reads."""
    array, rates = config.accelerator, config.bandwidths
    ifmap_rate = rates.ifmap_words_per_cycle if rates else 1
    filter_rate = rates.filter_words_per_cycle if rates else 1
    return f"""\
[general]
run_name = {_THEIRS}
[architecture_presets]
ArrayHeight = {array.rows}
ArrayWidth = {array.cols}
IfmapSramSzkB = {array.ifmap_buffer_kib}
FilterSramSzkB = {array.filter_buffer_kib}
OfmapSramSzkB = {array.ofmap_buffer_kib}
IfmapOffset = {config.offsets[0]}
FilterOffset = {config.offsets[1]}
OfmapOffset = {config.offsets[2]}
Dataflow = {array.dataflow.value}
Bandwidth = {rates.ofmap_words_per_cycle if rates else 1}
ReadRequestBuffer = 32
WriteRequestBuffer = 32
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = {ifmap_rate}
IfmapSRAMBankNum = 1
IfmapSRAMBankPort = 1
FilterCustomLayout = False
FilterSRAMBankBandwidth = {filter_rate}
FilterSRAMBankNum = 1
FilterSRAMBankPort = 1
[sparsity]
SparsitySupport = False
[run_presets]
InterfaceBandwidth = {"USER" if rates else "CALC"}
UseRamulatorTrace = False
"""


def _report(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ScaleSimError(f"SCALE-Sim ended without writing {path.name}") from error


def _figures(
    names: list[str], theirs: dict[str, bytes], ours: dict[str, bytes]
) -> tuple[Figure, ...]:
    """Both sides' cells, paired by layer and heading; a cell that one side lacks is empty."""
    cells = [_cells(texts) for texts in (theirs, ours)]
    keys = sorted(dict.fromkeys([*cells[1], *cells[0]]), key=lambda key: key[0])
    return tuple(
        Figure(
            layer=names[number] if number < len(names) else f"layer {number}",
            column=column,
            theirs=cells[0].get((number, column), ""),
            ours=cells[1].get((number, column), ""),
        )
        for number, column in keys
    )


def _cells(texts: dict[str, bytes]) -> dict[tuple[int, str], str]:
    found = {}
    for text in texts.values():
        head, *lines = (line.split(",") for line in text.decode(errors="replace").splitlines())
        for number, line in enumerate(lines):
            for heading, cell in zip(head[1:], line[1:], strict=False):
                if heading.strip():
                    found[number, heading.strip()] = cell.strip()
    return found
