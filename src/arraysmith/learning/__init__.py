"""Data sets, float networks and their training. Knows nothing of integers or arrays."""
