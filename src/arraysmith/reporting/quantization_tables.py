"""The tables of a quantization and of what was verified of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from arraysmith.quantization.scheme import Scheme
from arraysmith.reporting.tables import NOT_COVERED, Row, Table, columns, percent

if TYPE_CHECKING:
    from arraysmith.metrics import Quantization, SampleEvaluation, Verification


def quantized_layers(facts: Quantization) -> Table:
    """Ranges, error and proven accumulators of every layer."""
    defaults = asdict(Scheme())
    chosen = ", ".join(
        f"{key} {value}"
        for key, value in facts.scheme.items()
        if key != "name" and defaults.get(key) != value
    )
    notes = [f"{facts.accumulator_bits} signed accumulator bits suffice, proven."]
    if facts.islands:
        notes.append(f"In floats, for want of an integer form: {', '.join(facts.islands)}.")
    if facts.overrides:
        notes.append(f"Chosen otherwise: {', '.join(facts.overrides)}.")
    notes.append(f"Scheme: {facts.scheme.get('name')}{chosen and ': '}{chosen}.")
    rows = []
    for layer in facts.layers:
        bits = f"{layer.output_bits}" + (f" / {layer.weight_bits}" if layer.weight_bits else "")
        weights = NOT_COVERED
        if layer.weight_scale_low is not None and layer.weight_scale_high is not None:
            weights = f"{layer.weight_scale_low:.3g}…{layer.weight_scale_high:.3g}"
        accumulator = NOT_COVERED
        if layer.accumulator_low is not None and layer.accumulator_high is not None:
            accumulator = f"{layer.accumulator_low:,}…{layer.accumulator_high:,}"
        rows.append(
            Row(
                (
                    layer.name,
                    layer.kind,
                    layer.ends_with,
                    f"{layer.output_low:.3f}…{layer.output_high:.3f}",
                    f"{layer.output_scale:.4g}",
                    "int32" if layer.output_zero_point is None else str(layer.output_zero_point),
                    bits,
                    weights,
                    "exact" if layer.sqnr_db is None else f"{layer.sqnr_db:.1f}",
                    accumulator,
                    str(layer.accumulator_bits or NOT_COVERED),
                    f"{layer.magnitude_bound:,}" if layer.magnitude_bound else NOT_COVERED,
                    layer.product or NOT_COVERED,
                )
            )
        )
    return Table(
        title=f"Integer network by layer ({facts.calibration_samples:,} calibration samples)",
        columns=columns(
            "layer:",
            "kind:",
            "up to:?",
            "output range",
            "scale?",
            "zero point?",
            "bits",
            "weight scales?",
            "SQNR dB",
            "accumulator can reach?",
            "signed bits",
            "Σ|w|·max|x|+|b|?",
            "exact in:?",
        ),
        rows=tuple(rows),
        note=" ".join(notes),
    )


def sensitivity(facts: Quantization) -> Table:
    """What each layer costs when it alone is quantized, worst first."""
    rows = tuple(
        Row(
            (
                each.name,
                each.ends_with,
                str(each.weight_bits or NOT_COVERED),
                str(each.activation_bits or NOT_COVERED),
                _decibels(each.sqnr_db),
            )
        )
        for each in facts.sensitivity
    )
    return Table(
        title="What each layer costs",
        columns=columns("layer:", "up to:?", "weight bits", "activation bits", "SQNR dB"),
        rows=rows,
        note="SQNR of the outputs when this layer alone is quantized; the first costs most.",
    )


def outputs(facts: SampleEvaluation) -> Table:
    """Float against integers on given samples."""
    note = ""
    found = facts.comparison
    if found is not None:
        note = (
            f"Accuracy of the first output: float {percent(found.float_accuracy)}, integers "
            f"{percent(found.int8_accuracy)}; {found.changed} predictions changed, {found.fixed} "
            f"fixed, {found.broken} broken, exact McNemar p = {found.p_value:.3f}."
        )
    return Table(
        title=f"{facts.network}: float against integers on {facts.samples:,} samples",
        columns=columns("output:", "SQNR dB", "largest error", "samples of another class"),
        rows=tuple(
            Row(
                (
                    each.name,
                    _decibels(each.sqnr_db),
                    f"{each.largest_error:.4g}",
                    f"{each.changed:,}",
                )
            )
            for each in facts.outputs
        ),
        note=note,
    )


def verification(facts: Verification) -> Table:
    """Every back end against the reference."""
    rows = [
        Row(
            (
                each.name,
                f"{each.integers:,}",
                f"{each.different:,}",
                each.first_difference or NOT_COVERED,
                f"{each.seconds:.2f}",
            )
        )
        for each in facts.back_ends
    ]
    rows += [Row((name, "not run", NOT_COVERED, NOT_COVERED, NOT_COVERED)) for name in facts.absent]
    reasons = dict.fromkeys(facts.absent.values())
    note = " ".join([f"{facts.samples:,} samples: {facts.given}.", *map(_not_run, reasons)])
    return Table(
        title=f"{facts.network}: back ends against {facts.reference}, every layer's integers",
        columns=columns(
            "back end:", "integers compared", "different", "first difference:?", "seconds?"
        ),
        rows=tuple(rows),
        note=note,
    )


def _not_run(reason: str) -> str:
    return f"Not run: {reason}."


def _decibels(sqnr: float | None) -> str:
    return "exact" if sqnr is None else f"{sqnr:.1f}"
