"""SCALE-Sim 3.0.0, to the last digit: `geometry`, `closed_form` (CALC) and its report `columns`."""
