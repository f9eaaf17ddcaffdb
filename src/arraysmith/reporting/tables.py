"""The tables of a run as plain records: the terminal and the HTML report render the same ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arraysmith.explorations import ExplorationFacts
    from arraysmith.metrics import Evaluation, Quantization, SchemeResult
    from arraysmith.performance import NetworkMetrics
    from arraysmith.simulation.scalesim.quirks import Quirk

NOT_COVERED = "–"


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, and what its cells are."""

    name: str
    numeric: bool = True
    optional: bool = False
    """Whether a narrow terminal may leave it out."""


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of a row, as they are shown."""

    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A titled table with a note under it."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""


def percent(fraction: float, digits: int = 2) -> str:
    """A fraction as people read it."""
    return f"{100 * fraction:.{digits}f} %"


def accuracy(evaluation: Evaluation) -> Table:
    """Float against int8 on the test images."""
    found = evaluation.comparison
    change = found.int8_accuracy - found.float_accuracy
    note = (
        f"{found.changed} predictions changed: {found.fixed} fixed, {found.broken} broken, "
        f"{found.changed - found.fixed - found.broken} wrong before and after; "
        f"exact McNemar p = {evaluation.p_value:.3f}."
    )
    if evaluation.integers_compared:
        note += (
            f" NumPy and torch differ in {evaluation.integers_different} of "
            f"{evaluation.integers_compared:,} integers of all layers."
        )
    return Table(
        title=f"Accuracy on {found.images:,} test images",
        columns=columns("network:", "correct", "accuracy", "difference"),
        rows=(
            Row(("float32", f"{found.float_correct:,}", percent(found.float_accuracy), "")),
            Row(
                (
                    "int8, integers only",
                    f"{found.int8_correct:,}",
                    percent(found.int8_accuracy),
                    f"{100 * change:+.2f} points",
                )
            ),
        ),
        note=note,
    )


def schemes(results: Sequence[SchemeResult]) -> Table:
    """Every named scheme side by side."""
    rows = [
        Row(
            (
                found.scheme,
                percent(found.training.agreement, 3),
                str(found.training.changed),
                "exact" if found.logits_sqnr_db is None else f"{found.logits_sqnr_db:.1f}",
                percent(found.test.int8_accuracy),
                f"{found.test.int8_correct - found.test.float_correct:+d}",
                f"{found.test.fixed} / {found.test.broken}",
                f"{found.test.p_value:.2f}",
                str(found.accumulator_bits),
            )
        )
        for found in results
    ]
    images = f"{results[0].training.images:,}" if results else "0"
    return Table(
        title="Quantization schemes",
        columns=columns(
            "scheme:",
            "training agreement",
            "changed",
            "logits SQNR dB",
            "test accuracy",
            "images vs float?",
            "fixed / broken?",
            "McNemar p?",
            "accumulator bits?",
        ),
        rows=tuple(rows),
        note=f"Agreement with the float network on {images} training images is what a scheme is "
        "chosen by; differences of a few images are within chance. Test columns are reported only.",
    )


def simulated_networks(results: Sequence[NetworkMetrics]) -> Table:
    """Totals of a workload on several accelerators."""
    return Table(
        title=f"{_name(results)} on the array, totals (model: {_model(results)})",
        columns=columns(
            "array:",
            "total cycles",
            "overall util.",
            "mapping eff.",
            "compute util.",
            "SRAM words?",
            "SRAM words/cycle?",
            "DRAM words?",
            "peak DRAM words/cycle?",
        ),
        rows=tuple(
            Row(
                (
                    f"{found.rows}×{found.cols} {found.dataflow.upper()}",
                    f"{found.total_cycles:,}",
                    percent(found.overall_utilization),
                    percent(found.mapping_efficiency),
                    percent(found.compute_utilization),
                    f"{found.sram_words:,}",
                    f"{found.sram_words / found.total_cycles:.2f}",
                    integer(found.dram_words),
                    _asked(found.peak_dram_words_per_cycle, found.dram_words_per_cycle),
                )
            )
            for found in results
        ),
        note=_coverage(results),
    )


def simulated_layers(found: NetworkMetrics) -> Table:
    """Every layer on one accelerator."""
    return Table(
        title=f"{found.workload} on {found.rows}×{found.cols} {found.dataflow.upper()}, "
        f"layer by layer (model: {found.model})",
        columns=columns(
            "layer:",
            "S_R×S_C×T?",
            "folds?",
            "total cycles",
            "stalls",
            "overall util.",
            "mapping eff.",
            "compute util.",
            "SRAM reads ifmap / filter?",
            "SRAM writes ofmap?",
            "DRAM words ifmap / filter / ofmap?",
            "DRAM words/cycle?",
        ),
        rows=tuple(
            Row(
                (
                    layer.name,
                    f"{layer.S_R}×{layer.S_C}×{layer.T}",
                    f"{layer.folds:,}",
                    f"{layer.total_cycles:,}",
                    f"{layer.stall_cycles:,}",
                    percent(layer.overall_utilization),
                    percent(layer.mapping_efficiency),
                    percent(layer.compute_utilization),
                    f"{layer.ifmap.sram_words:,} / {layer.filter.sram_words:,}",
                    f"{layer.ofmap.sram_words:,}",
                    " / ".join(integer(stream.dram_words) for stream in layer.streams),
                    _asked(layer.dram_words_per_cycle, found.dram_words_per_cycle),
                )
            )
            for layer in found.layers
        ),
        note=_coverage((found,)),
    )


def quirks(found: Sequence[Quirk]) -> Table:
    """SCALE-Sim's figures beside the physical ones."""
    return Table(
        title="SCALE-Sim's quirks in these figures",
        columns=columns("layer:", "quirk:", "figure:", "SCALE-Sim", "physical", "why:"),
        rows=tuple(
            Row(
                (
                    quirk.layer,
                    quirk.quirk,
                    quirk.figure,
                    _figure(quirk.scalesim),
                    NOT_COVERED if quirk.physical is None else _figure(quirk.physical),
                    quirk.why,
                )
            )
            for quirk in found
        ),
        note="The quirks are described in docs/scalesim.md.",
    )


