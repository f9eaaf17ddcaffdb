"""The parts of the torch engine; `quantization.modules` puts them together."""
