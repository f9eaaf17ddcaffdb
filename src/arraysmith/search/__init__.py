"""Search over designs: `space` is what there is, `exhaustive` proves the best, `pareto` trades."""
