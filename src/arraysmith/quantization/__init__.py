"""From a float network to integers: the frozen arithmetic of `docs/quantization.md`."""
