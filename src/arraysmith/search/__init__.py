"""Search over designs: `space` says what there is, `exhaustive` proves the best, `pareto` trades."""