def thinned(table: Table, most: int) -> Table:
    """At most `most` rows, evenly drawn with both ends, and a note that says so."""
    count = len(table.rows)
    if count <= most:
        return table
    kept = [round(i * (count - 1) / (most - 1)) for i in range(most)]
    note = f"{most} of {count:,} rows shown."
    return replace(table, rows=tuple(table.rows[i] for i in kept), note=note)


def results(
    evaluation: Evaluation, quantization: Quantization, exploration: ExplorationFacts
) -> Table:
    """What a run came to, in one table."""
    found = evaluation.comparison
    best = exploration.best
    gained, chance = found.int8_correct - found.float_correct, evaluation.p_value
    limit = "" if exploration.max_pes is None else f" of at most {exploration.max_pes} PEs"
    rows = (
        ("float32 accuracy", percent(found.float_accuracy)),
        (
            "int8 accuracy, integers only",
            f"{percent(found.int8_accuracy)} ({gained:+d} images, McNemar p = {chance:.2f})",
        ),
        ("accumulator that suffices", f"{quantization.accumulator_bits} signed bits, proven"),
        (f"best array{limit}", f"{best}, proven over {exploration.designs:,} designs"),
        (
            f"cycles on it ({exploration.model})",
            f"{best.total_cycles:,} at {percent(best.utilization)} utilization",
        ),
    )
    return Table(
        title="Results",
        columns=columns("what:", "value:"),
        rows=tuple(Row(row) for row in rows),
    )


def columns(*names: str) -> tuple[Column, ...]:
    """Columns of numbers; a name that ends in `:` is a column of text, in `?` an optional one."""
    return tuple(
        Column(
            name.rstrip(":?"), numeric=not name.rstrip("?").endswith(":"), optional=name[-1] == "?"
        )
        for name in names
    )


def integer(value: int | None) -> str:
    """A count, or what stands for one that is not covered."""
    return NOT_COVERED if value is None else f"{value:,}"


def _asked(needed: float | None, given: float | None) -> str:
    """What is asked of the DRAM, marked where it is more than there is."""
    if needed is not None and given is not None and needed > given:
        return f"{needed:.2f} > {given:g} given"
    return NOT_COVERED if needed is None else f"{needed:.2f}"


def _figure(value: float) -> str:
    return f"{value:,.6g}" if value % 1 else f"{value:,.0f}"


def _name(results: Sequence[NetworkMetrics]) -> str:
    return results[0].workload if results else ""


def _model(results: Sequence[NetworkMetrics]) -> str:
    return results[0].model if results else ""


def _coverage(results: Sequence[NetworkMetrics]) -> str:
    if all(layer.dram_words is not None for found in results for layer in found.layers):
        return ""
    return (
        f"{NOT_COVERED}: a stream larger than its buffer, which the closed form does not cover; "
        "give larger buffers."
    )
