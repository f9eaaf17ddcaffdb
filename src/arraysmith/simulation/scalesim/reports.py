"""SCALE-Sim's three report files, byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraysmith.simulation.scalesim.columns import BANDWIDTH, COMPUTE, columns

if TYPE_CHECKING:
    from arraysmith.performance import NetworkMetrics

COMPUTE_REPORT = "COMPUTE_REPORT.csv"
BANDWIDTH_REPORT = "BANDWIDTH_REPORT.csv"
DETAILED_ACCESS_REPORT = "DETAILED_ACCESS_REPORT.csv"


def report_texts(found: NetworkMetrics) -> dict[str, str]:
    """Name and content of each report of a network."""
    rows = [columns(layer) for layer in found.layers]
    detailed = tuple(name for name in rows[0] if name not in COMPUTE + BANDWIDTH)
    names = {
        COMPUTE_REPORT: COMPUTE,
        BANDWIDTH_REPORT: BANDWIDTH,
        DETAILED_ACCESS_REPORT: detailed,
    }
    texts = {}
    for file, headings in names.items():
        lines = [", ".join(("LayerID", *headings)) + ",\n"]
        for number, row in enumerate(rows):
            cells = (str(row[heading]) for heading in headings)
            lines.append(", ".join((str(number), *cells)) + ",\n")
        texts[file] = "".join(lines)
    return texts


def printed_summary(found: NetworkMetrics) -> list[str]:
    """What SCALE-Sim prints of each layer, with the same figures and digits."""
    lines = []
    for number, layer in enumerate(found.layers):
        row = columns(layer)
        lines += [
            f"Running Layer {number} ({layer.name})",
            f"Total cycles: {row['Total Cycles (incl. prefetch)']}",
            f"Compute cycles: {row['Total Cycles']}",
            f"Stall cycles: {row['Stall Cycles']}",
            f"Overall utilization: {row['Overall Util %']:.2f}%",
            f"Mapping efficiency: {row['Mapping Efficiency %']:.2f}%",
        ]
        for name, heading in zip(("IFMAP", "Filter", "OFMAP"), BANDWIDTH, strict=False):
            lines.append(f"Average {name} SRAM BW: {row[heading]:.3f} words/cycle")
        for name, heading in zip(("IFMAP", "Filter", "OFMAP"), BANDWIDTH[3:], strict=True):
            lines.append(f"Average {name} DRAM BW: {row[heading]:.3f} words/cycle")
    return lines
