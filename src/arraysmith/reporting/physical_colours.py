"""The colours of the pictures of the model `physical`, the same on paper and in the browser."""

from __future__ import annotations

PART_COLOURS = ("#2c6fbb", "#9db8d6", "#d9793a", "#b33f40")
"""Of the parts of a stacked bar."""
KIND_COLOURS = {
    "ifmap": "#3a9a6b",
    "filter": "#8a5fb0",
    "partial sums back": "#b33f40",
    "results out": "#d9793a",
    "computing": "#2c6fbb",
}
"""Of what takes time in a timeline."""
