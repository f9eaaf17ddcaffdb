"""The verbs of the hardware wing: read a workload, simulate it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from arraysmith.errors import InputFileError
from arraysmith.files import is_safe_name, write_text
from arraysmith.formats.topology import read_topology, topology_text
from arraysmith.hardware import Accelerator, Dataflow
from arraysmith.progress import silent
from arraysmith.simulation.scalesim.columns import columns
from arraysmith.store import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from arraysmith.flow.sources import Model
    from arraysmith.formats.config import Config
    from arraysmith.formats.topology import Kind
    from arraysmith.hardware import StreamBandwidths
    from arraysmith.performance import NetworkMetrics
    from arraysmith.progress import Progress
    from arraysmith.simulation.scalesim.quirks import Quirk
    from arraysmith.workload import Workload

DEFAULT_ACCELERATOR = Accelerator(rows=16, cols=16, dataflow=Dataflow.OS, filter_buffer_kib=128)


def read_workload(
    source: Model,
    kind: Kind = "conv",
    *,
    grouped: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
    example: object = None,
) -> Workload:
    """The layers of a topology, an ONNX file, an int8 model, a folder that holds one, or a module.

    Args:
        source: a SCALE-Sim topology `.csv`; an `.onnx` file, whose weights are not needed; a
            `quant_model.pth`; a run folder; an exported `weight/`; or a torch module or a graph.
        kind: whether a topology has conv or gemm rows.
        grouped: a topology's depthwise rows, and what an ONNX file has of groups and of independent
            products, become layers of groups, as the model `physical` takes them, and not one
            layer each.
        shapes: of the inputs of an ONNX file, by name, where it leaves sizes open.
        example: of a torch module's inputs, batch first.

    Raises:
        InputFileError: none of these, or damaged.
        InvalidNetworkError: a module that cannot be exported; the operation is named.
    """
    if not isinstance(source, Path | str):
        from arraysmith.extraction import workload
        from arraysmith.flow.sources import read_source

        return workload(read_source(source, example=example).graph, grouped=grouped)
    path = Path(source)
    return _file_workload(path, kind, grouped=grouped, shapes=shapes)


def _file_workload(
    source: Path,
    kind: Kind,
    *,
    grouped: bool,
    shapes: Mapping[str, Sequence[int]] | None,
) -> Workload:

    def onnx_workload() -> Workload:
        from arraysmith.formats.onnx_workload import read_onnx

        return read_onnx(source, shapes, grouped=grouped).workload

    readers: dict[str, Callable[[], Workload]] = {
        ".csv": lambda: read_topology(source, kind, grouped=grouped),
        ".onnx": onnx_workload,
        ".pth": lambda: _int8_workload(source, grouped=grouped),
        ".safetensors": lambda: _int8_workload(source, grouped=grouped),
    }
    if shapes and source.suffix != ".onnx":
        raise InputFileError(f"{source}: only an .onnx file takes shapes; leave them out")
    if source.is_dir():
        return _folder_workload(source, grouped=grouped)
    if source.suffix in readers:
        return readers[source.suffix]()
    what = "no model that is known here" if source.exists() else "not there"
    raise InputFileError(
        f"{source}: {what}; give a run folder, a quant_model.pth, an .onnx file or a topology .csv"
    )


def _folder_workload(folder: Path, *, grouped: bool) -> Workload:
    """Of a run folder or an exported one."""
    if RunFolder(folder).model("quant").exists():
        return _int8_workload(RunFolder(folder).model("quant"), grouped=grouped)
    if (folder / "manifest.json").exists():
        from arraysmith.extraction import workload
        from arraysmith.quantization.export import read_export

        return workload(read_export(folder), grouped=grouped)
    raise InputFileError(
        f"{folder}: holds neither save_model/quant_model.pth nor manifest.json; "
        "quantize a model there first, or give a topology with -t"
    )


def _int8_workload(path: Path, *, grouped: bool) -> Workload:
    from arraysmith.extraction import workload
    from arraysmith.quantization import model_file

    return workload(model_file.load(path), grouped=grouped)


def simulate(
    workload: Workload,
    accelerators: tuple[Accelerator, ...],
    output: Path | None = None,
    *,
    bandwidths: StreamBandwidths | None = None,
    command: str = "arraysmith.simulate()",
    progress: Progress = silent,
) -> tuple[NetworkMetrics, ...]:
    """Simulate a workload on one accelerator or several, as SCALE-Sim 3.0.0 does.

    Args:
        workload: the layers.
        accelerators: what to run them on.
        output: a run folder to write into, if any: simulation.csv with SCALE-Sim's columns,
            workload.csv (the layers as a SCALE-Sim topology), figs/scale_sim_result.png and the
            simulation section of metrics.json.
        bandwidths: of SCALE-Sim's USER mode; None is CALC mode, which never stalls.
        command: what to record as the origin.
        progress: shows the layers that have to be walked cycle by cycle.
    """
    # Compiled code, and the library that compiles it, only where it is needed.
    from arraysmith.simulation.scalesim.model import simulate as simulate_exactly

    results = tuple(
        simulate_exactly(workload, accelerator, bandwidths, progress=progress)
        for accelerator in accelerators
    )
    if output is not None:
        from arraysmith.reporting import png

        run = RunFolder(output)
        write_text(output / "workload.csv", topology_text(workload))
        write_text(output / "simulation.csv", simulation_csv(results))
        png.simulation(run.figure("scale_sim_result"), results)
        run.record("simulation", results, command)
    return results


def simulate_like_scalesim(
    workload: Workload,
    config: Config,
    parent: Path,
    *,
    traces: str | None = None,
    progress: Progress = silent,
) -> NetworkMetrics:
    """Do what `python -m scalesim.scale` does: write its reports under `parent`/<run_name>/.

    Args:
        workload: the layers of the topology.
        config: what the config file says.
        parent: the folder above the run's.
        traces: "csv" or "parquet" writes the traces of every layer too, into layer<i>/.
        progress: shows the layers that have to be walked cycle by cycle.
    """
    from arraysmith.simulation.scalesim.reports import report_texts

    folder = output_folder(parent, config.run_name)
    (result,) = simulate(
        workload, (config.accelerator,), bandwidths=config.bandwidths, progress=progress
    )
    if traces is not None:
        from arraysmith.simulation.scalesim.traces import Offsets, write_traces

        ifmap, filter_, ofmap = config.offsets
        for number, layer in enumerate(workload.layers):
            write_traces(
                layer,
                config.accelerator,
                config.bandwidths,
                Offsets(ifmap=ifmap, filter=filter_, ofmap=ofmap),
                folder / f"layer{number}",
                parquet=traces == "parquet",
                progress=progress,
            )
    for name, text in report_texts(result).items():
        write_text(folder / name, text)
    return result


def explain(
    workload: Workload,
    found: NetworkMetrics,
    bandwidths: StreamBandwidths | None = None,
    *,
    physical: bool = True,
) -> list[Quirk]:
    """Which of SCALE-Sim's quirks changed a figure of a simulation.

    Args:
        workload, found, bandwidths: what was simulated, on what and what came of it.
        physical: give the right value even where it takes another walk.
    """
    from arraysmith.simulation.scalesim.quirks import quirks

    accelerator = Accelerator(
        rows=found.rows,
        cols=found.cols,
        dataflow=Dataflow(found.dataflow),
        ifmap_buffer_kib=found.ifmap_buffer_kib,
        filter_buffer_kib=found.filter_buffer_kib,
        ofmap_buffer_kib=found.ofmap_buffer_kib,
    )
    return [
        quirk
        for layer, metrics in zip(workload.layers, found.layers, strict=True)
        for quirk in quirks(layer, metrics, accelerator, bandwidths, physical=physical)
    ]


def simulation_csv(results: tuple[NetworkMetrics, ...]) -> str:
    """One row a layer and accelerator, with all columns of SCALE-Sim's three reports."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["Model", "Workload", "Array", "Dataflow", "Layer"]
    rows = []
    for result in results:
        for layer in result.layers:
            found = columns(layer)
            array = f"{result.rows}x{result.cols}"
            rows.append([result.model, result.workload, array, result.dataflow, layer.name])
            rows[-1] += ["" if value is None else str(value) for value in found.values()]
            if len(header) == 5:
                header += list(found)
    writer.writerows([header, *rows])
    return text.getvalue()


def output_folder(parent: Path, name: str) -> Path:
    """`parent/name` for a name that came from a file.

    Raises:
        InputFileError: the name could lead out of the folder.
    """
    if not is_safe_name(name):
        raise InputFileError(
            f"run name {name!r} cannot be a folder; use letters, digits, dots, dashes, underscores"
        )
    return parent / name
