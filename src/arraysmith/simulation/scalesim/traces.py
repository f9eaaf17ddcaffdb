"""The six traces of a layer, byte for byte as SCALE-Sim 3.0.0 writes them, or as Parquet.

A row is a cycle and what every lane asks for in it: an address, or -1. At the buffers (SRAM) there
is a row for every line of the array and a column for every lane; at the DRAM a row for every cycle
of a transfer and a column for every word of it. SCALE-Sim prints the one as integers and the other
as floats, with its faults (Q11), and all of that is kept. Rows are made and written block by block.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numba import njit

from arraysmith import files
from arraysmith.errors import InvalidWorkloadError, MissingExtraError
from arraysmith.progress import silent
from arraysmith.simulation.scalesim import closed_form
from arraysmith.simulation.scalesim.recording import Recorder
from arraysmith.simulation.scalesim.transfers import Spool
from arraysmith.simulation.scalesim.walk import Walk

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from arraysmith.hardware import Accelerator, StreamBandwidths
    from arraysmith.progress import Progress
    from arraysmith.workload import Layer

STREAMS = "IFMAP", "FILTER", "OFMAP"
SRAM, DRAM = "SRAM", "DRAM"
MAX_OFFSET = 10**12
"""Beyond 10^16 SCALE-Sim's floats are printed with an exponent, and are no longer exact."""
CELL_BYTES = 23
"""Of the longest address or cycle: 20 characters, ".0" and what separates it from the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offsets:
    """Where the operands begin; SCALE-Sim's IfmapOffset, FilterOffset and OfmapOffset."""

    ifmap: int = 0
    filter: int = 10_000_000
    ofmap: int = 20_000_000

    def __post_init__(self) -> None:
        """Addresses are whole, not negative, and exact as floats."""
        for name in self.__slots__:
            value = getattr(self, name)
            if not isinstance(value, int) or not 0 <= value <= MAX_OFFSET:
                raise InvalidWorkloadError(
                    f"{name} offset is {value!r}, needs a whole number of 0 to {MAX_OFFSET}"
                )


def write_traces(
    layer: Layer,
    accelerator: Accelerator,
    bandwidths: StreamBandwidths | None,
    offsets: Offsets,
    folder: Path,
    *,
    parquet: bool = False,
    progress: Progress = silent,
) -> tuple[Path, ...]:
    """Write the traces of a layer, all of them or none; returns the six paths.

    Args:
        layer: what is computed.
        accelerator: the array and its buffers.
        bandwidths: of USER mode; None is CALC mode.
        offsets: where the operands begin.
        folder: of the layer, `layer0`; made if it is not there.
        parquet: write Parquet files of the same numbers, all of them integers, and no CSV.
        progress: shows lines of the array.

    Raises:
        InvalidWorkloadError: a layer for which SCALE-Sim has no answer; the message says why.
        MissingExtraError: Parquet is asked for and pyarrow is not installed.
        OutputError: the folder cannot be written.
    """
    closed = closed_form.simulate_layer(layer, accelerator)  # raises what SCALE-Sim cannot do
    walk = Walk(layer, accelerator, bandwidths, closed)
    sink: type[_Sink] = _ParquetSink if parquet else _CsvSink
    if parquet:
        _parquet()
    names = [f"{stream}_{place}_TRACE" for place in (SRAM, DRAM) for stream in STREAMS]
    paths = tuple(folder / f"{name}.{sink.suffix}" for name in names)
    with ExitStack() as stack:
        temporary = [stack.enter_context(files.writing(path)) for path in paths]
        spools = [Spool(stack.enter_context(tempfile.TemporaryFile(dir=folder))) for _ in STREAMS]
        recorder = Recorder(walk, (offsets.ifmap, offsets.filter, offsets.ofmap), spools)
        _write_sram(recorder, temporary[:3], sink, progress)
        recorder.finish()
        for stream, path in enumerate(temporary[3:]):
            with sink(path, recorder.width(stream), DRAM) as file:
                for rows in recorder.dram(stream):
                    file.write(rows)
    return paths


def _write_sram(
    recorder: Recorder, paths: list[Path], sink: type[_Sink], progress: Progress
) -> None:
    """Walk the layer and write its lines as they come."""
    walk = recorder.walk
    with ExitStack() as stack:
        sinks = [
            stack.enter_context(sink(path, lanes, SRAM))
            for path, lanes in zip(paths, recorder.lanes, strict=True)
        ]
        advance = stack.enter_context(progress(walk.layer.name, walk.lines))
        for block in recorder.blocks():
            for file, rows in zip(sinks, block, strict=True):
                file.write(rows)
            advance(len(block[0]))


class _Sink(Protocol):
    """A file that takes blocks of rows."""

    suffix: str

    def __init__(self, path: Path, width: int, place: str) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def write(self, rows: NDArray[np.int64]) -> None: ...


class _CsvSink:
    """As SCALE-Sim prints: integers at the buffers, floats at the DRAM."""

    suffix = "csv"

    def __init__(self, path: Path, width: int, place: str) -> None:
        self._file: IO[bytes] = path.open("wb", buffering=0)
        self._decimal = place == DRAM
        self._text = np.empty(0, np.uint8)
        del width

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, rows: NDArray[np.int64]) -> None:
        if len(self._text) < rows.size * CELL_BYTES:
            self._text = np.empty(rows.size * CELL_BYTES, np.uint8)
        text = self._text.data[: print_rows(rows, self._decimal, self._text)]
        while text:
            text = text[self._file.write(text) :]


class _ParquetSink:
    """A column of integers for the cycle and for each lane or word; a block is a row group."""

    suffix = "parquet"

    def __init__(self, path: Path, width: int, place: str) -> None:
        self._pyarrow, parquet = _parquet()
        column = "lane" if place == SRAM else "word"
        names = ["cycle", *(f"{column}_{number}" for number in range(width))]
        self._schema = self._pyarrow.schema([(name, self._pyarrow.int64()) for name in names])
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(self, rows: NDArray[np.int64]) -> None:
        columns = [self._pyarrow.array(column) for column in np.ascontiguousarray(rows.T)]
        self._writer.write_table(self._pyarrow.table(columns, schema=self._schema))


def _parquet() -> tuple[Any, Any]:
    """pyarrow and its Parquet part, which are an extra."""
    try:
        import pyarrow as pa  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "Parquet traces need pyarrow: pip install 'arraysmith[parquet]', or write CSV"
        ) from error
    return pa, parquet


@njit(cache=True, nogil=True)
def print_rows(rows, decimal, text):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Print integers row by row, with ".0" if they are floats; returns how many bytes of text."""
    at = 0
    count, width = rows.shape
    for row in range(count):
        for column in range(width):
            value = rows[row, column]
            if value < 0:
                text[at] = 45  # -
                at += 1
                value = -value
            digits, power = 1, 10
            while power <= value:
                digits += 1
                power *= 10
            for place in range(at + digits - 1, at - 1, -1):
                quotient = value // 10
                text[place] = 48 + value - 10 * quotient
                value = quotient
            at += digits
            if decimal:
                text[at], text[at + 1] = 46, 48  # .0
                at += 2
            text[at] = 44  # ,
            at += 1
        text[at - 1] = 10  # new line
    return at
